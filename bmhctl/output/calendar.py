"""Leases and bookings as a calendar in the iCalendar format (RFC 5545), which calendar programs subscribe to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain

from bmhctl.output.sanitize import clean
from bmhctl.results import Held
from bmhctl.results.bookings import Booked

_LINE = 75  # the most octets of a line, without its end
_ENDLESS = timedelta(days=365)  # the length of the event of a lease without an end, because every event needs an end
_ESCAPES = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"})


def calendar(leases: Iterable[Held], now: datetime, inventory: str, planned: Iterable[Booked] = ()) -> str:
    """Return leases, bookings and planned maintenances as events.

    Each event has an id that stays the same when its lease is extended or its booking is moved.
    """
    lab = sha256(inventory.encode()).hexdigest()[:12]  # because a calendar must not show the path or URL
    events = chain((_event(held, now, lab) for held in leases), (_booking(item, now, lab) for item in planned))
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//bmhctl//leases//EN", "CALSCALE:GREGORIAN", "METHOD:PUBLISH"]
    lines = [*head, *(line for event in events for line in event), "END:VCALENDAR"]
    return "".join(f"{folded}\r\n" for line in lines for folded in _folded(line))


def _booking(item: Booked, now: datetime, lab: str) -> Iterator[str]:
    booking = item.booking
    what = "maintenance: " if booking.is_maintenance else f"{booking.owner}: "
    yield "BEGIN:VEVENT"
    yield f"UID:{_text(booking.id)}@{lab}.bmhctl"
    yield f"DTSTAMP:{_time(now)}"
    yield f"DTSTART:{_time(booking.starts_at)}"
    yield f"DTEND:{_time(booking.ends_at)}"
    yield f"SUMMARY:{_text(what + ' '.join(item.hosts) + (f' ({booking.purpose})' if booking.purpose else ''))}"
    yield f"DESCRIPTION:{_text(f'booking {booking.id} of {booking.owner}')}"
    yield "STATUS:CANCELLED" if booking.ended_at is not None and not booking.reservation else "STATUS:CONFIRMED"
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _event(held: Held, now: datetime, lab: str) -> Iterator[str]:
    lease = held.reservation
    names = " ".join(host.name for host in held.hosts)
    end = lease.expires_at or now + _ENDLESS
    yield "BEGIN:VEVENT"
    yield f"UID:{_text(lease.id)}@{lab}.bmhctl"
    yield f"DTSTAMP:{_time(now)}"
    yield f"DTSTART:{_time(lease.created_at)}"
    yield f"DTEND:{_time(max(end, lease.created_at + timedelta(seconds=1)))}"
    yield f"SUMMARY:{_text(f'{lease.owner}: {names}' + (f' ({lease.purpose})' if lease.purpose else ''))}"
    yield f"DESCRIPTION:{_text(f'reservation {lease.id}' + ('' if lease.expires_at else ', without an end'))}"
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(text: str) -> str:
    return clean(text).translate(_ESCAPES)


def _folded(line: str) -> Iterator[str]:
    """Yield a line in parts of at most 75 octets; all but the first begin with a space, and no character is cut."""
    part, size = "", 0
    for character in line:
        octets = len(character.encode())
        if size + octets > _LINE:
            yield part
            part, size = " ", 1
        part += character
        size += octets
    yield part
