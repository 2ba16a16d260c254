"""The history of the queue: the events of every ticket, also of those that have left the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmhctl.domain.ticket import QueueEvent, QueueVerb
from bmhctl.stores.row_format import MOMENT, NUMBER, RowFormat, insert_into
from bmhctl.stores.schema import QUEUE_EVENT_COLUMNS
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_ADD = insert_into("queue_events", QUEUE_EVENT_COLUMNS[1:])
_SELECT = f"SELECT {', '.join(QUEUE_EVENT_COLUMNS)} FROM queue_events"
_FORMAT = RowFormat(
    "queue event",
    QueueEvent,
    QUEUE_EVENT_COLUMNS,
    {"id": NUMBER, "ticket": NUMBER, "at": MOMENT, "verb": (str, QueueVerb)},
    {},
)


class QueueEvents(Frozen):
    """The events of the queue, the oldest first."""

    _database: Database

    def add(self, event: QueueEvent) -> None:
        """Save an event, in the same transaction as the change that it reports."""
        self._database.execute(_ADD, _FORMAT.row(event)[1:])

    def read(self, last: int | None = None) -> list[QueueEvent]:
        """Return all events, or only the newest ``last``; the oldest first."""
        newest = "" if last is None else f" LIMIT {int(last)}"
        rows = self._database.execute(f"{_SELECT} ORDER BY id DESC{newest}")
        return [_FORMAT.value(row) for row in reversed(rows)]
