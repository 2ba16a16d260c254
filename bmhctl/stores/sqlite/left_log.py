"""Find out whether the log beside a SQLite file belongs to another file, which was at its path before."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from bmhctl.errors import AwayError
from bmhctl.stores.os_files import descriptor
from bmhctl.stores.sqlite.claims import locked_byte

_PATIENCE = 5.0
_PAUSE = 0.05
_OF_FILE = (0x4000_0000, 512)  # first byte and length of SQLite's locks on a file
_OF_LOG = (120, 9)  # on the index of its log


def await_own_log(path: Path, shared: Path) -> None:
    """Wait until no process uses the log of a file that was at this path before; raise :class:`AwayError` if one does.

    SQLite would copy that log into the new file. A process with an open log has also locked the file of the log, so a
    locked index (``shared``) beside a file without locks belongs to another file. Commands of bmhctl that notice that
    their file was replaced rename its log.

    A program that opens the file itself and closes it again releases its locks on the file, but not those on the index.
    The log is refused then, too: SQLite would remove it while that program uses it.
    """
    until = time.monotonic() + _PATIENCE
    while _is_of_another_file(path, shared):
        from bmhctl.stores.sqlite.holders import has_open, holders

        if has_open(os.getpid(), path, os.O_RDWR):
            return  # SQLite removes no log that its own process uses
        if time.monotonic() > until:
            found = holders(shared)
            used = f"is in use by {', '.join(map(str, found))}"
            if any(has_open(each.id, path, os.O_RDWR) for each in found):
                raise AwayError(
                    f"{path} {used}, which released its locks: it read the file without SQLite, and closed it",
                    hint="nothing was written; end it, or wait for its end; bmhctl backup copies a file in use",
                    details={"file": str(path)},
                )
            raise AwayError(
                f"{path}-wal belongs to the file that was at {path} before{f', and {used}' if found else ''}",
                hint="nothing was written; run the command again when these processes have ended, or end them",
                details={"file": str(path)},
            )
        time.sleep(_PAUSE)


def _is_of_another_file(path: Path, shared: Path) -> bool:
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return False  # not Linux
    try:
        return (
            locked_byte(descriptor(shared), *_OF_LOG) is not None and locked_byte(descriptor(path), *_OF_FILE) is None
        )
    except OSError:
        return False  # the last process closed the log, or SQLite can't open it either, and reports that
