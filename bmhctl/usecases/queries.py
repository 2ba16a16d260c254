"""List, show, history and reservations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from bmhctl.domain.model import Host, Reservation, State
from bmhctl.domain.units import quantity
from bmhctl.errors import NotFoundError, UsageError, combine
from bmhctl.results import Held, History, HostDetail, Hosts, Names, Reservations
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

if TYPE_CHECKING:
    from bmhctl.domain.selector import Selector
    from bmhctl.results.texts import Everything
    from bmhctl.usecases.shared.host_selection import Choice

_T = TypeVar("_T")

SHOWN_EVENTS = 5
"""The most events of a host that ``show`` returns."""

SORT_KEYS: Mapping[str, Callable[[Host], tuple[object, ...]]] = {
    "name": lambda host: (),
    "state": lambda host: (list(State).index(host.state),),
    "since": lambda host: (host.since,),
    "owner": lambda host: (host.reservation is None, host.reservation.owner if host.reservation else ""),
    "until": lambda host: (_lease_end(host) is None, _lease_end(host) or host.since),
    "used": lambda host: (host.used_at is not None, host.used_at or host.since),
}
"""The keys by which hosts can be sorted, each with what is compared before the name."""


SORT_OBJECTS = ("labels", "hardware")
"""The fields with keys of their own, by which hosts can be sorted, too: ``labels.rack``."""


def _sort_key(key: str) -> Callable[[Host], tuple[object, ...]] | None:
    """Return the function for a key of :data:`SORT_KEYS`, or for a key of a field of :data:`SORT_OBJECTS`."""
    field, dot, name = key.partition(".")
    if not (dot and name and field in SORT_OBJECTS):
        return SORT_KEYS.get(key)
    from bmhctl.domain.selector import canonical
    from bmhctl.support.folding import natural

    def value_first(host: Host) -> tuple[object, ...]:
        values = host.spec.labels if field == "labels" else host.spec.properties
        text = canonical(values.get(name, ""))
        size = quantity(text)
        return name not in values, size is None, size or 0, natural(text)

    return value_first


def _lease_end(host: Host) -> datetime | None:
    return host.reservation.expires_at if host.reservation else None


def list_hosts(ctx: Context, choice: Choice, sort: str | None = None) -> Hosts:
    """Return the chosen hosts, or all if nothing is named, ordered by name or by ``sort``.

    ``sort`` is one of :data:`SORT_KEYS`, or the key of a label or property, such as ``labels.rack``; hosts without it
    come last. ``-key`` sorts in reverse. Raises :class:`UsageError` for another key.
    """
    now = refresh(ctx)
    order = SORT_KEYS["name"] if sort is None else _sort_key(sort.removeprefix("-"))
    if order is None:
        known = ", ".join((*SORT_KEYS, *(f"{field}.KEY" for field in SORT_OBJECTS)))
        raise UsageError(f"can't sort by {sort!r}", hint=f"by {known}, or '-since' for the reverse")
    missing: list[NotFoundError] = []
    if choice.names:
        hosts: Iterable[Host]
        from bmhctl.usecases.shared.host_selection import choose

        hosts, missing = choose(ctx, choice, is_reading=True)
    else:
        hosts = ctx.store.hosts.find(choice.query(now))
        if choice.selector:
            hosts = noting_unmatched(ctx, choice.selector, hosts)
    if sort is not None:
        hosts = sorted(hosts, key=lambda host: (*order(host), host.name), reverse=sort.startswith("-"))
    failed = ctx.store.step_results.failed()
    return Hosts(hosts, now, tuple(missing), failed and ctx.store.policy().declared_by_host(failed))


def noting_unmatched(ctx: Context, selector: Selector, hosts: Iterable[_T]) -> Iterable[_T]:
    """Return the same hosts, or names of hosts; if there are none, report why no host fits the selector."""
    found = iter(hosts)
    first = next(found, None)
    if first is not None:
        return chain((first,), found)
    from bmhctl.usecases.shared.unmatched import note_unmatched

    note_unmatched(ctx, selector)
    return ()


@contextmanager
def everything(ctx: Context, choice: Choice) -> Iterator[Everything]:
    """Yield the content of an export, as of one moment; it must be read within the block.

    If not everything is chosen, these are the chosen hosts and their reservations, without the policy. Raises
    :class:`NotFoundError` for a name that no host has.
    """
    from bmhctl.results.texts import Everything

    now = refresh(ctx)
    with ctx.store.snapshot():
        store = ctx.store
        if choice.everything:
            bookings, policy = len(store.bookings.open()), store.meta.policy_text()
            yield Everything(store.reservations.all(is_open=True), store.hosts.find(), policy, now, bookings)
            return
        hosts = list(chosen(ctx, choice).hosts)
        held = {host.reservation.id: host.reservation for host in hosts if host.reservation is not None}
        yield Everything(held.values(), hosts, None, now)


def chosen(ctx: Context, choice: Choice, sort: str | None = None) -> Hosts:
    """Return the hosts that a command names; raise an error for a name that no host has: an export must be complete."""
    found = list_hosts(ctx, choice, sort)
    error = combine(found.missing)
    if error is not None:
        raise error
    return found


def list_names(ctx: Context, choice: Choice) -> Names:
    """Return the names of the chosen hosts, in alphabetical order; nothing else about the hosts is read.

    A name in ``choice`` that no host has is not reported.
    """
    now = refresh(ctx)
    names = ctx.store.hosts.names(choice.query(now))
    return Names(noting_unmatched(ctx, choice.selector, names) if choice.selector else names)


def show(ctx: Context, name: str) -> HostDetail:
    """Return one host with its latest events; raise :class:`~bmhctl.errors.NotFoundError` for an unknown name."""
    now = refresh(ctx)
    with ctx.store.snapshot():
        host = ctx.store.hosts.named(name)
        if host is None:
            from bmhctl.usecases.shared.unmatched import not_found

            raise not_found(ctx, name)
        events = tuple(ctx.store.events.read(host, last=SHOWN_EVENTS))
        results = ctx.store.step_results.of(host)
        return HostDetail(host, events, now, results and ctx.store.policy().declared(results))


def with_hosts(ctx: Context, reservations: Iterable[Reservation]) -> list[Held]:
    """Return reservations with the hosts that they hold now; all held hosts are read in one query."""
    hosts: dict[str, list[Host]] = {}
    for host in ctx.store.hosts.held():
        if host.reservation is not None:
            hosts.setdefault(host.reservation.id, []).append(host)
    return [Held(reservation, tuple(hosts.get(reservation.id, ()))) for reservation in reservations]


def history(ctx: Context, name: str | None = None, last: int | None = None) -> History:
    """Return the events of one host under all its names, or of the whole inventory; the host may have been removed.

    The events of hosts that were removed or retired under the name before are included. With ``last``, returns only the
    newest ``last`` events. Raises :class:`~bmhctl.errors.NotFoundError` for a name that no host ever had.
    """
    now = refresh(ctx)
    if name is None:
        return History(ctx.store.events.read(last=last), None, now, ctx.store.location)
    events = list(ctx.store.events.read(name, last=last))
    if not events and not ctx.store.events.hosts_named(name):
        from bmhctl.usecases.shared.unmatched import not_found

        raise not_found(ctx, name)
    return History(events, name, now, ctx.store.location)


def reservations(
    ctx: Context,
    ids: Sequence[str] = (),
    *,
    ended: bool = False,
    selector: Selector | None = None,
    owner: str | None = None,
) -> Reservations:
    """Return the open reservations with their hosts, the oldest first; with ``ended``, also all that have ended.

    With ``ids``, returns the reservations with these ids, open or ended. ``selector`` keeps those whose tags fit,
    ``owner`` those whose owner matches (with ``*`` and ``?``). Raises :class:`NotFoundError` for an unknown id.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        known: Iterable[Reservation]
        if ids:
            from bmhctl.usecases.shared.leases import known_reservation

            known = [known_reservation(ctx, each) for each in dict.fromkeys(ids)]
            ended = any(each.ended_at for each in known)
        else:
            known = ctx.store.reservations.all() if ended else ctx.store.reservations.open()
        if selector is not None:
            known = (each for each in known if selector.holds(each.tags))
        if owner is not None:
            from bmhctl.usecases.shared.owners import of_owner

            known = [*of_owner(known, owner, lambda each: each.owner, ("reservation of", "owner"), ctx.report)]
        held = with_hosts(ctx, known)
        if ended:
            names = ctx.store.events.hosts_by_reservation()
            held = [replace(each, had=names.get(each.reservation.id, ())) for each in held]
        none = "no reservation fits: bmhctl reservations lists the open ones" if selector or owner else None
        return Reservations(tuple(held), now, none)
