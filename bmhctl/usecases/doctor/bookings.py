"""What ``doctor`` checks of bookings: the rows of their hosts must record exactly these bookings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from bmhctl.domain.booking import Booking, in_the_way, is_leased_past, with_planned
from bmhctl.domain.model import Host, Planned
from bmhctl.domain.units import local_time, plural
from bmhctl.results.diagnosis import Finding
from bmhctl.support.values import replace
from bmhctl.usecases.doctor.question import BROKEN, NOTE, WARNING

if TYPE_CHECKING:
    from bmhctl.usecases.doctor.examine import Examination
    from bmhctl.usecases.shared.context import Context

_KIND = "booking"
_LATE = timedelta(minutes=1)  # how long an action for a booking may be overdue before it is reported


def look_at_bookings(ctx: Context, seen: Examination) -> None:
    """Record where bookings and the rows of their hosts contradict each other.

    The booking counts as right, because its owner was told its hosts and time. A fix changes only rows of hosts.
    """
    now = ctx.clock()
    known = {each.id: each for each in ctx.store.bookings.open()}
    hosts = _hosts(ctx, known)
    for host in sorted(hosts.values(), key=lambda each: each.name):
        for each in host.planned:
            if (wrong := _wrong(ctx, host, each, known)) is not None:
                message, fix = wrong
                seen.fixable(_KIND, BROKEN, message, fix, _set_right, host.name)
        right = _without_wrong(host, known)
        for booking in _missing(host, known, now):
            message = f"is not set aside for {_words(booking)}, which has this host"
            if _fits(right, booking):
                seen.fixable(_KIND, BROKEN, message, "sets it aside", _set_right, host.name)
            else:
                remedy = f"the host is not free then: bmhctl bookings move {booking.id} --from WHEN, or cancel it"
                seen.note(Finding(_KIND, BROKEN, message, remedy, host.name))
        for first, second in pairwise(right.planned):
            if first.ends_at > second.starts_at:
                message = f"is set aside for {first.id} and {second.id} at the same time"
                remedy = f"bmhctl bookings move {second.id} --from WHEN, or cancel one of them"
                seen.note(Finding(_KIND, BROKEN, message, remedy, host.name))
    for booking in known.values():
        gone = sum(each not in hosts for each in booking.hosts)
        if gone and not booking.is_maintenance:
            message = f"{_words(booking)} has {plural(gone, 'removed host')}"
            remedy = f"bmhctl bookings move {booking.id} --from WHEN chooses its hosts again"
            seen.note(Finding(_KIND, WARNING, message, remedy))
        if booking.due_at is not None and booking.due_at < now - _LATE:
            message = f"{_words(booking)}: an action has been overdue since {local_time(booking.due_at)}"
            seen.note(Finding(_KIND, NOTE, message, "the next command that writes does it, such as bmhctl reap"))


def _hosts(ctx: Context, known: dict[str, Booking]) -> dict[int, Host]:
    """Return, by id, the hosts of open bookings, and the hosts on which a time is set aside."""
    members = ctx.store.hosts.with_ids({each for booking in known.values() for each in booking.hosts})
    return members | {host.id: host for host in ctx.store.hosts.that("hosts.planned IS NOT NULL")}


def _words(booking: Booking) -> str:
    what = "planned maintenance" if booking.is_maintenance else "booking"
    return f"{what} {booking.id} of {booking.owner}"


def _wrong(ctx: Context, host: Host, planned: Planned, known: dict[str, Booking]) -> tuple[str, str] | None:
    """Return what is wrong with a time that is set aside on a host, and the fix; None if the time is right."""
    booking = known.get(planned.id)
    if booking is None:
        ended = ctx.store.bookings.get(planned.id)
        why = "which does not exist" if ended is None else f"which has ended: {ended.end_reason}"
        return f"is set aside for {planned.id}, {why}", "removes that time from the host"
    if host.id not in booking.hosts:
        return f"is set aside for {_words(booking)}, which has other hosts", "removes that time from the host"
    if planned != booking.span:
        return (
            f"is set aside for {_words(booking)} at another time than that of the booking",
            "records the time of the booking",
        )
    return None


def _without_wrong(host: Host, known: dict[str, Booking]) -> Host:
    """Return a host with only those times set aside that belong to its open bookings."""
    right = {each.id: known[each.id].span for each in host.planned if each.id in known}
    right = {token: span for token, span in right.items() if host.id in known[token].hosts}
    return replace(host, planned=tuple(sorted(right.values(), key=lambda each: (each.starts_at, each.id))))


def _missing(host: Host, known: dict[str, Booking], now: datetime) -> Iterator[Booking]:
    """Yield the open bookings whose time is not set aside on their host; a maintenance that has begun needs none."""
    has = {each.id for each in host.planned}
    for booking in known.values():
        # If the clock was set back after a maintenance began, its ``due_at`` is no longer its end.
        has_begun = booking.starts_at <= now or booking.due_at != booking.starts_at
        is_over = booking.ends_at <= now or (booking.is_maintenance and has_begun)
        if host.id in booking.hosts and booking.id not in has and not is_over:
            yield booking


def _fits(host: Host, booking: Booking) -> bool:
    is_held = not booking.is_maintenance and is_leased_past(host, booking.starts_at)
    return not is_held and in_the_way(host, booking.starts_at, booking.ends_at) is None


def _set_right(ctx: Context) -> None:
    """Write the times that are set aside on hosts again, from the open bookings."""
    known, now = {each.id: each for each in ctx.store.bookings.open()}, ctx.clock()
    for host in _hosts(ctx, known).values():
        right = _without_wrong(host, known)
        for booking in _missing(host, known, now):
            if _fits(right, booking):
                right = with_planned(right, booking.span)
        if right.planned != host.planned:
            ctx.store.integrity.save_times(right)
