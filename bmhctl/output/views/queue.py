"""The queue: its tickets, and the hosts that each still misses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from bmhctl.domain.units import format_age
from bmhctl.output.layout import Column, Line, Listing, listing
from bmhctl.output.records import Record, flatten, iso
from bmhctl.output.render import NAMED, Display, View
from bmhctl.output.spans import until_line
from bmhctl.results.queue import Queue, Queued

_COLUMNS: Listing[Queued, Queue] = (
    (Column("POSITION"), lambda item, _: [(str(item.position), "bold")]),
    (Column("TICKET"), lambda item, _: [(str(item.ticket.id), "")]),
    (Column("OWNER"), lambda item, _: [(item.ticket.owner, "bold")]),
    (Column("AGE", 2), lambda item, queue: [(format_age(queue.now - item.ticket.created_at), "")]),
    (Column("FITS BY", 1), lambda item, queue: until_line(item.eta, queue.now) if item.eta else [("unknown", "dim")]),
    (
        Column("DEADLINE", 4),
        lambda item, queue: until_line(item.ticket.deadline, queue.now) if item.ticket.deadline else [],
    ),
    (Column("PURPOSE", 3, 12), lambda item, _: [(item.ticket.purpose or "", "")]),
    (Column("TAGS", 3, 12), lambda item, _: [(flatten(dict(item.ticket.tags)), "cyan")]),
)


def _lines(queue: Queue, display: Display) -> Iterator[Line]:
    """Yield a row for each ticket, the oldest first, and below it what it waits for and still misses."""
    lines = iter(listing(_COLUMNS, queue.items, queue, display.width))
    yield from islice(lines, 1)
    for item, line in zip(queue.items, lines, strict=False):
        yield line
        yield [("     ", ""), (item.requirements, "cyan"), (" · missing: ", "dim"), (item.missing, "yellow")]
    yield from lines


def _record(item: Queued, now: datetime) -> Record:
    """Return one ticket of the queue; ``age`` is in whole seconds."""
    ticket = item.ticket
    return {
        "ticket": ticket.id,
        "position": item.position,
        "owner": ticket.owner,
        "purpose": ticket.purpose,
        "wants": item.requirements,
        "missing": item.missing,
        "eta": iso(item.eta) if item.eta else None,
        "age": max(0, int((now - ticket.created_at).total_seconds())),
        "created_at": iso(ticket.created_at),
        "deadline": iso(ticket.deadline) if ticket.deadline else None,
        "request_id": ticket.request_id,
        "tags": dict(ticket.tags),
    }


_FIELDS = (
    "ticket",
    "position",
    "owner",
    "purpose",
    "wants",
    "missing",
    "eta",
    "age",
    "created_at",
    "deadline",
    "request_id",
    "tags",
)

VIEWS = {
    Queue: View(
        NAMED,
        _FIELDS,
        ("position", "ticket", "owner", "age", "wants", "missing", "eta", "deadline", "purpose"),
        kind="queue",
        key="tickets",
        records=lambda result: (_record(item, result.now) for item in result.items),
        names=lambda result: (str(item.ticket.id) for item in result.items),
        lines=_lines,
        empty="no tickets: no request waits for hosts",
    )
}
