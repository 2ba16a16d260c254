"""No text makes a parser fail: it reads it, or refuses it in words with its exit status, and soon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_texts_are_read_or_refused_in_bounded_memory_and_time(name: str, figures: Figures) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.bounded_parsing", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    ended = [row for row in rows if "fault" in row]
    faults = [f"{row['text']}: {row['fault']}" for row in ended if row["fault"]]
    if len(ended) < len(texts(name)):
        faults.append(f"{rows[-1]['text'] if rows else 'the start'}: ended the process ({done.returncode})")
    refusals = sum(row["refused"] for row in ended)
    figures("fuzz: hostile texts", name, tries=len(texts(name)), refusals=refusals, faults=len(faults))
    assert not faults, f"within {SECONDS} s of a processor: {done.stderr[-500:]}"
