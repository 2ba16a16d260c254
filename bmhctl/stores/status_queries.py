"""The queries of ``status``: counts, and the first entries of each list.

No query reads hosts that are not shown: each walks an index that holds only the hosts or reservations in question.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.domain.model import Host, Reservation
from bmhctl.stores.hosts import to_reservation
from bmhctl.stores.rows import EPOCH, MICROSECOND, from_time
from bmhctl.stores.schema import RESERVATION_COLUMNS, SUCCESSOR_KEY
from bmhctl.stores.store import Store
from bmhctl.support.values import replace

_HOSTS = {
    "in_maintenance": ("hosts.state = 'maintenance'", "hosts.name"),
    "cordoned": ("hosts.cordon IS NOT NULL", "hosts.name"),
    "undeclared": ("hosts.undeclared = 1", "hosts.name"),
    "faults": ("hosts.fault IS NOT NULL", "hosts.name"),
    "set_aside": ("hosts.planned_at <= ? AND hosts.state = 'available'", "hosts.planned_at, hosts.id"),
    "coming_back": ("hosts.back_at IS NOT NULL", "hosts.back_at"),
}
"""Conditions of hosts, each with the order in which the hosts are shown. ``set_aside`` are available hosts on which a
planned time has begun by a moment, ``coming_back`` those in maintenance with a time at which it should end."""

_OPEN = "FROM reservations WHERE ended_at IS NULL"
_LISTS = {
    "reservations": _OPEN,
    "endless": f"{_OPEN} AND expires_at IS NULL",
    "expired": f"{_OPEN} AND expires_at <= ?",
    "leases": f"{_OPEN} AND expires_at > ?",
    "maintenance": f"FROM hosts WHERE {_HOSTS['coming_back'][0]}",
    **{which: f"FROM hosts WHERE {_HOSTS[which][0]}" for which in ("cordoned", "undeclared", "faults")},
    "bookings": "FROM bookings WHERE due_at IS NOT NULL AND SUBSTR(id, 1, 2) = 'b-'",
    "maintenances": "FROM bookings WHERE due_at IS NOT NULL AND SUBSTR(id, 1, 2) = 'm-'",
    "tickets": "FROM tickets",
    "retired": f"FROM meta WHERE key = '{SUCCESSOR_KEY}'",
}
# The state is tested in the counts: a condition on it would make SQLite walk the index of all hosts by state.
_KEPT_BACK = (
    "(SELECT COUNT(CASE WHEN state = 'available' AND undeclared = 0 THEN 1 END) FROM hosts WHERE cordon IS NOT NULL)"
    " + (SELECT COUNT(CASE WHEN state = 'available' THEN 1 END) FROM hosts WHERE undeclared = 1)"
    " + (SELECT COUNT(CASE WHEN state = 'available' AND undeclared = 0 AND cordon IS NULL THEN 1 END) FROM hosts"
    " WHERE planned_at <= ?)"
)


def totals(store: Store, now: datetime) -> Mapping[str, int]:
    """Return the counts of ``status``, each under its name.

    ``reservations`` are all open ones; ``expired``, ``leases`` and ``endless`` are those of them that have expired,
    will expire, or have no end. ``maintenance`` are hosts with a time at which their maintenance should end.
    ``cordoned``, ``undeclared`` and ``faults`` are hosts in this condition. ``kept_back`` are hosts that are available
    but can't be reserved. ``bookings`` and ``maintenances`` are the open bookings and planned maintenances, ``tickets``
    those in the queue. ``retired`` is 1 if the inventory is retired.
    """
    counted = {name: which for name, which in _LISTS.items() if name != "reservations"}
    questions = ", ".join(f"(SELECT COUNT(*) {which})" for which in counted.values())
    moment = (now - EPOCH) // MICROSECOND
    [numbers] = store.database.execute(f"SELECT {questions}, {_KEPT_BACK}", [moment, moment, moment])
    found = {name: int(number or 0) for name, number in zip((*counted, "kept_back"), numbers, strict=True)}
    return found | {"reservations": found["endless"] + found["expired"] + found["leases"]}


def names(store: Store, which: str, most: int) -> tuple[str, ...]:
    """Return the first ``most`` names of hosts that are ``cordoned``, ``undeclared``, or have ``faults``, by name.

    ``which`` is one of these words.
    """
    rows = store.database.execute(f"SELECT name {_LISTS[which]} ORDER BY name LIMIT {int(most)}")
    return tuple(str(row[0]) for row in rows)


def hosts(store: Store, which: str, most: int, *moments: datetime) -> list[Host]:
    """Return the first ``most`` hosts of a list; ``which`` is one of :data:`_HOSTS`, ``moments`` its parameters."""
    condition, order = _HOSTS[which]
    values = [from_time(moment) for moment in moments]
    return store.hosts.that(f"{condition} ORDER BY {order} LIMIT {int(most)}", *values)


def hosts_with_failed_steps(store: Store, failed: Mapping[int, object], most: int) -> list[Host]:
    """Return the first ``most`` of the hosts with these ids, by name."""
    ids = [*failed][: 10 * most]
    if not ids:
        return []
    places = ", ".join("?" * len(ids))
    return store.hosts.that(f"hosts.id IN ({places}) ORDER BY hosts.name LIMIT {int(most)}", *ids)


def reservations(store: Store, which: str, now: datetime, most: int) -> list[Reservation]:
    """Return the first ``most`` open ``reservations`` by age, or the ``expired`` or the ``leases`` by their end.

    ``which`` is one of these words.
    """
    order, moments = (
        ("created_at, id", []) if which == "reservations" else ("expires_at", [(now - EPOCH) // MICROSECOND])
    )
    columns = ", ".join(RESERVATION_COLUMNS)
    rows = store.database.execute(f"SELECT {columns} {_LISTS[which]} ORDER BY {order} LIMIT {int(most)}", moments)
    return [to_reservation(row) for row in rows]


def held(store: Store, reservations: Mapping[str, Reservation]) -> dict[str, list[Host]]:
    """Return the hosts that each reservation holds, by name, under the reservation's id."""
    found: dict[str, list[Host]] = {token: [] for token in reservations}
    if not found:
        return found
    places = ", ".join("?" * len(found))
    for host in store.hosts.that(f"hosts.reservation IN ({places}) ORDER BY hosts.name", *reservations):
        if host.reservation is not None:
            found[host.reservation.id].append(replace(host, reservation=reservations[host.reservation.id]))
    return found
