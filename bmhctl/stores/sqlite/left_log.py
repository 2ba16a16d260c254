"""What happens to the log of a SQLite file that was replaced, moved away or overwritten while it was in use."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bmhctl.errors import AwayError, GoneError, MovedError
from bmhctl.stores.os_files import unreachable
from bmhctl.stores.sqlite.open_files import OpenFiles, boot, descriptor, lock_bytes, locked_byte, mounts

_PATIENCE = 5.0
_PAUSE = 0.05
_OF_FILE = (0x4000_0000, 512)  # first byte and length of SQLite's locks on a file
_OF_READERS = (0x4000_0002, 510)  # of these, the bytes that readers share
_OF_LOG = (120, 9)  # on the index of its log

_NONE = (0, 0)  # the identity of no file

_BOOT = 52  # where the id of the boot begins in a stamp

_left_open: list[sqlite3.Connection] = []


def examine(files: OpenFiles, path: str) -> None:
    """Raise the errors of ``check_in_place`` for one of the paths that does not lead to the file that was open.

    The path of the inventory itself is also examined when something has written into the file.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GoneError(
            f"{path} is gone: it was removed, moved away or unmounted while it was in use",
            hint="nothing was written; restore it, or create an inventory, and run the command again",
            details={"file": path},
        ) from error
    except OSError as error:
        raise unreachable(f"can't read {path}", error, was_usable=True) from error
    is_file = path == str(files.path)
    if (status.st_dev, status.st_ino) != files.known[path]:
        if is_file:
            _set_aside(files)
        raise MovedError(
            f"{path} is another file now: it was replaced, restored or mounted over while it was in use",
            hint="nothing was written; run the command again to use the file that is there now",
            details={"file": path},
        )
    if is_file and _is_overwritten(files):
        _set_aside(files, in_place=True)
        raise MovedError(
            f"{path} was overwritten while it was in use: a program other than SQLite wrote into it",
            hint=f"nothing was written; run the command again to use what is in {files.path.name} now; its last commits"
            f" before are in {files.path.name}-wal.replaced; restore a backup with mv, not with cp",
            details={"file": path},
        )


def _is_overwritten(files: OpenFiles) -> bool:
    """Return whether a program other than SQLite wrote into the file; if not, record its content in the log's stamp.

    SQLite writes into the file only when it copies the log, and counts that in the index of the log: one number before,
    another one afterwards. As long as both numbers are those in the stamp, SQLite has written nothing, and any other
    content is from another program. A file of which only the time was changed is not overwritten.
    """
    mine = files.opened()
    paths = [f"{files.path}{suffix}" for suffix in ("", files.LOG, files.INDEX)]
    file, log, index = handles = [mine.get(files.known.get(path, _NONE), -1) for path in paths]
    try:
        is_other = _is_other_content(files, _stamp_of(files, log), file, index) or not files.is_as_taken(file, index)
        if any(_identity(handle) != files.known[path] for path, handle in zip(paths, handles, strict=True)):
            return False  # another thread has closed its connection meanwhile
        if not is_other and files.take(file, index):
            files.stamp()
    except OSError:
        return False
    return is_other


def _is_other_content(files: OpenFiles, stamp: bytes, file: int, index: int) -> bool:
    """Return whether a file is not as its log's stamp says, although SQLite has written nothing into it since."""
    before = files.copied(index)
    content = files.content_of(file)
    return (
        before[0] != b""
        and before == files.copied(index)
        and stamp[32:_BOOT] == b"".join(before)
        and stamp[16:32] != content
    )


def _stamp_of(files: OpenFiles, log: int) -> bytes:
    """Return the stamp of a log: four numbers of 8 bytes, how much of the log is in the file, and the id of the boot.

    The numbers are that of the log itself (:meth:`OpenFiles.number_of`), the inode of the file, and the file's size and
    checksum. The stamp of a copied log proves nothing, and is left out: the copy has another number.
    """
    try:
        stamp = os.getxattr(log, files.STAMP)
    except (AttributeError, OSError):
        return b""
    return stamp if stamp[:8] == files.number_of(log) else b""


def _set_aside(files: OpenFiles, *, in_place: bool = False) -> None:
    """Rename the log of a file that was replaced, or overwritten ``in_place``: SQLite would copy it into the new file.

    The log stays if it was not seen beside its file, and while another file is mounted over that: no command opens the
    log then.
    """
    if not files.has_own_log or str(files.path) in mounts():
        return
    with suppress(OSError), _alone(files) as folder:
        if files.is_in(folder) is in_place:
            if files.is_in(folder, files.LOG):
                _rename_log(files, folder)
            if not _exists(f"{files.path.name}{files.LOG}", folder) and files.is_in(folder, files.INDEX):
                _remove_index(files, folder)


@contextmanager
def _alone(files: OpenFiles) -> Iterator[int]:
    """Open the folder of a file, and lock it; raise :class:`OSError` if another process has locked it.

    A log is renamed only under this lock, and its index is removed after it. Another process opens the new file, with a
    new log, as soon as the index is gone. A process that is killed in between leaves an index without a log, which
    others remove. All files are looked up in one folder, because a folder that was moved away may be back at its path
    at any moment.
    """
    with files.folder() as folder:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _rename_log(files: OpenFiles, folder: int) -> None:
    name = f"{files.path.name}{files.LOG}"
    number, free = 1, f"{name}.replaced"
    while _exists(free, folder):
        number += 1
        free = f"{name}.replaced-{number}"
    os.rename(name, free, src_dir_fd=folder, dst_dir_fd=folder)


def _remove_index(files: OpenFiles, folder: int) -> None:
    os.unlink(f"{files.path.name}{files.INDEX}", dir_fd=folder)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _identity(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def close(connection: sqlite3.Connection, files: OpenFiles) -> None:
    """Close a connection whose files are not the ones at their paths; ``check_in_place`` always fails from then.

    The last connection that is closed copies its log into the file, and removes the log by its name. SQLite does not do
    that for a file that was moved away. For one at its path, a lock makes it believe that there is another connection.
    """
    files.known, files.has_own_log = {str(files.path): _NONE}, False
    try:
        file = descriptor(files.path)
    except OSError:
        file = None
    if file is not None and not lock_bytes(file, fcntl.F_RDLCK, *_OF_READERS):
        _left_open.append(connection)
        return
    with suppress(sqlite3.Error):
        connection.close()
    if file is not None:
        lock_bytes(file, fcntl.F_UNLCK, *_OF_READERS)


def await_own_log(files: OpenFiles) -> None:
    """Wait until the log beside a file is its own or gone; raise :class:`AwayError` if it belongs to another file.

    SQLite would copy that log into the file. It is renamed at once if its stamp says that it belongs to another file.
    Where a file system has no room for stamps, the locks tell: a process with an open log has also locked the file of
    the log, so a locked index beside a file without locks belongs to another file, which was at this path before.
    Commands that notice that their file was replaced rename its log.

    A program that opens the file itself and closes it again releases its locks on the file, but not those on the index.
    The log is refused then, too: SQLite would remove it while that program uses it.
    """
    until = time.monotonic() + _PATIENCE
    while not _is_own_now(files):
        from bmhctl.stores.sqlite.holders import has_open, holders

        path, index = files.path, Path(f"{files.path}{files.INDEX}")
        if has_open(os.getpid(), path, os.O_RDWR):
            return  # SQLite removes no log that its own process uses
        if time.monotonic() > until:
            found = holders(index)
            used = f"is in use by {', '.join(map(str, found))}"
            if any(has_open(each.id, path, os.O_RDWR) for each in found):
                raise AwayError(
                    f"{path} {used}, which lost its locks because it also read the file without SQLite",
                    hint="nothing was written; end it, or wait for its end; bmhctl backup copies a file in use",
                    details={"file": str(path)},
                )
            away = "when these processes have ended, or end them" if found else f"after you moved {path.name}-wal away"
            raise AwayError(
                f"{path}-wal belongs to the file that was at {path} before{f', and {used}' if found else ''}",
                hint=f"nothing was written; run the command again {away}",
                details={"file": str(path)},
            )
        time.sleep(_PAUSE)


def _is_own_now(files: OpenFiles) -> bool:
    """Rename the log if it is certain that it is another file's; return whether no log of another file is left."""
    is_other = False
    with suppress(OSError), files.folder() as folder:  # a folder that may not be listed can still be used
        is_other = _has_other_stamp(files, folder)
    if not is_other and not _is_locked_alone(files):
        return True
    with suppress(OSError), _alone(files) as folder:
        if not files.is_in(folder):
            return True  # the file was replaced since, and will not be used
        is_other = _has_other_stamp(files, folder)
        if is_other:
            _rename_log(files, folder)
        if is_other or (_is_locked_alone(files) and not _exists(f"{files.path.name}{files.LOG}", folder)):
            _remove_index(files, folder)
            return True
    return False


def _has_other_stamp(files: OpenFiles, folder: int) -> bool:
    """Return whether the stamp of the log in a folder says that it belongs to another file, or to what was in this one.

    The second is certain while a process has the log open, and in the boot in which the stamp was written: after a
    power cut, the index may be an old one.
    """
    try:
        log = os.open(f"{files.path.name}{files.LOG}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return False  # gone, or SQLite can't open it either, and reports that
    with open(log, "rb"):
        stamp = _stamp_of(files, log)
    if not stamp or int.from_bytes(stamp[8:16], "big") != files.inode:
        return bool(stamp)
    try:
        index, file = descriptor(Path(f"{files.path}{files.INDEX}")), descriptor(files.path)
        return (
            (locked_byte(index, *_OF_LOG) is not None or stamp[_BOOT:] == boot() != b"")
            and files.is_in(folder)
            and _identity(file) == files.known[str(files.path)]
            and _is_other_content(files, stamp, file, index)
        )
    except OSError:
        return False


def _is_locked_alone(files: OpenFiles) -> bool:
    """Return whether the index of the log is locked, but not the file."""
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return False  # not Linux
    try:
        index = descriptor(Path(f"{files.path}{files.INDEX}"))
        return locked_byte(index, *_OF_LOG) is not None and locked_byte(descriptor(files.path), *_OF_FILE) is None
    except OSError:
        return False  # the last process closed the log, or SQLite can't open it either, and reports that
