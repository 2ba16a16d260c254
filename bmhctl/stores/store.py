"""The store: an open inventory and its parts; it saves and finds rows, and makes no decisions.

The SQL is written once, with ``?`` for parameters, and both SQLite and PostgreSQL run it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bmhctl.stores.hosts import Hosts, to_host, to_reservation
from bmhctl.stores.rows import EPOCH, MICROSECOND, Row, Value
from bmhctl.stores.schema import DUE_LEASES, SUCCESSOR_KEY
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.domain.model import Host, Reservation
    from bmhctl.domain.policy import Policy
    from bmhctl.stores.bookings import Bookings
    from bmhctl.stores.claims import Claims
    from bmhctl.stores.database import Database, Question
    from bmhctl.stores.declared_hosts import DeclaredHosts
    from bmhctl.stores.departed import Departed
    from bmhctl.stores.events import Events
    from bmhctl.stores.host_query import HostQuery
    from bmhctl.stores.integrity import Integrity
    from bmhctl.stores.meta import Imported, Meta
    from bmhctl.stores.reservations import Reservations
    from bmhctl.stores.step_results import StepResults
    from bmhctl.stores.tickets import QueueEvents, Tickets
    from bmhctl.stores.toml.file import DeclarationFile

_ANY_CLAIM = "(SELECT 1 FROM tickets LIMIT 1), (SELECT 1 FROM bookings WHERE due_at IS NOT NULL LIMIT 1)"
_ANY_LEASE = ", ".join(
    f"(SELECT 1 FROM reservations WHERE {due} ORDER BY {order} LIMIT 1)" for due, order in DUE_LEASES
)
_ANY_DUE = (
    f"{_ANY_LEASE}, (SELECT 1 FROM meta WHERE key = '{SUCCESSOR_KEY}'), "
    "(SELECT 1 FROM bookings WHERE due_at <= ? LIMIT 1)"
)
"""SQL values, separated by commas; one of them is 1 if a lease or booking is due, or the inventory is retired. Their
parameters are :func:`_moments`."""

_PARSED_POLICY: Question = "SELECT value FROM meta WHERE key = 'policy_parsed'", ()


def _part(module: str, kind: str) -> Any:
    """Return the property of a part of the store, whose module is imported when the part is first used."""
    return cached_property(lambda store: getattr(import_module(f"bmhctl.stores.{module}"), kind)(store.database))


class GrantView(Frozen):
    """Everything that a grant needs to know, read in its transaction.

    ``is_hindered`` is whether the hosts can't be granted without more questions: a ticket is in the queue, hosts are
    booked, a lease is due, the inventory is retired, or the id of the new reservation is taken. ``granted`` is the
    reservation that the same request got before. ``free`` are the hosts that may be taken, the least recently used
    first: no step works on them, and no other transaction can change them until this one ends.
    """

    is_hindered: bool
    granted: Reservation | None
    free: tuple[Host, ...]
    policy: Policy


class Store:
    """An open inventory. Use it from one thread, and close it after use.

    ``declaration`` is the TOML file that declares the hosts; None where the database itself does. ``folder`` is the
    folder from which relative paths in the policy start. ``address`` is the location for another process of bmhctl, if
    it differs from the one that messages show. ``given`` is the location by which the inventory was opened. Messages
    show ``location``; by default, this is the path of the TOML file, else the location of the database. ``claims`` is
    called once to make the claims. ``now``, ``savepoint`` and the other methods that are assigned here are those of
    :class:`bmhctl.stores.database.Database`.
    """

    def __init__(
        self,
        database: Database,
        *,
        claims: Callable[[], Claims],
        folder: str,
        declaration: DeclarationFile | None = None,
        address: str | None = None,
        given: str | None = None,
        location: str | None = None,
    ) -> None:
        self.database = database
        self.now, self.last_disruption, self.close = database.now, database.last_disruption, database.close
        self.savepoint, self.abandon = database.savepoint, database.abandon
        self.version, self.generation = database.version, database.generation
        self.wakes, self.follow = database.wakes, database.follow
        self._make_claims = claims
        self.folder = folder
        self.declaration = declaration
        self.settle: Callable[[Collection[str]], object] | None = None
        """Called with the bookings passed to :meth:`make_due`, after the commit of their transaction."""
        self._due: dict[str, None] = {}
        self.hosts = Hosts(database)
        self.location = location or (str(declaration.path) if declaration else database.location)
        """The name of this inventory in messages, without a password."""
        self.address = address or self.location
        """The location of this inventory for another process of bmhctl; it may hold a password."""
        self.given = given or self.address

    @cached_property
    def claims(self) -> Claims:
        """The claims on hosts and tickets."""
        return self._make_claims()

    reservations: cached_property[Reservations] = _part("reservations", "Reservations")
    """The reservations."""

    tickets: cached_property[Tickets] = _part("tickets", "Tickets")
    """The tickets in the queue."""

    bookings: cached_property[Bookings] = _part("bookings", "Bookings")
    """The bookings and planned maintenances."""

    events: cached_property[Events] = _part("events", "Events")
    """The events of the history."""

    step_results: cached_property[StepResults] = _part("step_results", "StepResults")
    """The last result of each step for each host."""

    queue_events: cached_property[QueueEvents] = _part("tickets", "QueueEvents")
    """The history of the queue."""

    departed: cached_property[Departed] = _part("departed", "Departed")
    """The used and retired machines that left the inventory."""

    imported: cached_property[Imported] = _part("meta", "Imported")
    """What the last import declared for each host."""

    meta: cached_property[Meta] = _part("meta", "Meta")
    """Settings and other texts that the inventory keeps about itself: the policy, the successor of a retired one."""

    integrity: cached_property[Integrity] = _part("integrity", "Integrity")
    """The checks and repairs of the database itself, which ``doctor`` runs."""

    declared: cached_property[DeclaredHosts] = _part("declared_hosts", "DeclaredHosts")
    """The declarations of the hosts."""

    def policy(self) -> Policy:
        """Return the inventory's policy; the default policy if none is stored."""
        return _policy_in(self.database.execute(*_PARSED_POLICY))

    def undeclared(self) -> Store:
        """Return the same open inventory without its TOML file, so that it is never synced with the declaration."""
        return Store(
            self.database, claims=lambda: self.claims, folder=self.folder, address=self.address, location=self.location
        )

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the inventory was removed or replaced since it was opened."""
        self.database.check_in_place()
        if self.declaration is not None:
            self.declaration.check_in_place()

    # methods of transactions

    def transaction(self, *, shared: bool = False, reports: bool = False) -> AbstractContextManager[object]:
        """Return a writing transaction: durable when the block ends, undone when the block raises.

        Only one transaction writes at a time, except that ``shared`` ones may run beside each other. So a shared
        transaction locks rows that it reads in order to change them (``lock``), and changes no others. For ``reports``,
        see :meth:`bmhctl.stores.database.Database.transaction`.
        """
        return self.database.transaction(write=True, shared=shared, reports=reports)

    def is_any_due(self, now: datetime) -> bool:
        """Return whether a lease or a booking is due, or the inventory is retired.

        Every writing command begins with this one query.
        """
        [(found,)] = self.database.execute(f"SELECT COALESCE({_ANY_DUE})", _moments(now))
        return found is not None

    def make_due(self, bookings: Iterable[str], now: datetime) -> None:
        """Make open bookings due now; they are settled after the commit of the current writing transaction."""
        due = dict.fromkeys(bookings)
        self.bookings.hasten(due, now)
        self._due |= due
        self.database.after_commit = self._settle_due

    def _settle_due(self) -> None:
        due, self._due = self._due, {}
        if self.settle is not None:
            self.settle(due)

    def snapshot(self) -> AbstractContextManager[object]:
        """Return a reading transaction: everything that its block reads is from one moment."""
        return self.database.transaction(write=False)

    @contextmanager
    def grant_view(
        self,
        queries: Sequence[HostQuery],
        *,
        token: str,
        now: datetime,
        request: tuple[str, str] | None = None,
    ) -> Iterator[GrantView]:
        """Begin a shared writing transaction, and yield everything that a grant needs to know, read in one round trip.

        ``queries`` are for free hosts, ``token`` is the id that the reservation will get, ``request`` an owner and a
        request id.
        """
        taken = "(SELECT 1 FROM reservations WHERE id = ?)"
        questions: list[Question] = [
            (f"SELECT COALESCE({_ANY_CLAIM}, {taken}, {_ANY_DUE})", [token, *_moments(now)]),
            _PARSED_POLICY,
            *(self.reservations.request(*each) for each in (request,) if each is not None),
            *(self.hosts.free(query) for query in queries),
            *self.claims.standing,  # last, when the hosts are locked: each query sees what was committed before it
        ]
        with self.database.transaction(*questions, write=True, shared=True) as (hindrance, policy, *answers):
            before = answers.pop(0) if request is not None else ()
            yield GrantView(
                is_hindered=hindrance[0][0] is not None,
                granted=to_reservation(before[0]) if before else None,
                free=self._unclaimed(answers[: len(queries)], answers[len(queries) :]),
                policy=_policy_in(policy),
            )

    def _unclaimed(self, found: Sequence[Sequence[Row]], standing: Sequence[Sequence[Row]]) -> tuple[Host, ...]:
        free = [to_host(row) for rows in found for row in rows]
        if len(found) > 1:
            unique = {host.id: host for host in free}
            free = sorted(unique.values(), key=lambda host: (host.used_at or EPOCH, host.id))
        claimed = self.claims.claimed_hosts([host.id for host in free], *standing)
        return tuple(host for host in free if host.id not in claimed) if claimed else tuple(free)


def _moments(now: datetime) -> list[Value]:
    return [(now - EPOCH) // MICROSECOND] * 3


def _policy_in(rows: Sequence[Row]) -> Policy:
    """Return the policy in the answer to :data:`_PARSED_POLICY`; the default policy does not need the parser."""
    if rows:
        return _parsed_policy(str(rows[0][0]))
    from bmhctl.domain.policy import Policy

    return Policy()


@lru_cache(maxsize=1)
def _parsed_policy(text: str) -> Policy:
    from bmhctl.domain.policy_parser import parse_policy

    return parse_policy(json.loads(text))
