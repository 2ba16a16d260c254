"""Commands that a test kills, starves of space or records: forks of a process that has imported everything.

New interpreters for some thousand kills would take minutes. A fork that runs one command line takes some hundredths of
a second, and is a real process, too. :mod:`tests.forked` forks them.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmhctl.stores.sqlite.open_files import descriptor
from tests import forked
from tests.faults.vfs import Change, Files


@dataclass(frozen=True, slots=True)
class End:
    """The status of a command (below 0: minus the signal), and the number of changes that it began in its folder."""

    status: int
    stdout: str
    stderr: str
    changes: int

    @property
    def is_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class ForkedCommands:
    """Runs command lines in the folder of an inventory, each in a separate process."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    def run(self, folder: Path, *lines: Sequence[str], **fault: object) -> End:
        """Runs command lines one after the other in one process; without a fault, they run as always.

        ``kill_at=n`` kills the process at its n-th change (``halfway``: in the middle of it). ``refuse_at=n`` refuses
        the n-th change and, unless ``once``, all later ones, with ``error`` (ENOSPC). ``record=path`` writes all
        changes into that file. ``keep_open=path`` holds an inventory open at the same time, like another process.
        ``user`` is the id of the user, ``size`` the largest size of a file in bytes, ``checkpoint`` the size of
        SQLite's WAL in pages.
        """
        with tempfile.NamedTemporaryFile() as counted:  # the file outlives the process, however that ends
            counted.write(bytes(8))
            counted.flush()
            status, stdout, stderr = forked.run(
                (counted.name, folder, lines, fault), folder, self._environ, act=f"{__name__}:act"
            )
            changes = int.from_bytes(os.pread(counted.fileno(), 8, 0), "little")
        return End(status, stdout.decode(), stderr.decode(), changes)


def record(path: Path) -> list[tuple[Change, dict[str, int], dict[int, bytes]]]:
    """Read the record of a process that ran with ``record``: see :class:`Recorder`."""
    return pickle.loads(path.read_bytes())  # the test wrote this file itself


class Recorder:
    """Records each change, with the contents of the folder directly before it.

    These contents are the inode behind each name, and the bytes of files that only Python has written since the last
    change; the bytes of SQLite's files follow from the recorded changes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers = 0
        self._of_sqlite: set[int] = set()
        self._seen: dict[int, bytes] = {}
        self.changes: list[tuple[Change, dict[str, int], dict[int, bytes]]] = []

    def __call__(self, change: Change) -> int:
        names = {
            entry.name: entry.inode()
            for entry in os.scandir(self._folder)
            if entry.is_file() and not entry.name.endswith("-shm")
        }
        self._of_sqlite &= set(names.values())  # inodes are reused
        self._seen = {inode: content for inode, content in self._seen.items() if inode in names.values()}
        if change.kind in ("write", "truncate"):
            self._of_sqlite.add(names[Path(change.path).name])
        written = {}
        for name, inode in names.items():
            if inode not in self._of_sqlite:
                handle = descriptor(self._folder / name)  # to close it would release SQLite's locks on the file
                content = os.pread(handle, os.fstat(handle).st_size, 0)
                if self._seen.get(inode) != content:
                    written[inode] = self._seen[inode] = content
        self.changes.append((change, names, written))
        return 0

    def note_answer(self, number: int | None = None) -> None:
        """Records that a command was acknowledged: the next one, or the one with this number."""
        if number is None or self._answers < number:
            self._answers += 1
            self(Change("said", str(self._folder)))


# the process under test


def act(counted_in: str, folder: Path, lines: Sequence[Sequence[str]], request: dict[str, Any]) -> int:
    """Runs command lines with a fault, and keeps the number of changes in a file."""
    from bmhctl.cli.main import run
    from bmhctl.stores import open_store

    with open(counted_in, "r+b") as file:
        counted = mmap.mmap(file.fileno(), 8)
    held = [open_store(str(request["keep_open"]))] if "keep_open" in request else []
    for store in held:
        store.hosts.counts()
    recorder = Recorder(folder) if "record" in request else None
    before = recorder or _before(request, counted)
    files = Files(folder, before)
    if "size" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["size"], resource.RLIM_INFINITY))
    if "user" in request:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    if recorder is not None:
        _note_answers(recorder)
    if "checkpoint" in request:
        _checkpoint_often(request["checkpoint"])
    status = 0
    for number, line in enumerate(lines, 1):
        status = run(list(line))
        if recorder is not None:
            recorder.note_answer(number)
    if recorder is not None:
        Path(request["record"]).write_bytes(pickle.dumps(recorder.changes))
    del files, held
    return status


def _note_answers(recorder: Recorder) -> None:
    """Counts a command as acknowledged as soon as its answer could be read, not only when it has ended."""
    from bmhctl.cli.session import Session

    show = Session.show

    def shown(self: Session, *args: object) -> None:
        show(self, *args)  # type: ignore[arg-type]  # as they came
        sys.stdout.flush()
        recorder.note_answer()

    Session.show = shown  # type: ignore[method-assign,assignment]  # a spy


def _checkpoint_often(pages: int) -> None:
    from bmhctl.stores.sqlite import database

    configure = database.SqliteDatabase.configure

    def configured(self: database.SqliteDatabase) -> None:
        configure(self)
        self.execute(f"PRAGMA wal_autocheckpoint = {pages}")

    database.SqliteDatabase.configure = configured  # type: ignore[method-assign]  # a spy


def _before(request: dict[str, Any], counted: mmap.mmap) -> Callable[[Change], int]:
    kill_at, refuse_at = request.get("kill_at"), request.get("refuse_at")
    number = 0

    def before(change: Change) -> int:
        nonlocal number
        here, number = number, number + 1
        counted[:8] = number.to_bytes(8, "little")
        if here == kill_at:
            if request.get("halfway") and change.kind == "write":
                with open(change.path, "r+b") as file:
                    os.pwrite(file.fileno(), change.data[: len(change.data) // 2], change.offset)
            os.kill(os.getpid(), signal.SIGKILL)
        if refuse_at is not None and here >= refuse_at and (here == refuse_at or not request.get("once")):
            return int(request.get("error", errno.ENOSPC))
        return 0

    return before
