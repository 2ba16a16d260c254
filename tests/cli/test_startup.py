"""The cost of a command: the modules that it loads in a fresh interpreter, and the statements that it issues."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bmhctl.cli.commands import COMMANDS
from bmhctl.stores.sqlite import database as sqlite_database
from tests.cli.conftest import Cli
from tests.conftest import environment
from tests.faults.snapshots import settle

pytestmark = pytest.mark.slow

SLOW = {
    *("rich", "pydantic", "tomlkit", "tomllib", "tomli_w", "yaml", "ClusterShell", "http.client", "psycopg"),
    *("importlib.metadata", "hashlib", "tempfile", "random", "asyncio", "concurrent", "ssl"),
    *(("dataclasses",) if sys.version_info < (3, 14) else ()),  # since 3.14, traceback loads it, which Typer needs
}
"""Modules that no everyday command needs."""

STEPS = {f"bmhctl.{name}" for name in ("probes", "runner", "support.worker_pool", "usecases.steps")}
EDITS = {
    f"bmhctl.{name}"
    for name in ("domain.host_spec", "stores.toml.declaration", "stores.toml.editor", "usecases.shared.host_changes")
}
MOVES = {
    "transitions",
    "logging",
    "bmhctl.lifecycle.machine",
    "bmhctl.lifecycle.table",
    "bmhctl.usecases.shared.transitions",
}
QUEUE = {"bmhctl.usecases.reservations", "bmhctl.domain.requirements"}
POLICY = {"bmhctl.domain.policy"}
PARSER = {"bmhctl.domain.policy_parser", "bmhctl.domain.tables"}
RESULTS = {f"bmhctl.results.{name}" for name in ("bookings", "diagnosis", "queue", "statistics", "texts", "why")}
LINES = {f"bmhctl.output.{name}" for name in ("layout", "records", "spans")}

NEEDLESS = {
    "list -o name": {*STEPS, *EDITS, *MOVES, *QUEUE, *POLICY, *LINES, *RESULTS},
    "list": {*STEPS, *EDITS, *MOVES, *QUEUE, *POLICY, *RESULTS},
    "show node01": {*STEPS, *EDITS, *MOVES, *QUEUE, *POLICY, *RESULTS},
    "status": {*STEPS, *EDITS, *MOVES, *POLICY, *RESULTS},
    "reserve node01 --for nightly": {
        *(*STEPS, *EDITS, *RESULTS),
        *("bmhctl.cli.wait", "bmhctl.usecases.reservations.holder"),
    },
    "reserve -l arch=x86_64 -o json": {*STEPS, *EDITS, *RESULTS},
    "taint node01 --force --reason drill": {*STEPS, *EDITS, *QUEUE, *POLICY, *RESULTS},
}
"""The modules that each command must not load, besides the slow ones."""


def test_every_module_that_must_stay_unloaded_exists() -> None:
    from importlib.util import find_spec

    ours = {name for names in NEEDLESS.values() for name in names if name.startswith("bmhctl.")}
    assert {name for name in ours if find_spec(name) is None} == set()


def loaded_by(*args: str, cwd: Path) -> set[str]:
    """Return the modules that are loaded when a command has succeeded."""
    code = (
        "import sys; from bmhctl.cli.main import run\n"
        "assert run(sys.argv[1:]) == 0; sys.stderr.write(repr({*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(eval(done.stderr))


@pytest.fixture(params=["toml", "db"])
def ready_lab(request: pytest.FixtureRequest, lab: Path, cli: Cli) -> Path:
    """The folder of the lab, as a TOML file that did not change since it was looked at, or as a database."""
    settle(lab.parent)
    assert cli("ready", "node01", "node02").status == 0
    if request.param == "db":
        assert cli("copy", "bmh.toml", "copy.db").status == 0
        lab.unlink()
        (lab.parent / "copy.db").rename(lab.with_suffix(".db"))
    return lab.parent


@pytest.mark.parametrize("line", NEEDLESS)
def test_a_command_loads_only_the_libraries_that_it_uses(line: str, ready_lab: Path, cli: Cli) -> None:
    if line.startswith("taint"):
        assert cli("reserve", "node01").status == 0
    loaded = loaded_by(*line.split(), cwd=ready_lab)
    assert loaded & {*SLOW, *NEEDLESS[line]} == set()


def test_a_toml_inventory_that_did_not_change_is_not_parsed(lab: Path) -> None:
    for args in (["list"], ["status", "-o", "plain"], ["ready", "node01"], ["cordon", "node01"]):
        assert loaded_by(*args, cwd=lab.parent) & {"tomllib", "tomlkit", "bmhctl.stores.toml.editor"} == set()
    lab.touch()  # another modification time, the same bytes
    assert "tomllib" not in loaded_by("list", cwd=lab.parent)
    lab.write_text(lab.read_text() + "[hosts.node04]\n")
    assert "tomllib" in loaded_by("list", cwd=lab.parent)
    assert "tomllib" not in loaded_by("list", cwd=lab.parent)


def test_the_policy_parser_is_not_loaded_without_a_policy(tmp_path: Path, cli: Cli) -> None:
    for line in ("init", "add node01", "ready node01"):
        assert cli("-i", "lab.db", *line.split()).status == 0
    assert loaded_by("-i", "lab.db", "reserve", "node01", cwd=tmp_path) & PARSER == set()


def test_the_root_help_loads_no_command(tmp_path: Path) -> None:
    commands = {f"bmhctl.cli.{entry.module}" for group in COMMANDS.values() for entry in group.values()}
    assert loaded_by("--help", cwd=tmp_path) & {*commands, *SLOW} == set()


def test_a_command_does_not_load_the_modules_of_others(lab: Path) -> None:
    commands = {f"bmhctl.cli.{entry.module}" for group in COMMANDS.values() for entry in group.values()}
    assert loaded_by("list", cwd=lab.parent) & commands == {"bmhctl.cli.queries"}


Said = Callable[..., list[str]]


@pytest.fixture
def said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs a command on twenty hosts in a database; returns the statements that it issued, after those that open it."""
    connect = sqlite_database.connect

    def call(*args: str) -> list[str]:
        statements: list[str] = []

        def note(statement: str) -> None:
            # SQLite reports the statements of a trigger as the statement that fired it, once more.
            if not (statement.startswith("UPDATE hosts") and statement == statements[-1]):
                statements.append(statement)

        def traced(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            connection.set_trace_callback(note)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(sqlite_database, "connect", traced)
            done = cli("-i", "lab.db", *args)
        assert done.status == 0, done.stderr
        opening = ["PRAGMA user_version", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"]
        assert statements[: len(opening)] == opening
        return statements[len(opening) :]

    assert cli("-i", "lab.db", "init").status == 0
    assert cli("-i", "lab.db", "add", "node[01-20]", "--label", "arch=arm64").status == 0
    assert cli("-i", "lab.db", "ready", "node*").status == 0
    return call


@pytest.mark.parametrize(
    ("line", "queries"),
    [("list -o name", 1), ("list -l arch=arm64 -o name", 2), ("list", 2), ("show node01", 3), ("history node01", 2)],
)
def test_a_read_only_command_needs_few_queries_and_changes_nothing(line: str, queries: int, said: Said) -> None:
    kinds = Counter(statement.split()[0] for statement in said(*line.split()))
    assert kinds.pop("SELECT") == queries
    assert kinds in ({}, {"BEGIN": 1, "COMMIT": 1})  # a read transaction, for a consistent view


CHANGES = {
    ("reserve", "-l", "arch=arm64", "-n", "3"): {"reservations": 1, "hosts": 3, "events": 3},
    ("taint", "node01", "node02", "--force", "--reason", "drill"): {"hosts": 2, "events": 2, "reservations": 1},
    ("maintain", "node0*", "--reason", "drill"): {"hosts": 9, "events": 9},
    ("cordon", "node01"): {"hosts": 1, "events": 1},
}
"""The number of rows that a change writes in each table."""


@pytest.mark.parametrize("args", CHANGES, ids=" ".join)
def test_a_command_writes_its_rows_once_in_one_durable_commit(args: tuple[str, ...], said: Said, cli: Cli) -> None:
    if args[0] == "taint":
        assert cli("-i", "lab.db", "reserve", "node01", "node02").status == 0
    statements = said(*args)
    begins = [place for place, statement in enumerate(statements) if statement == "BEGIN IMMEDIATE"]
    assert len(begins) == 1
    inside = statements[begins[0] :]
    assert inside.count("COMMIT") == 1 == len(inside) - inside.index("COMMIT")
    written = Counter(statement.split()[2 if statement.startswith("INSERT") else 1] for statement in writes(statements))
    assert written == CHANGES[args]
    assert writes(inside) == writes(statements)


def writes(statements: Sequence[str]) -> list[str]:
    return [statement for statement in statements if statement.startswith(("INSERT", "UPDATE", "DELETE"))]


def test_a_reservation_takes_no_more_statements_in_a_larger_fleet(said: Said, cli: Cli) -> None:
    before = said("reserve", "-l", "arch=arm64")
    assert cli("-i", "lab.db", "add", "more[001-200]", "--label", "arch=arm64").status == 0
    assert cli("-i", "lab.db", "ready", "more*").status == 0
    assert len(said("reserve", "-l", "arch=arm64")) == len(before)
