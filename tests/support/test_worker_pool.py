"""The worker pool: tasks in threads, and their results after a signal."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import pytest

from bmhctl.support.worker_pool import WorkerPool
from tests.processes import until


class Interruption(BaseException):
    """The exception that a signal raises."""


def test_every_item_is_processed_and_never_more_at_once_than_the_pool_has_threads() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    pair = threading.Barrier(2)

    def work(number: str, _: threading.Event) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        pair.wait(20)  # this ends only if two tasks run at once
        with lock:
            at_once -= 1
        return int(number)

    found: dict[str, int] = {}
    pool = WorkerPool(work, 2)
    pool.run_all([str(number) for number in range(10)], pool.start, found.__setitem__)
    assert found == {str(number): number for number in range(10)}
    assert most == 2


def test_an_error_of_a_task_is_raised_where_its_result_is_awaited() -> None:
    def work(_: str, __: threading.Event) -> str:
        raise ValueError("broken")

    pool = WorkerPool(work, 1)
    with pytest.raises(ValueError, match="broken"):
        pool.run_all(["task"], pool.start, lambda _, __: None)


def test_cancel_returns_all_results_whose_handling_was_not_finished() -> None:
    pool: WorkerPool[str, str] = WorkerPool(lambda task, _: task.upper(), 2)

    def handle(_: str, __: str) -> None:
        until(lambda: pool._done.qsize() == 1)
        raise Interruption

    with pytest.raises(Interruption):
        pool.run_all(["a", "b"], pool.start, handle)
    assert sorted(pool.cancel()) == [("a", "A"), ("b", "B")]
    pool.start("c")
    assert pool.cancel() == []  # no task starts any more, and no result is returned twice


def test_finished_results_are_handled_before_new_tasks_start() -> None:
    pool: WorkerPool[str, str] = WorkerPool(lambda task, _: task.upper(), 3)
    seen: list[str] = []

    def more() -> None:
        seen.append("more")
        if len(seen) > 1:
            raise Interruption
        for task in ("a", "b", "c"):
            pool.start(task)
        until(lambda: pool._done.qsize() == 3)

    with pytest.raises(Interruption):
        pool.run_for_ever(more, lambda _, result: seen.append(result))
    assert (seen[0], sorted(seen[1:-1]), seen[-1]) == ("more", ["A", "B", "C"], "more")


def test_cancel_returns_the_unhandled_results_of_those_that_arrived_together() -> None:
    pool: WorkerPool[str, str] = WorkerPool(lambda task, _: task.upper(), 3)
    handled: list[str] = []

    def more() -> None:
        for task in ("a", "b", "c"):
            pool.start(task)
        until(lambda: pool._done.qsize() == 3)

    def handle(_: str, result: str) -> None:
        if handled:
            raise Interruption
        handled.append(result)

    with pytest.raises(Interruption):
        pool.run_for_ever(more, handle)
    left = [result for _, result in pool.cancel()]
    assert sorted(handled + left) == ["A", "B", "C"]


def test_a_signal_received_by_another_thread_still_ends_the_wait() -> None:
    was_cancelled, main = [], threading.get_ident()

    def work(_: str, cancelled: threading.Event) -> str:
        until(lambda: sys._current_frames()[main].f_code.co_name in ("get", "_wait"))
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
        was_cancelled.append(cancelled.wait(20))
        return "done"

    def interrupt(_: int, __: FrameType | None) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        pool = WorkerPool(work, 1)
        with pytest.raises(Interruption):
            pool.run_all(["task"], pool.start, lambda _, __: None)
        pool.cancel()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert was_cancelled == [True]
