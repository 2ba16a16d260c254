"""For a request that can't be granted: how many hosts fit it, and in which states they are.

The database counts, so no host is read. Where an index has all that is needed, only the index is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from bmhctl.domain.model import Host
from bmhctl.domain.selector import Selector, Term
from bmhctl.stores.host_query import HostQuery, ids_with
from bmhctl.stores.hosts import HOST_SELECT, to_host
from bmhctl.stores.rows import Value, from_time, number_in, to_time
from bmhctl.stores.store import Store

CORDONED = "cordoned"
"""The word for a host that would be free without its cordon, in the place of its state."""

MOST = 1000
"""Where counting has to read each host, it stops after this many hosts."""


def declared(store: Store) -> int:
    """Return how many hosts are declared."""
    return sum(store.hosts.counts().values()) - _number(store, "SELECT COUNT(*) FROM hosts WHERE undeclared = 1")


def fitting(store: Store, selector: Selector) -> int:
    """Return how many declared hosts fit a selector; with several terms, count to :data:`MOST` plus one at most."""
    if not selector.terms:
        return declared(store)
    if len(selector.terms) > 1:
        where, parameters = store.hosts.where(HostQuery(selector=selector, declared=True))
        return _number(store, f"SELECT COUNT(*) FROM (SELECT 1 FROM hosts{where} LIMIT {MOST + 1}) few", parameters)
    term = selector.terms[0]
    number = _having(store, term)
    return declared(store) - number if term.is_negative else number


_NEXT_VALUE = "SELECT MIN(value) FROM facts WHERE key = ? AND value > known.value"


def values_of(store: Store, key: str, most: int) -> list[str]:
    """Return the first ``most`` values, not empty, that hosts have for a key; the index is searched once for each."""
    rows = store.database.execute(
        "WITH RECURSIVE known (value) AS (SELECT MIN(value) FROM facts WHERE key = ? AND value > ''"
        f" UNION ALL SELECT ({_NEXT_VALUE}) FROM known WHERE value IS NOT NULL)"
        f" SELECT value FROM known WHERE value IS NOT NULL LIMIT {int(most)}",
        [key, key],
    )
    return [str(value) for (value,) in rows]


def _having(store: Store, term: Term) -> int:
    """Return how many declared hosts have the key of a term with one of the values that it names."""
    found, parameters = ids_with(term)
    every = _number(store, f"SELECT COUNT(*) FROM ({found}) found", parameters)
    gone = f"SELECT COUNT(*) FROM hosts WHERE undeclared = 1 AND EXISTS ({found} AND f.host_id = hosts.id)"
    return every - _number(store, gone, parameters)


def occupation(
    store: Store, queries: Iterable[HostQuery], most: int
) -> tuple[dict[str, int], list[tuple[str, str]], datetime | None]:
    """Return how the hosts of some queries are occupied; each host counts once.

    Returns how many are in each state or :data:`CORDONED`, the owners and the ids of at most ``most`` reservations that
    hold some, and when the first lease ends.
    """
    conditions = [store.hosts.where(query) for query in queries]
    values: list[Value] = [value for _, parameters in conditions for value in parameters]
    if len(conditions) == 1:
        where = conditions[0][0]
    else:
        each = " UNION ".join(f"SELECT hosts.id FROM hosts{condition}" for condition, _ in conditions)
        where = f" WHERE hosts.id IN ({each})"
    held = f"FROM hosts LEFT JOIN reservations r ON r.id = hosts.reservation{where}"
    states: dict[str, int] = {}
    first_end: datetime | None = None
    for word, number, end in store.database.execute(
        f"SELECT CASE WHEN hosts.state = 'available' AND hosts.cordon IS NOT NULL THEN '{CORDONED}'"
        f" ELSE hosts.state END, COUNT(*), MIN(r.expires_at) {held} GROUP BY 1",
        values,
    ):
        states[str(word)] = int(number or 0)
        first_end = min(filter(None, (first_end, to_time(end))), default=None)
    holders = store.database.execute(
        f"SELECT r.owner, r.id {held} AND r.id IS NOT NULL GROUP BY r.owner, r.id"
        f" ORDER BY MIN(COALESCE(hosts.used_at, 0)), MIN(hosts.id) LIMIT {int(most)}",
        values,
    )
    return states, [(str(owner), str(token)) for owner, token in holders], first_end


def becoming_free(
    store: Store, query: HostQuery, now: datetime, most: int, turnaround: timedelta = timedelta()
) -> list[Host]:
    """Return the hosts of a query that are free or will be when a lease or maintenance ends; the first free come first.

    Includes hosts that were given back less than ``turnaround`` ago and are being cleaned. Returns at most ``most``
    hosts.
    """
    where, parameters = store.hosts.where(query)
    end = (
        "CASE hosts.state WHEN 'available' THEN 0 WHEN 'reserved' THEN r.expires_at"
        " WHEN 'tainted' THEN hosts.used_at WHEN 'initial' THEN hosts.used_at"
        " ELSE CASE WHEN r.expires_at > hosts.back_at THEN r.expires_at ELSE hosts.back_at END END"
    )
    # COALESCE hides the index of states from the planner: walking it reads most of a large fleet to find a few.
    states = (
        "(COALESCE(hosts.state, '') = 'available'"
        " OR (COALESCE(hosts.state, '') = 'reserved' AND r.expires_at IS NOT NULL)"
        " OR (COALESCE(hosts.state, '') IN ('tainted', 'initial') AND hosts.used_at > ?)"
        " OR (COALESCE(hosts.state, '') = 'maintenance' AND hosts.back_at > ?"
        " AND (hosts.reservation IS NULL OR r.expires_at IS NOT NULL)))"
    )
    able = f"hosts.undeclared = 0 AND hosts.cordon IS NULL AND hosts.fault IS NULL AND {states}"
    rows = store.database.execute(
        f"{HOST_SELECT}{f'{where} AND' if where else ' WHERE'} {able} ORDER BY {end}, hosts.id LIMIT {int(most)}",
        [*parameters, from_time(now - turnaround), from_time(now)],
    )
    return [to_host(row) for row in rows]


def _number(store: Store, sql: str, parameters: Sequence[Value] = ()) -> int:
    return number_in(store.database.execute(sql, parameters))
