"""The reservations of an inventory: their rows and SQL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import End, Reservation
from bmhctl.stores.rows import (
    EPOCH,
    MICROSECOND,
    UNREADABLE,
    Row,
    Value,
    from_json,
    from_time,
    to_json,
    unreadable,
)
from bmhctl.stores.schema import RESERVATION_COLUMNS, SUCCESSOR_KEY
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_SELECT = f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM reservations"
_ADD = (
    f"INSERT INTO reservations ({', '.join(RESERVATION_COLUMNS)}) VALUES ({', '.join('?' * len(RESERVATION_COLUMNS))})"
)
_SAVE = f"UPDATE reservations SET {', '.join(f'{c} = ?' for c in RESERVATION_COLUMNS[1:])} WHERE id = ?"
OF_REQUEST = f"{_SELECT} WHERE owner = ? AND request_id = ?"
"""Selects the reservation that an owner's request got."""

_COUNTED_FROM = "COALESCE(renewed_at, created_at)"
_DUE = (
    ("ended_at IS NULL AND expires_at <= ?", "expires_at"),
    (f"ended_at IS NULL AND expires_at IS NOT NULL AND {_COUNTED_FROM} > ?", f"{_COUNTED_FROM} DESC"),
)
"""Conditions for due leases, each with the order of its index. The order and a limit make PostgreSQL use the index:
it expects most leases to be due, and would otherwise read all open ones to find none."""

_ANY_LEASE = ", ".join(f"(SELECT 1 FROM reservations WHERE {due} ORDER BY {order} LIMIT 1)" for due, order in _DUE)
_ANY_BOOKING = "(SELECT 1 FROM bookings WHERE due_at <= ? LIMIT 1)"
ANY_DUE = f"{_ANY_LEASE}, (SELECT 1 FROM meta WHERE key = '{SUCCESSOR_KEY}'), {_ANY_BOOKING}"
"""SQL values, separated by commas; one of them is 1 if a lease or booking is due, or the inventory is retired. Their
parameters are :func:`due_moments`."""

_NO_TAGS: dict[str, str] = {}  # a shared value, since most reservations have no tags
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, without the confusable letters i, l, o and u


class Reservations(Frozen):
    """The reservations, open and ended."""

    _database: Database

    def get(self, reservation_id: str) -> Reservation | None:
        """Return the reservation with this id, open or ended; None if there is none."""
        rows = self._database.execute(f"{_SELECT} WHERE id = ?", [reservation_id])
        return to_reservation(rows[0]) if rows else None

    def of_request(self, owner: str, request_id: str) -> Reservation | None:
        """Return the reservation that an owner's request got, open or ended; None if it got none."""
        rows = self._database.execute(OF_REQUEST, [owner, request_id])
        return to_reservation(rows[0]) if rows else None

    def open(self) -> list[Reservation]:
        """Return every open reservation, the oldest first."""
        rows = self._database.execute(f"{_SELECT} WHERE ended_at IS NULL ORDER BY created_at, id")
        return [to_reservation(row) for row in rows]

    def all(self, *, is_open: bool = False) -> Iterator[Reservation]:
        """Yield every reservation, or with ``is_open`` every open one, the oldest first; they are read in batches."""
        where = " WHERE ended_at IS NULL" if is_open else ""
        return map(to_reservation, self._database.stream(f"{_SELECT}{where} ORDER BY created_at, id"))

    def due(self, now: datetime, latest: datetime) -> list[Reservation]:
        """Return the open leases that end by ``now`` or count from a time after ``latest``; the first to end first."""
        found: dict[str, Reservation] = {}
        for (due, order), moment in zip(_DUE, (now, latest), strict=True):
            most = 0
            rows: Sequence[Row] = ()
            while len(rows) == most:
                most = max(1, 10 * most)
                rows = self._database.execute(
                    f"{_SELECT} WHERE {due} ORDER BY {order} LIMIT {most}", [from_time(moment)]
                )
            found |= {each.id: each for each in map(to_reservation, rows)}
        return sorted(found.values(), key=lambda due: (due.expires_at or due.created_at, due.id))

    def is_any_due(self, now: datetime, latest: datetime) -> bool:
        """Return whether :meth:`due` would return any lease, a booking is due, or the inventory is retired.

        Every writing command begins with this one query.
        """
        moments = due_moments(now, latest)
        [(found,)] = self._database.execute(f"SELECT COALESCE({ANY_DUE})", moments)
        return found is not None

    def new_id(self) -> str:
        """Return a short random id that no reservation of this inventory ever had."""
        while self.get(text := random_id()) is not None:
            pass
        return text

    def add(self, reservation: Reservation) -> None:
        """Save a new reservation."""
        self._database.enqueue(_ADD, reservation_row(reservation))

    def save(self, reservation: Reservation) -> None:
        """Save a changed reservation."""
        identifier, *values = reservation_row(reservation)
        self._database.enqueue(_SAVE, [*values, identifier])


def due_moments(now: datetime, latest: datetime) -> list[Value]:
    """Return the parameters of :data:`ANY_DUE`, from the arguments of :meth:`Reservations.due`."""
    at = (now - EPOCH) // MICROSECOND
    return [at, (latest - EPOCH) // MICROSECOND, at]


def random_id(prefix: str = "r-") -> str:
    """Return a short random id, ``r-7k3m9q2x``; the caller checks that no reservation has it."""
    number = int.from_bytes(os.urandom(5), "big")
    return prefix + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 40, 5))


def reservation_row(reservation: Reservation) -> list[Value]:
    """Return the values of :data:`RESERVATION_COLUMNS`."""
    return [
        reservation.id,
        reservation.owner,
        reservation.purpose,
        (reservation.created_at - EPOCH) // MICROSECOND,
        None if reservation.expires_at is None else (reservation.expires_at - EPOCH) // MICROSECOND,
        None if reservation.ttl is None else reservation.ttl // MICROSECOND,
        None if reservation.ended_at is None else (reservation.ended_at - EPOCH) // MICROSECOND,
        reservation.end_reason,
        None if reservation.end is None else reservation.end.value,
        reservation.requirements,
        reservation.request_id,
        None if reservation.renewed_at is None else (reservation.renewed_at - EPOCH) // MICROSECOND,
        None if reservation.params is None else to_json(dict(reservation.params)),
        None if reservation.prepared_at is None else (reservation.prepared_at - EPOCH) // MICROSECOND,
        None if reservation.asked_at is None else (reservation.asked_at - EPOCH) // MICROSECOND,
        to_json(dict(reservation.tags)) if reservation.tags else None,
        to_json([*reservation.shared_with]) if reservation.shared_with else None,
    ]


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
