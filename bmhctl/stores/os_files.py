"""The endings of the files of inventories, and what the operating system's errors about files mean."""

from __future__ import annotations

import errno

from bmhctl.errors import AwayError, UnreachableError

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")

STATE_SUFFIX = ".state.db"

LOOK_AT_DISK = "check the disk, its mount and your quota"

_LASTING = {
    errno.ENAMETOOLONG: "choose a shorter name: bmhctl puts files with longer names beside it",
    errno.EBUSY: "mount the folder that it is in, not the file, or edit it where it is not mounted alone",
}
"""What to do about a failure that stays, by the error's number."""

_PASSING = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EIO: LOOK_AT_DISK,
    errno.ESTALE: LOOK_AT_DISK,
    errno.EROFS: "mount it read-write; if it became read-only by itself, dmesg says why",
}
"""What to do about a disk failure that may end soon, by the error's number."""


def unreachable(
    message: str, error: OSError, hint: str | None = None, *, file: str | None = None, was_usable: bool = False
) -> UnreachableError:
    """Return the error with ``message``, the system's reason, and what to do: ``hint``, unless the disk has failed.

    The error is an :class:`AwayError` if the disk has failed, or if the file ``was_usable`` before. ``file`` is the
    file's name in the machine-readable details.
    """
    remedy = _PASSING.get(error.errno or 0)
    kind = AwayError if remedy or was_usable else UnreachableError
    details = None if file is None else {"file": file}
    lasting = _LASTING.get(error.errno or 0)
    return kind(f"{message}: {error.strerror or error}", hint=remedy or lasting or hint, details=details)
