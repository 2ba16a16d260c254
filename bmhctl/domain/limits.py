"""The limits of a policy: how many hosts an owner may hold, for how long, and how far ahead; parse and validate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from bmhctl.domain.model import Host, HostSpec
from bmhctl.domain.selector import EVERY_HOST, Selector
from bmhctl.domain.tables import Kind, duration, read_table, require_table, selector, text, whole_number
from bmhctl.domain.units import format_duration, plural
from bmhctl.errors import InvalidError
from bmhctl.support.values import Frozen

BY_ROLE = "role"
"""The ``owner`` of a limit that counts by the role as which the user is connected to the server, not by owner."""

OWNER, SELECTOR, MAX_HOSTS, MAX_TTL, MAX_AHEAD = "owner", "selector", "max_hosts", "max_ttl", "max_ahead"
_BOUNDS = (MAX_HOSTS, MAX_TTL, MAX_AHEAD)
MOST_HOSTS = 100_000
"""The largest ``max_hosts``."""

_KINDS: dict[str, Kind] = {
    OWNER: text,
    SELECTOR: selector,
    MAX_HOSTS: whole_number(0, MOST_HOSTS),
    MAX_TTL: duration,
    MAX_AHEAD: duration,
}

LIMIT_KEYS = tuple(_KINDS)
"""The keys of a limit."""


class Limit(Frozen):
    """A limit on the hosts that fit ``selector``, for each owner whose name matches ``owner`` (with ``*`` and ``?``).

    ``max_hosts`` is how many hosts an owner may hold at a time. ``max_ttl`` is how long a lease may last from each
    grant and extension. ``max_ahead`` is how far ahead a booking may begin. None means no limit.
    """

    name: str
    owner: str = "*"
    selector: Selector = EVERY_HOST
    max_hosts: int | None = None
    max_ttl: timedelta | None = None
    max_ahead: timedelta | None = None

    @property
    def is_by_role(self) -> bool:
        """Whether the limit counts the hosts of all owners with one database role; their names must be the role's."""
        return self.owner == BY_ROLE

    def concerns(self, owner: str) -> bool:
        """Return whether the limit applies to this owner."""
        return self.is_by_role or fnmatchcase(owner, self.owner)

    def needs_order(self, owner: str) -> bool:
        """Return whether grants to this owner must run one after the other, because the limit counts their hosts."""
        return self.concerns(owner) and (self.is_by_role or self.max_hosts is not None)

    def counts_together(self, one: str, other: str) -> bool:
        """Return whether the limit counts the hosts of two owners together: they are the same, or have one role."""
        return one == other or (self.is_by_role and one.partition("@")[0] == other.partition("@")[0])

    def counts(self, spec: HostSpec) -> bool:
        """Return whether the limit counts a host: its selector fits."""
        return self.selector.fits(spec)

    def of(self, hosts: Iterable[Host]) -> list[Host]:
        """Return the hosts that the limit counts."""
        return [host for host in hosts if self.counts(host.spec)]

    @property
    def most(self) -> str:
        """How many hosts the limit allows, in words: ``at most 4 hosts of gpu``."""
        return f"at most {plural(self.max_hosts or 0, 'host')}{self._which}"

    @property
    def allows(self) -> str:
        """Everything that the limit allows, in words."""
        words = [self.most] if self.max_hosts is not None else []
        if self.max_ttl is not None:
            words.append(f"leases{self._which} of at most {format_duration(self.max_ttl)}")
        if self.max_ahead is not None:
            words.append(f"bookings{self._which} at most {format_duration(self.max_ahead)} ahead")
        return ", ".join(words)

    @property
    def _which(self) -> str:
        return f" of {self.selector}" if self.selector.terms else ""


class Use(Frozen):
    """Hosts that an owner has from one time to another (None: without end), by a booking or a lease."""

    owner: str
    hosts: tuple[Host, ...]
    begin: datetime
    end: datetime | None

    def is_at(self, at: datetime) -> bool:
        """Return whether the owner has the hosts at a time."""
        return self.begin <= at and (self.end is None or at < self.end)


def parse_limits(value: object) -> tuple[Limit, ...]:
    """Return the limits in the table ``limits`` of a policy; raise :class:`InvalidError` that names the key."""
    entries = require_table(value, "limits")
    return tuple(_limit(name, read_table(entry, _KINDS, f"limits.{name}")) for name, entry in entries.items())


def _limit(name: str, entry: Mapping[str, Any]) -> Limit:
    where = f"limits.{name}"
    if not any(key in entry for key in _BOUNDS):
        raise InvalidError(
            f"{where} limits nothing",
            hint=f"give it {', '.join(_BOUNDS[:-1])} or {_BOUNDS[-1]}",
            details={"key": where},
        )
    if not entry.get(OWNER, "*"):
        raise InvalidError(
            f"{where}.owner is empty", hint='such as owner = "intern-*"; without owner, the limit is for every owner'
        )
    if entry.get(MAX_TTL) == timedelta():
        raise InvalidError(f"{where}.{MAX_TTL} is zero", hint="to allow no lease at all: max_hosts = 0")
    return Limit(name, **entry)
