"""Reserve hosts that have bookings or planned maintenances: which hosts, and until when; take a booking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from bmhctl.domain.booking import SHORTEST_LEASE, Booking, free_until, without_planned
from bmhctl.domain.matching import Match, match, until_of
from bmhctl.domain.model import NEVER, Host, State
from bmhctl.domain.policy import LeaseTerms, Policy
from bmhctl.domain.requirements import (
    Requirement,
    Requirements,
    ReservationRequest,
    describe_requirements,
    load_requirements,
    total,
)
from bmhctl.domain.room import Demand
from bmhctl.domain.units import by_minute, format_duration, local_time
from bmhctl.errors import BmhctlError, BusyError, NotFoundError, NotYoursError, StateRefusedError
from bmhctl.lifecycle.table import where
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.allocation import check_satisfiable, refusal
from bmhctl.usecases.reservations.fairness import free_for, hosts_for_tickets, match_free
from bmhctl.usecases.reservations.limits import caps_of, check_hosts
from bmhctl.usecases.shared.booking_hosts import apply_room, earliest_start, find_room
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import end_booking, hosts_of

_LOOK_AGAIN = 5.0  # seconds between two checks whether the booking was moved, while its owner waits for it


def known_booking(ctx: Context, booking_id: str) -> Booking:
    """Return the booking or planned maintenance with this id, open or ended, or raise :class:`NotFoundError`."""
    booking = ctx.store.bookings.get(booking_id)
    if booking is None:
        raise NotFoundError(f"there is no booking {booking_id}", hint="bmhctl bookings lists the open ones")
    return booking


def open_booking(ctx: Context, booking_id: str) -> Booking:
    """Return the open booking or planned maintenance with this id.

    Raises :class:`NotFoundError` for an unknown id, :class:`StateRefusedError` when it has ended.
    """
    booking = known_booking(ctx, booking_id)
    if booking.ended_at is not None and booking.is_maintenance:
        raise StateRefusedError(
            f"planned maintenance {booking_id} is not open any more: {booking.end_reason}",
            hint="bmhctl resume HOST brings back a host that is in maintenance",
        )
    if booking.ended_at is not None:
        raise StateRefusedError(
            f"booking {booking_id} has ended: {booking.end_reason}", hint="bmhctl bookings lists the open ones"
        )
    return booking


def resolve(ctx: Context, request: ReservationRequest) -> ReservationRequest:
    """Return the request with the hosts and the end of the booking that it takes; unchanged if it takes none.

    A request takes the booking that it names. If it names none, it takes a booking of the same owner that has begun,
    that has as many hosts as the request asks for, and whose hosts fit the request. Raises :class:`NotYoursError` for a
    booking of another owner, and :class:`StateRefusedError` for one that has not begun.
    """
    now = ctx.clock()
    if request.booking is not None:
        booking = open_booking(ctx, request.booking)
        if booking.is_maintenance:
            raise StateRefusedError(f"{booking.id} is a planned maintenance", hint="bmhctl bookings shows which")
        if booking.owner != ctx.actor:
            raise NotYoursError(f"booking {booking.id} is {booking.owner}'s, not {ctx.actor}'s")
        if not booking.has_begun(now):
            raise StateRefusedError(
                f"booking {booking.id} begins at {local_time(booking.starts_at)}",
                hint=f"to begin earlier: bmhctl bookings move {booking.id} --from WHEN",
            )
        wanted = replace(request, requirements=load_requirements(booking.requirements))
        return _for_booking(wanted, booking, now)
    for booking in ctx.store.bookings.of(ctx.actor, begun_by=now):
        if not booking.is_maintenance and booking.has_begun(now):
            hosts = hosts_of(ctx, booking)
            if total(request.requirements) == len(hosts) and not match(request.requirements, hosts).missing:
                return _for_booking(request, booking, now)
    return request


def await_beginning(ctx: Context, booking_id: str, pause: Callable[[float], None], deadline: datetime | None) -> None:
    """Wait until a booking of the actor begins; return at once if it begins after ``deadline`` or can't be taken.

    The booking may be moved or cancelled meanwhile. ``pause`` is called with seconds, and may raise to end the wait.
    """
    reported = None
    while True:
        booking, now = ctx.store.bookings.get(booking_id), ctx.clock()
        if booking is None or booking.ended_at is not None or booking.is_maintenance or booking.owner != ctx.actor:
            return
        if booking.starts_at <= now or (deadline is not None and booking.starts_at > deadline):
            return
        if booking.starts_at != reported:
            reported = booking.starts_at
            ctx.report(f"waiting until booking {booking.id} begins at {local_time(booking.starts_at)}")
        pause(min(_LOOK_AGAIN, (booking.starts_at - now) / timedelta(seconds=1)))


def _for_booking(request: ReservationRequest, booking: Booking, now: datetime) -> ReservationRequest:
    return replace(
        request,
        booking=booking.id,
        ttl=request.ttl or booking.ends_at - now,
        endless=False,
        purpose=request.purpose or booking.purpose,
    )


def choose_around(ctx: Context, request: ReservationRequest, before: int | None) -> tuple[Host, ...]:
    """Return the hosts that a request gets now, in the caller's transaction, with regard to what is planned on hosts.

    ``before`` is the id of the request's own ticket; None for none. Hosts whose next plan begins soonest after the
    lease come first, so that the others stay free for longer leases. If no hosts are free for the whole lease, a
    request without a length gets those that are free the longest. Raises the errors of
    :func:`~bmhctl.usecases.reservations.allocation.refusal`.
    """
    policy, now, requirements = ctx.store.policy(), ctx.clock(), request.requirements
    if request.booking is not None:
        hosts = _choose_booked(ctx, requirements, open_booking(ctx, request.booking), policy)
        check_hosts(ctx, ctx.actor, hosts, policy.limits)
        return hosts
    length = policy.lease_of(request).ttl
    until = until_of(length, now, policy.turnaround, may_be_short=request.may_be_short)
    found = match_free(ctx, ctx.actor, requirements, before, policy.limits, until)
    if not found.missing:
        return found.hosts
    for end in _ends(request, now, length):
        room = find_room(
            ctx,
            Demand(requirements, now, end, policy.turnaround),
            lambda more: free_for(ctx, requirements, before, policy.limits, more, now),
            kept=hosts_for_tickets(ctx, policy.limits, before),
            caps=caps_of(ctx, ctx.actor, policy.limits),
        )
        if room is not None:
            return room.hosts
    longest = until_of(length, now, policy.turnaround, may_be_short=True)
    short = match_free(ctx, ctx.actor, requirements, before, policy.limits, longest)
    if not short.missing and all(free_until(host) >= until.whole for host in short.hosts):
        return short.hosts  # a step has just ended on one of the hosts
    if short.missing or request.may_be_short:
        raise refusal(ctx, requirements, found, before, policy.limits)
    raise _too_long(ctx, request, short.hosts, policy, length)


def _ends(request: ReservationRequest, now: datetime, length: timedelta | None) -> list[datetime]:
    """Return the possible ends of a lease for which bookings may move, that of the whole lease first."""
    whole = NEVER if length is None else now + length
    return [whole, now + SHORTEST_LEASE] if request.may_be_short else [whole]


def _too_long(
    ctx: Context, request: ReservationRequest, hosts: Sequence[Host], policy: Policy, length: timedelta | None
) -> BmhctlError:
    first = min(hosts, key=free_until)
    latest, now = free_until(first, policy.turnaround), ctx.clock()
    longest = max((latest - now) // SHORTEST_LEASE, 1) * SHORTEST_LEASE  # in whole minutes
    begins = None
    if length is not None:
        begins = earliest_start(ctx, Demand(request.requirements, now, now + length, policy.turnaround))
    whole = f"; the whole lease is possible --from '{by_minute(begins):%Y-%m-%dT%H:%MZ}'" if begins is not None else ""
    return BusyError(
        f"{describe_requirements(request.requirements)}: free only until {local_time(latest)}, nothing was "
        f"reserved: {first.name} is {first.planned[0].words}",
        hint=f"--ttl {format_duration(longest)} is the longest now{whole}",
        details={"until": latest.isoformat(), "from": None if begins is None else begins.isoformat()},
    )


def _choose_booked(ctx: Context, requirements: Requirements, booking: Booking, policy: Policy) -> tuple[Host, ...]:
    mine = hosts_of(ctx, booking)
    claimed = ctx.store.claims.claimed_hosts([host.id for host in mine])
    usable = [host for host in mine if _is_usable(host) and host.id not in claimed]
    found = match(requirements, usable)
    if not found.missing:
        return found.hosts
    own = {host.id for host in mine}

    def others(until: datetime, more: int = 0) -> Iterator[Host]:
        free = free_for(ctx, requirements, None, policy.limits, more, until)
        return (host for host in free if host.id not in own)

    found = match(requirements, [*usable, *others(booking.ends_at + policy.turnaround)])
    if not found.missing:
        return found.hosts
    freed = [without_planned(host, booking.id) for host in usable]
    now = ctx.clock()
    demand = Demand(requirements, now, booking.ends_at, policy.turnaround)
    room = find_room(ctx, demand, lambda more: [*freed, *others(now, more)])
    if room is not None:
        return room.hosts
    check_satisfiable(ctx, requirements)
    raise BusyError(
        f"booking {booking.id} can't be taken now: {'; '.join(_missing(mine, usable))}; no other host fits",
        hint="bmhctl why HOST says what is missing; --wait 30m waits for it",
    )


def _is_usable(host: Host) -> bool:
    return host.state is State.AVAILABLE and host.cordon is None and not host.undeclared


def _missing(mine: Iterable[Host], usable: Sequence[Host]) -> list[str]:
    known = {host.id for host in usable}
    words = [f"{host.name} is {where(host.state)}" for host in mine if host.id not in known]
    return words or ["its hosts have left the inventory"]


def take(
    ctx: Context,
    request: ReservationRequest,
    hosts: Sequence[Host],
    terms: LeaseTerms,
    policy: Policy,
    token: str,
    asked: ReservationRequest,
) -> tuple[Sequence[Host], LeaseTerms]:
    """End the booking that a request takes, in the caller's transaction; return its hosts and the terms of the lease.

    If no booking is taken, the given hosts are returned. ``terms`` are the terms of the lease without regard to
    bookings, and ``token`` is the id of the new reservation. ``asked`` is the request before :func:`resolve`; if only
    that function found the booking, the notes of the terms say so. Bookings move away from hosts that were chosen in
    spite of them. The lease ends before anything else that is planned on its hosts.
    """
    if request.booking is not None:
        booking = open_booking(ctx, request.booking)
        terms = replace(terms, until=booking.ends_at)
        is_longer = asked.endless or (asked.ttl is not None and ctx.clock() + asked.ttl > booking.ends_at)
        if asked.booking is None or is_longer:
            words = f"this takes booking {booking.id}: the lease ends at {local_time(booking.ends_at)} at the latest"
            terms = replace(terms, notes=(*terms.notes, words))
        taken = {host.id for host in hosts}
        end_booking(ctx, booking, ctx.clock(), f"taken as {token}", reservation=token, keep=taken)
        hosts = [without_planned(host, booking.id) for host in hosts]
    if any(host.planned for host in hosts):
        found = _with_room(ctx, request, hosts, terms, policy)
        hosts, terms = found.hosts, replace(terms, notes=(*terms.notes, *found.notes))
    if any(host.planned for host in hosts):
        latest, words = latest_end(hosts, policy)
        ends = terms.end(ctx.clock())
        if ends is None or ends > latest:
            terms = replace(terms, notes=(*terms.notes, note_of_end(latest, words)), until=latest)
        elif terms.until is None:
            terms = replace(terms, until=latest)
    if terms.until is not None and terms.until <= ctx.clock():  # the checks may have run until after this time
        raise BusyError(
            f"the lease would have ended at {local_time(terms.until)}: nothing was reserved", hint="try again"
        )
    return hosts, terms


def _with_room(
    ctx: Context, request: ReservationRequest, hosts: Sequence[Host], terms: LeaseTerms, policy: Policy
) -> Match:
    """Move the bookings that are in the way of a lease; return its hosts with their new plans, and notes on moves."""
    now, as_they_are = ctx.clock(), Match(tuple(hosts), 0)
    latest, _ = latest_end(hosts, policy)
    if latest >= (terms.end(now) or NEVER) or (request.may_be_short and latest >= now + SHORTEST_LEASE):
        return as_they_are
    wanted = tuple(Requirement(name=host.name) for host in hosts)
    for end in _ends(request, now, terms.ttl):
        for kept in (hosts_for_tickets(ctx, policy.limits), ()):  # the second try may use hosts for younger tickets
            room = find_room(ctx, Demand(wanted, now, end, policy.turnaround), lambda _: hosts, kept=kept)
            if room is not None:
                return apply_room(ctx, room, now, f"to make room for a lease of {ctx.actor}")
    return as_they_are


def latest_end(hosts: Iterable[Host], policy: Policy) -> tuple[datetime, str]:
    """Return the time by which a lease of these hosts must end, and in words why; at least one host has plans."""
    first = min(hosts, key=free_until)
    latest = free_until(first, policy.turnaround)
    return latest, f"{first.name} is {first.planned[0].words}"


def note_of_end(latest: datetime, words: str) -> str:
    """Return the note that a lease ends at ``latest``, and why; both values are from :func:`latest_end`."""
    return f"the lease ends at {local_time(latest)}: {words}"
