"""How a command reaches its server, by the URL and by libpq's files and variables, and its errors if it can't."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from bmhctl import open_inventory
from bmhctl.errors import UnreachableError
from bmhctl.stores.postgres import connection, session
from bmhctl.stores.postgres.database import PostgresDatabase
from bmhctl.stores.postgres.open import open_store
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.schema import VERSION
from bmhctl.usecases import inventories
from tests.cli.conftest import Cli, error_of
from tests.conftest import environment, location
from tests.postgres import Server, drop_schema

SECRET = "ge/h:e@i%m"
ENCODED = "ge%2Fh%3Ae%40i%25m"


def sql(url: str, statement: str) -> None:
    with psycopg.connect(Address.parse(url).url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server that asks the role lab for its password."""
    server = Server()
    server.ask_password("lab")
    server.start()
    try:
        sql(server.url, f"CREATE ROLE lab LOGIN PASSWORD '{SECRET}'")
        sql(server.url, "CREATE DATABASE lab OWNER lab")
        inventories.init(f"postgresql://lab:{ENCODED}@/lab?host={server.socket.parent}")
        yield server
    finally:
        server.remove()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[str]:
    """An empty inventory on the server that all tests share."""
    url = location(tmp_path / "lab.schema")
    inventories.init(url)
    yield url
    drop_schema(url)


def password_file(folder: Path, password: str = SECRET, mode: int = 0o600) -> str:
    path = folder / "pgpass"
    path.write_text("*:*:*:lab:" + re.sub(r"([\\:])", r"\\\1", password) + "\n")
    path.chmod(mode)
    return str(path)


def test_a_password_may_be_in_the_url(strict: Server, cli: Cli) -> None:
    for url in (f"lab:{ENCODED}@/lab?host=", f"lab@/lab?password={ENCODED}&host=", f"lab:{ENCODED}@/lab?host=/none,"):
        done = cli("list", "-i", f"postgresql://{url}{strict.socket.parent}")
        assert (done.status, done.stderr) == (0, "")


def test_a_wrong_password_is_refused_with_the_reason(strict: Server, cli: Cli) -> None:
    error = error_of(cli("list", "-o", "json", "-i", f"postgresql://lab:falsch@/lab?host={strict.socket.parent}"))
    assert error["status"] == 11
    assert 'password authentication failed for user "lab"' in error["message"]
    assert "check the user, the password" in error["hint"]
    assert "falsch" not in str(error)


def test_a_missing_password_is_reported_with_the_places_where_it_can_be_given(strict: Server, cli: Cli) -> None:
    done = cli("list", "-i", f"postgresql://lab@/lab?host={strict.socket.parent}")
    assert (done.status, done.stdout) == (11, "")
    assert "no password supplied" in done.stderr
    assert "give the password: in ~/.pgpass (mode 0600), as $PGPASSWORD, or in the URL" in done.stderr


def test_a_password_may_be_in_a_file_or_a_variable(strict: Server, cli: Cli, tmp_path: Path) -> None:
    url = f"postgresql://lab@/lab?host={strict.socket.parent}"
    assert cli("list", "-i", url, PGPASSFILE=password_file(tmp_path)).status == 0
    assert cli("list", "-i", url, PGPASSWORD=SECRET).status == 0
    assert cli("list", "-i", f"{url}&passfile={password_file(tmp_path)}").status == 0
    assert cli("list", "-i", url, PGPASSFILE=password_file(tmp_path, "falsch")).status == 11
    assert cli("list", "-i", url, PGPASSFILE=password_file(tmp_path, mode=0o644)).status == 11


def test_a_service_file_may_name_the_server(strict: Server, cli: Cli, tmp_path: Path) -> None:
    services = tmp_path / "services.conf"
    services.write_text(
        f"[lab]\nhost={strict.socket.parent}\nuser=lab\ndbname=lab\npassword={SECRET}\noptions=-ctimezone=Asia/Tokyo\n"
    )
    found = cli("status", "-i", "postgresql:///?service=lab", PGSERVICEFILE=str(services))
    assert (found.status, found.stderr) == (0, "")
    assert found.stdout.startswith("postgresql:///?service=lab  0 hosts")
    assert cli("list", BMHCTL_INVENTORY="postgresql://", PGSERVICE="lab", PGSERVICEFILE=str(services)).status == 0
    missing = cli("list", "-i", "postgresql:///?service=nope", PGSERVICEFILE=str(services))
    assert missing.status == 11
    assert 'definition of service "nope" not found' in missing.stderr


def test_environment_variables_alone_may_name_the_server(strict: Server, cli: Cli) -> None:
    env = {"PGHOST": str(strict.socket.parent), "PGUSER": "lab", "PGDATABASE": "lab", "PGPASSWORD": SECRET}
    assert cli("list", "-i", "postgresql://", **env).status == 0
    assert cli("list", BMHCTL_INVENTORY="postgresql://", **env).status == 0
    other = cli("list", "-i", "postgresql://?schema=other", **env)
    assert (other.status, "hint: create one: bmhctl -i 'postgresql://?schema=other' init" in other.stderr) == (11, True)
    assert cli("list", **env).status == 2, "no server is ever looked for"


def test_libpq_variables_are_used_together_with_the_url(shared: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only = {"PGOPTIONS": "-c default_transaction_read_only=on"}
    assert cli("list", "-i", shared, **read_only).status == 0
    assert cli("add", "node01", "-i", shared, **read_only).status == 11

    def name(**env: str) -> str:
        with monkeypatch.context() as patch:
            for key, value in env.items():
                patch.setenv(key, value)
            opened = open_store(shared)
        try:
            return str(opened.database.execute("SELECT current_setting('application_name')")[0][0])
        finally:
            opened.close()

    assert name() == "bmhctl"
    assert name(PGAPPNAME="nightly") == "nightly"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_given_up_after_a_time(cli: Cli, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / ".s.PGSQL.5432"))
        deaf.listen()
        done = cli("list", "-i", f"postgresql://lab@/lab?host={tmp_path}&connect_timeout=2")
    assert (done.status, done.stdout) == (11, "")
    assert "timeout expired" in done.stderr
    assert "check the server and the network" in done.stderr


@pytest.mark.parametrize(
    ("query", "env", "seconds"),
    [("", {}, "10"), ("", {"PGCONNECT_TIMEOUT": "3"}, "3"), ("?connect_timeout=4", {"PGCONNECT_TIMEOUT": "3"}, "4")],
)
def test_the_reported_wait_is_the_one_that_libpq_is_configured_for(
    query: str, env: dict[str, str], seconds: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def connect(conninfo: str, **_: object) -> None:
        asked.append(conninfo)
        raise psycopg.OperationalError("busy")

    monkeypatch.setattr(psycopg.Connection, "connect", connect)
    assert cli("list", "-i", f"postgresql://h/db{query}", **env).status == 11
    assert [conninfo_to_dict(each)["connect_timeout"] for each in asked] == [seconds]


def test_without_psycopg_it_says_how_to_install_it(cli: Cli, tmp_path: Path) -> None:
    code = "import sys; sys.modules['psycopg'] = None; from bmhctl.cli.main import run; sys.exit(run(sys.argv[1:]))"

    def bare(*args: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *args],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    assert cli("init", "-i", "lab.toml").status == 0
    assert bare("list", "-i", "lab.toml", "-o", "name") == (0, "", "")
    for args in (["list", "-i"], ["init", "-i"], ["copy", "lab.toml"]):
        status, out, err = bare(*args, "postgresql://u:geheim@h/db")
        assert (status, out) == (2, "")
        assert "postgresql://u@h/db needs psycopg, which is not installed" in err
        assert "hint: pip install 'bmhctl[postgres]'" in err


@pytest.mark.parametrize("command", ["list", "add node01", "run --host node01 -- true"])
def test_an_old_server_is_refused(command: str, shared: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_OLDEST", 99_00_00)
    done = cli("-i", shared, *command.split())
    assert done.status == (125 if command.startswith("run") else 11)
    assert re.search(r"is PostgreSQL \d+\nhint: bmhctl needs 99 or newer\n$", done.stderr)


def test_a_newer_inventory_is_refused_by_name(shared: str, cli: Cli) -> None:
    schema = Address.parse(shared).schema
    sql(shared, f"INSERT INTO \"{schema}\".migrations VALUES ({VERSION + 1}, 'later')")
    done = cli("add", "node01", "-i", shared)
    assert (done.status, done.stdout) == (10, "")
    assert f"was written by a newer bmhctl (schema {VERSION + 1}; this one knows {VERSION})" in done.stderr
    assert "update bmhctl on this machine" in done.stderr


def test_an_inventory_with_a_missing_table_is_reported_as_damaged(shared: str, cli: Cli) -> None:
    sql(shared, f'DROP TABLE "{Address.parse(shared).schema}".facts')
    done = cli("add", "node01", "--label", "a=b", "-i", shared)
    assert (done.status, done.stdout) == (10, "")
    assert "is damaged" in done.stderr


def test_a_read_only_server_can_still_be_read(shared: str, cli: Cli) -> None:
    assert cli("add", "node01", "-i", shared).status == 0
    standby = f"{shared}&options=-cdefault_transaction_read_only%3Don"
    for command in ("list", "show node01", "why node01", "status", "queue", "export", "history", "copy"):
        extra = [standby, "lab.db"] if command == "copy" else []
        assert cli(*command.split(), *extra, "-i", standby).status == 0, command
    for command in ("add node02", "ready node01", "cordon node01", "policy apply /dev/stdin", "init"):
        place = standby.replace("schema=", "schema=x") if command == "init" else standby
        if command.startswith("policy"):
            Path("policy.toml").write_text('[defaults]\nttl = "1h"\n')
            command = "policy apply policy.toml"
        done = cli(*command.split(), "-i", place)
        assert (done.status, done.stdout) == (11, ""), command
        assert "is read-only" in done.stderr
        assert "target_session_attrs=read-write" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dbname=nope", 'database "nope" does not exist'),
        ("user=no-such-role", 'role "no-such-role" does not exist'),
        ("host=/nowhere", "No such file or directory"),
    ],
)
def test_a_missing_database_or_schema_is_named(change: str, said: str, shared: str, cli: Cli) -> None:
    done = cli("list", "-i", f"{shared}&{change}")
    assert (done.status, done.stdout) == (11, "")
    assert said in done.stderr


def test_a_database_without_an_inventory_is_distinguished_from_one_with(shared: str, cli: Cli) -> None:
    done = cli("list", "-i", f"{shared}x")
    assert (done.status, done.stdout) == (11, "")
    assert f"there is no inventory in {shared}x" in done.stderr
    assert f"hint: create one: bmhctl -i '{shared}x' init" in done.stderr


def test_a_role_without_free_connections_is_reported(strict: Server, cli: Cli) -> None:
    sql(strict.url, "ALTER ROLE lab CONNECTION LIMIT 0")
    try:
        done = cli("list", "-i", f"postgresql://lab:{ENCODED}@/lab?host={strict.socket.parent}")
    finally:
        sql(strict.url, "ALTER ROLE lab CONNECTION LIMIT -1")
    assert (done.status, done.stdout) == (11, "")
    assert 'too many connections for role "lab"' in done.stderr
    assert "CONNECTION LIMIT of the role" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["Lab", "a-b", "_x1"])
def test_a_schema_may_have_capitals_and_hyphens(name: str, shared: str, cli: Cli) -> None:
    url = shared.replace("schema=", f"schema={name}")
    try:
        for command in ("init", "add node01", "ready node01", "reserve node01", "release node01", "list"):
            done = cli(*command.split(), "-i", url)
            assert done.status == 0, done
        assert name == name.lower() or cli("list", "-i", url.lower()).status == 11
    finally:
        drop_schema(url)


def test_a_pooler_that_changes_connections_is_not_reported_as_damage(shared: str) -> None:
    with open_inventory(shared) as lab:
        lab._context.store.database.execute("RESET search_path")  # a pooler may pass on such a connection
        for act in (lab.hosts, lab.queue, lambda: lab.reserve(count=1)):
            with pytest.raises(UnreachableError, match="a pooler changed the session") as refused:
                act()
            assert "pool_mode = session" in str(refused.value.hint)


def test_a_pooler_that_changes_sessions_is_noticed_though_all_of_them_belong_to_one_inventory(
    shared: str, cli: Cli
) -> None:
    assert cli("add", "node01", "-i", shared).status == 0
    with open_inventory(shared) as lab, open_inventory(shared) as other:
        database, second = (each._context.store.database for each in (lab, other))
        assert isinstance(database, PostgresDatabase)
        assert isinstance(second, PostgresDatabase)
        database._connection.pgconn, second._connection.pgconn = second._connection.pgconn, database._connection.pgconn
        for act in (lab.hosts, lab.queue, lambda: lab.ready("node01")):
            with pytest.raises(UnreachableError, match="a pooler changed the session"):
                act()
    assert "available" not in cli("list", "-i", shared).stdout


@pytest.mark.parametrize("path", ["DEFAULT", "elsewhere"])
def test_a_pooler_never_leads_to_another_inventory(
    path: str, shared: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = f"{shared}x"
    inventories.init(elsewhere)

    def with_settings_of_another(address: Address) -> connection.Connection:
        made = connection.connect(address)
        made.execute(f"SET search_path = {Address.parse(elsewhere).schema if path == 'elsewhere' else path}".encode())
        return made

    monkeypatch.setattr(session, "connect", with_settings_of_another)
    try:
        done = cli("add", "node01", "-i", shared)
        assert (done.status, done.stdout) == (11, "")
        assert "its settings and locks are lost\nhint: connect directly" in done.stderr
        monkeypatch.undo()
        assert cli("list", "-i", elsewhere, "-o", "name").stdout == ""
    finally:
        drop_schema(elsewhere)


@pytest.mark.parametrize(
    ("change", "said"),
    [("service=nope", 'definition of service "nope" not found'), ("sslmode=x", 'invalid sslmode value: "x"')],
)
def test_a_wait_ends_at_once_when_the_parameters_of_the_connection_are_wrong(
    change: str, said: str, shared: str, cli: Cli
) -> None:
    done = cli("reserve", "-n1", "--wait", "1h", "-i", f"{shared}&{change}")
    assert done.status == 11
    assert said in done.stderr
    assert "hint: correct the URL, or libpq's files and variables" in done.stderr


def test_a_wait_ends_at_once_when_the_root_certificate_is_missing(cli: Cli) -> None:
    with ThreadPoolExecutor() as pool, socket.create_server(("127.0.0.1", 0)) as server:

        def accept_encryption() -> None:
            client, _ = server.accept()
            with client:
                client.recv(8)
                client.sendall(b"S")
                client.recv(1)

        pool.submit(accept_encryption)
        url = f"postgresql://lab@127.0.0.1:{server.getsockname()[1]}/lab?sslmode=verify-full&sslrootcert=/missing"
        done = cli("reserve", "-n1", "--wait", "1h", "-i", url)
    assert done.status == 11
    assert 'root certificate file "/missing" does not exist' in done.stderr
    assert "hint: check sslmode and sslrootcert in the URL, and the certificate of the server" in done.stderr


def test_errors_of_several_hosts_in_a_url_are_each_reported_once(cli: Cli) -> None:
    done = cli("list", "-i", "postgresql://lab@127.0.0.1:1,127.0.0.1:2/lab")
    assert done.status == 11
    assert done.stderr.count("Connection refused") == 2, done.stderr
    assert "Multiple connection attempts" not in done.stderr


def test_a_wait_that_ends_before_the_server_is_back_says_why(cli: Cli) -> None:
    done = cli("reserve", "-n1", "--wait", "1s", "-i", "postgresql://lab@127.0.0.1:1/lab")
    assert done.status == 7
    assert "timed out after 1s waiting for the inventory: can't reach postgresql://" in done.stderr
