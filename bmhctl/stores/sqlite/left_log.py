"""Find out whether the log beside a SQLite file belongs to another file, which was at its path before."""

from __future__ import annotations

import fcntl
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
    """
    until = time.monotonic() + _PATIENCE
    while _is_of_another_file(path, shared):
        if time.monotonic() > until:
            from bmhctl.stores.sqlite.holders import holders

            found = holders(shared)
            raise AwayError(
                f"{path}-wal belongs to the file that was at {path} before{', and is in use by ' if found else ''}"
                f"{', '.join(map(str, found))}",
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
    except FileNotFoundError:
        return False  # the last process closed the log
