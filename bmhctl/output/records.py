"""Hosts, reservations, events and outcomes as JSON records, and records as cells of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from bmhctl.domain.model import (
    Bmc,
    CheckResult,
    Event,
    Host,
    Note,
    Planned,
    SetupProgress,
    State,
    StepTiming,
)
from bmhctl.errors import BmhctlError, UsageError, nearest
from bmhctl.results import Held, Outcome
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.results.why import VerbAnswer

VERSION = 1
"""The version of all documents; it changes when a key is removed or gets another meaning."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
"""The values that a JSON document may contain."""

Record = dict[str, Json]

_Item = TypeVar("_Item")
Fields = Mapping[str, Callable[[_Item, datetime], Json]]
"""The fields of a record, each with the function that returns its value for an item at a moment."""

Objects = Mapping[str, tuple[str, ...]]
"""The fields of a record whose values are objects, each with the keys of its object; ``()`` if it may have any."""


def record_of(item: _Item, fields: Fields[_Item], now: datetime) -> Record:
    """Return the record of an item."""
    return {name: value(item, now) for name, value in fields.items()}


def attributes(*names: str, of: str = "") -> Fields[Any]:
    """Return fields whose values are attributes of the item, or of its attribute ``of``, in the form for JSON."""
    return {name: _attribute(f"{of}.{name}" if of else name) for name in names}


def _attribute(path: str) -> Callable[[object, datetime], Json]:
    get = attrgetter(path)
    return lambda item, _: jsonable(get(item))


def attributes_record(value: object, names: Iterable[str]) -> Record:
    """Return some attributes of a value, in the form for JSON."""
    return {name: jsonable(getattr(value, name)) for name in names}


_MARK_KEYS = ("actor", "reason", "since", "until", "quarantine")
_SETUP_KEYS = ("done", "of", "failed")


def _mark(mark: Note | None) -> Json:
    return None if mark is None else attributes_record(mark, _MARK_KEYS)


def _bmc(bmc: Bmc | None) -> Json:
    return None if bmc is None else {name: getattr(bmc, name) for name in Bmc.__match_args__}


def flags(host: Host) -> list[str]:
    """Return the flags of a host, such as ``cordoned``; ``dirty`` is left out if the state implies it."""
    words = []
    if host.cordon:
        words.append(host.cordon.flag)
    if host.undeclared:
        words.append("undeclared")
    if host.dirty and host.state not in (State.RESERVED, State.TAINTED):
        words.append("dirty")
    if host.fault:
        words.append("fault")
    if host.planned:
        words.append("booked" if host.planned[0].is_booking else "planned")
    if host.setup:
        words.append(f"setup {host.setup.done}/{host.setup.total}")
    return words


def reasons(host: Host, failed: Iterable[CheckResult] = ()) -> Iterator[str]:
    """Yield why a host is not free, the worst reason first; nothing if it is free, or is only reserved.

    ``failed`` are the results of the steps that keep it from being free.
    """
    if host.fault:
        yield host.fault
    for note in host.maintenance:
        yield note.reason + (f" (until {note.until:%Y-%m-%d %H:%M}Z)" if note.until else "")
    failed = [*failed]
    yield from (result.failure for result in failed)
    if host.setup and host.setup.failed and host.setup.failed not in (result.step for result in failed):
        yield f"setup step failed: {host.setup.failed}"
    if host.cordon:
        yield host.cordon.reason or f"cordoned by {host.cordon.actor}"
    if host.undeclared:
        yield "no longer declared"


FIELDS = (
    *("name", "state", "flags", "since", "owner", "purpose", "reservation", "until", "address", "mac", "labels"),
    *("hardware", "bmc", "note", "dirty", "cordoned", "cordon", "undeclared", "fault", "maintenance", "came_from"),
    *("failed_cleanups", "used_at", "proven_at", "setup", "failed_setups", "failed_recycles", "failed_tasks"),
    *("planned", "observed", "reason"),
)
"""The fields of a host, for ``--fields``, JSON and CSV, in this order; the page ``output`` explains them."""

OBJECTS: Objects = {
    "labels": (),
    "hardware": (),
    "bmc": Bmc.__match_args__,
    "cordon": _MARK_KEYS,
    "setup": _SETUP_KEYS,
    "observed": (),
}
"""The fields of a host that are objects."""


def check_fields(fields: Iterable[str], known: tuple[str, ...], objects: Objects) -> None:
    """Raise :class:`UsageError` for an unknown field, with the nearest one and all known ones.

    A field of ``objects`` may have one of its keys after a dot, such as ``labels.rack``.
    """
    for name in fields:
        field, _, key = name.partition(".")
        if name in known or (key and field in objects and (key in objects[field] or not objects[field])):
            continue
        with_key = (f"{each}.{one}" for each, keys in objects.items() for one in keys or filter(None, (key,)))
        near = nearest(name, (*known, *with_key))
        hint = f"did you mean {near}? " if near else ""
        one_key = f"; one key: {', '.join(f'{each}.KEY' for each in objects)}" if objects else ""
        raise UsageError(
            f"there is no field {name!r}",
            hint=f"{hint}known: {', '.join(known)}{one_key}",
            details={"field": name, "known": list(known)},
        )


def host_record(host: Host, failed: Iterable[CheckResult] = ()) -> Record:
    """Return one host with all its :data:`FIELDS`; ``failed`` are the results of steps that keep it from being free."""
    # Written as one literal, because this runs once for each host of a listing.
    spec, held = host.spec, host.reservation
    return {
        "name": spec.name,
        "state": host.state.value,
        "flags": [*flags(host)],
        "since": iso(host.since),
        "owner": held.owner if held else None,
        "purpose": held.purpose if held else None,
        "reservation": held.id if held else None,
        "until": iso(held.expires_at) if held and held.expires_at else None,
        "address": spec.address,
        "mac": spec.mac,
        "labels": dict(spec.labels),
        "hardware": dict(spec.hardware),
        "bmc": _bmc(spec.bmc),
        "note": spec.note,
        "dirty": host.dirty,
        "cordoned": host.cordon is not None,
        "cordon": _mark(host.cordon),
        "undeclared": host.undeclared,
        "fault": host.fault,
        "maintenance": [_mark(mark) for mark in host.maintenance],
        "came_from": host.came_from and host.came_from.value,
        "failed_cleanups": host.failed_cleanups,
        "used_at": iso(host.used_at) if host.used_at else None,
        "proven_at": iso(host.proven_at) if host.proven_at else None,
        "setup": _setup(host.setup),
        "failed_setups": host.failed_setups,
        "failed_recycles": host.failed_recycles,
        "failed_tasks": [{"owner": task.owner, "purpose": task.purpose} for task in host.failed_tasks],
        "planned": [planned_record(each) for each in host.planned],
        "observed": dict(spec.observed),
        "reason": "; ".join(reasons(host, failed)) or None,
    }


def planned_record(planned: Planned) -> Record:
    """Return a time that is set aside on a host."""
    return attributes_record(planned, ("id", "owner", "starts_at", "ends_at"))


def _setup(setup: SetupProgress | None) -> Record | None:
    return None if setup is None else dict(zip(_SETUP_KEYS, (setup.done, setup.total, setup.failed), strict=True))


RESERVATION_FIELDS = (
    *("id", "owner", "purpose", "created_at", "expires_at", "ttl", "ended_at", "end_reason", "params", "prepared_at"),
    *("hosts", "asked_at", "tags", "shared_with"),
)
"""The fields of a reservation in JSON; ``ttl`` is in seconds."""

RESERVATION_OBJECTS: Objects = {"params": (), "tags": ()}
"""The fields of a reservation that are objects."""


def held_record(held: Held) -> Record:
    """Return a reservation with the names of its hosts: those that it holds, or that it held if it has ended."""
    names = [host.spec.name for host in held.hosts] if held.reservation.ended_at is None else held.had
    record = attributes_record(held.reservation, (name for name in RESERVATION_FIELDS if name != "hosts"))
    return {name: [*names] if name == "hosts" else record[name] for name in RESERVATION_FIELDS}


STEP_FIELDS = ("step", "verdict", "detail", "seconds", "at", "phase")
_TIMING = ("phase", "step", "verdict", "seconds")


def event_record(event: Event) -> Record:
    """Return one event; null as ``source`` or ``dest`` means outside the inventory, null as ``steps`` not known.

    ``before`` is what was declared before the event changed it; null means nothing, or not known.
    """
    declared = None if event.before is None else event.before.get("declared")
    return {
        "id": event.id,
        "at": iso(event.at),
        "host": event.host,
        "actor": event.actor,
        "verb": event.verb.value,
        "source": event.source and event.source.value,
        "dest": event.dest and event.dest.value,
        "reason": event.reason,
        "reservation": event.reservation,
        "steps": None if event.steps is None else [step_record(step, _TIMING) for step in event.steps],
        "before": declared if isinstance(declared, dict) else None,
    }


def step_record(step: CheckResult | StepTiming, names: Iterable[str] = STEP_FIELDS) -> Record:
    """Return one step; a ``phase`` of null was not recorded."""
    return attributes_record(step, names) | {"seconds": round(step.seconds, 3)}


def outcome_record(outcome: Outcome) -> Record:
    """Return the outcome for one host; ``code`` is ``done``, or the stable word for the failure."""
    error = outcome.error
    return {
        "host": outcome.host,
        "ok": error is None,
        "changed": outcome.changed,
        "code": error.code if error else "done",
        "status": int(error.status) if error else 0,
        "message": error.message if error else outcome.message,
        "hint": error.hint if error else None,
        "source": outcome.source and outcome.source.value,
        "state": outcome.state and outcome.state.value,
        "reservation": outcome.reservation,
        "steps": [step_record(step) for step in outcome.steps],
    }


def answer_record(answer: VerbAnswer) -> Record:
    """Return the record of one verb: ``open`` is whether it is possible, null when steps have to run first."""
    return attributes_record(answer, ("verb", "open", "dest", "words", "command"))


def error_document(error: BmhctlError) -> Record:
    """Return the object for stderr in JSON mode; its ``code`` is a stable word."""
    names = ("code", "status", "message", "host", "hint", "details")
    return {"version": VERSION, "error": attributes_record(error, names)}


class Envelope(Frozen):
    """A JSON document: its head, and its records under ``key`` (None: it has no list)."""

    head: Record
    key: str | None = None
    records: Iterable[Record] = ()


def iso(at: datetime) -> str:
    """Return a time for machines and pipes: ISO 8601 in UTC with whole seconds, ``2026-11-23T08:09:16Z``."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    return f"{at.date().isoformat()}T{at.time().isoformat('seconds')}Z"  # in a third of the time of strftime


def flatten(value: Json) -> str:
    """Return a JSON value as one cell: ``yes``/``no``, ``k=v`` pairs and lists with commas, "" for null."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ",".join(f"{key}={flatten(each)}" for key, each in value.items() if each is not None)
        case list():
            return ",".join(flatten(each) for each in value)
    return str(value)


def jsonable(value: object) -> Json:
    """Return any value for JSON: times in ISO 8601, durations in seconds, enums by value, other types as text."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str.__str__(value)
        case datetime():
            return iso(value)
        case timedelta():
            return int(value.total_seconds())
        case Mapping():
            return {str(key): jsonable(each) for key, each in value.items()}
        case Iterable():
            return [jsonable(each) for each in value]
    return str(value)


def document(kind: str, head: Record, key: str | None = None, records: Iterable[Record] = ()) -> Envelope:
    """Return a document of a kind, with a list of records under its last ``key`` (None: without a list)."""
    return Envelope({"version": VERSION, "kind": kind, **head}, key, records)


def picked(records: Iterable[Record], fields: tuple[str, ...] | None) -> Iterable[Record]:
    """Return the records with only some of their fields, or unchanged without ``fields``."""
    if not fields:
        return records
    getters = [(name, _getter(name)) for name in fields]
    return ({name: get(record) for name, get in getters} for record in records)


def cells(records: Iterable[Record], fields: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield each record as cells of text, in the order of ``fields``; for plain and CSV."""
    getters = [_getter(name) for name in fields]
    for record in records:
        yield [flatten(get(record)) for get in getters]


def _getter(field: str) -> Callable[[Record], Json]:
    return partial(_value_at, field) if "." in field else itemgetter(field)


def _value_at(path: str, value: Json) -> Json:
    """Return the value under keys that are joined by dots, null if there is none; a key may have dots, too."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    key, _, rest = path.partition(".")
    return _value_at(rest, value.get(key)) if rest else None
