"""Replace a file atomically and durably, and only if no other process changed it meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bmhctl.errors import UnreachableError
from bmhctl.stores.database import LOCK_PATIENCE
from bmhctl.stores.os_files import unreachable
from bmhctl.stores.toml.file import read_file, shown

_TRIES = 10


def edit_file(
    path: Path, change: Callable[[bytes], bytes], before_replace: Callable[[bytes], None] | None = None
) -> bytes:
    """Replace a file's content with the result of ``change``, atomically and durably; return the new content.

    A lock on the folder keeps other edits out; it ends with its process and leaves no file behind. If another program
    writes the file meanwhile, ``change`` is called again with the new content. If ``change`` returns the same content,
    nothing is written. ``before_replace`` is called when the new content is on the disk, and only the replacement is
    left to do. Links are followed. Mode and group stay, as do owner and attributes where the system allows it. A file
    with several hard links is refused, because replacing it would separate them.

    Do not call this while holding a lock on a database for which ``before_replace`` waits, here or in another process.
    Raises :class:`UnreachableError` when the file can't be read, locked or replaced; it is then unchanged. The only
    exception is a disk that fails right after the replacement: then the file may be the new one, and the error says so.
    """
    target = Path(os.path.realpath(path))
    with edits_locked(target) as folder:
        for _ in range(_TRIES):
            old = read_file(target)
            new = change(old)
            if new == old:
                return old
            _refuse_what_a_rename_would_break(target)
            if _replace(target, folder, old, new, before_replace):
                return new
    raise UnreachableError(
        f"{shown(target)} keeps changing while it is edited",
        hint="try again when the program that writes it has finished",
    )


def draft_of(target: Path) -> Path:
    """Return the path to which the new content is written first; its fixed name is safe under :func:`edits_locked`.

    A draft that a killed edit left behind is overwritten by the next edit.
    """
    return target.with_name(f".{target.name}.new")


@contextmanager
def edits_locked(target: Path) -> Iterator[int]:
    """Hold the lock on edits in the target's folder; yield the folder's descriptor."""
    import fcntl

    holder = os.getpid()
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unreachable(f"can't open {shown(target.parent)}", error) from error
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"another edit has held {shown(target.parent)} for {LOCK_PATIENCE:.0f} s", hint="try again"
                    ) from error
                time.sleep(0.02)
        try:
            yield folder
        finally:
            if os.getpid() == holder:  # a fork that another thread made meanwhile has a share in the lock
                fcntl.flock(folder, fcntl.LOCK_UN)
    finally:
        os.close(folder)


def _refuse_what_a_rename_would_break(target: Path) -> None:
    name = shown(target)
    if not os.access(target, os.W_OK):
        raise UnreachableError(f"may not write {name}: permission denied", details={"file": name})
    links = os.stat(target).st_nlink
    if links > 1:
        raise UnreachableError(
            f"{name} has {links} hard links, and replacing it would separate them",
            hint="edit it by hand, or make the other names symbolic links (ln -sf)",
            details={"file": name},
        )


def _replace(target: Path, folder: int, old: bytes, new: bytes, before_replace: Callable[[bytes], None] | None) -> bool:
    """Put the new content in the file's place unless the file changed meanwhile; return whether that was done."""
    draft = draft_of(target)
    try:
        try:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(new)
                file.flush()
                _make_alike(target, draft)
                os.fsync(file.fileno())
            if before_replace is not None:
                before_replace(new)
            if read_file(target) != old:
                return False
            os.replace(draft, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)
    except OSError as error:
        raise unreachable(f"can't replace {shown(target)}", error, file=shown(target)) from error
    try:
        os.fsync(folder)
    except OSError as error:
        raise UnreachableError(
            f"{shown(target)} is replaced, but a power cut could undo the change: {error.strerror}",
            hint="check the disk and its mount",
            details={"file": shown(target)},
        ) from error
    return True


def _make_alike(target: Path, draft: Path) -> None:
    import shutil

    there, here = os.stat(target), os.stat(draft)
    if (there.st_uid, there.st_gid) != (here.st_uid, here.st_gid):
        try:
            os.chown(draft, there.st_uid, there.st_gid)
        except PermissionError:
            # Only root can keep another owner. The group must stay, or the mode would admit other users.
            try:
                os.chown(draft, -1, there.st_gid)
            except PermissionError as error:
                name, mine = shown(target), here.st_gid
                raise UnreachableError(
                    f"may not edit {name}: you are not in its group {there.st_gid}, so its group could not stay",
                    hint=f"edit it as a member of that group, or have its owner change the group: chgrp {mine} {name}",
                    details={"file": name},
                ) from error
    shutil.copystat(target, draft)
    os.utime(draft)
