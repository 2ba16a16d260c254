"""Roles on a server: what a viewer, a runner and an operator may do, tried by the real commands and by plain SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.cli.app import build_command
from bmhctl.cli.commands import COMMANDS, ENTRIES
from bmhctl.domain.model import CheckResult, Verdict
from bmhctl.domain.policy import Step
from bmhctl.errors import AwayError, MovedError
from bmhctl.probes import run as probe
from bmhctl.probes.redfish_hardware import hardware
from bmhctl.stores import migrations
from bmhctl.stores.migrations import MIGRATIONS, Migration
from bmhctl.stores.postgres import open as opening
from bmhctl.stores.postgres import roles
from bmhctl.stores.postgres.url import Address
from bmhctl.usecases.steps import bmc
from tests.cli.conftest import Cli, error_of, json_of
from tests.cli.roles import Fleet, shared
from tests.conftest import run_bmhctl
from tests.postgres import drop_schema
from tests.processes import spawn, until

pytestmark = pytest.mark.slow

VIEWER, RUNNER, OPERATOR, OWNER = ROLES = (*(role.name for role in roles.ROLES), "owner")

POLICY = """
[checks.alive]
command = ["true"]

[cleanup.wipe]
command = ["true"]
"""

Arguments = Callable[[Fleet], list[str]]

TURNS: dict[str, tuple[str, Arguments]] = {
    "init": (OWNER, lambda f: ["-i", f.elsewhere]),
    "add": (OPERATOR, lambda f: [f.name()]),
    "set": (OPERATOR, lambda f: [f.available(), "--label", "rack=r9", "--note", "left slot"]),
    "rename": (OPERATOR, lambda f: [f.available(), f.name()]),
    "remove": (OPERATOR, lambda f: [f.reserved(), "--force", "--reason", "sold"]),
    "undo": (OPERATOR, lambda f: ["-o", "json" if f.initial() else ""]),
    "import": (OPERATOR, lambda f: [f.file(f"[hosts.{f.name()}]\n")]),
    "export": (VIEWER, lambda _: []),
    "copy": (VIEWER, lambda f: [f.url, f"{f.name()}.toml"]),
    "backup": (VIEWER, lambda f: [f"{f.name()}.db"]),
    "policy show": (VIEWER, lambda _: []),
    "policy check": (VIEWER, lambda f: [f.available()]),
    "policy apply": (OPERATOR, lambda f: [f.file(f"# {f.name()}\n{POLICY}")]),
    "policy grants": (VIEWER, lambda _: []),
    "ready": (RUNNER, lambda f: [f.initial()]),
    "reserve": (RUNNER, lambda f: [f.available(), "--ttl", "1h"]),
    "taint": (RUNNER, lambda f: [f.reserved(), "--fault", "fan 3 is dead"]),
    "release": (RUNNER, lambda f: ["-R", f.held()]),
    "reset": (RUNNER, lambda f: [f.tainted()]),
    "retire": (OPERATOR, lambda f: [f.available(), "--reason", "too old"]),
    "maintain": (RUNNER, lambda f: [f.available(), "--reason", "new disk"]),
    "resume": (RUNNER, lambda f: [f.maintained()]),
    "cordon": (RUNNER, lambda f: [f.available(), "--reason", "power work"]),
    "uncordon": (RUNNER, lambda f: [f.cordoned()]),
    "reservations": (VIEWER, lambda _: ["--ended"]),
    "run": (RUNNER, lambda f: ["--host", f.available(), "--", "true"]),
    "extend": (RUNNER, lambda f: ["-R", f.held(), "--ttl", "2h"]),
    "handover": (RUNNER, lambda f: [f.held(), "--to", "bob"]),
    "share": (RUNNER, lambda f: [f.held(), "--with", "bob"]),
    "replace": (RUNNER, lambda f: [*f.replaceable(), "--reason", "no link"]),
    "queue": (VIEWER, lambda _: []),
    "queue cancel": (RUNNER, lambda f: [f.ticket()]),
    "queue move": (OPERATOR, lambda f: [[f.ticket(), f.ticket()][1], "--first", "--reason", "release"]),
    "bookings": (VIEWER, lambda _: []),
    "bookings cancel": (RUNNER, lambda f: [f.booking()]),
    "bookings move": (RUNNER, lambda f: [f.booking(), "--from", "2d"]),
    "remind": (OPERATOR, lambda f: ["--before", "30d", "-o", "json" if f.held() else ""]),
    "reap": (RUNNER, lambda f: ["-o", "json" if f.expired() else ""]),
    "check": (RUNNER, lambda f: [f.available()]),
    "power": (RUNNER, lambda f: [f.reserved(), "off", "--force", "--reason", "drill", "--as", "bob"]),
    "boot-once": (RUNNER, lambda f: [f.reserved(), "pxe", "--force", "--reason", "drill", "--as", "bob"]),
    "inspect": (OPERATOR, lambda f: [f.available()]),
    "recycle": (RUNNER, lambda f: [f.tainted()]),
    "list": (VIEWER, lambda f: [f.reserved(), "-o", "json"]),
    "show": (VIEWER, lambda f: [f.reserved()]),
    "status": (VIEWER, lambda _: []),
    "why": (VIEWER, lambda f: [f.reserved()]),
    "history": (VIEWER, lambda f: [f.tainted()]),
    "wait": (VIEWER, lambda f: [f.tainted(), "--for", "tainted"]),
    "graph": (VIEWER, lambda f: [f.tainted()]),
    "stats": (VIEWER, lambda _: ["--by", "host"]),
    "timeline": (VIEWER, lambda f: [f.tainted()]),
    "report": (VIEWER, lambda _: []),
    "metrics": (VIEWER, lambda _: []),
    "schema": (VIEWER, lambda _: []),
    "doctor": (VIEWER, lambda _: []),
    "completion": (VIEWER, lambda _: ["bash"]),
    "help": (VIEWER, lambda _: ["ci"]),
}
"""Every command, with the least role that may run it, and with valid arguments."""


FORBIDDEN = (
    "CREATE TABLE mine (id INTEGER)",
    "ALTER TABLE hosts ADD COLUMN mine TEXT",
    "DROP TABLE facts",
    "TRUNCATE events",
    "DELETE FROM events",
    "UPDATE events SET actor = 'bob'",
    "UPDATE hosts SET id = id + 1",
    "UPDATE reservations SET id = 'mine'",
    "DELETE FROM reservations",
    "DELETE FROM migrations",
    "INSERT INTO migrations VALUES (99, 'mine')",
)
"""The commands that only the owner may run."""

OPERATORS = (
    *(f"UPDATE hosts SET {column} = 'x'" for column in ("name", "address", "mac", "labels", "bmc", "note")),
    "DELETE FROM departed",
    "INSERT INTO meta VALUES ('mine', '')",
    "UPDATE meta SET value = ''",
    "DELETE FROM hosts",
)
"""The commands that only an operator may run."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with shared(tmp_path) as made:
        yield made


def passes(step: Step, *_: object) -> CheckResult:
    return CheckResult(step.name, Verdict.PASS, "exit 0", 0.0, phase=step.phase)


def test_the_tests_of_roles_cover_every_command() -> None:
    assert {*TURNS} == {name for group in COMMANDS.values() for name in group}


@pytest.mark.parametrize("role", ROLES[:3])
def test_each_role_can_run_its_own_commands_only(
    role: str, fleet: Fleet, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[object, object] = {hardware: {"cpus": 64}}
    monkeypatch.setattr(bmc, "ask", lambda *given: answers.get(given[-1], "off"))  # there is no BMC
    monkeypatch.setattr(probe, "run", passes)  # the server sees what a step leaves, not its process
    assert cli("policy", "apply", fleet.file(POLICY), "-i", fleet.url).status == 0
    who = fleet.login(role)
    [[owner]] = fleet.sql("SELECT current_user")
    for command, (least, arguments) in TURNS.items():
        args = [each.replace(fleet.elsewhere, fleet.url_of(role, fleet.elsewhere)) for each in arguments(fleet)]
        args = [each.replace(fleet.url, fleet.url_of(role)) for each in args]
        before = fleet.rows()
        done = cli(*command.split(), *args, BMHCTL_INVENTORY=fleet.url_of(role))
        told = f"{role}: {command} {args}: {done}"
        assert "geheim" not in done.stdout + done.stderr, told
        if ROLES.index(role) >= ROLES.index(least):
            assert done.status == 0, told
            assert (fleet.rows() != before) is (least != VIEWER), told
            continue
        assert done.status == (125 if command == "run" else 11), told
        assert fleet.rows() == before, told
        assert re.search(f"the role {who} may not (change|make)", done.stderr), told
        assert f"ask {owner}, who owns the inventory: a" in done.stderr or least == OWNER, told
        if command == "reap":
            assert cli("reap", "-i", fleet.url).status == 0  # otherwise each later command would first end this lease


@pytest.mark.parametrize("role", [VIEWER, RUNNER])
def test_a_dry_run_is_refused_to_a_role_that_may_not_run_the_command(
    role: str, fleet: Fleet, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bmc, "ask", lambda *_: {"cpus": 64})
    monkeypatch.setattr(probe, "run", passes)
    assert cli("policy", "apply", fleet.file(POLICY), "-i", fleet.url).status == 0
    for command, (least, arguments) in TURNS.items():
        if "dry_run" not in {each.name for each in build_command(command, ENTRIES[command]).params}:
            continue
        args = arguments(fleet)
        before = fleet.rows()
        done = cli(*command.split(), *args, "--dry-run", BMHCTL_INVENTORY=fleet.url_of(role))
        told = f"{role}: {command} {args}: {done}"
        assert done.status == (0 if ROLES.index(role) >= ROLES.index(least) else 11), told
        assert done.status == 0 or f"the role {fleet.login(role)} may not change" in done.stderr, told
        assert fleet.rows() == before, told


def test_a_runner_can_do_all_that_a_ci_job_needs(fleet: Fleet, cli: Cli) -> None:
    name = fleet.available()
    mine = fleet.url_of(RUNNER)
    held = json_of(cli("reserve", name, "--ttl", "1h", "-o", "json", BMHCTL_INVENTORY=mine))["reservation"]["id"]
    with ThreadPoolExecutor() as pool:
        job = ("run", "-q", "-n", "1", "--wait", "60s", "--on-exit", "recycle", "--", "sh", "-c", "echo $BMH_HOST")
        waiter = pool.submit(run_bmhctl, *job, cwd=fleet.folder, BMHCTL_INVENTORY=mine, BMHCTL_ACTOR="bob")
        until(lambda: json_of(cli("queue", "-o", "json", BMHCTL_INVENTORY=fleet.url_of(VIEWER)))["tickets"])
        assert cli("release", "-R", held, BMHCTL_INVENTORY=mine).status == 0
        assert cli("recycle", BMHCTL_INVENTORY=mine).status == 0
        done = waiter.result()
    assert (done.status, done.stdout, done.stderr) == (0, f"{name}\n", "")
    assert cli("list", "--state", "available", "-o", "name", BMHCTL_INVENTORY=mine).stdout == f"{name}\n"


@pytest.mark.parametrize("role", [VIEWER, RUNNER])
def test_roles_that_may_change_hosts_may_repair_them_with_the_doctor(role: str, fleet: Fleet, cli: Cli) -> None:
    fleet.tainted()
    fleet.sql("UPDATE hosts SET last_event = 0")
    before = fleet.rows()
    done = cli("doctor", "--fix", BMHCTL_INVENTORY=fleet.url_of(role))
    if role == RUNNER:
        assert done.status == 0, done
        assert fleet.rows() != before
    else:
        assert done.status == 11, done
        assert fleet.rows() == before
    assert "geheim" not in done.stdout + done.stderr


def test_only_the_owner_can_repair_indexes(fleet: Fleet, cli: Cli) -> None:
    fleet.sql(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{fleet.schema}.hosts_mac'::regclass")
    assert cli("doctor", BMHCTL_INVENTORY=fleet.url_of(OPERATOR)).status == 10
    done = cli("doctor", "--fix", BMHCTL_INVENTORY=fleet.url_of(OPERATOR))
    assert "may not repair its indexes" in done.stdout + done.stderr
    assert "bmhctl doctor --fix as that role does it" in done.stdout + done.stderr
    assert cli("doctor", "--fix", "-i", fleet.url).status == 0


def test_only_the_owner_can_copy_into_an_unused_inventory(fleet: Fleet, cli: Cli) -> None:
    unused = Address.parse(fleet.elsewhere).schema
    try:
        assert cli("init", "-i", fleet.elsewhere).status == 0
        fleet.sql(roles.sql(unused, fleet.prefix))
        done = cli("copy", fleet.url, fleet.url_of(OPERATOR, fleet.elsewhere))
        assert (done.status, "may not fill the inventory" in done.stderr) == (11, True)
        assert cli("copy", fleet.url, fleet.elsewhere).status == 0
    finally:
        drop_schema(fleet.elsewhere)


def test_in_json_mode_a_refusal_is_one_object(fleet: Fleet, cli: Cli) -> None:
    error = error_of(cli("add", "node99", "-o", "json", BMHCTL_INVENTORY=fleet.url_of(RUNNER)))
    assert error["code"] == "unreachable"
    assert error["message"].endswith(
        "may not change which hosts there are, what is declared about them, the policy, or the order of the queue"
    )
    assert (
        "an operator may; bmhctl policy grants prints the SQL for that, which must run again after each update"
        in error["hint"]
    )


def test_no_role_may_alter_the_schema_or_the_history(fleet: Fleet) -> None:
    fleet.tainted()
    for role in ROLES[:3]:
        assert [statement for statement in FORBIDDEN if fleet.may(role, statement)] == []


def test_a_runner_may_not_change_hosts_or_policy_by_plain_sql_either(fleet: Fleet) -> None:
    fleet.tainted()
    assert [statement for statement in OPERATORS if fleet.may(RUNNER, statement)] == []
    assert [statement for statement in OPERATORS if not fleet.may(OPERATOR, statement)] == []


def test_a_viewer_may_read_every_table_and_write_none(fleet: Fleet) -> None:
    tables = f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = '{fleet.schema}'::regnamespace"
    assert {str(name) for (name,) in fleet.sql(tables)} == {*roles.tables()}
    assert fleet.sql(f"{tables} AND NOT has_table_privilege(oid, 'SELECT')", VIEWER) == []
    columns, whole = "has_any_column_privilege(oid, 'INSERT, UPDATE')", "has_table_privilege(oid, 'DELETE, TRUNCATE')"
    assert fleet.sql(f"{tables} AND ({columns} OR {whole})", VIEWER) == []


def test_running_the_sql_of_the_roles_again_revokes_rights_that_were_granted_by_hand(fleet: Fleet, cli: Cli) -> None:
    group = f"{fleet.prefix}_{RUNNER}"
    fleet.sql(
        f"GRANT DELETE ON events TO {group}; GRANT UPDATE (name) ON hosts TO {group};"
        f" GRANT CREATE ON SCHEMA {fleet.schema} TO {group}"
    )
    taken = ("UPDATE hosts SET name = 'x'", "DELETE FROM events", "CREATE TABLE mine (id INTEGER)")
    assert all(fleet.may(RUNNER, statement) for statement in taken)
    text = cli("policy", "grants", "--prefix", fleet.prefix, "-i", fleet.url).stdout
    for _ in range(2):
        fleet.sql(text)
    assert not any(fleet.may(RUNNER, statement) for statement in taken)
    assert cli("reserve", fleet.available(), BMHCTL_INVENTORY=fleet.url_of(RUNNER)).status == 0


def test_the_error_names_the_right_that_a_runner_lacks(fleet: Fleet, cli: Cli) -> None:
    fleet.sql(f'REVOKE UPDATE ON "{fleet.schema}".hosts FROM {fleet.prefix}_{RUNNER}')
    fleet.sql(f'REVOKE USAGE ON "{fleet.schema}".events_id_seq FROM {fleet.prefix}_{RUNNER}')
    done = cli("reserve", fleet.available(), BMHCTL_INVENTORY=fleet.url_of(RUNNER))
    assert done.status == 11
    lacks = "it lacks USAGE on events_id_seq, UPDATE on hosts"
    assert f"the role {fleet.login(RUNNER)} may not change anything: {lacks}\n" in done.stderr


def test_a_user_without_a_role_is_told_to_ask_the_owner(fleet: Fleet, cli: Cli) -> None:
    [[owner]] = fleet.sql("SELECT current_user")
    fleet.sql(f"REVOKE {fleet.prefix}_{VIEWER} FROM {fleet.login(VIEWER)}")
    done = cli("list", BMHCTL_INVENTORY=fleet.url_of(VIEWER))
    assert (done.status, done.stdout) == (11, "")
    assert f"the role {fleet.login(VIEWER)} may not read this inventory" in done.stderr
    assert f"ask {owner}, who owns the inventory: a viewer may; bmhctl policy grants prints" in done.stderr


@pytest.mark.parametrize(
    ("revoke", "grant"),
    [
        ("REVOKE USAGE ON SCHEMA {schema} FROM {group}", "GRANT USAGE ON SCHEMA {schema} TO {group}"),
        ("REVOKE {group} FROM {login}", "GRANT {group} TO {login}"),
    ],
)
def test_an_inventory_without_a_revoked_right_is_not_reported_as_dropped(revoke: str, grant: str, fleet: Fleet) -> None:
    names = {"schema": fleet.schema, "group": f"{fleet.prefix}_{RUNNER}", "login": fleet.login(RUNNER)}
    host, held = fleet.available(), fleet.held()
    with open_inventory(fleet.url_of(RUNNER), actor="alice") as lab:
        fleet.sql(revoke.format(**names))
        for act in (lab.hosts, lab.queue, lambda: lab.extend(held, "1h"), lambda: lab.reserve(host)):
            with pytest.raises(AwayError, match="may not read this inventory") as refused:
                act()
            assert not isinstance(refused.value, MovedError), refused.value
        fleet.sql(grant.format(**names))
        lab.extend(held, "1h")
        assert lab.reserve(host).hosts[0].name == host


def test_an_owner_of_the_tables_alone_is_told_what_to_change(fleet: Fleet, cli: Cli) -> None:
    owner = fleet.login(OPERATOR)
    for table in roles.tables():
        fleet.sql(f"ALTER TABLE {table} OWNER TO {owner}")
    fleet.sql(f"REVOKE ALL ON SCHEMA {fleet.schema} FROM {fleet.prefix}_{VIEWER}, {fleet.prefix}_{RUNNER}")
    fleet.sql(f"REVOKE ALL ON SCHEMA {fleet.schema} FROM {fleet.prefix}_{OPERATOR}")
    fleet.sql(f"ALTER FUNCTION count_hosts OWNER TO {fleet.login(VIEWER)}")
    theirs = fleet.url_of(OPERATOR)

    done = cli("add", "node01", "-i", theirs)
    grant = f'GRANT USAGE ON SCHEMA "{fleet.schema}" TO "{owner}"'
    assert (done.status, done.stderr.splitlines()[1:]) == (
        11,
        [f"hint: {owner} owns its tables, but not the schema: {grant}"],
    )

    fleet.sql(grant)
    done = cli("add", "node01", "-i", theirs)
    alter = f'ALTER FUNCTION "{fleet.schema}".count_hosts OWNER TO "{owner}"'
    assert (done.status, done.stderr.splitlines()[1:]) == (11, [f"hint: {alter}"])

    fleet.sql(alter)
    assert cli("add", "node01", "-i", theirs).status == 0


def test_every_statement_reports_a_dropped_schema_as_gone(fleet: Fleet) -> None:
    with open_inventory(fleet.url_of(RUNNER), actor="alice") as lab:
        fleet.sql(f"DROP SCHEMA {fleet.schema} CASCADE")
        for act in (lab.hosts, lab.queue, lambda: lab.reserve(count=1)):
            with pytest.raises(MovedError, match="its schema was dropped"):
                act()


def test_a_runner_that_waits_keeps_its_place_when_its_connection_is_lost(fleet: Fleet) -> None:
    host = fleet.reserved()
    waiter = spawn("-m", "bmhctl", "-i", fleet.url_of(RUNNER), "reserve", host, "--wait", "1m")
    tickets = "SELECT id, place, excused_at IS NOT NULL FROM tickets"
    connected = f"SELECT pid FROM pg_stat_activity WHERE usename = '{fleet.login(RUNNER)}'"
    until(lambda: fleet.sql(tickets) and fleet.sql(connected))
    [(number, *_)] = fleet.sql(tickets)
    fleet.sql(f"SELECT pg_terminate_backend(pid) FROM ({connected}) AS waiting")
    until(lambda: fleet.sql(tickets) == [(number, None, True)])
    fleet.lab.taint(host)
    fleet.lab.reset(host)
    fleet.lab.ready(host)
    out, err = waiter.communicate(timeout=30)
    assert (waiter.returncode, "may not" in err, "lost its place" in err) == (0, False, False), err
    assert host in out


def test_a_limit_of_the_server_for_idle_sessions_does_not_end_a_wait(fleet: Fleet) -> None:
    who = fleet.login(VIEWER)
    fleet.sql(f"ALTER ROLE {who} SET idle_session_timeout = '300ms'")
    rested = f"SELECT clock_timestamp() - state_change > '400ms' FROM pg_stat_activity WHERE usename = '{who}'"
    with open_inventory(fleet.url_of(VIEWER)) as lab:
        lab.hosts()
        until(lambda: fleet.sql(rested) == [(True,)], "the session was ended")


def test_an_inventory_of_an_older_bmhctl_is_updated_by_its_owner(
    fleet: Fleet, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = (*MIGRATIONS, Migration("later", ("CREATE TABLE later (id TEXT)",)))
    for module in (opening, roles):
        monkeypatch.setattr(module, "MIGRATIONS", later)
    for module in (opening, migrations):
        monkeypatch.setattr(module, "VERSION", len(later))
    [[owner]] = fleet.sql("SELECT current_user")
    for role in ROLES[:3]:
        done = cli("list", BMHCTL_INVENTORY=fleet.url_of(role))
        assert (done.status, done.stdout) == (11, "")
        assert "may not update the tables, which an older bmhctl made" in done.stderr
        assert f"ask {owner}, who owns the inventory: any bmhctl command as that role does it" in done.stderr
        assert fleet.sql("SELECT MAX(version) FROM migrations") == [(len(MIGRATIONS),)]
    fleet.sql(cli("policy", "grants", "--prefix", fleet.prefix, "-i", fleet.url).stdout)
    for role in ROLES[:3]:
        assert cli("list", BMHCTL_INVENTORY=fleet.url_of(role)).status == 0
        assert fleet.may(role, "SELECT * FROM later")


def test_the_prefix_is_the_schemas_name_unless_another_is_given(fleet: Fleet, cli: Cli) -> None:
    assert f'"{fleet.schema}_runner"' in cli("policy", "grants", "-i", fleet.url).stdout
    assert '"lab_runner"' in cli("policy", "grants", "--prefix", "lab", "-i", fleet.url).stdout


def test_an_invalid_role_name_is_refused(fleet: Fleet, cli: Cli) -> None:
    for prefix in ("", "a b", 'a"b', "a'b", "ä", "pg", "pg_lab", "1st", "x" * 51):
        done = cli("policy", "grants", "--prefix", prefix, "-i", fleet.url)
        assert (done.status, done.stdout) == (2, ""), prefix
        assert "can't begin the name of a role" in done.stderr


@pytest.mark.parametrize("name", ["lab.db", "lab.toml"])
def test_roles_are_refused_for_an_inventory_in_a_file(name: str, cli: Cli) -> None:
    assert cli("init", "-i", name).status == 0
    done = cli("policy", "grants", "-i", name)
    assert (done.status, done.stdout) == (2, "")
    assert "is a file: its permissions decide who may use it" in done.stderr
    assert "init --group NAME" in done.stderr


def test_an_owner_without_create_rights_can_use_a_schema_made_by_an_administrator(fleet: Fleet, cli: Cli) -> None:
    theirs = fleet.url_of(OPERATOR, fleet.elsewhere)
    schema = Address.parse(theirs).schema
    try:
        fleet.sql(f"CREATE SCHEMA {schema} AUTHORIZATION {fleet.login(OPERATOR)}")
        assert cli("init", "-i", theirs).status == 0
        assert cli("add", "node01", "-i", theirs).status == 0
    finally:
        drop_schema(theirs)


def test_no_role_can_attach_the_counting_function_to_its_own_table(fleet: Fleet) -> None:
    """The function has its owner's rights: a role that could call it could change what only the owner may change."""
    trigger = (
        "CREATE TEMP TABLE mine (state TEXT); CREATE TRIGGER mine AFTER INSERT ON mine"
        " REFERENCING NEW TABLE AS entered FOR EACH STATEMENT EXECUTE FUNCTION count_hosts()"
    )
    assert [role for role in ROLES[:3] if fleet.may(role, trigger)] == []
    [(path,)] = fleet.sql("SELECT proconfig[1] FROM pg_proc WHERE oid = 'count_hosts'::regproc")
    assert str(path).endswith(", pg_temp"), "what it names is not looked for among temporary tables"


def test_the_error_for_a_role_that_lacks_a_new_table_says_to_run_the_grants_again(fleet: Fleet, cli: Cli) -> None:
    fleet.sql(f'REVOKE SELECT ON "{fleet.schema}".meta FROM {fleet.prefix}_{RUNNER}')
    done = cli("reserve", fleet.available(), BMHCTL_INVENTORY=fleet.url_of(RUNNER))
    assert done.status == 11
    assert f"the role {fleet.login(RUNNER)} may not read this inventory: it lacks SELECT on meta\n" in done.stderr
    assert "bmhctl policy grants prints the SQL for that" in done.stderr
