from datetime import timedelta

import pytest

from bmhctl.output.records import flatten, iso
from bmhctl.output.sanitize import cell_width, clean, pad, shorten
from bmhctl.output.spans import ago, until

from .samples import HOSTILE, NOW


def test_a_harmless_text_in_any_script_is_left_as_it_is() -> None:
    for text in ("node01", "große Kiste", "サーバー", "a\u3000b", "🖥 rack", ""):
        assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\u2028\ufeff\u200b", r"\u2028\ufeff\u200b"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_sanitized_text_is_printable_and_does_not_change_again() -> None:
    assert clean(HOSTILE).isprintable()
    assert clean(clean(HOSTILE)) == clean(HOSTILE)


def test_widths_are_counted_in_terminal_cells() -> None:
    assert cell_width("abc") == 3
    assert cell_width("サーバー") == 8
    assert cell_width("e\u0301") == 1
    assert pad("サ", 4) == "サ  "
    assert pad("too long", 3) == "too long"


def test_a_cut_text_ends_with_an_ellipsis() -> None:
    assert shorten("nightly tests", 20) == "nightly tests"
    assert shorten("nightly tests", 9) == "nightly…"
    assert shorten("サーバー", 4) == "サ…"
    assert shorten("abc", 1) == "…"
    assert shorten("abc", 0) == ""


def test_times_are_in_utc_for_programs_and_relative_for_people() -> None:
    assert iso(NOW) == "2026-11-23T08:00:00Z"
    assert ago(NOW - timedelta(hours=2), NOW) == "2h ago"
    assert ago(NOW + timedelta(seconds=3), NOW) == "just now"
    assert until(NOW + timedelta(minutes=35), NOW) == "in 35m"
    assert until(NOW - timedelta(minutes=5), NOW) == "overdue 5m"
    assert until(None, NOW) == "no end"


def test_every_value_can_be_shown_in_one_cell() -> None:
    assert flatten(None) == ""
    assert flatten(True) == "yes"
    assert flatten({"arch": "arm64", "gone": None, "n": 3}) == "arch=arm64,n=3"
    assert flatten(["a", "b"]) == "a,b"
