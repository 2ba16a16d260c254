"""Run tasks in threads, several at once, while the caller's thread starts them and handles their results."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_TICK = 0.5  # seconds after which a wait is interrupted, so that Python handles a pending signal
_TOGETHER = 16  # the most results that are handled before ``more`` is called again

PATIENCE = 5.0
"""Seconds that cancelled tasks have to end before the pool stops waiting for them."""


_Ended = tuple[_Task, _Result | None, BaseException | None]
"""A task that ended, with its result or what it raised."""


class WorkerPool(Generic[_Task, _Result]):
    """Runs ``work(task, cancelled)`` in threads, at most ``size`` tasks at a time; ``work`` must not return None.

    ``cancelled`` is set when the task must end as soon as it can. The threads are daemons: a task that can't be
    cancelled, because a connection does not answer, does not keep the process alive. While the pool waits for tasks, it
    calls ``idle`` in the caller's thread when all results that have arrived are handled. ``idle`` may be set at any
    time.
    """

    def __init__(self, work: Callable[[_Task, threading.Event], _Result], size: int) -> None:
        self.idle: Callable[[], None] | None = None
        self._cancelled = threading.Event()
        self._work = work
        self._size = max(1, size)
        self._done: SimpleQueue[_Ended[_Task, _Result] | Callable[[], None]] = SimpleQueue()
        self._working: dict[int, threading.Event] = {}  # set when a thread ends
        self._unhandled: list[tuple[_Task, _Result]] = []

    def run_all(
        self, items: Iterable[_Item], begin: Callable[[_Item], None], handle: Callable[[_Task, _Result], None]
    ) -> None:
        """Call ``begin`` with each item while a thread is free, and ``handle`` with each result; both in this thread.

        ``begin`` and ``handle`` may each :meth:`start` one task. Raises what they, a task or a signal handler raise;
        the caller then calls :meth:`cancel`.
        """
        waiting = deque(items)
        while waiting or self._working:
            while waiting and len(self._working) < self._size:
                begin(waiting.popleft())
            if self._working:
                self._unhandled = [self._next()]
                self._handle_all(handle)

    def run_for_ever(self, more: Callable[[], None], handle: Callable[[_Task, _Result], None]) -> None:
        """Call ``more`` regularly and after results, and ``handle`` with each result, until one of the two raises.

        Both may :meth:`start` any number of tasks. All results that have arrived are handled before ``more`` is called.
        """
        while True:
            more()
            self._unhandled = self._wait()
            while not self._done.empty() and len(self._unhandled) < _TOGETHER:
                self._unhandled += self._wait()
            self._handle_all(handle)

    def _handle_all(self, handle: Callable[[_Task, _Result], None]) -> None:
        while self._unhandled:
            handle(*self._unhandled[0])
            del self._unhandled[0]

    def start(self, task: _Task) -> None:
        """Start a task in its own thread, unless the pool was cancelled."""
        if not self._cancelled.is_set():
            ended = self._working[id(task)] = threading.Event()
            threading.Thread(target=self._run, args=(task, ended), daemon=True).start()

    def post(self, act: Callable[[], None]) -> None:
        """Called by a task: have the caller's thread call ``act`` soon, before it handles the task's result.

        Calls that are still waiting when the pool is cancelled are dropped.
        """
        self._done.put(act)

    def _next(self) -> tuple[_Task, _Result]:
        """Wait for the next task that ends; return it with its result, or raise what it raised."""
        while True:
            if self.idle is not None and self._done.empty():
                self.idle()
            for ended in self._wait():
                return ended

    def _wait(self) -> list[tuple[_Task, _Result]]:
        """Wait a moment for a task to end; return it with its result, or raise what it raised. May return nothing."""
        # A signal that arrives just before the wait does not end the wait; it is handled after the timeout.
        try:
            done = self._done.get(timeout=_TICK)
        except Empty:
            return []
        if not isinstance(done, tuple):
            done()
            return []
        task, result, error = done
        del self._working[id(task)]
        if error is not None or result is None:
            raise error or AssertionError("work returned nothing")
        return [(task, result)]

    def cancel(self) -> list[tuple[_Task, _Result]]:
        """Ask all tasks to end, and wait up to ``PATIENCE`` seconds for them; no task starts after this.

        Returns the results that were not handled: first the one whose ``handle`` was interrupted, then those of the
        tasks that ended by themselves before the pool was cancelled.
        """
        self._cancelled.set()
        until = time.monotonic() + PATIENCE
        try:
            self._join(until)
        except BaseException:  # noqa: BLE001 - a second Ctrl-C: still collect the results
            self._join(until)
        done, self._unhandled = self._unhandled, []
        while True:
            try:
                ended = self._done.get_nowait()
            except Empty:
                return done
            if isinstance(ended, tuple) and ended[2] is None and ended[1] is not None:
                done.append((ended[0], ended[1]))

    def _join(self, until: float) -> None:
        for ended in self._working.values():
            ended.wait(max(0.0, until - time.monotonic()))

    def _run(self, task: _Task, ended: threading.Event) -> None:
        try:
            done: _Ended[_Task, _Result] = (task, self._work(task, self._cancelled), None)
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            done = (task, None, error)
        if not self._cancelled.is_set():  # a task that ends after a cancel may have ended because of it
            self._done.put(done)
        ended.set()
