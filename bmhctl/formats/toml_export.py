"""A whole inventory as TOML, with its states: write it for ``export``, read it for ``import``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from bmhctl.domain.host_name import check_name
from bmhctl.domain.host_spec import dump_spec, parse_properties, parse_spec
from bmhctl.domain.model import FailedTask, Host, Note, Reservation, State
from bmhctl.domain.policy_parser import POLICY_KEYS, parse_policy
from bmhctl.domain.selector import is_label_key, is_label_value
from bmhctl.domain.tables import (
    Kind,
    check_keys,
    duration_or_none,
    flag,
    one_of,
    read_table,
    require_table,
    text,
    texts,
    type_error,
)
from bmhctl.domain.units import format_duration
from bmhctl.errors import InvalidError, brief
from bmhctl.formats.import_batch import FoundHost, Part
from bmhctl.formats.naming import NameTemplate
from bmhctl.support.toml_text import load
from bmhctl.support.values import replace

_VERSION = 1
_KEYS = ("export", *POLICY_KEYS, "hosts", "reservations")


def dump_parts(
    reservations: Iterable[Reservation], hosts: Iterable[Host], policy: str | None, now: datetime
) -> Iterator[str]:
    """Yield the hosts with everything that is known about each, their reservations, and the policy, as TOML.

    :func:`unpack_inventory` reads this text. Ids of hosts and events are left out, because each inventory has its own.
    The text comes in parts, so that only one part is in memory at a time.
    """
    import tomllib

    import tomli_w

    rules = tomllib.loads(policy or "")
    head = {"export": {"version": _VERSION, "at": now}, **{key: rules[key] for key in POLICY_KEYS if key in rules}}
    yield tomli_w.dumps(head)
    yield from _tables("reservations", ((each.id, _dump_reservation(each)) for each in reservations))
    yield from _tables(
        "hosts", ((host.name, {**dump_spec(host.spec), "lifecycle": _dump_lifecycle(host)}) for host in hosts)
    )


def _tables(name: str, entries: Iterable[tuple[str, Mapping[str, object]]]) -> Iterator[str]:
    import tomli_w

    is_empty = True
    for key, entry in entries:
        is_empty = False
        yield "\n" + tomli_w.dumps({name: {key: entry}})
    if is_empty:
        yield "\n" + tomli_w.dumps({name: {}})


def _dump_lifecycle(host: Host) -> dict[str, object]:
    return {"state": host.state.value, "since": host.since} | _set(
        dirty=host.dirty or None,
        undeclared=host.undeclared or None,
        came_from=host.came_from.value if host.came_from else None,
        reservation=host.reservation.id if host.reservation else None,
        fault=host.fault,
        failed_cleanups=host.failed_cleanups or None,
        failed_tasks=[_set(owner=task.owner, purpose=task.purpose) for task in host.failed_tasks] or None,
        used_at=host.used_at,
        proven_at=host.proven_at,
        failed_setups=host.failed_setups or None,
        failed_recycles=host.failed_recycles,
        cordon=_dump_mark(host.cordon) if host.cordon else None,
        maintenance=[_dump_mark(mark) for mark in host.maintenance] or None,
        observed=dict(host.spec.observed) or None,
    )


def _dump_mark(mark: Note) -> dict[str, object]:
    """Return the keys that :data:`_MARK` reads, without flags that are not set."""
    values = {key: getattr(mark, key) for key in _MARK}
    return _set(**{key: None if value is False else value for key, value in values.items()})


def _dump_reservation(reservation: Reservation) -> dict[str, object]:
    return _set(
        owner=reservation.owner,
        purpose=reservation.purpose,
        created_at=reservation.created_at,
        expires_at=reservation.expires_at,
        ttl="none" if reservation.ttl is None else format_duration(reservation.ttl),
        asked_at=reservation.asked_at,
        tags=dict(reservation.tags) or None,
        shared_with=[*reservation.shared_with] or None,
    )


def _set(**entry: object) -> dict[str, object]:
    return {key: value for key, value in entry.items() if value is not None}


def unpack_inventory(text: str, origin: str, now: datetime, names: NameTemplate | None = None) -> Part:
    """Return the contents of a text of :func:`dump_parts`, or of any TOML inventory.

    A host without a lifecycle starts at initial. ``names`` makes the hosts' names. Conflicts with other texts are not
    checked here. Raises :class:`InvalidError` that begins with ``origin``, also for a state that the lifecycle does not
    allow, such as available but dirty.
    """
    import tomli_w

    document = load(text, origin)
    try:
        check_keys(document, _KEYS, "")
        _check_export(document)
        parse_policy(document)
        reservations = {
            key: _reservation(key, entry)
            for key, entry in require_table(document.get("reservations", {}), "reservations").items()
        }
        hosts = tuple(
            found_host(
                check_name(name), require_table(entry, f"hosts.{check_name(name)}"), reservations, origin, now, names
            )
            for name, entry in require_table(document.get("hosts", {}), "hosts").items()
        )
        rules = {key: document[key] for key in POLICY_KEYS if key in document}
        looks_like = None if document else "an empty file"
        return Part(hosts, policy=tomli_w.dumps(rules) if rules else None, looks_like=looks_like)
    except InvalidError as error:
        details = {"file": origin, "field": error.details.get("key") or error.details.get("field", "")}
        raise InvalidError(f"{origin}: {error.message}", hint=error.hint, details=details) from error


def _check_export(document: Mapping[str, object]) -> None:
    export = require_table(document.get("export", {}), "export")
    check_keys(export, ("version", "at"), "export")
    version = export.get("version", _VERSION)
    if version != _VERSION or isinstance(version, bool):
        raise InvalidError(
            f"export.version is {brief(version)}, and this bmhctl reads version {_VERSION}",
            hint="update bmhctl",
            details={"key": "export.version"},
        )


def found_host(
    name: str,
    entry: Mapping[str, object],
    reservations: Mapping[str, Reservation],
    origin: str,
    now: datetime,
    names: NameTemplate | None = None,
) -> FoundHost:
    """Return the host in a table of :func:`dump_parts`; without a lifecycle, it starts at initial.

    Raises :class:`InvalidError` that has ``key`` in its details.
    """
    place = f"{origin}, hosts.{name}"
    spec = parse_spec(name, {key: value for key, value in entry.items() if key != "lifecycle"})
    if names is not None:
        spec = replace(spec, name=names.fill(name, spec.labels, spec.labels.get("namespace")))
    if "lifecycle" not in entry:
        return FoundHost(Host(spec, State.INITIAL, since=now), None, place)
    where = f"hosts.{name}.lifecycle"
    life = _read(entry["lifecycle"], LIFECYCLE, where, "state", "since")
    holder, observed = life.pop("reservation", None), life.pop("observed", {})
    if holder is not None and holder not in reservations:
        raise _invalid(f"{where}.reservation", f"there is no [reservations.{holder}]")
    held = None if holder is None else reservations[holder]
    host = Host(replace(spec, observed=observed), reservation=held, **life)
    _check(host, where)
    return FoundHost(host, host.state.value, place)


def _check(host: Host, where: str) -> None:
    """Raise an error for a host that breaks the invariants of the lifecycle, above all a used host marked as clean."""
    if host.came_from is not None and (host.state is not State.MAINTENANCE or host.came_from is State.MAINTENANCE):
        raise _invalid(f"{where}.came_from", "is the state before maintenance, so only a host in maintenance has it")
    if host.reservation is not None and host.state not in (State.RESERVED, State.MAINTENANCE):
        raise _invalid(f"{where}.reservation", f"a host that is {host.state} has none")
    if host.reservation is None and host.state is State.RESERVED:
        raise _invalid(f"{where}.reservation", "a reserved host needs one")
    if host.failed_recycles is not None and host.state is not State.INITIAL:
        raise _invalid(f"{where}.failed_recycles", "only an initial host has it")
    if not host.dirty and (host.reservation is not None or host.state is State.TAINTED):
        raise _invalid(f"{where}.dirty", f"a host that is {'reserved' if host.reservation else 'tainted'} is dirty")
    if host.dirty and host.state in (State.INITIAL, State.AVAILABLE):
        raise _invalid(f"{where}.dirty", f"a dirty host can't be {host.state}")


def _reservation(key: str, value: object) -> Reservation:
    entry = _read(value, _RESERVATION, f"reservations.{key}", "owner", "created_at", "ttl")
    return Reservation(key, **{"purpose": None, "expires_at": None, **entry})


def _tags(value: object, where: str) -> dict[str, str]:
    tags = require_table(value, where)
    for key, tag in tags.items():
        if not is_label_key(key) or not isinstance(tag, str) or not is_label_value(tag):
            raise type_error(f"{where}.{key}", "a tag, written as a label is", tag)
    return {key: str(tag) for key, tag in tags.items()}


def _each(kind: Kind) -> Kind:
    def read(value: object, where: str) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise type_error(where, "a list of tables", value)
        return tuple(kind(entry, f"{where}[{number}]") for number, entry in enumerate(value))

    return read


def _failed_task(value: object, where: str) -> FailedTask:
    return FailedTask(**_read(value, {"owner": text, "purpose": text}, where, "owner"))


def _mark(value: object, where: str) -> Note:
    return Note(**_read(value, _MARK, where, "actor", "reason", "since"))


def _state(value: object, where: str) -> State:
    return State(one_of(*State)(value, where))


def _time(value: object, where: str) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise type_error(where, "a date and time with its offset, such as 2026-01-31T12:00:00Z", str(value))
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise type_error(where, "a date and time of the years 1 to 9999", str(value)) from None


def _count(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise type_error(where, "a whole number from 0", value)
    return value


_MARK: dict[str, Kind] = {
    "actor": text,
    "reason": text,
    "since": _time,
    "until": _time,
    "quarantine": flag,
    "retires": flag,
    "maintains": flag,
}
LIFECYCLE: dict[str, Kind] = {
    "state": _state,
    "since": _time,
    "dirty": flag,
    "undeclared": flag,
    "came_from": _state,
    "cordon": _mark,
    "maintenance": _each(_mark),
    "fault": text,
    "failed_cleanups": _count,
    "failed_setups": _count,
    "failed_recycles": _count,
    "proven_at": _time,
    "failed_tasks": _each(_failed_task),
    "used_at": _time,
    "reservation": text,
    "observed": parse_properties,
}
"""The keys of a host's lifecycle."""

_RESERVATION: dict[str, Kind] = {
    "owner": text,
    "purpose": text,
    "created_at": _time,
    "expires_at": _time,
    "ttl": duration_or_none,
    "asked_at": _time,
    "tags": _tags,
    "shared_with": texts("a list of owners", bool),
}


def _read(value: object, kinds: Mapping[str, Kind], where: str, *needed: str) -> dict[str, Any]:
    """Return the values of a table; raise :class:`InvalidError` if a required key is missing."""
    entry = read_table(value, kinds, where)
    for key in needed:
        if key not in entry:
            raise _invalid(f"{where}.{key}", "is missing")
    return entry


def _invalid(where: str, said: str) -> InvalidError:
    return InvalidError(f"{where}: {said}", details={"key": where})
