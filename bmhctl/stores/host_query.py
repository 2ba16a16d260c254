"""A query for hosts, and its translation to SQL."""

from __future__ import annotations

from bmhctl.domain.model import State
from bmhctl.domain.selector import EVERY_HOST, Selector, Term
from bmhctl.stores.rows import Value
from bmhctl.support.values import Frozen


class HostQuery(Frozen):
    """Which hosts: those that bear one of ``names`` or fit one of ``patterns`` (``*`` and ``?``), and fit the rest.

    Without names and patterns, every name counts. ``states`` empty means every state. ``by_turn`` orders by who was
    used least recently, else hosts come by name.
    ``is_held`` keeps those that a reservation holds; ``reservable`` leaves out cordoned and undeclared hosts,
    ``declared`` just the undeclared ones; ``comes_back`` keeps those that are free now or will be without an operator.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    selector: Selector = EVERY_HOST
    states: frozenset[State] = frozenset()
    reservation: str | None = None
    is_held: bool = False
    reservable: bool = False
    declared: bool = False
    comes_back: bool = False
    by_turn: bool = False
    limit: int | None = None


def condition(query: HostQuery, rare: tuple[int, Term] | None) -> tuple[str, list[Value]]:
    """From WHERE on, what holds of a query's hosts, and the parameters; nothing for all of them.

    ``rare`` is the term to begin with, and how many hosts fit it.
    """
    terms: list[str] = []
    parameters: list[Value] = []
    if query.names or query.patterns:
        named = []
        if query.names:
            named.append(f"hosts.name IN ({', '.join('?' * len(query.names))})")
            parameters.extend(query.names)
        for pattern in query.patterns:
            # Names hold no upper-case letter, no '%' and no '_': LIKE is exact for them. No letter comes after '~'.
            named.append("(hosts.name >= ? AND hosts.name < ? AND hosts.name LIKE ?)")
            start = pattern.replace("?", "*").partition("*")[0]
            parameters += [start, f"{start}~", pattern.replace("*", "%").replace("?", "_")]
        terms.append(f"({' OR '.join(named)})")
    for term in query.selector.terms:
        if rare is None or term is not rare[1]:
            sql, values = term.to_sql()
        else:  # who wants some can do without those that came to fit just now; who wants all can't
            sql, values = term.to_sql(first=True, most=None if query.limit is None else 2 * rare[0] + 100)
        terms.append(sql)
        parameters.extend(values)
    if query.states:
        # Where few hosts fit a term, SQLite shall look at these, and not walk all that are in the states.
        state = "COALESCE(hosts.state, '')" if rare else "hosts.state"
        terms.append(f"{state} IN ({', '.join('?' * len(query.states))})")
        parameters.extend(sorted(state.value for state in query.states))
    if query.reservation is not None:
        terms.append("hosts.reservation = ?")
        parameters.append(query.reservation)
    if query.is_held:
        terms.append("hosts.reservation IS NOT NULL")
    if query.reservable:
        terms.append("hosts.cordon IS NULL")
    if query.comes_back:
        terms.append("hosts.cordon IS NULL AND hosts.fault IS NULL AND hosts.state <> 'maintenance'")
    if query.reservable or query.declared or query.comes_back:
        terms.append("hosts.undeclared = 0")
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters
