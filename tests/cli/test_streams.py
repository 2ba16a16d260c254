"""Data on stdout and everything else on stderr, in every format, on a terminal and in a pipe."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Bmhctl, Cli, Terminal, error_of, json_of
from tests.conftest import Run

pytestmark = pytest.mark.slow

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

LOOKS: dict[str, tuple[list[str], set[str], str]] = {
    "list": (["list"], {"table", "plain", "json", "jsonl", "csv", "name"}, "hosts"),
    "show": (["show", "node01"], {"table", "plain", "json", "jsonl", "csv", "name"}, "host"),
    "reservations": (["reservations"], {"table", "plain", "json", "jsonl", "csv", "name"}, "reservations"),
    "history": (["history"], {"table", "plain", "json", "jsonl", "csv", "cloudevents"}, "history"),
    "status": (["status"], {"table", "plain", "json", "jsonl"}, "status"),
    "why": (["why", "node01"], {"table", "plain", "json", "jsonl"}, "why"),
    "graph": (["graph"], {"table", "plain", "json", "jsonl", "mermaid", "dot", "svg"}, "graph"),
    "graph of a host": (["graph", "node01"], {"table", "plain", "json", "jsonl", "mermaid", "dot", "svg"}, "graph"),
    "ready": (["ready", "node03"], {"table", "plain", "json", "jsonl", "csv", "name"}, "outcomes"),
    "reserve": (["reserve", "node02"], {"table", "plain", "json", "jsonl", "csv", "name"}, "grant"),
    "resume": (["resume", "node01", "--dry-run"], {"table", "plain", "json", "jsonl", "csv", "name"}, "plan"),
    "reap": (["reap"], {"table", "plain", "json", "jsonl", "csv", "name"}, "reservations"),
    "export": (["export"], {"json", "jsonl", "csv", "toml"}, "hosts"),
    "policy show": (["policy", "show"], {"table", "plain", "toml"}, ""),
    "doctor": (["doctor"], {"table", "plain", "json", "jsonl", "csv", "name"}, "diagnosis"),
    "copy": (["copy", "bmh.toml", "copy.db"], {"table", "plain", "json", "jsonl"}, "done"),
    "backup": (["backup", "backup.db"], {"table", "plain", "json", "jsonl"}, "done"),
}
FORMATS = ["table", "plain", "json", "jsonl", "csv", "name", "toml", "mermaid", "dot", "svg"]


@pytest.mark.parametrize(("args", "formats", "kind"), LOOKS.values(), ids=LOOKS)
def test_each_command_has_its_formats_and_refuses_the_others_before_it_does_anything(
    args: list[str], formats: set[str], kind: str, cli: Cli, fleet: str
) -> None:
    before = cli("history", "-o", "json").stdout.count("actor")
    for name in [each for each in FORMATS if each not in formats]:
        done = cli(*args, "-o", name)
        assert (done.status, done.stdout) == (2, "")
        assert f"{name}" in (error_of(done)["message"] if name in ("json", "jsonl") else done.stderr)
    assert cli("history", "-o", "json").stdout.count("actor") == before
    for name in [each for each in FORMATS if each in formats]:
        done = cli(*args, "-o", name)
        if done.status in (4, 5):
            continue  # the command with the previous format has already made the change
        assert done.status == 0
        notes = (
            done.stderr in ("", "no lease has expired: bmhctl reservations shows when each ends\n")
            or "still has the same" in done.stderr
        )
        assert notes or (args, name) == (["doctor"], "plain")
        assert "\x1b" not in done.stdout
        if name == "json":
            document = json.loads(done.stdout)
            assert (document["version"], document["kind"]) == (1, kind)
        if name == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
        if name == "csv":
            rows = list(csv.reader(io.StringIO(done.stdout)))
            assert len({len(row) for row in rows}) == 1
        if name == "name":
            assert all(re.fullmatch(r"[a-z0-9-]+", line) for line in done.stdout.splitlines())


def test_an_unknown_format_is_refused_with_the_known_ones(cli: Cli, lab: Path) -> None:
    assert cli("list", "-o", "parquet") == Run(
        2,
        "",
        "bmhctl: there is no output format 'parquet'\n"
        "hint: known: table, plain, json, jsonl, csv, name, toml, mermaid, dot, svg, metal3, ansible, "
        "ssh, known-hosts, dnsmasq, netbox, ics, cloudevents\n",
    )


def test_fields_choose_columns_and_keys_in_the_order_given(cli: Cli, lab: Path) -> None:
    chosen = ["list", "node01", "node02", "--fields", "state,name"]
    assert cli(*chosen) == Run(0, "STATE    NAME\ninitial  node01\ninitial  node02\n", "")
    assert cli(*chosen, "-o", "csv") == Run(0, "state,name\ninitial,node01\ninitial,node02\n", "")
    hosts = [{"state": "initial", "name": name} for name in ("node01", "node02")]
    assert json_of(cli(*chosen, "-o", "json"))["hosts"] == hosts
    done = cli(*chosen, "-o", "jsonl")
    assert [json.loads(line) for line in done.stdout.splitlines()] == hosts


def test_an_unknown_field_is_refused_with_the_nearest_and_all(cli: Cli, lab: Path) -> None:
    done = cli("list", "--fields", "name,adress")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "bmhctl: there is no field 'adress'\nhint: did you mean address? known: name, state, flags,"
    )
    assert cli("list", "-o", "name", "--fields", "name").status == 2


def test_an_empty_fields_option_is_a_usage_error(cli: Cli, lab: Path) -> None:
    for empty in ("", ",", " "):
        done = cli("list", "--fields", empty)
        assert done == Run(2, "", "bmhctl: --fields names no field\nhint: such as --fields name,state\n")


def test_in_a_pipe_a_list_is_plain_and_on_a_terminal_a_table(bmhctl: Bmhctl, terminal: Terminal, fleet: str) -> None:
    piped = bmhctl("list")
    assert piped.stderr == ""
    assert piped.stdout.splitlines()[0].split() == [
        "NAME",
        "STATE",
        "FLAGS",
        "SINCE",
        "OWNER",
        "UNTIL",
        "ADDRESS",
        "LABELS",
        "NOTE",
        "PURPOSE",
        "REASON",
    ]
    assert "\x1b" not in piped.stdout
    shown = terminal("list")
    assert shown.status == 0
    assert "\x1b[" in shown.text
    assert ESCAPE.sub("", shown.lines[0]).split()[:3] == ["NAME", "STATE", "SINCE"]
    assert "◆ reserved" in ESCAPE.sub("", shown.text)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_on_a_terminal_follows_the_environment(
    env: dict[str, str], coloured: bool, terminal: Terminal, lab: Path
) -> None:
    assert ("\x1b[" in terminal("list", **env).text) is coloured
    failed = terminal("show", "nowhere", **env)
    assert (failed.status, "\x1b[" in failed.text) == (3, coloured)
    assert ESCAPE.sub("", failed.text).startswith("bmhctl: nowhere: there is no such host\n")


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "0"}, False), ({"CI": "1"}, False)],
)
def test_colour_in_a_pipe_follows_the_environment(env: dict[str, str], coloured: bool, cli: Cli, lab: Path) -> None:
    done = cli("-i", "bmh.toml", "list", "-o", "table", **env)
    assert ("\x1b[" in done.stdout, done.stderr) == (coloured, "")
    assert ("\x1b[" in cli("-i", "bmh.toml", "show", "nowhere", **env).stderr) is coloured
    for machine in ("json", "csv", "name", "jsonl"):
        assert "\x1b" not in cli("-i", "bmh.toml", "list", "-o", machine, **env).stdout


def test_watch_with_forced_colour_shows_what_a_terminal_shows(cli: Cli, lab: Path) -> None:
    watched = {"FORCE_COLOR": "1", "COLUMNS": "100", "CI": ""}  # watch sets COLUMNS for what it runs
    for args, sign in (
        (("list",), "\x1b[2mNAME"),
        (("status",), "█"),
        (("history",), "\x1b["),
        (("why", "node01"), "\x1b["),
    ):
        assert sign in cli(*args, **watched).stdout, args
    assert "\x1b" not in cli("list", "-o", "plain", **watched).stdout


@pytest.mark.parametrize("env", [{"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1", "COLUMNS": "60", "CI": "true"}])
def test_forced_colour_does_not_change_the_rows_of_tables_in_a_pipe(env: dict[str, str], cli: Cli, lab: Path) -> None:
    for args in (("list",), ("reservations",), ("history",), ("show", "node01"), ("list", "--fields", "name,note")):
        shown = cli("-i", "bmh.toml", *args, **env).stdout
        assert shown.splitlines()[0] == cli(*args).stdout.splitlines()[0], args
        assert "\x1b" not in shown
    assert "\x1b[" in cli("-i", "bmh.toml", "status", **env).stdout


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("args", [["list"], ["status"], ["graph"], ["reservations"]], ids=" ".join)
def test_a_terminal_of_any_width_shows_every_name_whole_and_no_line_wraps(
    args: list[str], width: int, terminal: Terminal, cli: Cli, lab: Path
) -> None:
    long = "rack1-unit02-blade-07-left"
    cli("add", long, "--address", "a-long-dns-name.of-the-host.lab.example.com", "--label", "arch=x86_64")
    cli("set", long, "--note", "the machine whose left fan makes a noise when it is cold, in the corner")
    cli("ready", long)
    cli("reserve", long, "--for", "a purpose that takes quite some words to be explained to others, really")
    shown = terminal(*args, width=width, NO_COLOR="1")
    assert shown.status == 0
    assert max(map(len, shown.lines)) <= width
    if args != ["graph"]:
        assert any(long in line for line in shown.lines)


def test_quiet_prints_only_errors_and_data(cli: Cli) -> None:
    assert cli("-i", "bmh.toml", "init", "-q") == Run(0, "", "")
    assert cli("add", "node01", "-q") == Run(0, "", "")
    assert cli("ready", "node01", "-q") == Run(0, "", "")
    assert cli("list", "-q", "-o", "name") == Run(0, "node01\n", "")
    assert cli("reserve", "node01", "-q", "-o", "name") == Run(0, "node01\n", "")
    done = cli("reserve", "node01", "-q")
    assert (done.status, done.stdout) == (5, "")
    assert done.stderr.startswith("bmhctl: node01: is reserved by alice")


def test_notes_are_printed_on_stderr_and_are_part_of_the_json_document(cli: Cli) -> None:
    done = cli("-i", "lab.toml", "init")
    assert done.stderr == "next: bmhctl -i lab.toml add node01\n"
    assert "next:" not in done.stdout
    document: Any = json_of(cli("-i", "lab2.toml", "init", "-o", "json"))
    assert document["notes"] == ["next: bmhctl -i lab2.toml add node01"]


def test_warnings_are_lines_of_json_at_the_end_or_a_part_of_the_failure(cli: Cli, tmp_path: Path) -> None:
    note = "made bmh.state.db: all hosts are initial (if this file existed before, restore it)"
    for name, stderr in (
        ("node01", {"version": 1, "note": note}),
        ("node99", {"notes": [note]}),
    ):
        (tmp_path / "bmh.state.db").unlink(missing_ok=True)
        (tmp_path / "bmh.toml").write_text("[hosts.node01]\n")
        done = cli("ready", name, "-o", "json")
        assert stderr == (error_of(done)["details"] if name == "node99" else json.loads(done.stderr))
        (tmp_path / "bmh.state.db").unlink()
        assert cli("ready", "node01", "-o", "json", "-q").stderr == ""


def test_characters_that_the_encoding_lacks_are_written_as_escapes(bmhctl: Bmhctl, fleet: str) -> None:
    for args in (["list", "-o", "table"], ["graph", "node01"], ["status"], ["ready", "node03"], ["ready", "--help"]):
        done = bmhctl(*args, PYTHONIOENCODING="latin-1", LC_ALL="C")
        assert (done.status, done.stderr) == (0, "")
        assert done.stdout.isascii()
