"""``help``: the pages of the manual on a terminal and in a pipe, and the options of commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bmhctl.cli.commands import COMMANDS
from bmhctl.docs import TOPICS, page, topics
from tests.cli.conftest import Bmhctl, Cli, Terminal, error_of
from tests.conftest import environment

NAMES = [name for group in COMMANDS.values() for name in group]


def test_help_without_a_name_lists_every_page_with_its_title(cli: Cli) -> None:
    done = cli("help")
    assert (done.status, done.stderr) == (0, "")
    listed = dict(re.findall(r"(?m)^  (\w+) +(.+)$", done.stdout))
    assert listed == topics()
    assert list(listed) == list(TOPICS)
    assert "bmhctl help COMMAND" in done.stdout


def test_the_names_of_the_pages_are_listed_for_scripts(cli: Cli) -> None:
    assert cli("help", "-o", "name").stdout.split() == list(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_a_page_in_a_pipe_is_plain_text_with_full_links(name: str, cli: Cli) -> None:
    done = cli("help", name)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == page(name)
    assert done.stdout.startswith(f"# {topics()[name]}\n")
    assert not re.search(r"\x1b|<!--|\.md\)|\]\(#", done.stdout)
    for other in re.findall(r"`bmhctl help (\w+)`", done.stdout):
        assert other in (*TOPICS, "COMMAND")


def test_a_page_on_a_terminal_is_wrapped_to_its_width(terminal: Terminal) -> None:
    screen = terminal("help", "output", width=70)
    assert screen.status == 0
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.lines]
    assert max(map(len, plain)) <= 70
    assert not any(line.startswith(("#", "```", "|")) for line in plain)
    assert re.search(r"\x1b\[[\d;]*mExit statuses", screen.text)
    assert any(re.match(r" *11 +unreachable +the inventory", line) for line in plain)


def test_no_colour_is_written_where_none_is_requested(terminal: Terminal) -> None:
    assert "\x1b" not in terminal("help", "ci", NO_COLOR="1").text


def test_a_page_without_colours_underlines_its_headings_and_keeps_the_backticks_of_code(terminal: Terminal) -> None:
    text = terminal("help", "ci", NO_COLOR="1").text.replace("\r\n", "\n")
    assert "\nRun a command on reserved hosts\n-------------------------------\n" in text
    assert "\n`run` reserves hosts, runs your command" in text
    assert not [line for line in text.splitlines() if line.endswith(" ")]


@pytest.mark.parametrize("words", [("--help",), ("history", "--help"), ("help", "queue")])
@pytest.mark.parametrize("width", [40, 60])
def test_help_is_no_wider_than_a_narrow_terminal(words: tuple[str, ...], width: int, terminal: Terminal) -> None:
    text = terminal(*words, width=width).text
    assert width // 2 < max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", ["reserve", "policy show", "policy", "queue", "queue cancel", "run", "help"])
def test_the_name_of_a_command_shows_its_help(name: str, cli: Cli) -> None:
    done = cli("help", *name.split())
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == cli(*name.split(), "--help").stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [("posgresql", "postgresql"), ("inventry", "inventory"), ("resrve", "reserve"), ("queue cancle", None)],
)
def test_an_unknown_name_is_refused_with_the_nearest_one_and_the_list(words: str, meant: str | None, cli: Cli) -> None:
    done = cli("help", *words.split())
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bmhctl: there is no page or command {words!r}\nhint: ")
    assert meant is None or f"did you mean {meant}?" in done.stderr
    assert "bmhctl help lists the pages, bmhctl --help the commands\n" in done.stderr
    assert error_of(cli("help", *words.split(), "-o", "json"))["details"] == {"topics": list(TOPICS)}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("label", "pages that mention it: formats, operators, selectors; bmhctl help lists the pages, "),
        ("labels", "pages that mention it: formats, operators, selectors; bmhctl help lists the pages, "),
        ("zorgel", "bmhctl help lists the pages, "),
    ],
)
def test_the_refusal_of_a_word_names_the_pages_that_mention_it_most(word: str, hint: str, cli: Cli) -> None:
    assert cli("help", word).stderr.partition("\nhint: ")[2].startswith(hint)


def test_no_page_has_the_name_of_a_command() -> None:
    assert {name.split(" ")[0] for name in NAMES}.isdisjoint(TOPICS)


def test_the_root_help_and_the_welcome_name_the_manual(cli: Cli) -> None:
    assert "bmhctl help lists the pages of the manual" in cli("--help").stdout
    assert "The manual: bmhctl help." in cli().stdout


def test_only_the_refusal_of_a_too_large_count_names_the_largest_one(cli: Cli) -> None:
    assert "1000000000" not in cli("reserve", "--help").stdout
    refused = cli("-i", "lab.db", "reserve", "-n", "1000000001")
    assert (refused.status, refused.stderr.splitlines()[0]) == (
        2,
        "bmhctl: invalid value for '-n' / '--count': 1000000001 is not in the range x<=1000000000",
    )


@pytest.mark.parametrize("options", [[], ["--no-pager"]])
def test_the_tables_of_a_page_are_ascii_where_stdout_is(options: list[str], bmhctl: Bmhctl, terminal: Terminal) -> None:
    args = ["help", "output", *options]
    piped = bmhctl(*args, "-o", "table", PYTHONIOENCODING="ascii")
    shown = terminal(*args, PYTHONIOENCODING="ascii", PAGER="sed s/^/|/" if not options else "false")
    for status, text in ((piped.status, piped.stdout), (shown.status, shown.text)):
        assert (status, "+---" in text, "\\u2500" in text) == (0, True, False)


def test_a_long_page_goes_through_the_pager_of_a_terminal(terminal: Terminal, cli: Cli) -> None:
    shown = terminal("help", "inventory", PAGER="sed s/inventory/INVENTORY/")
    assert (shown.status, "INVENTORY" in shown.text) == (0, True)
    assert "inventory" in terminal("help", "inventory", "--no-pager", PAGER="sed s/inventory/X/").text
    for pager in ("cat", "", "no-such-pager"):
        assert "The inventory" in terminal("help", "inventory", PAGER=pager).text
    assert "The inventory" in cli("help", "inventory", PAGER="false").stdout


def test_a_page_is_written_at_once_where_the_pager_has_an_unbalanced_quote(terminal: Terminal, cli: Cli) -> None:
    shown, piped = terminal("help", "inventory", PAGER="less '"), cli("help", "inventory", PAGER="less '")
    assert (shown.status, "The inventory" in shown.text) == (0, True)
    assert (piped.status, "The inventory" in piped.stdout) == (0, True)


@pytest.mark.parametrize("pager", ["./no-program", "./no-such-pager", "env no-such-pager", "sh -c ./no-program"])
def test_a_page_is_written_at_once_where_the_pager_cannot_be_run(
    pager: str, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "no-program").write_bytes(b"\x7fELF")
    (tmp_path / "no-program").chmod(0o755)
    shown = terminal("help", "inventory", PAGER=pager)
    assert (shown.status, "The inventory" in shown.text, "Traceback" in shown.text) == (0, True, False)


def test_a_short_text_and_a_pager_that_ends_early_are_not_failures(terminal: Terminal) -> None:
    assert "Usage: bmhctl init" in terminal("help", "init", PAGER="false").text
    assert terminal("help", "inventory", PAGER="true").status == 0


def test_without_docstrings_the_help_of_a_command_has_its_line_in_the_root_help(tmp_path: Path) -> None:
    line = [sys.executable, "-OO", "-B", "-m", "bmhctl", "reserve", "--help"]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert "\n  Reserve hosts, all or none\n" in done.stdout
