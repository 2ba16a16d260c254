"""Bookings and planned maintenances: claims on the future of hosts, and what they leave free; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from bmhctl.domain.model import NEVER, Host, Planned
from bmhctl.support.values import Frozen, replace

_NOTHING = timedelta()

SHORTEST_LEASE = timedelta(minutes=1)
"""The shortest lease that is granted before a booking or a planned maintenance; a shorter one would be of no use."""

LAPSED, CANCELLED = "lapsed", "cancelled"
"""How the ``end_reason`` of a booking begins if its owner did not take it in time, and if a person cancelled it."""


class Booking(Frozen):
    """Hosts that are set aside for an owner or a planned maintenance, from ``starts_at`` until just before ``ends_at``.

    A booking is open while ``ended_at`` is None. ``requirements`` is what was asked for, as a text; ``hosts`` are the
    ids of the hosts. For a planned maintenance, ``purpose`` is its reason, and ``resumes`` whether it ends by itself.
    ``due_at`` is when the next command that writes has to do something for the booking, such as end it. ``reservation``
    is the id of the reservation with which the owner took the booking; None before that.
    """

    id: str
    owner: str
    purpose: str | None
    starts_at: datetime
    ends_at: datetime
    created_at: datetime
    requirements: str
    hosts: tuple[int, ...]
    request_id: str | None = None
    resumes: bool = False
    due_at: datetime | None = None
    reservation: str | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None

    @property
    def is_maintenance(self) -> bool:
        """Whether this is a planned maintenance, not a booking of an owner."""
        return self.id.startswith("m-")

    def ended_as(self, how: str) -> bool:
        """Return whether the booking ended as ``how`` says: :data:`LAPSED` or :data:`CANCELLED`."""
        return (self.end_reason or "").startswith(how)

    @property
    def span(self) -> Planned:
        """The time that is set aside for the booking on each of its hosts."""
        return Planned(self.id, self.owner, self.starts_at, self.ends_at)

    def has_begun(self, now: datetime) -> bool:
        """Return whether the booking is open and ``now`` is between its start and its end."""
        return self.ended_at is None and self.starts_at <= now < self.ends_at


def with_planned(host: Host, new: Planned) -> Host:
    """Return a host with one more time that is set aside on it."""
    return replace(host, planned=tuple(sorted((*host.planned, new), key=lambda each: (each.starts_at, each.id))))


def without_planned(host: Host, booking_id: str) -> Host:
    """Return a host without the time that is set aside on it for a booking."""
    return replace(host, planned=tuple(each for each in host.planned if each.id != booking_id))


def in_the_way(host: Host, starts: datetime, ends: datetime, turnaround: timedelta = _NOTHING) -> Planned | None:
    """Return the first time set aside on a host that overlaps a span or is less than ``turnaround`` away, if any."""
    return next(all_in_the_way(host, starts, ends, turnaround), None)


def all_in_the_way(host: Host, starts: datetime, ends: datetime, turnaround: timedelta) -> Iterator[Planned]:
    """Yield the times set aside on a host that overlap a span or are less than ``turnaround`` away, earliest first."""
    return (p for p in host.planned if p.starts_at - turnaround < ends and starts < p.ends_at + turnaround)


def is_set_aside(host: Host, now: datetime) -> bool:
    """Return whether a booking or maintenance on this host has begun, and no owner has taken it yet."""
    return bool(host.planned) and host.planned[0].starts_at <= now


def free_until(host: Host, turnaround: timedelta = _NOTHING) -> datetime:
    """Return when a lease on a host must end because of what is planned on it; :data:`NEVER` if nothing is.

    ``turnaround`` is the time that must be left before the next plan.
    """
    return host.planned[0].starts_at - turnaround if host.planned else NEVER


def is_leased_past(host: Host, at: datetime) -> bool:
    """Return whether a host has a lease that ends after ``at``, or never."""
    return host.reservation is not None and (host.reservation.expires_at or NEVER) > at


def is_broken(host: Host, starts: datetime) -> bool:
    """Return whether a host stays unusable at the time ``starts`` unless an operator acts, as far as is known."""
    if host.undeclared or host.fault is not None or host.cordon is not None:
        return True
    return any(note.until is None or note.until > starts for note in host.maintenance)


def free_starts(
    host: Host, after: datetime, length: timedelta, turnaround: timedelta = _NOTHING
) -> Iterator[tuple[datetime, datetime]]:
    """Yield when a host is free for ``length``, as pairs of the earliest and the latest start, from ``after`` on.

    ``turnaround`` must pass between this time and each lease or plan beside it.
    """
    held = host.reservation
    if is_broken(host, NEVER - length) or (held is not None and held.expires_at is None):
        return
    ends = [note.until for note in host.maintenance if note.until is not None]
    if held is not None and held.expires_at is not None:
        ends.append(held.expires_at + turnaround)
    begin = max([after, *ends])
    for each in host.planned:
        last = each.starts_at - turnaround - length
        if begin <= last:
            yield begin, last
        begin = max(begin, each.ends_at + turnaround)
    yield begin, NEVER
