"""The queue: its tickets with the hosts that each still misses, its history, and what ends or begins soon."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from bmhctl.domain.units import format_age
from bmhctl.output.layout import Column, Line, Listing, listing, padded
from bmhctl.output.records import Fields, attributes, attributes_record, flatten, record_of
from bmhctl.output.render import LISTED, NAMED, Display, View
from bmhctl.output.spans import ago, until, until_line
from bmhctl.results.queue import (
    BOOKING,
    LEASE,
    MAINTENANCE,
    PLANNED,
    SHORT,
    Queue,
    Queued,
    QueueHistory,
    Reminders,
    TicketChange,
)
from bmhctl.support.folding import in_short

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
    **attributes("position"),
    **attributes("owner", "purpose", of="ticket"),
    "wants": lambda item, _: item.requirements,
    **attributes("missing", "eta"),
    "age": lambda item, now: max(0, int((now - item.ticket.created_at).total_seconds())),
    **attributes("created_at", "deadline", "request_id", "tags", of="ticket"),
}

_HISTORY_COLUMNS: Listing[TicketChange, QueueHistory] = (
    (Column("AT", 1), lambda change, result: [(ago(change.event.at, result.now), "dim")]),
    (Column("TICKET"), lambda change, _: [(str(change.event.ticket), "")]),
    (Column("WHAT"), lambda change, _: [(change.event.verb.value, "bold")]),
    (Column("OWNER", 0, 12), lambda change, _: [(change.event.owner, "")]),
    (Column("REQUEST", 2, 12), lambda change, _: [(change.requirements, "cyan")]),
    (Column("BY", 3, 12), lambda change, _: [(change.event.actor, "")]),
    (Column("RESERVATION", 3), lambda change, _: [(change.event.reservation or "", "")]),
    (Column("REASON", 2, 12), lambda change, _: [(change.event.reason or "", "dim")]),
)


_HISTORY_FIELDS = ("id", "at", "ticket", "verb", "owner", "requirements", "actor", "reservation", "reason")

_WORDS = {
    LEASE: "lease {}",
    MAINTENANCE: "maintenance",
    BOOKING: "start of booking {}",
    PLANNED: "start of maintenance {}",
    SHORT: "too few hosts for booking {}",
}


def _reminder_lines(result: Reminders) -> Iterator[Line]:
    ends = padded(until(item.at, result.now) for item in result.items)
    for item, end in zip(result.items, ends, strict=True):
        what = _WORDS[item.kind].format(item.id)
        line: Line = [
            (end, "yellow" if item.at > result.now and item.kind != SHORT else "red"),
            (f"  {what} of ", ""),
            (item.owner, "bold"),
            (f"  {' '.join(in_short(item.hosts))}", "cyan"),
            (f"  {item.about}" if item.about else "", "dim"),
        ]
        yield [*line, (f"  {', '.join(item.waiting)} waiting" if item.waiting else "", "yellow")]


_REMINDER_FIELDS = ("kind", "id", "owner", "hosts", "at", "about", "waiting")

VIEWS = {
    Queue: View(
        NAMED,
        tuple(_FIELDS),
        ("position", "ticket", "owner", "age", "wants", "missing", "eta", "deadline", "purpose"),
        objects={"tags": ()},
        kind="queue",
        key="tickets",
        records=lambda result: (record_of(item, _FIELDS, result.now) for item in result.items),
        names=lambda result: (str(item.ticket.id) for item in result.items),
        lines=_lines,
        empty=lambda _: "no tickets: no request waits for hosts",
    ),
    QueueHistory: View(
        LISTED,
        _HISTORY_FIELDS,
        _HISTORY_FIELDS[1:],
        kind="queue-history",
        key="events",
        records=lambda result: (
            attributes_record(each.event, _HISTORY_FIELDS) | {"requirements": each.requirements}
            for each in result.items
        ),
        lines=lambda result, display: listing(_HISTORY_COLUMNS, result.items, result, display.width),
        empty=lambda _: "no events: no request has waited for hosts",
    ),
    Reminders: View(
        LISTED,
        _REMINDER_FIELDS,
        key="reminders",
        records=lambda result: (attributes_record(item, _REMINDER_FIELDS) for item in result.items),
        lines=lambda result, _: _reminder_lines(result),
        empty=lambda _: "nothing to remind of: bmhctl status shows what ends next",
    ),
}
