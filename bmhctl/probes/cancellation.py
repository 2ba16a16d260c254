"""Work that can be cancelled, and work with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol, TypeVar

from bmhctl.support.values import Frozen
from bmhctl.support.watchdog import steady

_TICK = 0.1  # seconds between two checks whether the work was cancelled
_T = TypeVar("_T")


class Cancelled(Protocol):
    """Shows whether work was cancelled; a :class:`threading.Event` can be used as one."""

    def is_set(self) -> bool:
        """Return whether the work was cancelled."""

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a cancellation; return whether there was one."""


class AnyOf(Frozen):
    """Cancelled as soon as one of several others is cancelled."""

    others: tuple[Cancelled, ...]

    def is_set(self) -> bool:
        """Return whether one of the others is cancelled."""
        return any(other.is_set() for other in self.others)

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until one of the others is cancelled; return whether one is."""
        deadline = time.monotonic() + timeout
        while not self.is_set() and (left := deadline - time.monotonic()) > 0:
            self.others[0].wait(min(_TICK, left))
        return self.is_set()


class Due(Frozen):
    """Cancelled from a moment on, measured with :func:`bmhctl.support.watchdog.steady`."""

    at: float

    def is_set(self) -> bool:
        """Return whether the moment has come."""
        return steady() >= self.at

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the moment; return whether it has come."""
        time.sleep(max(0.0, min(timeout, self.at - steady())))
        return self.is_set()


class InterruptedStepError(Exception):
    """The work was cancelled."""


def within(seconds: float, cancelled: Cancelled, work: Callable[[], _T]) -> _T:
    """Return what ``work`` returns, or raise what it raises; raise :class:`TimeoutError` after ``seconds``.

    Raises :class:`InterruptedStepError` if the work is cancelled. Work that can't be ended from outside (the resolution
    of a name, a server that sends a byte now and then) goes on in its thread, so it must not change anything after the
    time limit.
    """
    has_ended, values, errors = Event(), list[_T](), list[BaseException]()

    def find() -> None:
        try:
            values.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            errors.append(error)
        has_ended.set()

    Thread(target=find, daemon=True).start()
    deadline = time.monotonic() + seconds
    while not has_ended.wait(max(0.0, min(_TICK, deadline - time.monotonic()))):
        if cancelled.is_set():
            raise InterruptedStepError
        if time.monotonic() >= deadline:
            raise TimeoutError
    for error in errors:
        raise error
    return values[0]
