"""The queue, its history, and what ends or begins soon: results of ``queue`` and ``remind``."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.ticket import QueueEvent, Ticket
from bmhctl.support.values import Frozen


class Queued(Frozen):
    """One ticket: its position, what it asks for, and what it still misses, in words.

    ``eta`` is when at the latest it fits if every lease ends as written, None where that is not known.
    """

    ticket: Ticket
    position: int
    requirements: str
    missing: str
    eta: datetime | None = None


class Queue(Frozen):
    """The tickets in the queue, the oldest first."""

    items: tuple[Queued, ...]
    now: datetime


class TicketChange(Frozen):
    """An event of the queue, with what the ticket asked for in words."""

    event: QueueEvent
    requirements: str


class QueueHistory(Frozen):
    """The events of the queue, the oldest first."""

    items: tuple[TicketChange, ...]
    now: datetime


LEASE, MAINTENANCE = "lease", "maintenance"
"""Kinds of reminders of what ends at a time."""

BOOKING, PLANNED, SHORT = "booking", "planned-maintenance", "short-booking"
"""Kinds of reminders of what begins at a time; a short booking will have fewer usable hosts than it asks for."""


class Reminder(Frozen):
    """Something that ends or begins ``at`` a time: ``id`` is that of the lease, the booking or the planned maintenance.

    ``about`` is its purpose or reason, ``waiting`` are the owners of tickets that could use one of the hosts.
    """

    kind: str
    id: str | None
    owner: str
    hosts: tuple[str, ...]
    at: datetime
    about: str | None
    waiting: tuple[str, ...] = ()


class Reminders(Frozen):
    """What ends or begins soon and was not reported before, the earliest first."""

    items: tuple[Reminder, ...]
    now: datetime
