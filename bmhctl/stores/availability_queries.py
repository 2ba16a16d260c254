"""For a request that is not met: how many hosts fit, and what state those are in.

The databases count: no host is read, and what an index can count is counted in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.selector import Selector, Term
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.rows import Value, to_time
from bmhctl.stores.store import Store
from bmhctl.support.values import Frozen

MOST = 1000
"""So many hosts are counted, if it takes looking at each; what is beyond is told as more."""


class Doings(Frozen):
    """What some hosts do: how many are in each state or ``cordoned``, who holds some, when the first lease ends."""

    states: dict[str, int]
    holders: list[str]
    first_end: datetime | None


def declared(store: Store) -> int:
    """How many hosts are declared."""
    [(gone,)] = store.database.execute("SELECT COUNT(*) FROM hosts WHERE undeclared = 1")
    return sum(store.counts().values()) - int(gone or 0)


def fitting(store: Store, selector: Selector) -> int:
    """How many declared hosts fit a selector; of one with several terms no more than :data:`MOST` and one."""
    if not selector.terms:
        return declared(store)
    if len(selector.terms) > 1:
        where, parameters = store.where(HostQuery(selector=selector, declared=True))
        return _number(store, f"SELECT COUNT(*) FROM (SELECT 1 FROM hosts{where} LIMIT {MOST + 1}) few", parameters)
    term = selector.terms[0]
    number = _bearing(store, term)
    return declared(store) - number if term.is_negative else number


def _bearing(store: Store, term: Term) -> int:
    """How many declared hosts have the key of a term, and a value that it names."""
    found, parameters = term.fitting()
    every = _number(store, f"SELECT COUNT(*) FROM ({found}) found", parameters)
    gone = f"SELECT COUNT(*) FROM hosts WHERE undeclared = 1 AND EXISTS ({found} AND f.host_id = hosts.id)"
    return every - _number(store, gone, parameters)


def doings(store: Store, queries: Iterable[HostQuery], most: int) -> Doings:
    """What the hosts of some queries do, each host counted once; names ``most`` holders, in the order of turns."""
    conditions = [store.where(query) for query in queries]
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
        "SELECT CASE WHEN hosts.state = 'available' AND hosts.cordon IS NOT NULL THEN 'cordoned' ELSE hosts.state END,"
        f" COUNT(*), MIN(r.expires_at) {held} GROUP BY 1",
        values,
    ):
        states[str(word)] = int(number or 0)
        first_end = min(filter(None, (first_end, to_time(end))), default=None)
    holders = store.database.execute(
        f"SELECT r.owner, r.id {held} AND r.id IS NOT NULL GROUP BY r.owner, r.id"
        f" ORDER BY MIN(COALESCE(hosts.used_at, 0)), MIN(hosts.id) LIMIT {int(most)}",
        values,
    )
    return Doings(states, [f"{owner} ({token})" for owner, token in holders], first_end)


def _number(store: Store, sql: str, parameters: list[Value]) -> int:
    [(number,)] = store.database.execute(sql, parameters)
    return int(number or 0)
