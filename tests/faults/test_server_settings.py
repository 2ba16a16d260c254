"""Settings of a role or a database: an inventory works with them, or a command says what prevents it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from psycopg import errors

from bmhctl.stores.postgres import open as opening
from bmhctl.stores.postgres.connection import connect, translate
from bmhctl.stores.postgres.url import Address
from tests.conftest import Run
from tests.faults.in_process import call
from tests.postgres import Server
from tests.processes import until

NOTE = "üöä€ \\n 'q' \\' 日本"
LIMITS = (
    "statement_timeout = '1s'",
    "transaction_timeout = '1s'",
    "idle_session_timeout = '1s'",
    "idle_in_transaction_session_timeout = '1ms'",
    "lock_timeout = '1ms'",
)
SETTINGS = {
    "limits": LIMITS,
    "client_encoding": ("client_encoding = LATIN1",),
    "text": ("standard_conforming_strings = off", "DateStyle = 'German, DMY'", "TimeZone = 'Pacific/Chatham'",
             "IntervalStyle = sql_standard", "bytea_output = escape", "extra_float_digits = -15"),
    "transactions": ("default_transaction_isolation = serializable", "default_transaction_deferrable = on",
                     "row_security = off", "search_path = ''"),
    "replication": ("session_replication_role = replica",),
}  # fmt: skip

Command = Callable[..., Run]
"""A command of the role on its inventory."""


@pytest.fixture
def admin(own_server: Server) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser, and the role lab, whose objects and settings are removed afterwards."""
    with closing(psycopg.connect(own_server.url, autocommit=True)) as connection:
        connection.execute("CREATE ROLE lab LOGIN")
        try:
            yield connection
        finally:
            connection.execute("DROP DATABASE IF EXISTS lab WITH (FORCE)")
            connection.execute("REVOKE SET ON PARAMETER session_replication_role FROM lab")
            connection.execute("DROP ROLE lab")


@pytest.fixture
def lab(own_server: Server) -> Command:
    url = own_server.url.replace("postgres@/postgres?", "lab@/lab?")
    return lambda *words: call("-i", url, *words)


@pytest.mark.parametrize("group", SETTINGS)
def test_settings_of_the_role_change_nothing(
    group: str, admin: psycopg.Connection[tuple[object, ...]], lab: Command
) -> None:
    admin.execute("CREATE DATABASE lab OWNER lab")
    admin.execute("GRANT SET ON PARAMETER session_replication_role TO lab")
    for setting in SETTINGS[group]:
        admin.execute(f"ALTER ROLE lab SET {setting}".encode())

    for words in (
        ("init",),
        ("add", "node[1-2]", "--note", NOTE),
        ("ready", "node*"),
        ("reserve", "node1", "--for", "back\\slash"),
        ("release", "node1"),
        ("maintain", "node2", "--reason", "disk", "--until", "2099-01-02 10:00"),
        ("doctor",),
    ):
        done = lab(*words)
        assert done.status == 0, (words, done.stderr)
    listed = lab("list", "-o", "csv", "--fields", "name,note").stdout
    assert listed == f"name,note\nnode1,{NOTE}\nnode2,{NOTE}\n"


@pytest.mark.parametrize(
    ("error", "setting"),
    [
        (errors.QueryCanceled("canceling statement due to statement timeout"), "statement_timeout"),
        (errors.IdleSessionTimeout("terminating connection due to idle-session timeout"), "idle_session_timeout"),
        (errors.TransactionTimeout("terminating connection due to transaction timeout"), "transaction_timeout"),
        (
            errors.IdleInTransactionSessionTimeout("terminating connection due to idle-in-transaction timeout"),
            "idle_in_transaction_session_timeout",
        ),
    ],
)
def test_a_limit_that_ends_a_session_before_it_is_lifted_is_named(error: psycopg.Error, setting: str) -> None:
    found = translate(error, Address.parse("postgresql://lab@server/lab"), is_lost=True)
    assert f" {setting}" in str(found.hint)


def has_waited(admin: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Return whether a command of the role has waited for a lock for longer than its limits."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE usename = 'lab' AND wait_event_type = 'Lock'"
    return bool(admin.execute(f"{waits} AND query_start < clock_timestamp() - interval '1.5s'").fetchall())


def test_limits_of_the_role_end_no_command_that_waits_for_another_ones_lock(
    admin: psycopg.Connection[tuple[object, ...]], own_server: Server, lab: Command
) -> None:
    admin.execute("CREATE DATABASE lab OWNER lab")
    for setting in LIMITS:
        admin.execute(f"ALTER ROLE lab SET {setting}".encode())
    assert lab("init").status == 0
    assert lab("add", "node1").status == 0
    with psycopg.connect(own_server.url.replace("/postgres?", "/lab?")) as other:
        other.execute("LOCK TABLE bmhctl.hosts")
        with ThreadPoolExecutor(1) as pool:
            releasing = pool.submit(lambda: (until(lambda: has_waited(admin)), other.rollback()))
            done = lab("cordon", "node1")
            releasing.result()

    assert (done.status, done.stderr) == (0, "")


def test_no_inventory_is_created_in_a_database_that_lacks_characters(
    admin: psycopg.Connection[tuple[object, ...]], lab: Command
) -> None:
    admin.execute("CREATE DATABASE lab OWNER lab ENCODING LATIN1 TEMPLATE template0")

    done = lab("init")

    assert (done.status, done.stdout) == (11, "")
    assert (
        "has the encoding LATIN1, which lacks characters that bmhctl writes\nhint: create one with UTF8" in done.stderr
    )


def test_a_text_of_another_program_that_is_not_utf_8_is_reported(
    admin: psycopg.Connection[tuple[object, ...]], own_server: Server, lab: Command
) -> None:
    admin.execute("CREATE DATABASE lab OWNER lab ENCODING SQL_ASCII TEMPLATE template0")
    assert lab("init").status == 0
    assert lab("add", "node1").status == 0
    with psycopg.connect(own_server.url.replace("/postgres?", "/lab?"), client_encoding="SQL_ASCII") as other:
        other.execute(rb"UPDATE bmhctl.hosts SET note = E'gr\xf6\xdf'")

    for words in (("list",), ("doctor",)):
        done = lab(*words)
        assert done.status == 10
        assert "another program wrote a text that is not UTF-8" in done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_text_that_a_database_cannot_hold_is_refused(
    encoding: str, admin: psycopg.Connection[tuple[object, ...]], lab: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_ENCODINGS", (encoding,))  # as in an inventory that an older bmhctl created
    admin.execute(f"CREATE DATABASE lab OWNER lab ENCODING {encoding} TEMPLATE template0".encode())
    assert lab("init").status == 0
    assert lab("add", "node1", "--note", "für").status == 0

    done = lab("add", "node2", "--note", "10 €")

    if encoding == "LATIN1":
        assert done.status == 10
        assert 'has no equivalent in encoding "LATIN1": nothing was changed\nhint: leave this' in done.stderr
    else:
        assert done.status == 0
    rows = ["name,note", "node1,für", *(["node2,10 €"] if done.status == 0 else [])]
    assert lab("list", "-o", "csv", "--fields", "name,note").stdout.splitlines() == rows


def test_a_role_whose_triggers_do_not_run_is_refused_where_it_may_not_change_that(
    admin: psycopg.Connection[tuple[object, ...]], lab: Command
) -> None:
    admin.execute("CREATE DATABASE lab OWNER lab")
    assert lab("init").status == 0
    admin.execute("ALTER ROLE lab SET session_replication_role = replica")

    done = lab("add", "node1")

    assert done.status == 11
    assert "the role has session_replication_role = replica, with which no trigger runs" in done.stderr


def test_the_server_ends_within_a_minute_the_session_of_a_machine_that_was_switched_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    server = Server(port=port)
    try:
        server.start()
        with closing(connect(Address.parse(server.url))) as connection:
            rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp%'").fetchall()
    finally:
        server.remove()
    setting = {str(name): int(str(value)) for name, value in rows}
    silent = setting["tcp_keepalives_interval"] * setting["tcp_keepalives_count"]
    assert 10 < setting["tcp_keepalives_idle"] + silent <= 60
    assert 10_000 < setting["tcp_user_timeout"] <= 60_000
