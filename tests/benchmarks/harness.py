"""Measure figures: several rounds, and in each round the subject and its floor, one after the other.

A figure is a ratio. The measured work and its floor run one after the other in every round, so that a machine that is
slower for a while is slower for both; the ratio is taken round by round, and its median counts. The families of
figures are modules beside this one: each has a tuple ``FIGURES``.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.benchmarks.generate import generate

_T = TypeVar("_T")


@dataclass(frozen=True)
class Series:
    """The samples of one figure, one for each round.

    ``subject`` and ``floor`` are the seconds that a ratio comes from. ``cpu`` is the ratio of the processor time,
    which is more precise than the elapsed time when other programs use the machine too.
    """

    samples: Sequence[float]
    cpu: Sequence[float] = ()
    subject: Sequence[float] = ()
    floor: Sequence[float] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Figure:
    """What is measured, and its bound: an upper bound, or with ``at_least`` a lower one.

    ``unit`` is empty for a ratio. ``by_cpu`` is for a subject that waits for the disk while its floor does not: then
    the ratio of the processor times has to keep the bound, because it is the same on a busy disk and in few rounds.
    """

    name: str
    about: str
    measure: Callable[[Bench], Series]
    bound: float | None = None
    at_least: bool = False
    unit: str = ""
    by_cpu: bool = False

    def is_kept(self, series: Series) -> bool | None:
        """Whether the median keeps the bound; None if the figure has no bound."""
        if self.bound is None:
            return None
        median = statistics.median(series.cpu) if self.by_cpu else series.median
        return median >= self.bound if self.at_least else median <= self.bound


@dataclass(frozen=True)
class Bench:
    """The folder in which figures are measured, and how thoroughly; ``quick`` is for the inner loop."""

    folder: Path
    rounds: int = 15
    quick: bool = False
    made: dict[Hashable, Any] = field(default_factory=dict)

    def size(self, full: int, quick: int) -> int:
        """Return how many hosts to measure on; ``quick`` must be enough that fixed costs do not change the ratio."""
        return quick if self.quick else full

    def at_most(self, rounds: int) -> int:
        """Return the number of rounds for a figure whose rounds take long."""
        return min(self.rounds, rounds)

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return a value that several figures share; ``make`` is called for the first of them."""
        if key not in self.made:
            self.made[key] = make()
        found: _T = self.made[key]
        return found

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a temporary folder, which is removed when the block ends."""
        path = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def database(self, hosts: int, state: str | None = None) -> Path:
        """Return a database of ``hosts`` hosts, all in ``state`` if it is given.

        Figures share it: a figure that changes much copies it first.
        """
        name = f"{hosts}-{state or 'mixed'}.db"
        return self.once(name, lambda: generate(self.folder / name, hosts, state=state))


def seconds(work: Callable[[], object]) -> float:
    """Return how many seconds some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio(subject: Sequence[float], floor: Sequence[float]) -> list[float]:
    """Return the quotients of the samples, round by round."""
    return [mine / its for mine, its in zip(subject, floor, strict=True)]


def over(subject: Sequence[float], floor: Sequence[float]) -> Series:
    """The subject's time divided by the floor's."""
    return Series(ratio(subject, floor), subject=subject, floor=floor)


def in_turn(
    rounds: int, *works: Callable[[], _T], warm_up: int = 1, after: Callable[[], object] = lambda: None
) -> list[list[_T]]:
    """Calls each function in every round, and ``after`` between calls; rounds of the ``warm_up`` are not counted."""
    found: list[list[_T]] = [[] for _ in works]
    for number in range(-warm_up, rounds):
        for results, work in zip(found, works, strict=True):
            result = work()
            if number >= 0:
                results.append(result)
        after()
    return found
