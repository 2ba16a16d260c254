"""The end of a task, by the run that started it or by its watchdog."""

from __future__ import annotations

import signal
import subprocess
import threading
import time

import pytest

from bmhctl.support import watchdog


@pytest.mark.slow
def test_kill_comes_in_time_however_long_it_takes_to_list_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, listing processes takes tenths of a second; otherwise the task outlives its lease by that
    time."""
    listed = watchdog.processes

    def slowly() -> dict[int, tuple[int, int, str]] | None:
        time.sleep(1)
        return listed()

    monkeypatch.setattr(watchdog, "processes", slowly)
    script = "trap '' TERM; echo; while :; do sleep 0.1; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as task:
        assert task.stdout is not None
        task.stdout.readline()
        began = time.monotonic()
        ended: list[float] = []

        def note() -> None:
            task.wait()
            ended.append(time.monotonic() - began)

        waiter = threading.Thread(target=note)
        waiter.start()
        watchdog.end_task(task.pid, task.pid, 3)
        waiter.join()
    assert 2.9 < ended[0] < 4.5


def test_kill_is_repeated_where_the_lease_ended_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task forks while KILL is sent, and the machine slept until long after the end of the lease."""
    sent: list[int] = []

    def send(family: watchdog.Family, number: int, members: dict[int, int]) -> None:
        sent.append(number)
        if sent.count(signal.SIGKILL) > 1:
            deliver(family, number, members)

    deliver = watchdog.Family.send
    monkeypatch.setattr(watchdog.Family, "send", send)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as task:
        watchdog.end_task(task.pid, task.pid, -3600, left=lambda: -3600)
        try:
            assert task.wait(timeout=10) == -signal.SIGKILL
        finally:
            task.kill()
