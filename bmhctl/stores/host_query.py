"""A query for hosts, its translation to SQL, and the term from which SQLite starts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from bmhctl.domain.model import State
from bmhctl.domain.selector import EVERY_HOST, Selector, Term
from bmhctl.stores.rows import Row, Value, from_time
from bmhctl.support.values import Frozen


class HostQuery(Frozen):
    """A query for hosts: those with one of ``names`` or ``patterns`` (``*`` and ``?``) that meet all other conditions.

    Without names and patterns, every name fits; without ``states``, every state. ``reservable`` leaves out cordoned and
    undeclared hosts; ``declared`` leaves out undeclared hosts only. ``comes_back`` keeps hosts that are free now or
    will be without an operator. ``free_until`` keeps hosts without a booking or a maintenance before that time;
    ``planned`` keeps those of them that have one later, the nearest first.

    ``by_turn`` orders hosts by last use, the least recently used first; else they come by name. ``limit`` is the most
    hosts to return.
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


class RareTerm(Frozen):
    """A term that few hosts fit, from which to start, and how many hosts that are."""

    term: Term
    fitting: int


def condition(query: HostQuery, rare: RareTerm | None) -> tuple[str, list[Value]]:
    """Return the condition of a query, from WHERE on, and its parameters; an empty text for all hosts.

    ``rare`` is the term that the database starts from, if that is decided here.
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
        if rare is None or term is not rare.term:
            sql, values = term.to_sql()
        else:  # with a limit, hosts that began to fit after they were counted need not be found
            sql, values = term.to_sql(first=True, most=None if query.limit is None else 2 * rare.fitting + 100)
        terms.append(sql)
        parameters.extend(values)
    if query.states:
        # Where few hosts fit a term, this keeps SQLite from walking all that are in the states instead; it walks those
        # on which something is planned in their order.
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


_LEAST = 50

_FEW_IN_SQL = (
    "(SELECT CAST(CASE WHEN SUM(number) < {least} * {share} THEN {least} WHEN SUM(number) > {most} * {share}"
    " THEN {most} ELSE SUM(number) / {share} END AS BIGINT) FROM counts)"
)
"""How many hosts are few: one of ``share`` hosts, at least ``least`` and at most ``most``."""

_FEW = _FEW_IN_SQL.format(least=_LEAST, share=100, most=10_000)
_FEW_OF_ALL = _FEW_IN_SQL.format(least=_LEAST, share=20, most=50_000)  # more where all hosts that fit are wanted


def rarest(execute: Callable[[str, Sequence[Value]], Sequence[Row]], query: HostQuery) -> RareTerm | None:
    """Return the rarest term of a query if few hosts fit it; None where an order is better walked.

    SQLite does not know how many hosts fit a term; PostgreSQL does. With a million hosts, starting from the few that
    fit a rare term takes milliseconds, and walking all hosts in the order of their last use takes a second; for a
    frequent term it is the other way round. So the fitting hosts are counted, up to the number at which both take as
    long.
    """
    few = _FEW_OF_ALL if query.limit is None else _FEW
    found: RareTerm | None = None
    for term in query.selector.terms:
        if term.is_negative:
            continue
        fitting, parameters = term.fitting()
        [(number, enough)] = execute(f"SELECT COUNT(*), {few} FROM ({fitting} LIMIT {few} + 1) fits", parameters)
        fits = int(number or 0)
        if fits <= int(enough or 0) and (found is None or fits < found.fitting):
            found = RareTerm(term, fits)
    return found
