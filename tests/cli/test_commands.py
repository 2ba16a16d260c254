"""Every command of the table: its help, the global options, unknown options; and the program itself."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bmhctl.cli.app import application, build_command
from bmhctl.cli.commands import COMMANDS, ENTRIES
from bmhctl.cli.session import Invocation
from bmhctl.errors import NotFoundError
from tests.cli.conftest import Cli, error_of
from tests.conftest import Bmhctl, Run, environment

NAMES = [name for group in COMMANDS.values() for name in group]
HELPS = {name: entry.help for group in COMMANDS.values() for name, entry in group.items()}

ARGUMENTS: dict[str, list[str]] = {
    "init": [],
    "add": ["node09"],
    "set": ["node01", "--note", "new"],
    "rename": ["node01", "node09"],
    "remove": ["node01"],
    "undo": [],
    "import": ["/dev/null"],
    "export": [],
    "copy": ["bmh.toml", "copy.db"],
    "policy show": [],
    "policy check": [],
    "policy apply": ["/dev/null"],
    "schema": [],
    "policy grants": [],
    "ready": ["node03"],
    "reserve": ["node02"],
    "taint": ["node01"],
    "release": ["node01"],
    "reset": ["node01"],
    "maintain": ["node01", "--reason", "disk"],
    "resume": ["node01"],
    "cordon": ["node01"],
    "uncordon": ["node01"],
    "retire": ["node02", "--reason", "too old"],
    "reservations": [],
    "run": ["--host", "node02", "true"],
    "extend": ["-R", "{held}"],
    "handover": ["{held}", "--to", "bob"],
    "share": ["{held}", "--with", "bob"],
    "replace": ["node01", "-R", "{held}", "--reason", "dead fan"],
    "queue": [],
    "queue cancel": ["1"],
    "queue move": ["1", "--first", "--reason", "release"],
    "bookings": [],
    "bookings cancel": ["b-none"],
    "bookings move": ["b-none", "--from", "2h"],
    "remind": [],
    "reap": [],
    "check": ["node03"],
    "power": ["node01", "status"],
    "boot-once": ["node01", "pxe"],
    "inspect": ["node01"],
    "recycle": [],
    "list": [],
    "show": ["node01"],
    "status": [],
    "stats": [],
    "timeline": [],
    "report": [],
    "metrics": [],
    "why": ["node01"],
    "history": [],
    "wait": ["node01", "--for", "reserved"],
    "graph": [],
    "doctor": [],
    "backup": ["backup.db"],
    "help": [],
    "completion": ["bash"],
}
"""The arguments of each command; add new commands here. ``{held}`` is the id of the reservation in ``fleet``."""


def words_of(name: str, held: str = "r-none", *added: str) -> list[str]:
    """Return a command with its arguments; additional options come before the arguments that ``run`` passes on."""
    arguments = [argument.format(held=held) for argument in ARGUMENTS[name]]
    passed_on = arguments.pop() if name == "run" else None
    return [*name.split(), *arguments, *added, *([passed_on] if passed_on else [])]


OWN = {"run": 125}
"""Commands that pass on another program's status, and the status of all their own failures."""


def test_the_table_of_example_arguments_has_every_command() -> None:
    assert list(ARGUMENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_in_plain_text(name: str, cli: Cli) -> None:
    for option in ("--help", "-h"):
        done = cli(*name.split(), option, FORCE_COLOR="1", CI="1")
        assert (done.status, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: bmhctl {name} ")
        assert "\x1b" not in done.stdout
        assert not any(box in done.stdout for box in "─│╭")
        for given in ("--inventory", "--as", "--output", "--quiet", "--verbose", "--help"):
            assert given in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_every_command_refuses_an_unknown_option(name: str, cli: Cli, lab: Path) -> None:
    before = lab.read_bytes()
    done = cli(*words_of(name, "r-none", "--bogus"))
    assert (done.status, done.stdout) == (OWN.get(name, 2), "")
    assert done.stderr.startswith("bmhctl: no such option: --bogus")
    assert done.stderr.endswith(f"hint: bmhctl {name} --help\n")
    done = cli(*words_of(name, "r-none", "-o", "json", "--bogus"))
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["status"], error["hint"]) == ("usage", 2, f"bmhctl {name} --help")
    assert lab.read_bytes() == before


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("init", "copy", "help", "completion", "schema")]
)
def test_every_command_takes_the_global_options_before_and_after_its_name(name: str, cli: Cli) -> None:
    words = name.split()
    given = ["-i", "nowhere.db", "--as", "carol", "-q", "-v"]
    expected = "bmhctl: there is no inventory at {}/nowhere.db\nhint: create one: bmhctl -i {}/nowhere.db init\n"
    missing = expected.format(Path.cwd(), Path.cwd())
    between = [words[0], *given, *words[1:]]
    arguments = words_of(name)[len(words) :]
    for line in ([*given, *words], between, [*words, *given]):
        assert cli(*line, *arguments) == Run(OWN.get(name, 11), "", missing)


REFUSED = {
    "init": 4,
    "import": 10,
    "remove": 4,
    "undo": 4,
    "reset": 4,
    "policy apply": 2,
    "policy grants": 2,
    "replace": 5,
    "queue cancel": 3,
    "queue move": 3,
    "bookings cancel": 3,
    "bookings move": 3,
    "power": 9,
    "boot-once": 9,
    "inspect": 9,
}
"""The commands of ARGUMENTS that can't do their work in the fleet, each with its exit status."""


@pytest.mark.parametrize("name", NAMES)
def test_every_command_prints_only_errors_on_stderr_with_q(name: str, cli: Cli, fleet: str) -> None:
    done = cli(*words_of(name, fleet, "-q"))
    assert done.status == REFUSED.get(name, 0)
    assert done.stderr.startswith("bmhctl: ") if done.status else done.stderr == ""


def test_the_later_global_option_wins(cli: Cli, lab: Path) -> None:
    assert cli("-i", "nowhere.db", "list", "-i", "bmh.toml", "-o", "name").status == 0
    assert cli("-i", "bmh.toml", "list", "-i", "nowhere.db", "-o", "name").status == 11


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["-i", "", "list"], "--inventory FILE"),
        (["list", "-i", ""], "--inventory FILE"),
        (["--as", "", "list"], "--as ACTOR"),
        (["list", "-o", ""], "--output FORMAT"),
    ],
)
def test_an_empty_global_option_is_a_usage_error(args: list[str], option: str, cli: Cli, lab: Path) -> None:
    word = option.split(" ")[0]
    assert cli(*args) == Run(2, "", f"bmhctl: {word} is given, but empty\nhint: give it a value: {option}\n")


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name != "run"])
def test_an_empty_argument_is_a_usage_error(name: str, cli: Cli, lab: Path) -> None:
    """It may be a variable of a script without a value."""
    done = cli(*name.split(), "")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] in ("bmhctl: an argument is empty", "bmhctl: no such command ''")


@pytest.mark.parametrize(
    "line",
    ["release -R", "taint node01 --fault", "reserve --booking", "report --to", "remind --exec", "policy check --file"],
)
def test_an_empty_value_of_an_option_that_needs_one_is_a_usage_error(line: str, cli: Cli, lab: Path) -> None:
    option = line.split(" ")[-1]
    said = f"bmhctl: {option} is given, but empty\nhint: give it a value, or leave it out: {option}\n"
    assert cli(*line.split(), "") == Run(2, "", said)
    if option != "-R":
        assert cli(*line.split()[:-1], f"{option}=") == Run(2, "", said)


def test_bmhctl_without_arguments_prints_three_commands_to_try_first(bmhctl: Bmhctl) -> None:
    assert bmhctl() == Run(
        0,
        """\
bmhctl: share bare-metal hosts. Three commands to try first:

  bmhctl -i bmh.toml init                     create an inventory in this folder
  bmhctl add 'node[01-03]' --label rack=r1    put hosts into it
  bmhctl status                               show the fleet on one screen

All commands: bmhctl --help. About one: bmhctl reserve --help.
The manual: bmhctl help.
""",
        "",
    )


def test_the_three_commands_to_try_first_work(cli: Cli) -> None:
    assert cli("-i", "bmh.toml", "init").status == 0
    assert cli("add", "node[01-03]", "--label", "rack=r1").status == 0
    assert cli("status").status == 0


def test_the_root_help_shows_every_command_with_its_help(cli: Cli) -> None:
    done = cli("--help")
    assert (done.status, done.stderr) == (0, "")
    for title, group in COMMANDS.items():
        assert f"\n{title}:\n" in done.stdout
        for name, entry in group.items():
            assert f"  {name} " in done.stdout
            assert entry.help in done.stdout


def test_a_group_without_a_command_says_that_one_is_missing(cli: Cli) -> None:
    assert cli("policy") == Run(
        2, "", "bmhctl: missing command\nhint: bmhctl policy show|check|apply|grants; see bmhctl policy --help\n"
    )
    assert cli("-q") == Run(2, "", "bmhctl: missing command\nhint: bmhctl --help\n")
    assert error_of(cli("policy", "-o", "json"))["code"] == "usage"


def test_one_group_runs_its_commands_and_the_command_alone_in_any_order(
    cli: Cli, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli("init").status == 0
    root: Any = application()
    group = root.get_command(None, "queue")
    root.get_command = lambda *_: group  # so that both calls use one object
    printed = []
    for args in (["-o", "csv"], ["cancel", "9"], ["-o", "csv"]):
        with suppress(NotFoundError), root.make_context("bmhctl", ["queue", *args], obj=Invocation()) as ctx:
            root.invoke(ctx)
        sys.stdout.flush()
        printed.append(capfd.readouterr().out)
    assert printed[0].startswith("ticket,")
    assert printed == [printed[0], "", printed[0]]


def test_an_unknown_command_is_a_usage_error(cli: Cli) -> None:
    assert cli("lst") == Run(
        2, "", "bmhctl: no such command 'lst'\nhint: did you mean bmhctl list? See bmhctl --help\n"
    )
    assert cli("policy", "lst") == Run(2, "", "bmhctl: no such command 'lst'\nhint: bmhctl policy --help\n")
    assert error_of(cli("-o", "json", "lst"))["code"] == "usage"
    assert error_of(cli("lst", "--output=jsonl"))["code"] == "usage"
    assert error_of(cli("lst", "-ojson"))["code"] == "usage"
    assert error_of(cli("lst", "-qvo", "json"))["code"] == "usage"
    assert error_of(cli("lst", "-qojson"))["code"] == "usage"


def test_the_version_option_prints_the_version(bmhctl: Bmhctl) -> None:
    assert bmhctl("--version") == Run(0, f"bmhctl {version('bmhctl')}\n", "")


def test_python_m_bmhctl_and_the_installed_command_do_the_same(tmp_path: Path) -> None:
    ends = [
        subprocess.run([*program, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        for program in ([sys.executable, "-m", "bmhctl"], [str(Path(sys.executable).with_name("bmhctl"))])
    ]
    assert [(end.returncode, end.stdout, end.stderr) for end in ends] == [(0, f"bmhctl {version('bmhctl')}\n", "")] * 2


@pytest.mark.parametrize(
    ("line", "message", "meant"),
    [
        (
            "queue --watch 5s move 3 --first --reason x",
            "--watch is an option of bmhctl queue, not of bmhctl queue move",
            "bmhctl queue move 3 --first --reason x",
        ),
        (
            "bookings --owner bob cancel b-1",
            "--owner is an option of bmhctl bookings, not of bmhctl bookings cancel",
            "bmhctl bookings cancel b-1",
        ),
    ],
)
def test_an_option_of_a_listing_is_refused_before_a_command_of_its_group(
    line: str, message: str, meant: str, cli: Cli, lab: Path
) -> None:
    assert cli(*line.split()) == Run(2, "", f"bmhctl: {message}\nhint: leave it out: {meant}\n")


@pytest.mark.parametrize(("command", "interval"), [("recycle", "30s"), ("status", "2s")])
def test_each_command_with_watch_has_a_default_interval(command: str, interval: str) -> None:
    parsed: Any = build_command(command, ENTRIES[command])
    assert parsed.make_context(command, ["--watch"]).params["watch"] == interval
