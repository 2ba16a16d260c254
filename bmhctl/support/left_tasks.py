"""Find and end tasks that still run although their ``run`` and its watchdog were killed or stopped.

Such a task is recognised by :data:`~bmhctl.support.watchdog.MARK` in its environment, whose value begins with the id of
its reservation. :data:`RESERVATION` does not show this: a shell that outlived its task has the mark of this task, and
may have the id of another reservation from ``reserve --shell``. Only root can read the environment of another user's
processes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from bmhctl.support.command_line import command_of, words_of
from bmhctl.support.values import Frozen
from bmhctl.support.watchdog import MARK, Family

RESERVATION = "BMH_RESERVATION"
"""The environment variable with the id of a task's reservation."""

_PATIENCE = 2.0  # seconds to wait for killed processes: one in a system call ends when the call returns
_PAUSE = 0.01
_MOST_NAMED = 5
_MARKED = f"\0{MARK}=".encode()


def new_mark(reservation: str) -> str:
    """Return a new value of :data:`~bmhctl.support.watchdog.MARK` for a task under a reservation."""
    return f"{reservation}.{os.urandom(8).hex()}"


class Ended(Frozen):
    """The processes of a task that were ended, and those that could not be (``left``), each in words."""

    ended: tuple[str, ...]
    left: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return whether the task had any process."""
        return bool(self.ended or self.left)

    @property
    def outcome(self) -> str:
        """The result for the task, as the end of a sentence."""
        return "could not be ended" if self.left else "was ended"

    def __str__(self) -> str:
        """The processes that were ended, and those that were not: ``its task was ended: process 123 (make test)``."""
        parts = [f"its task was ended: {listed(self.ended)}"] if self.ended else []
        if self.left:
            parts.append(f"could not be ended, and may still use its hosts: {listed(self.left)}; end it as root")
        return "; ".join(parts)


class LeftTask:
    """The processes of a task without ``run`` and watchdog, including all descendants."""

    def __init__(self, marks: Iterable[str]) -> None:
        self._families = [Family(0, 0, mark) for mark in marks]

    def members(self) -> dict[int, int]:
        """Return the living processes, each with its process group."""
        found: dict[int, int] = {}
        for family in self._families:
            found |= family.members()
        return found

    def has_this_process(self) -> bool:
        """Return whether this process is one of the task's."""
        return os.getpid() in self.members()

    def end(self) -> Ended:
        """Send KILL to all processes until they have ended, for two seconds at most; return the result."""
        until = time.monotonic() + _PATIENCE
        known: dict[int, str] = {}
        while (members := self.members()) and time.monotonic() < until:
            known = {process: describe(process) for process in members} | known
            for family in self._families:
                family.send(signal.SIGKILL, members)
            time.sleep(_PAUSE)
        ended = [words for process, words in known.items() if process not in members]
        return Ended(tuple(ended), tuple(map(describe, members)))


def left_tasks() -> dict[str, LeftTask]:
    """Return, by reservation id, the tasks on this machine that no watchdog will end, as far as this user sees them."""
    known = _processes()
    marks = {mark for process in known if (mark := _mark_of(process))}
    found: dict[str, list[str]] = {}
    for mark in marks - _watched(known, marks) if marks else ():
        found.setdefault(mark.rpartition(".")[0], []).append(mark)
    return {reservation: LeftTask(of_task) for reservation, of_task in found.items()}


def _processes() -> list[int]:
    """Return the ids of all processes; none without /proc. To read the state of each takes as long as all the rest."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.exists("/proc/self/environ") else []


def _watched(known: Iterable[int], marks: set[str]) -> set[str]:
    """Return the marks that are an argument of a watchdog which is not stopped."""
    found = set()
    for process in known:
        own = marks.intersection(words_of(process))
        if own and not _is_stopped(process):
            found |= own
    return found


def _is_stopped(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "Tt"
    except OSError:
        return True


def describe(process: int) -> str:
    """Return a process in words: ``process 123 (make test)``."""
    command = command_of(process)
    return f"process {process}" + (f" ({command})" if command else "")


def listed(processes: Iterable[str]) -> str:
    """Return the first of these processes in words, and how many more there are."""
    words = [*processes]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more


def _mark_of(process: int) -> str:
    try:
        with open(f"/proc/{process}/environ", "rb", buffering=0) as file:
            text = b"\0" + file.read()
    except OSError:
        return ""
    return os.fsdecode(text.partition(_MARKED)[2].partition(b"\0")[0])
