"""Turn errors of SQLite into errors for an operator."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from bmhctl.errors import AwayError, BmhctlError, InvalidError, RetiredError, UnreachableError
from bmhctl.stores.database import LOCK_PATIENCE
from bmhctl.stores.os_files import LOOK_AT_DISK, STATE_SUFFIX, unreachable
from bmhctl.stores.sqlite.open_files import descriptor

_HEADER = 100  # bytes

RETIRED = "retired: "
"""The beginning of the message with which a trigger refuses a change; the successor's location follows."""


def translate(error: sqlite3.Error, path: Path) -> BmhctlError:
    """Turn an error of SQLite into an error for an operator; raise it again if it is a defect of bmhctl."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return AwayError(
            f"{path} is locked: another command has been writing for over {LOCK_PATIENCE:.0f} s",
            hint="try again; if it stays locked, look for a process that hangs: fuser " + str(path),
        )
    if code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path)):
        return AwayError(f"the disk of {path} is full: it can't be written", hint="free some space")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        if is_mounted_read_only(path):
            return unwritable(path)
        return UnreachableError(f"{path} or its folder can't be written ({error})", hint=writable_hint(path))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error):
        # SQLite reports a disk that can't be read as damage to the file.
        failure = read_error(path) if code == sqlite3.SQLITE_CORRUPT else None
        if failure is not None:
            return unreachable(f"can't read {path}", failure, was_usable=True)
        return InvalidError(f"{path} is damaged ({error})", hint="restore it from a backup")
    if code == sqlite3.SQLITE_IOERR:
        hint = LOOK_AT_DISK
        if error.sqlite_errorcode == sqlite3.SQLITE_IOERR_SHORT_READ:
            hint = f"if {path.name}-wal was removed, end the processes that still use it: fuser {path}-shm; else {hint}"
        return AwayError(f"{path} can't be read or written ({error})", hint=hint)
    if code == sqlite3.SQLITE_CONSTRAINT and str(error).startswith(RETIRED):
        return RetiredError.of(str(path), str(error).removeprefix(RETIRED))
    if isinstance(error, sqlite3.OperationalError) and "no such" in str(error):
        return InvalidError(f"{path} is damaged ({error})", hint="restore it from a backup")
    raise error  # a defect of bmhctl: its traceback is needed


def not_an_inventory(path: Path, beginning: bytes, application: int) -> InvalidError:
    """Return the error for a file without the header of an inventory, which has the id of bmhctl, ``application``."""
    if not beginning:
        is_state = path.name.endswith(STATE_SUFFIX)
        made = "then all hosts are initial" if is_state else f"then: bmhctl -i {path} init"
        return InvalidError(f"{path} is empty: no inventory", hint=f"put a backup in its place, or remove it, {made}")
    if beginning[:16] != b"SQLite format 3\x00" or len(beginning) < _HEADER:
        return InvalidError(f"{path} is not a SQLite file", hint="an inventory ends in .toml, .db, .sqlite or .sqlite3")
    return InvalidError(
        f"{path} is a SQLite file of another program",
        hint=f"choose another file with -i; a dump of an inventory lacks PRAGMA application_id = {application}",
    )


def read_error(path: Path) -> OSError | None:
    """Return why the file or its log can't be read; None if both can be read."""
    for each in (path, Path(f"{path}-wal")):
        try:
            handle, place = descriptor(each), 0
            while found := len(os.pread(handle, 1 << 20, place)):
                place += found
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
    return None


def unwritable(path: Path) -> UnreachableError:
    """Return the error for a file that this user can only read, at present or permanently."""
    if is_mounted_read_only(path):
        return AwayError(f"{path} can't be written: its file system is mounted read-only", hint=writable_hint(path))
    return UnreachableError(f"{path} can't be written: it is read-only for this user", hint=writable_hint(path))


def _is_full(path: Path) -> bool:
    """Return whether a file's disk is full; SQLite does not report that for the files beside an inventory."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    space = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return space == 0 or (disk.f_files > 0 and disk.f_ffree == 0)


def is_mounted_read_only(path: Path) -> bool:
    """Return whether a file is on a file system that is mounted read-only."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def writable_hint(path: Path) -> str:
    """Return the hint for a file that can't be written."""
    if is_mounted_read_only(path):
        return f"mount {path.parent or '.'} read-write; if it became read-only by itself, dmesg says why"
    return f"bmhctl writes {path.name} and files beside it: make {path.parent or '.'} writable for this user"
