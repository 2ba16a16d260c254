"""Record the events of tickets, for the history of the queue."""

from __future__ import annotations

from bmhctl.domain.ticket import QueueEvent, QueueVerb, Ticket
from bmhctl.usecases.shared.context import Context


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
