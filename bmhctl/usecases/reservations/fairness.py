"""Which free hosts are due to older tickets, and which are left for a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from bmhctl.domain.model import Host, State, Ticket
from bmhctl.domain.requirements import Requirement, Requirements, load_requirements, total
from bmhctl.stores.claims import host_claim, ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.matching import left_over, match
from bmhctl.usecases.shared.context import Context

REFRESH = timedelta(seconds=5)
"""How often a waiting process says that it lives."""

LAPSE = timedelta(seconds=15)
"""After how long without a word a ticket counts no more, though its process lives: it may be stopped.

After connections were lost, those who waited have as long to be back: more than it takes to give a connection up.
"""

_EXCUSED = "excused"  # the key in the inventory under which excused tickets are kept
_NEVER = datetime.min.replace(tzinfo=UTC)
_wants_of = lru_cache(maxsize=1000)(load_requirements)
_FREE = HostQuery(states=frozenset({State.AVAILABLE}), reservable=True)


def is_gone(ctx: Context, ticket_id: int) -> bool:
    """Whether the ticket with this id was given back, or left by a process that was killed."""
    if ctx.store.claims.shared([ticket_claim(ticket_id)]):
        return False
    ticket = ctx.store.ticket(ticket_id)
    return ticket is None or not _excuse(ctx)(ticket)


def waiting_tickets(ctx: Context) -> list[Ticket]:
    """The tickets of all processes that live, the oldest first."""
    return _waiting(ctx, ctx.store.tickets())


def is_live(ctx: Context, ticket: Ticket) -> bool:
    """Whether a ticket counts: its process lives, and said so lately."""
    return bool(_live(ctx, [ticket]))


def live_tickets(ctx: Context, before: int | None = None) -> list[Ticket]:
    """The tickets that count, the oldest first; only those older than ``before``, if given."""
    return _live(ctx, ctx.store.tickets(before))


def _live(ctx: Context, tickets: Sequence[Ticket]) -> list[Ticket]:
    if not tickets:
        return []
    now, is_excused = ctx.clock(), _excuse(ctx)
    # abs: a clock may be set back, and then a process that is stopped would be live for ever
    return _waiting(ctx, [t for t in tickets if abs(now - t.refreshed_at) < LAPSE or is_excused(t)])


def _excuse(ctx: Context) -> Callable[[Ticket], bool]:
    """Return true for tickets whose processes may still be reconnecting to a server that was lost.

    A ticket is excused once: one that was not refreshed since an earlier loss has no process any more. Nor has one past
    its deadline, unless a process that attached to it, and may wait for longer, holds it.
    """
    last_disruption, now = ctx.store.last_disruption(), ctx.clock()
    if not timedelta() <= now - last_disruption < LAPSE:
        return lambda _: False
    excused = _excused(ctx)

    def is_excused(ticket: Ticket) -> bool:
        since = _excused_since(ticket, excused) or last_disruption
        is_past = ticket.deadline is not None and ticket.deadline <= now
        return not is_past and ticket.refreshed_at < last_disruption and now - since < LAPSE

    return is_excused


def _excused_since(ticket: Ticket, excused: Mapping[int, datetime]) -> datetime | None:
    """Return since when a ticket has been excused, None if its process has been there since."""
    since = excused.get(ticket.id)
    return None if since is None or ticket.refreshed_at > since else since


def note_excused(ctx: Context) -> None:
    """Keep since when tickets are excused, in the caller's transaction, so that another loss excuses none again."""
    lost = ctx.store.last_disruption()
    if not timedelta() <= ctx.clock() - lost < LAPSE:
        return
    known = _excused(ctx)
    kept = {
        ticket.id: _excused_since(ticket, known) or lost for ticket in ctx.store.tickets() if ticket.refreshed_at < lost
    }
    if kept != known:
        ctx.store.put(_EXCUSED, json.dumps({str(ticket): moment.isoformat() for ticket, moment in kept.items()}))


def _excused(ctx: Context) -> dict[int, datetime]:
    """Return the tickets that were excused, by id, each with the time of the loss."""
    try:
        known = json.loads(ctx.store.get(_EXCUSED) or "{}")
        return {int(ticket): datetime.fromisoformat(moment) for ticket, moment in known.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def may_come_back(ctx: Context, ticket: Ticket) -> bool:
    """Whether a ticket counts though no process has it: the one that had it may not have reached the server again."""
    return _excuse(ctx)(ticket) and not ctx.store.claims.shared([ticket_claim(ticket.id)])


def _live_by_and_by(ctx: Context, tickets: Sequence[Ticket]) -> Iterator[Ticket]:
    """Asks about ever more at once: to ask has its price, and as a rule the first few take all there is."""
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


def drop_dead(ctx: Context) -> list[Ticket]:
    """Drops the tickets of processes that were killed, in the caller's transaction; returns the others."""
    note_excused(ctx)
    waiting = waiting_tickets(ctx)
    for ticket in ctx.store.tickets():
        if ticket not in waiting:
            ctx.store.drop_ticket(ticket.id)
            ctx.store.claims.forget(ticket_claim(ticket.id), shared=True)
    return waiting


def any_free(ctx: Context, requirements: Requirements) -> bool:
    """Whether any free host fits any of the requirements, whoever it is due to."""
    return bool(_unclaimed(ctx, [requirements]))


def free_for(ctx: Context, requirements: Requirements, before: int | None) -> list[Host]:
    """Return the free hosts that fit a requirement and are not due to an earlier ticket, least recently used first."""
    if not any_free(ctx, requirements):
        return []
    tickets = ctx.store.tickets(before)
    free = _unclaimed(ctx, [requirements, *(_wants_of(ticket.wants) for ticket in tickets)])
    earlier = (_wants_of(ticket.wants) for ticket in _live_by_and_by(ctx, tickets))
    return left_over(earlier, free, lambda other: comes_back(ctx, other))


def set_aside(ctx: Context) -> int:
    """How many free hosts are due to somebody who waits."""
    requirements = [_wants_of(ticket.wants) for ticket in live_tickets(ctx)]
    free = _unclaimed(ctx, requirements) if requirements else []
    return len(free) - len(left_over(requirements, free, lambda other: comes_back(ctx, other)))


def taken_at_once(ctx: Context, requirements: Requirements) -> tuple[Host, ...] | None:
    """Return free hosts for all requirements, locked until the shared transaction ends; None if there are not enough.

    Looks at no ticket, and past what others are about to take.
    """
    free = candidates(ctx, [requirements], _FREE, read=ctx.store.free_hosts)
    found = match(requirements, _without_claimed(ctx, free))
    return None if found.missing else found.hosts


def only_free_query(requirements: Requirements) -> HostQuery | None:
    """What :func:`taken_at_once` asks the inventory, if that is one question."""
    queries = _queries([requirements], _FREE)
    return queries[0] if len(queries) == 1 else None


def _unclaimed(ctx: Context, everyone: Sequence[Requirements]) -> list[Host]:
    free = candidates(ctx, everyone, _FREE)
    unclaimed = _without_claimed(ctx, free)
    if len(unclaimed) < len(free):  # a claimed host may hide a free one that is past the limit of the query
        unclaimed = _without_claimed(ctx, candidates(ctx, everyone, _FREE, more=len(free) - len(unclaimed)))
    return unclaimed


def _without_claimed(ctx: Context, hosts: list[Host]) -> list[Host]:
    claimed = ctx.store.claims.claimed([host_claim(host.id) for host in hosts])
    return [host for host in hosts if host_claim(host.id) not in claimed]


def comes_back(ctx: Context, requirements: Requirements) -> bool:
    """Whether requirements can be met without an operator: by hosts that are not set aside, cordoned or broken."""
    return not match(requirements, candidates(ctx, [requirements], HostQuery(comes_back=True))).missing


def candidates(
    ctx: Context,
    everyone: Sequence[Requirements],
    query: HostQuery,
    more: int = 0,
    read: Callable[[HostQuery], Iterable[Host]] | None = None,
) -> list[Host]:
    """The hosts of a query that fit any of the requirements, least recently used first; ``read`` finds them.

    No more for each requirement than all of them ask for together, and ``more``: no match can need others. Of the
    hosts of all states these are any: no index has them in the order of their use.
    """
    found: dict[int, Host] = {}
    for each in _queries(everyone, query, more):
        for host in (read or ctx.store.hosts)(each):
            found[host.id] = host
    return sorted(found.values(), key=lambda host: (host.used_at or _NEVER, host.id))


def _queries(everyone: Sequence[Requirements], query: HostQuery, more: int = 0) -> list[HostQuery]:
    most = sum(total(requirements) for requirements in everyone) + more
    wanted = dict.fromkeys(requirement for requirements in everyone for requirement in requirements)
    return [replace(query_for(requirement, query), limit=most) for requirement in wanted]


def query_for(requirement: Requirement, query: HostQuery) -> HostQuery:
    """The hosts of a query that may meet a requirement; of those in some states, least recently used first."""
    if requirement.name is not None:  # who names a host means it, declared or not: then it says why it is not to be had
        return replace(query, names=(requirement.name,), declared=False)
    return replace(query, selector=requirement.selector, by_turn=bool(query.states))


def due_before(ctx: Context, before: int | None) -> str | None:
    """Who goes first, in words that stay the same while they wait; None when nobody does."""
    earlier = live_tickets(ctx, before)
    if not earlier:
        return None
    others = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
    return f"due to the earlier ticket of {earlier[0].owner}, from {earlier[0].created_at:%H:%M:%S} UTC{others}"
