"""Find and end tasks that go on without their ``run`` and its watchdog, because both were killed.

Such a task is found by the variables that ``run`` set in its environment: :data:`~bmhctl.support.watchdog.MARK` and
:data:`RESERVATION`. The environment of another user's processes can be read only by root.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from bmhctl.support.command_line import command_of, words_of
from bmhctl.support.values import Frozen
from bmhctl.support.watchdog import MARK, Family, processes

RESERVATION = "BMH_RESERVATION"
"""The variable that has the id of a task's reservation."""

_PATIENCE = 2.0  # seconds to wait for the end of killed processes: one in the kernel ends when it comes back from there
_PAUSE = 0.01
_MOST_NAMED = 5


class Ended(Frozen):
    """What became of the processes of a task, each in words; ``left`` could not be ended."""

    ended: tuple[str, ...]
    left: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return whether there were any."""
        return bool(self.ended or self.left)

    @property
    def outcome(self) -> str:
        """What became of the task, as the end of a sentence."""
        return "could not be ended" if self.left else "was ended"

    def __str__(self) -> str:
        """Which processes were ended, and which were not: ``its task was ended: process 123 (make test)``."""
        parts = [f"its task was ended: {listed(self.ended)}"] if self.ended else []
        if self.left:
            parts.append(f"could not be ended, and may still use its hosts: {listed(self.left)}; end it as root")
        return "; ".join(parts)


class LeftTask:
    """The processes of a task without ``run`` and watchdog, and all that descends from them."""

    def __init__(self, marks: Iterable[str]) -> None:
        self._families = [Family(0, 0, mark) for mark in marks]

    def members(self) -> dict[int, int]:
        """Return the processes that are alive, each with its process group."""
        found: dict[int, int] = {}
        for family in self._families:
            found |= family.members()
        return found

    def has_this_process(self) -> bool:
        """Return whether this process is one of them."""
        return os.getpid() in self.members()

    def end(self) -> Ended:
        """Send KILL to all of them until they have ended, for two seconds at most."""
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
    """Return the tasks on this machine that no watchdog will end, as far as this user may see them, by reservation."""
    known = processes() or {}
    marks: dict[str, dict[str, None]] = {}
    for process in known:
        variables = _variables(process)
        if MARK in variables and RESERVATION in variables:
            marks.setdefault(variables[RESERVATION], {})[variables[MARK]] = None
    # The mark of a task is an argument of its watchdog.
    words = {word for process in known for word in words_of(process)} if marks else set()
    found = {reservation: [mark for mark in of if mark and mark not in words] for reservation, of in marks.items()}
    return {reservation: LeftTask(left) for reservation, left in found.items() if left}


def describe(process: int) -> str:
    """Return a process in words: ``process 123 (make test)``."""
    command = command_of(process)
    return f"process {process}" + (f" ({command})" if command else "")


def listed(processes: Iterable[str]) -> str:
    """Return the first of these processes, and how many more there are."""
    words = [*processes]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more


def _variables(process: int) -> dict[str, str]:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return {}
    return {name: value for name, _, value in (each.partition("=") for each in text.split("\0"))}
