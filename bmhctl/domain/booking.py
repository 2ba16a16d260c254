"""Bookings and planned maintenances: claims on the future of hosts, and what they leave free; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from bmhctl.domain.model import NEVER, Host, Planned
from bmhctl.support.values import Frozen

_NOTHING = timedelta()

SHORTEST_LEASE = timedelta(minutes=1)
"""The shortest lease that is granted before something that is planned: a shorter one is of no use."""

LAPSED, CANCELLED = "lapsed", "cancelled"
"""How the end reason of a booking begins that was not taken in time, or that a person cancelled."""


class Booking(Frozen):
    """Some hosts, set aside for an owner or for a planned maintenance, from ``starts_at`` to before ``ends_at``.

    Open while ``ended_at`` is None. ``requirements`` is what was asked for, ``hosts`` are the ids of the hosts.
    ``purpose`` is the reason of a maintenance; ``resumes``: it ends by itself. ``due_at`` is when something has to be
    done next, by the next command that writes. ``reservation`` is the id of the one that took it.
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
        """Whether it is a planned maintenance."""
        return self.id.startswith("m-")

    @property
    def has_lapsed(self) -> bool:
        """Whether it ended because its owner did not take it in time."""
        return (self.end_reason or "").startswith(LAPSED)

    @property
    def was_cancelled(self) -> bool:
        """Whether a person gave it up."""
        return (self.end_reason or "").startswith(CANCELLED)

    @property
    def span(self) -> Planned:
        """The time that is set aside for it on each of its hosts."""
        return Planned(self.id, self.owner, self.starts_at, self.ends_at)

    def has_begun(self, now: datetime) -> bool:
        """Return whether ``now`` is within its time."""
        return self.ended_at is None and self.starts_at <= now < self.ends_at


def with_planned(host: Host, new: Planned) -> tuple[Planned, ...]:
    """Return the times that are set aside on a host with a new one among them, the next one first."""
    return tuple(sorted((*host.planned, new), key=lambda each: (each.starts_at, each.id)))


def without_planned(host: Host, booking_id: str) -> tuple[Planned, ...]:
    """Return the times that are set aside on a host for others than one booking."""
    return tuple(each for each in host.planned if each.id != booking_id)


def in_the_way(host: Host, starts: datetime, ends: datetime, turnaround: timedelta = _NOTHING) -> Planned | None:
    """Return the first time set aside on a host that is nearer than ``turnaround`` to a span, or overlaps it."""
    for each in host.planned:
        if each.starts_at - turnaround < ends and starts < each.ends_at + turnaround:
            return each
    return None


def is_set_aside(host: Host, now: datetime) -> bool:
    """Return whether the time of a booking or a planned maintenance on this host has begun; it is not taken yet."""
    return bool(host.planned) and host.planned[0].starts_at <= now


def free_until(host: Host, turnaround: timedelta = _NOTHING) -> datetime:
    """Return until when a lease on a host may last; :data:`NEVER` where nothing is planned."""
    return host.planned[0].starts_at - turnaround if host.planned else NEVER


def is_leased_until(host: Host) -> datetime | None:
    """Return until when a host is leased; None when it is not, :data:`NEVER` for a lease without an end."""
    if host.reservation is None:
        return None
    return host.reservation.expires_at or NEVER


def is_free_for(host: Host, starts: datetime, ends: datetime, turnaround: timedelta = _NOTHING) -> bool:
    """Return whether a host may be booked for a span: nothing else is planned then, and its lease is over before."""
    leased = is_leased_until(host)
    if leased is not None and leased > starts - turnaround:
        return False
    return not is_broken(host, starts) and in_the_way(host, starts, ends, turnaround) is None


def is_broken(host: Host, starts: datetime) -> bool:
    """Return whether a host will not be usable at a time without an operator, as far as is known."""
    if host.undeclared or host.fault is not None or host.cordon is not None:
        return True
    return any(note.until is None or note.until > starts for note in host.maintenance)


def free_starts(
    host: Host, after: datetime, length: timedelta, turnaround: timedelta = _NOTHING
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans of the times from ``after`` on, both ends included, at which a host is free for ``length``."""
    if is_broken(host, NEVER - length):
        return
    leased = is_leased_until(host)
    if leased == NEVER:
        return
    ends = [note.until for note in host.maintenance if note.until is not None]
    begin = max([after, *ends, *([] if leased is None else [leased + turnaround])])
    for each in host.planned:
        last = each.starts_at - turnaround - length
        if begin <= last:
            yield begin, last
        begin = max(begin, each.ends_at + turnaround)
    yield begin, NEVER
