"""One line of progress on stderr for work that takes longer than a second."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from threading import Event, RLock, Thread

from bmhctl.domain.units import format_age
from bmhctl.output.render import Display, encodable, unicode_capable, window_of
from bmhctl.output.sanitize import cell_width, clean, shorten

PATIENCE = 1.0
"""Seconds of work before the line is shown."""

_TICK = 0.25


class Progress:
    """A line such as ``checking node01 … 12s (3 of 7)``, updated every second and erased at the end.

    It is never shown if stderr is not a terminal, with ``--quiet`` or in JSON mode. Call :meth:`clear` before
    anything else writes to the terminal; the end of a ``with`` block does that, too. Any thread may call its methods.
    """

    def __init__(self, display: Display) -> None:
        self._stream = display.stderr
        self._width = display.error_width
        self._wanted = display.shows_progress
        self._now: tuple[str, str, float] = ("", "", 0.0)
        self._drawn = 0
        self._over: Event | None = None
        self._thread: Thread | None = None
        self._lock = RLock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def progress(self, text: str, place: str = "") -> None:
        """Show what is in progress from now on, and its position (``3 of 7``)."""
        if not self._wanted:
            return
        with self._lock:
            self._now = (text, place, time.monotonic())
            if self._thread is None:
                self._over = Event()
                self._thread = Thread(target=self._keep_time, args=(self._over,), daemon=True)
                self._thread.start()

    def clear(self) -> None:
        """Erase the line, and show nothing until the next :meth:`progress`."""
        with self._lock:
            if self._thread is None or self._over is None:
                return
            self._over.set()
            self._thread.join()
            self._thread = None
            if self._drawn:
                self._write("")

    def _keep_time(self, over: Event) -> None:
        dots = "…" if unicode_capable(self._stream) else "..."
        wait = PATIENCE
        while not over.wait(wait):
            wait = _TICK
            text, place, since = self._now
            age = format_age(timedelta(seconds=time.monotonic() - since))
            room = window_of(self._stream, self._width).columns - 1
            self._write(shorten(f"{clean(text)} {dots} {age}" + (f" ({place})" if place else ""), room, dots))

    def _write(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(encodable(f"\r{' ' * self._drawn}\r{line}", self._stream))
            self._stream.flush()
        self._drawn = cell_width(line)
