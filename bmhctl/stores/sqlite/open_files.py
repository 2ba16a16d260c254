"""Notice that the files of an open SQLite inventory were removed, replaced or mounted over."""

from __future__ import annotations

import os
from pathlib import Path

from bmhctl.errors import GoneError, MovedError

_BESIDE = ("-wal", "-shm")  # what SQLite keeps beside a file: two processes must have the same ones

Identity = tuple[int, int]


class OpenFiles:
    """The device and inode of each file that a connection has open.

    No other file gets one of these inodes while the connection lives, since it keeps a descriptor of each.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Identity] = {str(path): identity(path)}

    def add_beside(self) -> None:
        """Take note of the files that SQLite has made beside it; call it once something was read."""
        for suffix in _BESIDE:
            beside = f"{self._path}{suffix}"
            if os.path.exists(beside):
                self._known[beside] = identity(beside)

    def check(self) -> None:
        """Raise :class:`GoneError` when a path leads nowhere, :class:`MovedError` when it leads to another file.

        Costs a ``stat`` of each path, and is for any thread.
        """
        for path, known in self._known.items():
            try:
                now = identity(path)
            except OSError as error:
                raise GoneError(
                    f"{path} is gone: it was removed, moved away or unmounted while it was in use",
                    hint="nothing was written; bring it back, or create an inventory anew and run the command again",
                    details={"file": path},
                ) from error
            if now != known:
                raise MovedError(
                    f"{path} is another file now: it was replaced, restored or mounted over while it was in use",
                    hint="nothing was written; run the command again: it opens the file that is there now",
                    details={"file": path},
                )


def identity(path: Path | str) -> Identity:
    """Return the device and inode of a path's file; raise :class:`OSError` when there is none."""
    status = os.stat(path)
    return status.st_dev, status.st_ino
