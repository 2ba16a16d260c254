"""The bookings and planned maintenances of an inventory: their rows and SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.booking import Booking
from bmhctl.stores.database import Database
from bmhctl.stores.reservations import random_id
from bmhctl.stores.row_format import FLAG, MOMENT, MOMENT_OR_NONE, RowFormat, insert_into, update
from bmhctl.stores.rows import Value, from_json, from_time, to_json
from bmhctl.stores.schema import BOOKING_COLUMNS
from bmhctl.support.values import Frozen

_SELECT = f"SELECT {', '.join(BOOKING_COLUMNS)} FROM bookings"
_ADD = insert_into("bookings", BOOKING_COLUMNS)
_SAVE = update("bookings", BOOKING_COLUMNS[1:])
_FORMAT = RowFormat(
    "booking",
    Booking,
    BOOKING_COLUMNS,
    {
        **dict.fromkeys(("starts_at", "ends_at", "created_at"), MOMENT),
        **dict.fromkeys(("due_at", "ended_at"), MOMENT_OR_NONE),
        "hosts": (lambda ids: to_json([*ids]), lambda text: tuple(int(each) for each in from_json(str(text)))),
        "resumes": FLAG,
    },
    {"wants": "requirements"},
)


class Bookings(Frozen):
    """The bookings and planned maintenances, open and ended."""

    _database: Database

    def get(self, booking_id: str) -> Booking | None:
        """Return the booking with this id, open or ended; None if there is none."""
        return next(iter(self._where("id = ?", booking_id)), None)

    def of_request(self, owner: str, request_id: str) -> list[Booking]:
        """Return the bookings that an owner's request made, open or ended, by their start."""
        first = "SELECT created_at FROM bookings WHERE owner = ? AND request_id = ?"
        where = f"owner = ? AND created_at = ({first}) AND COALESCE(request_id, ?) = ? ORDER BY starts_at"
        return self._where(where, owner, owner, request_id, request_id, request_id)

    def taken_as(self, reservation: str) -> Booking | None:
        """Return the booking that its owner took as this reservation; None if there is no such booking."""
        return next(iter(self._where("reservation = ?", reservation)), None)

    def is_any_open(self) -> bool:
        """Return whether any booking or planned maintenance is open."""
        return bool(self._database.execute("SELECT 1 FROM bookings WHERE due_at IS NOT NULL LIMIT 1"))

    def open(self) -> list[Booking]:
        """Return every open booking, by its start."""
        return self._where("due_at IS NOT NULL ORDER BY starts_at, id")

    def of(self, owner: str, begun_by: datetime | None = None) -> list[Booking]:
        """Return an owner's open bookings, by their start; with ``begun_by``, only those that begin by then."""
        begun, until = ("", ()) if begun_by is None else (" AND starts_at <= ?", (from_time(begun_by),))
        return self._where(f"due_at IS NOT NULL AND owner = ?{begun} ORDER BY starts_at, id", owner, *until)

    def next(self, most: int) -> list[Booking]:
        """Return the open bookings that start first, at most ``most``."""
        return self._where(f"due_at IS NOT NULL ORDER BY starts_at, id LIMIT {int(most)}")

    def all(self) -> list[Booking]:
        """Return every booking, open or ended, by its start."""
        return self._where("1 = 1 ORDER BY starts_at, id")

    def within(self, since: datetime, until: datetime) -> list[Booking]:
        """Return the bookings that were made, ended or set hosts aside between two moments."""
        spans = (
            "created_at >= ? AND created_at < ?",
            "ended_at >= ? AND ended_at < ?",
            "ends_at > ? AND starts_at < ?",
        )
        moments = [from_time(since), from_time(until)] * len(spans)
        return self._where(f"{' OR '.join(spans)} ORDER BY starts_at, id", *moments)

    def due(self, now: datetime) -> list[Booking]:
        """Return the open bookings for which a command has something to do by ``now``: see ``due_at``."""
        return self._where("due_at <= ? ORDER BY due_at, id", from_time(now))

    def _where(self, condition: str, *values: Value) -> list[Booking]:
        return [_FORMAT.value(row) for row in self._database.execute(f"{_SELECT} WHERE {condition}", values)]

    def new_id(self, prefix: str) -> str:
        """Return a short id that no booking of this inventory ever had; ``prefix`` is ``b-`` or ``m-``."""
        while self.get(text := random_id(prefix)) is not None:
            pass
        return text

    def add(self, booking: Booking) -> None:
        """Save a new booking."""
        self._database.execute(_ADD, _FORMAT.row(booking))

    def save(self, booking: Booking) -> None:
        """Save a changed booking."""
        identifier, *values = _FORMAT.row(booking)
        self._database.execute(_SAVE, [*values, identifier])

    def hasten(self, ids: Iterable[str], now: datetime) -> None:
        """Make open bookings due now, so that the next command that writes checks them."""
        for each in ids:
            self._database.execute(
                "UPDATE bookings SET due_at = ? WHERE id = ? AND due_at > ?", [from_time(now), each, from_time(now)]
            )
