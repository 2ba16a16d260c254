"""Do what bookings require at certain times: lapse a booking that was not taken, begin and end planned maintenances."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from bmhctl.domain.booking import LAPSED, Booking, without_planned
from bmhctl.domain.model import EventKind, Host, Note, State, Verb
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import load_requirements, total
from bmhctl.domain.room import Demand, unusable
from bmhctl.domain.units import local_time, plural
from bmhctl.errors import BmhctlError
from bmhctl.lifecycle.machine import GuardInput
from bmhctl.stores.claims import ticket_claim
from bmhctl.support.values import replace
from bmhctl.usecases.shared.booking_hosts import choose_for
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import due_of, end_booking, hosts_of, leave, set_aside
from bmhctl.usecases.shared.transitions import SELF, add_reason, move, record_event

_AGAIN = timedelta(minutes=1)  # the pause before another attempt


def settle_due(ctx: Context, bookings: Iterable[Booking], now: datetime) -> None:
    """Do what is due for these bookings and planned maintenances, in the caller's transaction.

    A booking that was not taken in time lapses, unless its owner is waiting for it. A booked host that will be unusable
    is exchanged for another that fits. A planned maintenance begins; it also ends if it was planned to end by itself.
    """
    policy = ctx.store.policy()
    for each in bookings:
        booking = ctx.store.bookings.get(each.id) or each  # settling an earlier one may have moved this booking
        due = due_of(booking, policy)
        if booking.is_maintenance:
            _maintain(ctx, booking, now)
        elif now >= booking.ends_at:
            end_booking(ctx, booking, now, f"{LAPSED}: its time has ended", actor=SELF)
        elif now < due:
            _exchange(ctx, booking, now, policy, due)
        elif _is_waited_for(ctx, booking):
            _exchange(ctx, booking, now, policy, min(now + _AGAIN, booking.ends_at))
        else:
            end_booking(ctx, booking, now, f"{LAPSED}: its owner did not take it in time", actor=SELF)


def _is_waited_for(ctx: Context, booking: Booking) -> bool:
    """Return whether a process of the owner waits in the queue with the requirements of the booking."""
    mine = [
        ticket_claim(ticket.id)
        for ticket in ctx.store.tickets.all()
        if (ticket.owner, ticket.requirements) == (booking.owner, booking.requirements)
    ]
    return bool(mine) and bool(ctx.store.claims.shared(mine))


def _exchange(ctx: Context, booking: Booking, now: datetime, policy: Policy, due: datetime) -> None:
    """Exchange the hosts of a booking that will be unusable; ``due`` is when its next action is due otherwise."""
    mine = hosts_of(ctx, booking)
    kept = {host.id for host in mine} - {host.id for host in unusable(booking, mine)}
    without = [without_planned(host, booking.id) for host in mine if host.id in kept]
    rest = replace(booking, starts_at=max(now, booking.starts_at))
    found = choose_for(ctx, Demand.of(rest, policy.turnaround), preferred=without)
    if found.missing:
        ctx.store.bookings.save(replace(booking, due_at=_next_look(booking, now, due)))
        return
    chosen = {host.id for host in found.hosts}
    new = [host for host in found.hosts if host.id not in kept]
    for host in mine:
        if host.id not in chosen:
            names = ", ".join(each.name for each in new)
            leave(ctx, host, booking, now, f"exchanged for {names}" if names else "not needed any more", SELF)
    for host in new:
        set_aside(ctx, host, booking, now, f"{booking.id}: takes the place of a host that is not usable", SELF)
    ctx.store.bookings.save(replace(booking, hosts=tuple(host.id for host in found.hosts), due_at=due))


def report_short(ctx: Context, bookings: Iterable[str], reported: set[str]) -> None:
    """Report in a line each which of these bookings lack hosts, without lines that were ``reported`` before."""
    for each in bookings:
        booking = ctx.store.bookings.get(each)
        if booking is None or booking.ended_at is not None:
            continue
        hosts = hosts_of(ctx, booking)
        missing = total(load_requirements(booking.requirements)) - len(hosts) + len(unusable(booking, hosts))
        if missing > 0:
            line = (
                f"booking {booking.id} of {booking.owner} from {local_time(booking.starts_at)} is short of "
                f"{plural(missing, 'host')}, no other fits: bmhctl bookings move {booking.id} --from WHEN, or cancel it"
            )
            if line not in reported:
                reported.add(line)
                ctx.report(line)


def _next_look(booking: Booking, now: datetime, due: datetime) -> datetime:
    """Return when to look for other hosts again: the nearer the beginning, the sooner."""
    ahead = booking.starts_at - now
    return min(now + max(_AGAIN, ahead / 10), booking.starts_at if ahead > timedelta() else due, due)


def _maintain(ctx: Context, booking: Booking, now: datetime) -> None:
    """Begin or end a planned maintenance on each of its hosts."""
    is_over = now >= booking.ends_at
    left = False
    for host in hosts_of(ctx, booking):
        try:
            if any(each.id == booking.id for each in host.planned):
                _begin(ctx, host, booking, now)
            elif is_over and booking.resumes:
                _resume(ctx, host, booking, now)
        except BmhctlError:  # a step runs on the host: try again later
            left = True
    if left:
        ctx.store.bookings.save(replace(booking, due_at=now + _AGAIN))
    elif is_over or not booking.resumes:
        words = "its time has ended" if is_over else "it has begun"
        ctx.store.bookings.save(replace(booking, due_at=None, ended_at=now, end_reason=words))
    else:
        ctx.store.bookings.save(replace(booking, due_at=booking.ends_at))


def end_maintenance(ctx: Context, booking: Booking, now: datetime) -> tuple[str, ...]:
    """End a planned maintenance that ends by itself, on hosts where it has begun, in the caller's transaction.

    Returns the names of hosts that stay in maintenance, because they are dirty or a step runs on them.
    """
    if booking.resumes:
        for host in hosts_of(ctx, booking):
            with suppress(BmhctlError):  # a step may be running on the host
                _resume(ctx, host, booking, now)
    note = _note_of(booking)
    return tuple(sorted(host.name for host in hosts_of(ctx, booking) if note in host.maintenance))


def _note_of(booking: Booking) -> Note:
    return Note(booking.owner, booking.purpose or "", booking.starts_at, booking.ends_at)


def _begin(ctx: Context, host: Host, booking: Booking, now: datetime) -> None:
    freed = without_planned(host, booking.id)
    if now >= booking.ends_at:  # no command was run during the maintenance
        record_event(ctx, freed, EventKind.PLAN_ENDED, now, reason=f"{booking.id}: its time has ended", actor=SELF)
        return
    reason = f"planned: {booking.purpose}"
    add_reason(ctx, freed, _note_of(booking), now, reason=reason, has_claim=False)


def _resume(ctx: Context, host: Host, booking: Booking, now: datetime) -> None:
    """Close the reason of a planned maintenance; a clean host without another reason becomes initial."""
    note = _note_of(booking)
    rest = tuple(each for each in host.maintenance if each != note)
    if rest == host.maintenance or host.state is not State.MAINTENANCE:
        return
    reason = f"planned maintenance has ended: {booking.purpose}"
    if rest:
        closed = replace(host, maintenance=rest)
        record_event(ctx, closed, EventKind.REASON_CLOSED, now, reason=reason, actor=SELF)
    elif not host.dirty or (host.reservation and host.reservation.is_valid(now)):
        is_claimed = bool(ctx.store.claims.claimed_hosts([host.id]))
        inputs = GuardInput.of(host, now, is_claimed=is_claimed, reason=reason)
        move(ctx, host, Verb.RESUME, inputs, now, reason=reason, actor=SELF, recycles=True)
