"""One reservation through the Python API, beside a raw loop that writes the same rows as durably.

The figure of a backend needs only a raw loop that takes the least recently used free host that fits, without any
checks. For another backend, add a loop with the same methods, and a line in ``FIGURES``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol

from bmhctl import open_inventory
from tests.benchmarks.generate import generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn, over, seconds

_AT_ONCE = 25
"""Reservations of one sample."""

_TTL = 4 * 3_600_000_000


class RawLoop(Protocol):
    """Reserves as fast as its database can; each is durable when :meth:`reserve` returns."""

    def __init__(self, inventory: str) -> None: ...

    def reserve(self, key: str, value: str) -> None:
        """Takes one host that has this label."""

    def close(self) -> None:
        """Closes its inventory."""


class SqliteLoop:
    """The floor of a SQLite inventory."""

    def __init__(self, inventory: str) -> None:
        self._database = sqlite3.connect(inventory, isolation_level=None)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        assert self._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        self.close = self._database.close

    def reserve(self, key: str, value: str) -> None:
        run = self._database.execute
        now = time.time_ns() // 1000
        token = f"r-{os.urandom(5).hex()}"
        run("BEGIN IMMEDIATE")
        host, name = run(
            "SELECT id, name FROM hosts WHERE state = 'available' AND cordon IS NULL AND undeclared = 0 AND EXISTS "
            "(SELECT 1 FROM facts f WHERE f.host_id = hosts.id AND f.key = ? AND f.value = ?) "
            "ORDER BY COALESCE(used_at, 0), id LIMIT 1",
            (key, value),
        ).fetchone()
        run(
            "INSERT INTO reservations (id, owner, purpose, created_at, expires_at, ttl, wants) VALUES (?,?,?,?,?,?,?)",
            (token, "alice@lab", "a benchmark", now, now + _TTL, _TTL, json.dumps([[f"{key}={value}", 1]])),
        )
        event = run(
            "INSERT INTO events (host_id, host, at, actor, verb, source, dest, reason, reservation) "
            "VALUES (?,?,?,?,?,?,?,?,?)",
            (host, name, now, "alice@lab", "reserve", "available", "reserved", "a benchmark", token),
        ).lastrowid
        run(
            "UPDATE hosts SET state = 'reserved', since = ?, dirty = 1, reservation = ?, used_at = ?, last_event = ? "
            "WHERE id = ?",
            (now, token, now, event, host),
        )
        run("COMMIT")


def _api_over_raw(loop: type[RawLoop], kind: str, bench: Bench) -> Series:
    with bench.scratch() as folder:
        mine, its = (generate(folder / f"{name}.{kind}", 10_000) for name in ("mine", "its"))
        with closing(loop(str(its))) as raw, open_inventory(mine, actor="alice@lab") as lab:

            def through_api() -> float:
                return seconds(lambda: many(lambda: lab.reserve(selector="arch=x86_64", purpose="a benchmark")))

            def through_raw() -> float:
                return seconds(lambda: many(lambda: raw.reserve("arch", "x86_64")))

            found = over(*in_turn(bench.rounds, through_api, through_raw))
        _same_rows(mine, its)
        return found


def many(reserve: Callable[[], object]) -> None:
    for _ in range(_AT_ONCE):
        reserve()


def _same_rows(mine: Path, its: Path) -> None:
    """Check that bmhctl and its floor wrote the same number of rows: otherwise they are not comparable."""
    counts = []
    for path in (mine, its):
        database = sqlite3.connect(path)
        counts.append([database.execute(f"SELECT COUNT(*) FROM {t}").fetchone() for t in ("reservations", "events")])
        counts[-1].append(database.execute("SELECT COUNT(*) FROM hosts WHERE state = 'reserved'").fetchone())
        database.close()
    assert counts[0] == counts[1], counts


FIGURES = (
    Figure(
        "reserve/db",
        "one reservation through the Python API over a raw sqlite3 loop of the same rows, as durable",
        partial(_api_over_raw, SqliteLoop, "db"),
        2.0,
    ),
)
