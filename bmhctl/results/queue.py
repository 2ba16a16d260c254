"""The queue, its history, and reminders of what ends or begins soon: results of ``queue`` and ``remind``."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.ticket import QueueEvent, Ticket
from bmhctl.support.values import Frozen, replace


class Queued(Frozen):
    """One ticket: its position in the queue, what it asks for, and what it still lacks, in words.

    ``eta`` is by when it gets its hosts if every lease ends as recorded; None where that is not known.
    """

    ticket: Ticket
    position: int
    requirements: str
    missing: str
    eta: datetime | None = None


class Queue(Frozen):
    """The tickets in the queue, in its order."""

    items: tuple[Queued, ...]
    now: datetime

    @property
    def content(self) -> object:
        """What changes only with the queue, and not when a waiting process shows that it is alive."""
        return [
            replace(each, ticket=replace(each.ticket, refreshed_at=each.ticket.created_at, excused_at=None))
            for each in self.items
        ]


class TicketChange(Frozen):
    """An event of the queue; ``requirements`` is what its ticket asked for, in words."""

    event: QueueEvent
    requirements: str


class QueueHistory(Frozen):
    """The events of the queue, the oldest first."""

    items: tuple[TicketChange, ...]
    now: datetime


LEASE, MAINTENANCE = "lease", "maintenance"
"""The kinds of reminders of something that ends."""

BOOKING, PLANNED, SHORT = "booking", "planned-maintenance", "short-booking"
"""The kinds of reminders of something that begins; a short booking asks for more hosts than will be usable."""


class Reminder(Frozen):
    """Something that ends or begins at the time ``at``: a lease, a maintenance or a booking.

    ``id`` is that of the reservation, the booking or the planned maintenance. ``about`` is its purpose or reason.
    ``waiting`` are the owners of tickets that could use one of its hosts.
    """

    kind: str
    id: str | None
    owner: str
    hosts: tuple[str, ...]
    at: datetime
    about: str | None
    waiting: tuple[str, ...] = ()


class Reminders(Frozen):
    """Reminders that were not reported before, the earliest first."""

    items: tuple[Reminder, ...]
    now: datetime
