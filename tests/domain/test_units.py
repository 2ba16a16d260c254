"""Durations and sizes as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.units import format_age, format_duration, format_size, parse_duration, quantity
from bmhctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("4h", 14400), ("3d", 259200), ("1h30m", 5400), ("0s", 0)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "h", "1m1h", "1.5h", "-1h", "1h 30m", "99999999999d", "36501d", "٣h", "none"]
)
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@given(st.integers(0, 36500 * 86400))
def test_a_duration_reads_back_as_it_is_written(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1m1s"), (700, "11m"), (5400, "1h30m"), (90000, "1d1h")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert format_age(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("64", 64), ("2.5", 2.5), ("1K", 1000), ("1Ki", 1024), ("256GiB", 256 * 2**30), ("1 TB", 10**12), ("8B", 8)],
)
def test_quantities_with_units_are_read_as_numbers(text: str, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "x", "1e9", "GiB", "-1", "1 2", "0x10"])
def test_a_text_that_is_not_a_quantity_gives_none(text: str) -> None:
    assert quantity(text) is None


@given(st.integers(0, 2**62))
def test_a_size_reads_back_as_it_is_written(size: int) -> None:
    assert quantity(format_size(size)) == float(size)
