"""A whole inventory, for an export."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.model import Host, Reservation
from bmhctl.support.values import Frozen


class Everything(Frozen):
    """A whole inventory as of one moment: open reservations, then hosts, and the policy. Iterate it only once.

    ``bookings`` is how many bookings and planned maintenances are open; they themselves are left out.
    """

    reservations: Iterable[Reservation]
    hosts: Iterable[Host]
    policy: str | None
    now: datetime
    bookings: int = 0
