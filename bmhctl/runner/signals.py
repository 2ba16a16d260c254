"""Signals to ``run``: before the task has started they end ``run``, later they are passed on to the task."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import FrameType

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,  # of an alarm that was set before run was started: perl -e 'alarm 60; exec @ARGV' bmhctl run …
)
"""The signals that ``run`` passes on to its task."""

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""The signals that a terminal sends to a task in the foreground as well as to ``run``."""


class Signals:
    """Handle the signals to this process in a ``with`` block; ignored signals stay ignored, for the task as well.

    The first signal raises :class:`SystemExit` with 128+n; later ones don't interrupt the cleanup that follows. After
    :meth:`hold` no signal raises: signals are collected until :meth:`wait` returns them.
    """

    def __init__(self) -> None:
        self.held = False
        self._before: dict[int, object] = {}
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)

    def __enter__(self) -> Signals:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *PASSED_ON):
            before = signal.getsignal(number)
            if before != signal.SIG_IGN or number == signal.SIGCHLD:
                self._before[number] = before
                signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self.held = True
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.getsignal returned it
        os.close(self._reader)
        os.close(self._writer)

    def hold(self) -> None:
        """From now on collect signals."""
        self._drain()
        self.held = True

    def release(self) -> None:
        """From now on a signal ends the process again."""
        self.held = False

    def wait(self, seconds: float) -> list[int]:
        """Return the collected signals, the oldest first; without any, wait for one, ``seconds`` or :meth:`wake`."""
        select.select([self._reader], [], [], max(0.0, seconds))
        return [number for number in self._drain() if number in PASSED_ON]

    def wake(self) -> None:
        """End a :meth:`wait`; from any thread."""
        with suppress(OSError):
            os.write(self._writer, b"\0")

    def _drain(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._reader, 65536)
        return b""

    def _take(self, number: int, frame: FrameType | None) -> None:
        """Raise for the first signal, unless signals are held: their numbers are in the pipe."""
        if not self.held and number != signal.SIGCHLD:
            self.held = True
            raise SystemExit(128 + number)
