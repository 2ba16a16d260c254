"""A waiting request in the queue, and the events of its history, as values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from bmhctl.support.values import Frozen, Words, field


class Ticket(Frozen):
    """A waiting request in the queue; a smaller ``id`` is older and goes first unless an operator moved it.

    ``requirements`` is what the request asks for, as a text. ``deadline`` is when its owner stops waiting (None:
    never). ``refreshed_at`` is when the waiting process last showed that it is alive. ``ttl`` and ``endless`` describe
    the requested lease. ``excused_at`` is when the connections to the server were first lost since the last refresh:
    the process may still be reconnecting.
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

    @property
    def may_be_short(self) -> bool:
        """Whether the lease may end early because of a plan: only if the request names no length."""
        return self.ttl is None and not self.endless


class QueueVerb(Words):
    """What happened to a ticket."""

    ASKED = "asked"
    MOVED = "moved"
    GRANTED = "granted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    LEFT = "left"
    LOST = "lost"


class QueueEvent(Frozen):
    """One entry of the queue's history; ``requirements`` are in the form in which the ticket has them.

    ``left`` means that its command ended for another reason than its deadline, ``lost`` that its process was killed.
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
