"""Shell loops that reserve and taint on one SQLite file: nine loops at once, compared with a single one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.benchmarks.generate import generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn, seconds
from tests.benchmarks.processes import environment, programs

OTHERS = 8

LOOP = """\
for round in $(seq "$ROUNDS"); do
    eval "$($BMHCTL -i "$LAB" reserve -l arch=x86_64 --shell)" || exit
    $BMHCTL -i "$LAB" taint -q "$BMH_HOST" || exit
done
"""


def _loops(number: int, lab: Path, bmhctl: str, rounds: int) -> float:
    """Return how many rounds per second ``number`` loops do together."""
    variables = {**environment(), "BMHCTL": bmhctl, "LAB": str(lab), "ROUNDS": str(rounds)}

    def run() -> None:
        loops = [subprocess.Popen(["sh", "-c", LOOP], env=variables) for _ in range(number)]
        assert [loop.wait() for loop in loops] == [0] * number

    return number * rounds / seconds(run)


def _per_core(bench: Bench) -> Series:
    """Return the ratio for each core: below one if loops delay each other, above one if one loop leaves cores idle."""
    tools, rounds = programs(bench), bench.size(100, 5)
    cores = len(os.sched_getaffinity(0))
    with bench.scratch() as folder:
        times = bench.at_most(3)
        lab = generate(folder / "lab.db", 20 + 2 * (OTHERS + 2) * rounds * (times + 1))
        crowd, alone = in_turn(
            times,
            lambda: _loops(OTHERS + 1, lab, tools.bmhctl, rounds),
            lambda: _loops(1, lab, tools.bmhctl, rounds),
            warm_up=0,
        )
    return Series([all_of_them / one / cores for all_of_them, one in zip(crowd, alone, strict=True)])


FIGURES = (
    Figure(
        "loops",
        "reserve and taint in 9 shell loops on one SQLite file, rounds a second over one loop alone, per core",
        _per_core,
        0.8,
        at_least=True,
    ),
)
