"""Realistic inventories of any size, always the same for a seed; their rows are streamed straight into the tables.

    python -m tests.benchmarks.generate FILE --hosts 1000000 [--seed N]

Labels of few values (arch, zone, role) and of many (rack, serial), hardware facts, hosts in every state, reservations
of one to eight hosts, cordons, faults, and the history that led each host to where it is. A ``.toml`` declares the
hosts; their states are in its state file.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.model import Bmc, HostSpec, PropertyValue
from bmhctl.domain.selector import canonical
from bmhctl.domain.units import quantity
from bmhctl.stores import admin, open_store
from bmhctl.stores.declared_hosts import spec_row
from bmhctl.stores.rows import Value, from_time
from bmhctl.stores.schema import BOOKING_COLUMNS, SPEC_COLUMNS
from bmhctl.stores.state_files import state_file
from bmhctl.stores.store import Store
from bmhctl.usecases import inventories
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

COLUMNS: dict[str, tuple[str, ...]] = {
    "reservations": (
        *("id", "owner", "purpose", "created_at", "expires_at", "ttl", "ended_at", "end_reason", "ended_how", "wants"),
    ),
    "hosts": (
        *("id", *SPEC_COLUMNS, "state", "since", "dirty", "undeclared", "came_from", "cordon", "maintenance", "fault"),
        *("failed_cleanups", "reservation", "used_at", "last_event"),
    ),
    "facts": ("host_id", "key", "value", "number"),
    "events": ("id", "host_id", "host", "at", "actor", "verb", "source", "dest", "reason", "reservation"),
    "results": ("host_id", "step", "verdict", "detail", "seconds", "at"),
}
"""The columns that are written of each table, in an order that satisfies the foreign keys; others have defaults."""

_T = TypeVar("_T")

Rows = dict[str, list[Sequence[Value]]]

OWNERS = ("alice@lab", "bob@lab", "carol@lab", "ci-linux@lab", "ci-kernel@lab", "nightly@lab", "qa@lab")
_PURPOSES = ("nightly", "bisect", "release test", "benchmark", "driver bring-up", "soak test")
_FAULTS = ("no link on port 2", "BMC does not answer", "ECC errors", "disk 3 is missing")


def _percent(**shares: int) -> tuple[str, ...]:
    """A list of a hundred words, in which each word occurs as often as its percentage."""
    places = tuple(word for word, share in shares.items() for _ in range(share))
    assert len(places) == 100
    return places


_STATES = _percent(available=70, reserved=15, tainted=7, initial=5, maintenance=3)
_ARCHES = _percent(x86_64=80, arm64=15, riscv64=4, s390x=1)
_ROLES = _percent(compute=60, storage=15, network=5, builder=15, spare=5)
_MEMORY = ("64GiB", "128GiB", "128GiB", "256GiB", "256GiB", "512GiB", "1TiB")
_CPUS = (16, 32, 32, 64, 64, 128)
_TURNS = (*(0,) * 60, *(1,) * 30, *(2,) * 9, 10)  # for each of a hundred hosts, how often it was used before

_TURN = (
    ("ready", "initial", "available"),
    ("reserve", "available", "reserved"),
    ("taint", "reserved", "tainted"),
    ("reset", "tainted", "initial"),
)
_WAYS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "initial": (),
    "available": _TURN[:1],
    "reserved": _TURN[:2],
    "tainted": _TURN[:3],
    "maintenance": (_TURN[0], ("maintain", "available", "maintenance")),
}

_BATCH = 5_000
_CACHE = 200_000  # KiB: the memory of SQLite for sorting and caching while it loads
_HOUR = 3_600_000_000
_NOW = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
_FAR = _NOW + 50 * 365 * 24 * _HOUR  # no lease ends while something is measured


@lru_cache(maxsize=1000)
def _fact(value: PropertyValue) -> tuple[str, float | None]:
    """Return the row of a hardware property: its text and its number. Most properties have one of a few values."""
    text = canonical(value)
    return text, quantity(text)


class Generator:
    """Makes hosts one after the other, with all their rows; all in one ``state`` if it is given."""

    def __init__(self, seed: int, state: str | None = None) -> None:
        self._spec_draw = random.Random(seed).random  # separate, to make declarations without rows
        self._draw = random.Random(seed + 1).random
        self._state = state
        self._events = 0
        self._reservations = 0
        self._held = ("", "", "")  # the reservation that gets the next hosts: its id, its owner, its purpose
        self._room = 0  # how many more hosts that reservation gets

    def spec(self, number: int) -> HostSpec:
        """Return what is declared about the host with this number; call it for 1, 2, 3 and so on, in order."""
        draw = self._spec_draw

        def one(places: Sequence[_T]) -> _T:
            return places[int(draw() * len(places))]

        labels = {
            "arch": one(_ARCHES),
            "zone": f"z{int(draw() * 3) + 1}",
            "role": one(_ROLES),
            "rack": f"r{number // 40}",
            "serial": f"S{number:08}",
        }
        if draw() < 0.05:
            labels["gpu"] = ""
        low, high = number % 250 + 1, number // 250
        return HostSpec(
            name=f"r{number // 40:05}-n{number % 40:02}",
            address=f"10.{high // 256 % 256}.{high % 256}.{low}",
            mac=f"02:00:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
            labels=labels,
            bmc=Bmc(f"redfish+https://bmc-{number}.lab.example/redfish/v1/Systems/1") if draw() < 0.6 else None,
            hardware={"cpus": one(_CPUS), "memory": one(_MEMORY)},
            note="left slot, top" if draw() < 0.05 else None,
        )

    def host(self, number: int, spec: HostSpec, rows: Rows) -> None:
        """Adds the rows of a host."""
        draw = self._draw
        state = self._state or _STATES[int(draw() * 100)]
        since = _NOW - int(draw() * 30 * 24 * _HOUR)
        used_at, held = self._history(number, spec.name, state, since, rows)
        rows["hosts"].append(
            (
                number,
                *spec_row(spec),
                state,
                since,
                int(state in ("reserved", "tainted")),
                0,
                "available" if state == "maintenance" else None,
                json.dumps(["bob@lab", "kept for a bisect", since, None, False]) if draw() < 0.01 else None,
                json.dumps([["carol@lab", "new disks", since, None, False]]) if state == "maintenance" else None,
                _FAULTS[number % 4] if state == "tainted" and not self._state and draw() < 0.1 else None,
                0,
                held,
                used_at,
                self._events,
            )
        )
        rows["facts"].extend(
            (number, key, *_fact(value)) for key, value in (*spec.hardware.items(), *spec.labels.items())
        )
        if state != "initial" and draw() < 0.5:
            rows["results"].append((number, "ssh", "pass", "", 0.1, since))

    def _history(self, number: int, name: str, state: str, since: int, rows: Rows) -> tuple[int | None, str | None]:
        """Adds the events that led a host to its state; returns when it was used last, and by which reservation."""
        steps: list[tuple[str, str | None, str]] = [("enter", None, "initial")]
        for _ in range(_TURNS[int(self._draw() * 100)]):
            steps += _TURN
        steps += _WAYS[state]
        at = since - (len(steps) - 1) * 4 * _HOUR
        used_at: int | None = None
        held, owner, purpose = "", "", ""
        for place, (verb, source, dest) in enumerate(steps, 1):
            if verb == "reserve":
                held, owner, purpose = self._join(rows) if place == len(steps) else self._new(at, at + 4 * _HOUR, rows)
            is_use = verb in ("reserve", "taint")
            used_at = at if is_use else used_at
            reason = {"reserve": purpose, "taint": "task completed"}.get(verb)
            actor = owner if is_use else OWNERS[number % 7]
            self._events += 1
            rows["events"].append(
                (self._events, number, name, at, actor, verb, source, dest, reason, held if is_use else None)
            )
            at += 4 * _HOUR
        return used_at, held if state == "reserved" else None

    def _join(self, rows: Rows) -> tuple[str, str, str]:
        """Add a host to the present reservation, or to a new one if that is full."""
        if not self._room:
            self._room = int(self._draw() * 8) + 1
            self._held = self._new(_NOW - 4 * _HOUR, None, rows)
        self._room -= 1
        return self._held

    def _new(self, at: int, ended_at: int | None, rows: Rows) -> tuple[str, str, str]:
        self._reservations += 1
        number = self._reservations
        identifier, owner, purpose = f"r-{number:08x}", OWNERS[number % 7], _PURPOSES[number % 6]
        end = (None, None, None) if ended_at is None else (ended_at, "task completed", "returned")
        expires_at = _FAR if ended_at is None else at + 12 * _HOUR
        rows["reservations"].append((identifier, owner, purpose, at, expires_at, 12 * _HOUR, *end, '[["",1]]'))
        return identifier, owner, purpose


def fill(store: Store, hosts: int, seed: int = 1, state: str | None = None) -> None:
    """Fills an empty inventory in one transaction, with the same memory for any number of hosts."""
    generator = Generator(seed, state)
    with store.transaction():
        for first in range(1, hosts + 1, _BATCH):
            rows: Rows = {table: [] for table in COLUMNS}
            for number in range(first, min(first + _BATCH, hosts + 1)):
                generator.host(number, generator.spec(number), rows)
            for table, columns in COLUMNS.items():
                store.database.load(table, columns, rows[table])
        admin.settle(store)


def generate(path: Path, hosts: int, seed: int = 1, state: str | None = None) -> Path:
    """Makes a new inventory of ``hosts`` hosts: a ``.db``, or a ``.toml`` with a synced state file.

    With ``state``, all hosts are in that state, and none has a fault.
    """
    inventories.init(str(path))
    is_declared = path.suffix == ".toml"
    if is_declared:
        path.write_text(declaration(hosts, seed))
    database = state_file(path) if is_declared else path
    with _loading(database), closing(open_store(str(path))) as store:
        for setting in ("synchronous = OFF", f"cache_size = {-_CACHE}"):
            store.database.execute(f"PRAGMA {setting}")
        fill(store, hosts, seed, state)
    with closing(open_store(str(path))) as store:
        refresh(Context(store, "alice@lab"))
    return path


def book(store: Store, begins: datetime) -> None:
    """Books each host by itself, for four hours of the first hundred after ``begins``, in one transaction."""
    with store.transaction():
        rows: list[Sequence[Value]] = []
        for number, (host,) in enumerate(store.database.execute("SELECT id FROM hosts ORDER BY id")):
            starts = from_time(begins) + number % 100 * _HOUR
            span = (starts, starts + 4 * _HOUR)
            name, owner = f"b-{number:08x}", OWNERS[number % 7]
            wants, due_at = '[["",1]]', starts + _HOUR // 2
            rows.append((name, owner, None, *span, _NOW, wants, f"[{host}]", None, 0, due_at, None, None, None))
            store.database.execute(
                "UPDATE hosts SET planned = ?, planned_at = ? WHERE id = ?",
                [json.dumps([[name, owner, *span]]), starts, host],
            )
        store.database.load("bookings", BOOKING_COLUMNS, rows)
        admin.settle(store)


def declaration(hosts: int, seed: int = 1) -> str:
    """Return the same hosts as TOML, in the form in which a person declares them."""
    generator = Generator(seed)
    lines = ["[defaults]", 'ttl = "4h"']
    for spec in map(generator.spec, range(1, hosts + 1)):
        lines += ["", f"[hosts.{spec.name}]", *(f"{key} = {_toml(value)}" for key, value in dump_spec(spec).items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Drop the indexes of a SQLite file in the block: to create them afterwards takes a third of the time."""
    with closing(sqlite3.connect(path)) as database:
        indexes = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        made = indexes.fetchall()
        for name, _ in made:
            database.execute(f"DROP INDEX {name}")
    yield
    with closing(sqlite3.connect(path)) as database:
        for setting in ("synchronous = OFF", f"cache_size = {-_CACHE}"):
            database.execute(f"PRAGMA {setting}")
        for _, sql in made:
            database.execute(sql)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="FILE", help="a new .db or .toml")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    generate(options.path, options.hosts, options.seed)
    size = sum(path.stat().st_size for path in options.path.parent.glob(f"{options.path.stem}*"))
    print(f"{options.path}: {options.hosts} hosts in {time.monotonic() - began:.1f} s, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
