"""Bookings and planned maintenances: results of ``bookings``."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.booking import Booking
from bmhctl.support.values import Frozen


class Booked(Frozen):
    """A booking or a planned maintenance, and the names of its hosts; ``trouble`` are those that will be unusable.

    ``requirements`` is what it asks for, in words. ``is_short`` is whether it asks for more hosts than will be usable.
    """

    booking: Booking
    hosts: tuple[str, ...]
    requirements: str
    trouble: tuple[str, ...] = ()
    is_short: bool = False


class Bookings(Frozen):
    """Bookings and planned maintenances, by their start; ``none`` says in words that there are none."""

    items: tuple[Booked, ...]
    now: datetime
    notes: tuple[str, ...] = ()
    inventory: str = ""
    none: str | None = None
