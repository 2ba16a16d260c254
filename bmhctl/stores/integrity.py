"""The checks of ``doctor`` on an inventory's database: damage, contradictory rows, unreadable rows; and the repairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from bmhctl.domain.bmc_address import server_word
from bmhctl.domain.model import Bmc, Host
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import quantity
from bmhctl.errors import InvalidError
from bmhctl.stores.database import Database
from bmhctl.stores.hosts import HOST_SELECT, back_at, planned_at, planned_value, to_host
from bmhctl.stores.rows import Row, from_json, from_time, number_in
from bmhctl.stores.schema import LIFECYCLE_COLUMNS, RECOUNT, SPEC_COLUMNS
from bmhctl.support.values import Frozen

MOST = 100
"""The most findings of one sort that are returned one by one; the others are only counted."""

_STORED = HOST_SELECT.replace(" FROM hosts ", ", hosts.back_at, hosts.planned_at FROM hosts ", 1)
_AT_ONCE = 500

Attributes = dict[str, tuple[str, float | None]]
"""What selectors match of a host: the text of each key, and its number if the text is a number."""


class Answer(Frozen):
    """One row that a query of ``doctor`` found: the host, whether it can be fixed, whether it is only a warning.

    ``values`` are the other columns in their order. ``more`` is how many rows of the same sort were left out.
    """

    host: str | None
    fixable: bool
    minor: bool
    values: tuple[object, ...]
    more: int = 0


class StoredHost(Frozen):
    """A host as read from its row; for a row that can't be read, ``host`` is None and ``problem`` says why.

    ``wrong_attributes`` are the keys whose values in the selectors' index differ from the declared ones.
    ``is_back_at_wrong`` is whether the stored end of maintenance differs from the one that its reasons give.
    ``is_planned_at_wrong`` is whether the stored start of the next booking or maintenance differs from that of its
    bookings.
    """

    name: str
    host: Host | None
    problem: str | None = None
    wrong_attributes: tuple[str, ...] = ()
    is_back_at_wrong: bool = False
    is_planned_at_wrong: bool = False


class Integrity(Frozen):
    """The checks of one database; made by :attr:`bmhctl.stores.store.Store.integrity`."""

    _database: Database

    def answers(self, select: str, moments: Sequence[datetime]) -> Iterator[Answer]:
        """Yield the rows of a ``SELECT host, fixable, minor, …`` by host; ``moments`` are its parameters.

        There are four sorts of rows: fixable or not, minor or not. At most :data:`MOST` rows of each sort are yielded,
        the last with the number of those left out.
        """
        sql = (
            "SELECT * FROM (SELECT found.*, COUNT(*) OVER (PARTITION BY fixable, minor) AS of_its_sort,"
            " ROW_NUMBER() OVER (PARTITION BY fixable, minor ORDER BY host) AS place_in_sort"
            f" FROM ({select}) found) ranked WHERE place_in_sort <= {MOST} ORDER BY 1, 4"
        )
        rows = self._database.execute(sql, [from_time(moment) for moment in moments])
        for host, fixable, minor, *values, number, place in rows:
            more = int(number or 0) - MOST if place == MOST else 0
            yield Answer(None if host is None else str(host), fixable == 1, minor == 1, tuple(values), more)

    def repair(self, statement: str, moments: Sequence[datetime]) -> None:
        """Run a statement that changes rows, in the caller's transaction; ``moments`` are its parameters."""
        self._database.execute(statement, [from_time(moment) for moment in moments])

    def hosts(self) -> Iterator[StoredHost]:
        """Yield every host as it is stored, by id; read in batches, so rows may change meanwhile."""
        last = 0
        while True:
            rows = self._database.execute(f"{_STORED} WHERE hosts.id > ? ORDER BY hosts.id LIMIT {_AT_ONCE}", [last])
            if not rows:
                return
            first, last = int(rows[0][0] or 0), int(rows[-1][0] or 0)
            attributes = self._attributes(first, last)
            for row in rows:
                yield _stored_host(row, attributes.get(int(row[0] or 0), {}))

    def neighbouring_bmcs(self) -> Iterator[tuple[str, Bmc]]:
        """Yield the hosts that may share a BMC with another host, with their BMCs; unreadable rows are left out."""
        select = "SELECT name, bmc FROM hosts WHERE bmc IS NOT NULL"
        met: set[str] = set()
        shared = set[str]()
        for _, text in self._database.stream(select):
            word = server_word(str(text))
            (shared if word in met else met).add(word)
        for name, text in self._database.stream(f"{select} ORDER BY name") if shared else ():
            if server_word(str(text)) in shared:
                with suppress(InvalidError, TypeError, ValueError):
                    yield str(name), Bmc(*from_json(str(text)))

    def _attributes(self, first: int, last: int) -> dict[int, Attributes]:
        found: dict[int, Attributes] = {}
        for host_id, key, value, number in self._database.execute(
            "SELECT host_id, key, value, number FROM facts WHERE host_id BETWEEN ? AND ?", [first, last]
        ):
            found.setdefault(int(host_id or 0), {})[str(key)] = str(value), None if number is None else float(number)
        return found

    def counts(self) -> dict[str, int]:
        """Return how many hosts, events and reservations there are."""
        tables = ("hosts", "events", "reservations")
        return {table: number_in(self._database.execute(f"SELECT COUNT(*) FROM {table}")) for table in tables}

    def save_times(self, host: Host) -> None:
        """Save the times that are set aside on a host again, and what is computed from them and from its reasons.

        No event is written, because those of the booking and of the reasons exist.
        """
        self._database.execute(
            "UPDATE hosts SET planned = ?, planned_at = ?, back_at = ? WHERE id = ?",
            [planned_value(host), planned_at(host), back_at(host), host.id],
        )

    def recount(self) -> None:
        """Count the hosts in each state again, in the caller's transaction: see :meth:`.Hosts.counts`."""
        for statement in RECOUNT:
            self._database.execute(statement)


def _stored_host(row: Row, attributes: Attributes) -> StoredHost:
    name, stored_back_at, stored_planned_at = str(row[2]), row[-2], row[-1]
    try:
        host = to_host(row[:-2])
        declared = {key: (value, quantity(value)) for key, value in selectable(host.spec).items()}
    except (InvalidError, AttributeError, LookupError, TypeError, ValueError) as error:
        return StoredHost(name, None, _unreadable(row) or f"its row can't be read ({error.__cause__ or error})")
    wrong = {key for key, _ in {*attributes.items()} ^ {*declared.items()}}
    is_back_at_wrong, is_planned_at_wrong = stored_back_at != back_at(host), stored_planned_at != planned_at(host)
    return StoredHost(name, host, None, tuple(sorted(wrong)), is_back_at_wrong, is_planned_at_wrong)


_JSON: dict[str, type] = {
    "labels": dict,
    "bmc": list,
    "hardware": dict,
    "cordon": list,
    "maintenance": list,
    "planned": list,
}
"""Columns of JSON text, and the type each must hold."""


def _unreadable(row: Row) -> str | None:
    import json

    for name, kind in _JSON.items():
        value = row[2 + (*SPEC_COLUMNS, *LIFECYCLE_COLUMNS).index(name)]
        try:
            is_right = value is None or isinstance(json.loads(str(value)), kind)
        except ValueError:
            is_right = False
        if not is_right:
            return f"its {name} can't be read: {value!r:.60}"
    return None
