"""Other forms of ``status``: the fleet by the reasons why hosts are not free, or by the values of a label."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bmhctl.domain.model import Event, EventKind, Host, Phase
from bmhctl.domain.selector import selectable
from bmhctl.errors import UsageError, nearest
from bmhctl.results.status import Fleet, HostGroup, Reason, Reasons
from bmhctl.stores import status_queries
from bmhctl.stores.events import EventQuery
from bmhctl.support.folding import natural
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

_MOST = 3000
"""The most hosts of each kind that are read."""

_FAILED = {Phase.SETUP: "failed setup", Phase.CHECKS: "failed check", Phase.CLEANUP: "failed cleanup", None: "failed"}
_NOTED = (EventKind.FAULT, EventKind.STEP_FAILED, EventKind.UNDECLARE)


def reasons(ctx: Context) -> Reasons:
    """Return why hosts are not free, the oldest reason first; the same reason of the same actor is one entry.

    A host with several reasons is in each of their entries.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        found: dict[tuple[str, str, str | None], tuple[datetime, list[str]]] = {}
        for host, kind, text, actor, since in _each(ctx, now):
            oldest, names = found.setdefault((kind, text, actor), (since, []))
            found[kind, text, actor] = (min(oldest, since), names)
            names.append(host.name)
    items = (Reason(*key, since, tuple(sorted(names))) for key, (since, names) in found.items())
    return Reasons(tuple(sorted(items, key=lambda each: (each.since, each.kind, each.reason))), ctx.store.location, now)


def _each(ctx: Context, now: datetime) -> Iterator[tuple[Host, str, str, str | None, datetime]]:
    store = ctx.store
    held = {
        which: status_queries.hosts(store, which, _MOST)
        for which in ("in_maintenance", "cordoned", "faults", "undeclared")
    }
    failed = store.policy().declared_by_host(store.step_results.failed())
    failing = status_queries.hosts_with_failed_steps(store, failed, _MOST)
    events = _last_events(ctx, [*held["faults"], *held["undeclared"], *failing])
    for host in held["in_maintenance"]:
        for note in host.maintenance:
            yield host, "maintenance", note.reason, note.actor, note.since
    for host in held["cordoned"]:
        if host.cordon is not None:
            yield host, host.cordon.flag, host.cordon.reason, host.cordon.actor, host.cordon.since
    for host in status_queries.hosts(store, "set_aside", _MOST, now):
        planned = host.planned[0]
        kind = "booked" if planned.is_booking else "planned"
        yield host, kind, planned.words, planned.owner, planned.starts_at
    for kind, verb, hosts in (
        ("fault", EventKind.FAULT, held["faults"]),
        ("undeclared", EventKind.UNDECLARE, held["undeclared"]),
    ):
        for host in hosts:
            event = events.get((host.name, verb))
            text = host.fault or "" if kind == "fault" else "no longer declared"
            yield host, kind, text, event.actor if event else None, event.at if event else host.since
    for host in failing:
        event = events.get((host.name, EventKind.STEP_FAILED))
        for result in failed[host.id]:
            kind = _FAILED.get(result.phase, "failed")
            yield host, kind, result.failure, event.actor if event else None, result.at or host.since


def _last_events(ctx: Context, hosts: list[Host]) -> dict[tuple[str, object], Event]:
    """Return the newest event of each kind that records a reason, by the host's name and the kind."""
    found: dict[tuple[str, object], Event] = {}
    if not hosts:
        return found
    query = EventQuery(hosts=tuple({host.id for host in hosts}), verbs=_NOTED)
    for event in ctx.store.events.find(query):
        found[event.host, event.verb] = event
    return found


def fleet(ctx: Context, key: str) -> Fleet:
    """Return all hosts, grouped by the value of a label or hardware property, which may be written ``label:KEY``.

    Hosts without the key are the last group. Raises :class:`UsageError` for a key that no host has.
    """
    key = key.removeprefix("label:")
    now = refresh(ctx)
    groups: dict[str | None, list[Host]] = {}
    keys: dict[str, None] = {}
    with ctx.store.snapshot():
        for host in ctx.store.hosts.find():
            values = selectable(host.spec)
            keys.update(dict.fromkeys(values))
            groups.setdefault(values.get(key), []).append(host)
        due: set[int] = set()
        if ctx.store.tickets.are_any():
            from bmhctl.usecases.reservations.fairness import hosts_for_tickets

            due = hosts_for_tickets(ctx, ctx.store.policy().limits)
    if groups and key not in keys:
        near = nearest(key, keys)
        hint = f"did you mean {near}? " if near else ""
        raise UsageError(f"no host has the label {key!r}", hint=f"{hint}known: {', '.join(sorted(keys)) or 'none'}")
    ordered = sorted(groups, key=lambda value: (value is None, natural(value or "")))
    rows = tuple(HostGroup(value, tuple(groups[value])) for value in ordered)
    return Fleet(key, rows, ctx.store.location, now, frozenset(due))
