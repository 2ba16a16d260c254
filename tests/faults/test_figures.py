"""The table of figures itself: a row for each suite and backend, summed over tests and over worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SUITE = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_counts(figures, number):
    figures("killed", "sqlite", tries=1000, losses=0)
    figures("killed", "toml", tries=1, losses=number)
    assert number < 3
"""


def test_figures_are_summed_over_all_workers_and_include_failed_tests(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    told = ["-p", "tests.faults.figures", "-p", "no:cacheprovider", "-n", "2", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "pytest", *told], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "= figures =" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("killed ")]
    assert lines == [
        ["killed", "sqlite", "tries", "4,000", "losses", "0"],
        ["killed", "toml", "tries", "4", "losses", "6"],
    ]
