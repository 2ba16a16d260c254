"""The hosts of an inventory: find them, and save their state, each change together with one event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from bmhctl.domain.host_name import AS_STORED
from bmhctl.domain.model import (
    Bmc,
    End,
    Event,
    FailedTask,
    Host,
    HostSpec,
    Note,
    Planned,
    Reservation,
    SetupProgress,
    State,
    StepTiming,
)
from bmhctl.stores.rows import (
    EPOCH,
    MICROSECOND,
    UNREADABLE,
    Row,
    Value,
    from_json,
    from_time,
    number_in,
    to_json,
    to_moment,
    to_time,
    unreadable,
)
from bmhctl.stores.schema import EVENT_COLUMNS, LIFECYCLE_COLUMNS, RESERVATION_COLUMNS, SPEC_COLUMNS
from bmhctl.support.values import Frozen, replace

if TYPE_CHECKING:
    from bmhctl.stores.database import Database, Question
    from bmhctl.stores.host_query import HostQuery

_HOST_COLUMNS = f"hosts.id, hosts.last_event, {', '.join(f'hosts.{c}' for c in SPEC_COLUMNS + LIFECYCLE_COLUMNS)}"

HOST_SELECT = (
    f"SELECT {_HOST_COLUMNS}, {', '.join(f'r.{c}' for c in RESERVATION_COLUMNS)} "
    "FROM hosts LEFT JOIN reservations r ON r.id = hosts.reservation"
)
"""Selects hosts with their reservations, in the columns that :func:`to_host` reads."""

_FREE_SELECT = f"SELECT {_HOST_COLUMNS}, NULL FROM hosts"
_SAVE_LIFECYCLE = (
    f"UPDATE hosts SET {', '.join(f'{c} = ?' for c in LIFECYCLE_COLUMNS)}, "
    "back_at = ?, planned_at = ?, last_event = ? WHERE id = ?"
)
_ADD_EVENT = (
    f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}, host_id) VALUES ({', '.join('?' * (len(EVENT_COLUMNS) + 1))})"
)

_NO_TAGS: dict[str, str] = {}  # a shared value, since most reservations have no tags

_AT_ONCE = 500  # values in one statement: databases limit its parameters

_T = TypeVar("_T")


def in_parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values in batches, each small enough for the parameters of one statement."""
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


class Hosts(Frozen):
    """The hosts, each with the reservation that holds it."""

    _database: Database

    def named(self, name: str) -> Host | None:
        """Return the host with this name, in any case; None if there is none."""
        return self._one(" WHERE hosts.name = ?", name.translate(AS_STORED))

    def with_id(self, host_id: int, *, lock: bool = False) -> Host | None:
        """Return the host with this id, even if it was renamed; None if it was removed.

        ``lock`` keeps other transactions from changing the host until this one ends.
        """
        if lock:
            self._lock(" WHERE hosts.id = ?", [host_id])
        return self._one(" WHERE hosts.id = ?", host_id)

    def _one(self, where: str, value: Value) -> Host | None:
        rows = self._database.execute(f"{HOST_SELECT}{where}", [value])
        return to_host(rows[0]) if rows else None

    def with_names(self, names: Iterable[str]) -> dict[str, Host]:
        """Return the hosts with these exact names, by name; names without a host are left out."""
        return {host.spec.name: host for host in self.having("name", names)}

    def with_ids(self, ids: Iterable[int]) -> dict[int, Host]:
        """Return the hosts with these ids, by id; removed hosts are left out."""
        return {host.id: host for host in self.having("id", ids)}

    def having(self, column: str, values: Iterable[Value]) -> Iterator[Host]:
        """Yield the hosts with one of these values in a column, the oldest first."""
        for some in in_parts(list(dict.fromkeys(values))):
            yield from self.that(f"hosts.{column} IN ({', '.join('?' * len(some))}) ORDER BY hosts.id", *some)

    def fresh(self, hosts: Sequence[Host], *, lock: bool = False) -> dict[int, Host]:
        """Return the present state of these hosts, by id; removed hosts are left out.

        Only hosts that changed are read. ``lock`` keeps other transactions from changing them until this one ends.
        """
        found: dict[int, Host] = {}
        for some in in_parts(hosts):
            ids = [host.id for host in some]
            where = f" WHERE hosts.id IN ({', '.join('?' * len(some))})"
            if lock:
                self._lock(where, ids)
            rows = self._database.execute(f"SELECT id, last_event FROM hosts{where}", ids)
            events = {row[0]: row[1] for row in rows}
            for host in some:
                # A renewal changes a lease without an event.
                is_fresh = host.reservation is None and events.get(host.id) == host.last_event
                now = host if is_fresh else self.with_id(host.id)
                if now is not None:
                    found[host.id] = now
        return found

    def held(self) -> Iterator[Host]:
        """Yield the hosts that reservations hold, by name; they are read in batches."""
        return map(
            to_host, self._database.stream(f"{HOST_SELECT} WHERE hosts.reservation IS NOT NULL ORDER BY hosts.name")
        )

    def held_by(self, reservation: str) -> list[Host]:
        """Return the hosts that the reservation with this id holds, by name."""
        return self.that("hosts.reservation = ? ORDER BY hosts.name", reservation)

    def held_by_owner(self, owner: str, role: str | None = None) -> list[Host]:
        """Return the hosts that the open reservations of an owner hold, by name.

        With ``role``, those of every owner whose name, or whose name before an ``@``, is this role.
        """
        whose, values = "owner = ?", list[Value]([owner])
        if role is not None:
            whose, values = "(owner = ? OR substr(owner, 1, ?) = ?)", [role, len(role) + 1, f"{role}@"]
        held = f"SELECT id FROM reservations WHERE ended_at IS NULL AND {whose}"
        return self.that(f"hosts.reservation IN ({held}) ORDER BY hosts.name", *values)

    def find(self, query: HostQuery | None = None) -> Iterator[Host]:
        """Yield the hosts of a query in its order, or all hosts by name; they are read in batches."""
        if query is None:
            return map(to_host, self._database.stream(f"{HOST_SELECT} ORDER BY hosts.name"))
        if len(query.names) > _AT_ONCE:
            found = {
                host.id: host
                for some in in_parts(query.names)
                for host in self.find(replace(query, names=tuple(some), patterns=query.patterns))
            }
            return iter(sorted(found.values(), key=lambda host: host.name))
        is_small = query.names or query.limit is not None
        read = self._database.execute if is_small else self._database.stream
        return map(to_host, read(*self._select(query, HOST_SELECT)))

    def stale(self, before: datetime, after: datetime) -> list[Host]:
        """Return the free hosts whose checks last passed by ``before``, after ``after``, or never; the oldest first."""
        where = (
            "hosts.state = 'available' AND hosts.undeclared = 0 "
            "AND (COALESCE(hosts.proven_at, 0) <= ? OR hosts.proven_at > ?) "
            "ORDER BY COALESCE(hosts.proven_at, 0), hosts.id"
        )
        return self.that(where, from_time(before), from_time(after))

    def being_recycled(self) -> list[Host]:
        """Return the initial hosts that ``recycle`` is making available, by name."""
        return self.that(
            "hosts.failed_recycles IS NOT NULL AND hosts.state = 'initial' AND hosts.undeclared = 0 ORDER BY hosts.name"
        )

    def that(self, where: str, *values: Value) -> list[Host]:
        """Return the hosts for which an SQL condition holds; it may end with an order and a limit."""
        return [to_host(row) for row in self._database.execute(f"{HOST_SELECT} WHERE {where}", values)]

    def free(self, query: HostQuery) -> Question:
        """Return the query for the free hosts of ``query`` that no other transaction has locked to change them.

        Where the database locks rows, it locks these hosts until the transaction ends.
        """
        return self._select(query, _FREE_SELECT, " FOR UPDATE SKIP LOCKED" if self._database.locks_rows else "")

    def _select(self, query: HostQuery, select: str, suffix: str = "") -> Question:
        where, parameters = self.where(query)
        turn = "hosts.planned_at, hosts.id" if query.planned else "COALESCE(hosts.used_at, 0), hosts.id"
        order = turn if query.by_turn else "hosts.name"
        limit = "" if query.limit is None else f" LIMIT {int(query.limit)}"
        return f"{select}{where} ORDER BY {order}{limit}{suffix}", parameters

    def where(self, query: HostQuery) -> tuple[str, list[Value]]:
        """Return the SQL condition of a query on ``hosts``, beginning with WHERE, and its parameters."""
        from bmhctl.stores.host_query import condition, rarest

        return condition(query, None if self._database.has_statistics else rarest(self._database.execute, query))

    def lock_named(self, names: Sequence[str]) -> None:
        """Lock the hosts with these names and their reservations against other transactions, until this one ends."""
        self._lock(f" WHERE hosts.name IN ({', '.join('?' * len(names))})", names)

    def lock_held_by(self, reservation: str) -> None:
        """Lock a reservation and its hosts against other transactions, until this one ends."""
        self._lock(" WHERE hosts.reservation = ?", [reservation])

    def _lock(self, where: str, parameters: Sequence[Value]) -> None:
        if not self._database.locks_rows:
            return
        # Always in this order, so that no two transactions wait for each other. Rows read after the lock are current.
        held = f"WHERE id IN (SELECT reservation FROM hosts{where})"
        self._database.lock(
            (f"SELECT id FROM hosts{where} ORDER BY id FOR UPDATE", parameters),
            (f"SELECT id FROM reservations {held} ORDER BY id FOR UPDATE", parameters),
        )

    def count(self, query: HostQuery) -> int:
        """Return how many hosts a query finds; its limit is ignored."""
        where, parameters = self.where(query)
        return number_in(self._database.execute(f"SELECT COUNT(*) FROM hosts{where}", parameters))

    def is_any_held_by(self, reservation: str) -> bool:
        """Return whether the reservation with this id holds a host."""
        return bool(self._database.execute("SELECT 1 FROM hosts WHERE reservation = ? LIMIT 1", [reservation]))

    def counts(self) -> dict[State, int]:
        """Return how many hosts are in each state, as the database keeps count; every state has an entry."""
        counts = dict.fromkeys(State, 0)
        for state, number in self._database.execute("SELECT state, SUM(number) FROM counts GROUP BY state"):
            counts[State(str(state))] = int(number or 0)
        return counts

    def names(self, query: HostQuery | None = None) -> Iterator[str]:
        """Yield the names of a query's hosts, or of all hosts, in alphabetical order."""
        where, parameters = self.where(query) if query else ("", [])
        rows = self._database.stream(f"SELECT name FROM hosts{where} ORDER BY name", parameters)
        return (str(row[0]) for row in rows)

    def names_near(self, name: str, most: int) -> list[str]:
        """Return the names around a name in alphabetical order: at most ``most`` before it and ``most`` from it on."""
        name = name.translate(AS_STORED)
        before = self._database.execute(
            f"SELECT name FROM hosts WHERE name < ? ORDER BY name DESC LIMIT {int(most)}", [name]
        )
        after = self._database.execute(
            f"SELECT name FROM hosts WHERE name >= ? ORDER BY name LIMIT {int(most)}", [name]
        )
        return [str(row[0]) for row in (*before, *after)]

    def save(self, host: Host, event: Event) -> Host:
        """Save a changed host without its declaration, and the change's event; return the host with the event's id."""
        row = [*lifecycle_row(host), back_at(host), planned_at(host)]
        number = self.add_event(host.id, event)
        self._database.enqueue(_SAVE_LIFECYCLE, [*row, number, host.id])
        return replace(host, last_event=number)

    def add_event(self, host_id: int, event: Event) -> int:
        """Save an event of a host, and return the event's id."""
        row = _event_row(event)
        number = self._database.next_id("events")
        self._database.enqueue(_ADD_EVENT, [number, *row, host_id])
        return number

    def save_checks_passed(self, host: Host, at: datetime) -> None:
        """Save when a host's readiness checks passed; its state stays the same, so no event is written."""
        self._database.execute("UPDATE hosts SET proven_at = ? WHERE id = ?", [from_time(at), host.id])

    def save_setup(self, host: Host, setup: SetupProgress | None) -> None:
        """Save how far the setup of a host is; the step results record what ran, so no event is written."""
        self._database.execute("UPDATE hosts SET setup = ? WHERE id = ?", [_setup_value(setup), host.id])


def lifecycle_row(host: Host, since: datetime | None = None) -> list[Value]:
    """Return the values of :data:`LIFECYCLE_COLUMNS`; ``since`` takes the place of the host's own."""
    return [
        host.state.value,
        ((since or host.since) - EPOCH) // MICROSECOND,
        int(host.dirty),
        int(host.undeclared),
        None if host.came_from is None else host.came_from.value,
        None if host.cordon is None else to_json(_note_values(host.cordon)),
        to_json([_note_values(note) for note in host.maintenance]) if host.maintenance else None,
        host.fault,
        host.failed_cleanups,
        None if host.reservation is None else host.reservation.id,
        None if host.used_at is None else (host.used_at - EPOCH) // MICROSECOND,
        None if host.proven_at is None else (host.proven_at - EPOCH) // MICROSECOND,
        host.failed_setups,
        _setup_value(host.setup),
        to_json([[task.owner, task.purpose] for task in host.failed_tasks]) if host.failed_tasks else None,
        to_json(dict(host.spec.observed)) if host.spec.observed else None,
        planned_value(host),
        host.failed_recycles,
    ]


def back_at(host: Host) -> int | None:
    """Return when a host's maintenance should end, as its column holds it: the latest ``until`` of its reasons."""
    ends = [note.until for note in host.maintenance if note.until]
    return from_time(max(ends)) if ends else None


def planned_value(host: Host) -> str | None:
    """Return the times that are set aside on a host, as their column holds them; None if there are none."""
    return to_json([_planned_values(each) for each in host.planned]) if host.planned else None


def planned_at(host: Host) -> int | None:
    """Return when the next time that is set aside on a host begins, as its column holds it; None if there is none."""
    return from_time(host.planned[0].starts_at) if host.planned else None


def _event_row(event: Event) -> list[Value]:
    """Return the values of :data:`EVENT_COLUMNS`, without the id."""
    return [
        event.host,
        (event.at - EPOCH) // MICROSECOND,
        event.actor,
        event.verb.value,
        None if event.source is None else event.source.value,
        None if event.dest is None else event.dest.value,
        event.reason,
        event.reservation,
        None if event.steps is None else to_json([_timing_values(step) for step in event.steps]),
        None if event.before is None else to_json(dict(event.before)),
    ]


def to_host(row: Row) -> Host:
    """Return the host in a row of :data:`HOST_SELECT`; raise :class:`InvalidError` for a row that can't be read."""
    try:
        host_id, last_event, name, address, mac, labels, bmc, hardware, note, state, since, *more = row
        dirty, undeclared, came_from, cordon, maintenance, fault, failed_cleanups, _, used_at, *more = more
        proven_at, failed_setups, setup, failed_tasks, observed, planned, failed_recycles, *reservation = more
        return Host(
            _spec(name, address, mac, labels, bmc, hardware, note, observed),
            _STATES[state],
            EPOCH + int(since or 0) * MICROSECOND,
            bool(dirty),
            bool(undeclared),
            None if came_from is None else _STATES[came_from],
            None if cordon is None else _to_note(from_json(str(cordon))),
            () if maintenance is None else tuple(_to_note(each) for each in from_json(str(maintenance))),
            None if fault is None else str(fault),
            int(failed_cleanups or 0),
            None if reservation[0] is None else to_reservation(reservation),
            None if used_at is None else EPOCH + int(used_at) * MICROSECOND,
            None if proven_at is None else EPOCH + int(proven_at) * MICROSECOND,
            int(failed_setups or 0),
            None if setup is None else SetupProgress(*from_json(str(setup))),
            () if failed_tasks is None else tuple(FailedTask(*each) for each in from_json(str(failed_tasks))),
            () if planned is None else tuple(_to_planned(each) for each in from_json(str(planned))),
            None if failed_recycles is None else int(failed_recycles),
            int(host_id or 0),
            int(last_event or 0),
        )
    except UNREADABLE as error:
        raise unreadable("host", row[2]) from error


def to_reservation(row: Row) -> Reservation:
    """Return the reservation in the values of :data:`RESERVATION_COLUMNS`.

    Raises :class:`InvalidError` for values that can't be read.
    """
    try:
        identifier, owner, purpose, created, expires, ttl, ended, end_reason, end, requirements, request_id, *more = row
        renewed, params, prepared, asked, tags, shared = more
        return Reservation(
            str(identifier),
            str(owner),
            None if purpose is None else str(purpose),
            EPOCH + int(created or 0) * MICROSECOND,
            None if expires is None else EPOCH + int(expires) * MICROSECOND,
            None if ttl is None else int(ttl) * MICROSECOND,
            None if ended is None else EPOCH + int(ended) * MICROSECOND,
            None if end_reason is None else str(end_reason),
            None if end is None else End(str(end)),
            None if requirements is None else str(requirements),
            None if request_id is None else str(request_id),
            None if renewed is None else EPOCH + int(renewed) * MICROSECOND,
            None if params is None else from_json(str(params)),
            None if prepared is None else EPOCH + int(prepared) * MICROSECOND,
            None if asked is None else EPOCH + int(asked) * MICROSECOND,
            _NO_TAGS if tags is None else from_json(str(tags)),
            () if shared is None else tuple(from_json(str(shared))),
        )
    except UNREADABLE as error:
        raise unreadable("reservation", row[0]) from error


def to_spec(row: Row) -> HostSpec:
    """Return the declaration in the values of :data:`SPEC_COLUMNS`; raise :class:`InvalidError` for others."""
    try:
        return _spec(*row)
    except UNREADABLE as error:
        raise unreadable("host", row[0]) from error


def _spec(
    name: Value,
    address: Value,
    mac: Value,
    labels: Value,
    bmc: Value,
    hardware: Value,
    note: Value,
    observed: Value = None,
) -> HostSpec:
    # One call for all three: the decoder's overhead for a text takes as long as decoding it.
    text = f"[{labels},{'null' if bmc is None else bmc},{hardware}]"
    (worn, managed, properties), end = _raw_decode(text)
    if end != len(text):
        raise ValueError("text after the JSON")
    return HostSpec(
        str(name),
        None if address is None else str(address),
        None if mac is None else str(mac),
        worn,
        None if managed is None else Bmc(*managed),
        properties,
        None if note is None else str(note),
        from_json(str(observed)) if observed is not None else {},
    )


def _planned_values(planned: Planned) -> list[object]:
    """Return a time that is set aside as a list that :func:`_to_planned` reads back."""
    return [planned.id, planned.owner, from_time(planned.starts_at), from_time(planned.ends_at)]


def _to_planned(value: Sequence[Value]) -> Planned:
    """Return the time that :func:`_planned_values` wrote."""
    identifier, owner, starts_at, ends_at = value
    return Planned(str(identifier), str(owner), to_moment(starts_at), to_moment(ends_at))


def _note_values(note: Note) -> list[object]:
    """Return a cordon or a reason for maintenance as a list that :func:`_to_note` reads back."""
    values: list[object] = [note.actor, note.reason, from_time(note.since), from_time(note.until), note.quarantine]
    if note.maintains:
        return [*values, note.under, True]
    return [*values, note.under] if note.retires else values  # short if possible, as in older versions


def _to_note(value: Sequence[Value]) -> Note:
    """Return the cordon or the reason in a list that :func:`_note_values` wrote, in this or an older version."""
    actor, reason, since, until, quarantine, *more = value
    note = Note(str(actor), str(reason), to_moment(since), to_time(until), bool(quarantine))
    if not more:
        return note
    maintains = len(more) > 1
    return replace(note, retires=not maintains, maintains=maintains, under=_to_pair(more[0]))


def _to_pair(value: object) -> tuple[str, str] | None:
    """Return the actor and the reason in a list; None for None."""
    return (str(value[0]), str(value[1])) if isinstance(value, list) else None


def _setup_value(setup: SetupProgress | None) -> str | None:
    return None if setup is None else to_json([setup.done, setup.total, setup.failed])


def _timing_values(timing: StepTiming) -> list[object]:
    return [timing.phase and timing.phase.value, timing.step, timing.verdict.value, round(timing.seconds, 6)]


class _States(dict[Value, State]):
    def __missing__(self, value: Value) -> State:
        return State(str(value))  # raises an error that names the value


_STATES = _States({state.value: state for state in State})
_raw_decode = json.JSONDecoder().raw_decode
