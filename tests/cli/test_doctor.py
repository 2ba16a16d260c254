"""The command doctor: exit status, stdout and stderr, in every format, on a terminal and in a pipe."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Terminal, error_of, files, json_of


@pytest.fixture
def broken(fleet: str, lab: Path) -> Path:
    """An inventory with wrong selector data for node02, which can be fixed, and a gap in the history of node01."""
    with sqlite3.connect(lab.with_name("bmh.state.db")) as connection:
        connection.execute("DELETE FROM facts WHERE host_id = 2 AND key = 'rack'")
        connection.execute("DELETE FROM events WHERE host = 'node01' AND verb = 'ready'")
    connection.close()
    return lab


GAP = "a gap in its history: event 6, reserve, begins at available, the event before it ended at initial"
LET_GO = (
    "restore a backup; or clean it by hand, then remove it and add it again: "
    "bmhctl remove node01 --force --reason 'broken history'; bmhctl add node01"
)


def test_a_healthy_inventory_is_status_0_with_a_line_on_stderr_and_nothing_is_written(
    cli: Cli, fleet: str, lab: Path
) -> None:
    before = files(lab.parent)
    for fix in ([], ["--fix"]):
        done = cli("doctor", *fix)
        assert (done.status, done.stdout) == (0, "SEVERITY  FIXED  KIND  HOST  MESSAGE  REMEDY\n")
        assert done.stderr == f"{lab}: healthy\n"
        assert cli("doctor", *fix, "-q").stderr == ""
    document = json_of(cli("doctor", "-o", "json"))
    assert document == {
        "version": 1,
        "kind": "diagnosis",
        "now": document["now"],
        "inventory": str(lab),
        "healthy": True,
        "backup": None,
        "counts": {"hosts": 3, "events": 6, "reservations": 1},
        "findings": [],
    }
    assert files(lab.parent) == before


def test_an_inventory_with_only_warnings_is_status_0(cli: Cli, lab: Path) -> None:
    lab.write_text(lab.read_text().replace('address = "10.0.0.12"', 'mac = "bc:55:85:92:de:01"'))
    cli("list")
    done = cli("doctor", "-o", "csv", "--fields", "severity,host,message")
    assert (done.status, done.stdout, done.stderr) == (
        0,
        "severity,host,message\nwarning,node01,has the MAC bc:55:85:92:de:01 of node02\n",
        "",
    )


def test_a_broken_inventory_is_status_10_with_an_error_on_stderr_and_rows_on_stdout(cli: Cli, broken: Path) -> None:
    before = files(broken.parent)
    done = cli("doctor")
    assert (done.status, done.stderr) == (
        10,
        f"bmhctl: {broken}: 2 things are broken\nhint: bmhctl doctor --fix repairs 1 of them, after a backup\n",
    )
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["SEVERITY", "broken", "broken"]
    assert GAP in done.stdout
    assert LET_GO in done.stdout
    assert files(broken.parent) == before


def test_doctor_exits_with_0_when_it_has_fixed_everything(cli: Cli, fleet: str, lab: Path) -> None:
    with sqlite3.connect(lab.with_name("bmh.state.db")) as connection:
        connection.execute("DELETE FROM facts WHERE host_id = 2")
    connection.close()
    assert cli("doctor").status == 10
    done = cli("doctor", "--fix")
    assert (done.status, done.stdout.splitlines()[1][:30]) == (0, "broken    yes    facts  node02")
    backup = lab.parent / next(name for name in files(lab.parent) if "before-doctor" in name)
    assert done.stderr == f"{lab}: healthy · 1 fixed\nbackup from before the fix: {backup}\n"
    assert cli("doctor", "-i", str(backup)).status == 10, "it is an inventory as broken as that one was"
    assert cli("doctor", "--fix", "-o", "name").stdout == ""
    assert cli("list", "-l", "rack=r2", "-o", "name").stdout == "node02\nnode03\n"


def test_doctor_exits_with_10_when_something_is_still_broken_after_a_fix(cli: Cli, broken: Path) -> None:
    done = cli("doctor", "--fix", "-o", "json")
    document = json.loads(done.stdout)
    assert (done.status, document["healthy"], Path(document["backup"]).exists()) == (10, False, True)
    assert [(each["kind"], each["host"], each["fixed"]) for each in document["findings"]] == [
        ("history", "node01", False),
        ("facts", "node02", True),
    ]
    assert document["findings"][0] == {
        "kind": "history",
        "severity": "broken",
        "host": "node01",
        "message": GAP,
        "remedy": LET_GO,
        "fixable": False,
        "fixed": False,
        "number": 1,
    }
    error = error_of(done)
    assert (error["code"], error["message"], error["hint"]) == ("invalid", f"{broken}: 1 thing is broken", None)
    assert error["details"] == {"broken": 1, "fixable": 0}


def test_each_format_shows_the_findings(cli: Cli, broken: Path) -> None:
    assert cli("doctor", "-o", "name").stdout == "node01\nnode02\n"
    assert [json.loads(line)["host"] for line in cli("doctor", "-o", "jsonl").stdout.splitlines()] == [
        "node01",
        "node02",
    ]
    assert cli("doctor", "--fields", "host,kind").stdout == "HOST    KIND\nnode01  history\nnode02  facts\n"
    done = cli("doctor", "-o", "toml")
    assert (done.status, done.stdout) == (2, "")


def test_a_terminal_shows_findings_and_remedies(terminal: Terminal, broken: Path) -> None:
    screen = terminal("doctor", width=180, NO_COLOR="1")
    assert screen.status == 10
    assert screen.lines[0].startswith(f"{broken}  3 hosts · 5 events · 1 reservation · ")
    assert screen.lines[2:] == [
        f"✗ history  node01: {GAP}",
        f"           → {LET_GO}",
        "✗ facts    node02: selectors see other values than declared: rack",
        "           → bmhctl doctor --fix makes them see what is declared",
        "",
        "✗ 2 broken",
        f"bmhctl: {broken}: 2 things are broken",
        "hint: bmhctl doctor --fix repairs 1 of them, after a backup",
    ]


def test_a_terminal_shows_health_in_colour(terminal: Terminal, fleet: str) -> None:
    screen = terminal("doctor")
    assert (screen.status, screen.lines[-1]) == (0, "\x1b[1;32m✓ healthy\x1b[0m")


@pytest.mark.parametrize("fix", [[], ["--fix"]])
def test_an_inventory_that_no_other_command_opens_is_a_finding(fix: list[str], cli: Cli, fleet: str, lab: Path) -> None:
    lab.write_text("[hosts")
    assert cli("list").status == 10
    done = cli("doctor", "-o", "csv", "--fields", "kind,severity,message", *fix)
    assert (done.status, done.stdout) == (
        10,
        "kind,severity,message\ndeclaration,broken,bmh.toml:1:7: Expected ']' at the end of a table declaration\n",
    )
    lab.with_name("bmh.state.db").write_bytes(b"garbage" * 100)
    done = cli("doctor", "-o", "csv", "--fields", "kind", *fix)
    assert (done.status, done.stdout) == (10, "kind\ndeclaration\ndamage\n")


def test_a_missing_inventory_is_status_11_and_a_state_file_is_status_2(cli: Cli, fleet: str) -> None:
    done = cli("doctor", "-i", "nowhere.db")
    assert (done.status, done.stdout) == (11, "")
    assert done.stderr.startswith("bmhctl: there is no inventory at")
    done = cli("doctor", "-i", "bmh.state.db")
    assert (done.status, done.stdout) == (2, "")
    assert "is the state file of bmh.toml, not an inventory" in done.stderr
