"""The counts of the fault suites, printed at the end of a session: a line for each suite and backend.

`tests/conftest.py` names this plugin, because with pytest-xdist the process that prints does not read a conftest in a
subfolder. The reports of the tests transport the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import pytest

PROPERTY = "figures"


class Figures(Protocol):
    """Counts of one test; those of the same suite and backend are added up."""

    def __call__(self, suite: str, backend: str, **counts: int) -> None:
        """Records a row: `figures("killed in a commit", "sqlite", tries=200, faults=200, losses=0)`."""


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Takes a row of figures; call it before the assertions about them, so that a failed test shows them too."""

    def note(suite: str, backend: str, **counts: int) -> None:
        record_property(PROPERTY, [suite, backend, counts])

    return note


def lines(rows: list[tuple[str, str, dict[str, int]]]) -> list[str]:
    """The rows as aligned lines, in the order of their suites' and backends' names."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for suite, backend, counts in rows:
        sums.setdefault((suite, backend), Counter()).update(counts)
    width = [max((len(key[column]) for key in sums), default=0) for column in (0, 1)]
    return [
        f"{suite:{width[0]}}  {backend:{width[1]}}  "
        + "  ".join(f"{name} {n:>7,}" for name, n in sums[suite, backend].items())
        for suite, backend in sorted(sums)
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if rows:
        terminalreporter.section("figures")
        for line in lines(rows):
            terminalreporter.write_line(line)
