"""Files in the operating system: their mounts, other names, descriptors that stay open, and what their errors mean."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from bmhctl.errors import AwayError, UnreachableError

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "gfs2", "ocfs2"}
_NETWORK |= {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "ceph-fuse", "rclone", "s3fs")}
_SHARED = {"vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "virtiofs", "9p", "drvfs", "fakeowner", "fuse.grpcfuse"}
"""Filesystems that virtual machines share with their host, Docker Desktop and WSL among them: SQLite's log needs memory
that all processes share. The root of a sandbox, such as Kata's or gVisor's, may be one, and no other system uses it."""


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


def mounts() -> dict[str, str]:
    """Return the kind of file system at each mount point; empty if the system is not Linux."""
    try:
        text = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    found = (line.split(" ") for line in text.splitlines())
    return {_unescaped(fields[1]): fields[2] for fields in found if len(fields) > 2}


def refuse_network(folder: Path, kinds: Mapping[str, str] | None = None) -> None:
    """Raise :class:`UnreachableError` for a folder that other systems share, where SQLite's locks do not work.

    ``kinds`` is the result of :func:`mounts`, if the caller has it already.
    """
    kinds = mounts() if kinds is None else kinds
    for place in (folder.resolve(), *folder.resolve().parents):
        kind = kinds.get(str(place))
        if kind is not None:
            if kind in _NETWORK or (kind in _SHARED and place != place.parent):
                where = (
                    "a network filesystem" if kind in _NETWORK else "a disk that a virtual machine and its host share"
                )
                raise UnreachableError(
                    f"{folder} is on {where} ({kind}): files there can't be shared safely",
                    hint="several machines share an inventory through PostgreSQL; keep a file on a local disk",
                )
            return


def refuse_other_name(path: Path, kinds: Mapping[str, str]) -> None:
    """Raise :class:`UnreachableError` for a file with a second name elsewhere: each name would have its own log.

    Two processes that use two names of one file damage it, and each grants hosts without knowing of the other. See "How
    To Corrupt An SQLite Database File", section 2.5.
    """
    if str(path) in kinds:
        raise UnreachableError(
            f"{path} is mounted alone, without its folder: other processes would not see its log",
            hint="mount the folder that it is in, not the file; see bmhctl help inventory",
        )
    status = path.stat()
    if status.st_nlink == 1 or _is_just_made(path, status):
        return
    raise UnreachableError(
        f"{path} has {status.st_nlink} names (hard links): each would have its own log",
        hint=f"remove the others: find / -xdev -inum {status.st_ino}",
    )


def _is_just_made(path: Path, status: os.stat_result) -> bool:
    """Return whether the second name of a file is the temporary one under which it was built."""
    inodes = [other.stat().st_ino for other in path.parent.glob(f".{path.name}.*.partial") if other.exists()]
    return status.st_nlink == 1 + inodes.count(status.st_ino) or path.stat().st_nlink == 1


def _unescaped(place: str) -> str:
    """Return a path from the kernel's list, in which blanks, tabs, newlines and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place) if "\\" in place else place


_open: dict[tuple[int, int], int] = {}
_opening = Lock()


def descriptor(path: Path) -> int:
    """Return a descriptor of a file for reading. Do not close it: it is closed after the file has lost its name.

    Closing any descriptor of a file releases all locks of this process on the file, including those of an open
    inventory; another process would then believe that it is alone. See "How To Corrupt An SQLite Database File",
    section 2.2.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    with _opening:
        if key not in _open:
            for known, handle in [*_open.items()]:
                if os.fstat(handle).st_nlink == 0:  # no other process can open it any more
                    os.close(_open.pop(known))
            _open[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return _open[key]


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
