"""No text makes a parser crash or hang: the parser reads it, or raises an error with its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.faults.bounded_parsing import SECONDS, texts
from tests.faults.figures import Figures
from tests.faults.parsers import PARSERS, Tally
from tests.faults.seeds import SEEDS, inputs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PARSERS)
def test_random_texts_are_read_or_refused(name: str, figures: Figures) -> None:
    parser, tally = PARSERS[name], Tally()

    @settings(max_examples=(1 if parser.of_files else 2) * settings.default.max_examples)
    @given(inputs(name, of_files=parser.of_files))
    def fuzzed(text: str | bytes) -> None:
        tally.judge(parser, text)

    tally.faults = 1
    try:
        for seed in SEEDS[name]:
            tally.judge(parser, seed.encode() if parser.of_files else seed)
        assert not tally.refusals, "a seed is what the parser reads"
        fuzzed()
        tally.faults = 0
    finally:
        figures("fuzz: random texts", name, tries=tally.tries, refusals=tally.refusals, faults=tally.faults)


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[list[Any], int, str]]]:
    """Gives a parser its hostile texts; returns the result of each, the status of its process, and its output."""
    errors = tmp_path_factory.mktemp("bounded") / "stderr"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.bounded_parsing"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018 - for the type checker only

        def judge(name: str) -> tuple[list[Any], int, str]:
            stdin.write(f"{name}\n")
            stdin.flush()
            rows = []
            for line in stdout:
                rows.append(json.loads(line))
                if "ended" in rows[-1]:
                    return rows[:-1], rows[-1]["ended"], errors.read_text(errors="replace")
            pytest.fail(f"the parent of all parsers is gone: {errors.read_text(errors='replace')}")

        yield judge


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_texts_are_read_or_refused_in_bounded_memory_and_time(
    name: str, bounded: Callable[[str], tuple[list[Any], int, str]], figures: Figures
) -> None:
    rows, status, stderr = bounded(name)
    ended = [row for row in rows if "fault" in row]
    faults = [f"{row['text']}: {row['fault']}" for row in ended if row["fault"]]
    if len(ended) < len(texts(name)):
        faults.append(f"{rows[-1]['text'] if rows else 'the start'}: ended the process ({status})")
    refusals = sum(row["refused"] for row in ended)
    figures("fuzz: hostile texts", name, tries=len(texts(name)), refusals=refusals, faults=len(faults))
    assert not faults, f"within {SECONDS} s of a processor: {stderr[-500:]}"
