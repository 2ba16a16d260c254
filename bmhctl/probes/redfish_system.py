"""One system of a BMC: find it, and read its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_client import Client, belongs_to
from bmhctl.probes.redfish_reply import Json, items, links, table
from bmhctl.probes.redfish_time_limit import POLL

MOVING = ("powering-on", "powering-off")
"""Power states in which nothing is sent to a BMC."""

_STATES = {"on": "on", "off": "off", "poweringon": "powering-on", "poweringoff": "powering-off", "paused": "paused"}
_WORSE = ("OK", "Warning", "Critical")
_RANKS = {name.casefold(): rank for rank, name in enumerate(_WORSE)}
_MISSING = "has lost its system"


class System:
    """The system that a host's BMC address means; methods raise :class:`BmcError`.

    If the address names no system, it is the only one of the service; if the service has several, :class:`BmcError`
    lists them. ``path`` is its path, ``report`` the resource as it was last read.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        root = client.root()
        self._collection = client.link(root.get("Systems")) or f"{client.where.root}/Systems"
        self.path = client.where.system or self._only()
        try:
            self.report = self._read()
        except BmcError as error:
            if not error.message.endswith(_MISSING):
                raise
            raise BmcError(f"{client.name} has no system {self.path}", hint=self._known()) from None

    def power(self) -> str:
        """Return ``on``, ``off``, ``powering-on``, ``powering-off``, ``paused``, or ``unknown``."""
        return power_of(self.report)

    def settled_power(self) -> str:
        """Return the power state after any transition, or the transition itself if the deadline comes first."""
        while self.power() in MOVING and self.client.limit.left > 2 * POLL:
            self.client.limit.pause(POLL)
            self.look()
        return self.power()

    def health(self) -> str:
        """Return ``OK``, ``Warning``, ``Critical`` (the worse of the system's own and its parts'), or ``unknown``."""
        return _health(self.report.get("Status"))

    def look(self) -> None:
        """Read the system again, and retry after temporary failures."""
        self.report = self._read(patient=True)

    def linked(self, name: str) -> Iterator[tuple[str, Json]]:
        """Yield the path and the report of each resource to which the system's links with this name lead."""
        for value in links(table(self.report.get("Links")).get(name)):
            path = self.client.link(value)
            found = self.client.find(path) if path is not None else None
            if path is not None and found is not None:
                yield path, found

    def managers(self) -> Iterator[tuple[str, Json, bool]]:
        """Yield the path and the report of each manager that names no other system, and whether it names this one.

        A manager that names no system at all may have another one, unless this system is the only one of the service.
        """
        for path, manager in chain(self.linked("ManagedBy"), self.linked("Managers")):  # as old BMCs of Huawei write
            is_named = self.is_alone_in(manager, "ManagerForServers")
            if is_named or not links(table(manager.get("Links")).get("ManagerForServers")):
                yield path, manager, is_named

    def is_only_one(self) -> bool:
        """Return whether the service lists this system and no other."""
        members = self.client.members(self._collection, needed=False)
        return members is not None and [belongs_to(each, self.path) for each in members] == [True]

    def is_alone_in(self, resource: Json, name: str) -> bool:
        """Return whether the links with this name of a resource lead to this system and to no other."""
        paths = [self.client.link(each) for each in links(table(resource.get("Links")).get(name))]
        return len(paths) == 1 and paths[0] is not None and belongs_to(paths[0], self.path)

    def _read(self, *, patient: bool = False) -> Json:
        found = self.client.get(self.path, missing=_MISSING, patient=patient)
        own = self.client.where.path_of(found.get("@odata.id"))
        own = own and own.partition("?")[0]
        if own is not None and not belongs_to(own, self.path):
            raise BmcError(f"{self.client.name} answers for another system, {own}, when asked for {self.path}")
        return found

    def _only(self) -> str:
        members = self.client.members(self._collection) or []
        if len(members) == 1:
            return members[0]
        client = self.client
        if not members:
            raise BmcError(f"{client.name} has no systems")
        raise BmcError(
            f"{client.name} has {len(members)} systems, and the host declares none of them",
            hint=f"bmhctl set HOST --bmc-system ID; they are {listed([_last_part(path) for path in members])}",
        )

    def _known(self) -> str | None:
        members = self.client.members(self._collection, needed=False)
        return f"it has {listed([_last_part(path) for path in members])}" if members else None


def power_of(system: Json) -> str:
    """Return the power state that a report shows, in the words of :meth:`System.power`."""
    state = system.get("PowerState")
    return _STATES.get(state.casefold(), "unknown") if isinstance(state, str) else "unknown"


def _health(status: object) -> str:
    given_status = table(status)
    said = [given_status.get(key) for key in ("Health", "HealthRollup", "HealthRollUp")]
    given = [each for each in said if each is not None]
    known = [rank for each in given if (rank := _RANKS.get(str(each).casefold())) is not None]
    if not known or (len(known) < len(given) and max(known) == 0):
        return "unknown"
    return _WORSE[max(known)]


def texts(value: object) -> tuple[str, ...] | None:
    """Return a list of texts that is not empty; None for any other value."""
    return tuple(each for each in items(value) if isinstance(each, str)) or None


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def listed(names: Sequence[str]) -> str:
    """Return the first names, printable, for a message."""
    shown = ["".join(filter(str.isprintable, name))[:40] for name in names[:12]]
    return (", ".join(shown) + (", …" if len(names) > 12 else "")) or "nothing"
