"""Book hosts for a later time; list, move and cancel bookings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from bmhctl.domain.booking import CANCELLED, Booking, without_planned
from bmhctl.domain.model import Host
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import (
    ReservationRequest,
    describe_requirements,
    dump_requirements,
    load_requirements,
    total,
)
from bmhctl.domain.room import unusable
from bmhctl.domain.times import check_not_too_far, in_utc
from bmhctl.domain.units import format_duration, local_time
from bmhctl.errors import BusyError, NotYoursError, StateRefusedError, UnsatisfiableError, UsageError
from bmhctl.results import Done
from bmhctl.results.bookings import Booked, Bookings
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.allocation import check_names
from bmhctl.usecases.reservations.bookable import beside_tickets, choose
from bmhctl.usecases.reservations.booked import known_booking, open_booking
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.due_bookings import end_maintenance
from bmhctl.usecases.shared.leases import forced_reason
from bmhctl.usecases.shared.owners import of_owner
from bmhctl.usecases.shared.planned import due_of, end_booking, hosts_of, leave, set_aside
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap, retried

_MOST_REPEATS = 104
_LAG = timedelta(minutes=1)  # the longest delay between parsing a time such as 2h and booking it


@retried
def book(ctx: Context, request: ReservationRequest, starts: datetime, ends: datetime, *, weekly: int = 1) -> Bookings:
    """Book hosts from ``starts`` until just before ``ends``, in each of ``weekly`` weeks at the same local time.

    Returns the bookings: all are made, or none. The same request under the same id returns those that it made before.
    Raises :class:`BusyError` when too few hosts are free at that time, :class:`UnsatisfiableError` when too few could
    ever fit, and :class:`UsageError` for a time or a number of weeks that is not allowed.
    """
    refresh_and_reap(ctx)
    policy = ctx.store.policy()
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
        placed = []
        for week in range(weekly):
            with _in_week(week, weekly):
                begin, end = _later(starts, week), _later(ends, week)
                _check_span(begin, end, policy, now)
                booking = Booking(
                    id=ctx.store.bookings.new_id("b-"),
                    owner=ctx.actor,
                    purpose=request.purpose,
                    starts_at=begin,
                    ends_at=end,
                    created_at=now,
                    requirements=dump_requirements(request.requirements),
                    hosts=(),
                    request_id=None if week else request.request_id,
                )
                placed.append(_place(ctx, booking, policy, now))
    return Bookings(tuple(item for item, _ in placed), now, tuple(note for _, notes in placed for note in notes))


@contextmanager
def _in_week(week: int, weekly: int) -> Iterator[None]:
    """Add the week to the message of an error in a later week, and replace the hint, which fits only one booking."""
    try:
        yield
    except (BusyError, UnsatisfiableError, UsageError) as error:
        if week:
            error.message = f"week {week + 1} of {weekly}: {error.message}"
            error.hint = f"--weekly {week} books the weeks before; book the others by themselves"
        raise


def _place(
    ctx: Context, booking: Booking, policy: Policy, now: datetime, before: Booking | None = None, why: str = ""
) -> tuple[Booked, tuple[str, ...]]:
    """Choose the hosts of a booking and save it, in the caller's transaction; it replaces ``before``, if given.

    ``why`` ends the reason in the history of a move. Returns the booking, with notes for its owner.
    """
    left = [] if before is None else hosts_of(ctx, before)
    mine = [without_planned(host, booking.id) for host in left]

    def make(avoided: Collection[int]) -> tuple[Booked, tuple[str, ...]]:
        found = choose(ctx, booking, policy, now, preferred=mine, avoided=avoided)
        placed = replace(booking, hosts=tuple(host.id for host in found.hosts), due_at=due_of(booking, policy))
        hosts: Sequence[Host] = found.hosts
        if before is None:
            ctx.store.bookings.add(placed)
        else:
            for host in hosts_of(ctx, before):
                leave(ctx, host, before, now, f"moved to {placed.starts_at:%Y-%m-%d %H:%M} UTC{why}")
            ctx.store.bookings.save(placed)
            hosts = hosts_of(ctx, placed)
        taken = [set_aside(ctx, host, placed, now, _words(placed)) for host in hosts]
        return _with_names(placed, taken), found.notes

    return beside_tickets(ctx, make)


def _later(at: datetime, weeks: int) -> datetime:
    if not weeks:
        return at
    return in_utc(at.astimezone().replace(tzinfo=None) + timedelta(weeks=weeks))


def _check_span(starts: datetime, ends: datetime, policy: Policy, now: datetime) -> None:
    """Raise :class:`UsageError` unless a booking may last from ``starts`` until just before ``ends``."""
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


def _in_words(booking: Booking) -> str:
    return describe_requirements(load_requirements(booking.requirements))


def _words(booking: Booking) -> str:
    """Return the words for a booking in the history, with times in UTC because readers may be in any zone."""
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
    """Return the bookings that the same request made before.

    Raises :class:`UsageError` when its id was used for something else, :class:`NotYoursError` when all have ended.
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
    """Return whether a retry names the same time as the first request: the same point in time, or as far from now."""
    return at == before or abs((at - now) - (before - created_at)) < _LAG


def bookings(ctx: Context, *, ended: bool = False, owner: str | None = None) -> Bookings:
    """Return the open bookings and planned maintenances, by their start; with ``ended``, also those that have ended.

    ``owner`` keeps those whose owner matches (with ``*`` and ``?``). Raises :class:`UsageError` for an empty owner.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        known = ctx.store.bookings.all() if ended else ctx.store.bookings.open()
        if owner is not None:
            known = [*of_owner(known, owner, lambda each: each.owner, ("booking of", "owner"), ctx.report)]
        none = None if owner is None else "no booking fits: bmhctl bookings lists the open ones"
        return Bookings(with_host_names(ctx, known), now, inventory=ctx.store.location, none=none)


def with_host_names(ctx: Context, bookings: Sequence[Booking]) -> tuple[Booked, ...]:
    """Return bookings with the names of their hosts and of those that will be unusable; one query reads all hosts."""
    known = ctx.store.hosts.with_ids({each for booking in bookings for each in booking.hosts})
    return tuple(_with_names(each, [known[host] for host in each.hosts if host in known]) for each in bookings)


def _with_names(booking: Booking, hosts: Sequence[Host]) -> Booked:
    names = tuple(sorted(host.name for host in hosts))
    if booking.ended_at is not None or booking.is_maintenance:
        return Booked(booking, names, _in_words(booking))
    trouble = tuple(sorted(host.name for host in unusable(booking, hosts)))
    is_short = len(hosts) - len(trouble) < total(load_requirements(booking.requirements))
    return Booked(booking, names, _in_words(booking), trouble, is_short)


@retried
def cancel(ctx: Context, booking_id: str, *, force: bool = False, reason: str | None = None) -> Done:
    """Cancel a booking or a planned maintenance, so that its hosts can be reserved again.

    A maintenance that has begun and would end by itself ends now; its dirty hosts stay in maintenance until ``resume``.
    Raises :class:`NotYoursError` for another owner's booking, unless ``force`` is given with a ``reason``.
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
            hint="users other than its owner need --force --reason TEXT, which is recorded",
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
    """Move a booking to the time from ``starts`` to ``ends``, on the same hosts if they are free; return the booking.

    Without ``ends``, the booking keeps its length. Raises :class:`BusyError` when too few hosts are free then,
    :class:`StateRefusedError` for an ended booking and for a planned maintenance, and :class:`NotYoursError` for
    another owner's booking, unless ``force`` is given with a ``reason``. After an error, nothing is changed.
    """
    forced_reason(force, reason)
    refresh_and_reap(ctx)
    policy = ctx.store.policy()
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
        moved = replace(booking, starts_at=starts, ends_at=until)
        item, notes = _place(ctx, moved, policy, now, booking, f": {reason}" if reason else "")
        return Bookings((item,), now, notes)


def booking(ctx: Context, booking_id: str) -> Booked:
    """Return one booking, open or ended; raise :class:`NotFoundError` for an unknown id."""
    refresh(ctx)
    return with_host_names(ctx, [known_booking(ctx, booking_id)])[0]
