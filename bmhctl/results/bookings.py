"""Bookings and planned maintenances: results of ``bookings``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.domain.booking import Booking


class Booked(Frozen):
    """A booking or a planned maintenance, and the names of its hosts; ``trouble`` are those that will not be usable.

    ``requirements`` is what it asks for, in words. ``is_short``: fewer hosts will be usable than it asks for.
    """

    booking: Booking
    hosts: tuple[str, ...]
    requirements: str
    trouble: tuple[str, ...] = ()
    is_short: bool = False


class Bookings(Frozen):
    """Bookings and planned maintenances, the first to start first."""

    items: tuple[Booked, ...]
    now: datetime
    notes: tuple[str, ...] = ()
    inventory: str = ""
