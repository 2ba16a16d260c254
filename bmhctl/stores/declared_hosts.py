"""The declarations of an inventory's hosts: find, add and remove hosts by them, and change them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from bmhctl.domain.model import Bmc, Event, Host, HostSpec
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import quantity
from bmhctl.stores.database import Database
from bmhctl.stores.hosts import Hosts, back_at, lifecycle_row, planned_at, to_host, to_spec
from bmhctl.stores.reservations import reservation_row
from bmhctl.stores.row_format import insert_into, update
from bmhctl.stores.rows import UNREADABLE, Row, Value, from_json, to_json
from bmhctl.stores.schema import LIFECYCLE_COLUMNS, RESERVATION_COLUMNS, SPEC_COLUMNS
from bmhctl.support.values import Frozen

_SAVE_SPEC = update("hosts", SPEC_COLUMNS)
_ADD_HOST = insert_into("hosts", (*SPEC_COLUMNS, *LIFECYCLE_COLUMNS, "back_at", "planned_at", "last_event", "id"))
_ADD_ATTRIBUTE = insert_into("facts", ("host_id", "key", "value", "number"))

HostValues = tuple[Row, Row | None]
"""The values of a host, and those of the reservation that holds it."""


class DeclaredHosts(Frozen):
    """The declarations of the hosts."""

    _database: Database

    def specs(self) -> Iterator[tuple[HostSpec, bool]]:
        """Yield the declaration of every host, and whether the host has become undeclared."""
        rows = self._database.stream(f"SELECT {', '.join(SPEC_COLUMNS)}, undeclared FROM hosts")
        return ((to_spec(spec), bool(undeclared)) for *spec, undeclared in rows)

    def having(
        self, *, macs: Iterable[str] = (), addresses: Iterable[str] = (), bmcs: Iterable[Bmc] = ()
    ) -> list[Host]:
        """Return the hosts that have one of these MACs, then those with one of the addresses, then of the BMCs.

        In each of the three groups the oldest host comes first. A BMC is the same if its address leads to the same
        system, in any spelling.
        """
        wanted = (("mac", macs), ("address", addresses), ("id", self._with_bmcs(bmcs)))
        found = (host for column, values in wanted for host in Hosts(self._database).having(column, values))
        return list({host.id: host for host in found}.values())

    def _with_bmcs(self, bmcs: Iterable[Bmc]) -> Iterator[Value]:
        """Yield the ids of the hosts whose BMC leads to the same system as one of ``bmcs``."""
        from bmhctl.domain.bmc_address import server_word, system_key

        bmcs = list(bmcs)
        if all(system_key(bmc.address, bmc.system_id) is None for bmc in bmcs):
            return
        servers: dict[str, list[Bmc]] = {}
        for bmc in bmcs:
            servers.setdefault(server_word(bmc.address), []).append(bmc)
        keys: dict[str, set[object]] = {}  # the given BMCs by their server, if a stored host has a BMC on this server
        for host_id, text in self._database.stream("SELECT id, bmc FROM hosts WHERE bmc IS NOT NULL"):
            word = server_word(str(text))
            if word not in servers:
                continue
            if word not in keys:
                keys[word] = {key for bmc in servers[word] if (key := system_key(bmc.address, bmc.system_id))}
            with suppress(*UNREADABLE):  # ``doctor`` reports a row that can't be read
                bmc = Bmc(*from_json(str(text)))
                if system_key(bmc.address, bmc.system_id) in keys[word]:
                    yield host_id

    def add(self, host: Host, event: Event) -> None:
        """Save a host with the event of its entry, at which its state begins; a host that has no id gets a new one."""
        host_id = host.id or self._database.next_id("hosts")
        last_event = Hosts(self._database).add_event(host_id, event)
        row = [*spec_row(host.spec), *lifecycle_row(host, event.at), back_at(host), planned_at(host)]
        self._database.enqueue(_ADD_HOST, [*row, last_event, host_id])
        self._add_attributes(host_id, host.spec)

    def save_spec(self, host: Host, event: Event) -> Host:
        """Save a changed host with its declaration, and the change's event; return the host with the event's id."""
        self._database.execute(_SAVE_SPEC, [*spec_row(host.spec), host.id])
        return self.save_observed(host, event)

    def save_observed(self, host: Host, event: Event) -> Host:
        """Save a changed host with its observed properties, and the event; return the host with the event's id."""
        self.save_attributes(host)
        return Hosts(self._database).save(host, event)

    def save_attributes(self, host: Host) -> None:
        """Save again the attributes that selectors match, computed from the host's declaration."""
        self._database.execute("DELETE FROM facts WHERE host_id = ?", [host.id])
        self._add_attributes(host.id, host.spec)

    def remove(self, host: Host, event: Event) -> None:
        """Remove a host, and save its last event; its history stays."""
        Hosts(self._database).add_event(host.id, event)
        self._database.execute("DELETE FROM hosts WHERE id = ?", [host.id])
        self._database.execute("DELETE FROM meta WHERE key = ?", [f"imported/{host.id}"])

    def check_removable(self) -> None:
        """Raise :class:`UnreachableError` if the user's role on the server may not remove hosts; removes nothing."""
        self._database.execute("DELETE FROM hosts WHERE id = 0")

    def _add_attributes(self, host_id: int, spec: HostSpec) -> None:
        rows = [(host_id, key, value, quantity(value)) for key, value in selectable(spec).items()]
        self._database.enqueue(_ADD_ATTRIBUTE, *rows)


def spec_row(spec: HostSpec) -> list[Value]:
    """Return the values of :data:`SPEC_COLUMNS`."""
    bmc = spec.bmc
    return [
        spec.name,
        spec.address,
        spec.mac,
        to_json(dict(spec.labels)),
        None if bmc is None else _bmc_text(bmc),
        to_json(dict(spec.hardware)),
        spec.note,
    ]


def _bmc_text(bmc: Bmc) -> str:
    """Return a BMC as the column ``bmc`` holds it; rare settings are left out unless set, as in older versions."""
    values: list[object] = [bmc.address, bmc.type, bmc.system_id, bmc.credentials, bmc.verify_tls]
    return to_json(values if bmc.tls_min_version is None else [*values, bmc.tls_min_version])


def host_values(host: Host) -> HostValues:
    """Return a host and its reservation as values that JSON can represent."""
    ids: list[Value] = [host.id, 0]
    held = None if host.reservation is None else reservation_row(host.reservation)
    return [*ids, *spec_row(host.spec), *lifecycle_row(host)], held


def host_of(values: HostValues) -> Host:
    """Return the host in the values from :func:`host_values`, also of an earlier version with fewer columns."""
    host, reservation = values
    held = list(reservation or ())
    host = [*host, *[None] * (2 + len(SPEC_COLUMNS) + len(LIFECYCLE_COLUMNS) - len(host))]
    return to_host([*host, *held, *[None] * (len(RESERVATION_COLUMNS) - len(held))])
