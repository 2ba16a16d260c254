"""The store: save and find hosts, reservations, tickets and events in a database; no decisions.

The SQL is written once, with ``?`` for parameters, in what SQLite and PostgreSQL share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from bmhctl.domain.host_name import as_stored
from bmhctl.domain.model import CheckResult, Event, Fact, Host, HostSpec, Reservation, State, Ticket, Verdict
from bmhctl.domain.selector import Selector, Term, selectable
from bmhctl.domain.units import quantity
from bmhctl.stores.database import Database, Question
from bmhctl.stores.host_query import HostQuery, condition
from bmhctl.stores.rows import (
    EVENT_COLUMNS,
    FREE_SELECT,
    HOST_SELECT,
    LIFECYCLE_COLUMNS,
    RESERVATION_COLUMNS,
    SPEC_COLUMNS,
    TICKET_COLUMNS,
    Row,
    Value,
    back_at,
    from_event,
    from_lifecycle,
    from_reservation,
    from_spec,
    from_ticket,
    from_time,
    to_event,
    to_host,
    to_reservation,
    to_spec,
    to_ticket,
    to_time,
)
from bmhctl.stores.schema import RECOUNT, TABLES
from bmhctl.support.values import replace

if TYPE_CHECKING:
    from bmhctl.stores.claims import Claims
    from bmhctl.stores.integrity import Integrity
    from bmhctl.stores.toml.file import DeclarationFile


_T = TypeVar("_T")


_SAVE_LIFECYCLE = (
    f"UPDATE hosts SET {', '.join(f'{c} = ?' for c in LIFECYCLE_COLUMNS)}, back_at = ?, last_event = ? WHERE id = ?"
)
_SAVE_SPEC = f"UPDATE hosts SET {', '.join(f'{c} = ?' for c in SPEC_COLUMNS)} WHERE id = ?"
_ADD_HOST = (
    f"INSERT INTO hosts ({', '.join(SPEC_COLUMNS + LIFECYCLE_COLUMNS)}, back_at, last_event, id) "
    f"VALUES ({', '.join('?' * (len(SPEC_COLUMNS) + len(LIFECYCLE_COLUMNS) + 3))})"
)
_ADD_FACT = "INSERT INTO facts (host_id, key, value, number) VALUES (?, ?, ?, ?)"
_ADD_EVENT = (
    f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}, host_id) VALUES ({', '.join('?' * (len(EVENT_COLUMNS) + 1))})"
)
_SAVE_RESULT = (
    "INSERT INTO results (host_id, step, verdict, detail, seconds, at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (host_id, step) DO UPDATE SET verdict = excluded.verdict, detail = excluded.detail, "
    "seconds = excluded.seconds, at = excluded.at"
)
_ADD_RESERVATION = (
    f"INSERT INTO reservations ({', '.join(RESERVATION_COLUMNS)}) VALUES ({', '.join('?' * len(RESERVATION_COLUMNS))})"
)
_SAVE_RESERVATION = f"UPDATE reservations SET {', '.join(f'{c} = ?' for c in RESERVATION_COLUMNS[1:])} WHERE id = ?"
_EVENT_SELECT = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events"
_RESERVATION_SELECT = f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM reservations"
_TICKET_IDS = "SELECT id FROM tickets WHERE id <= ? ORDER BY id"
_TICKET_SELECT = f"SELECT {', '.join(TICKET_COLUMNS)} FROM tickets"
_ADD_TICKET = (
    f"INSERT INTO tickets ({', '.join(TICKET_COLUMNS[1:])}) "
    f"VALUES ({', '.join('?' * (len(TICKET_COLUMNS) - 1))}) RETURNING id"
)
_IMPORTED = "'imported/' || hosts.id"
_KEEP_IMPORTED = (
    f"INSERT INTO meta (key, value) SELECT {_IMPORTED}, CAST(? AS TEXT) FROM hosts WHERE hosts.name = ? "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_COUNTED_FROM = "COALESCE(renewed_at, created_at)"
_DUE = (
    ("ended_at IS NULL AND expires_at <= ?", "expires_at"),
    (f"ended_at IS NULL AND expires_at IS NOT NULL AND {_COUNTED_FROM} > ?", f"{_COUNTED_FROM} DESC"),
)
"""Which leases are due, each with an index, in whose order only few are asked for: PostgreSQL, which takes most leases
for over, would else read all open ones to find none."""

_ANY_DUE = ", ".join(f"(SELECT 1 FROM reservations WHERE {due} ORDER BY {order} LIMIT 1)" for due, order in _DUE)
_DEPARTED = "key = ? OR (key = ? AND (mac IS NULL OR CAST(? AS TEXT) IS NULL OR mac = ?))"
_POLICY, _PARSED_POLICY = "policy", "policy_parsed"
_NAMES_AT_ONCE = 500


def _obstacle(token: str, now: datetime, latest: datetime) -> Question:
    taken = "(SELECT 1 FROM reservations WHERE id = ?)"
    return (
        f"SELECT COALESCE((SELECT 1 FROM tickets LIMIT 1), {taken}, {_ANY_DUE})",
        [token, from_time(now), from_time(latest)],
    )


def _value_of(key: str) -> Question:
    return "SELECT value FROM meta WHERE key = ?", [key]


def _few(share: int, most: int, least: int = 50) -> str:
    """How many hosts are few, as SQL: a share of all."""
    return (
        f"(SELECT CAST(CASE WHEN SUM(number) < {least * share} THEN {least} WHEN SUM(number) > {most * share}"
        f" THEN {most} ELSE SUM(number) / {share} END AS BIGINT) FROM counts)"
    )


_FEW, _FEW_OF_A_LIST = _few(100, 10_000), _few(20, 50_000)  # more where all that fit are wanted


class Store:
    """An open inventory. Use it from one thread; close it when done.

    ``declaration`` is the TOML file that declares the hosts, None where the database itself does.
    ``folder`` is what a policy's relative paths start from. ``address`` is how another process of ours reaches it,
    where that is not what a person is shown. ``given`` is the location by which it was opened.
    """

    def __init__(
        self,
        database: Database,
        *,
        claims: Claims,
        folder: str,
        declaration: DeclarationFile | None = None,
        address: str | None = None,
        given: str | None = None,
    ) -> None:
        self.database = database
        self.address = address or (str(declaration.path) if declaration else database.location)
        self.given = given or self.address
        self.claims = claims
        self.folder = folder
        self.declaration = declaration

    @property
    def location(self) -> str:
        """How a person names this inventory."""
        return str(self.declaration.path) if self.declaration else self.database.location

    def undeclared(self) -> Store:
        """The same inventory, without the file that declares its hosts: what holds whatever becomes of that."""
        return Store(self.database, claims=self.claims, folder=self.folder, address=self.address)

    @property
    def integrity(self) -> Integrity:
        """The checks and repairs of the database itself, which ``doctor`` runs."""
        from bmhctl.stores.integrity import Integrity

        return Integrity(self.database)

    def close(self) -> None:
        """Closes the inventory."""
        self.database.close()

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the inventory was removed or replaced: see :class:`Database`."""
        self.database.check_in_place()
        if self.declaration is not None:
            self.declaration.check_in_place()

    def now(self) -> datetime:
        """The time by which leases are judged: that of the one clock that all who share the inventory have."""
        return self.database.now()

    @property
    def is_connected(self) -> bool:
        """Whether it can still be asked: see :class:`Database`."""
        return self.database.is_connected

    def last_disruption(self) -> datetime:
        """When connections to its server were lost last, and with them who shared claims: see :class:`Database`."""
        return self.database.last_disruption()

    def transaction(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """A writing transaction: durable when the block ends, wholly gone when it raises.

        It has the inventory for itself; a ``shared`` one may be at work beside others that are, and therefore locks
        whatever it reads to change it (``lock``) and changes nothing else.
        """
        return self.database.transaction(write=True, shared=shared)

    def granting(
        self, token: str, now: datetime, latest: datetime, query: HostQuery | None
    ) -> AbstractContextManager[None]:
        """A shared transaction that will ask whether :meth:`anything_hinders`, for the policy and for free hosts."""
        foreseen = _obstacle(token, now, latest), _value_of(_PARSED_POLICY)
        locking: tuple[Question, ...] = ()
        if query is not None and self.database.locks_rows:
            locking = self._free(query), *self.claims.foreseen
        return self.database.transaction(write=True, shared=True, foreseen=foreseen, locking=locking)

    def snapshot(self) -> AbstractContextManager[None]:
        """A reading transaction: everything read in the block is of one moment."""
        return self.database.transaction(write=False)

    def savepoint(self) -> AbstractContextManager[None]:
        """A part of a writing transaction that is undone on its own when the block raises."""
        return self.database.savepoint()

    # hosts

    def host(self, name: str) -> Host | None:
        """Return the host with this name, in whatever case it is given; None if there is none."""
        return self._one(f"{HOST_SELECT} WHERE hosts.name = ?", [as_stored(name)], to_host)

    def host_with_id(self, host_id: int, *, lock: bool = False) -> Host | None:
        """The host with this id, whatever its name is now."""
        if lock:
            self._lock(" WHERE hosts.id = ?", [host_id])
        return self._one(f"{HOST_SELECT} WHERE hosts.id = ?", [host_id], to_host)

    def hosts_named(self, names: Iterable[str]) -> dict[str, Host]:
        """The hosts that bear one of these very names."""
        return {host.name: host for host in self._bearing("name", names)}

    def fresh(self, hosts: Sequence[Host], *, lock: bool = False) -> dict[int, Host]:
        """These hosts as they are now, by id, whatever their names; only those to which something happened are read."""
        found: dict[int, Host] = {}
        for start in range(0, len(hosts), _NAMES_AT_ONCE):
            some = hosts[start : start + _NAMES_AT_ONCE]
            ids = [host.id for host in some]
            where = f" WHERE hosts.id IN ({', '.join('?' * len(some))})"
            if lock:
                self._lock(where, ids)
            rows = self.database.execute(f"SELECT id, last_event FROM hosts{where}", ids)
            events = {row[0]: row[1] for row in rows}
            for host in some:
                # A lease may be renewed without an event.
                is_fresh = host.reservation is None and events.get(host.id) == host.last_event
                now = host if is_fresh else self.host_with_id(host.id)
                if now is not None:
                    found[host.id] = now
        return found

    def hosts_bearing(self, *, macs: Iterable[str] = (), addresses: Iterable[str] = ()) -> list[Host]:
        """The hosts that bear one of these MACs, then those of the addresses; each time the longest known one first."""
        found = {host.id: host for host in (*self._bearing("mac", macs), *self._bearing("address", addresses))}
        return list(found.values())

    def _bearing(self, column: str, values: Iterable[str]) -> Iterator[Host]:
        wanted = list(dict.fromkeys(values))
        for start in range(0, len(wanted), _NAMES_AT_ONCE):
            some = wanted[start : start + _NAMES_AT_ONCE]
            places = ", ".join("?" * len(some))
            sql = f"{HOST_SELECT} WHERE hosts.{column} IN ({places}) ORDER BY hosts.id"
            yield from map(to_host, self.database.execute(sql, some))

    def lock_hosts(self, query: HostQuery) -> None:
        """Keeps others from changing the hosts of a query and their reservations until the transaction ends."""
        self._lock(*self.where(query))

    def free_hosts(self, query: HostQuery) -> list[Host]:
        """The hosts of a query, of free ones, that nobody is about to change; nobody can until the transaction ends.

        Whoever calls this asks next who has claimed any of them.
        """
        return [to_host(row) for row in self.database.locking(self._free(query), foreseen=self.claims.foreseen)]

    def _free(self, query: HostQuery) -> Question:
        return self._select(query, FREE_SELECT, " FOR UPDATE SKIP LOCKED" if self.database.locks_rows else "")

    def _lock(self, where: str, parameters: Sequence[Value]) -> None:
        if not self.database.locks_rows:
            return
        # Always in this order, so that no two wait for each other; what is read afterwards is what holds.
        held = f"WHERE id IN (SELECT reservation FROM hosts{where})"
        self.database.locking(
            (f"SELECT id FROM hosts{where} ORDER BY id FOR UPDATE", parameters),
            (f"SELECT id FROM reservations {held} ORDER BY id FOR UPDATE", parameters),
        )

    def hosts(self, query: HostQuery) -> Iterator[Host]:
        """The hosts of a query, in its order, read as they are asked for."""
        if len(query.names) > _NAMES_AT_ONCE:  # databases limit the parameters of a statement
            found = {
                host.id: host
                for start in range(0, len(query.names), _NAMES_AT_ONCE)
                for host in self.hosts(
                    replace(query, names=query.names[start : start + _NAMES_AT_ONCE], patterns=query.patterns)
                )
            }
            return iter(sorted(found.values(), key=lambda host: host.name))
        is_small = query.names or query.reservation is not None or query.limit is not None
        read = self.database.execute if is_small else self.database.stream
        return map(to_host, read(*self._select(query)))

    def specs(self) -> Iterator[tuple[HostSpec, bool]]:
        """What is declared of every host, and whether it is declared no more."""
        rows = self.database.stream(f"SELECT {', '.join(SPEC_COLUMNS)}, undeclared FROM hosts")
        return ((to_spec(spec), bool(undeclared)) for *spec, undeclared in rows)

    def count(self, query: HostQuery) -> int:
        """How many hosts a query finds, whatever its limit."""
        where, parameters = self.where(query)
        return int(self._value(f"SELECT COUNT(*) FROM hosts{where}", parameters) or 0)

    def counts(self) -> dict[State, int]:
        """How many hosts are in each state, as the database keeps it; every state is there."""
        counts = dict.fromkeys(State, 0)
        for state, number in self.database.execute("SELECT state, SUM(number) FROM counts GROUP BY state"):
            counts[State(str(state))] = int(number or 0)
        return counts

    def recount(self) -> None:
        """Counts anew what :meth:`counts` tells, in the caller's transaction."""
        for statement in RECOUNT:
            self._run(statement, ())

    def names(self, query: HostQuery | None = None) -> Iterator[str]:
        """The names of a query's hosts, of all without one, in order."""
        where, parameters = self.where(query) if query else ("", [])
        rows = self.database.stream(f"SELECT name FROM hosts{where} ORDER BY name", parameters)
        return (str(row[0]) for row in rows)

    def names_near(self, name: str, most: int) -> list[str]:
        """The names just before and after one in their order."""
        name = as_stored(name)
        before = self.database.execute(
            f"SELECT name FROM hosts WHERE name < ? ORDER BY name DESC LIMIT {int(most)}", [name]
        )
        after = self.database.execute(f"SELECT name FROM hosts WHERE name >= ? ORDER BY name LIMIT {int(most)}", [name])
        return [str(row[0]) for row in (*before, *after)]

    def add_host(self, host: Host, event: Event) -> None:
        """Saves a new host with the event that lets it in, under new ids."""
        host_id = self.database.next_id("hosts")
        last_event = self._add_event(host_id, event)
        row = [*from_spec(host.spec), *from_lifecycle(host), back_at(host), last_event, host_id]
        self.database.enqueue(_ADD_HOST, row)
        self._add_facts(host_id, host.spec)

    def save_host(self, host: Host, event: Event) -> Host:
        """Saves where a host is in its life, with the event that says why; its spec is left alone."""
        last_event = self._add_event(host.id, event)
        self.database.enqueue(_SAVE_LIFECYCLE, [*from_lifecycle(host), back_at(host), last_event, host.id])
        return replace(host, last_event=last_event)

    def save_spec(self, host: Host, event: Event) -> Host:
        """Saves a host wholly, its spec too, with the event that says why."""
        self._run(_SAVE_SPEC, [*from_spec(host.spec), host.id])
        self.save_facts(host)
        return self.save_host(host, event)

    def save_back_at(self, host: Host) -> None:
        """Keeps when a host shall be back from maintenance, in place of what was kept before."""
        self._run("UPDATE hosts SET back_at = ? WHERE id = ?", [back_at(host), host.id])

    def save_facts(self, host: Host) -> None:
        """Keeps what selectors see of a host, in place of what was kept before."""
        self._run("DELETE FROM facts WHERE host_id = ?", [host.id])
        self._add_facts(host.id, host.spec)

    def drop_host(self, host: Host, event: Event) -> None:
        """Removes a host, with its last event; its history stays."""
        self._add_event(host.id, event)
        self._run("DELETE FROM hosts WHERE id = ?", [host.id])
        self.put(f"imported/{host.id}", None)

    def imported(self, names: Iterable[str]) -> dict[str, dict[str, Fact]]:
        """Return what :meth:`keep_imported` kept of the hosts with these names, by name."""
        wanted = list(dict.fromkeys(names))
        found: dict[str, dict[str, Fact]] = {}
        for start in range(0, len(wanted), _NAMES_AT_ONCE):
            some = wanted[start : start + _NAMES_AT_ONCE]
            rows = self.database.execute(
                f"SELECT hosts.name, meta.value FROM hosts JOIN meta ON meta.key = {_IMPORTED} "
                f"WHERE hosts.name IN ({', '.join('?' * len(some))})",
                some,
            )
            found.update((str(name), json.loads(str(value))) for name, value in rows)
        return found

    def keep_imported(self, values: Mapping[str, Mapping[str, Fact]]) -> None:
        """Keep what an import said of hosts, by their names, in place of what was kept before."""
        self.database.enqueue(_KEEP_IMPORTED, *((json.dumps(said), name) for name, said in values.items()))

    def _add_facts(self, host_id: int, spec: HostSpec) -> None:
        rows = [(host_id, key, value, quantity(value)) for key, value in selectable(spec).items()]
        self.database.enqueue(_ADD_FACT, *rows)

    # what checks and cleanup steps said last

    def save_results(self, host: Host, results: Iterable[CheckResult], now: datetime) -> None:
        """Keeps the last result of each step for a host."""
        rows = [(host.id, r.step, r.verdict.value, r.detail, r.seconds, from_time(r.at or now)) for r in results]
        self.database.enqueue(_SAVE_RESULT, *rows)

    def results(self, host: Host) -> tuple[CheckResult, ...]:
        """The last result of each step for a host, the oldest first."""
        rows = self.database.execute(
            "SELECT step, verdict, detail, seconds, at FROM results WHERE host_id = ? ORDER BY at, step", [host.id]
        )
        return tuple(
            CheckResult(str(step), Verdict(str(verdict)), str(detail), float(seconds or 0), to_time(at))
            for step, verdict, detail, seconds, at in rows
        )

    # used machines that left

    def has_departed(self) -> bool:
        """Whether :meth:`departed` can find any machine at all."""
        return self._value("SELECT 1 FROM departed LIMIT 1") is not None

    def departed(self, name: str, mac: str | None) -> str | None:
        """Why a machine with this name or MAC must not be taken for clean: it left while it was dirty.

        A name counts only while no two MACs tell the machines apart.
        """
        reason = self._value(f"SELECT reason FROM departed WHERE {_DEPARTED}", [mac, name, mac, mac])
        return None if reason is None else str(reason)

    def add_departed(self, name: str | None, mac: str | None, at: datetime, reason: str) -> None:
        """Remembers a used machine that leaves, by its name and its MAC."""
        for key in filter(None, (name, mac)):
            self._run("DELETE FROM departed WHERE key = ?", [key])
            self._run(
                "INSERT INTO departed (key, mac, at, reason) VALUES (?, ?, ?, ?)", [key, mac, from_time(at), reason]
            )

    def drop_departed(self, name: str, mac: str | None) -> None:
        """Forgets it: the machine is back, and known to be dirty."""
        self._run(f"DELETE FROM departed WHERE {_DEPARTED}", [mac, name, mac, mac])

    # reservations

    def reservation(self, reservation_id: str) -> Reservation | None:
        """The reservation with this id, open or ended."""
        return self._one(f"{_RESERVATION_SELECT} WHERE id = ?", [reservation_id], to_reservation)

    def open_reservations(self) -> list[Reservation]:
        """Every reservation that nobody ended, the oldest first."""
        rows = self.database.execute(f"{_RESERVATION_SELECT} WHERE ended_at IS NULL ORDER BY created_at, id")
        return [to_reservation(row) for row in rows]

    def all_reservations(self, *, is_open: bool = False) -> Iterator[Reservation]:
        """Every reservation that ever was, or that nobody ended, the oldest first; read as they are asked for."""
        where = " WHERE ended_at IS NULL" if is_open else ""
        return map(to_reservation, self.database.stream(f"{_RESERVATION_SELECT}{where} ORDER BY created_at, id"))

    def due_reservations(self, now: datetime, latest: datetime) -> list[Reservation]:
        """Open leases that are over at ``now``, or counted from a moment after ``latest``; the first to end first."""
        found: dict[str, Reservation] = {}
        for (due, order), moment in zip(_DUE, (now, latest), strict=True):
            most, rows = 0, list[Row]()
            while len(rows) == most:
                most = max(1, 10 * most)
                sql = f"{_RESERVATION_SELECT} WHERE {due} ORDER BY {order} LIMIT {most}"
                rows = list(self.database.execute(sql, [from_time(moment)]))
            found |= {each.id: each for each in map(to_reservation, rows)}
        return sorted(found.values(), key=lambda due: (due.expires_at or due.created_at, due.id))

    def is_any_due(self, now: datetime, latest: datetime) -> bool:
        """Whether there are :meth:`due_reservations`; asked at every command."""
        return self._value(f"SELECT COALESCE({_ANY_DUE})", [from_time(now), from_time(latest)]) is not None

    def anything_hinders(self, token: str, now: datetime, latest: datetime) -> bool:
        """Whether a grant has to wait for anything: somebody is in the queue, a lease is due, or the id was given."""
        if self._value(*_obstacle(token, now, latest)) is not None:
            return True
        self.database.hush()
        return False

    def add_reservation(self, reservation: Reservation) -> None:
        """Saves a new reservation."""
        self.database.enqueue(_ADD_RESERVATION, from_reservation(reservation))

    def save_reservation(self, reservation: Reservation) -> None:
        """Saves a changed reservation."""
        values = from_reservation(reservation)
        self.database.enqueue(_SAVE_RESERVATION, [*values[1:], values[0]])

    def reservation_of_request(self, owner: str, request_id: str) -> Reservation | None:
        """What an owner's request was granted, open or ended."""
        return self._one(
            f"{_RESERVATION_SELECT} WHERE owner = ? AND request_id = ?", [owner, request_id], to_reservation
        )

    # tickets

    def tickets(self, before: int | None = None) -> list[Ticket]:
        """Every ticket older than one, or every one; the oldest first, also of processes that are gone."""
        where, parameters = (" WHERE id < ?", [before]) if before is not None else ("", list[Value]())
        return [to_ticket(row) for row in self.database.execute(f"{_TICKET_SELECT}{where} ORDER BY id", parameters)]

    def ticket_ids(self, last: int) -> list[int]:
        """The tickets up to one, the oldest first: much cheaper than :meth:`tickets`."""
        return [int(row[0] or 0) for row in self.database.execute(_TICKET_IDS, [last])]

    def ticket(self, ticket_id: int) -> Ticket | None:
        """The ticket with this id."""
        known = 0 < ticket_id < 2**63  # a larger number is no database's
        return self._one(f"{_TICKET_SELECT} WHERE id = ?", [ticket_id], to_ticket) if known else None

    def add_ticket(self, ticket: Ticket) -> Ticket:
        """Saves a new ticket at the end of the queue; the result has its id."""
        return replace(ticket, id=int(self._value(_ADD_TICKET, from_ticket(ticket)) or 0))

    def refresh_ticket(self, ticket_id: int, now: datetime) -> None:
        """Notes that somebody still waits."""
        self._run("UPDATE tickets SET refreshed_at = ? WHERE id = ?", [from_time(now), ticket_id])

    def drop_ticket(self, ticket_id: int) -> None:
        """Takes a ticket out of the queue; nothing happens if it is not there."""
        self.database.stir(parting=True)
        self._run("DELETE FROM tickets WHERE id = ?", [ticket_id])

    def generation(self) -> tuple[int, ...]:
        """Differs from an earlier one when a host or the queue changed since."""
        if self.database.announces:
            return (self.database.version(),)
        row = next(
            iter(
                self.database.execute(
                    "SELECT (SELECT COALESCE(MAX(id), 0) FROM events), COUNT(*), COALESCE(SUM(id), 0) FROM tickets"
                )
            )
        )
        return int(row[0] or 0), int(row[1] or 0), int(row[2] or 0)

    def version(self) -> int:
        """Differs from an earlier one when another connection committed anything since; costs microseconds."""
        return self.database.version()

    def wakes(self) -> int | None:
        """A descriptor that can be read when the version may differ; None: look now and then."""
        return self.database.wakes()

    # events

    def events(self, host: Host | str | None = None, last: int | None = None) -> Iterator[Event]:
        """Events, oldest first: of one host under all its names, of a removed name, or of the whole inventory.

        ``last`` keeps only the newest so many.
        """
        where, parameters = "", list[Value]()
        if isinstance(host, Host):
            where, parameters = " WHERE host_id = ?", [host.id]
        elif host is not None:
            where = " WHERE host_id = (SELECT host_id FROM events WHERE host = ? ORDER BY id DESC LIMIT 1)"
            parameters = [as_stored(host)]
        if last is None:
            return map(to_event, self.database.stream(f"{_EVENT_SELECT}{where} ORDER BY id", parameters))
        newest = self.database.execute(f"{_EVENT_SELECT}{where} ORDER BY id DESC LIMIT {int(last)}", parameters)
        return iter([to_event(row) for row in newest][::-1])

    def last_reservation(self, host: Host) -> str | None:
        """The id of the reservation that held a host last, or holds it now."""
        found = self._value(
            "SELECT reservation FROM events WHERE host_id = ? AND reservation IS NOT NULL ORDER BY id DESC LIMIT 1",
            [host.id],
        )
        return None if found is None else str(found)

    def _add_event(self, host_id: int, event: Event) -> int:
        self.database.stir()
        number = self.database.next_id("events")
        self.database.enqueue(_ADD_EVENT, [number, *from_event(event), host_id])
        return number

    # what the inventory knows about itself

    def get(self, key: str) -> str | None:
        """A value that :meth:`put` kept under a key."""
        value = self._value(*_value_of(key))
        return None if value is None else str(value)

    def put(self, key: str, value: str | None) -> None:
        """Keeps a text under a key; None forgets it."""
        if value is None:
            self._run("DELETE FROM meta WHERE key = ?", [key])
        else:
            self._run(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )

    def policy_text(self) -> str | None:
        """The policy as the text that a person wrote; None if there is none."""
        return self.get(_POLICY)

    def parsed_policy(self) -> dict[str, object]:
        """The policy's tables, empty if there is none; kept beside the text, for it is read often."""
        text = self.get(_PARSED_POLICY)
        return {} if text is None else dict(json.loads(text))

    def keep_policy(self, text: str) -> None:
        """Keeps the text of a valid policy; an empty one forgets it."""
        if text != (self.policy_text() or ""):
            self.put(_POLICY, text or None)
            self.keep_parsed_policy()

    def keep_parsed_policy(self) -> None:
        """Parses the kept text of the policy anew."""
        import tomllib

        text = self.policy_text()
        self.put(_PARSED_POLICY, json.dumps(tomllib.loads(text)) if text else None)

    # the whole inventory, for copies

    def dump(self, table: str) -> Iterator[Row]:
        """Every row of one of :data:`TABLES`, as it is stored."""
        return self.database.stream(f"SELECT {', '.join(TABLES[table])} FROM {table}")

    def load(self, table: str, rows: Iterable[Row]) -> None:
        """Adds rows that :meth:`dump` returned; call :meth:`loaded` after the last table."""
        self.database.load(table, TABLES[table], rows)

    def loaded(self) -> dict[str, int]:
        """Ends a load: no id that was ever given is given again. Returns how many rows each table has."""
        last_host = self._value("SELECT MAX(id) FROM (SELECT id FROM hosts UNION ALL SELECT host_id FROM events) ids")
        self.database.start_ids_after("hosts", int(last_host or 0))
        self.database.start_ids_after("events", int(self._value("SELECT MAX(id) FROM events") or 0))
        return {table: int(self._value(f"SELECT COUNT(*) FROM {table}") or 0) for table in TABLES}

    def _select(self, query: HostQuery, select: str = HOST_SELECT, suffix: str = "") -> Question:
        where, parameters = self.where(query)
        order = "COALESCE(hosts.used_at, 0), hosts.id" if query.by_turn else "hosts.name"
        limit = "" if query.limit is None else f" LIMIT {int(query.limit)}"
        return f"{select}{where} ORDER BY {order}{limit}{suffix}", parameters

    def where(self, query: HostQuery) -> tuple[str, list[Value]]:
        """The condition of a query on ``hosts``, from WHERE on, and its parameters."""
        few = _FEW_OF_A_LIST if query.limit is None else _FEW
        return condition(query, self._rarest(query.selector, few))

    def _rarest(self, selector: Selector, few: str) -> tuple[int, Term] | None:
        """The term that so few hosts fit that to look at them first is best, and how many do.

        None where an order is walked.
        """
        found: tuple[int, Term] | None = None
        for term in () if self.database.knows_frequencies else selector.terms:
            if term.is_negative:
                continue
            fitting, parameters = term.fitting()
            [(number, enough)] = self.database.execute(
                f"SELECT COUNT(*), {few} FROM ({fitting} LIMIT {few} + 1) fits", parameters
            )
            fits = int(number or 0)
            if fits <= int(enough or 0) and (found is None or fits < found[0]):
                found = fits, term
        return found

    def _run(self, sql: str, parameters: Sequence[Value]) -> None:
        for _ in self.database.execute(sql, parameters):
            pass

    def _value(self, sql: str, parameters: Sequence[Value] = ()) -> Value:
        rows = list(self.database.execute(sql, parameters))
        return rows[0][0] if rows else None

    def _one(self, sql: str, parameters: Sequence[Value], make: Callable[[Row], _T]) -> _T | None:
        rows = list(self.database.execute(sql, parameters))
        return make(rows[0]) if rows else None


@contextmanager
def closing(store: Store) -> Iterator[Store]:
    """Closes the store when the block ends."""
    try:
        yield store
    finally:
        store.close()
