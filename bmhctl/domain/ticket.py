"""A waiting request in the queue, and what becomes of it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from bmhctl.support.values import Frozen, Words, field


class Ticket(Frozen):
    """A waiting request in the queue; a smaller ``id`` is older and goes first.

    ``requirements`` is what it asks for. ``deadline`` is when its owner stops waiting (None: never),
    ``refreshed_at`` when the waiting process last showed that it is alive. ``ttl`` and ``endless``
    describe the requested lease. ``excused_at`` is when the server was lost, the first time since then.
    """

    owner: str
    requirements: str
    created_at: datetime
    refreshed_at: datetime
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    deadline: datetime | None = None
    request_id: str | None = None
    id: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    excused_at: datetime | None = None


class QueueVerb(Words):
    """What became of a ticket."""

    ASKED = "asked"
    MOVED = "moved"
    GRANTED = "granted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    LEFT = "left"
    LOST = "lost"


class QueueEvent(Frozen):
    """One entry of the history of the queue; ``requirements`` are as the ticket keeps them.

    A ticket is ``left`` when its command ended for another reason than its deadline, ``lost`` when it was killed.
    """

    ticket: int
    at: datetime
    actor: str
    verb: QueueVerb
    owner: str
    requirements: str
    reason: str | None = None
    reservation: str | None = None
    id: int = 0
