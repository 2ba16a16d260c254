"""The calendar of leases, read by another program's parser."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from icalendar import Calendar

from bmhctl.output.calendar import calendar
from bmhctl.results import Held

from .samples import BOOKINGS, FLEET, NIGHTLY, NOW

HOSTILE = 'a;b,c\\d "q"\r\nBEGIN:VALARM\x1b[31m' + "ü" * 80


def test_another_program_can_read_each_lease_as_a_calendar_event() -> None:
    text = calendar([Held(NIGHTLY, FLEET[:2]), Held(replace(NIGHTLY, id="r-two", expires_at=None), ())], NOW, "lab.db")
    first, second = Calendar.from_ical(text).walk("VEVENT")
    assert first.decoded("dtstart") == NIGHTLY.created_at.replace(microsecond=0)
    assert first.decoded("dtend") == NIGHTLY.expires_at
    assert str(first["summary"]) == "alice: node01 node02 (nightly tests)"
    assert str(first["uid"]).startswith("r-7k3m@")
    assert second.decoded("dtend") == NOW + timedelta(days=365)
    assert str(second["description"]) == "reservation r-two, without an end"


def test_the_calendar_has_bookings_and_planned_maintenances_too() -> None:
    text = calendar([Held(NIGHTLY, FLEET[:2])], NOW, "lab.db", BOOKINGS.items)
    lease, booked, maintained = Calendar.from_ical(text).walk("VEVENT")
    assert str(lease["summary"]) == "alice: node01 node02 (nightly tests)"
    booking = BOOKINGS.items[0].booking
    assert (booked.decoded("dtstart"), booked.decoded("dtend")) == (booking.starts_at, booking.ends_at)
    assert str(booked["summary"]) == "alice: node01 node02 (demo)"
    assert str(maintained["summary"]) == "maintenance: node01 (power work)"
    assert str(maintained["uid"]).startswith("m-2c5x8w1n@")


def test_the_id_of_an_event_stays_when_its_lease_is_extended() -> None:
    longer = replace(NIGHTLY, expires_at=NOW + timedelta(days=9))
    ids = {
        str(Calendar.from_ical(calendar([Held(each, ())], NOW, "lab.db")).walk("VEVENT")[0]["uid"])
        for each in (NIGHTLY, longer)
    }
    assert len(ids) == 1


def test_hostile_texts_cannot_add_lines_to_a_calendar() -> None:
    text = calendar([Held(replace(NIGHTLY, purpose=HOSTILE), ())], NOW, "lab.db")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    assert "\n" not in text.replace("\r\n", "")
    assert "\x1b" not in text
    (event,) = Calendar.from_ical(text).walk("VEVENT")
    assert not event.subcomponents
    assert "a;b,c\\d" in str(event["summary"])
