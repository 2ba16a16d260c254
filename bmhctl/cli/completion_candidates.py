"""The candidates of shell completion for selectors, ``--fields``, ``-o``, tickets and names of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from bmhctl.domain.bmc_commands import BootTarget, Power
from bmhctl.domain.model import TLS_VERSIONS, EventKind, Phase, Verb
from bmhctl.domain.requirements import describe_requirements, load_requirements
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import local_time
from bmhctl.results import History, HostDetail, Hosts, Outcomes, Reservations
from bmhctl.results.bookings import Bookings
from bmhctl.results.queue import Queue, Reminders
from bmhctl.results.statistics import Metrics, Statistics, Timeline
from bmhctl.results.status import Reasons
from bmhctl.results.why import Graph
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.folding import folded_within

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

_CHANGES = 20  # the number of changes that are offered to be undone
_ROOM = 60  # the most characters for the names of their hosts
_SAMPLE = 1000  # the number of hosts whose keys and values are offered
_RESULTS_OF: dict[str, type] = {
    "list": Hosts,
    "show": HostDetail,
    "reservations": Reservations,
    "history": History,
    "queue": Queue,
    "status": Reasons,
    "wait": Hosts,
    "remind": Reminders,
    "bookings": Bookings,
    "graph": Graph,
    "metrics": Metrics,
    "stats": Statistics,
    "timeline": Timeline,
}


def _groups() -> Iterable[str]:
    from bmhctl.usecases.statistics import GROUPS

    return (group for group in GROUPS if ":" not in group)


def _sort_keys() -> Iterable[str]:
    from bmhctl.usecases.statistics import SORT_KEYS

    return ("name", *SORT_KEYS)


def _endings() -> Iterable[str]:
    from bmhctl.runner.task import OnExit

    return OnExit


WORDS: Mapping[str, Callable[[], Iterable[str]]] = {
    "stats --by": _groups,
    "stats --sort": _sort_keys,
    "history --verb": lambda: (*Verb, *EventKind),
    "run --on-exit": _endings,
    "power --to": lambda: Power,
    "power --then": lambda: ("off",),
    "boot-once --from": lambda: BootTarget,
    "--tls-min-version": lambda: TLS_VERSIONS,
}
"""The words that an option takes, by the command and the option, or by the option alone."""


def _owners(_: str, store: Store) -> Iterator[tuple[str, str]]:
    for reservation in store.reservations.open():
        for owner in (reservation.owner, *reservation.shared_with):
            yield owner, ""
    for booking in store.bookings.open():
        yield booking.owner, ""


def _actors(_: str, store: Store) -> Iterator[tuple[str, str]]:
    return ((event.actor, "") for event in store.events.read(last=_SAMPLE))


def _changes(_: str, store: Store) -> Iterator[tuple[str, str]]:
    """Yield the latest changes that ``undo`` may take back: the id of an event, and what was done to which hosts."""
    upto: int | None = None
    for _number in range(_CHANGES):
        found = [event for _host, event in store.events.change(upto)]
        if not found:
            return
        upto = found[0].id - 1
        hosts = folded_within([event.host for event in found], _ROOM)
        yield str(found[-1].id), f"{found[0].verb} {hosts} {found[0].actor} {local_time(found[0].at)}"


def _keys(_: str, store: Store) -> Iterator[tuple[str, str]]:
    return ((key, "") for host in store.hosts.find(HostQuery(limit=_SAMPLE)) for key in selectable(host.spec))


def _group_keys(incomplete: str, store: Store) -> Iterator[tuple[str, str]]:
    yield from ((f"label:{key}", "") for key, _ in _keys(incomplete, store))
    yield from ((f"tag:{key}", "") for reservation in store.reservations.open() for key in reservation.tags)


def _labels(incomplete: str, store: Store) -> Iterator[tuple[str, str]]:
    hosts = store.hosts.find(HostQuery(limit=_SAMPLE))
    return _pairs(incomplete, (pair for host in hosts for pair in host.spec.labels.items()))


def _properties(incomplete: str, store: Store) -> Iterator[tuple[str, str]]:
    hosts = store.hosts.find(HostQuery(limit=_SAMPLE))
    return _pairs(incomplete, ((key, str(value)) for host in hosts for key, value in host.spec.properties.items()))


def _tags(incomplete: str, store: Store) -> Iterator[tuple[str, str]]:
    return _pairs(incomplete, (pair for held in store.reservations.open() for pair in held.tags.items()))


def _parameters(incomplete: str, store: Store) -> Iterator[tuple[str, str]]:
    declared = (param for step in store.policy().of(Phase.PREPARE) for param in step.params)
    return _pairs(incomplete, ((param.name, param.default or "") for param in declared))


def _pairs(incomplete: str, known: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each key with ``=``; after ``=``, each value of the key that is typed."""
    typed, equals, _ = incomplete.partition("=")
    if not equals:
        return ((f"{key}=", "") for key, _ in known)
    return ((f"{key}={value}", "") for key, value in known if key == typed and value)


STORED: Mapping[str, Callable[[str, Store], Iterable[tuple[str, str]]]] = {
    "stats --by": _group_keys,
    "status --by": _keys,
    "undo --event": _changes,
    "history --actor": _actors,
    "--owner": _owners,
    "handover --to": _owners,
    "share --with": _owners,
    "share --without": _owners,
    "--label": _labels,
    "--hardware": _properties,
    "--tag": _tags,
    "--param": _parameters,
}
"""What an inventory has as values of an option, each with its meaning; the first argument is what is typed."""


def selectors(store: Store, command: str, incomplete: str) -> Iterator[str]:
    """Yield completions of a partly typed selector: its last term gets a known key, or after ``=`` a known value.

    The known keys and values are those of hosts; for commands that select by tags, also those of open reservations.
    """
    done, comma, term = incomplete.rpartition(",")
    known: dict[str, set[str]] = {}
    for attributes in _selectable(store, command):
        for key, value in attributes.items():
            known.setdefault(key, set()).add(value)
    for sign in ("!=", "="):
        key, found, _ = term.partition(sign)
        if found:
            values = sorted(known.get(key, ()))
            yield from _beginning(incomplete, (f"{done}{comma}{key}{sign}{value}" for value in values))
            return
    absent = "!" if term.startswith("!") else ""
    ends = "" if absent else "="
    yield from _beginning(incomplete, (f"{done}{comma}{absent}{key}{ends}" for key in sorted(known)))


def _selectable(store: Store, command: str) -> Iterator[Mapping[str, str]]:
    if command in ("reservations", "release"):
        yield from (reservation.tags for reservation in store.reservations.open())
    if command != "reservations":
        yield from (selectable(host.spec) for host in store.hosts.find(HostQuery(limit=_SAMPLE)))


def tickets(store: Store, _: str, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the tickets whose number begins with what is typed, each with who waits for what."""
    for ticket in store.tickets.all():
        if str(ticket.id).startswith(incomplete):
            requirements = describe_requirements(load_requirements(ticket.requirements))
            yield str(ticket.id), " ".join(filter(None, (ticket.owner, requirements, ticket.purpose)))


def bookings(store: Store, command: str, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the bookings whose id begins with what is typed, each with its owner, beginning and purpose.

    For ``cancel``, these are also planned maintenances.
    """
    for booking in store.bookings.open():
        if booking.id.startswith(incomplete) and (command == "cancel" or not booking.is_maintenance):
            about = (booking.owner, local_time(booking.starts_at), booking.purpose)
            yield booking.id, " ".join(filter(None, about))


def fields(command: str, incomplete: str) -> Iterator[str]:
    """Yield completions of a typed list of fields: the list with one more field of the command's records."""
    from bmhctl.output.render import view_of

    done, comma, _ = incomplete.rpartition(",")
    chosen = done.split(",")
    names = view_of(_RESULTS_OF[command]).fields if command in _RESULTS_OF else ()
    yield from _beginning(incomplete, (f"{done}{comma}{name}" for name in names if name not in chosen))


def keys_of_fields(store: Store, command: str, incomplete: str) -> Iterator[str]:
    """Yield completions of a typed list of fields that ends with a field and a dot: the list with a key after it."""
    from bmhctl.output.render import view_of

    done, _, key = incomplete.rpartition(",")[2].partition(".")
    objects = view_of(_RESULTS_OF[command]).objects if command in _RESULTS_OF else {}
    head = incomplete.removesuffix(key)
    if done in objects:
        keys = objects[done] or sorted({*_stored_keys(store, command, done)})
        yield from _beginning(incomplete, (f"{head}{each}" for each in keys))


def _stored_keys(store: Store, command: str, field: str) -> Iterator[str]:
    items: Iterable[object]
    match command:
        case "reservations":
            items = store.reservations.open()
        case "queue":
            items = store.tickets.all()
        case _:
            items = (host.spec for host in store.hosts.find(HostQuery(limit=_SAMPLE)))
    for item in items:
        yield from getattr(item, field, ())


def formats(command: str, incomplete: str) -> Iterator[str]:
    """Yield the output formats that a command has and that begin with what is typed."""
    from bmhctl.formats.exporters.table import FORMATS
    from bmhctl.output.render import view_of

    known = FORMATS if command == "export" else view_of(_RESULTS_OF.get(command, Outcomes)).formats
    yield from _beginning(incomplete, known)


def checks(store: Store, _: str, incomplete: str) -> Iterator[str]:
    """Yield the names of the setup steps and checks of the policy that begin with what is typed."""
    policy = store.policy()
    yield from _beginning(incomplete, (step.name for step in policy.of(Phase.SETUP, Phase.CHECKS)))


def _beginning(text: str, words: Iterable[str]) -> Iterator[str]:
    return (word for word in words if word.startswith(text))
