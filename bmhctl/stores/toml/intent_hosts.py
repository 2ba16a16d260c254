"""The hosts in a recorded intent, as JSON: an added host is kept there before it is in the tables."""

from __future__ import annotations

from bmhctl.domain.model import Host
from bmhctl.stores.declared_hosts import spec_row
from bmhctl.stores.hosts import lifecycle_row, to_host
from bmhctl.stores.reservations import reservation_row
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import LIFECYCLE_COLUMNS, RESERVATION_COLUMNS, SPEC_COLUMNS

HostValues = tuple[Row, Row | None]
"""The values of a host, and those of the reservation that holds it."""


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
