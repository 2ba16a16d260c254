"""The queue: its tickets, and the hosts that each still misses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from bmhctl.domain.units import format_age
from bmhctl.output.layout import Column, Line, Listing, listing
from bmhctl.output.records import Fields, flatten, iso, record_of
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


_FIELDS: Fields[Queued] = {
    "ticket": lambda item, _: item.ticket.id,
    "position": lambda item, _: item.position,
    "owner": lambda item, _: item.ticket.owner,
    "purpose": lambda item, _: item.ticket.purpose,
    "wants": lambda item, _: item.requirements,
    "missing": lambda item, _: item.missing,
    "eta": lambda item, _: iso(item.eta) if item.eta else None,
    "age": lambda item, now: max(0, int((now - item.ticket.created_at).total_seconds())),
    "created_at": lambda item, _: iso(item.ticket.created_at),
    "deadline": lambda item, _: iso(item.ticket.deadline) if item.ticket.deadline else None,
    "request_id": lambda item, _: item.ticket.request_id,
    "tags": lambda item, _: dict(item.ticket.tags),
}

VIEWS = {
    Queue: View(
        NAMED,
        tuple(_FIELDS),
        ("position", "ticket", "owner", "age", "wants", "missing", "eta", "deadline", "purpose"),
        kind="queue",
        key="tickets",
        records=lambda result: (record_of(item, _FIELDS, result.now) for item in result.items),
        names=lambda result: (str(item.ticket.id) for item in result.items),
        lines=_lines,
        empty="no tickets: no request waits for hosts",
    )
}
