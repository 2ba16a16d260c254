"""Remind people once of each lease, maintenance and booking that ends or begins soon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from bmhctl.domain.model import Host
from bmhctl.domain.requirements import load_requirements
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import UsageError
from bmhctl.results.queue import BOOKING, LEASE, MAINTENANCE, PLANNED, SHORT, Reminder, Reminders
from bmhctl.stores.claims import run_claim
from bmhctl.usecases.queries import with_hosts
from bmhctl.usecases.reservations.fairness import waiting_tickets
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh_and_reap

_TOLD = "reminded"
"""The key in ``meta`` of what was reported: by ``before`` in seconds, the reminders that still apply."""

_CLAIM = "remind"

_Tell = Callable[[Reminders], None]


def remind(ctx: Context, before: timedelta, tell: _Tell) -> None:
    """Call ``tell`` with what ends or begins within ``before``, each time once; then record it as reported.

    A booking that lacks hosts is reported at once, however far ahead it is. Leases that a ``run`` renews are left out.
    A lease that was extended is reported again when its new end is near. When ``tell`` raises, nothing is recorded as
    reported. While another process runs ``remind``, this call only reports that. Raises :class:`UsageError` if
    ``before`` is zero.
    """
    if not before:
        raise UsageError("--before is zero", hint="such as --before 1h")
    with ctx.store.claims.claim(_CLAIM) as hold:
        if hold is None:
            ctx.report("another remind is running: nothing was reported here")
            return
        now = refresh_and_reap(ctx)
        with ctx.store.snapshot():
            due = {_key(reminder): reminder for reminder in sorted(_due(ctx, now, before), key=lambda each: each.at)}
        length = str(int(before.total_seconds()))
        known = set(_told(ctx).get(length, ()))
        new = tuple(reminder for key, reminder in due.items() if key not in known)
        if known - due.keys() or new:
            # A role that may not write fails here, before anything is reported.
            _note(ctx, length, sorted(known & due.keys()))
        tell(Reminders(new, now))
        if new:
            _note(ctx, length, sorted(due))


def _due(ctx: Context, now: datetime, before: timedelta) -> Iterator[Reminder]:
    latest = now + before
    tickets = waiting_tickets(ctx) if ctx.store.tickets.are_any() else []
    ending = [each for each in ctx.store.reservations.open() if each.expires_at and each.expires_at <= latest]
    renewed = ctx.store.claims.claimed([run_claim(each.id) for each in ending]) if ending else frozenset()
    for held in with_hosts(ctx, (each for each in ending if run_claim(each.id) not in renewed)):
        lease = held.reservation
        if lease.expires_at is not None:
            names = tuple(host.name for host in held.hosts)
            waits = _waiting_for(held.hosts, tickets)
            yield Reminder(LEASE, lease.id, lease.owner, names, lease.expires_at, lease.purpose, waits)
    from bmhctl.stores import status_queries

    for host in status_queries.hosts(ctx.store, "coming_back", 10_000):
        note = max((note for note in host.maintenance if note.until), key=lambda note: note.until or now, default=None)
        if note is not None and note.until is not None and note.until <= latest:
            waits = _waiting_for((host,), tickets)
            yield Reminder(MAINTENANCE, None, note.actor, (host.name,), note.until, note.reason, waits)
    yield from _planned(ctx, now, latest)


def _planned(ctx: Context, now: datetime, latest: datetime) -> Iterator[Reminder]:
    bookings = [*ctx.store.bookings.open()]
    if not bookings:
        return
    from bmhctl.usecases.reservations.bookings import with_host_names

    for booked in with_host_names(ctx, bookings):
        booking = booked.booking
        about = (booking.id, booking.owner, booked.hosts, booking.starts_at, booking.purpose)
        if booked.is_short:
            yield Reminder(SHORT, *about)
        if now < booking.starts_at <= latest:
            yield Reminder(PLANNED if booking.is_maintenance else BOOKING, *about)


def _waiting_for(hosts: Iterable[Host], tickets: Iterable[Ticket]) -> tuple[str, ...]:
    """Return the owners of the tickets that could use one of the hosts, in queue order."""
    specs = [host.spec for host in hosts]
    return tuple(
        dict.fromkeys(
            ticket.owner
            for ticket in tickets
            if any(need.fits(spec) for need in load_requirements(ticket.requirements) for spec in specs)
        )
    )


def _key(reminder: Reminder) -> str:
    known = reminder.id or f"{reminder.hosts[0]} {reminder.at.isoformat()}"
    return f"{known} {SHORT}" if reminder.kind == SHORT else known


def _told(ctx: Context) -> dict[str, list[str]]:
    try:
        known = json.loads(ctx.store.meta.get(_TOLD) or "{}")
        return {str(length): [str(key) for key in keys] for length, keys in known.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _note(ctx: Context, length: str, keys: list[str]) -> None:
    with ctx.store.transaction():
        told = _told(ctx) | {length: keys}
        kept = {length: keys for length, keys in told.items() if keys}
        ctx.store.meta.put(_TOLD, json.dumps(kept) if kept else None)
