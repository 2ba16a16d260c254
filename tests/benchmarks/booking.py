"""The cost of bookings: a ``reserve`` with many bookings beside one without any, and a booking of many hosts."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

from bmhctl.stores import open_store
from tests.benchmarks.generate import book, generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn
from tests.benchmarks.processes import Cost, programs
from tests.benchmarks.starting import series

_HOSTS = 10_000


def _booked(folder: Path) -> tuple[Path, Path]:
    """Return an inventory without bookings, and one in which every host is booked."""
    none, each = generate(folder / "none.db", _HOSTS), folder / "each.db"
    with closing(sqlite3.connect(none)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(none, each)
    with closing(open_store(str(each))) as store:
        book(store, datetime.now(UTC) + timedelta(days=1))
    return none, each


def _beside(bench: Bench) -> Series:
    tools = programs(bench)
    with bench.scratch() as folder:
        none, each = _booked(folder)

        def reserve(path: Path) -> Cost:
            return tools.run(tools.bmhctl, "-i", str(path), "reserve", "-l", "arch=x86_64,zone=z2", "-o", "name")

        return series(*in_turn(bench.rounds, partial(reserve, each), partial(reserve, none)))


def _book_many(bench: Bench) -> Series:
    """Return by how many seconds, and processor seconds, a booking takes longer than the smallest Typer program."""
    tools = programs(bench)
    with bench.scratch() as folder:
        _, each = _booked(folder)
        hours = count(2, 5)

        def make() -> Cost:
            begins = ("--from", f"{next(hours)}h", "--ttl", "4h")
            return tools.run(tools.bmhctl, "-i", str(each), "reserve", "-l", "arch=x86_64", "-n", "50", *begins)

        subject, floor = in_turn(bench.rounds, make, partial(tools.run, tools.python, tools.hello))
    pairs = [*zip(subject, floor, strict=True)]
    return Series(
        [mine.wall - its.wall for mine, its in pairs],
        [mine.cpu - its.cpu for mine, its in pairs],
        [cost.wall for cost in subject],
        [cost.wall for cost in floor],
    )


FIGURES = (
    Figure(
        "booking/beside",
        "reserve -l with 10,000 bookings on 10,000 hosts, over one without any",
        _beside,
        1.3,
    ),
    Figure(
        "booking/make",
        "a booking of 50 of 10,000 hosts with 10,000 bookings, beyond the time of Typer's hello-world",
        _book_many,
        0.3,
        unit="s",
        by_cpu=True,
    ),
)
