"""The queries of ``status``: counts, and the first few of each list.

Nothing here reads hosts that it does not tell of: each question walks an index that holds just what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.domain.model import Host, Reservation
from bmhctl.stores.database import Database
from bmhctl.stores.rows import HOST_SELECT, RESERVATION_COLUMNS, from_time, to_host, to_reservation
from bmhctl.support.values import replace

_OPEN = "FROM reservations WHERE ended_at IS NULL"
_LISTS = {
    "reservations": _OPEN,
    "endless": f"{_OPEN} AND expires_at IS NULL",
    "expired": f"{_OPEN} AND expires_at <= ?",
    "leases": f"{_OPEN} AND expires_at > ?",
    "maintenance": "FROM hosts WHERE back_at IS NOT NULL",
    "cordoned": "FROM hosts WHERE cordon IS NOT NULL",
    "undeclared": "FROM hosts WHERE undeclared = 1",
    "faults": "FROM hosts WHERE fault IS NOT NULL",
}
# Not a condition on the state: an index of all hosts by their states would be walked for it.
_KEPT_BACK = (
    "(SELECT COUNT(CASE WHEN state = 'available' AND undeclared = 0 THEN 1 END) FROM hosts WHERE cordon IS NOT NULL)"
    " + (SELECT COUNT(CASE WHEN state = 'available' THEN 1 END) FROM hosts WHERE undeclared = 1)"
)


def totals(database: Database, now: datetime) -> Mapping[str, int]:
    """How many ``reservations`` are open, of these ``expired``, or ``leases`` that will end; and how many hosts.

    Those are to be back from ``maintenance``, are ``cordoned``, ``undeclared``, have ``faults``, or are ``kept_back``:
    available, but nobody can reserve them.
    """
    counted = {name: which for name, which in _LISTS.items() if name != "reservations"}
    questions = ", ".join(f"(SELECT COUNT(*) {which})" for which in counted.values())
    moment = from_time(now)
    [numbers] = database.execute(f"SELECT {questions}, {_KEPT_BACK}", [moment, moment])
    found = {name: int(number or 0) for name, number in zip((*counted, "kept_back"), numbers, strict=True)}
    return found | {"reservations": found["endless"] + found["expired"] + found["leases"]}


def names(database: Database, which: str, most: int) -> tuple[str, ...]:
    """The first hosts, by name, that are ``cordoned``, ``undeclared``, or have ``faults``."""
    rows = database.execute(f"SELECT name {_LISTS[which]} ORDER BY name LIMIT {int(most)}")
    return tuple(str(row[0]) for row in rows)


def reservations(database: Database, which: str, now: datetime, most: int) -> list[Reservation]:
    """The first open ``reservations``, the oldest first; or those that are ``expired``, or end as ``leases``, first."""
    order, moments = ("created_at, id", []) if which == "reservations" else ("expires_at", [from_time(now)])
    columns = ", ".join(RESERVATION_COLUMNS)
    rows = database.execute(f"SELECT {columns} {_LISTS[which]} ORDER BY {order} LIMIT {int(most)}", moments)
    return [to_reservation(row) for row in rows]


def held(database: Database, reservations: Mapping[str, Reservation]) -> dict[str, list[Host]]:
    """The hosts that some reservations hold, by name, for each of these by its id."""
    found: dict[str, list[Host]] = {token: [] for token in reservations}
    if not found:
        return found
    places = ", ".join("?" * len(found))
    rows = database.execute(f"{HOST_SELECT} WHERE hosts.reservation IN ({places}) ORDER BY hosts.name", [*reservations])
    for host in map(to_host, rows):
        if host.reservation is not None:
            found[host.reservation.id].append(replace(host, reservation=reservations[host.reservation.id]))
    return found


def coming_back(database: Database, most: int) -> list[Host]:
    """The hosts in maintenance that shall come back first."""
    return [
        to_host(row)
        for row in database.execute(
            f"{HOST_SELECT} WHERE hosts.back_at IS NOT NULL ORDER BY hosts.back_at LIMIT {int(most)}"
        )
    ]
