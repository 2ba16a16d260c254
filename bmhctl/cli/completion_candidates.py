"""The candidates of shell completion for the values of arguments and options, by the name of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from bmhctl.cli.commands import ENTRIES
from bmhctl.domain.model import TLS_VERSIONS, BootTarget, EventKind, HostSpec, Phase, Power, State, Verb
from bmhctl.domain.requirements import describe_requirements, load_requirements
from bmhctl.domain.selector import selectable
from bmhctl.domain.units import local_time
from bmhctl.output.render import view_of
from bmhctl.results import History, HostDetail, Hosts, Outcomes, Reservations
from bmhctl.results.bookings import Bookings
from bmhctl.results.queue import Queue, QueueHistory, Reminders
from bmhctl.results.statistics import HourlyUse, Metrics, Statistics, Timeline
from bmhctl.results.status import Reasons, Status
from bmhctl.results.why import Graph
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.folding import folded_within
from bmhctl.usecases.queries import SORT_KEYS, SORT_OBJECTS

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

Candidate = str | tuple[str, str]
"""A word, or a word and its meaning."""

_CHANGES = 20  # the number of changes that are offered to be undone
_ROOM = 60  # the most characters for the names of their hosts
_SAMPLE = 1000  # the number of hosts whose keys and values are offered
_RESULTS_OF: dict[str | None, type] = {
    "list": Hosts,
    "show": HostDetail,
    "reservations": Reservations,
    "history": History,
    "queue": Queue,
    "status": Status,
    "wait": Hosts,
    "remind": Reminders,
    "bookings": Bookings,
    "graph": Graph,
    "metrics": Metrics,
    "stats": Statistics,
    "timeline": Timeline,
}


_OTHER_RESULTS: dict[tuple[str | None, str, object], type] = {
    ("history", "queue", True): QueueHistory,
    ("stats", "by", "hour"): HourlyUse,
    ("status", "reasons", True): Reasons,
}
"""The results of commands that an option changes, by the command, the option and its value."""


def _result_of(ctx: typer.Context) -> type | None:
    """Return the kind of result that a command has with the options that are typed."""
    for (name, option, value), kind in _OTHER_RESULTS.items():
        if name == ctx.info_name and ctx.params.get(option) == value:
            return kind
    return _RESULTS_OF.get(ctx.info_name)


def _topics(*_: object) -> Iterable[str]:
    from bmhctl.docs import TOPICS

    return (*TOPICS, *dict.fromkeys(name.split(" ")[0] for name in ENTRIES))


def _groups(*_: object) -> Iterable[str]:
    from bmhctl.usecases.statistics import GROUPS

    return (group for group in GROUPS if ":" not in group)


def _figures(*_: object) -> Iterable[str]:
    from bmhctl.usecases.statistics import SORT_KEYS as FIGURES

    return ("name", *FIGURES)


def _sort_keys(_: typer.Context, typed: str) -> Iterable[str]:
    return (*SORT_KEYS, *(f"{field}." for field in SORT_OBJECTS if f"{field}." != typed))


def _endings(*_: object) -> Iterable[str]:
    from bmhctl.runner.task import OnExit

    return OnExit


def _kinds(*_: object) -> Iterable[str]:
    from bmhctl.formats.importers.kinds import WORDS

    return WORDS


def _actions(ctx: typer.Context, typed: str) -> Iterable[str]:
    """Return the actions of ``power`` once a host is given, because the last argument may be one."""
    return _in_case_of(typed, Power) if ctx.params.get("hosts") else ()


def _fields(ctx: typer.Context, typed: str) -> Iterator[str]:
    """Yield a typed list of fields with one more field of the command's records."""
    done, comma, _ = typed.rpartition(",")
    chosen = done.split(",")
    kind = _result_of(ctx)
    names = () if kind is None else view_of(kind).fields
    return (f"{done}{comma}{name}" for name in names if name not in chosen)


def _formats(ctx: typer.Context, _: str) -> Iterable[str]:
    """Return the output formats that the command has."""
    from bmhctl.formats.exporters.table import FORMATS

    return FORMATS if ctx.info_name == "export" else view_of(_result_of(ctx) or Outcomes).formats


WORDS: Mapping[str, Callable[[typer.Context, str], Iterable[str]]] = {
    "boot-once --from": lambda *_: BootTarget,
    "help topic": _topics,
    "history --verb": lambda *_: (*Verb, *EventKind),
    "import --from": _kinds,
    "list --sort": _sort_keys,
    "power --then": lambda *_: ("off",),
    "power --to": lambda *_: Power,
    "power hosts": _actions,
    "run --on-exit": _endings,
    "stats --by": _groups,
    "stats --sort": _figures,
    "--fields": _fields,
    "--output": _formats,
    "--tls-min-version": lambda *_: TLS_VERSIONS,
}
"""The words for an argument or option of a command, or of any command, from the command and what is typed."""


def _in_case_of(typed: str, words: Iterable[str]) -> Iterator[str]:
    """Yield words that do not depend on case in the case of what is typed, because others do not continue it."""
    begins = typed.lower()
    return (typed + word[len(begins) :] for word in words if word.startswith(begins))


def _hosts(store: Store, ctx: typer.Context, typed: str) -> Iterator[str]:
    """Yield the names of the hosts that fit the command."""
    fitting = _FITTING.get(ctx.info_name)
    return _in_case_of(typed, fitting(store) if fitting else store.hosts.names())


def _resumable(store: Store) -> Iterator[str]:
    yield from store.hosts.names(HostQuery(states=frozenset((State.MAINTENANCE,))))
    yield from (host.name for host in store.hosts.held() if host.cordon is not None and host.cordon.maintains)


_FITTING: dict[str | None, Callable[[Store], Iterable[str]]] = {
    **dict.fromkeys(("release", "extend", "replace"), lambda store: (host.name for host in store.hosts.held())),
    "add": lambda _: (),
    "resume": _resumable,
    "uncordon": lambda store: (host.name for host in store.hosts.find() if host.cordon is not None),
}
"""The hosts that are offered for these commands; for every other command, these are all hosts."""


def _reservations(store: Store, *_: object) -> Iterator[Candidate]:
    """Yield the open reservations, each with its owner and purpose."""
    return ((held.id, f"{held.owner} {held.purpose or ''}".strip()) for held in store.reservations.open())


def _owners(store: Store, *_: object) -> Iterator[str]:
    for reservation in store.reservations.open():
        yield from (reservation.owner, *reservation.shared_with)
    yield from (booking.owner for booking in store.bookings.open())


def _actors(store: Store, *_: object) -> Iterator[str]:
    return (event.actor for event in store.events.read(last=_SAMPLE))


def _changes(store: Store, *_: object) -> Iterator[Candidate]:
    """Yield the latest changes that ``undo`` may take back: the id of an event, and what was done to which hosts."""
    upto: int | None = None
    for _number in range(_CHANGES):
        found = [event for _host, event in store.events.change(upto)]
        if not found:
            return
        upto = found[0].id - 1
        hosts = folded_within([event.host for event in found], _ROOM)
        yield str(found[-1].id), f"{found[0].verb} {hosts} {found[0].actor} {local_time(found[0].at)}"


def _specs(store: Store) -> Iterator[HostSpec]:
    return (host.spec for host in store.hosts.find(HostQuery(limit=_SAMPLE)))


def _keys(store: Store, *_: object) -> Iterator[str]:
    return (key for spec in _specs(store) for key in selectable(spec))


def _group_keys(store: Store, *_: object) -> Iterator[str]:
    yield from (f"label:{key}" for key in _keys(store))
    yield from (f"tag:{key}" for reservation in store.reservations.open() for key in reservation.tags)


def _labels(store: Store, _: typer.Context, typed: str) -> Iterator[str]:
    return _pairs(typed, (pair for spec in _specs(store) for pair in spec.labels.items()))


def _properties(store: Store, _: typer.Context, typed: str) -> Iterator[str]:
    return _pairs(typed, ((key, str(value)) for spec in _specs(store) for key, value in spec.properties.items()))


def _tags(store: Store, _: typer.Context, typed: str) -> Iterator[str]:
    return _pairs(typed, (pair for held in store.reservations.open() for pair in held.tags.items()))


def _parameters(store: Store, _: typer.Context, typed: str) -> Iterator[str]:
    declared = (param for step in store.policy().of(Phase.PREPARE) for param in step.params)
    return _pairs(typed, ((param.name, param.default or "") for param in declared))


def _pairs(typed: str, known: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each key with ``=``; after ``=``, each value of the key that is typed."""
    name, equals, _ = typed.partition("=")
    if not equals:
        return (f"{key}=" for key, _ in known)
    return (f"{key}={value}" for key, value in known if key == name and value)


def _selectors(store: Store, ctx: typer.Context, typed: str) -> Iterator[str]:
    """Yield completions of a partly typed selector: its last term gets a known key, or after ``=`` a known value.

    The known keys and values are those of hosts; for commands that select by tags, also those of open reservations.
    """
    done, comma, term = typed.rpartition(",")
    known: dict[str, set[str]] = {}
    for attributes in _selectable(store, ctx.info_name):
        for key, value in attributes.items():
            known.setdefault(key, set()).add(value)
    for sign in ("!=", "="):
        key, found, _ = term.partition(sign)
        if found:
            yield from (f"{done}{comma}{key}{sign}{value}" for value in sorted(known.get(key, ())))
            return
    absent = "!" if term.startswith("!") else ""
    ends = "" if absent else "="
    yield from (f"{done}{comma}{absent}{key}{ends}" for key in sorted(known))


def _selectable(store: Store, command: str | None) -> Iterator[Mapping[str, str]]:
    if command in ("reservations", "release"):
        yield from (reservation.tags for reservation in store.reservations.open())
    if command != "reservations":
        yield from map(selectable, _specs(store))


def _tickets(store: Store, *_: object) -> Iterator[Candidate]:
    """Yield the tickets, each with who waits for what."""
    for ticket in store.tickets.all():
        requirements = describe_requirements(load_requirements(ticket.requirements))
        yield str(ticket.id), " ".join(filter(None, (ticket.owner, requirements, ticket.purpose)))


def _bookings(store: Store, ctx: typer.Context, _: str) -> Iterator[Candidate]:
    """Yield the bookings, and for ``cancel`` also planned maintenances, each with its owner, beginning and purpose."""
    for booking in store.bookings.open():
        if ctx.info_name == "cancel" or not booking.is_maintenance:
            yield booking.id, " ".join(filter(None, (booking.owner, local_time(booking.starts_at), booking.purpose)))


def _keys_of_fields(store: Store, ctx: typer.Context, typed: str) -> Iterator[str]:
    """Yield a typed list of fields that ends with a field and a dot, with a key of this field after it."""
    field, dot, key = typed.rpartition(",")[2].partition(".")
    kind = _result_of(ctx)
    objects = {} if kind is None else view_of(kind).objects
    if dot and field in objects:
        head = typed.removesuffix(key)
        yield from (f"{head}{each}" for each in objects[field] or sorted({*_stored_keys(store, ctx.info_name, field)}))


def _stored_keys(store: Store, command: str | None, field: str) -> Iterator[str]:
    items: Iterable[object]
    match command:
        case "reservations":
            items = store.reservations.open()
        case "queue":
            items = store.tickets.all()
        case _:
            items = _specs(store)
    for item in items:
        yield from getattr(item, field, ())


def _steps(store: Store, *_: object) -> Iterator[str]:
    """Yield the names of the setup steps and checks of the policy."""
    return (step.name for step in store.policy().of(Phase.SETUP, Phase.CHECKS))


STORED: Mapping[str, Callable[[Store, typer.Context, str], Iterable[Candidate]]] = {
    **dict.fromkeys(("hosts", "host", "old", "--host"), _hosts),
    **dict.fromkeys(("which", "--reservation"), _reservations),
    **dict.fromkeys(("booking", "--booking"), _bookings),
    **dict.fromkeys(("ticket", "--before"), _tickets),
    **dict.fromkeys(("--selector", "--want"), _selectors),
    **dict.fromkeys(("check --check", "ready --override"), _steps),
    **dict.fromkeys(("--owner", "handover --to", "share --with", "share --without"), _owners),
    "history --actor": _actors,
    "list --sort": _keys_of_fields,
    "stats --by": _group_keys,
    "status --by": _keys,
    "undo --event": _changes,
    "--fields": _keys_of_fields,
    "--hardware": _properties,
    "--label": _labels,
    "--param": _parameters,
    "--tag": _tags,
}
"""What an inventory has for an argument or option, from the store, the command and what is typed."""
