"""A whole inventory, as an export writes it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.model import Host, Reservation
from bmhctl.support.values import Frozen


class Everything(Frozen):
    """A whole inventory as of one moment, to be iterated once: open reservations, then hosts, and the policy.

    ``bookings`` is how many bookings and planned maintenances are open, which it does not have.
    """

    reservations: Iterable[Reservation]
    hosts: Iterable[Host]
    policy: str | None
    now: datetime
    bookings: int = 0
