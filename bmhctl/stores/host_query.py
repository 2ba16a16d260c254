"""A query for hosts, its translation to SQL, and the term from which SQLite starts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import State
from bmhctl.domain.selector import EVERY_HOST, NEGATIVE, NUMERIC, Operator, Selector, Term, canonical
from bmhctl.domain.units import quantity
from bmhctl.stores.rows import Row, Value, from_time
from bmhctl.support.values import Frozen, replace

if TYPE_CHECKING:
    from bmhctl.domain.requirements import Requirement, Requirements


class HostQuery(Frozen):
    """A query for hosts: those with one of ``names`` or ``patterns`` (``*`` and ``?``) that meet all other conditions.

    Without names and patterns, every name fits; without ``states``, every state. ``reservable`` excludes cordoned and
    undeclared hosts; ``declared`` excludes only undeclared ones. ``comes_back`` keeps hosts that are free now or will
    be free without an operator. ``free_until`` keeps hosts on which no booking or maintenance begins before that time.
    With ``planned`` too, only those remain on which one begins later; the nearest comes first.

    With ``by_turn``, the least recently used hosts come first; otherwise hosts are ordered by name. ``limit`` is the
    most hosts to return.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    selector: Selector = EVERY_HOST
    states: frozenset[State] = frozenset()
    reservable: bool = False
    declared: bool = False
    comes_back: bool = False
    by_turn: bool = False
    free_until: datetime | None = None
    planned: bool = False
    limit: int | None = None


FREE = HostQuery(states=frozenset({State.AVAILABLE}), reservable=True)
"""The query for hosts that can be reserved."""

EVERY_FIT = 10**6
"""More hosts than any inventory has, as the limit of queries for all hosts that fit."""


def queries_for(everyone: Sequence[Requirements], query: HostQuery, more: int = 0) -> list[HostQuery]:
    """Return a query for each of the requirements, for hosts of ``query`` that fit it.

    Each query finds at most as many hosts as all requirements ask for together, plus ``more``: no match can need
    others.
    """
    wanted = [requirement for requirements in everyone for requirement in requirements]
    most = sum(requirement.count for requirement in wanted) + more
    return [replace(query_for(requirement, query), limit=most) for requirement in dict.fromkeys(wanted)]


def query_for(requirement: Requirement, query: HostQuery) -> HostQuery:
    """Return the query for hosts of ``query`` that fit a requirement; with states, least recently used hosts first."""
    if requirement.name is not None:  # find a named host even if it is undeclared, so that the refusal can say why
        return replace(query, names=(requirement.name,), declared=False)
    return replace(query, selector=requirement.selector, by_turn=bool(query.states))


def condition(query: HostQuery, rare: tuple[Term, int] | None) -> tuple[str, list[Value]]:
    """Return the SQL condition of a query, beginning with WHERE, and its parameters; an empty text for all hosts.

    ``rare`` is the term from which the database searches, and how many hosts fit it; None where its planner decides.
    """
    terms: list[str] = []
    parameters: list[Value] = []
    if query.names or query.patterns:
        named = []
        if query.names:
            named.append(f"hosts.name IN ({', '.join('?' * len(query.names))})")
            parameters.extend(query.names)
        for pattern in query.patterns:
            # Names have no upper-case letter, no '%' and no '_': LIKE is exact for them. No letter sorts after '~'.
            named.append("(hosts.name >= ? AND hosts.name < ? AND hosts.name LIKE ?)")
            start = pattern.replace("?", "*").partition("*")[0]
            parameters += [start, f"{start}~", pattern.replace("*", "%").replace("?", "_")]
        terms.append(f"({' OR '.join(named)})")
    for term in query.selector.terms:
        if rare is None or term is not rare[0]:
            sql, values = _holds(term)
        else:  # with a limit, a few more than were counted are enough
            sql, values = _starts_from(term, None if query.limit is None else 2 * rare[1] + 100)
        terms.append(sql)
        parameters.extend(values)
    if query.states:
        # COALESCE keeps SQLite from walking the index of states where few hosts fit a term, or where the index of
        # planned times gives the wanted order.
        state = "COALESCE(hosts.state, '')" if rare or query.planned else "hosts.state"
        terms.append(f"{state} IN ({', '.join('?' * len(query.states))})")
        parameters.extend(sorted(state.value for state in query.states))
    if query.reservable:
        terms.append("hosts.cordon IS NULL")
    if query.comes_back:
        terms.append("hosts.cordon IS NULL AND hosts.fault IS NULL AND hosts.state <> 'maintenance'")
    if query.reservable or query.declared or query.comes_back:
        terms.append("hosts.undeclared = 0")
    if query.free_until is not None:
        unplanned = "" if query.planned else "hosts.planned_at IS NULL OR "
        terms.append(f"({unplanned}hosts.planned_at >= ?)")
        parameters.append(from_time(query.free_until))
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters


def ids_with(term: Term) -> tuple[str, list[Value]]:
    """Return a query for the ids of hosts that have the term's key with one of its values, and the query's parameters.

    For a negated term, these are the hosts that do not fit it.
    """
    parameters: list[Value] = [term.key]
    if term.operator in (Operator.PRESENT, Operator.ABSENT):
        wanted = ""
    elif term.operator in NUMERIC:
        wanted = f" AND f.number {term.operator} ?"
        parameters.append(quantity(term.values[0]))
    else:
        wanted = f" AND f.value IN ({', '.join('?' * len(term.values))})"
        parameters.extend(canonical(value) for value in term.values)
    return f"SELECT f.host_id FROM facts f WHERE f.key = ?{wanted}", parameters


def _holds(term: Term) -> tuple[str, list[Value]]:
    """Return the SQL condition that a host fits a term, and its parameters."""
    find, parameters = ids_with(term)
    exists = f"EXISTS ({find} AND f.host_id = hosts.id)"
    return (f"NOT {exists}" if term.operator in NEGATIVE else exists), parameters


def _starts_from(term: Term, most: int | None) -> tuple[str, list[Value]]:
    """Return the condition of :func:`_holds` for a term that few hosts fit, so that the database searches from it.

    ``most`` is the most hosts that the database is told to expect; None: no limit.
    """
    find, parameters = ids_with(term)
    if most is None:
        return f"hosts.id IN ({find})", parameters
    order = "f.number" if term.operator in NUMERIC else "f.value"  # so that only the index is read
    return f"hosts.id IN ({find} ORDER BY {order} LIMIT {most})", parameters


_LEAST = 50

_FEW_IN_SQL = (
    "(SELECT CAST(CASE WHEN SUM(number) < {least} * {share} THEN {least} WHEN SUM(number) > {most} * {share}"
    " THEN {most} ELSE SUM(number) / {share} END AS BIGINT) FROM counts)"
)
"""The number up to which hosts count as few: one ``share``-th of all hosts, from ``least`` to ``most``."""

_FEW = _FEW_IN_SQL.format(least=_LEAST, share=100, most=10_000)
_FEW_OF_ALL = _FEW_IN_SQL.format(least=_LEAST, share=20, most=50_000)  # larger for queries without a limit


def rarest(execute: Callable[[str, Sequence[Value]], Sequence[Row]], query: HostQuery) -> tuple[Term, int] | None:
    """Return the rarest term of a query and how many hosts fit it; None where walking hosts in their order is faster.

    Unlike PostgreSQL, SQLite does not know how many hosts fit a term. With a million hosts, a search from a rare term
    takes milliseconds, but walking all hosts in the order of their last use takes a second; for a frequent term it is
    the other way round. So this counts the hosts that fit, up to the number at which both take equally long.
    """
    few = _FEW_OF_ALL if query.limit is None else _FEW
    found: tuple[Term, int] | None = None
    for term in query.selector.terms:
        if term.operator in NEGATIVE:
            continue
        find, parameters = ids_with(term)
        [(number, enough)] = execute(f"SELECT COUNT(*), {few} FROM ({find} LIMIT {few} + 1) fits", parameters)
        fits = int(number or 0)
        if fits <= int(enough or 0) and (found is None or fits < found[1]):
            found = term, fits
    return found
