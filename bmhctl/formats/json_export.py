"""Read hosts with their states from the JSON and JSON lines that ``export`` and ``list`` write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from bmhctl.domain.host_name import check_name
from bmhctl.domain.host_spec import SPEC_KEYS
from bmhctl.domain.model import Reservation
from bmhctl.domain.tables import check_keys, optional_text, require_table
from bmhctl.errors import InvalidError
from bmhctl.formats.import_batch import FoundHost, Part
from bmhctl.formats.naming import NameTemplate
from bmhctl.formats.toml_export import LIFECYCLE, found_host

_VERSION = 1
_MARKS = ("cordon", "maintenance", "failed_tasks")
_NEWER = (
    "failed_setups",
    "failed_recycles",
    "proven_at",
    "setup",
    "failed_tasks",
    "reason",
    "observed",
    "planned",
)  # keys that an older bmhctl did not write
_OTHER = ("name", "flags", "owner", "purpose", "until", "cordoned", "setup", "reason", "planned")
_KEYS = (*_OTHER, *SPEC_KEYS, *LIFECYCLE)
_TIMES = ("since", "used_at", "proven_at", "until")


def records_of(document: object) -> list[object] | None:
    """Return the records of hosts in a JSON document that bmhctl wrote; None if it is another document.

    A line of ``-o jsonl`` is also such a document.
    """
    if not isinstance(document, dict) or "apiVersion" in document:  # a manifest, as most documents are
        return None
    match document:
        case {"version": int(), "kind": "hosts", "hosts": list(hosts)}:
            return hosts
        case {"version": int(), "kind": "host", "host": dict(host)}:
            return [host]
        case {"name": str(), "state": str(), "flags": list()}:
            return [document]
    return None


def unpack_records(document: object, origin: str, now: datetime, names: NameTemplate | None = None) -> Part:
    """Return the hosts of a document that bmhctl wrote, see :func:`records_of`.

    Raises :class:`InvalidError` that begins with ``origin``.
    """
    try:
        if isinstance(document, dict) and document.get("version", _VERSION) != _VERSION:
            raise InvalidError(
                f"it has version {document['version']}, and this bmhctl reads version {_VERSION}", hint="update bmhctl"
            )
        records = [_record(record, number) for number, record in enumerate(records_of(document) or ())]
        reservations = _reservations(records)
        hosts = tuple(_host(record, reservations, origin, now, names) for record in records)
        return Part(hosts, planned=frozenset(each for record in records for each in _planned(record)))
    except InvalidError as error:
        details = {"file": origin, "field": error.details.get("key") or error.details.get("field", "")}
        raise InvalidError(f"{origin}: {error.message}", hint=error.hint, details=details) from error


def _record(value: object, number: int) -> Mapping[str, object]:
    where = f"hosts[{number}]"
    record = require_table(value, where)
    check_keys(record, _KEYS, where)
    missing = [key for key in _KEYS if key not in record and key not in _NEWER]
    if missing:
        raise InvalidError(
            f"{where}: {', '.join(missing[:3])} {'is' if len(missing) == 1 else 'are'} missing",
            hint="write it again without --fields: a host's state needs all fields",
            details={"key": where},
        )
    return {key: value for key, value in record.items() if value is not None}


def _reservations(records: Iterable[Mapping[str, object]]) -> dict[str, Reservation]:
    reservations: dict[str, Reservation] = {}
    for record in records:
        key = optional_text(record, "reservation", "hosts")
        if key is None or key in reservations:
            continue
        made, ends = (_read(name, record.get(name)) for name in ("used_at", "until"))
        made = made if isinstance(made, datetime) else _read("since", record.get("since"))
        where = f"hosts.{record['name']}"
        owner = optional_text(record, "owner", where)
        if owner is None or not isinstance(made, datetime) or not isinstance(ends, datetime | None):
            raise InvalidError(f"{where}: its reservation is not complete", details={"key": f"{where}.reservation"})
        ttl = None if ends is None else ends - made
        reservations[key] = Reservation(key, owner, optional_text(record, "purpose", where), made, ends, ttl)
    return reservations


def _host(
    record: Mapping[str, object],
    reservations: Mapping[str, Reservation],
    origin: str,
    now: datetime,
    names: NameTemplate | None,
) -> FoundHost:
    entry = {key: record[key] for key in SPEC_KEYS if key in record}
    if isinstance(bmc := entry.get("bmc"), dict):
        entry["bmc"] = {key: value for key, value in bmc.items() if value is not None}
    life = {key: _read(key, record[key]) for key in LIFECYCLE if key in record}
    return found_host(check_name(record["name"]), {**entry, "lifecycle": life}, reservations, origin, now, names)


def _planned(record: Mapping[str, object]) -> Iterator[str]:
    """Yield the ids of the bookings and planned maintenances of a host."""
    planned = record.get("planned")
    for each in planned if isinstance(planned, list) else ():
        if isinstance(each, dict) and isinstance(identifier := each.get("id"), str):
            yield identifier


def _read(key: str, value: object) -> object:
    """Return the value of a key with its times; another text stays unchanged, and its reader refuses it."""
    match value:
        case list():
            return [_read(key, each) for each in value]
        case dict() if key in _MARKS:
            return {name: _read(name, each) for name, each in value.items() if each is not None}
        case str() if key in _TIMES:
            with suppress(ValueError):
                return datetime.fromisoformat(value)
    return value
