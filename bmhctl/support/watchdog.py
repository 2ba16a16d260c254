"""End a task when the process that runs it is gone; a script of its own, standard library only.

Its standard input is a pipe that the runner holds open. Whoever becomes the task writes its process id there before
it does; the runner writes ``done`` when it is over. The end of the pipe without that word means that the runner was
killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

GRACE = 5.0
"""Seconds between TERM and KILL."""

DONE = b"done"
"""The runner's last word."""

_PAUSE = 0.02  # seconds between two looks at who still lives


def main(has_group: bool) -> None:
    """Waits for the runner's end, and ends the task unless it is over; ``has_group``: it has one of its own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    said = sys.stdin.buffer.read().split()
    if said and said[-1] != DONE:
        task = int(said[0])
        end_task(task if has_group else 0, task)


def end_task(group: int, root: int, grace: float = GRACE) -> None:
    """Ends all of a :class:`Family`: TERM, and after the grace KILL."""
    family = Family(group, root)
    family.send(signal.SIGTERM)
    family.send(signal.SIGCONT)  # a stopped process gets its TERM only then
    deadline = time.monotonic() + grace
    while family.lives():
        if time.monotonic() >= deadline:
            family.send(signal.SIGKILL)
            if time.monotonic() >= deadline + GRACE:
                return
        time.sleep(_PAUSE)


class Family:
    """A process, all that descends from it, and its group (0: it has none of its own).

    What left the group and lost its parent before anybody looked is not found: a daemon. Without /proc, only the
    group and the process itself are known.
    """

    def __init__(self, group: int, root: int) -> None:
        self._group = group
        self._root = root
        self._seen: set[tuple[int, str]] = set()  # with the time of their start: a number may be given again

    def send(self, number: int) -> None:
        """Sends every member a signal, once."""
        members = self._members()
        if self._group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)
        for process, group in members.items():
            if not self._group or group != self._group:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, number)

    def lives(self) -> bool:
        """Whether any member does."""
        return bool(self._members())

    def _members(self) -> dict[int, int]:
        known = _processes()
        if known is None:
            return {self._root: self._group} if _is_there(self._group, self._root) else {}
        children: dict[int, list[int]] = {}
        for process, (parent, _, _) in known.items():
            children.setdefault(parent, []).append(process)
        waiting = [process for process, start in self._seen if process in known and known[process][2] == start]
        waiting += [process for process, (_, group, _) in known.items() if self._group and group == self._group]
        waiting.append(self._root)
        found: dict[int, int] = {}
        while waiting:
            process = waiting.pop()
            if process not in found:
                if process in known:
                    found[process] = known[process][1]
                waiting += [child for child in children.get(process, ()) if child not in found]
        self._seen = {(process, known[process][2]) for process in found}
        return found


def _processes() -> dict[int, tuple[int, int, str]] | None:
    """Every living process with its parent, its group and the time of its start; None where there is no /proc."""
    found = {}
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent, group, *more = file.read().rsplit(")", 1)[1].split()
                if state not in "ZX":
                    found[int(name)] = (int(parent), int(group), more[16])
    return found or None


def _is_there(group: int, root: int) -> bool:
    try:
        if group:
            os.killpg(group, 0)
        else:
            os.kill(root, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1] == "group")
