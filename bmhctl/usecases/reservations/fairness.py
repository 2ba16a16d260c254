"""Which free hosts are due to older tickets, and which are left for a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from bmhctl.domain.booking import free_until
from bmhctl.domain.matching import Cap, Claimant, Match, Until, left_over, match, until_of
from bmhctl.domain.model import Host
from bmhctl.domain.requirements import Requirements, load_requirements
from bmhctl.domain.ticket import QueueVerb, Ticket
from bmhctl.domain.units import OF_DAY, local_time
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.queue_log import note_ticket
from bmhctl.usecases.reservations.request import EVERY_FIT, FREE, candidates
from bmhctl.usecases.shared.absence import LONGEST
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from bmhctl.domain.limits import Limit
    from bmhctl.domain.policy import Policy
    from bmhctl.usecases.reservations.request import ReservationRequest

REFRESH = timedelta(seconds=5)
"""How often a waiting process refreshes its ticket."""

LAPSE = timedelta(seconds=15)
"""After how long without a refresh a ticket lapses, though its process lives: the process may be stopped.

After connections were lost, waiting processes have as long to reconnect: longer than a connection takes to time out.
"""

_NEVER_USED = datetime.min.replace(tzinfo=UTC)
_LONGEST_AWAY = timedelta(seconds=LONGEST)  # the longest that a process waits for a server

_requirements_of = lru_cache(maxsize=1000)(load_requirements)


def is_gone(ctx: Context, ticket_id: int) -> bool:
    """Return whether the ticket with this id was removed, or its process was killed."""
    if ctx.store.claims.shared([ticket_claim(ticket_id)]):
        return False
    ticket = ctx.store.tickets.get(ticket_id)
    return ticket is None or not _excuse(ctx)(ticket)


def waiting_tickets(ctx: Context) -> list[Ticket]:
    """Return the tickets of all processes that run, the oldest first."""
    return _waiting(ctx, ctx.store.tickets.all())


def is_live(ctx: Context, ticket: Ticket) -> bool:
    """Return whether a ticket counts: its process runs, and refreshed it lately."""
    return bool(_live(ctx, [ticket]))


def live_tickets(ctx: Context, before: int | None = None) -> list[Ticket]:
    """Return the tickets that count, the oldest first; only those older than the id ``before``, if given."""
    return _live(ctx, ctx.store.tickets.all(before))


def _live(ctx: Context, tickets: Sequence[Ticket]) -> list[Ticket]:
    if not tickets:
        return []
    now, is_excused = ctx.clock(), _excuse(ctx)
    # abs: otherwise a stopped process would count for long after a clock was set back
    return _waiting(ctx, [t for t in tickets if abs(now - t.refreshed_at) < LAPSE or is_excused(t)])


def _excuse(ctx: Context) -> Callable[[Ticket], bool]:
    """Return a test whether a ticket's process may still be reconnecting to a server that was lost.

    Such a ticket is *excused*: it counts for :data:`LAPSE` although no process holds it. It is excused once: if it was
    not refreshed since an earlier loss, its process is dead. A ticket past its deadline is not excused.
    """
    last_disruption, now = ctx.store.last_disruption(), ctx.clock()
    if not timedelta() <= now - last_disruption < LAPSE:
        return lambda _: False

    def is_excused(ticket: Ticket) -> bool:
        since = ticket.excused_at
        if since is None or since < ticket.refreshed_at:  # its process was there after that loss
            since = last_disruption
        is_past = ticket.deadline is not None and ticket.deadline <= now
        silent = last_disruption - ticket.refreshed_at
        return not is_past and timedelta() < silent < _LONGEST_AWAY and now - since < LAPSE

    return is_excused


def note_excused(ctx: Context) -> None:
    """Save since when tickets are excused, in the caller's transaction: a further loss does not prolong that."""
    lost = ctx.store.last_disruption()
    if timedelta() <= ctx.clock() - lost < LAPSE:
        ctx.store.tickets.excuse(lost)


def may_come_back(ctx: Context, ticket: Ticket) -> bool:
    """Return whether a ticket counts though no process holds it: its process may still be reconnecting."""
    return _excuse(ctx)(ticket) and not ctx.store.claims.shared([ticket_claim(ticket.id)])


def _live_in_batches(ctx: Context, tickets: Sequence[Ticket]) -> Iterator[Ticket]:
    """Check in growing batches: each check is a query, and the first few usually suffice."""
    begin, number = 0, 2
    while begin < len(tickets):
        yield from _live(ctx, tickets[begin : begin + number])
        begin, number = begin + number, number * 4


def _waiting(ctx: Context, tickets: Sequence[Ticket]) -> list[Ticket]:
    shared = ctx.store.claims.shared([ticket_claim(ticket.id) for ticket in tickets])
    if len(shared) == len(tickets):
        return [*tickets]
    is_excused = _excuse(ctx)
    return [ticket for ticket in tickets if ticket_claim(ticket.id) in shared or is_excused(ticket)]


def remove_dead(ctx: Context) -> list[Ticket]:
    """Remove the tickets of processes that were killed, in the caller's transaction; return the others."""
    note_excused(ctx)
    waiting = waiting_tickets(ctx)
    for ticket in ctx.store.tickets.all():
        if ticket not in waiting:
            note_ticket(ctx, ticket, QueueVerb.LOST, reason="its command was killed")
            ctx.store.tickets.remove(ticket.id)
            ctx.store.claims.forget(ticket_claim(ticket.id), shared=True)
    return waiting


def any_free(ctx: Context, requirements: Requirements) -> bool:
    """Return whether any free host fits any of the requirements, due to an earlier ticket or not."""
    return bool(_unclaimed(ctx, [requirements]))


def free_for(
    ctx: Context,
    requirements: Requirements,
    before: int | None,
    limits: tuple[Limit, ...],
    more: int = 0,
    until: datetime | None = None,
) -> list[Host]:
    """Return the free hosts that fit a requirement and are not due to an earlier ticket, least recently used first.

    Returns as many hosts as a match can need, and ``more``. ``limits`` are the policy's: a ticket that waits only for
    its owner's limit keeps no host from others. With ``until``, returns only hosts on which nothing is planned before
    that time, those with the nearest plans first.
    """
    if until is not None:
        beside = free_beside(ctx, requirements, before, ctx.store.policy(), Until(until, until), more)
        return sorted((host for host in beside if free_until(host) >= until), key=free_until)
    found = _unclaimed(ctx, [requirements], more)
    tickets = ctx.store.tickets.all(before) if found else []
    if not tickets:
        return found
    everyone = [requirements, *(_requirements_of(ticket.requirements) for ticket in tickets)]
    free = _unclaimed(ctx, everyone, max(more, _more_under(limits)))
    earlier = _within_limits(ctx, _live_in_batches(ctx, tickets), limits)
    return left_over(earlier, free, lambda other: comes_back(ctx, other))


def free_beside(
    ctx: Context, requirements: Requirements, before: int | None, policy: Policy, until: Until, more: int = 0
) -> list[Host]:
    """Return the hosts of :func:`free_for`, with enough that are free as long as the request and each ticket need them.

    An earlier ticket has a right only to hosts that are free for its own lease.
    """
    now = ctx.clock()
    tickets = ctx.store.tickets.all(before)
    everyone = [requirements, *(_requirements_of(ticket.requirements) for ticket in tickets)]
    untils = [until, *(until_of_ticket(ticket, policy, now) for ticket in tickets)]
    more = max(more, _more_under(policy.limits)) if tickets else more
    found: dict[int, Host] = {}
    for each in dict.fromkeys(moment for one in untils for moment in (one.whole, one.least)):
        found |= {host.id: host for host in _unclaimed(ctx, everyone, more, each)}
    free = sorted(found.values(), key=lambda host: (host.used_at or _NEVER_USED, host.id))
    if not tickets:
        return free
    earlier = _within_limits(ctx, _live_in_batches(ctx, tickets), policy.limits, policy, now)
    return left_over(earlier, free, lambda other: comes_back(ctx, other))


def until_of_ticket(ticket: Ticket, policy: Policy, now: datetime) -> Until:
    """Return until when the hosts of a ticket have to be free."""
    is_short = ticket.ttl is None and not ticket.endless
    return until_of(length_of(ticket, policy), now, policy.turnaround, may_be_short=is_short)


def length_of(ticket: Ticket | ReservationRequest, policy: Policy) -> timedelta | None:
    """Return the length of the lease that a ticket or a request asks for, None for one without end."""
    ttl = None if ticket.endless else ticket.ttl or policy.ttl
    if policy.max_ttl is not None:
        return policy.max_ttl if ttl is None else min(ttl, policy.max_ttl)
    return ttl


def match_beside(
    ctx: Context, owner: str, requirements: Requirements, before: int | None, policy: Policy, until: Until
) -> Match:
    """Return the match that an owner would get now beside what is planned; parameters as :func:`match_free`."""
    caps: Sequence[Cap] = ()
    if policy.limits:
        from bmhctl.usecases.reservations.limits import caps_of

        caps = caps_of(ctx, owner, policy.limits)
    more = EVERY_FIT if any(cap.selector.terms for cap in caps) else 0
    claimant = Claimant(requirements, caps, until)
    found = claimant.match(free_beside(ctx, requirements, before, policy, until, more))
    is_whole = not found.missing and all(free_until(host) >= until.whole for host in found.hosts)
    if is_whole or until.least == until.whole or more == EVERY_FIT:
        return found
    # The hosts that stay free the longest may be any of them: read all.
    return claimant.match(free_beside(ctx, requirements, before, policy, until, EVERY_FIT))


def hosts_for_tickets(ctx: Context, limits: tuple[Limit, ...], before: int | None = None) -> set[int]:
    """Return the ids of the free hosts that are set aside for tickets; only for those before one, if given."""
    tickets = live_tickets(ctx, before)
    wanted = [_requirements_of(each.requirements) for each in tickets]
    free = _unclaimed(ctx, wanted, _more_under(limits))
    earlier = _within_limits(ctx, tickets, limits)
    if any(host.planned for host in free):  # a ticket has a right only to hosts that are free for its own lease
        free = _unclaimed(ctx, wanted, EVERY_FIT)
        earlier = _within_limits(ctx, tickets, limits, ctx.store.policy(), ctx.clock())
    left = left_over(earlier, free, lambda other: comes_back(ctx, other))
    return {host.id for host in free} - {host.id for host in left}


def _more_under(limits: tuple[Limit, ...]) -> int:
    """Return how many more hosts a match may need: all, where a limit may exclude those that are found first."""
    return EVERY_FIT if any(limit.max_hosts is not None and limit.selector.terms for limit in limits) else 0


def _within_limits(
    ctx: Context,
    tickets: Iterable[Ticket],
    limits: tuple[Limit, ...],
    policy: Policy | None = None,
    now: datetime | None = None,
) -> Iterator[Claimant]:
    """Yield what tickets ask for, with the caps of their owners; skip those that wait for a limit of their owner.

    With the ``policy`` and the time, also until when hosts have to be free for them.
    """

    def until(ticket: Ticket) -> Until | None:
        return None if policy is None or now is None else until_of_ticket(ticket, policy, now)

    if not limits:
        yield from (Claimant(_requirements_of(ticket.requirements), (), until(ticket)) for ticket in tickets)
        return
    from bmhctl.usecases.reservations.limits import caps_of, is_within

    caps: dict[str, Sequence[Cap]] = {}
    for ticket in tickets:
        if ticket.owner not in caps:
            caps[ticket.owner] = caps_of(ctx, ticket.owner, limits)
        mine, requirements = caps[ticket.owner], _requirements_of(ticket.requirements)
        if not mine or is_within(ctx, requirements, mine):
            yield Claimant(requirements, mine, until(ticket))


def match_free(
    ctx: Context,
    owner: str,
    requirements: Requirements,
    before: int | None,
    limits: tuple[Limit, ...],
) -> Match:
    """Return the match that an owner would get now if nothing were planned: of free hosts not due to earlier tickets.

    ``before`` is the id of the owner's own ticket, None without one.
    """
    free = free_for(ctx, requirements, before, limits)
    if not limits:
        return match(requirements, free)
    from bmhctl.usecases.reservations.limits import caps_of

    caps = caps_of(ctx, owner, limits)
    found = match(requirements, free, caps)
    if found.missing and any(cap.selector.terms for cap in caps):
        found = match(requirements, free_for(ctx, requirements, before, limits, EVERY_FIT), caps)
    return found


def _unclaimed(
    ctx: Context, everyone: Sequence[Requirements], more: int = 0, until: datetime | None = None
) -> list[Host]:
    if not everyone:
        return []
    while True:
        free = candidates(ctx, everyone, replace(FREE, free_until=until) if until else FREE, more=more)
        claimed = ctx.store.claims.claimed_hosts([host.id for host in free])
        if len(claimed) <= more:
            return [host for host in free if host.id not in claimed]
        more = 2 * len(claimed)  # a claimed host counts against the limit of the query


def comes_back(ctx: Context, requirements: Requirements) -> bool:
    """Return whether requirements can be met without an operator: by hosts without maintenance, cordon or fault."""
    return not match(requirements, candidates(ctx, [requirements], HostQuery(comes_back=True))).missing


def ticket_ahead(ctx: Context, before: int | None) -> str | None:
    """Return which ticket goes first, in words that stay the same while it waits; None when none does."""
    earlier = live_tickets(ctx, before)
    if not earlier:
        return None
    others = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
    return f"due to the earlier ticket of {earlier[0].owner}, from {local_time(earlier[0].created_at, OF_DAY)}{others}"
