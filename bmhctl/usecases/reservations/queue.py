"""List the tickets of waiting commands; cancel or move a ticket; return the history of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.domain.booking import free_until
from bmhctl.domain.model import Host, Planned, State
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import Requirements, describe_requirements, load_requirements
from bmhctl.domain.ticket import QueueVerb, Ticket
from bmhctl.domain.units import format_age, format_duration, plural
from bmhctl.errors import BusyError, NotFoundError, NotYoursError, UsageError
from bmhctl.results import Done
from bmhctl.results.queue import Queue, Queued, QueueHistory, TicketChange
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.folding import in_short
from bmhctl.usecases.reservations.candidates import candidates
from bmhctl.usecases.reservations.eta import etas_of_tickets
from bmhctl.usecases.reservations.fairness import (
    LAPSE,
    comes_back,
    free_for,
    is_live,
    match_free,
    may_come_back,
    note_ticket,
    until_of_ticket,
    waiting_tickets,
)
from bmhctl.usecases.reservations.limits import waits_for
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import forced_reason
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap, retried

_SOME = 20  # this many more hosts are read to explain what a request lacks


def queue(ctx: Context) -> Queue:
    """Return the tickets in queue order, each with what it asks for and still lacks."""
    now = refresh(ctx)
    with ctx.store.snapshot():
        items, policy, waiting = [], ctx.store.policy(), waiting_tickets(ctx)
        is_booked = bool(waiting) and ctx.store.bookings.is_any_open()
        for position, (ticket, eta) in enumerate(zip(waiting, etas_of_tickets(ctx, waiting), strict=True), 1):
            requirements = load_requirements(ticket.requirements)
            missing = _missing(ctx, requirements, ticket, policy, is_booked)
            items.append(Queued(ticket, position, describe_requirements(requirements), missing, eta))
    return Queue(tuple(items), now)


def _missing(ctx: Context, requirements: Requirements, ticket: Ticket, policy: Policy, is_booked: bool) -> str:
    if not is_live(ctx, ticket):
        return "its process is checking hosts, or is stopped: others may go first"
    limits = policy.limits
    until = until_of_ticket(ticket, policy, ctx.clock()) if is_booked else None
    found = match_free(ctx, ticket.owner, requirements, ticket.id, limits, until)
    if not found.missing:
        return "nothing: it is about to be granted"
    if (limit := waits_for(ctx, ticket, limits)) is not None:
        return f"it waits for the limit of its owner: {limit}"
    words = plural(found.missing, "more host")
    free = [] if until is None else free_for(ctx, requirements, ticket.id, limits, more=_SOME)
    if until is not None and (planned := _held_back(free, until.least)):
        return f"{words}: {planned}"
    if not comes_back(ctx, requirements):
        return f"{words}: that needs an operator; {_obstacles(ctx, requirements)}"
    return words


def _held_back(free: Sequence[Host], least: datetime) -> str | None:
    """Return in words the free hosts on which something is planned before the time ``least``; None if on none."""
    names: dict[Planned, list[str]] = {}
    for host in free:
        if free_until(host) < least:
            names.setdefault(host.planned[0], []).append(host.name)
    words = (
        f"{' '.join(in_short(each))} {'are' if len(each) > 1 else 'is'} {planned.words}"
        for planned, each in names.items()
    )
    return _first_few([*words]) if names else None


def _first_few(words: Sequence[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def _obstacles(ctx: Context, requirements: Requirements) -> str:
    words = [
        f"{host.name} {what}"
        for host in candidates(ctx, [requirements], HostQuery(), more=_SOME)
        if (what := _obstacle(host))
    ]
    return _first_few(words) or "too few hosts fit"


def _obstacle(host: Host) -> str | None:
    if host.undeclared:
        return "is no longer declared"
    if host.state is State.MAINTENANCE:
        return "is in maintenance"
    if host.cordon is not None:
        return "is being retired" if host.cordon.retires else f"is {host.cordon.flag}"
    return None if host.fault is None else "has a fault"


@retried
def cancel(ctx: Context, ticket_id: int, *, force: bool = False, reason: str | None = None) -> Done:
    """Remove a ticket from the queue, and return which; its process then ends with an error.

    Raises :class:`NotFoundError` when there is no such ticket, :class:`NotYoursError` for another owner's ticket unless
    ``force`` is given with a ``reason``, and :class:`BusyError` while its process may still be reconnecting.
    """
    forced_reason(force, reason)
    refresh_and_reap(ctx)
    with ctx.transaction():
        ticket = ctx.store.tickets.get(ticket_id)
        if ticket is None:
            raise NotFoundError(f"there is no ticket {ticket_id}", hint="bmhctl queue lists them")
        if ticket.owner != ctx.actor and not force:
            raise NotYoursError(
                f"ticket {ticket_id} is {ticket.owner}'s", hint=f"bmhctl queue cancel {ticket_id} --force --reason TEXT"
            )
        if may_come_back(ctx, ticket):  # the process would queue again, because it can't be notified
            raise BusyError(
                f"ticket {ticket_id}: its process lost the connection to the server and has not reconnected yet",
                hint=f"try again: within {format_duration(LAPSE)} it reconnects, or the ticket is removed",
            )
        note_ticket(ctx, ticket, QueueVerb.CANCELLED, reason=reason)
        ctx.store.tickets.remove(ticket_id)
    age = format_age(ctx.clock() - ticket.created_at)
    return Done(
        "queue cancel",
        f"cancelled ticket {ticket_id} of {ticket.owner}, {age} old, "
        f"for {describe_requirements(load_requirements(ticket.requirements))}",
        {"ticket": ticket_id, "owner": ticket.owner},
    )


@retried
def move(ctx: Context, ticket_id: int, reason: str, *, before: int | None = None) -> Done:
    """Move a ticket to the front of the queue, or to just before the ticket ``before``; return what was done.

    The move is recorded with its reason. Raises :class:`UsageError` for an empty reason and for a move before itself.
    """
    if not reason.strip():
        raise UsageError("moving a ticket needs a reason, which is recorded", hint="--reason 'release build'")
    if ticket_id == before:
        raise UsageError(f"ticket {ticket_id} can't be moved before itself")
    refresh_and_reap(ctx)
    with ctx.transaction():
        waiting = {ticket.id: ticket for ticket in ctx.store.tickets.all()}
        for each in (ticket_id, *(() if before is None else (before,))):
            if each not in waiting:
                raise NotFoundError(f"there is no ticket {each}", hint="bmhctl queue lists them")
        ticket, order = waiting[ticket_id], [each for each in waiting if each != ticket_id]
        order.insert(0 if before is None else order.index(before), ticket_id)
        where = "to the front" if before is None else f"before ticket {before} of {waiting[before].owner}"
        if order == [*waiting]:
            return Done("queue move", f"ticket {ticket_id} of {ticket.owner} is there already", {"ticket": ticket_id})
        ctx.store.tickets.order(order)
        note_ticket(ctx, ticket, QueueVerb.MOVED, reason=f"{where}: {reason}")
    details = {"ticket": ticket_id, "owner": ticket.owner, "position": order.index(ticket_id) + 1}
    return Done("queue move", f"moved ticket {ticket_id} of {ticket.owner} {where}", details)


def queue_history(ctx: Context, last: int | None = None) -> QueueHistory:
    """Return the history of the queue, the oldest event first; with ``last``, only the newest so many events."""
    now = refresh(ctx)
    events = ctx.store.queue_events.read(last)
    described = ((each, describe_requirements(load_requirements(each.requirements))) for each in events)
    return QueueHistory(tuple(TicketChange(each, words) for each, words in described), now)
