"""Run the steps of many hosts at once, in threads that never touch the inventory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_TICK = 0.5  # seconds between two looks whether a signal came

PATIENCE = 5.0
"""Seconds that cancelled tasks have to end before the pool stops waiting for them."""


class WorkerPool(Generic[_Task, _Result]):
    """Runs at most ``size`` tasks at a time; results come in the order in which they are done.

    Each task gets an event that is set when it must end as soon as it can.

    The threads are daemons: a task that can't be cancelled (a connection without an answer) does not keep the
    process alive.
    """

    def __init__(self, work: Callable[[_Task, threading.Event], _Result], size: int) -> None:
        self._cancelled = threading.Event()
        self._work = work
        self._size = size
        self._done: SimpleQueue[tuple[_Task, _Result | None, BaseException | None]] = SimpleQueue()
        self._working: dict[int, threading.Event] = {}  # set at the end: a join that is interrupted forgets its thread

    @property
    def is_full(self) -> bool:
        """Whether another piece of work would have to wait."""
        return len(self._working) >= self._size

    @property
    def is_cancelled(self) -> bool:
        """Return whether the pool was cancelled."""
        return self._cancelled.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being done."""
        return not self._working

    def start(self, task: _Task) -> None:
        """Begins a piece of work."""
        ended = self._working[id(task)] = threading.Event()
        threading.Thread(target=self._run, args=(task, ended), daemon=True).start()

    def next(self) -> tuple[_Task, _Result]:
        """Waits for the next piece of work that is done; raises what it raised."""
        task, result, error = self._next_done()
        del self._working[id(task)]
        if error is not None or result is None:
            raise error or AssertionError("work returned nothing")
        return task, result

    def _next_done(self) -> tuple[_Task, _Result | None, BaseException | None]:
        while True:
            # A signal that comes just before the wait does not end it: it is seen when the wait is over.
            with suppress(Empty):
                return self._done.get(timeout=_TICK)

    def cancel(self) -> list[tuple[_Task, _Result]]:
        """Asks all work to end, and waits a little for it; returns what was done before, and not yet asked for."""
        self._cancelled.set()
        until = time.monotonic() + PATIENCE
        try:
            self._join(until)
        except BaseException:  # noqa: BLE001 - a second Ctrl-C: still collect the results
            self._join(until)
        done: list[tuple[_Task, _Result]] = []
        while True:
            try:
                task, result, error = self._done.get_nowait()
            except Empty:
                return done
            if error is None and result is not None:
                done.append((task, result))

    def _join(self, until: float) -> None:
        for ended in self._working.values():
            ended.wait(max(0.0, until - time.monotonic()))

    def _run(self, task: _Task, ended: threading.Event) -> None:
        try:
            done: tuple[_Task, _Result | None, BaseException | None] = (task, self._work(task, self._cancelled), None)
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            done = (task, None, error)
        if not self._cancelled.is_set():  # else it may have ended for that
            self._done.put(done)
        ended.set()
