"""The states of hosts over a span of time, and the leases and bookings ahead."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from bmhctl.domain.model import Host, State
from bmhctl.domain.times import check_period
from bmhctl.errors import UsageError
from bmhctl.results.statistics import HostTimeline, Stay, Timeline
from bmhctl.stores import statistics_queries as queries
from bmhctl.stores.rows import to_moment
from bmhctl.stores.statistics_queries import Move
from bmhctl.usecases.queries import noting_unmatched, with_hosts
from bmhctl.usecases.reservations.bookings import with_host_names
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.refresh import refresh

_AHEAD = 4  # by default, the span reaches ahead by a quarter of the time that it reaches back


def timeline(ctx: Context, choice: Choice, since: datetime, until: datetime | None = None) -> Timeline:
    """Return the states of the chosen hosts since a time; of all hosts if nothing is named.

    Without ``until``, the span reaches beyond now by a quarter of the time before now. Raises :class:`UsageError` for
    an impossible span, and :class:`NotFoundError` for a name that no host has.
    """
    now = refresh(ctx)
    if since >= now:
        raise UsageError("--since is not in the past", hint="write a duration such as 24h, or a time in the past")
    if until is None:
        until = now + (now - since) / _AHEAD
    check_period(since, until)
    with ctx.store.snapshot():
        if choice.names:
            hosts, missing = choose(ctx, choice)
            for error in missing:
                raise error
        else:
            found = ctx.store.hosts.find(choice.query(now))
            hosts = [*(found if choice.selector is None else noting_unmatched(ctx, choice.selector, found))]
        moves: dict[int, list[Move]] = defaultdict(list)
        for move in queries.moves(ctx.store, queries.window(ctx.store, since, until)):
            moves[move.host_id].append(move)
        leases = tuple(with_hosts(ctx, ctx.store.reservations.open()))
        planned = with_host_names(ctx, ctx.store.bookings.open())
    rows = tuple(_row(host, moves.get(host.id, []), since, min(now, until)) for host in hosts)
    return Timeline(since, until, now, rows, leases, ctx.store.location, planned)


def _row(host: Host, moves: list[Move], since: datetime, end: datetime) -> HostTimeline:
    held = host.reservation
    stays = []
    # The state at the beginning is the source of the first move, or the present state if the host never moved.
    state: str | None = host.state
    owner = held.owner if held else None
    if moves:
        state, owner = moves[0].source, moves[0].owner
        if state == moves[0].dest:
            owner = None  # a handover's event names only the new owner
    start = since
    for move in (*moves, None):
        at = end if move is None else min(max(to_moment(move.at), start), end)
        if state is not None and at > start:
            kept = owner if state in (State.RESERVED, State.MAINTENANCE) else None
            stays.append(Stay(start, at, State(state), kept))
        if move is not None:
            start, state, owner = at, move.dest, move.owner
    lease_end = held.expires_at if held else None
    return HostTimeline(host.name, tuple(stays), held.owner if held else None, lease_end, host.planned)
