"""The README tells the truth: its sessions run as shown, and its tables say what the code says."""

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
from readme_parts import ROOT, blocks, comparable, environment, generated, marked, played, readme, replaced

from bmhctl.cli.commands import COMMANDS
from bmhctl.domain.host_spec import SPEC_KEYS
from bmhctl.domain.model import State
from bmhctl.domain.policy import StepKind
from bmhctl.errors import BmhctlError, ExitStatus


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a copy of the example lab."""
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "lab"))


def bmhctl(lab: Path, *args: str, status: int = 0) -> str:
    """What a command on the example lab prints: to stdout, or when it fails to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "bmhctl", *args],
        cwd=lab,
        capture_output=True,
        text=True,
        env={**environment(lab), "BMHCTL_INVENTORY": "lab.toml"},
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def test_every_session_runs_as_it_is_shown() -> None:
    steps = list(played())
    assert len(steps) > 40
    wrong = [
        f"README.md:{step.line}: {step.command.typed}\n--- shown\n{step.command.output}--- printed\n{step.output}"
        for step in steps
        if comparable(step.output) != comparable(step.command.output)
    ]
    assert not wrong, "\n".join([*wrong, "python tests/docs/update.py shows what is printed now"])
    # A session shows the status of a command that fails; all others succeed.
    asked = [after.command.script.startswith("echo $?") for _, after in pairwise(steps)]
    silent = [step for step, shown in zip(steps, [*asked, False], strict=True) if step.status and not shown]
    assert [(step.line, step.command.typed, step.status) for step in silent] == []


@pytest.mark.parametrize("name", ["variables", "fields", "commands"])
def test_what_is_made_from_the_code_is_up_to_date(name: str) -> None:
    assert marked(name) == generated()[name], "run python tests/docs/update.py"


def test_every_command_has_help_and_is_documented() -> None:
    parts = dict(re.findall(r"#### bmhctl (.+)\n\n```text\n((?:.*\n)*?)```", marked("commands")))
    entries = {name: entry for group in COMMANDS.values() for name, entry in group.items()}
    assert list(parts) == list(entries)
    for name, entry in entries.items():
        assert parts[name].startswith(f"Usage: bmhctl {name} ")
        assert entry.help
        for option in re.findall(r"(?m)^  (-.*?)  ", parts[name]):
            assert option  # an option without words would end its line


def test_the_diagram_is_the_one_that_graph_draws(lab: Path) -> None:
    drawn = bmhctl(lab, "graph", "-o", "mermaid")
    [shown] = blocks("mermaid")

    def edges(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if "-->" in line]

    assert edges(shown.text) == edges(drawn)
    assert len(edges(drawn)) == 12


def test_every_kind_of_finding_is_explained() -> None:
    code = "".join(
        (ROOT / "bmhctl/usecases/doctor" / f"{name}.py").read_text() for name in ("findings", "files", "examine")
    )
    table = readme().partition("What it looks at, by `kind`:")[2].partition("\n\n`doctor --fix`")[0]
    shown = {word for kinds in re.findall(r"(?m)^\| (`.*`) \|", table) for word in _words(kinds)}
    assert shown == {*re.findall(r'(?:Finding\(|Question\(|fixable\(|kind =|else)\s*"([a-z-]+)"', code)}


def test_the_states_are_explained_in_their_own_words() -> None:
    from bmhctl.lifecycle.table import MEANING

    for state in State:
        assert f"| `{state}` | {MEANING[state]} |" in readme()


def test_the_table_of_exit_statuses_is_the_enum() -> None:
    rows = dict(re.findall(r"(?m)^\| (\d+) \| `([a-z-]+)` \|", readme()))

    def family(kind: type[BmhctlError]) -> list[type[BmhctlError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in family(child))]

    codes = {str(int(kind.status)): kind.code for kind in family(BmhctlError) if kind.__module__ == "bmhctl.errors"}
    assert rows == {"0": "done", **codes}
    assert {int(status) for status in rows} == {int(status) for status in ExitStatus}


def test_the_statuses_of_run_are_those_of_the_code() -> None:
    from bmhctl.runner.task import FAILED, NOT_FOUND, NOT_RUNNABLE, TIMED_OUT

    rows = re.findall(r"(?m)^\| (\d+(?:, \d+)*) \| [^`|]*(?:`--wait`[^|]*)?\|$", readme().partition("| `run` |")[2])
    assert ", ".join(rows[:3]) == f"{TIMED_OUT}, {FAILED}, {NOT_RUNNABLE}, {NOT_FOUND}"


def test_the_tables_of_json_name_the_keys_of_every_document(lab: Path) -> None:
    documents = dict(_documents(lab))
    rows = re.findall(r"(?m)^\| (.+) \| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", readme())
    assert {kind: _words(keys) for _, kind, keys in rows} == {
        kind: [key for key in document if key not in ("version", "kind")] for kind, document in documents.items()
    }
    named = {word for commands, _, _ in rows for word in _words(commands)}
    known = {name for group in COMMANDS.values() for name in group}
    unlisted = known - named - {"taint", "release", "ready", "reset", "maintain", "resume", "cordon", "uncordon"}
    assert unlisted == {"policy show", "policy grants", "completion", "run"}, "only these print no document"

    records = {
        "result": documents["outcomes"]["results"][0],
        "step": documents["outcomes"]["results"][0]["steps"][0],
        "reservation": documents["grant"]["reservation"],
        "ticket": documents["queue"]["tickets"][0],
        "event": documents["history"]["events"][0],
        "verb": documents["why"]["verbs"][0],
        "finding": documents["diagnosis"]["findings"][0],
        "error": json.loads(bmhctl(lab, "show", "nobody", "-o", "json", status=3))["error"],
    }
    shown = dict(re.findall(r"(?m)^\| (\w+) \| ((?:`\w+`(?:, )?)+) \|$", readme()))
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
        "why node01",
        "history",
        "graph node01",
        "doctor",
        "-i other.db init",
    ):
        (lab / ".lab.toml.new").touch()  # for the doctor to find
        document = json.loads(bmhctl(lab, *command.split(), "-o", "json"))
        assert document["version"] == 1
        yield document["kind"], document
    yield "queue", _queue(lab)


def _queue(lab: Path) -> Any:
    """What ``queue`` prints while somebody waits."""
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
    table = readme().partition("### The file")[2].partition("### Steps")[0]
    keys = re.findall(r"(?m)^\| (?:… )?`([\w.]+)`", table)
    assert [key for key in keys if key.startswith("defaults.")] == [
        f"defaults.{key}" for key in ("ttl", "max_ttl", "quarantine_after")
    ]
    steps, hosts = keys.index("checks.NAME"), keys.index("hosts.NAME")
    of_steps = [*StepKind, "timeout", "retries", "selector"]
    assert keys[steps:hosts] == ["checks.NAME", "cleanup.NAME", *(f".{key}" for key in of_steps)]
    assert keys[hosts + 1 :] == [f".{key}" for key in SPEC_KEYS]
    for key in ("address", "type", "system_id", "credentials", "verify_tls"):
        assert f"`{key}`" in table


def test_the_python_example_runs(tmp_path: Path) -> None:
    [example] = blocks("python")
    setup = (
        "from bmhctl import open_inventory\n"
        "with open_inventory('lab.db', create=True) as lab:\n"
        "    lab.add('node01', 'node02', labels={'arch': 'x86_64'})\n"
        "    lab.ready('node01', 'node02')\n"
    )
    subprocess.run([sys.executable, "-c", setup + example.text], cwd=tmp_path, check=True, env=environment(tmp_path))


def test_links_and_files_that_are_named_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", readme()):
        assert (ROOT / target).exists(), target
    headings = {
        re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"(?m)^#+ (.+)$", readme())
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", readme()):
        assert anchor in headings, anchor


def test_the_examples_for_ci_are_all_named() -> None:
    section = readme().partition("### In your CI system")[2].partition("\n## ")[0]
    named = set(re.findall(r"(?m)^- `([\w.-]+)`: ", section))
    assert named <= {path.name for path in (ROOT / "examples" / "ci").iterdir()}
    assert named >= {path.name for path in (ROOT / "examples" / "ci").glob("*.sh")}


def test_replacing_a_part_keeps_the_rest() -> None:
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert replaced(text, "x", r"new \1" + "\n") == "a\n<!-- begin x -->\nnew \\1\n<!-- end x -->\nb\n"
