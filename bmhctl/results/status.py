"""The fleet on one screen: results of ``status``, and of its other forms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import Host, State
from bmhctl.results import Held
from bmhctl.support.values import Frozen, field

if TYPE_CHECKING:
    from bmhctl.results.bookings import Booked


class Ending(Frozen):
    """Something that ends at a time: a lease, or a maintenance with ``until``."""

    at: datetime
    what: str
    hosts: tuple[str, ...]


class Obstacle(Frozen):
    """Why some hosts are not free.

    ``kind`` is cordoned, fault, maintenance or failed. ``reason`` is what a person or a step reported. ``flag`` is that
    of the hosts under a cordon: cordoned, retiring or draining; None for other kinds.
    """

    kind: str
    reason: str
    hosts: tuple[str, ...]
    flag: str | None = None


class Status(Frozen):
    """The fleet on one screen.

    ``free`` is how many hosts can be reserved now, ``waiting`` how many tickets are in the queue. ``expired`` are
    reservations whose lease has ended but that no command has reaped yet. Each list holds only its first few entries;
    ``totals`` has the full number by the list's name, except for lists that are complete. ``limited`` are the tickets
    that wait for a limit of their owner, in words. ``planned`` are the open bookings and planned maintenances, by their
    start.
    """

    inventory: str
    counts: Mapping[State, int]
    free: int
    cordoned: tuple[str, ...]
    undeclared: tuple[str, ...]
    faults: tuple[str, ...]
    held: tuple[Held, ...]
    expired: tuple[str, ...]
    endings: tuple[Ending, ...]
    now: datetime
    waiting: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()
    limited: tuple[str, ...] = ()
    planned: tuple[Booked, ...] = ()

    def total(self, name: str) -> int:
        """Return how many entries the list with this name would have without its limit."""
        return self.totals.get(name, len(getattr(self, name)))


class Reason(Frozen):
    """Why some hosts are not free.

    ``kind`` is maintenance, cordoned, retiring, draining, booked, planned, fault, undeclared or a failed phase.
    ``actor`` is the actor who gave the reason (None: not known). ``since`` is when the first of the hosts got it.
    """

    kind: str
    reason: str
    actor: str | None
    since: datetime
    hosts: tuple[str, ...]


class Reasons(Frozen):
    """Why hosts are not free, the oldest reason first."""

    items: tuple[Reason, ...]
    inventory: str
    now: datetime


class HostGroup(Frozen):
    """The hosts that have one value of a label, by name; ``value`` is None for hosts without the label."""

    value: str | None
    hosts: tuple[Host, ...]


class Fleet(Frozen):
    """All hosts by the value of the label ``by``; ``due`` are the ids of the hosts that are set aside for tickets."""

    by: str
    groups: tuple[HostGroup, ...]
    inventory: str
    now: datetime
    due: frozenset[int] = frozenset()
