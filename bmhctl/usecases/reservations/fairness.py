"""Which tickets are valid, which free hosts they have a right to, and which are left for a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache, partial

from bmhctl.domain.booking import free_until
from bmhctl.domain.limits import Limit
from bmhctl.domain.matching import Claimant, Match, Until, left_over, match, until_of
from bmhctl.domain.model import LONG_AGO, Host
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import Requirements, ReservationRequest, load_requirements
from bmhctl.domain.ticket import QueueEvent, QueueVerb, Ticket
from bmhctl.domain.units import OF_DAY, local_time
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.host_query import EVERY_FIT, FREE, HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.candidates import candidates
from bmhctl.usecases.reservations.limits import caps_of, is_within
from bmhctl.usecases.shared.absence import LONGEST
from bmhctl.usecases.shared.context import Context

REFRESH = timedelta(seconds=5)
"""The interval at which a waiting process refreshes its ticket."""

LAPSE = timedelta(seconds=15)
"""A ticket lapses after this time without a refresh, even if its process exists, because the process may be stopped.

After a loss of connections, processes have the same time to reconnect. This time is longer than a connection's timeout.
"""

_LONGEST_AWAY = timedelta(seconds=LONGEST)  # the longest time for which a process waits for a server


def is_gone(ctx: Context, ticket_id: int) -> bool:
    """Return whether the ticket with this id was removed, or its process was killed."""
    if ctx.store.claims.shared([ticket_claim(ticket_id)]):
        return False
    ticket = ctx.store.tickets.get(ticket_id)
    return ticket is None or not _excuse(ctx)(ticket)


def waiting_tickets(ctx: Context) -> list[Ticket]:
    """Return the tickets whose process runs or may still be reconnecting, in queue order."""
    return _waiting(ctx, ctx.store.tickets.all())


def is_live(ctx: Context, ticket: Ticket) -> bool:
    """Return whether a ticket is valid: its process runs, and has refreshed it recently."""
    return bool(_live(ctx, [ticket]))


def live_tickets(ctx: Context, before: int | None = None) -> list[Ticket]:
    """Return the valid tickets in queue order; with ``before``, only those before the ticket with this id."""
    return _live(ctx, ctx.store.tickets.all(before))


def _live(ctx: Context, tickets: Sequence[Ticket]) -> list[Ticket]:
    if not tickets:
        return []
    now, is_excused = ctx.clock(), _excuse(ctx)
    # abs: after a clock was set back, the ticket of a stopped process must not be valid for long
    return _waiting(ctx, [t for t in tickets if abs(now - t.refreshed_at) < LAPSE or is_excused(t)])


def _excuse(ctx: Context) -> Callable[[Ticket], bool]:
    """Return a test whether a ticket's process may still be reconnecting after connections to the server were lost.

    Such a ticket is *excused*: it is valid for :data:`LAPSE` although no process holds its claim. It is excused only
    once: if it was not refreshed since an earlier loss, its process is dead. A ticket past its deadline is not excused.
    """
    last_disruption, now = ctx.store.last_disruption(), ctx.clock()
    if not timedelta() <= now - last_disruption < LAPSE:
        return lambda _: False

    def is_excused(ticket: Ticket) -> bool:
        since = ticket.excused_at
        if since is None or since < ticket.refreshed_at:  # the process reconnected after that loss
            since = last_disruption
        is_past = ticket.deadline is not None and ticket.deadline <= now
        silent = last_disruption - ticket.refreshed_at
        return not is_past and timedelta() < silent < _LONGEST_AWAY and now - since < LAPSE

    return is_excused


def note_excused(ctx: Context) -> None:
    """Record in the caller's transaction since when tickets are excused, so that a later loss does not prolong it."""
    lost = ctx.store.last_disruption()
    if timedelta() <= ctx.clock() - lost < LAPSE:
        ctx.store.tickets.excuse(lost)


def may_come_back(ctx: Context, ticket: Ticket) -> bool:
    """Return whether a ticket is excused and no process holds its claim: its process may still be reconnecting."""
    return _excuse(ctx)(ticket) and not ctx.store.claims.shared([ticket_claim(ticket.id)])


def _live_in_batches(ctx: Context, tickets: Sequence[Ticket]) -> Iterator[Ticket]:
    """Yield the valid tickets; check them in growing batches, because each check is a query and few usually suffice."""
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
    """Remove the tickets of processes that were killed, in the caller's transaction; return the other tickets."""
    note_excused(ctx)
    waiting = waiting_tickets(ctx)
    for ticket in ctx.store.tickets.all():
        if ticket not in waiting:
            note_ticket(ctx, ticket, QueueVerb.LOST, reason="its command was killed")
            ctx.store.tickets.remove(ticket.id)
            ctx.store.claims.forget(ticket_claim(ticket.id), shared=True)
    return waiting


def note_ticket(
    ctx: Context, ticket: Ticket, verb: QueueVerb, *, reason: str | None = None, reservation: str | None = None
) -> None:
    """Record an event of a ticket, in the caller's transaction, which also changes the ticket."""
    ctx.store.queue_events.add(
        QueueEvent(
            ticket=ticket.id,
            at=ctx.clock(),
            actor=ctx.actor,
            verb=verb,
            owner=ticket.owner,
            requirements=ticket.requirements,
            reason=reason,
            reservation=reservation,
        )
    )


def free_for(
    ctx: Context,
    requirements: Requirements,
    before: int | None,
    limits: tuple[Limit, ...],
    more: int = 0,
    until: datetime | None = None,
) -> list[Host]:
    """Return the free hosts that fit a requirement and that no earlier ticket needs, least recently used first.

    ``before`` is the id of the request's own ticket; None for none. Returns as many hosts as a match can need, and
    ``more``. ``limits`` are the policy's: a ticket that waits only for its owner's limit has no right to hosts. With
    ``until``, only hosts on which nothing is planned before this time are returned, those with the nearest plans first.
    """
    if until is None:
        return _free(ctx, requirements, before, limits, None, more)
    free = _free(ctx, requirements, before, limits, Until(until, until), more)
    return sorted((host for host in free if free_until(host) >= until), key=free_until)


def _free(
    ctx: Context,
    requirements: Requirements,
    before: int | None,
    limits: tuple[Limit, ...],
    until: Until | None,
    more: int = 0,
) -> list[Host]:
    """Return the hosts of :func:`free_for`, with enough that are free as long as the request and each ticket need.

    ``until`` is how long the request needs them; None if nothing is planned. An earlier ticket has a right only to
    hosts that are free for its own lease.
    """
    tickets = ctx.store.tickets.all(before)
    untils: dict[int, Until] = {}
    if until is not None and tickets:
        policy, now = ctx.store.policy(), ctx.clock()
        untils = {ticket.id: until_of_ticket(ticket, policy, now) for ticket in tickets}
    everyone = [requirements, *(load_requirements(ticket.requirements) for ticket in tickets)]
    more = max(more, _more_under(limits)) if tickets else more
    moments = dict.fromkeys(moment for one in (until, *untils.values()) if one for moment in (one.whole, one.least))
    found = {host.id: host for each in moments or (None,) for host in unclaimed(ctx, everyone, more, each)}
    free = sorted(found.values(), key=lambda host: (host.used_at or LONG_AGO, host.id))
    if not tickets:
        return free
    earlier = _within_limits(ctx, _live_in_batches(ctx, tickets), limits, lambda ticket: untils.get(ticket.id))
    return left_over(earlier, free, partial(comes_back, ctx))


def until_of_ticket(ticket: Ticket, policy: Policy, now: datetime) -> Until:
    """Return until when the hosts of a ticket must be free."""
    return until_of(length_of(ticket, policy), now, policy.turnaround, may_be_short=ticket.may_be_short)


def length_of(ticket: Ticket | ReservationRequest, policy: Policy) -> timedelta | None:
    """Return the length of the lease that a ticket or a request asks for; None for a lease without end."""
    ttl = None if ticket.endless else ticket.ttl or policy.ttl
    return min((length for length in (ttl, policy.max_ttl) if length is not None), default=None)


def hosts_for_tickets(ctx: Context, limits: tuple[Limit, ...], before: int | None = None) -> set[int]:
    """Return the ids of the free hosts that tickets have a right to; with ``before``, only tickets before this id."""
    tickets = live_tickets(ctx, before)
    wanted = [load_requirements(each.requirements) for each in tickets]
    free = unclaimed(ctx, wanted, _more_under(limits))
    earlier = _within_limits(ctx, tickets, limits)
    if any(host.planned for host in free):  # leave out hosts that are not free for a ticket's whole lease
        free = unclaimed(ctx, wanted, EVERY_FIT)
        until = partial(until_of_ticket, policy=ctx.store.policy(), now=ctx.clock())
        earlier = _within_limits(ctx, tickets, limits, until)
    left = left_over(earlier, free, partial(comes_back, ctx))
    return {host.id for host in free} - {host.id for host in left}


def _more_under(limits: tuple[Limit, ...]) -> int:
    """Return how many more hosts a match may need: all, if a limit may exclude the hosts that are found first."""
    return EVERY_FIT if any(limit.max_hosts is not None and limit.selector.terms for limit in limits) else 0


def _within_limits(
    ctx: Context,
    tickets: Iterable[Ticket],
    limits: tuple[Limit, ...],
    until: Callable[[Ticket], Until | None] = lambda _: None,
) -> Iterator[Claimant]:
    """Yield the claimants for tickets, with the caps of their owners, except tickets that wait for a limit.

    ``until`` returns until when the hosts of a ticket must be free; None if nothing is planned.
    """
    caps_of_each = cache(partial(caps_of, ctx, limits=limits))
    for ticket in tickets:
        caps, requirements = caps_of_each(ticket.owner), load_requirements(ticket.requirements)
        if not caps or is_within(ctx, requirements, caps):
            yield Claimant(requirements, caps, until(ticket))


def match_free(
    ctx: Context,
    owner: str,
    requirements: Requirements,
    before: int | None,
    limits: tuple[Limit, ...],
    until: Until | None = None,
) -> Match:
    """Return the match that an owner would get now, of free hosts that no earlier ticket needs.

    ``before`` is the id of the owner's own ticket; None for none. ``until`` is how long the hosts must be free of
    plans; None if nothing is planned.
    """
    claimant = Claimant(requirements, caps_of(ctx, owner, limits), until)
    found = claimant.match(_free(ctx, requirements, before, limits, until))
    is_whole = not found.missing and (until is None or all(free_until(host) >= until.whole for host in found.hosts))
    is_capped = any(cap.selector.terms for cap in claimant.caps)
    if is_whole or not (is_capped or (until is not None and until.least < until.whole)):
        return found
    # Read all hosts: those that come first may exceed a cap, and any other may be one that stays free the longest.
    return claimant.match(_free(ctx, requirements, before, limits, until, EVERY_FIT))


def unclaimed(
    ctx: Context, everyone: Sequence[Requirements], more: int = 0, until: datetime | None = None
) -> list[Host]:
    """Return the free hosts of :func:`candidates` on which no step runs, even if a ticket has a right to them."""
    if not everyone:
        return []
    while True:
        free = candidates(ctx, everyone, replace(FREE, free_until=until) if until else FREE, more=more)
        claimed = ctx.store.claims.claimed_hosts([host.id for host in free])
        if len(claimed) <= more:
            return [host for host in free if host.id not in claimed]
        more = 2 * len(claimed)  # the query's limit also counts hosts that are claimed, and left out afterwards


def comes_back(ctx: Context, requirements: Requirements) -> bool:
    """Return whether requirements can be met without an operator: by hosts without maintenance, cordon or fault."""
    return not match(requirements, candidates(ctx, [requirements], HostQuery(comes_back=True))).missing


def ticket_ahead(ctx: Context, before: int | None) -> str | None:
    """Return which ticket goes first, in words that do not change while it waits; None if no ticket does.

    ``before`` is the id of the caller's own ticket; None for none.
    """
    earlier = live_tickets(ctx, before)
    if not earlier:
        return None
    first = f"{earlier[0].owner}, from {local_time(earlier[0].created_at, OF_DAY)}"
    if len(earlier) == 1:
        return f"set aside for the earlier ticket of {first}"
    return f"set aside for {len(earlier)} earlier tickets: the first is that of {first}"
