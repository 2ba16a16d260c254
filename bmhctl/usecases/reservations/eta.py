"""Estimate by when a request gets its hosts, from what the inventory records; computed only where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from bmhctl.domain.limits import Use
from bmhctl.domain.model import LONG_AGO, Host, State
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import Requirements, ReservationRequest, load_requirements, total
from bmhctl.domain.ticket import Ticket
from bmhctl.domain.units import by_minute, local_time
from bmhctl.errors import BusyError
from bmhctl.stores import availability_queries
from bmhctl.stores.host_query import EVERY_FIT, HostQuery, query_for
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.fairness import comes_back, length_of, live_tickets
from bmhctl.usecases.reservations.forecast import Claim, Freeing, forecast
from bmhctl.usecases.reservations.limits import as_counted
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import hosts_of

MOST_TICKETS = 25
"""The most tickets, from the front of the queue, for which a time is computed."""

_MORE_BOOKED = 300  # if something is planned, so many more hosts of each requirement are considered


def eta_of_request(ctx: Context, request: ReservationRequest, before: int | None) -> datetime | None:
    """Return by when a request gets its hosts, in the caller's transaction; None where that is not known.

    ``before`` is the id of the request's own ticket; only older tickets go first. Without it, all tickets go first.
    """
    policy = ctx.store.policy()
    tickets = live_tickets(ctx, before)
    if len(tickets) >= MOST_TICKETS or request.booking is not None:
        return None
    length = length_of(request, policy)
    own = Claim(ctx.actor, request.requirements, length, may_be_short=request.may_be_short)
    return _forecast(ctx, policy, [*(_claim(ctx, policy, ticket) for ticket in tickets), own])[-1]


def etas_of_tickets(ctx: Context, tickets: Sequence[Ticket], most: int = MOST_TICKETS) -> list[datetime | None]:
    """Return by when each of the tickets gets its hosts, in queue order, in the caller's transaction.

    The time is None where it is not known, and for tickets after the first ``most``.
    """
    policy = ctx.store.policy()
    some = [_claim(ctx, policy, ticket) for ticket in tickets[:most]]
    known = _forecast(ctx, policy, some) if some else []
    for number, claim in enumerate(some[:MOST_TICKETS]):  # each of these tickets needs a separate forecast
        if known[number] is None and claim.deadline is not None:  # show when it would get hosts without its deadline
            known[number] = _forecast(ctx, policy, [*some[:number], replace(claim, deadline=None)])[-1]
    return [*known, *([None] * (len(tickets) - len(known)))]


def add_eta(ctx: Context, request: ReservationRequest, error: BusyError) -> None:
    """Add to a refusal by when the request would get its hosts."""
    with ctx.store.snapshot():
        eta = eta_of_request(ctx, request, None)
    if eta is not None:
        error.message += f"; {in_words(eta)}"
        error.args = (error.message,)
    error.details["eta"] = None if eta is None else eta.isoformat().replace("+00:00", "Z")


def in_words(eta: datetime | None) -> str:
    """Return the words for such a time; ``eta`` is None where it is not known."""
    if eta is None:
        return "when it fits is unknown"
    return f"it fits by {local_time(by_minute(eta))} at the latest, if no lease is extended"


def _claim(ctx: Context, policy: Policy, ticket: Ticket) -> Claim:
    requirements = load_requirements(ticket.requirements)
    return Claim(
        ticket.owner,
        requirements,
        length_of(ticket, policy),
        ticket.deadline,
        comes_back(ctx, requirements),
        may_be_short=ticket.may_be_short,
    )


def _forecast(ctx: Context, policy: Policy, claims: Sequence[Claim]) -> list[datetime | None]:
    now = ctx.clock()
    mine = [limit for limit in policy.limits if any(limit.concerns(claim.owner) for claim in claims)]
    limits = as_counted(ctx, mine)
    by_role = any(limit.is_by_role and limit.max_hosts is not None for limit in limits)
    owners = {_counted_as(claim.owner, by_role): claim.owner for claim in claims}
    held = {
        host.id: host
        for counted, owner in sorted(owners.items())
        if any(limit.max_hosts is not None and limit.concerns(owner) for limit in limits)
        for host in ctx.store.hosts.held_by_owner(owner, counted if by_role else None)
    }
    uses = [
        Use(held_by.owner, (host,), now, held_by.expires_at)
        for host in held.values()
        if (held_by := host.reservation) is not None
    ]
    is_booked = ctx.store.bookings.is_any_open()
    if is_booked and limits:
        uses += [
            Use(each.owner, tuple(hosts_of(ctx, each)), each.starts_at, each.ends_at)
            for each in ctx.store.bookings.open()
            if _counted_as(each.owner, by_role) in owners and not each.is_maintenance
        ]
    # Of each requirement, the hosts that become free first are enough, as many as all claims ask for, unless something
    # is planned on some of them.
    most = EVERY_FIT if limits else sum(total(claim.requirements) for claim in claims)
    if is_booked:
        most += _MORE_BOOKED
    hosts = _freeing(ctx, [claim.requirements for claim in claims], now, most, policy.turnaround)
    return forecast(now, hosts, claims, limits=limits, uses=uses, turnaround=policy.turnaround)


def _counted_as(owner: str, by_role: bool) -> str:
    """Return the name under which limits count an owner's hosts: with ``by_role``, only the part before ``@``."""
    return owner.partition("@")[0] if by_role else owner


def _freeing(
    ctx: Context, everyone: Sequence[Requirements], now: datetime, most: int, turnaround: timedelta
) -> list[Freeing]:
    """Return the fitting hosts that will be free at a known time, each with this time."""
    wanted = dict.fromkeys(requirement for requirements in everyone for requirement in requirements)
    found: dict[int, Host] = {}
    for requirement in wanted:
        query = query_for(requirement, HostQuery(declared=True))
        found |= {host.id: host for host in availability_queries.becoming_free(ctx.store, query, now, most, turnaround)}
    claimed = ctx.store.claims.claimed_hosts([*found])
    known = ((host, _free_at(host, now, turnaround)) for host in found.values() if host.id not in claimed)
    return [
        Freeing(host, at, (host.used_at or LONG_AGO) if host.state is State.AVAILABLE else at)
        for host, at in known
        if at is not None
    ]


def _free_at(host: Host, now: datetime, turnaround: timedelta) -> datetime | None:
    """Return when a host will be free if everything ends as recorded; None if that is unknown or needs an operator.

    A host that was given back is free after ``turnaround``, the time for its cleanup. If it is not free by then, the
    time is not known.
    """
    if host.undeclared or host.cordon is not None or host.fault is not None:
        return None
    lease = host.reservation.expires_at if host.reservation is not None else now
    match host.state:
        case State.AVAILABLE:
            return now
        case State.RESERVED:
            return None if lease is None else max(now, lease) + turnaround
        case State.MAINTENANCE:
            ends = [note.until for note in host.maintenance]
            back = max((end for end in ends if end is not None), default=None)
            if back is None or None in ends or lease is None or back <= now:
                return None
            return max(back, lease) + (turnaround if host.dirty else timedelta())
        case State.TAINTED | State.INITIAL:
            cleaned = now if host.used_at is None else host.used_at + turnaround
            return cleaned if cleaned > now else None
