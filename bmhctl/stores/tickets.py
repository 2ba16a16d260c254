"""The queue: the tickets of waiting processes, and the events of all tickets, as rows and SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.domain.ticket import QueueEvent, QueueVerb, Ticket
from bmhctl.stores.database import Database
from bmhctl.stores.row_format import FLAG, MOMENT, MOMENT_OR_NONE, NUMBER, RowFormat, insert_into
from bmhctl.stores.rows import MICROSECOND, Value, from_json, from_time, to_json
from bmhctl.stores.schema import QUEUE_EVENT_COLUMNS, TICKET_COLUMNS
from bmhctl.support.values import Frozen, replace

_SELECT = f"SELECT {', '.join(TICKET_COLUMNS)} FROM tickets"
_ADD = f"{insert_into('tickets', TICKET_COLUMNS[1:])} RETURNING id"
_FORMAT = RowFormat(
    "ticket",
    Ticket,
    TICKET_COLUMNS,
    {
        "id": NUMBER,
        **dict.fromkeys(("created_at", "refreshed_at"), MOMENT),
        **dict.fromkeys(("deadline", "excused_at"), MOMENT_OR_NONE),
        "ttl": (
            lambda ttl: None if ttl is None else ttl // MICROSECOND,
            lambda value: None if value is None else int(value) * MICROSECOND,
        ),
        "endless": FLAG,
        "tags": (
            lambda tags: to_json(dict(tags)) if tags else None,
            lambda text: {} if text is None else from_json(str(text)),
        ),
    },
    {"wants": "requirements"},
)

_ADD_EVENT = insert_into("queue_events", QUEUE_EVENT_COLUMNS[1:])
_SELECT_EVENTS = f"SELECT {', '.join(QUEUE_EVENT_COLUMNS)} FROM queue_events"
_EVENT_FORMAT = RowFormat(
    "queue event",
    QueueEvent,
    QUEUE_EVENT_COLUMNS,
    {"id": NUMBER, "ticket": NUMBER, "at": MOMENT, "verb": (str, QueueVerb)},
    {},
)

_PLACE = "COALESCE(place, id)"
_BEFORE = f"{_PLACE} < COALESCE((SELECT {_PLACE} FROM tickets WHERE id = ?), ?)"


class Tickets(Frozen):
    """The tickets in the queue, also those whose process has died."""

    _database: Database

    def all(self, before: int | None = None) -> list[Ticket]:
        """Return every ticket in the order of the queue; with ``before``, only those before the ticket with this id."""
        where, parameters = (f" WHERE {_BEFORE}", [before, before]) if before is not None else ("", list[Value]())
        return [_FORMAT.value(row) for row in self._database.execute(f"{_SELECT}{where} ORDER BY {_PLACE}", parameters)]

    def are_any(self) -> bool:
        """Return whether the queue has a ticket; reads at most one row."""
        return bool(self._database.execute("SELECT 1 FROM tickets LIMIT 1"))

    def ids(self, last: int) -> list[int]:
        """Return the ids of the tickets up to and including ``last``, in queue order; much cheaper than :meth:`all`."""
        where = f"WHERE id = ? OR {_BEFORE}"
        rows = self._database.execute(f"SELECT id FROM tickets {where} ORDER BY {_PLACE}", [last, last, last])
        return [int(row[0] or 0) for row in rows]

    def order(self, ids: Sequence[int]) -> None:
        """Reorder tickets: the places that those with these ids have now are assigned in this order."""
        marks = ", ".join("?" * len(ids))
        rows = self._database.execute(f"SELECT {_PLACE} FROM tickets WHERE id IN ({marks}) ORDER BY {_PLACE}", ids)
        for (place,), ticket in zip(rows, ids, strict=True):
            self._database.execute("UPDATE tickets SET place = ? WHERE id = ?", [place, ticket])

    def get(self, ticket_id: int) -> Ticket | None:
        """Return the ticket with this id; None if there is none."""
        if not 0 < ticket_id < 2**63:  # a larger number does not fit the column
            return None
        rows = self._database.execute(f"{_SELECT} WHERE id = ?", [ticket_id])
        return _FORMAT.value(rows[0]) if rows else None

    def add(self, ticket: Ticket) -> Ticket:
        """Save a new ticket at the end of the queue; return it with its id."""
        [(number,)] = self._database.execute(_ADD, _FORMAT.row(ticket)[1:])
        return replace(ticket, id=int(number or 0))

    def refresh(self, ticket_id: int, now: datetime) -> None:
        """Record that the ticket's process was still waiting at ``now``."""
        self._database.execute("UPDATE tickets SET refreshed_at = ? WHERE id = ?", [from_time(now), ticket_id])

    def excuse(self, lost: datetime) -> None:
        """Mark the tickets that were last refreshed before ``lost`` as excused since then: see ``fairness``.

        A ticket that is excused already keeps its earlier time until it is refreshed.
        """
        self._database.execute(
            "UPDATE tickets SET excused_at = ?"
            " WHERE refreshed_at < ? AND (excused_at IS NULL OR excused_at < refreshed_at)",
            [from_time(lost), from_time(lost)],
        )

    def remove(self, ticket_id: int) -> None:
        """Remove a ticket from the queue; do nothing if the ticket does not exist."""
        self._database.execute("DELETE FROM tickets WHERE id = ?", [ticket_id])


class QueueEvents(Frozen):
    """The events of the queue, the oldest first."""

    _database: Database

    def add(self, event: QueueEvent) -> None:
        """Save an event, in the same transaction as the change that it reports."""
        self._database.execute(_ADD_EVENT, _EVENT_FORMAT.row(event)[1:])

    def read(self, last: int | None = None) -> list[QueueEvent]:
        """Return all events, or only the newest ``last``; the oldest first."""
        newest = "" if last is None else f" LIMIT {int(last)}"
        rows = self._database.execute(f"{_SELECT_EVENTS} ORDER BY id DESC{newest}")
        return [_EVENT_FORMAT.value(row) for row in reversed(rows)]
