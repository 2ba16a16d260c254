"""Long lines are wrapped: between words, and without breaking names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bmhctl.output.sanitize import cell_width
from bmhctl.output.wrapping import wrapped


def lines(text: str, width: int) -> list[str]:
    return [(" " * indent + text[start:end]).rstrip() for indent, start, end in wrapped(text, width)]


def test_a_column_is_not_wrapped_if_it_fits_on_a_line_of_its_own() -> None:
    assert lines("  in 6h58m  lease r-1 of alice@lab  node[305,308] switch1", 40) == [
        "  in 6h58m  lease r-1 of alice@lab",
        "            node[305,308] switch1",
    ]


def test_a_name_that_does_not_fit_below_its_column_is_moved_left_and_not_cut() -> None:
    name = "arm64-devboard-01.rack51.lab.example"
    assert lines(f"lease  of {name} and more", 38) == ["lease  of", f"  {name}", "    and more"]


def test_a_word_wider_than_the_terminal_is_broken_after_punctuation() -> None:
    assert lines("  labels  rack=r5-very-long-name,arch=arm64,role=board", 30) == [
        "  labels",
        "       rack=r5-very-long-name,",
        "          arch=arm64,",
        "          role=board",
    ]
    assert lines("  by  ci-firmware-nightly-builders@buildserver", 30) == [
        "  by",
        "      ci-firmware-nightly-",
        "      builders@buildserver",
    ]


def test_times_are_not_wrapped_and_no_line_begins_with_a_separator() -> None:
    assert lines("lab.db  62 hosts · 16 free · 4 waiting · 2026-11-29 08:54:23 CET", 38) == [
        "lab.db  62 hosts · 16 free ·",
        "        4 waiting ·",
        "        2026-11-29 08:54:23 CET",
    ]
    assert lines("held until 2026-11-29 08:54 CET, not by bob", 31) == [
        "held until",
        "    2026-11-29 08:54 CET, not",
        "    by bob",
    ]
    assert lines("  ✓ wipe-all-disks-and-firmware  exit 0  3d5h ago", 46)[-1].strip() == "3d5h ago"


@given(st.text(alphabet="ab-,. ·✓界", max_size=120), st.integers(8, 60))
def test_no_line_is_too_wide_and_nothing_but_spaces_is_lost(text: str, width: int) -> None:
    shown = lines(text, width)
    assert all(cell_width(line) <= width for line in shown)
    assert "".join(shown).replace(" ", "") == text.replace(" ", "")
