"""The reservations of an inventory: their rows and SQL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from bmhctl.domain.model import Reservation
from bmhctl.stores.database import Database, Question
from bmhctl.stores.hosts import in_parts, to_reservation
from bmhctl.stores.rows import EPOCH, MICROSECOND, Row, Value, from_time, to_json
from bmhctl.stores.schema import DUE_LEASES, RESERVATION_COLUMNS
from bmhctl.support.values import Frozen

_SELECT = f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM reservations"
_ADD = (
    f"INSERT INTO reservations ({', '.join(RESERVATION_COLUMNS)}) VALUES ({', '.join('?' * len(RESERVATION_COLUMNS))})"
)
_SAVE = f"UPDATE reservations SET {', '.join(f'{c} = ?' for c in RESERVATION_COLUMNS[1:])} WHERE id = ?"

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
        rows = self._database.execute(*self.request(owner, request_id))
        return to_reservation(rows[0]) if rows else None

    def request(self, owner: str, request_id: str) -> Question:
        """Return the query for the reservation that an owner's request got."""
        return f"{_SELECT} WHERE owner = ? AND request_id = ?", [owner, request_id]

    def open(self) -> list[Reservation]:
        """Return every open reservation, the oldest first."""
        rows = self._database.execute(f"{_SELECT} WHERE ended_at IS NULL ORDER BY created_at, id")
        return [to_reservation(row) for row in rows]

    def all(self, *, is_open: bool = False) -> Iterator[Reservation]:
        """Yield every reservation, or with ``is_open`` every open one, the oldest first; they are read in batches."""
        where = " WHERE ended_at IS NULL" if is_open else ""
        return map(to_reservation, self._database.stream(f"{_SELECT}{where} ORDER BY created_at, id"))

    def due(self, now: datetime) -> list[Reservation]:
        """Return the open leases that have ended by ``now`` or count from the future; the first to end comes first."""
        found: dict[str, Reservation] = {}
        for due, order in DUE_LEASES:
            most = 0
            rows: Sequence[Row] = ()
            while len(rows) == most:
                most = max(1, 10 * most)
                rows = self._database.execute(f"{_SELECT} WHERE {due} ORDER BY {order} LIMIT {most}", [from_time(now)])
            found |= {each.id: each for each in map(to_reservation, rows)}
        return sorted(found.values(), key=lambda due: (due.expires_at or due.created_at, due.id))

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of these ids that reservations have, open or ended."""
        return {
            str(row[0])
            for some in in_parts(list(dict.fromkeys(ids)))
            for row in self._database.execute(
                f"SELECT id FROM reservations WHERE id IN ({', '.join('?' * len(some))})", some
            )
        }

    def new_id(self) -> str:
        """Return a short random id that no reservation of this inventory ever had."""
        return self.new_ids(1)[0]

    def new_ids(self, count: int) -> list[str]:
        """Return different short random ids that no reservation of this inventory ever had."""
        found: set[str] = set()
        while len(found) < count:
            made = {random_id() for _ in range(count - len(found))}
            found |= made - self.known(made)
        return list(found)

    def add(self, reservation: Reservation) -> None:
        """Save a new reservation."""
        self._database.enqueue(_ADD, reservation_row(reservation))

    def save(self, reservation: Reservation) -> None:
        """Save a changed reservation."""
        identifier, *values = reservation_row(reservation)
        self._database.enqueue(_SAVE, [*values, identifier])


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
