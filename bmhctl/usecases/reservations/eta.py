"""When a request fits at the latest, from what is written in the inventory; only computed where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bmhctl.domain.model import Host, State
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import Requirements, load_requirements, total
from bmhctl.domain.ticket import Ticket
from bmhctl.domain.units import by_minute, local_time
from bmhctl.errors import BusyError
from bmhctl.stores import availability_queries
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.fairness import comes_back, length_of, live_tickets
from bmhctl.usecases.reservations.forecast import Claim, Freeing, Use, forecast
from bmhctl.usecases.reservations.request import EVERY_FIT, ReservationRequest, query_for
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import hosts_of

MOST_TICKETS = 25
"""The number of tickets at the front of the queue for which a time is computed."""

_MORE_BOOKED = 300  # further hosts of each requirement that are considered where something is planned
_NEVER_USED = datetime.min.replace(tzinfo=UTC)


def eta_of_request(ctx: Context, request: ReservationRequest, before: int | None) -> datetime | None:
    """Return when a request fits at the latest, None where that is not known, in the caller's transaction.

    ``before`` is the id of its ticket: only those before it go first; None: all.
    """
    policy = ctx.store.policy()
    tickets = live_tickets(ctx, before)
    if len(tickets) >= MOST_TICKETS or request.booking is not None:
        return None
    is_short = request.ttl is None and not request.endless
    own = Claim(ctx.actor, request.requirements, length_of(request, policy), may_be_short=is_short)
    return _forecast(ctx, policy, [*(_claim(ctx, policy, ticket) for ticket in tickets), own])[-1]


def etas_of_tickets(ctx: Context, tickets: Sequence[Ticket], most: int = MOST_TICKETS) -> list[datetime | None]:
    """Return when each of the tickets fits at the latest, in the order of the queue, in the caller's transaction.

    Of those behind the first ``most`` it is None.
    """
    policy = ctx.store.policy()
    some = [_claim(ctx, policy, ticket) for ticket in tickets[:most]]
    known = _forecast(ctx, policy, some) if some else []
    for number, claim in enumerate(some[:MOST_TICKETS]):  # each is a forecast of its own
        if known[number] is None and claim.deadline is not None:  # when it would fit without its deadline
            known[number] = _forecast(ctx, policy, [*some[:number], replace(claim, deadline=None)])[-1]
    return [*known, *([None] * (len(tickets) - len(known)))]


def add_eta(ctx: Context, request: ReservationRequest, error: BusyError) -> None:
    """Add to a refusal when the request fits at the latest."""
    with ctx.store.snapshot():
        eta = eta_of_request(ctx, request, None)
    if eta is not None:
        error.message += f"; {in_words(eta)}"
        error.args = (error.message,)
    error.details["eta"] = None if eta is None else eta.isoformat().replace("+00:00", "Z")


def in_words(eta: datetime | None) -> str:
    """Return the words for a moment at the latest, which is an estimate."""
    if eta is None:
        return "when it fits is unknown"
    return f"it fits by {local_time(by_minute(eta))} at the latest, if every lease ends as written"


def _claim(ctx: Context, policy: Policy, ticket: Ticket) -> Claim:
    requirements = load_requirements(ticket.requirements)
    return Claim(
        ticket.owner,
        requirements,
        length_of(ticket, policy),
        ticket.deadline,
        comes_back(ctx, requirements),
        may_be_short=ticket.ttl is None and not ticket.endless,
    )


def _forecast(ctx: Context, policy: Policy, claims: Sequence[Claim]) -> list[datetime | None]:
    now = ctx.clock()
    limits = tuple(limit for limit in policy.limits if any(limit.concerns(claim.owner) for claim in claims))
    uses = [
        Use(owner, host, host.reservation.expires_at)
        for owner in sorted({claim.owner for claim in claims})
        if any(limit.max_hosts is not None and limit.concerns(owner) for limit in limits)
        for host in ctx.store.hosts.held_by_owner(owner)
        if host.reservation is not None
    ]
    is_booked = ctx.store.bookings.is_any_open()
    if is_booked and limits:
        owners = {claim.owner for claim in claims}
        uses += [
            Use(each.owner, host, each.ends_at, each.starts_at)
            for each in ctx.store.bookings.open()
            if each.owner in owners and not each.is_maintenance
            for host in hosts_of(ctx, each)
        ]
    # The claims need no more hosts of a requirement than they ask for in all, unless something is planned on some: the
    # hosts that become free first are enough.
    most = EVERY_FIT if limits else sum(total(claim.requirements) for claim in claims)
    if is_booked:
        most += _MORE_BOOKED
    hosts = _freeing(ctx, [claim.requirements for claim in claims], now, most, policy.turnaround)
    return forecast(now, hosts, claims, limits=limits, uses=uses, turnaround=policy.turnaround)


def _freeing(
    ctx: Context, everyone: Sequence[Requirements], now: datetime, most: int, turnaround: timedelta
) -> list[Freeing]:
    """Return the fitting hosts that will be free at a known time, each with that time."""
    wanted = dict.fromkeys(requirement for requirements in everyone for requirement in requirements)
    found: dict[int, Host] = {}
    for requirement in wanted:
        query = query_for(requirement, HostQuery(declared=True))
        found |= {host.id: host for host in availability_queries.becoming_free(ctx.store, query, now, most, turnaround)}
    claimed = ctx.store.claims.claimed_hosts([*found])
    known = ((host, _free_at(host, now, turnaround)) for host in found.values() if host.id not in claimed)
    return [
        Freeing(host, at, (host.used_at or _NEVER_USED) if host.state is State.AVAILABLE else at)
        for host, at in known
        if at is not None
    ]


def _free_at(host: Host, now: datetime, turnaround: timedelta) -> datetime | None:
    """Return when a host is free if everything ends as written; None where that needs a person, or is not written.

    A host that was given back is free ``turnaround`` later, which is the time to clean it; after that it is not known.
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
