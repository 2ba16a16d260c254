"""Work in threads, and what interrupts who waits for it."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import pytest

from bmhctl.support.worker_pool import WorkerPool
from tests.processes import until


class Interruption(BaseException):
    """What a signal raises."""


def test_a_signal_that_woke_another_thread_ends_the_wait_all_the_same() -> None:
    was_cancelled, main = [], threading.get_ident()

    def work(_: str, cancelled: threading.Event) -> str:
        until(lambda: "next" in sys._current_frames()[main].f_code.co_name)
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
        was_cancelled.append(cancelled.wait(20))
        return "done"

    def interrupt(_: int, __: FrameType | None) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        crew = WorkerPool(work, 1)
        crew.start("task")
        with pytest.raises(Interruption):
            crew.next()
        crew.cancel()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert was_cancelled == [True]
