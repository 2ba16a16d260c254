"""The files of an inventory in SQLite: which may be used, which are open, and whether they are still the same."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from bmhctl.errors import AwayError, UnreachableError
from bmhctl.support.values import Frozen

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "gfs2", "ocfs2"}
_NETWORK |= {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "ceph-fuse", "rclone", "s3fs")}
_SHARED = {"vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "virtiofs", "9p", "drvfs", "fakeowner", "fuse.grpcfuse"}
"""Filesystems that virtual machines share with their host, Docker Desktop and WSL among them: SQLite's log needs memory
that all processes share. The root of a sandbox, such as Kata's or gVisor's, may be one, and no other system uses it."""

_WITH_LOG = b"\x02\x02"  # bytes in the header of a file that has a write-ahead log

Identity = tuple[int, int]
"""The device and inode of a file."""

_NONE: Identity = (0, 0)  # the identity of a missing file
_NO_PART = bytes(12)  # what is in the file of a log that nothing was ever written to
_GET_GENERATION = 0x8008_7601  # FS_IOC_GETVERSION: the number that tells the files apart that have had one inode

_ROOT = Path("/")
_INODES = 1 << 32  # the bytes reserved for each path, one for each inode
_EARLIER_PATIENCE = 10.0  # seconds to wait for tasks and steps that run for a replaced file
_EARLIER_PAUSE = 0.05
_FLOCK = "hhqqi0q"  # the format of ``struct flock`` of fcntl(2)


class OpenFiles:
    """The files that a connection has open, and how to tell that they are not the ones at their paths any more.

    No other file can get one of these inodes while the connection lives, because it keeps a descriptor of each file.
    """

    LOG, INDEX = "-wal", "-shm"
    """The suffixes of SQLite's files beside it: the write-ahead log, and the index of the log."""

    STAMP = "user.bmhctl"
    """The extended attribute of a log that says to which file it belongs, and what is in that: see ``left_log``."""

    def __init__(self, path: Path, status: os.stat_result, beginning: bytes) -> None:
        """Record the file at a path, from its status and its first bytes."""
        self.path = path
        self.inode = status.st_ino
        """The inode of the inventory file itself."""
        self.known: dict[str, Identity] = {str(path): (status.st_dev, status.st_ino)}
        self.has_log = beginning[18:20] == _WITH_LOG
        self.has_own_log = False
        """Whether the log was seen in one folder with the file: another folder may be at the path for a moment."""
        self.written, self.content, self._part = status.st_mtime_ns, b"", b""
        self._log = self._index = -1  # descriptors that SQLite keeps open
        self._is_alone = False  # whether it is certain that no step runs for an earlier file
        self._group = status.st_gid

    def add_beside(self) -> None:
        """Record the files that SQLite has opened beside the inventory; call this after the first read.

        The files at their paths may be others, because the folder was moved away or back meanwhile: then
        :meth:`changed` yields them. On Linux, the system lists the files that a process has open.
        """
        mine = self.opened()
        for suffix in (self.LOG, self.INDEX):
            beside = f"{self.path}{suffix}"
            try:
                status = os.stat(beside)
                there = status.st_dev, status.st_ino
                if status.st_gid != self._group:
                    with suppress(OSError):  # another user's; SQLite gives its files the permissions of the inventory
                        os.chown(beside, -1, self._group, follow_symlinks=False)
            except OSError:  # ``changed`` yields it
                there = _NONE
            if there in mine or (not mine and there != _NONE):
                self.known[beside] = there
            elif mine and self.has_log:
                self.known[beside] = _NONE
        with suppress(OSError), self.folder() as folder:
            self.has_own_log = self.is_in(folder) and self.is_in(folder, self.LOG)
            if self.has_own_log and mine:
                self._log = mine[self.known[f"{self.path}{self.LOG}"]]
                self._index = mine.get(self.known[f"{self.path}{self.INDEX}"], -1)
                self.take(mine.get(self.known[str(self.path)], -1), self._index)
                self.stamp()

    def add_link(self, path: Path) -> None:
        """Record a path that leads to the file through links, to notice when it leads to another one."""
        self.known[str(path)] = self.known[str(self.path)]

    def take(self, file: int, index: int) -> bool:
        """Record what is in the file; return whether that is certain, because SQLite writes nothing into it now."""
        before, status = self.copied(index)[1], os.fstat(file)
        content = self.content_of(file)
        after, again = self.copied(index)[1], os.fstat(file)
        if not after or before != after or status.st_mtime_ns != again.st_mtime_ns:
            return False
        self.content, self._part = content, after
        self.written = status.st_mtime_ns  # last: another thread may be about to record the content in the log
        return True

    def stamp(self) -> None:
        """Record in the log which file it belongs to and what that file contains, unless that changed meanwhile."""
        with suppress(OSError):  # the file system has no room for it
            log, part = self.copied(self._index)
            status = os.stat(self.path)
            file = self._log_file()
            stamp = self.number_of(file) + _number(self.inode)
            try:
                recorded = os.getxattr(file, self.STAMP)
            except OSError:
                recorded = b""
            is_as_taken = (status.st_ino, status.st_mtime_ns) == (self.inode, self.written) and (
                part == self._part or (self._part == _NO_PART and part[8:] == _NO_PART[8:])
            )
            if log and is_as_taken and self.copied(self._index) == (log, part):
                self._part = part  # the first commit gives a log its salts
                stamp += self.content + log + part + boot()
            is_new = recorded[:8] != stamp[:8]
            if is_new or (recorded[8:16] == stamp[8:16] and len(stamp) > 16 and recorded[32:] != stamp[32:]):
                os.setxattr(file, self.STAMP, stamp)

    def is_as_taken(self, file: int, index: int) -> bool:
        """Return whether the content is as last recorded, or may differ because SQLite has written into the file."""
        before, content, after = self.copied(index)[1], self.content_of(file), self.copied(index)[1]
        is_certain = before == after == self._part and before not in (b"", _NO_PART)
        return content == self.content or not is_certain

    def _log_file(self) -> int:
        """Return a descriptor of the log; another connection may have closed the last one, and its number is reused."""
        known = self.known.get(f"{self.path}{self.LOG}", _NONE)
        with suppress(OSError):
            status = os.fstat(self._log)
            if (status.st_dev, status.st_ino) == known:
                return self._log
        self._log = self.opened().get(known, -1)
        return self._log

    @staticmethod
    def number_of(log: int) -> bytes:
        """Return a number that no copy of a log has, even if it gets the inode: that, and the inode's generation."""
        generation = b""
        with suppress(OSError):  # the file system has no generations
            generation = fcntl.ioctl(log, _GET_GENERATION, bytes(8))[:4]
        return _number(os.fstat(log).st_ino ^ int.from_bytes(generation, sys.byteorder) << 32)

    @staticmethod
    def content_of(file: int) -> bytes:
        """Return the size of a file and a checksum of its first pages; every event changes the size or the checksum."""
        return _number(os.fstat(file).st_size) + _number(zlib.crc32(os.pread(file, 1 << 16, 0)))

    @staticmethod
    def copied(index: int) -> tuple[bytes, bytes]:
        """Return a checksum of the log, and which part of it is in the file, according to the log's index.

        The checksum is empty if the log is, and both are empty if that is just changing. The format is that of
        "WAL-mode File Format", section 2.
        """
        counted = os.pread(index, 132, 0)
        header, copied, attempted = counted[:48], counted[96:100], counted[128:132]
        frames, in_file = (int.from_bytes(each, sys.byteorder) for each in (header[16:20], copied))
        if header != counted[48:96] or copied != attempted or in_file > frames:
            return b"", b""
        return header[40:] if frames else b"", header[32:40] + copied

    @staticmethod
    def opened() -> dict[Identity, int]:
        """Return a descriptor of each file that this process has open; empty where that is not known."""
        found: dict[Identity, int] = {}
        with suppress(OSError):
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    status = os.fstat(int(name))
                    found.setdefault((status.st_dev, status.st_ino), int(name))
        return found

    @contextmanager
    def folder(self) -> Iterator[int]:
        """Open the folder at the path: a folder that was moved away may be back at any moment."""
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    def is_in(self, folder: int, suffix: str = "") -> bool:
        """Return whether a folder has the file with this suffix that was recorded."""
        try:
            status = os.stat(f"{self.path.name}{suffix}", dir_fd=folder)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.known.get(f"{self.path}{suffix}")

    def changed(self) -> Iterator[str]:
        """Yield each path that does not lead to the file that was open, and that of a file that was written meanwhile.

        Costs a ``stat`` of each path; any thread may call it. ``left_log.examine`` finds out what has happened.
        """
        for path, known in self.known.items():
            try:
                status = os.stat(path)
                is_same = (status.st_dev, status.st_ino) == known
            except OSError:
                is_same = False
            if not is_same or (path == str(self.path) and status.st_mtime_ns != self.written):
                yield path

    @property
    def marks(self) -> Marks:
        """The locks that show that work on hosts goes on for this file."""
        return Marks(self.path, self.inode)

    def await_earlier(self) -> None:
        """Wait until no work goes on for an earlier file at the path, unless that is known: see :class:`Marks`."""
        if not self._is_alone:
            self.marks.await_earlier()
            self._is_alone = True


def boot() -> bytes:
    """Return the id of the system's present boot (proc(5)); empty if the system is not Linux.

    A log's index is not synced: after a power cut it may be older than the log and the file. In one boot it is not.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return b""


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


class Marks(Frozen):
    """Locks that outlive the files of an inventory, and show whether tasks or steps run for an earlier file.

    When the files are removed, for example by cleaning a checkout, the claims and reservations are lost with them. A
    new inventory at the path could grant hosts that tasks still use. So each process with a claim locks a byte whose
    position stands for the path and the inode. It locks this byte of the inventory's folder, and also of the root
    folder in case the inventory's folder is removed. Such locks need no extra file, and last until every copy of
    the descriptor is closed.
    """

    _path: Path
    _inode: int

    @property
    def _byte(self) -> int:
        """The position of this file's byte among the bytes reserved for its path."""
        return self._inode & _INODES - 1

    def hold(self) -> tuple[int, ...]:
        """Return descriptors whose locks show, while any process has them open, that work for this file goes on."""
        held = []
        for handle, start in self._places():
            if lock_bytes(handle, fcntl.F_RDLCK, start + self._byte, 1):
                held.append(handle)
            else:
                os.close(handle)
        return tuple(held)

    def await_earlier(self) -> None:
        """Wait until no work goes on for another file at the path; raise :class:`AwayError` if that takes too long.

        It rarely takes that long: ``run`` ends its task within seconds after it lost its inventory.
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
                        hint="nothing was written; run the command again when this work has ended, or end it",
                        details={"file": str(self._path)},
                    )
                time.sleep(_EARLIER_PAUSE)
        finally:
            for handle, _ in places:
                os.close(handle)

    def _earlier(self, places: Sequence[tuple[int, int]]) -> int | None:
        """Return a locked byte of this path that stands for another file; None if there is none."""
        for handle, start in places:
            for first, length in ((start, self._byte), (start + self._byte + 1, _INODES - self._byte - 1)):
                byte = locked_byte(handle, first, length) if length else None
                if byte is not None:
                    return byte
        return None

    def _places(self) -> list[tuple[int, int]]:
        """Return a descriptor of each folder that can be opened, and the position of the path's first byte in it."""
        if not hasattr(fcntl, "F_OFD_GETLK"):
            return []  # not Linux
        try:
            mounts = os.readlink("/proc/self/ns/mnt")  # a path may lead to another file in another container
        except OSError:
            mounts = ""
        found = []
        for folder, key in ((self._path.parent, self._path.name), (_ROOT, f"{mounts}{self._path}")):
            with suppress(OSError):
                handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
                found.append((handle, (zlib.crc32(os.fsencode(key)) >> 1) * _INODES))
        return found


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


def lock_bytes(handle: int, kind: int, first: int, length: int) -> bool:
    """Lock a range of bytes, or unlock it, as a connection of another process would; return whether that is possible.

    ``kind`` is :data:`fcntl.F_RDLCK`, which other processes can share, or :data:`fcntl.F_UNLCK`.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, first, length, 0))
    except (AttributeError, OSError):
        return False
    return True


def locked_byte(handle: int, first: int, length: int) -> int | None:
    """Return a byte of a range that a process has locked; None if there is none."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    try:
        kind, _, byte, _, _ = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(byte)
