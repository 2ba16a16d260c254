"""The history of the queue: what happened to each ticket, and who did it."""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.output.layout import Column, Line, columns
from bmhctl.output.records import Record, attributes_record
from bmhctl.output.render import LISTED, View
from bmhctl.output.spans import ago
from bmhctl.results.queue import QueueHistory, TicketChange

_COLUMNS = (
    Column("AT", 1),
    Column("TICKET"),
    Column("WHAT"),
    Column("OWNER", 0, 12),
    Column("REQUEST", 2, 12),
    Column("BY", 3, 12),
    Column("RESERVATION", 3),
    Column("REASON", 2, 12),
)


def _rows(result: QueueHistory) -> Iterator[list[Line]]:
    for change in result.items:
        yield [
            [(ago(change.event.at, result.now), "dim")],
            [(str(change.event.ticket), "")],
            [(change.event.verb.value, "bold")],
            [(change.event.owner, "")],
            [(change.requirements, "cyan")],
            [(change.event.actor, "")],
            [(change.event.reservation or "", "")],
            [(change.event.reason or "", "dim")],
        ]


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
        lines=lambda result, display: columns(_COLUMNS, _rows(result), display.width),
        empty="no events: no request has waited for hosts",
    )
}
