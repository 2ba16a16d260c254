"""Bookings and planned maintenances: as a table, records and a calendar."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.booking import Booking
from bmhctl.domain.units import local_time
from bmhctl.output.layout import Column, Listing, listing
from bmhctl.output.records import Fields, Record, attributes, iso, record_of
from bmhctl.output.render import NAMED, Display, Format, View
from bmhctl.output.spans import until
from bmhctl.results.bookings import Booked, Bookings
from bmhctl.support.folding import in_short


def state_of(booked: Booked, now: datetime) -> str:
    """Return the state of a booking, or why it ended, in a word or two."""
    booking = booked.booking
    if booking.ended_at is not None:
        return booking.end_reason or "ended"
    if booking.ends_at <= now:
        return "overdue"
    if booked.is_short:
        return "short of hosts"
    return "now" if booking.has_begun(now) else "ahead"


def _span(starts: datetime, ends: datetime) -> tuple[str, str]:
    """Return the beginning and the end of a time span in the local zone; the same day or zone is written only once."""
    begin, end = starts.astimezone(), ends.astimezone()
    if begin.utcoffset() != end.utcoffset():
        return local_time(starts), local_time(ends)
    same_day = begin.date() == end.date()
    return f"{begin:%Y-%m-%d %H:%M}", local_time(ends, "%H:%M" if same_day else "%Y-%m-%d %H:%M")


def _ahead(booking: Booking, now: datetime) -> str:
    return until(booking.starts_at, now) if now < booking.starts_at else ""


def _hosts(item: Booked) -> list[str]:
    """Return the hosts as ranges; those that will not be usable come first."""
    return [*(f"{name}!" for name in item.trouble), *in_short(name for name in item.hosts if name not in item.trouble)]


_COLUMNS: Listing[Booked, Bookings] = (
    (Column("BOOKING"), lambda item, _: [(item.booking.id, "bold")]),
    (Column("OWNER", 1, 10), lambda item, _: [(item.booking.owner, "")]),
    (Column("FROM"), lambda item, _: [(_span(item.booking.starts_at, item.booking.ends_at)[0], "")]),
    (Column("UNTIL", 1), lambda item, _: [(_span(item.booking.starts_at, item.booking.ends_at)[1], "")]),
    (Column("STARTS", 4), lambda item, result: [(_ahead(item.booking, result.now), "")]),
    (Column("HOSTS", 0, 24, below=True), lambda item, _: [(" ".join(_hosts(item)), "")]),
    (Column("PURPOSE", 2, 12), lambda item, _: [(item.booking.purpose or "", "")]),
    (Column("STATE", 3, 14), lambda item, result: [(state_of(item, result.now), "red" if item.is_short else "")]),
)


_FIELDS: Fields[Booked] = {
    **attributes("id", of="booking"),
    "kind": lambda item, _: "maintenance" if item.booking.is_maintenance else "booking",
    **attributes("owner", "purpose", "starts_at", "ends_at", of="booking"),
    **attributes("hosts", "trouble"),
    "wants": lambda item, _: item.requirements,
    "state": state_of,
    **attributes("resumes", "reservation", "request_id", "created_at", "ended_at", "end_reason", of="booking"),
}


def booking_record(item: Booked, now: datetime) -> Record:
    """Return one booking or planned maintenance; ``kind`` says which."""
    return record_of(item, _FIELDS, now)


def _calendar(result: Bookings, _: Display) -> Iterable[str]:
    from bmhctl.output.calendar import calendar

    return [calendar((), result.now, result.inventory, result.items)]


VIEWS = {
    Bookings: View(
        (*NAMED, Format.ICS),
        tuple(_FIELDS),
        ("id", "owner", "starts_at", "ends_at", "hosts", "state", "purpose"),
        key="bookings",
        head=lambda result: {"now": iso(result.now), "notes": [*result.notes]},
        records=lambda result: (booking_record(item, result.now) for item in result.items),
        names=lambda result: (item.booking.id for item in result.items),
        lines=lambda result, display: listing(_COLUMNS, result.items, result, display.width),
        notes=lambda result, _: result.notes,
        empty=lambda result: result.none or "no bookings: bmhctl reserve --from WHEN makes one",
        writers={Format.ICS: _calendar},
    )
}
