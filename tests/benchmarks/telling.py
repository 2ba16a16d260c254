"""The cost of a long history for the commands that sum it up: stats, metrics and report."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.benchmarks.generate import generate
from tests.benchmarks.harness import Bench, Figure, Series, in_turn
from tests.benchmarks.processes import programs
from tests.benchmarks.starting import series

PASS = """\
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1])
since = time.time_ns() // 1000 - 30 * 24 * 3_600_000_000
print(len(database.execute(
    "SELECT host_id, verb, source, dest, COUNT(*), SUM(at - ?) FROM events WHERE at >= ? GROUP BY 1, 2, 3, 4",
    (since, since),
).fetchall()))
database.close()
"""
"""One query over all events of the window: for each host, how many events of each kind, and the sum of their times."""

_DAY = 24 * 3_600_000_000
_BLOCK = 10  # hosts of a reservation

_CYCLE = """\
WITH RECURSIVE cycles (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM cycles WHERE number + 1 < :cycles),
moves (place, verb, source, dest) AS (
    VALUES (0, 'reserve', 'available', 'reserved'), (1, 'taint', 'reserved', 'tainted'),
           (2, 'reset', 'tainted', 'initial'), (3, 'ready', 'initial', 'available')
)
"""
_EVENTS = f"""\
INSERT INTO events (host_id, host, at, actor, verb, source, dest, reason, reservation)
{_CYCLE}
SELECT h.id, h.name, :start + (number * 4 + place) * :step + h.id * :step / (SELECT COUNT(*) + 1 FROM hosts),
       'alice@lab', verb, source, dest, CASE WHEN place = 1 THEN 'task completed' END,
       CASE WHEN place < 2 THEN printf('x-%x-%x', number, h.id / {_BLOCK}) END
FROM cycles, moves, hosts h ORDER BY number, place, h.id
"""
_RESERVATIONS = f"""\
INSERT INTO reservations
    (id, owner, purpose, created_at, expires_at, ttl, ended_at, end_reason, ended_how, wants, asked_at)
{_CYCLE}
SELECT printf('x-%x-%x', number, h.id / {_BLOCK}), printf('team%d@lab', h.id % 20), 'nightly',
       :start + number * 4 * :step, :start + (number * 4 + 4) * :step, :step,
       :start + (number * 4 + 1) * :step, 'task completed', 'returned', '[["",1]]',
       :start + number * 4 * :step - (h.id * 7919 + number) % 600 * 1000000
FROM cycles, hosts h WHERE h.id % {_BLOCK} = 0 OR h.id = 1
"""


def worn(path: Path, hosts: int, events: int, days: int) -> Path:
    """Makes a database of so many free hosts, and as many events, spread over the last days."""
    generate(path, hosts, state="available")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        cycles = max(1, events // (4 * hosts))
        now = time.time_ns() // 1000
        values = {"cycles": cycles, "start": now - days * _DAY, "step": days * _DAY // (4 * cycles + 4)}
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        database.execute(_RESERVATIONS, values)
        database.execute(_EVENTS, values)
        database.execute("UPDATE hosts SET last_event = (SELECT MAX(id) FROM events WHERE host_id = hosts.id)")
        database.execute("UPDATE hosts SET since = (SELECT at FROM events WHERE id = last_event)")
        database.execute("COMMIT")
    return path


def _statistics(bench: Bench) -> Series:
    tools = programs(bench)
    hosts = bench.size(10_000, 1_000)
    path = bench.once(_statistics, lambda: worn(bench.folder / "stats.db", hosts, hosts * 500, 29))
    command = partial(tools.run, tools.bmhctl, "-i", str(path), "stats", "--since", "30d")
    return series(*in_turn(bench.at_most(5), command, partial(tools.run, tools.python, "-c", PASS, str(path))))


def _metrics(bench: Bench) -> Series:
    tools = programs(bench)
    hosts = bench.size(1_000_000, 20_000)
    large = bench.once(_metrics, lambda: worn(bench.folder / "large.db", hosts, hosts * 5, 29))
    with bench.scratch() as folder:
        small = worn(folder / "small.db", 100, 500, 29)
        scrapes = [partial(tools.run, tools.bmhctl, "-i", str(path), "metrics") for path in (large, small)]
        return series(*in_turn(bench.rounds, *scrapes))


def _command(bench: Bench) -> list[str]:
    path = bench.once(_command, lambda: worn(bench.folder / "report.db", 1_000, 100_000, 80))
    page = bench.folder / "report.html"
    return [programs(bench).bmhctl, "-i", str(path), "report", "--since", "90d", "--to", str(page)]


def _report(bench: Bench) -> Series:
    command = _command(bench)
    [costs] = in_turn(bench.rounds, partial(programs(bench).run, *command))
    return Series([cost.wall for cost in costs])


def _report_peak(bench: Bench) -> Series:
    return Series([programs(bench).peak(*_command(bench)) / 2**20])


FIGURES = (
    Figure(
        "stats",
        "stats --since 30d over 5,000,000 events of 10,000 hosts, over one pass of SQL over these events",
        _statistics,
        1.5,
    ),
    Figure("metrics", "metrics of 1,000,000 hosts and 5,000,000 events over those of 100 and 500", _metrics, 1.3),
    Figure("report", "report of 1,000 hosts and 100,000 events", _report, 3.0, unit="s"),
    Figure("report/peak", "its peak memory", _report_peak, 100, unit="MiB"),
)
