"""Any command line ends with a documented exit status and a message, never with a traceback."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmhctl.cli.app import application
from bmhctl.cli.commands import COMMANDS
from bmhctl.cli.main import run
from bmhctl.errors import ExitStatus
from tests.cli.conftest import INVENTORY
from tests.conftest import environment
from tests.faults.figures import Figures

PUBLISHED = {*ExitStatus, 124, 125, 126, 127} - {ExitStatus.DEFECT}

NAMES = [words for group in COMMANDS.values() for words in group]

HOSTS = ["node01", "node02", "node0*", "node[01-03]", "node9", "?", "*", "node[1-", "node[0-999999999]", "NODE01"]
IDS = ["r-00000000", "r-7k3m9q2x", "1", "0", "-1", "99999999999999999999", "9" * 5000]
SELECTORS = ["arch=arm64", "rack in (r1,r2)", "!gpu", "cpus>=32", "a=,b", "(", "arch=arm64*2", "*2", " ", "a" * 5000]
DURATIONS = ["0s", "5m", "1h30m", "36500d", "36501d", "9" * 5000 + "d", "none", "-1s", "1.5h", "0"]
NUMBERS = ["0", "1", "2", "-1", "1000000000", "1000000001", "9" * 30, "9" * 5000, "1e3", "\u0663", "0x10", "1_0"]
TIMES = ["2026-12-24T18:00", "9999-12-31", "0001-01-01T00:00+23:59", "tomorrow"]
FACTS = ["rack=r9", "rack-", "=", "a", "cpus=9" + "9" * 5000, "a=\u00e9", "\u202e=x", "a=" + "b" * 5000]
ADDRESSES = ["10.0.0.1", "{name}.lab", "{", "fe80::1%eth0", "http://127.0.0.1:9", "ipmi://10.0.0.1", "https://a:b@c/"]
FILES = ["-", ".", "bmh.toml", "bmh.db", "nothing.yaml", "policy.toml", "a" * 5000, "bmh.toml/x", "~absent-user/x.db"]
WORDS = ["alice", "", " ", "-", "--", "json", "toml", "svg", "env:X", "file:/", "command:true", "on", "cycle", "bash"]
STRANGE = ["\u202e\x1b[31m", "\udcff", "\ud800", "a\nb", "\U0001f600", "[red]x[/red]", "%s{}$(id)`id`", "x" * 100_000]
POOL = [*HOSTS, *IDS, *SELECTORS, *DURATIONS, *NUMBERS, *TIMES, *FACTS, *ADDRESSES, *FILES, *WORDS, *STRANGE]

KIND = {
    "--ttl": DURATIONS,
    "--timeout": DURATIONS,
    "--keep-on-fail": DURATIONS,
    "--until": [*DURATIONS, *TIMES],
    "--selector": SELECTORS,
    "--want": SELECTORS,
    "--count": NUMBERS,
    "--last": NUMBERS,
    "--jobs": ["0", "1", "16", "1001"],
    "--label": FACTS,
    "--hardware": FACTS,
    "--bmc": ADDRESSES,
    "--address": ADDRESSES,
    "--inventory": ["bmh.toml", "bmh.db", *FILES],
    "--file": FILES,
    "--output": ["table", "plain", "json", "jsonl", "csv", "name", "toml", "mermaid", "dot", "svg", "xml"],
    "--fields": ["name", "name,state", ",", "nmae", "a" * 5000],
    "--sort": ["name", "-since", "x"],
    "--state": ["initial", "available", "reserved", "Initial", ""],
    "--reservation": IDS,
    "--wait": ["0s", "1x", "", "-1s"],  # no value that waits without an end
    "--watch": ["0s", "1x", "", "-1s"],  # as above
}
"""Valid and invalid values of some options; other options get any text."""

texts = st.text(st.characters(exclude_characters="/\0", codec=None), max_size=20)  # no "/": no other folder
anything = st.sampled_from(POOL) | texts


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Draw a command with options, valid and invalid ones, in any order."""
    name = draw(st.sampled_from(NAMES))
    root = application()
    context = root.make_context("bmhctl", [], resilient_parsing=True)
    command = root
    for word in name.split(" "):
        command = command.get_command(context, word)  # type: ignore[assignment, arg-type]
    args: list[str] = []
    for param in draw(st.lists(st.sampled_from(command.params), max_size=6)):
        if param.param_type_name == "argument":
            args.append(draw(st.sampled_from(HOSTS) | anything))
            continue
        option = max(param.opts, key=len)
        if getattr(param, "is_flag", False):
            args.append(draw(st.sampled_from([*param.opts, *param.secondary_opts])))
        elif option in ("--wait", "--watch"):
            args.append(f"{option}={draw(st.sampled_from(KIND[option]))}")
        else:
            value = draw(st.sampled_from(KIND.get(option, POOL)) | anything)
            args += draw(st.sampled_from([[option, value], [f"{option}={value}"], [min(param.opts, key=len), value]]))
    line = [*name.split(" "), *args]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        line[at:at] = draw(st.lists(anything, max_size=2))
        gone = draw(st.integers(0, len(line)))
        del line[gone : gone + draw(st.integers(0, 1))]
    return line


@dataclass
class Bench:
    """A folder with two small inventories, which is restored for every command line."""

    made: Path
    place: Path
    statuses: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def fresh(self, **extra: str) -> Iterator[None]:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.made, self.place)
        wanted = environment(PATH="/nowhere", HOME=str(self.place), BMHCTL_INVENTORY="bmh.toml", **extra)
        before = Path.cwd()
        with mock.patch.dict(os.environ, wanted, clear=True):
            os.chdir(self.place)
            try:
                yield
            finally:
                os.chdir(before)

    def call(self, args: list[str], **extra: str) -> int:
        """Runs a command line, and checks its exit status and its output."""
        stdin = io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8")
        out, err = io.StringIO(), io.StringIO()
        with self.fresh(**extra), mock.patch.multiple(sys, stdin=stdin, stdout=out, stderr=err):
            status = run(args)
        said = err.getvalue()
        assert status in PUBLISHED, said
        assert "Traceback" not in said
        assert status == ExitStatus.DONE or said
        for text in (out.getvalue(), said):
            assert "\x1b" not in text
            assert "\u202e" not in text
        self.statuses[status] += 1
        return status


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = tmp_path_factory.mktemp("made")
    bench = Bench(made, tmp_path_factory.mktemp("bench") / "lab")
    (made / "bmh.toml").write_text(INVENTORY)
    (made / "policy.toml").write_text('[defaults]\nttl = "1h"\n')
    for args in (["ready", "node01", "node02"], ["reserve", "node02"], ["copy", "bmh.toml", "bmh.db"]):
        assert bench.call(args) == 0
        shutil.rmtree(made)
        shutil.copytree(bench.place, made)
    bench.statuses.clear()
    return bench


def test_every_random_command_line_ends_with_a_documented_status(bench: Bench, figures: Figures) -> None:
    @settings(max_examples=2 * settings.default.max_examples)
    @given(lines())
    def typed(args: list[str]) -> None:
        bench.call(args)

    count(bench, figures, "arguments", typed)


def count(bench: Bench, figures: Figures, name: str, test: object) -> None:
    bench.statuses.clear()
    faults = 1
    try:
        test()  # type: ignore[operator]
        faults = 0
    finally:
        tries = bench.statuses.total()
        print(dict(bench.statuses))
        figures("fuzz: the command line", name, tries=tries, refusals=tries - bench.statuses[0], faults=faults)
