"""The end of a task, by the run that started it or by its watchdog."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from bmhctl.support import watchdog


@pytest.mark.slow
def test_kill_comes_in_time_however_long_it_takes_to_list_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine listing processes takes tenths of a second, by which the task outlived its lease."""
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
