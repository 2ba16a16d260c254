"""The page of ``recycle --watch`` on a terminal: on which hosts steps run, and what is due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from io import StringIO

from bmhctl.domain.units import format_age
from bmhctl.output.layout import Column, Line, columns, paint, table
from bmhctl.output.render import Display, Format, window_of
from bmhctl.results.recycling import Activity, Backlog
from bmhctl.support.folding import folded_within
from bmhctl.support.values import replace

_EVERY = 0.5  # seconds between two pages
_HEADS = (
    Column("HOST"),
    Column("VERB", 4),
    Column("STEP", 0, 8),
    Column("SINCE", 1),
    Column("IN ALL", 3),
    Column("THEN", 2, 8),
)


class RecyclePage:
    """Lines at the bottom of the terminal that are drawn again twice a second, and erased at the end.

    Call :meth:`clear` before anything else writes to the terminal. ``terminal`` is its kind (``$TERM``): on a terminal
    that can't move the cursor, no page is drawn.
    """

    def __init__(self, display: Display, terminal: str | None) -> None:
        self.is_shown = display.shows_progress and terminal not in (None, "", "dumb")
        self._display = display
        self._stream = display.stderr
        self._drawn = 0
        self._next = 0.0

    def __enter__(self) -> RecyclePage:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, backlog: Backlog) -> None:
        """Draw the page if it was erased, or was drawn more than half a second ago."""
        now = time.monotonic()
        if self._drawn and now < self._next:
            return
        self._next = now + _EVERY
        width, height = window_of(self._stream, self._display.error_width)
        buffer = StringIO()
        shown = replace(
            self._display,
            stdout=buffer,
            format=Format.TABLE,
            width=width,
            colour=self._display.error_colour,
        )
        paint(_lines(backlog, width, height), shown)
        self._write(buffer.getvalue())

    def clear(self) -> None:
        """Erase the page; the next :meth:`show` draws it again."""
        if self._drawn:
            self._write("")

    def _write(self, text: str) -> None:
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        with suppress(OSError, ValueError):
            self._stream.write(up + text)
            self._stream.flush()
        self._drawn = text.count("\n")


def _lines(backlog: Backlog, width: int, height: int) -> Iterator[Line]:
    active, room = backlog.activities, max(1, height - 6)
    counts = [
        (len(active), "in progress"),
        (len(backlog.waiting), "waiting"),
        (len(backlog.again), "to be tried again"),
    ]
    words = [f"{number} {word}" for number, word in counts if number]
    yield [
        (" · ".join(words) if words else "waiting for hosts to recycle", "bold"),
        (f"  {time.strftime('%H:%M:%S %Z')}", "dim"),
    ]
    yield from columns(_HEADS, map(_row, active[:room]), width, names_left_out=False) if active else ()
    if len(active) > room:
        yield [(f"and {len(active) - room} more", "dim")]
    soon = format_age(timedelta(seconds=backlog.again[0][1])) if backlog.again else ""
    names = {
        "due": backlog.waiting,
        f"again, first in {soon}": tuple(name for name, _ in backlog.again),
        "run by other processes": backlog.elsewhere,
    }
    words = [word for word, found in names.items() if found]
    room = max(8, width - max(map(len, words), default=0) - 3)
    yield from table((word, [(folded_within(names[word], room), "")]) for word in words)


def _row(activity: Activity) -> list[Line]:
    steps = activity.steps
    return [
        [(activity.host, "")],
        [(activity.verb, "dim")],
        [(", ".join(name for name, _ in steps), "yellow")],
        [(_age(steps[0][1]) if steps else "", "")],
        [(_age(activity.seconds), "dim")],
        [(", ".join(activity.later), "dim")],
    ]


def _age(seconds: float) -> str:
    return format_age(timedelta(seconds=seconds))
