"""Points in time as people write them: local without an offset, and never another hour than was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl import open_inventory
from bmhctl.domain.times import in_utc, parse_moment, parse_past
from bmhctl.errors import UsageError
from tests.conftest import Bmhctl

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text", "at"),
    [
        ("Europe/Berlin", "2h", datetime(2026, 1, 1, 14, tzinfo=UTC)),
        ("Europe/Berlin", "2026-12-24T18:00", datetime(2026, 12, 24, 17, tzinfo=UTC)),
        ("Europe/Berlin", "2026-07-24", datetime(2026, 7, 23, 22, tzinfo=UTC)),
        ("Europe/Berlin", "2027-03-28T02:30+01:00", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
        ("Europe/Berlin", "2027-03-28T01:59", datetime(2027, 3, 28, 0, 59, tzinfo=UTC)),
        ("Europe/Berlin", "2027-03-28T03:00", datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),
        ("UTC", "2027-03-28T02:30", datetime(2027, 3, 28, 2, 30, tzinfo=UTC)),
        ("Asia/Kathmandu", "2026-12-24T18:00", datetime(2026, 12, 24, 12, 15, tzinfo=UTC)),
        ("Europe/Berlin", "2026-12-24 8:00", datetime(2026, 12, 24, 7, tzinfo=UTC)),
        ("Europe/Berlin", "2026-12-24T8:00:30Z", datetime(2026, 12, 24, 8, 0, 30, tzinfo=UTC)),
        ("Europe/Berlin", "24:00", datetime(2026, 1, 1, 23, tzinfo=UTC)),
        ("Europe/Berlin", "tomorrow 24:00", datetime(2026, 1, 2, 23, tzinfo=UTC)),
        ("Europe/Berlin", "thu 24:00", datetime(2026, 1, 1, 23, tzinfo=UTC)),
        ("Europe/Berlin", "wed 24:00:00", datetime(2026, 1, 7, 23, tzinfo=UTC)),
        ("Europe/Berlin", "2026-12-31T24:00", datetime(2026, 12, 31, 23, tzinfo=UTC)),
        ("Europe/Berlin", "2026-12-31 24:00:00+03:00", datetime(2026, 12, 31, 21, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_local(zone: Callable[[str], None], name: str, text: str, at: datetime) -> None:
    zone(name)
    assert parse_moment(text, NOW) == at


@pytest.mark.parametrize(
    ("name", "text", "said", "possible"),
    [
        (
            "Europe/Berlin",
            "2027-03-28T02:30",
            "does not exist",
            ["2027-03-28T01:30+01:00", "2027-03-28T03:30+02:00"],
        ),
        ("Europe/Berlin", "2026-10-25T02:30", "exists twice", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
        ("America/New_York", "2026-11-01T01:00", "exists twice", ["2026-11-01T01:00-04:00", "2026-11-01T01:00-05:00"]),
        (
            "Australia/Lord_Howe",
            "2026-10-04T02:15",
            "does not exist",
            ["2026-10-04T01:45+10:30", "2026-10-04T02:45+11:00"],
        ),
    ],
)
def test_a_time_that_does_not_exist_or_exists_twice_is_refused_with_the_two_that_are_possible(
    zone: Callable[[str], None], name: str, text: str, said: str, possible: list[str]
) -> None:
    zone(name)
    with pytest.raises(UsageError) as caught:
        parse_moment(text, NOW)
    assert caught.value.message == f"{text} {said} here: the clocks change then"
    assert caught.value.hint == f"write {possible[0]} or {possible[1]}"
    for each in possible:
        assert parse_moment(each, NOW) == datetime.fromisoformat(each)


@given(st.datetimes(datetime(2026, 1, 2), datetime(2030, 1, 1)))
def test_every_local_time_is_read_as_the_clock_shows_it_or_refused(at: datetime) -> None:
    try:
        read = in_utc(at)
    except UsageError:
        return
    assert read.astimezone().replace(tzinfo=None) == at


def test_maintain_refuses_an_ambiguous_time_and_changes_nothing(bmhctl: Bmhctl) -> None:
    bmhctl("init")
    bmhctl("add", "node01")
    done = bmhctl("maintain", "node01", "--reason", "disk", "--until", "2099-03-29T02:30", TZ="Europe/Berlin")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr == (
        "bmhctl: 2099-03-29T02:30 does not exist here: the clocks change then\n"
        "hint: write 2099-03-29T01:30+01:00 or 2099-03-29T03:30+02:00\n"
    )
    assert '"state": "initial"' in bmhctl("show", "node01", "-o", "json").stdout


def test_the_python_api_reads_times_in_the_same_way(zone: Callable[[str], None], tmp_path: Path) -> None:
    zone("Europe/Berlin")
    with open_inventory(tmp_path / "lab.db", create=True) as lab:
        lab.add("node01", "node02", "node03")
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        lab.maintain("node01", reason="disk", until=until.astimezone().replace(tzinfo=None))
        lab.maintain("node02", reason="disk", until="2099-12-24T18:00")
        assert lab.host("node01").maintenance[0].until == until
        assert lab.host("node02").maintenance[0].until == datetime(2099, 12, 24, 17, tzinfo=UTC)
        for missing in ("2099-03-29T02:30", datetime(2099, 3, 29, 2, 30)):
            with pytest.raises(UsageError, match="does not exist"):
                lab.maintain("node03", reason="disk", until=missing)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30d", "2025-12-02T12:00:00+00:00"),
        ("1h30m", "2026-01-01T10:30:00+00:00"),
        ("today", "2026-01-01T00:00:00+01:00"),
        ("Yesterday", "2025-12-31T00:00:00+01:00"),
        ("Now", "2026-01-01T12:00:00+00:00"),
        ("2025-12-24", "2025-12-24T00:00:00+01:00"),
        ("2025-12-24T18:00", "2025-12-24T18:00:00+01:00"),
        ("2025-12-24T18:00Z", "2025-12-24T18:00:00+00:00"),
        ("36500d", "1926-01-26T12:00:00+00:00"),
        ("08:00", "2026-01-01T08:00:00+01:00"),
        ("18:00", "2025-12-31T18:00:00+01:00"),
        ("yesterday 18:00", "2025-12-31T18:00:00+01:00"),
        ("thu 13:00", "2026-01-01T13:00:00+01:00"),
        ("thu 13:01", "2025-12-25T13:01:00+01:00"),
        ("Monday", "2025-12-29T00:00:00+01:00"),
        ("24:00", "2026-01-01T00:00:00+01:00"),
        ("yesterday 24:00", "2026-01-01T00:00:00+01:00"),
        ("2025-12-24T24:00", "2025-12-25T00:00:00+01:00"),
    ],
)
def test_a_past_time_can_be_a_duration_a_day_or_a_time(zone: Callable[[str], None], text: str, meant: str) -> None:
    zone("Europe/Berlin")
    assert parse_past(text, NOW) == datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tomorrow 12:00", "2026-01-02T12:00:00+01:00"),
        ("12:00", "2026-01-02T12:00:00+01:00"),
        ("08:00", "2026-01-03T08:00:00+01:00"),
        ("fri 12:00", "2026-01-02T12:00:00+01:00"),
        ("3h", "2026-01-02T12:00:00+01:00"),
    ],
)
def test_the_end_of_a_span_is_after_its_beginning_and_tomorrow_counts_from_today(
    zone: Callable[[str], None], text: str, meant: str
) -> None:
    zone("Europe/Berlin")
    starts = parse_moment("tomorrow 09:00", NOW)
    assert parse_moment(text, starts, said=NOW) == datetime.fromisoformat(meant)


def test_an_end_before_the_beginning_is_reported(zone: Callable[[str], None]) -> None:
    zone("Europe/Berlin")
    with pytest.raises(UsageError, match="the end, tomorrow 08:00, is not after the beginning"):
        parse_moment("tomorrow 08:00", parse_moment("tomorrow 09:00", NOW), said=NOW)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "yesterday 25:00", "today 23:00", "2026-13-01", "2026-01-02", "2026-01-01T13:00Z", "9999-12-31"],
)
def test_an_invalid_or_future_time_is_refused_where_a_past_one_is_expected(text: str) -> None:
    with pytest.raises(UsageError):
        parse_past(text, NOW)


def test_people_see_local_time_with_its_zone_and_programs_see_utc(bmhctl: Bmhctl) -> None:
    berlin = {"TZ": "Europe/Berlin"}
    bmhctl("init")
    bmhctl("add", "node01")
    bmhctl("maintain", "node01", "--reason", "disk", "--until", "2099-07-01T18:00", **berlin)
    bmhctl("add", "node02")
    bmhctl("ready", "node02")
    bmhctl("reserve", "node02", "--ttl", "1h")

    assert "until 2099-07-01 18:00 CEST" in bmhctl("why", "node01", **berlin).stdout
    assert "until 2099-07-01 16:00 UTC" in bmhctl("why", "node01").stdout
    assert "2099-07-01T16:00:00Z" in bmhctl("show", "node01", "-o", "json", **berlin).stdout
    table = bmhctl("history", "node01", "-o", "table", **berlin).stdout
    assert re.search(r" \d\d:\d\d:\d\d CES?T ", table)
    assert re.search(r"T\d\d:\d\d:\d\dZ ", bmhctl("history", "node01", **berlin).stdout)
    refused = bmhctl("taint", "node02", "--as", "bob", **berlin).stderr
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d CES?T", refused)
