"""End a task when the process that runs it has died, or when its lease ends; a separate script, stdlib only.

The watchdog's standard input is a pipe that the runner holds open. The task's process id comes first. Either the
process that becomes the task writes it, or the runner writes it after the start. In the second case, the runner writes
:data:`OUTPUT` before the start. The runner writes ``until``, ``grace`` and ``margin`` of the lease at its start and at
each renewal (see :class:`Deadline`), and ``done`` at the end. If the pipe ends without ``done``, the runner was killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

GRACE = 5.0
"""Seconds between TERM and KILL."""

DONE = b"done\n"
"""The last word that the runner writes."""

OUTPUT = b"output %d\n"
"""Announces the inode of the pipe that the task writes to; it identifies the task until its process id is known."""

MARK = "BMHCTL_RUN"
"""A variable in a task's environment, by which processes are found that left the task's group: daemons inherit it."""

LEASE_OVER = 3
"""The watchdog's exit status when it ended the task because its lease was about to end."""

_PAUSE = 0.02  # seconds between two checks of which processes are alive
_MOST_MARGIN = 1.0  # at most, the seconds between KILL and the end of a lease
_LAG = 0.2  # the share of the grace by which the watchdog acts later than the runner


def steady() -> float:
    """Return the seconds of a clock that is never set, and that goes on while the machine sleeps."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


class Deadline:  # a NamedTuple or a dataclass would double the start-up time of a watchdog
    """When a lease ends, by :func:`steady`, and when the task is ended before that.

    TERM is sent ``grace`` + ``margin`` seconds before the end of the lease, KILL ``margin`` seconds before it.
    """

    __slots__ = ("ends", "grace", "margin")

    def __init__(self, ends: float, grace: float, margin: float) -> None:
        self.ends = ends
        self.grace = grace
        self.margin = margin

    @classmethod
    def of(cls, left: float, most_grace: float, now: float | None = None) -> Deadline:
        """Return the deadline of a lease with ``left`` seconds left at the :func:`steady` time ``now`` (None: now).

        The grace is at most a quarter of these seconds, and at most ``most_grace``.
        """
        ends = (steady() if now is None else now) + left
        return cls(ends, max(0.0, min(most_grace, left / 4)), max(0.0, min(_MOST_MARGIN, left / 10)))

    def sooner(self, seconds: float) -> Deadline:
        """Return the deadline of a lease that ends ``seconds`` earlier."""
        return Deadline(self.ends - seconds, self.grace, self.margin)

    @property
    def term(self) -> float:
        """When TERM is to be sent."""
        return self.kill - self.grace

    @property
    def kill(self) -> float:
        """When KILL is to be sent."""
        return self.ends - self.margin

    def to_line(self) -> bytes:
        """Return the line that :meth:`from_words` reads."""
        return b"until %.6f %.6f %.6f\n" % (self.ends, self.grace, self.margin)

    @classmethod
    def from_words(cls, words: list[bytes]) -> Deadline:
        """Return the deadline in the words of a line that :meth:`to_line` wrote."""
        return cls(*map(float, words[1:4]))


def main(has_group: bool, mark: str = "") -> int:
    """Wait for the end of the runner or of the lease, and end the task.

    ``has_group`` is whether the task has its own process group. ``mark`` is the value of :data:`MARK` in its
    environment. Returns the exit status: :data:`LEASE_OVER` if the lease ended, else 0.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    task, output, deadline, left = 0, b"", None, b""
    while True:
        is_over = deadline is not None and steady() >= deadline.term + _LAG * deadline.grace
        task = task or (_writer(output) if is_over else 0)
        if deadline is not None and is_over and task:
            group = task if has_group else 0
            if not Family(group, task, mark).members():
                return 0
            end_task(group, task, deadline.kill - steady(), mark)
            return LEASE_OVER
        if not select.select([0], [], [], _until(deadline))[0]:
            continue
        said = os.read(0, 65536)
        if not said:
            break
        *lines, left = (left + said).split(b"\n")
        for line in lines:
            words = line.split()
            if words[:1] == [DONE.strip()]:
                return 0
            if words[:1] == [b"until"]:
                deadline = Deadline.from_words(words) if len(words) == 4 else None
            elif words[:1] == OUTPUT.split()[:1]:
                output = words[1]
            elif words:
                task = int(words[0])
    if task := task or _writer(output):
        grace = GRACE if deadline is None else min(GRACE, deadline.kill - steady())
        end_task(task if has_group else 0, task, grace, mark)
    return 0


def _until(deadline: Deadline | None) -> float | None:
    """Return for how many seconds there is nothing to do; None means until the runner writes."""
    if deadline is None:
        return None
    # Short pauses, because the clock that ends a pause may stop while the machine sleeps.
    return min(60.0, max(_PAUSE, deadline.term + _LAG * deadline.grace - steady()))


def end_task(
    group: int, root: int, grace: float = GRACE, mark: str = "", left: Callable[[], float] | None = None
) -> list[int]:
    """End all members of a :class:`Family`: send TERM, and KILL after ``grace`` seconds; return those that still live.

    ``group``, ``root`` and ``mark`` are those of the family. KILL does not end a process of another user, such as one
    of ``sudo``, or one that waits for a device.
    """
    deadline = time.monotonic() + max(0.0, grace)
    family = Family(group, root, mark)
    members = family.members()
    family.send(signal.SIGTERM, members)
    family.send(signal.SIGCONT, members)  # a stopped process handles TERM only when it is continued
    while members:
        began = time.monotonic()
        members = family.members()
        look = time.monotonic() - began  # up to tenths of a second on a busy machine, which must not delay KILL
        if not members:
            break
        if left is not None:
            deadline = min(deadline, time.monotonic() + max(0.0, left()))
        if time.monotonic() + max(look, _PAUSE) >= deadline:
            time.sleep(max(0.0, deadline - time.monotonic()))
            family.send(signal.SIGKILL, members)
            if time.monotonic() >= deadline + GRACE:
                break
        time.sleep(_PAUSE)
    return [*members]


class Family:
    """The processes of a task: its process ``root``, their descendants, its group, and those with its mark.

    ``group`` is 0 if the task does not have its own group. ``mark`` is in the environment of each process of the task.
    A daemon is found only by this mark: it left the group, and its parent died before the processes were listed.
    Without /proc, only the group and ``root`` are known. ``root`` is 0 if only the mark is known.
    """

    def __init__(self, group: int, root: int, mark: str = "") -> None:
        self._group = group
        self._root = root
        self._mark = os.fsencode(f"{MARK}={mark}\0") if mark else b""
        self._unmarked: set[tuple[int, str]] = set()
        self._seen: set[tuple[int, str]] = set()  # with their start times: process ids are reused

    def send(self, number: int, members: dict[int, int]) -> None:
        """Send a signal to each of these members, and to the task's own group."""
        if self._group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)
        for process, group in members.items():
            if not self._group or group != self._group:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, number)

    def members(self) -> dict[int, int]:
        """Return the living members, each with its process group."""
        known = processes()
        if known is None:
            return {self._root: self._group} if _is_there(self._group, self._root) else {}
        children: dict[int, list[int]] = {}
        for process, (parent, _, _) in known.items():
            children.setdefault(parent, []).append(process)
        waiting = [process for process, start in self._seen if process in known and known[process][2] == start]
        waiting += [process for process, (_, group, _) in known.items() if self._group and group == self._group]
        waiting += self._marked(known)
        waiting += [self._root] if self._root else []
        found: dict[int, int] = {}
        while waiting:
            process = waiting.pop()
            if process not in found:
                if process in known:
                    found[process] = known[process][1]
                waiting += [child for child in children.get(process, ()) if child not in found]
        self._seen = {(process, known[process][2]) for process in found}
        return found

    def _marked(self, known: dict[int, tuple[int, int, str]]) -> list[int]:
        """Return the processes that have the mark; the environment of each process is read only once."""
        found = []
        for process, (_, _, start) in known.items() if self._mark else ():
            if (process, start) not in self._unmarked:
                with suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
                    if self._mark in file.read():
                        found.append(process)
                        continue
                self._unmarked.add((process, start))
        return found


def processes() -> dict[int, tuple[int, int, str]] | None:
    """Return every living process with its parent, group and start time; None without /proc."""
    found = {}
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                state, parent, group, *more = file.read().rpartition(b")")[2].split()
                if state not in b"ZX":
                    found[int(name)] = (int(parent), int(group), more[16].decode())
    return found or None


def _writer(output: bytes) -> int:
    """Return the process group of the process that writes to the pipe with this inode; 0 if there is none."""
    for process, (_, group, _) in (processes() or {}).items() if output else ():
        with suppress(OSError):
            if os.readlink(f"/proc/{process}/fd/1") == f"pipe:[{output.decode()}]":
                return group
    return 0


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
    sys.exit(main(sys.argv[1] == "group", *sys.argv[2:]))
