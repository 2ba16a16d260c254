"""Marks of work on hosts: locks that show for which file at its path tasks and steps run."""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bmhctl.errors import AwayError
from bmhctl.support.values import Frozen

_ROOT = Path("/")
_INODES = 1 << 32  # each path has so many bytes, one for each inode
_FLOCK = "hhqqi0q"  # struct flock of fcntl(2)
_EARLIER_PATIENCE = 10.0  # seconds to wait for work that goes on for a file that was replaced
_EARLIER_PAUSE = 0.05


class Marks(Frozen):
    """Locks that outlive the files of an inventory: they show for which file at its path tasks and steps run.

    Claims and reservations are lost with the files, as when a checkout is cleaned, and a new inventory at the path
    knows nothing of the tasks that still use its hosts. So each process with a claim locks a byte of the inventory's
    folder, and of the root folder in case that folder is removed, too. The byte stands for the path and the inode.
    Locks of open file descriptions need no file of their own, and last as long as a process has the descriptor.
    """

    _path: Path
    _inode: int

    @property
    def _byte(self) -> int:
        """The byte that stands for this file, counted from those of its path."""
        return self._inode & _INODES - 1

    def hold(self) -> tuple[int, ...]:
        """Return descriptors that show, as long as any process has them open, that work goes on for the file."""
        return tuple(handle for handle, start in self._places() if _lock_byte(handle, start + self._byte))

    def await_earlier(self) -> None:
        """Wait until no work goes on for another file at the path; raise :class:`AwayError` if that takes too long.

        The task of a ``run`` that lost its inventory is ended within seconds.
        """
        places = self._places()
        until = time.monotonic() + _EARLIER_PATIENCE
        try:
            while (byte := self._earlier(places)) is not None:
                if time.monotonic() > until:
                    from bmhctl.stores.sqlite.holders import lockers

                    found = lockers(byte)
                    raise AwayError(
                        f"{self._path} is a new file, and work on hosts still goes on for the file that was there"
                        f" before{': ' if found else ''}{', '.join(map(str, found))}",
                        hint="nothing was written; run the command again when that has ended, or end it",
                        details={"file": str(self._path)},
                    )
                time.sleep(_EARLIER_PAUSE)
        finally:
            for handle, _ in places:
                os.close(handle)

    def _earlier(self, places: Sequence[tuple[int, int]]) -> int | None:
        """Return a byte that stands for another file, if one is locked."""
        for handle, start in places:
            for first, length in ((start, self._byte), (start + self._byte + 1, _INODES - self._byte - 1)):
                byte = _locked_byte(handle, first, length) if length else None
                if byte is not None:
                    return byte
        return None

    def _places(self) -> list[tuple[int, int]]:
        """Return a descriptor of each folder that can be opened, and the first of the path's bytes in it."""
        if not hasattr(fcntl, "F_OFD_GETLK"):
            return []  # not Linux
        try:
            mounts = os.readlink("/proc/self/ns/mnt")  # in another container, the path may lead to another file
        except OSError:
            mounts = ""
        found = []
        for folder, key in ((self._path.parent, self._path.name), (_ROOT, f"{mounts}{self._path}")):
            with suppress(OSError):
                handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
                found.append((handle, (zlib.crc32(os.fsencode(key)) >> 1) * _INODES))
        return found


def _lock_byte(handle: int, byte: int) -> bool:
    """Share the lock of a byte; close the descriptor and return False where folders can't be locked."""
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
    except OSError:
        os.close(handle)
        return False
    return True


def _locked_byte(handle: int, first: int, length: int) -> int | None:
    """Return a byte of a range that a process has locked, None if there is none."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    try:
        kind, _, byte, _, _ = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(byte)
