"""The contents of an inventory that is opened again: check that they are consistent, and compare two of them."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bmhctl.api import Inventory
from bmhctl.domain.booking import Booking
from bmhctl.domain.model import EventKind, Host, State
from bmhctl.domain.selector import selectable
from bmhctl.errors import BmhctlError
from bmhctl.stores import open_store
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.locations import is_on_server
from bmhctl.stores.sqlite import open_files
from bmhctl.stores.store import Store
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

Folder = dict[str, bytes]
"""The files of a folder by their names."""


@dataclass(frozen=True)
class Snapshot:
    """The contents of an inventory, without ids and times, which differ from run to run."""

    hosts: tuple[object, ...]
    reservations: tuple[object, ...]
    bookings: tuple[object, ...]
    queue: tuple[object, ...]
    departed: tuple[object, ...]
    policy: str | None
    text: bytes


def read_folder(folder: Path) -> Folder:
    """Return the files of a folder; its sub-folders contain only locks."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


_SETTLED = 25_000_000  # ns


def write_folder(files: Folder, folder: Path) -> None:
    """Makes a folder contain exactly these files."""
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    settle(folder)


def settle(folder: Path) -> None:
    """Waits until the files are old enough for the first command to trust their times; else only the next one would."""
    while any(time.time_ns() - path.stat().st_ctime_ns < _SETTLED for path in folder.iterdir()):
        time.sleep(0.005)


def snapshot_of(path: Path, *, writes: bool = False) -> Snapshot:
    """Opens an inventory like the next command, and returns its contents.

    Raises :class:`AssertionError` if the inventory is not consistent: it can't be opened, a chain of events has a gap,
    or a reservation has no hosts. With ``writes``, a command that writes must succeed, too.
    """
    try:
        with closing(open_store(str(path))) as store:
            ctx = Context(store=store, actor="next")
            refresh(ctx)
            check(store)
            snapshot = state_of(store, path.read_bytes() if store.declaration is not None else b"")
            if writes:
                Inventory(ctx).cordon("node3")
                check(store)
            return snapshot
    except BmhctlError as error:
        raise AssertionError(f"it can't be used: {error}") from error
    finally:
        _forget_headers()


def check(store: Store) -> None:
    """Raises :class:`AssertionError` unless everything in an inventory agrees with everything else."""
    if not is_on_server(store.location):
        assert [tuple(row) for row in store.database.execute("PRAGMA integrity_check")] == [("ok",)]
        assert list(store.database.execute("PRAGMA foreign_key_check")) == []
    held: set[str] = set()
    # a planned maintenance that has begun is not in `planned`, but in the notes of its hosts
    waiting = [each for each in store.bookings.open() if not each.is_maintenance or each.due_at == each.starts_at]
    planned = [(host, each.span) for each in sorted(waiting, key=lambda each: each.id) for host in each.hosts]
    for host in store.hosts.find(HostQuery()):
        chain = list(store.events.read(host))
        ways = [chain[0].source, *(event.dest for event in chain)]
        assert ways == [None, *(event.source for event in chain[1:]), host.state], f"{host.name}: a gap in its chain"
        assert chain[-1].id == host.last_event
        assert not [event for event in chain if isinstance(event.verb, EventKind) and event.source != event.dest]
        assert (host.reservation is None) or host.state in (State.RESERVED, State.MAINTENANCE)
        assert host.state is not State.RESERVED or host.reservation is not None
        assert host.dirty or host.state not in (State.RESERVED, State.TAINTED)
        facts = store.database.execute("SELECT key, value FROM facts WHERE host_id = ?", [host.id])
        assert {str(key): str(value) for key, value in facts} == selectable(host.spec)
        if host.reservation is not None:
            assert host.reservation.is_open()
            held.add(host.reservation.id)
        assert [each for one, each in planned if one == host.id] == sorted(host.planned, key=lambda each: each.id)
    assert held == {one.id for one in store.reservations.open()}, "a reservation without hosts, or hosts without it"


def state_of(store: Store, text: bytes = b"") -> Snapshot:
    """Return the contents of an open inventory; ``text`` is its TOML file."""
    hosts = list(store.hosts.find(HostQuery()))
    held = {one.id: tuple(h.name for h in hosts if h.reservation and h.reservation.id == one.id) for one in _all(store)}
    return Snapshot(
        hosts=tuple((_where(host), _verbs(store, host)) for host in hosts),
        reservations=tuple(
            sorted(
                (r.owner, r.purpose or "", str(r.end), held[r.id], _in_hours(r.ttl), *r.shared_with)
                for r in store.reservations.all()
            )
        ),
        bookings=tuple(sorted(_booked(store, each) for each in store.bookings.all())),
        queue=(
            tuple(ticket.id for ticket in store.tickets.all()),
            tuple((event.ticket, event.verb.value, event.reason) for event in store.queue_events.read(None)),
        ),
        departed=tuple(sorted(str(row[0]) for row in store.database.execute("SELECT key FROM departed"))),
        policy=store.meta.policy_text(),
        text=text,
    )


def _in_hours(ttl: timedelta | None) -> str:
    """Return a lease's length in whole hours: the lease of a booking is shorter by the seconds since its begin."""
    return "" if ttl is None else str(round(ttl / timedelta(hours=1)))


def _booked(store: Store, booking: Booking) -> tuple[str, ...]:
    hosts = [host.name for host in map(store.hosts.with_id, booking.hosts) if host is not None]
    taken = booking.reservation and booking.end_reason == f"taken as {booking.reservation}"
    end = "taken" if taken else str(booking.end_reason)
    length = str(booking.ends_at - booking.starts_at)
    return (booking.owner, length, booking.requirements, *hosts, end, str(booking.ended_at is None))


def _all(store: Store) -> list[object]:
    return list(store.reservations.all())


def _where(host: Host) -> tuple[object, ...]:
    reasons = tuple((mark.actor, mark.reason) for mark in host.maintenance)
    spec = (host.name, host.spec.mac, host.spec.address, tuple(sorted(host.spec.labels.items())))
    return (
        *spec,
        host.state,
        host.dirty,
        host.undeclared,
        host.came_from,
        reasons,
        host.fault,
        host.cordon is None,
        tuple((each.owner, each.ends_at - each.starts_at) for each in host.planned),
    )


def _verbs(store: Store, host: Host) -> tuple[object, ...]:
    return tuple((event.host, event.actor, event.verb.value, event.dest) for event in store.events.read(host))


def _forget_headers() -> None:
    """Closes the files that a process keeps open for each inventory, because this process opens thousands."""
    while open_files._open:
        _, handle = open_files._open.popitem()
        os.close(handle)
