"""Choose where SQLite starts a query for hosts: it does not know how many hosts fit a term, PostgreSQL does.

With a million hosts, starting from the few that fit a rare term takes milliseconds, and walking all hosts in the order
of their last use takes a second; for a frequent term it is the other way round. So the fitting hosts are counted, up to
the number at which both take as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bmhctl.stores.host_query import HostQuery, RareTerm
from bmhctl.stores.rows import Row, Value

_LEAST = 50


def _few(share: int, most: int) -> str:
    """Return in SQL how many hosts are few: one of ``share`` hosts, at least ``_LEAST`` and at most ``most``."""
    return (
        f"(SELECT CAST(CASE WHEN SUM(number) < {_LEAST * share} THEN {_LEAST} WHEN SUM(number) > {most * share}"
        f" THEN {most} ELSE SUM(number) / {share} END AS BIGINT) FROM counts)"
    )


_FEW, _FEW_OF_ALL = _few(100, 10_000), _few(20, 50_000)  # more where all hosts that fit are wanted


def rarest(execute: Callable[[str, Sequence[Value]], Sequence[Row]], query: HostQuery) -> RareTerm | None:
    """Return the rarest term of a query if few hosts fit it; None where an order is better walked."""
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
