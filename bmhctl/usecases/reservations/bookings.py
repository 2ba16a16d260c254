"""Book hosts for a time to come; list, move and cancel bookings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from bmhctl.domain.booking import CANCELLED, Booking, is_broken, without_planned
from bmhctl.domain.matching import Cap, Match
from bmhctl.domain.model import Host, Ticket
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import Requirements, describe_requirements, dump_requirements, load_requirements, total
from bmhctl.domain.times import check_not_too_far, in_utc
from bmhctl.domain.units import by_minute, format_duration, local_time
from bmhctl.errors import BmhctlError, BusyError, NotYoursError, StateRefusedError, UsageError
from bmhctl.results import Done
from bmhctl.results.bookings import Booked, Bookings
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.allocation import check_names, check_satisfiable
from bmhctl.usecases.reservations.booked import known_booking, open_booking
from bmhctl.usecases.reservations.request import ReservationRequest
from bmhctl.usecases.shared.context import Context, retried
from bmhctl.usecases.shared.leases import describe_reservation, forced_reason
from bmhctl.usecases.shared.planned import (
    candidates,
    choose_for,
    due_of,
    earliest_start,
    end_booking,
    end_maintenance,
    hosts_of,
    leave,
    set_aside,
)
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.shared.transitions import describe_planned

if TYPE_CHECKING:
    from bmhctl.domain.limits import Limit
    from bmhctl.usecases.reservations.limits import Span

_MOST_REPEATS = 104
_MOST_CHOICES = 20  # so many choices of hosts are tried for a booking that would make a ticket wait longer
_LAG = timedelta(minutes=1)  # between the moments when a time such as 2h was read and when it was booked, at most


@retried
def book(ctx: Context, request: ReservationRequest, starts: datetime, ends: datetime, *, weekly: int = 1) -> Bookings:
    """Book hosts from ``starts`` to before ``ends``, and again at the same local time of the following weeks.

    All of them or none; a dry run of the context books none. The same request under the same id returns what it booked.
    Raises :class:`BusyError` when hosts are missing then, :class:`UnsatisfiableError` when they always would be.
    """
    refresh_and_reap(ctx)
    policy = ctx.policy()
    _check_span(starts, ends, policy, ctx.clock())
    if not 1 <= weekly <= _MOST_REPEATS:
        raise UsageError(
            f"can't repeat a booking {weekly} times", hint=f"--weekly takes a number from 1 to {_MOST_REPEATS}"
        )
    with ctx.transaction():
        now = ctx.clock()
        if request.request_id is not None:
            known = ctx.store.bookings.of_request(ctx.actor, request.request_id)
            if known:
                return _booked_before(ctx, request, starts, ends, weekly, known, now)
        check_names(ctx, request.requirements)
        items = []
        for week in range(weekly):
            begin, end = _later(starts, week), _later(ends, week)
            _check_span(begin, end, policy, now)
            make = partial(_make, ctx, request, begin, end, policy, now, not week)
            items.append(_beside_tickets(ctx, make))
    return Bookings(tuple(items), now)


def _make(
    ctx: Context,
    request: ReservationRequest,
    starts: datetime,
    ends: datetime,
    policy: Policy,
    now: datetime,
    is_first: bool,
    avoided: Collection[int],
) -> Booked:
    found = _choose(ctx, policy, ctx.actor, request.requirements, starts, ends, now, avoided=avoided)
    if found.missing:
        raise _refusal(ctx, request, starts, ends, policy, found)
    booking = _booking(ctx, request, starts, ends, found.hosts, policy, now, is_first=is_first)
    _check_limits(ctx, policy, booking, found.hosts, now)
    return _book(ctx, booking, found.hosts, now)


def _beside_tickets(ctx: Context, make: Callable[[Collection[int]], Booked]) -> Booked:
    """Return the booking that ``make`` saves on other hosts than the given ones, so that no ticket waits longer for it.

    Every ticket is older than a booking that is made now. Raises :class:`BusyError` where none of the choices that were
    tried leaves each ticket the time by which it fits now.
    """
    from bmhctl.usecases.reservations.fairness import live_tickets

    tickets = live_tickets(ctx)
    if not tickets:
        return make(())
    from bmhctl.usecases.reservations.eta import etas_of_tickets

    now = ctx.clock()
    still = replace(ctx, clock=lambda: now)
    before = etas_of_tickets(still, tickets)
    avoided: set[int] = set()
    refused: BmhctlError | None = None
    for _ in range(_MOST_CHOICES):
        try:
            with ctx.store.savepoint():
                made = make(avoided)
                refused = _delayed(tickets, before, etas_of_tickets(still, tickets))
                if refused is None:
                    return made
                raise refused
        except BusyError as error:
            if error is not refused:
                raise refused or error from None
            avoided.update(made.booking.hosts)
    raise refused or BusyError("nothing was booked")


def _delayed(
    tickets: Sequence[Ticket], before: Sequence[datetime | None], after: Sequence[datetime | None]
) -> BusyError | None:
    """Return the refusal of a booking after which the first of the tickets that waits longer fits later or never."""
    for ticket, was, would_be in zip(tickets, before, after, strict=True):
        if was is not None and (would_be is None or would_be > was):
            later = "never" if would_be is None else f"by {local_time(would_be)}"
            return BusyError(
                f"nothing was booked: the older ticket of {ticket.owner} would get its hosts {later}, not by "
                f"{local_time(was)}",
                hint="book a later time; bmhctl queue shows who waits",
                details={"ticket": ticket.id, "owner": ticket.owner},
            )
    return None


def _check_limits(ctx: Context, policy: Policy, booking: Booking, hosts: tuple[Host, ...], now: datetime) -> None:
    """Raise the error of a limit that a new or a moved booking would exceed, beside what its owner has already."""
    if not policy.limits:
        return
    from bmhctl.usecases.reservations.limits import Span, check_booking, check_role

    owner = booking.owner
    if owner == ctx.actor:
        check_role(ctx, policy.limits)
    span = Span(hosts, booking.starts_at, booking.ends_at)
    for by_role, limits in _by_role(policy):
        check_booking(limits, owner, span, [*_spans_of(ctx, owner, now, booking.id, by_role)], now)


def _by_role(policy: Policy) -> list[tuple[bool, list[Limit]]]:
    """Return the limits that count by owner and those that count by role, where there are any."""
    found = ((by_role, [limit for limit in policy.limits if limit.is_by_role is by_role]) for by_role in (False, True))
    return [(by_role, limits) for by_role, limits in found if limits]


def _choose(
    ctx: Context,
    policy: Policy,
    owner: str,
    requirements: Requirements,
    starts: datetime,
    ends: datetime,
    now: datetime,
    *,
    preferred: Sequence[Host] = (),
    avoided: Collection[int] = (),
    without: str | None = None,
) -> Match:
    """Return the hosts of :func:`choose_for` within the limits of an owner, or any that would be free without them.

    What the owner has does not count the booking ``without``.
    """
    caps: list[Cap] = []
    for by_role, limits in _by_role(policy):
        from bmhctl.usecases.reservations.limits import caps_of_booking

        others = [*_spans_of(ctx, owner, now, without, by_role)]
        caps += caps_of_booking(limits, owner, starts, ends, others, now)
    choose = partial(
        choose_for, ctx, requirements, starts, ends, policy.turnaround, preferred=preferred, avoided=avoided
    )
    found = choose(caps=caps)
    return choose() if found.missing and caps else found  # the limit that they exceed is named then


def _spans_of(ctx: Context, owner: str, now: datetime, without: str | None, by_role: bool) -> Iterator[Span]:
    """Yield what an owner, or every owner of the same role, has booked and holds, except one booking."""
    from bmhctl.usecases.reservations.limits import Span

    role = None if ctx.store.role is None else owner.partition("@")[0]

    def counts(other: str) -> bool:
        return other == owner or (by_role and other.partition("@")[0] == role)

    for each in ctx.store.bookings.open() if by_role else ctx.store.bookings.of(owner):
        if counts(each.owner) and not each.is_maintenance and each.id != without:
            yield Span(tuple(hosts_of(ctx, each)), each.starts_at, each.ends_at)
    for held in ctx.store.reservations.open():
        if counts(held.owner):
            yield Span(tuple(ctx.store.hosts.held_by(held.id)), now, held.expires_at)


def _later(at: datetime, weeks: int) -> datetime:
    if not weeks:
        return at
    return in_utc(at.astimezone().replace(tzinfo=None) + timedelta(weeks=weeks))


def _check_span(starts: datetime, ends: datetime, policy: Policy, now: datetime) -> None:
    """Raise :class:`UsageError` unless a booking may last from ``starts`` to before ``ends``."""
    if starts <= now:
        raise UsageError("a booking begins in the future", hint="bmhctl reserve without --from reserves now")
    if ends <= starts:
        raise UsageError("the booking would end before it begins", hint="--until needs a time after --from")
    check_not_too_far(ends, now)
    if policy.max_ttl is not None and ends - starts > policy.max_ttl:
        raise UsageError(
            f"a booking of {format_duration(ends - starts)} is too long",
            hint=f"at most {format_duration(policy.max_ttl)}: the max_ttl of this inventory",
        )


def _booking(
    ctx: Context,
    request: ReservationRequest,
    starts: datetime,
    ends: datetime,
    hosts: tuple[Host, ...],
    policy: Policy,
    now: datetime,
    *,
    is_first: bool,
) -> Booking:
    booking = Booking(
        id=ctx.store.bookings.new_id("b-"),
        owner=ctx.actor,
        purpose=request.purpose,
        starts_at=starts,
        ends_at=ends,
        created_at=now,
        requirements=dump_requirements(request.requirements),
        hosts=tuple(host.id for host in hosts),
        request_id=request.request_id if is_first else None,
    )
    return replace(booking, due_at=due_of(booking, policy))


def _book(ctx: Context, booking: Booking, hosts: tuple[Host, ...], now: datetime) -> Booked:
    ctx.store.bookings.add(booking)
    taken = [set_aside(ctx, host, booking.span, now, _words(booking)) for host in hosts]
    return Booked(booking, tuple(host.name for host in taken), _in_words(booking))


def _in_words(booking: Booking) -> str:
    return describe_requirements(load_requirements(booking.requirements))


def _words(booking: Booking) -> str:
    """Return what the history says of a booking; times in UTC, for it is read anywhere."""
    times = f"from {booking.starts_at:%Y-%m-%d %H:%M} to {booking.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"booked {times} ({booking.id})" + (f": {booking.purpose}" if booking.purpose else "")


def _booked_before(
    ctx: Context,
    request: ReservationRequest,
    starts: datetime,
    ends: datetime,
    weekly: int,
    known: list[Booking],
    now: datetime,
) -> Bookings:
    """Return what the same request booked before.

    Raises :class:`UsageError` when its id was used for something else, :class:`NotYoursError` when all has ended.
    """
    first = known[0]
    if (
        first.requirements != dump_requirements(request.requirements)
        or len(known) != weekly
        or not _is_as_before(starts, first.starts_at, first.created_at, now)
        or not _is_as_before(ends, first.ends_at, first.created_at, now)
    ):
        repeated = f", {len(known)} weeks" if len(known) > 1 else ""
        raise UsageError(
            f"request id {request.request_id!r} was used for {_in_words(first)} from {local_time(first.starts_at)} "
            f"to {local_time(first.ends_at)}{repeated} ({first.id})",
            hint="use another request id for another request",
        )
    if all(each.ended_at is not None for each in known):
        raise NotYoursError(
            f"request id {request.request_id!r} booked {first.id}, which has ended: {first.end_reason}",
            hint="book again under another request id",
            details={"booking": first.id},
        )
    return Bookings(with_host_names(ctx, known), now, (f"request {request.request_id} was booked before",))


def _is_as_before(at: datetime, before: datetime, created_at: datetime, now: datetime) -> bool:
    """Return whether a time is the same as in an earlier request: the same moment, or as far from its request."""
    return at == before or abs((at - now) - (before - created_at)) < _LAG


def _refusal(
    ctx: Context, request: ReservationRequest, starts: datetime, ends: datetime, policy: Policy, found: Match
) -> BmhctlError:
    """Return why a booking is not possible, by whom, and when instead; raise it where it never is."""
    check_satisfiable(ctx, request.requirements)
    begins = earliest_start(ctx, request.requirements, starts, ends - starts, policy.turnaround)
    in_way = []
    for host in candidates(ctx, request.requirements, HostQuery(declared=True)):
        if host.reservation is not None and (host.reservation.expires_at or ends) > starts - policy.turnaround:
            in_way.append(f"{host.name} is held by {describe_reservation(host.reservation)}")
        in_way += [
            f"{host.name} is {describe_planned(each)}"
            for each in host.planned
            if each.starts_at - policy.turnaround < ends and starts < each.ends_at + policy.turnaround
        ]
        if len(in_way) > 3:
            break
    more = " …" if len(in_way) > 3 else ""
    return BusyError(
        f"{describe_requirements(request.requirements)} from {local_time(starts)} to {local_time(ends)}: "
        f"{len(found.hosts)} of {total(request.requirements)} free then, nothing was booked"
        + (f": {'; '.join(in_way[:3])}{more}" if in_way else ""),
        hint=f"free for that long: --from '{by_minute(begins):%Y-%m-%dT%H:%MZ}'"
        if begins
        else "bmhctl bookings shows who comes",
        details={"free": len(found.hosts), "from": begins.isoformat() if begins else None},
    )


def bookings(ctx: Context, *, ended: bool = False) -> Bookings:
    """Return the open bookings and planned maintenances, the first to start first; with ``ended``, also the others."""
    now = refresh(ctx)
    with ctx.store.snapshot():
        known = ctx.store.bookings.all() if ended else ctx.store.bookings.open()
        return Bookings(with_host_names(ctx, known), now, inventory=ctx.store.location)


def with_host_names(ctx: Context, bookings: Sequence[Booking]) -> tuple[Booked, ...]:
    """Return bookings with the names of their hosts, and of those that will not be usable; all hosts are read once."""
    known = ctx.store.hosts.with_ids({each for booking in bookings for each in booking.hosts})
    return tuple(_with_names(each, [known[host] for host in each.hosts if host in known]) for each in bookings)


def _with_names(booking: Booking, hosts: Sequence[Host]) -> Booked:
    names = tuple(sorted(host.name for host in hosts))
    if booking.ended_at is not None or booking.is_maintenance:
        return Booked(booking, names, _in_words(booking))
    trouble = tuple(sorted(host.name for host in hosts if is_broken(host, booking.starts_at)))
    is_short = len(hosts) - len(trouble) < total(load_requirements(booking.requirements))
    return Booked(booking, names, _in_words(booking), trouble, is_short)


@retried
def cancel(ctx: Context, booking_id: str, *, force: bool = False, reason: str | None = None) -> Done:
    """Cancel a booking or a planned maintenance: its hosts are free of it.

    A maintenance that has begun and ends by itself ends now; hosts that are dirty stay until ``resume``. Another
    owner's only with ``force`` and a ``reason``; raises :class:`NotYoursError` else.
    """
    forced_reason(force, reason)
    refresh_and_reap(ctx)
    with ctx.transaction():
        now = ctx.clock()
        booking = _own(ctx, booking_id, force)
        names = ", ".join(sorted(host.name for host in hosts_of(ctx, booking)))
        end_booking(ctx, booking, now, f"{CANCELLED}{f': {reason}' if reason else ''}")
        stay = end_maintenance(ctx, booking, now) if booking.is_maintenance else ()
    still = f"; still in maintenance: bmhctl resume {' '.join(stay)}" if stay else ""
    return Done(
        "bookings cancel",
        f"{'would cancel' if ctx.dry_run else 'cancelled'} {booking.id} of {booking.owner}: {names}{still}",
        {"booking": booking.id, "owner": booking.owner},
    )


def _own(ctx: Context, booking_id: str, force: bool) -> Booking:
    booking = open_booking(ctx, booking_id)
    if booking.owner != ctx.actor and not force:
        raise NotYoursError(
            f"booking {booking.id} is {booking.owner}'s, not {ctx.actor}'s",
            hint="--force --reason WHY overrides and is recorded",
            details={"holder": booking.owner, "booking": booking.id},
        )
    return booking


@retried
def reschedule(
    ctx: Context,
    booking_id: str,
    starts: datetime,
    ends: datetime | None = None,
    *,
    force: bool = False,
    reason: str | None = None,
) -> Bookings:
    """Move a booking to another time, of the same length without ``ends``; on the same hosts if they are free then.

    Raises :class:`BusyError` when it does not fit there: then nothing is changed.
    """
    forced_reason(force, reason)
    refresh_and_reap(ctx)
    policy = ctx.policy()
    with ctx.transaction():
        now = ctx.clock()
        booking = _own(ctx, booking_id, force)
        if booking.is_maintenance:
            raise StateRefusedError(
                f"{booking.id} is a planned maintenance, which can't be moved",
                hint=f"bmhctl bookings cancel {booking.id}, and plan it anew: bmhctl maintain --from WHEN",
            )
        until = ends or starts + (booking.ends_at - booking.starts_at)
        _check_span(starts, until, policy, now)
        mine = [replace(host, planned=without_planned(host, booking.id)) for host in hosts_of(ctx, booking)]
        requirements = load_requirements(booking.requirements)

        def make(avoided: Collection[int]) -> Booked:
            found = _choose(
                ctx,
                policy,
                booking.owner,
                requirements,
                starts,
                until,
                now,
                preferred=mine,
                avoided=avoided,
                without=booking.id,
            )
            if found.missing:
                raise _refusal(ctx, ReservationRequest(requirements), starts, until, policy, found)
            moved = replace(booking, starts_at=starts, ends_at=until, hosts=tuple(host.id for host in found.hosts))
            moved = replace(moved, due_at=due_of(moved, policy))
            _check_limits(ctx, policy, moved, found.hosts, now)
            words = f"moved to {starts:%Y-%m-%d %H:%M} UTC"
            for host in hosts_of(ctx, booking):
                leave(ctx, host, booking, now, words)
            for host in hosts_of(ctx, moved):
                set_aside(ctx, host, moved.span, now, _words(moved))
            ctx.store.bookings.save(moved)
            [seen] = with_host_names(ctx, [moved])
            return seen

        return Bookings((_beside_tickets(ctx, make),), now)


def booking(ctx: Context, booking_id: str) -> Booked:
    """Return one booking, open or ended; raise :class:`NotFoundError` for an unknown id."""
    refresh(ctx)
    return with_host_names(ctx, [known_booking(ctx, booking_id)])[0]
