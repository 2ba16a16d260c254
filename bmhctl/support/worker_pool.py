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

_TICK = 0.5  # seconds after which a wait starts again, so that a pending signal is handled
_TOGETHER = 16  # results that are handled before the pool checks what else is due

PATIENCE = 5.0
"""Seconds that cancelled tasks have to end before the pool stops waiting for them."""


_Ended = tuple[_Task, _Result | None, BaseException | None]
"""A task that ended, with its result or what it raised."""


class WorkerPool(Generic[_Task, _Result]):
    """Runs ``work(task, cancelled)`` in threads, at most ``size`` tasks at a time; it must not return None.

    ``cancelled`` is set when the task must end as soon as it can. The threads are daemons: a task that can't be
    cancelled (a connection without an answer) does not keep the process alive. While tasks are waited for, ``tick`` is
    called now and then, in the caller's thread.
    """

    def __init__(
        self,
        work: Callable[[_Task, threading.Event], _Result],
        size: int,
        tick: Callable[[], None] | None = None,
    ) -> None:
        self._cancelled = threading.Event()
        self._work = work
        self._tick = tick
        self._next_tick = 0.0
        self._size = max(1, size)
        self._done: SimpleQueue[_Ended[_Task, _Result] | Callable[[], None]] = SimpleQueue()
        self._working: dict[int, threading.Event] = {}  # set at the end: a join that is interrupted forgets its thread
        self._unhandled: list[tuple[_Task, _Result]] = []

    def run_all(
        self, items: Iterable[_Item], begin: Callable[[_Item], None], handle: Callable[[_Task, _Result], None]
    ) -> None:
        """Call ``begin`` with each item while a thread is free, and ``handle`` with each result; both in this thread.

        ``begin`` and ``handle`` may each :meth:`start` one task. Raises what they or a task raise, and what a signal
        raises; call :meth:`cancel` then.
        """
        waiting = deque(items)
        while waiting or self._working:
            while waiting and len(self._working) < self._size:
                begin(waiting.popleft())
            if self._working:
                self._unhandled = [self._next()]
                self._handle_all(handle)

    def run_for_ever(self, more: Callable[[], None], handle: Callable[[_Task, _Result], None]) -> None:
        """Call ``more`` now and then and after results, and ``handle`` with each result, until one of them raises.

        Both may :meth:`start` tasks, in any number. Results that are there together are all handled before ``more``.
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
        """Start a task in a thread of its own, unless the pool was cancelled."""
        if not self._cancelled.is_set():
            ended = self._working[id(task)] = threading.Event()
            threading.Thread(target=self._run, args=(task, ended), daemon=True).start()

    def post(self, act: Callable[[], None]) -> None:
        """From a task: have the caller's thread call ``act`` soon, before it handles the task's result.

        What is left when the pool is cancelled is not called.
        """
        self._done.put(act)

    def _next(self) -> tuple[_Task, _Result]:
        """Wait for the next task that ends; return it with its result, or raise what it raised."""
        while True:
            if self._tick is not None and time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + _TICK
                self._tick()
            for ended in self._wait():
                return ended

    def _wait(self) -> list[tuple[_Task, _Result]]:
        """Wait a moment for a task that ends; return it with its result, or raise what it raised. May return none."""
        # A signal that comes just before the wait does not end it; it is handled when the wait times out.
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
        """Ask all tasks to end, and wait up to ``PATIENCE`` for them; none starts after this.

        Returns the results that ``handle`` has not handled: first the one that it was called with when it was
        interrupted, then those of the tasks that ended by themselves before the pool was cancelled.
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
        if not self._cancelled.is_set():  # else it may have ended because of that
            self._done.put(done)
        ended.set()
