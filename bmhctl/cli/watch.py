"""``--watch``: show a result after each change of the inventory, until q, a signal or a closed pipe ends it."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from bmhctl.cli.pauses import pause_on, polled
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.output import Display, Format
from bmhctl.support.values import replace
from bmhctl.usecases.shared.changes import Pause, await_change
from bmhctl.usecases.shared.context import Context, once

if TYPE_CHECKING:
    from bmhctl.cli.session import Session
    from bmhctl.output.live import LiveView

Look = Callable[[Context], Any]
"""Reads a result with the time ``now``.

It is equal to the one before if nothing to show has changed: in its ``content`` if it has one, else without ``now``.
"""

_AGES = 60.0  # seconds after which the screen is drawn again, because it shows ages


def watch_result(lab: Session, look: Look, interval: str) -> None:
    """Show what ``look`` returns, and again when it changed, no more often than every ``interval``.

    On a terminal the new result replaces the old one, until q is pressed; a pipe gets one more document.
    """
    seconds = parse_duration(interval).total_seconds()
    if not seconds:
        raise UsageError("the interval of --watch is zero", hint="such as --watch 2s")
    if not _is_drawn(lab.display):
        noting = replace(lab.context, report=once(lab.context.report))
        watching = _Watching(noting, look, lab.show, seconds, None)
        await_change(lab.context, pause_on(lab.display), watching.look, watching.is_due)
        return
    from bmhctl.output.live import LiveView

    with LiveView(lab.display, lab.fields) as view, _keys(view) as pause:
        context = replace(lab.context, report=view.note)
        watching = _Watching(context, look, view.show, seconds, _AGES)
        await_change(context, pause, watching.look, watching.is_due)


def _is_drawn(display: Display) -> bool:
    """Return whether a result can be drawn again in its place: as a table, on a terminal that moves its cursor."""
    return display.stdout_tty and display.shown is Format.TABLE and os.environ.get("TERM") != "dumb"


class _Watching:
    """Reads the result after a commit, but no more often than the interval allows."""

    def __init__(
        self, ctx: Context, look: Look, show: Callable[[object], None], interval: float, repeat: float | None
    ) -> None:
        self._ctx = ctx
        self._look = look
        self._show = show
        self._interval = interval
        self._repeat = repeat
        self._looked = float("-inf")
        self._is_pending = False
        self._shown: Any = None

    def look(self) -> None:
        """Read the result now, or later if the last reading is too recent; show it if it changed."""
        now = time.monotonic()
        self._is_pending = now - self._looked < self._interval
        if self._is_pending:
            return
        notes: list[str] = []
        seen = self._look(replace(self._ctx, report=notes.append))
        self._looked = time.monotonic()
        content = seen.content if hasattr(seen, "content") else replace(seen, now=None)
        if content != self._shown or self._repeat is not None:
            self._show(seen)
        self._shown = content
        for text in notes:
            self._ctx.report(text)

    def is_due(self) -> bool:
        """Return whether a postponed look at the inventory is due, or the ages on the screen are out of date."""
        since = time.monotonic() - self._looked
        if self._is_pending and since >= self._interval:
            return True
        return self._repeat is not None and since >= self._repeat


class _QuitError(Exception):
    """The key q was pressed."""


@contextmanager
def _keys(view: LiveView) -> Iterator[Pause]:
    """Yield a function that pauses; if the user presses q during the pause, the block ends.

    Without a terminal on stdin, no keys are read. The settings of the terminal are restored when the block ends, for
    whatever reason, and while the process is stopped.
    """
    descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = None if descriptor is None else termios.tcgetattr(descriptor)
    poll = select.poll()
    noted: set[int] = set()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def enter() -> None:
        if descriptor is not None:
            tty.setcbreak(descriptor, termios.TCSANOW)

    def leave() -> None:
        if descriptor is not None and before is not None:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)

    def stop() -> None:
        view.pause()
        leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # the process continues here after the stop
        signal.signal(signal.SIGTSTP, note)
        enter()
        view.resume()

    def note(number: int, _: FrameType | None) -> None:
        noted.add(number)  # the signal may have come in the middle of drawing

    def pause(seconds: float, wakes: int | None) -> None:
        ready = dict(polled(poll, wakes, seconds))
        if woken in ready:
            os.read(woken, 1024)
        if signal.SIGTSTP in noted:
            stop()
        elif noted:
            view.draw()
        noted.clear()
        if descriptor is not None and descriptor in ready:
            typed = os.read(descriptor, 1024)
            if b"q" in typed.lower():
                raise _QuitError
            if not typed:
                poll.unregister(descriptor)

    signals = (signal.SIGTSTP, signal.SIGWINCH)
    handlers = {number: signal.getsignal(number) for number in signals}
    fd_before = signal.set_wakeup_fd(wake)
    try:
        poll.register(woken, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        enter()
        for number in signals:
            signal.signal(number, note)
        yield pause
    except _QuitError:
        pass
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        leave()
        os.close(woken)
        os.close(wake)
