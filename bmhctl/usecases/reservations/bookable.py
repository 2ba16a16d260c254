"""Choose the hosts of a booking within the limits of its owner, and without delaying a ticket."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial

from bmhctl.domain.booking import Booking, is_broken, is_leased_past
from bmhctl.domain.limits import Limit, Use
from bmhctl.domain.matching import Match
from bmhctl.domain.model import Host
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import describe_requirements, load_requirements
from bmhctl.domain.room import Demand
from bmhctl.domain.ticket import Ticket
from bmhctl.domain.units import by_minute, local_time
from bmhctl.errors import BmhctlError, BusyError
from bmhctl.results.bookings import Booked
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.folding import in_short
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.allocation import check_satisfiable
from bmhctl.usecases.reservations.fairness import live_tickets
from bmhctl.usecases.reservations.limits import as_counted, caps_of_booking, check_booking, check_role
from bmhctl.usecases.shared.booking_hosts import candidates, choose_for, earliest_start
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import hosts_of

_Placed = tuple[Booked, tuple[str, ...]]

_PLURAL = {"is": "are", "has": "have", "goes": "go"}
_MOST_IN_WAY = 100  # hosts of which a refusal says what is in the way
_MOST_CHOICES = 20  # the most choices of hosts that are tried for a booking
_MOST_TICKETS = 100  # only so many tickets are protected: their forecast takes up to 0.4 s of CPU time


def choose(
    ctx: Context,
    booking: Booking,
    policy: Policy,
    now: datetime,
    *,
    preferred: Sequence[Host] = (),
    avoided: Collection[int] = (),
) -> Match:
    """Return the hosts for a new or a moved booking, in the caller's transaction; its present hosts count as free.

    ``preferred`` and ``avoided`` are as in :func:`choose_for`. Raises the error of a limit that the booking would
    exceed together with the owner's other bookings and leases, :class:`BusyError` when too few hosts are free at that
    time, and :class:`UnsatisfiableError` when too few hosts could ever fit.
    """
    demand = Demand.of(booking, policy.turnaround)
    find = partial(choose_for, ctx, demand, preferred=preferred, avoided=avoided)
    owner = booking.owner
    if owner == ctx.actor:
        check_role(ctx, policy.limits)
    asked, limits = Use(owner, (), booking.starts_at, booking.ends_at), as_counted(ctx, policy.limits)
    others = [*_uses_beside(ctx, booking, now, limits)]
    caps = caps_of_booking(limits, asked, others, now)
    found = find(caps=caps)
    if found.missing and caps:
        found = find()  # then the error names the limit that these hosts exceed
    if found.missing:
        raise _refusal(ctx, demand, len(found.hosts))
    check_booking(limits, replace(asked, hosts=found.hosts), others, now)
    return found


def _uses_beside(ctx: Context, booking: Booking, now: datetime, limits: Sequence[Limit]) -> Iterator[Use]:
    """Yield the other bookings and the leases that a limit counts together with a booking."""
    if not limits:
        return
    by_role = any(limit.is_by_role for limit in limits)
    for each in ctx.store.bookings.open() if by_role else ctx.store.bookings.of(booking.owner):
        is_counted = any(limit.counts_together(each.owner, booking.owner) for limit in limits)
        if is_counted and not each.is_maintenance and each.id != booking.id:
            yield Use(each.owner, tuple(hosts_of(ctx, each)), each.starts_at, each.ends_at)
    for held in ctx.store.reservations.open():
        if any(limit.counts_together(held.owner, booking.owner) for limit in limits):
            yield Use(held.owner, tuple(ctx.store.hosts.held_by(held.id)), now, held.expires_at)


def beside_tickets(ctx: Context, make: Callable[[Collection[int]], _Placed]) -> _Placed:
    """Save a booking with ``make`` on hosts that delay no ticket, and return the result of ``make``.

    ``make`` is called with the ids of hosts to avoid. Tickets come first because they are all older than a new booking.
    A choice of hosts that delays a ticket is undone, and the next choice avoids these hosts. The last choice avoids all
    hosts that fit a ticket. Raises :class:`BusyError` when every choice delays a ticket.
    """
    tickets = live_tickets(ctx)
    if not tickets:
        return make(())
    from bmhctl.usecases.reservations.eta import etas_of_tickets

    now = ctx.clock()
    still = replace(ctx, clock=lambda: now)
    before = etas_of_tickets(still, tickets, _MOST_TICKETS)
    avoided: set[int] = set()
    refused: BmhctlError | None = None
    for number in range(_MOST_CHOICES + 1):
        if number == _MOST_CHOICES:  # the last choice: only hosts that fit no ticket
            avoided.update(_wanted(ctx, tickets[:_MOST_TICKETS]))
        try:
            with ctx.store.savepoint():
                made = make(avoided)
                refused = _delayed(tickets, before, etas_of_tickets(still, tickets, _MOST_TICKETS))
                if refused is None:
                    return made
                raise refused
        except BusyError as error:
            if error is not refused:
                raise refused or error from None
            avoided.update(made[0].booking.hosts)
    raise refused or BusyError("nothing was booked")


def _wanted(ctx: Context, tickets: Sequence[Ticket]) -> set[int]:
    """Return the ids of the hosts that fit a ticket."""
    requirements = {each for ticket in tickets for each in load_requirements(ticket.requirements)}
    return {host.id for host in candidates(ctx, tuple(requirements), HostQuery(declared=True))}


def _delayed(
    tickets: Sequence[Ticket], before: Sequence[datetime | None], after: Sequence[datetime | None]
) -> BusyError | None:
    """Return the error for the first ticket that a booking delays; None if it delays none.

    ``before`` and ``after`` are when each ticket gets its hosts, without and with the booking.
    """
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


def _refusal(ctx: Context, demand: Demand, free: int) -> BmhctlError:
    """Return the error for a booking without enough hosts: what is in the way, and the earliest possible time.

    Raises :class:`UnsatisfiableError` if the booking is never possible.
    """
    requirements, starts, ends = demand.requirements, demand.starts_at, demand.ends_at
    check_satisfiable(ctx, requirements)
    begins = earliest_start(ctx, demand)
    named: dict[str, list[str]] = {}
    for number, host in enumerate(candidates(ctx, requirements, HostQuery(declared=True))):
        reasons = [f"is {each.words}" for each in demand.in_way(host)]
        if host.reservation is not None and is_leased_past(host, starts - demand.turnaround):
            reasons.insert(0, f"is held by {host.reservation.words}")
        if is_broken(host, starts):
            reasons.append(_describe_trouble(host))
        for reason in reasons:
            named.setdefault(reason, []).append(host.name)
        if len(named) > 3 or number > _MOST_IN_WAY:
            break
    in_way = [_of_all(names, reason) for reason, names in named.items()]
    more = " …" if len(named) > 3 else ""
    return BusyError(
        f"{describe_requirements(requirements)} from {local_time(starts)} to {local_time(ends)}: "
        f"{free} of {demand.total} free then, nothing was booked"
        + (f": {'; '.join(in_way[:3])}{more}" if in_way else ""),
        hint=f"free for that long: --from '{by_minute(begins):%Y-%m-%dT%H:%MZ}'"
        if begins
        else "it is not known when they will be free: see bmhctl why HOST and bmhctl bookings",
        details={"free": free, "from": begins.isoformat() if begins else None},
    )


def _of_all(names: Sequence[str], reason: str) -> str:
    """Return a sentence about hosts; ``reason`` is about one, such as ``is cordoned``."""
    if len(names) == 1:
        return f"{names[0]} {reason}"
    verb, _, rest = reason.partition(" ")
    return f"{' and '.join(in_short(names))} {_PLURAL.get(verb, verb)} {rest}"


def _describe_trouble(host: Host) -> str:
    """Return in words why a host will be unusable; only the first of several reasons."""
    if host.undeclared:
        return "is no longer declared"
    if host.cordon is not None:
        return host.cordon.cordon_words
    if host.fault is not None:
        return f"has a fault: {host.fault}"
    ends = [note.until for note in host.maintenance]
    until = max((end for end in ends if end is not None), default=None)
    back = "" if until is None or None in ends else f" until {local_time(until)}"
    return f"is in maintenance{back}: {host.maintenance[0].reason}"
