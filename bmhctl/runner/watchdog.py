"""Ends a task when the process that runs it is gone. Run as a script of its own: standard library only.

Its standard input is a pipe that the runner holds open and writes a line to when all went well. The end of the
pipe without that line means that the runner was killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

GRACE = 5.0
"""Seconds between TERM and KILL."""


def main(group: int, child: int) -> None:
    """Waits for the runner's end; ``group`` is the task's process group, 0 when it shares the runner's."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if os.read(0, 1):
        return
    end_task(group, child)


def end_task(group: int, child: int, grace: float = GRACE) -> None:
    """Ends a task and all that descends from it: TERM, and after the grace KILL."""
    members = descendants(child)
    _send(signal.SIGTERM, group, members)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _lives(group, members):
        time.sleep(0.05)
        members |= descendants(child)
    _send(signal.SIGKILL, group, members | descendants(child))


def descendants(root: int) -> set[int]:
    """A process and its descendants, as far as the system tells; those that left for another parent are not seen."""
    children: dict[int, list[int]] = {}
    for entry in _processes():
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(entry)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting += children.get(process, [])
    return found


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _send(number: int, group: int, members: set[int]) -> None:
    if group:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for process in members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def _lives(group: int, members: set[int]) -> bool:
    for process in members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, 0)
            return True
    if group:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, 0)
            return True
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
