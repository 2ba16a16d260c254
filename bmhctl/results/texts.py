"""Texts that are printed unchanged, pages of the manual, and a whole inventory for such a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from bmhctl.domain.model import Host, Reservation
from bmhctl.support.values import Frozen


class Document(Frozen):
    """A text that is printed unchanged, at once or in parts, such as an inventory or a policy as TOML."""

    text: str | Iterable[str]
    notes: tuple[str, ...] = ()


class Script(Frozen):
    """A text for another program to run; ``-o`` does not change its format."""

    text: str


class Topics(Frozen):
    """The pages of the manual: the title of each by its name, in the order of the manual."""

    titles: Mapping[str, str]


class ManualPage(Frozen):
    """A page of the manual, in Markdown."""

    name: str
    text: str


class Everything(Frozen):
    """A whole inventory as of one moment: open reservations, then hosts, and the policy. Iterate it only once.

    ``bookings`` is how many bookings and planned maintenances are open; they themselves are left out.
    """

    reservations: Iterable[Reservation]
    hosts: Iterable[Host]
    policy: str | None
    now: datetime
    bookings: int = 0
