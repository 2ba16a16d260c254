"""README and manual are correct: sessions run as shown, tables agree with the code, links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pages import (
    FILES,
    MANUAL,
    ROOT,
    comparable,
    environment,
    generated,
    page,
    pages,
    played,
    read,
    replaced,
)

from bmhctl.cli.commands import COMMANDS
from bmhctl.docs import topics
from bmhctl.domain.host_spec import SPEC_KEYS
from bmhctl.domain.policy import StepKind
from bmhctl.domain.policy_parser import DEFAULTS
from bmhctl.errors import BmhctlError, ExitStatus
from bmhctl.output.records import FIELDS
from tests import forked

pytestmark = pytest.mark.slow

GUIDES = ("examples/README.md", "tests/README.md")
"""Other pages for people, whose links are checked."""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a copy of the example lab."""
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "lab"))


def bmhctl(lab: Path, *args: str, status: int = 0) -> str:
    """Return the output of a command on the example lab: its stdout, or its stderr if it fails."""
    ended, stdout, stderr = forked.run(args, lab, {**environment(lab), "BMHCTL_INVENTORY": "lab.toml"})
    assert ended == status, stderr
    return (stderr if status else stdout).decode()


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("path", [path for path in FILES if read(path).blocks("console")], ids=lambda path: path.stem)
def test_every_console_example_prints_what_the_page_shows(path: Path, forking: Path) -> None:
    shown = read(path)
    steps = list(played(shown, forking))
    wrong = [
        f"{shown.name}:{step.line}: {step.command.typed}\n--- shown\n{step.command.output}--- printed\n{step.output}"
        for step in steps
        if comparable(step.output) != comparable(step.command.output)
    ]
    assert not wrong, "\n".join([*wrong, f"python tests/docs/update.py {path.stem} shows what is printed now"])
    # A session shows the status of a command that fails; all others succeed.
    asked = [after.command.script.startswith("echo $?") for _, after in pairwise(steps)]
    silent = [step for step, shown in zip(steps, [*asked, False], strict=True) if step.status and not shown]
    assert [(step.line, step.command.typed, step.status) for step in silent] == []


def test_the_pages_have_examples_to_play() -> None:
    assert sum(block.text.count("\n$ ") + 1 for each in pages() for block in each.blocks("console")) > 70


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_generated_part_of_a_page_is_up_to_date(path: Path) -> None:
    shown = read(path)
    parts = generated(shown)
    assert {name: shown.marked(name) for name in parts} == parts, f"run python tests/docs/update.py {path.stem}"
    assert set(re.findall(r"<!-- begin (\w+) -->", shown.text)) == set(parts)


def test_every_command_has_help_and_is_documented() -> None:
    parts = dict(re.findall(r"## bmhctl (.+)\n\n```text\n((?:.*\n)*?)```", page("commands").text))
    entries = {name: entry for group in COMMANDS.values() for name, entry in group.items()}
    assert list(parts) == list(entries)
    for name, entry in entries.items():
        assert parts[name].startswith(f"Usage: bmhctl {name} ")
        assert entry.help
        for option in re.findall(r"(?m)^  (-.*?)  ", parts[name]):
            assert option  # an option without words would end its line


def test_the_readme_can_be_read_in_ten_minutes() -> None:
    assert len(page("README").text.splitlines()) <= 250


def test_every_page_of_the_manual_has_a_title_and_is_listed() -> None:
    assert {path.stem for path in MANUAL.glob("*.md")} == set(topics())
    for path in FILES:
        assert re.match(r"# \S.*\n\n", read(path).text), path


def test_a_page_that_lists_its_sections_lists_them_all() -> None:
    for each in pages():
        listed = re.findall(r"(?m)^- \[(.+)\]\(#.*\)$", each.text)
        if listed:
            assert listed == re.findall(r"(?m)^## (.+)$", each.text), each.name


def test_the_diagram_is_the_one_that_graph_draws(lab: Path) -> None:
    drawn = bmhctl(lab, "graph", "-o", "mermaid")
    [shown] = page("README").blocks("mermaid")

    def edges(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if "-->" in line]

    assert edges(shown.text) == edges(drawn)
    assert len(edges(drawn)) == 16


def test_the_manual_explains_every_kind_of_finding() -> None:
    code = "".join(path.read_text() for path in (ROOT / "bmhctl" / "usecases" / "doctor").glob("*.py"))
    table = page("operators").section("## Find and fix faults of an inventory")
    shown = {word for kinds in re.findall(r"(?m)^\| (`.*`) \|", table) for word in _words(kinds)}
    assert shown == {*re.findall(r'(?:Finding\(|Question\(|fixable\(|_broken\(|kind =|else)\s*"([a-z-]+)"', code)}


def test_the_table_of_exit_statuses_is_the_enum() -> None:
    rows = dict(re.findall(r"(?m)^\| (\d+) \| `([a-z-]+)` \|", page("output").section("## Exit statuses")))

    def family(kind: type[BmhctlError]) -> list[type[BmhctlError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in family(child))]

    codes = {str(int(kind.status)): kind.code for kind in family(BmhctlError) if kind.__module__ == "bmhctl.errors"}
    assert rows == {"0": "done", **codes}
    assert {int(status) for status in rows} == {int(status) for status in ExitStatus}


def test_the_statuses_of_run_are_those_of_the_code() -> None:
    from bmhctl.runner.child import TIMED_OUT
    from bmhctl.runner.task import FAILED, NOT_FOUND, NOT_RUNNABLE

    rows = re.findall(r"(?m)^\| (\d+(?:, \d+)*) \| [^|]*\|$", page("ci").text.partition("| `run` |")[2])
    assert ", ".join(rows[:3]) == f"{TIMED_OUT}, {FAILED}, {NOT_RUNNABLE}, {NOT_FOUND}"


def test_the_tables_of_json_name_the_keys_of_every_document(lab: Path) -> None:
    documents = dict(_documents(lab))
    rows = re.findall(r"(?m)^\| (.+) \| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", page("output").text)
    assert {kind: _words(keys) for _, kind, keys in rows} == {
        kind: [key for key in document if key not in ("version", "kind")] for kind, document in documents.items()
    }
    named = {word for commands, _, _ in rows for word in _words(commands)}
    known = {name for group in COMMANDS.values() for name in group}
    moving = {"taint", "release", "ready", "reset", "retire", "maintain", "resume", "cordon", "uncordon"}
    unlisted = known - named - moving
    without = {"policy show", "policy grants", "schema", "help", "completion", "run", "metrics", "report"}
    assert unlisted == without, "only these print no document"

    records = {
        "result": documents["outcomes"]["results"][0],
        "step": documents["outcomes"]["results"][0]["steps"][0],
        "reservation": documents["grant"]["reservation"],
        "ticket": documents["queue"]["tickets"][0],
        "event": documents["history"]["events"][0],
        "verb": documents["why"]["verbs"][0],
        "finding": documents["diagnosis"]["findings"][0],
        "error": json.loads(bmhctl(lab, "show", "absent", "-o", "json", status=3))["error"],
    }
    shown = dict(re.findall(r"(?m)^\| (\w+) \| ((?:`\w+`(?:, )?)+) \|$", page("output").text))
    assert {name: _words(shown[name]) for name in records} == {name: list(record) for name, record in records.items()}


def _documents(lab: Path) -> Iterator[tuple[str, Any]]:
    for command in (
        "ready node01",
        "reserve node01",
        "list",
        "show node01",
        "reservations",
        "resume node01 --dry-run",
        "import baremetalhosts.yaml --dry-run",
        "status",
        "status --reasons",
        "status --by rack",
        "why node01",
        "history",
        "remind --before 30d",
        "reserve gpu01 --from 1d --ttl 1h",
        "graph node01",
        "stats --by host",
        "stats --by hour",
        "timeline",
        "doctor",
        "-i other.db init",
    ):
        (lab / ".lab.toml.new").touch()  # a fault that doctor finds
        document = json.loads(bmhctl(lab, *command.split(), "-o", "json"))
        assert document["version"] == 1
        yield document["kind"], document
    yield "queue", _queue(lab)


def _queue(lab: Path) -> Any:
    """The document of ``queue`` while a command waits."""
    with subprocess.Popen(
        [sys.executable, "-m", "bmhctl", "-i", "lab.toml", "reserve", "node01", "--wait"],
        cwd=lab,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(lab),
    ) as waiter:
        assert waiter.stderr
        waiter.stderr.readline()
        document = json.loads(bmhctl(lab, "queue", "-o", "json"))
        waiter.terminate()
    return document


def _words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_keys_of_the_inventory_are_those_of_the_code() -> None:
    table = page("inventory").section("## The file")
    keys = re.findall(r"(?m)^\| (?:… )?`([\w.]+)`", table)
    assert [key for key in keys if key.startswith("defaults.")] == [f"defaults.{key}" for key in DEFAULTS]
    steps, hosts = keys.index("checks.NAME"), keys.index("hosts.NAME")
    of_steps = [*StepKind, "timeout", "retries", "selector", "needs", "properties", "params"]
    assert keys[steps:hosts] == [
        "checks.NAME",
        "prepare.NAME",
        "cleanup.NAME",
        "retire.NAME",
        *(f".{key}" for key in of_steps),
    ]
    assert keys[hosts + 1 :] == [f".{key}" for key in SPEC_KEYS]
    for key in ("address", "type", "system_id", "credentials", "verify_tls"):
        assert f"`{key}`" in table


def test_the_python_examples_run(tmp_path: Path) -> None:
    examples = "".join(block.text for block in page("python").blocks("python"))
    setup = (
        "from bmhctl import open_inventory\n"
        "with open_inventory('lab.db', create=True) as lab:\n"
        "    lab.add('node01', 'node02', labels={'arch': 'x86_64'})\n"
        "    lab.ready('node01', 'node02')\n"
    )
    subprocess.run([sys.executable, "-c", setup + examples], cwd=tmp_path, check=True, env=environment(tmp_path))


@pytest.mark.parametrize("path", [*FILES, *(ROOT / name for name in GUIDES)], ids=lambda path: path.stem)
def test_links_lead_to_files_and_sections_that_exist(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", read(path).text):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", read(path).text)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}


def test_every_field_of_a_host_is_explained_in_the_manual() -> None:
    assert tuple(re.findall(r"(?m)^\| `(\w+)` \|", page("output").section("## Fields of a host"))) == FIELDS


def test_every_example_for_ci_is_named_in_the_manual() -> None:
    named = set(re.findall(r"(?m)^- `([\w.-]+)`: ", page("ci").section("## In your CI system")))
    assert named <= {path.name for path in (ROOT / "examples" / "ci").iterdir()}
    assert named >= {path.name for path in (ROOT / "examples" / "ci").glob("*.sh")}


def test_every_example_has_its_line_in_the_readme_of_the_examples() -> None:
    examples = ROOT / "examples"
    files = {str(path.relative_to(examples)) for path in examples.rglob("*") if path.is_file()}
    lines = re.findall(r"(?m)^- \[`?([^]`]+)`?\]", (examples / "README.md").read_text(encoding="utf-8"))
    assert set(lines) == {name for name in files if "__pycache__" not in name} - {"README.md"}


PRIVATE = re.compile(
    r"\b(whoever|nobody|somebody|everybody|anybody|shall|in vain|mends?|mended|takes? over|took over|let go)\b",
    re.I,
)
"""Words that leave the subject open: a page says who does what."""


@pytest.mark.parametrize("path", [*FILES, *(ROOT / name for name in GUIDES)], ids=lambda path: path.stem)
def test_the_pages_are_in_plain_words(path: Path) -> None:
    prose = re.sub(r"(?ms)^```.*?^```$|<!-- begin.*?<!-- end", "", read(path).text)
    assert PRIVATE.findall(prose) == []


def test_replacing_a_part_keeps_the_rest() -> None:
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert replaced(text, "x", r"new \1" + "\n") == "a\n<!-- begin x -->\nnew \\1\n<!-- end x -->\nb\n"
