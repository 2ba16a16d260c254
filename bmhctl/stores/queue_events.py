"""The history of the queue: the events of every ticket, also of those that have left the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmhctl.domain.ticket import QueueEvent, QueueVerb
from bmhctl.stores.rows import UNREADABLE, Row, from_time, to_moment, to_text, unreadable
from bmhctl.stores.schema import QUEUE_EVENT_COLUMNS
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_COLUMNS = QUEUE_EVENT_COLUMNS[1:]
_ADD = f"INSERT INTO queue_events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_SELECT = f"SELECT {', '.join(QUEUE_EVENT_COLUMNS)} FROM queue_events"


class QueueEvents(Frozen):
    """The events of the queue, the oldest first."""

    _database: Database

    def add(self, event: QueueEvent) -> None:
        """Save an event, in the same transaction as the change that it reports."""
        self._database.execute(
            _ADD,
            [
                event.ticket,
                from_time(event.at),
                event.actor,
                event.verb.value,
                event.owner,
                event.requirements,
                event.reason,
                event.reservation,
            ],
        )

    def read(self, last: int | None = None) -> list[QueueEvent]:
        """Return all events, or only the newest ``last``; the oldest first."""
        newest = "" if last is None else f" LIMIT {int(last)}"
        rows = self._database.execute(f"{_SELECT} ORDER BY id DESC{newest}")
        return [_to_event(row) for row in reversed(rows)]


def _to_event(row: Row) -> QueueEvent:
    try:
        identifier, ticket, at, actor, verb, owner, requirements, reason, reservation = row
        return QueueEvent(
            ticket=int(ticket or 0),
            at=to_moment(at),
            actor=str(actor),
            verb=QueueVerb(str(verb)),
            owner=str(owner),
            requirements=str(requirements),
            reason=to_text(reason),
            reservation=to_text(reservation),
            id=int(identifier or 0),
        )
    except UNREADABLE as error:
        raise unreadable("queue event", row[0]) from error
