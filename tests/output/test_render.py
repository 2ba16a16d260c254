import io

import pytest

from bmhctl.output import Display, Format
from bmhctl.support.values import replace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "tty", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
    ],
)
def test_environment_variables_switch_colour_on_and_off(environ: dict[str, str], tty: bool, colour: bool) -> None:
    stream = Terminal() if tty else io.StringIO()
    display = Display.from_environment(environ, stream, stream)
    assert (display.colour, display.error_colour) == (colour, colour)


def test_the_default_format_is_table_on_a_terminal_and_plain_in_a_pipe() -> None:
    assert Display.from_environment({}, Terminal(), io.StringIO()).shown is Format.TABLE
    assert Display.from_environment({}, io.StringIO(), Terminal()).shown is Format.PLAIN
    assert replace(Display.from_environment({}, Terminal(), Terminal()), format=Format.CSV).shown is Format.CSV


def test_the_width_is_that_of_the_terminal_or_80() -> None:
    assert Display.from_environment({"COLUMNS": "133"}, Terminal(), Terminal()).width == 133
    for odd in ("", "0", "wide", "-3", "²"):
        assert Display.from_environment({"COLUMNS": odd}, Terminal(), Terminal()).width == 80


def test_characters_that_an_encoding_lacks_are_written_as_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    display = Display(stream, stream)
    display.write("große → Kiste\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"gro\\xdfe \\u2192 Kiste\n"  # type: ignore[attr-defined]
    assert not display.unicode
