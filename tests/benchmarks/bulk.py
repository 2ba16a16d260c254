"""A verb on many hosts, with a transition and an event for each, beside a raw loop that writes the same rows."""

from __future__ import annotations

import shutil
import sqlite3
import time
from functools import partial
from pathlib import Path

from bmhctl import open_inventory
from bmhctl.api import Inventory
from tests.benchmarks.harness import Bench, Figure, Series, in_turn, over, seconds

_ALL = "arch"
"""A selector that every host fits."""

FROM = {"maintain": "available", "taint": "reserved", "reset": "tainted"}
"""The state of the hosts before each verb."""


def _apply(verb: str, lab: Inventory) -> None:
    match verb:
        case "maintain":
            done = lab.maintain(selector=_ALL, reason="a benchmark")
        case "taint":
            done = lab.taint(selector=_ALL, force=True, reason="a benchmark")
        case _:
            done = lab.reset(selector=_ALL)
    assert all(item.changed for item in done.items)


def raw(verb: str, path: Path) -> None:
    """Moves every host with one event each, in one commit."""
    source, dest = FROM[verb], {"maintain": "maintenance", "taint": "tainted", "reset": "initial"}[verb]
    now = time.time_ns() // 1000
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("BEGIN IMMEDIATE")
    (last,) = database.execute("SELECT MAX(id) FROM events").fetchone()
    hosts = database.execute("SELECT id, name, reservation FROM hosts WHERE state = ?", (source,)).fetchall()
    database.executemany(
        "INSERT INTO events (host_id, host, at, actor, verb, source, dest, reason, reservation) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        [(id, name, now, "alice@lab", verb, source, dest, "a benchmark", held) for id, name, held in hosts],
    )
    database.executemany(
        "UPDATE hosts SET state = ?, since = ?, dirty = ?, came_from = ?, maintenance = ?, reservation = NULL, "
        "used_at = ?, last_event = ? WHERE id = ?",
        [
            (
                dest,
                now,
                int(dest == "tainted"),
                source if dest == "maintenance" else None,
                '[["alice@lab","a benchmark",0,null,false]]' if dest == "maintenance" else None,
                now,
                last + place,
                host[0],
            )
            for place, host in enumerate(hosts, 1)
        ],
    )
    if verb == "taint":
        ended = [(now, "a benchmark", "forced", held) for held in {host[2] for host in hosts}]
        database.executemany("UPDATE reservations SET ended_at = ?, end_reason = ?, ended_how = ? WHERE id = ?", ended)
    database.execute("COMMIT")
    database.close()


def _measure(verb: str, bench: Bench) -> Series:
    hosts = bench.database(bench.size(100_000, 20_000), FROM[verb])
    with bench.scratch() as folder:
        copy = folder / "lab.db"

        def through_api() -> float:
            shutil.copy(hosts, copy)
            with open_inventory(copy, actor="alice@lab") as lab:
                return seconds(lambda: _apply(verb, lab))

        def through_raw() -> float:
            shutil.copy(hosts, copy)
            return seconds(lambda: raw(verb, copy))

        found = over(*in_turn(bench.at_most(3), through_api, through_raw))
    return Series([1 / sample for sample in found.samples], subject=found.subject, floor=found.floor)


FIGURES = tuple(
    Figure(
        f"bulk/{verb}",
        f"{verb} of 100,000 hosts, each through its machine, hosts a second over a raw loop of the same rows",
        partial(_measure, verb),
        round(40 / 150, 3),
        at_least=True,
    )
    for verb in FROM
)
