"""Untrusted text never controls a terminal, a spreadsheet or a browser, and secrets are never printed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Cli, Terminal, json_of

EVIL = "=[red]\x1b[31mX\x1b]0;t\x07\nline2\r\u202eevil\u2066 <script>\"'&;`"
SHOWN = "\\x1b[31mX\\x1b]0;t\\x07\\nline2\\r\\u202eevil\\u2066"

VIEWS = [
    ["list"],
    ["list", "--fields", f"name,labels.{EVIL}"],
    ["show", "node01"],
    ["show", "node02"],
    ["status"],
    ["why", "node01"],
    ["why", "node02"],
    ["history"],
    ["history", "node01"],
    ["graph", "node01"],
    ["graph", "node02"],
    ["reservations"],
    ["resume", "node02", "--dry-run"],
]


@pytest.fixture
def evil(lab: Path, cli: Cli) -> None:
    """A reservation, a maintenance, a cordon, a fault and an owner with hostile texts."""
    cli("ready", "node01", "node02")
    assert cli("cordon", "node02", "--reason", EVIL, "--as", EVIL).status == 0
    assert cli("maintain", "node02", "--reason", EVIL, "--as", EVIL).status == 0
    assert cli("reserve", "node01", "--for", EVIL, "--as", EVIL).status == 0
    assert cli("ready", "node03").status == 0
    assert cli("set", "node03", "--note", "=1+1 [red]x[/red] <b>&").status == 0


def harmless(text: str) -> bool:
    return all(c == "\n" or (c.isprintable() and c not in "\u202e\u2066") for c in text)


@pytest.mark.parametrize("args", VIEWS, ids=" ".join)
def test_no_view_prints_escape_sequences_from_untrusted_text(args: list[str], cli: Cli, evil: None) -> None:
    for output in ("table", "plain", "csv", "json", "jsonl", "name", "svg", "dot", "mermaid"):
        done = cli(*args, "-o", output)
        assert done.status in (0, 2)
        assert harmless(done.stdout)
        assert harmless(done.stderr)
        assert "line2" not in [line.strip() for line in done.stdout.splitlines()]


def test_the_only_escape_sequences_on_a_terminal_are_bmhctls_colours(terminal: Terminal, evil: None) -> None:
    for args in (["list"], ["why", "node02"], ["graph", "node02"]):
        shown = terminal(*args, width=200, NO_COLOR="1")
        assert shown.status == 0
        assert harmless(shown.text)
        assert "\\x1b[31mX" in shown.text
        assert "[red]" in shown.text


def test_markup_is_shown_as_it_was_written(cli: Cli, evil: None) -> None:
    assert "[red]x[/red]" in cli("list", "-o", "table", COLUMNS="400").stdout
    assert f"=[red]{SHOWN}" in cli("why", "node02").stdout


def test_json_has_the_untrusted_text_unchanged(cli: Cli, evil: None) -> None:
    hosts = json_of(cli("list", "node01", "node02", "-o", "json"))["hosts"]
    assert hosts[0]["purpose"] == hosts[0]["owner"] == hosts[1]["cordon"]["reason"] == EVIL


def test_no_csv_cell_begins_a_formula_and_every_record_is_one_line(cli: Cli, evil: None) -> None:
    for args in (["list"], ["history"], ["reservations"]):
        text = cli(*args, "-o", "csv").stdout
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) == len(text.splitlines())
        assert all(cell[:1] not in {"=", "+", "-", "@", "\t", "\r"} for row in rows for cell in row)
    assert any("'=1+1" in line for line in cli("list", "-o", "csv").stdout.splitlines())


def test_a_drawing_is_well_formed_with_any_untrusted_text(cli: Cli, evil: None) -> None:
    for host in ("node01", "node02"):
        root = ElementTree.fromstring(cli("graph", host, "-o", "svg").stdout)
        assert {each.tag.rpartition("}")[2] for each in root.iter()}.isdisjoint({"script", "foreignObject"})
        assert "<script>" not in cli("graph", host, "-o", "mermaid").stdout
        assert "<script>" not in cli("graph", host, "-o", "svg").stdout
        dot = cli("graph", host, "-o", "dot").stdout
        assert all(line.replace('\\"', "").count('"') % 2 == 0 for line in dot.splitlines())


@pytest.mark.parametrize(
    "args",
    [
        [EVIL],
        ["list", EVIL],
        ["show", EVIL],
        ["list", "-l", EVIL],
        ["list", "--fields", EVIL],
        ["list", "--state", EVIL],
        ["list", "-o", EVIL],
        ["-i", EVIL, "list"],
        ["-i", f"{EVIL}.db", "list"],
        ["add", EVIL],
        ["add", "node09", "--address", EVIL],
        ["add", "node09", "--note", EVIL],
        ["release", "-R", EVIL],
        [f"--{EVIL}"],
        ["policy", "apply", EVIL],
    ],
    ids=lambda args: args[0] if args[0] != EVIL else "command",
)
def test_no_error_prints_escape_sequences_from_its_argument(args: list[str], cli: Cli, lab: Path) -> None:
    done = cli(*args)
    assert done.status in (2, 3, 11)
    assert done.stdout == ""
    assert done.stderr.startswith("bmhctl: ")
    assert harmless(done.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ["add", "node09", "--note", EVIL],
        ["add", "node09", "--label", f"rack={EVIL}"],
        ["add", "node09", "--label", f"{EVIL}=r1"],
        ["add", "node09", "--hardware", f"disk={EVIL}"],
        ["add", "node09", "--bmc", f"https://{EVIL}"],
        ["rename", "node01", EVIL],
    ],
)
def test_text_with_control_characters_is_refused_in_a_declaration(args: list[str], cli: Cli, lab: Path) -> None:
    before = lab.read_bytes()
    assert cli(*args).status == 2
    assert lab.read_bytes() == before


SECRET = "hunter2-the-password"


def test_a_secret_that_is_referred_to_is_never_printed(cli: Cli, lab: Path) -> None:
    cli("cordon", "node01", LAB_BMC=SECRET)
    for args in (["list"], ["show", "node01"], ["export"], ["graph", "node01"], ["history"], ["why", "node01"]):
        for output in ("table", "plain", "json", "csv", "toml"):
            done = cli(*args, "-o", output, "-v", LAB_BMC=SECRET)
            assert SECRET not in done.stdout + done.stderr
    assert json.loads(cli("show", "node01", "-o", "json").stdout)["host"]["bmc"]["credentials"] == "env:LAB_BMC"


@pytest.mark.parametrize(
    "bmc",
    [
        f'{{ address = "https://10.0.1.1", password = "{SECRET}" }}',
        f'{{ address = "https://10.0.1.1", credentials = "{SECRET}" }}',
        f'{{ address = "https://root:{SECRET}@10.0.1.1" }}',
        f'{{ address = "https://10.0.1.1", passwd = "{SECRET}" }}',
    ],
)
def test_a_literal_secret_in_an_inventory_is_refused_and_not_repeated(bmc: str, cli: Cli, lab: Path) -> None:
    lab.write_text(lab.read_text() + f"\n[hosts.node09]\nbmc = {bmc}\n")
    for output in ("plain", "json"):
        done = cli("list", "-o", output)
        assert (done.status, done.stdout) == (10, "")
        assert SECRET not in done.stderr
        assert "hosts.node09.bmc" in done.stderr


def test_a_literal_secret_on_the_command_line_is_refused_and_not_repeated(cli: Cli, lab: Path) -> None:
    before = lab.read_bytes()
    for option, value in (("--credentials", SECRET), ("--bmc", f"https://root:{SECRET}@10.0.1.1")):
        done = cli("set", "node01", option, value)
        assert (done.status, done.stdout) == (2, "")
        assert SECRET not in done.stderr
    assert lab.read_bytes() == before
