"""Looking at an inventory: list, show, status, history."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.errors import NotFoundError, UsageError
from bmhctl.model import Host, Reservation, State
from bmhctl.results import Ending, Held, History, HostDetail, Hosts, Names, Status
from bmhctl.selector import Selector
from bmhctl.stores.engine import HostQuery
from bmhctl.usecases.choosing import Choice, choose, not_found, one_host
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import look

SHOWN_EVENTS = 5
"""How many of its latest events ``show`` shows of a host."""

SORT_KEYS = ("name", "state", "since", "owner", "until", "used")
"""What hosts can be sorted by."""


def list_hosts(ctx: Context, choice: Choice, sort: str | None = None) -> Hosts:
    """The hosts that are meant, all if nothing is named, by name or as :data:`SORT_KEYS`; ``-key`` turns it round."""
    now = look(ctx)
    key = (sort or "").removeprefix("-")
    if sort is not None and key not in SORT_KEYS:
        raise UsageError(f"can't sort by {sort!r}", hint=f"by {', '.join(SORT_KEYS)}, or '-since' for the reverse")
    missing: list[NotFoundError] = []
    if choice.names:
        hosts: Iterable[Host]
        hosts, missing = choose(ctx, choice)
    else:
        hosts = ctx.store.hosts(HostQuery(selector=choice.selector, states=choice.states))
    if sort is not None:
        hosts = sorted(hosts, key=lambda host: _sort_value(host, key), reverse=sort.startswith("-"))
    return Hosts(hosts, now, missing=tuple(missing))


def list_names(ctx: Context, selector: Selector, states: frozenset[State]) -> Names:
    """The names of the hosts that fit, in order: a thousand take less time than ten hosts."""
    look(ctx)
    return Names(ctx.store.names(HostQuery(selector=selector, states=states)))


def show(ctx: Context, name: str) -> HostDetail:
    """One host with its latest events."""
    now = look(ctx)
    with ctx.store.snapshot():
        host = one_host(ctx, name)
        return HostDetail(host, tuple(ctx.store.events(host, last=SHOWN_EVENTS)), now, ctx.store.results(host))


def status(ctx: Context) -> Status:
    """The fleet at a glance: counts a state, who holds what, what ends next, what needs a person."""
    from bmhctl.usecases.turns import free_for, live_tickets
    from bmhctl.wants import Want

    now = look(ctx)
    with ctx.store.snapshot():
        held = with_hosts(ctx, ctx.store.open_reservations())
        available = ctx.store.count(HostQuery(states=frozenset({State.AVAILABLE}), reservable=True))
        # Hosts that wait to be fetched by an older ticket are nobody else's.
        free = len(free_for(ctx, (Want(count=available),), None)) if available and live_tickets(ctx) else available
        aside = list(ctx.store.hosts(HostQuery(states=frozenset({State.MAINTENANCE}))))
        marked = list(ctx.store.hosts(HostQuery(marked=True)))
        return Status(
            inventory=ctx.store.location,
            counts=ctx.store.counts(),
            free=free,
            cordoned=tuple(host.name for host in marked if host.cordon),
            undeclared=tuple(host.name for host in marked if host.undeclared),
            faults=tuple(host.name for host in marked if host.fault),
            held=tuple(held),
            expired=tuple(h.reservation.id for h in held if not h.reservation.is_valid(now)),
            endings=tuple(sorted(_endings(held, aside, now), key=lambda ending: ending.at)),
            now=now,
        )


def with_hosts(ctx: Context, reservations: Iterable[Reservation]) -> list[Held]:
    """Reservations with the hosts that they hold now; reads all that are held, once."""
    hosts: dict[str, list[Host]] = {}
    for host in ctx.store.hosts(HostQuery(is_held=True)):
        if host.reservation is not None:
            hosts.setdefault(host.reservation.id, []).append(host)
    return [Held(reservation, tuple(hosts.get(reservation.id, ()))) for reservation in reservations]


def _endings(held: Iterable[Held], aside: Iterable[Host], now: datetime) -> Iterable[Ending]:
    for item in held:
        end = item.reservation.expires_at
        if end is not None and end > now:
            names = tuple(host.name for host in item.hosts)
            yield Ending(end, f"lease {item.reservation.id} of {item.reservation.owner}", names)
    for host in aside:
        ends = [mark.until for mark in host.maintenance if mark.until]
        if ends:
            yield Ending(max(ends), f"maintenance: {host.maintenance[-1].reason}", (host.name,))


def history(ctx: Context, name: str | None = None, last: int | None = None) -> History:
    """What happened to one host under all its names, also one that was removed, or to the whole inventory."""
    now = look(ctx)
    if name is None:
        return History(ctx.store.events(last=last), None, now)
    host = ctx.store.host(name)
    events = list(ctx.store.events(host or name, last=last))
    if not events:
        raise not_found(ctx, name)
    return History(events, name, now)


def _sort_value(host: Host, key: str) -> tuple[object, ...]:
    held = host.reservation
    match key:
        case "state":
            return (list(State).index(host.state), host.name)
        case "since":
            return (host.since, host.name)
        case "owner":
            return (held is None, held.owner if held else "", host.name)
        case "until":
            end = held.expires_at if held else None
            return (end is None, end or host.since, host.name)
        case "used":
            return (host.used_at is not None, host.used_at or host.since, host.name)
        case _:
            return (host.name,)
