"""Which processes of this machine hold a claim: those that have its file open, according to Linux."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bmhctl.stores.claims import Holder
from bmhctl.support.command_line import command_of

_GRACE = 2.0
_TICK = 0.02


def holders(claim: Path) -> list[Holder]:
    """Return the other processes that have a claim's file open; empty where that is not known.

    A program that bmhctl starts does not inherit the file, except for a step.
    """
    try:
        there = claim.stat()
        ids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    found = []
    for process in ids:
        flags = list(_flags(process, there)) if process != os.getpid() else []
        if flags:
            found.append(
                Holder(
                    process=f"process {process}",
                    command=command_of(process),
                    since=_since(process),
                    is_runner=any(flag & os.O_CLOEXEC for flag in flags),
                    id=process,
                )
            )
    return found


def has_open(process: int, path: Path, mode: int) -> bool:
    """Return whether a process has a file open in this mode, such as :data:`os.O_RDWR`; false if not known."""
    return any(flag & os.O_ACCMODE == mode for flag in _flags(process, path.stat()))


def lockers(byte: int) -> list[Holder]:
    """Return the processes that have locked the byte with this number in any file, if this user may see them."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            for info in Path("/proc", name, "fdinfo").iterdir() if name.isdigit() else ():
                if f" {byte} {byte}\n" in info.read_text(encoding="ascii"):
                    found.append(Holder(process=f"process {name}", command=command_of(int(name)), id=int(name)))
                    break
    return found


def end(claim: Path) -> None:
    """End the processes that inherited a claim: send TERM, and KILL after two seconds.

    Raises :class:`PermissionError` when a process belongs to another user.
    """
    until = time.monotonic() + _GRACE
    asked: set[int] = set()
    while left := [each.id for each in holders(claim) if not each.is_runner]:
        is_late = time.monotonic() >= until
        if is_late and time.monotonic() >= until + _GRACE:
            return  # a process in a system call ends when that returns
        for process in left:
            if is_late or process not in asked:
                asked.add(process)
                _signal(process, claim, signal.SIGKILL if is_late else signal.SIGTERM)
        time.sleep(_TICK)


def _signal(process: int, claim: Path, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        # Check again with the open handle, because the id may have been reused before.
        with suppress(ProcessLookupError, FileNotFoundError):
            if list(_flags(process, claim.stat())):
                if os.getpgid(process) == process:
                    os.killpg(process, number)
                else:
                    signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def _flags(process: int, there: os.stat_result) -> Iterator[int]:
    """Yield the flags of each descriptor by which a process has this file open; none for a process of another user."""
    folder = f"/proc/{process}"
    with suppress(OSError):
        for name in os.listdir(f"{folder}/fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"{folder}/fd/{name}"), there):
                    for line in Path(folder, "fdinfo", name).read_text(encoding="ascii").splitlines():
                        if line.startswith("flags:"):
                            yield int(line.split()[1], 8)


def _since(process: int) -> datetime | None:
    """Return when a process began."""
    try:
        ticks = int(
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
        [booted] = [
            line for line in Path("/proc/stat").read_text(encoding="ascii").splitlines() if line[:6] == "btime "
        ]
    except (OSError, ValueError, IndexError):
        return None
    return datetime.fromtimestamp(int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK"), UTC)
