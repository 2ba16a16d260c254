"""Find the hosts that can meet requirements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.domain.model import LONG_AGO, Host
from bmhctl.domain.requirements import Requirements
from bmhctl.stores.host_query import HostQuery, queries_for
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context


def candidates(ctx: Context, everyone: Sequence[Requirements], query: HostQuery, more: int = 0) -> list[Host]:
    """Return as many hosts of a query that fit any of the requirements as a match can need, least recently used first.

    The order is arbitrary if the query is for all states, because no index covers all states by last use.
    """
    queries = queries_for(everyone, query, more)
    if query.free_until is not None:
        queries += [replace(each, planned=True) for each in queries]
    found = {host.id: host for each in queries for host in ctx.store.hosts.find(each)}
    return sorted(found.values(), key=lambda host: (*_nearness(host, query), host.used_at or LONG_AGO, host.id))


def _nearness(host: Host, query: HostQuery) -> tuple[bool, datetime]:
    if query.free_until is None or not host.planned:
        return True, LONG_AGO
    return False, host.planned[0].starts_at
