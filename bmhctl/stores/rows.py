"""The model as rows and back: times as microseconds since 1970 in UTC, lists as JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TypeVar

from bmhctl.domain.model import Bmc, End, Event, EventKind, Host, HostSpec, Note, Reservation, State, Ticket, Verb
from bmhctl.errors import InvalidError

_T = TypeVar("_T")

Value = str | int | float | None
"""What a column holds."""

Row = Sequence[Value]
"""What a database returns for one row."""

SPEC_COLUMNS = ("name", "address", "mac", "labels", "bmc", "hardware", "note")
LIFECYCLE_COLUMNS = (
    "state",
    "since",
    "dirty",
    "undeclared",
    "came_from",
    "cordon",
    "maintenance",
    "fault",
    "failed_cleanups",
    "reservation",
    "used_at",
)
RESERVATION_COLUMNS = (
    "id",
    "owner",
    "purpose",
    "created_at",
    "expires_at",
    "ttl",
    "ended_at",
    "end_reason",
    "ended_how",
    "wants",
    "request_id",
    "renewed_at",
)
TICKET_COLUMNS = (
    "id",
    "owner",
    "wants",
    "created_at",
    "refreshed_at",
    "purpose",
    "ttl",
    "endless",
    "deadline",
    "request_id",
)
EVENT_COLUMNS = ("id", "host", "at", "actor", "verb", "source", "dest", "reason", "reservation")

_HOST_COLUMNS = f"hosts.id, hosts.last_event, {', '.join(f'hosts.{c}' for c in SPEC_COLUMNS + LIFECYCLE_COLUMNS)}"

HOST_SELECT = (
    f"SELECT {_HOST_COLUMNS}, {', '.join(f'r.{c}' for c in RESERVATION_COLUMNS)} "
    "FROM hosts LEFT JOIN reservations r ON r.id = hosts.reservation"
)
"""Reads hosts with their reservations, as :func:`to_host` wants them."""

FREE_SELECT = f"SELECT {_HOST_COLUMNS}, NULL FROM hosts"
"""Reads hosts that no reservation holds, as :func:`to_host` wants them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_time(moment: datetime | None) -> int | None:
    """Microseconds since 1970 in UTC, exactly."""
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def to_time(value: Value) -> datetime | None:
    """The moment that :func:`from_time` wrote."""
    return None if value is None else to_moment(value)


def from_spec(spec: HostSpec) -> list[Value]:
    """The values of :data:`SPEC_COLUMNS`."""
    bmc = spec.bmc
    return [
        spec.name,
        spec.address,
        spec.mac,
        _json(dict(spec.labels)),
        None if bmc is None else _json(_from_bmc(bmc)),
        _json(dict(spec.hardware)),
        spec.note,
    ]


def _from_bmc(bmc: Bmc) -> list[object]:
    """The fields of a BMC; a setting that few have is written only where it is set, so that rows stay as they were."""
    values: list[object] = [bmc.address, bmc.type, bmc.system_id, bmc.credentials, bmc.verify_tls]
    return values if bmc.tls_min_version is None else [*values, bmc.tls_min_version]


def from_lifecycle(host: Host) -> list[Value]:
    """The values of :data:`LIFECYCLE_COLUMNS`."""
    return [
        host.state.value,
        from_time(host.since),
        int(host.dirty),
        int(host.undeclared),
        None if host.came_from is None else host.came_from.value,
        None if host.cordon is None else _json(_from_mark(host.cordon)),
        _json([_from_mark(mark) for mark in host.maintenance]) if host.maintenance else None,
        host.fault,
        host.failed_cleanups,
        None if host.reservation is None else host.reservation.id,
        from_time(host.used_at),
    ]


def back_at(host: Host) -> int | None:
    """When a host in maintenance shall be back: the last of the times that its reasons name."""
    return from_time(max((mark.until for mark in host.maintenance if mark.until), default=None))


def from_reservation(reservation: Reservation) -> list[Value]:
    """The values of :data:`RESERVATION_COLUMNS`."""
    return [
        reservation.id,
        reservation.owner,
        reservation.purpose,
        from_time(reservation.created_at),
        from_time(reservation.expires_at),
        None if reservation.ttl is None else reservation.ttl // _MICROSECOND,
        from_time(reservation.ended_at),
        reservation.end_reason,
        None if reservation.end is None else reservation.end.value,
        reservation.wants,
        reservation.request_id,
        from_time(reservation.renewed_at),
    ]


def from_ticket(ticket: Ticket) -> list[Value]:
    """The values of :data:`TICKET_COLUMNS`, without the id."""
    return [
        ticket.owner,
        ticket.wants,
        from_time(ticket.created_at),
        from_time(ticket.refreshed_at),
        ticket.purpose,
        None if ticket.ttl is None else ticket.ttl // _MICROSECOND,
        int(ticket.endless),
        from_time(ticket.deadline),
        ticket.request_id,
    ]


def from_event(event: Event) -> list[Value]:
    """The values of :data:`EVENT_COLUMNS`, without the id."""
    return [
        event.host,
        from_time(event.at),
        event.actor,
        event.verb.value,
        None if event.source is None else event.source.value,
        None if event.dest is None else event.dest.value,
        event.reason,
        event.reservation,
    ]


def _readable(kind: str, name: int) -> Callable[[Callable[[Row], _T]], Callable[[Row], _T]]:
    """Has a row that can't be read told by its name, which is in that column: somebody wrote it, but not bmhctl."""

    def decorate(make: Callable[[Row], _T]) -> Callable[[Row], _T]:
        @wraps(make)
        def read(row: Row) -> _T:
            try:
                return make(row)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise InvalidError(
                    f"the row of {kind} {row[name]!s:.80} can't be read",
                    hint="bmhctl doctor says what is wrong with it",
                ) from error

        return read

    return decorate


@_readable("host", 2)
def to_host(row: Row) -> Host:
    """A host from a row of :data:`HOST_SELECT`."""
    # One tuple assignment: this runs once for each host of a listing.
    (
        host_id,
        last_event,
        name,
        address,
        mac,
        labels,
        bmc,
        hardware,
        note,
        state,
        since,
        dirty,
        undeclared,
        came_from,
        cordon,
        maintenance,
        fault,
        failed_cleanups,
        _,
        used_at,
        *reservation,
    ) = row
    return Host(
        _spec(name, address, mac, labels, bmc, hardware, note),
        _STATES[state],
        to_moment(since),
        bool(dirty),
        bool(undeclared),
        None if came_from is None else _STATES[came_from],
        None if cordon is None else _to_mark(_from_json(str(cordon))),
        () if maintenance is None else tuple(_to_mark(mark) for mark in _from_json(str(maintenance))),
        _text(fault),
        int(failed_cleanups or 0),
        None if reservation[0] is None else to_reservation(reservation),
        to_time(used_at),
        int(host_id or 0),
        int(last_event or 0),
    )


@_readable("host", 0)
def to_spec(row: Row) -> HostSpec:
    """A spec from the values of :data:`SPEC_COLUMNS`."""
    return _spec(*row)


def _spec(name: Value, address: Value, mac: Value, labels: Value, bmc: Value, hardware: Value, note: Value) -> HostSpec:
    # All three at once, and as they are written, without spaces around them: what the decoder does around each text
    # takes as long as the text.
    text = f"[{labels},{'null' if bmc is None else bmc},{hardware}]"
    (worn, managed, facts), end = _raw_decode(text)
    if end != len(text):
        raise ValueError("something stands after the JSON")
    return HostSpec(
        str(name),
        _text(address),
        _text(mac),
        worn,
        None if managed is None else Bmc(*managed),
        facts,
        _text(note),
    )


@_readable("reservation", 0)
def to_reservation(row: Row) -> Reservation:
    """A reservation from the values of :data:`RESERVATION_COLUMNS`."""
    (
        identifier,
        owner,
        purpose,
        created_at,
        expires_at,
        ttl,
        ended_at,
        end_reason,
        end,
        wants,
        request_id,
        renewed_at,
    ) = row
    return Reservation(
        str(identifier),
        str(owner),
        _text(purpose),
        to_moment(created_at),
        to_time(expires_at),
        None if ttl is None else int(ttl) * _MICROSECOND,
        to_time(ended_at),
        _text(end_reason),
        None if end is None else End(str(end)),
        _text(wants),
        _text(request_id),
        to_time(renewed_at),
    )


@_readable("ticket", 0)
def to_ticket(row: Row) -> Ticket:
    """A ticket from the values of :data:`TICKET_COLUMNS`."""
    identifier, owner, wants, created_at, refreshed_at, purpose, ttl, endless, deadline, request_id = row
    return Ticket(
        id=int(identifier or 0),
        owner=str(owner),
        wants=str(wants),
        created_at=to_moment(created_at),
        refreshed_at=to_moment(refreshed_at),
        purpose=_text(purpose),
        ttl=None if ttl is None else int(ttl) * _MICROSECOND,
        endless=bool(endless),
        deadline=to_time(deadline),
        request_id=_text(request_id),
    )


@_readable("event", 0)
def to_event(row: Row) -> Event:
    """An event from the values of :data:`EVENT_COLUMNS`."""
    identifier, host, at, actor, verb, source, dest, reason, reservation = row
    return Event(
        id=int(identifier or 0),
        host=str(host),
        at=to_moment(at),
        actor=str(actor),
        verb=_VERBS[verb],
        source=None if source is None else _STATES[source],
        dest=None if dest is None else _STATES[dest],
        reason=_text(reason),
        reservation=_text(reservation),
    )


class _States(dict[Value, State]):
    def __missing__(self, value: Value) -> State:
        return State(str(value))  # which says what is wrong with it


_STATES = _States({state.value: state for state in State})
_VERBS: dict[Value, Verb | EventKind] = {member.value: member for kind in (Verb, EventKind) for member in kind}

_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
_from_json = json.JSONDecoder().decode
_raw_decode = json.JSONDecoder().raw_decode


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


def to_moment(value: Value) -> datetime:
    """The moment that :func:`from_time` wrote, where there must be one."""
    return _EPOCH + int(value or 0) * _MICROSECOND


def _from_mark(mark: Note) -> list[object]:
    return [mark.actor, mark.reason, from_time(mark.since), from_time(mark.until), mark.quarantine]


def _to_mark(value: Sequence[Value]) -> Note:
    actor, reason, since, until, quarantine = value
    return Note(str(actor), str(reason), to_moment(since), to_time(until), bool(quarantine))


def host_to_rows(host: Host) -> tuple[list[Value], list[Value] | None]:
    """A host and its reservation as plain values, for keeping a host that is not in the tables yet."""
    reservation = None if host.reservation is None else from_reservation(host.reservation)
    return [0, 0, *from_spec(host.spec), *from_lifecycle(host)], reservation


def rows_to_host(host: Row, reservation: Row | None) -> Host:
    """The host that :func:`host_to_rows` wrote, also that of an earlier version, which knew fewer columns."""
    held = list(reservation or ())
    return to_host([*host, *held, *[None] * (len(RESERVATION_COLUMNS) - len(held))])
