"""The history of the queue: what happened to each ticket, and who did it."""

from __future__ import annotations

from bmhctl.output.layout import Column, Listing, listing
from bmhctl.output.records import Record, attributes_record
from bmhctl.output.render import LISTED, View
from bmhctl.output.spans import ago
from bmhctl.results.queue import QueueHistory, TicketChange

_COLUMNS: Listing[TicketChange, QueueHistory] = (
    (Column("AT", 1), lambda change, result: [(ago(change.event.at, result.now), "dim")]),
    (Column("TICKET"), lambda change, _: [(str(change.event.ticket), "")]),
    (Column("WHAT"), lambda change, _: [(change.event.verb.value, "bold")]),
    (Column("OWNER", 0, 12), lambda change, _: [(change.event.owner, "")]),
    (Column("REQUEST", 2, 12), lambda change, _: [(change.requirements, "cyan")]),
    (Column("BY", 3, 12), lambda change, _: [(change.event.actor, "")]),
    (Column("RESERVATION", 3), lambda change, _: [(change.event.reservation or "", "")]),
    (Column("REASON", 2, 12), lambda change, _: [(change.event.reason or "", "dim")]),
)


def _record(change: TicketChange) -> Record:
    return attributes_record(change.event, _FIELDS) | {"requirements": change.requirements}


_FIELDS = ("id", "at", "ticket", "verb", "owner", "requirements", "actor", "reservation", "reason")

VIEWS = {
    QueueHistory: View(
        LISTED,
        _FIELDS,
        _FIELDS[1:],
        kind="queue-history",
        key="events",
        records=lambda result: map(_record, result.items),
        lines=lambda result, display: listing(_COLUMNS, result.items, result, display.width),
        empty="no events: no request has waited for hosts",
    )
}
