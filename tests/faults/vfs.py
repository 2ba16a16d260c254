"""A layer between SQLite and its files, and between Python and a folder, that counts, refuses and records changes.

In a process under test, the module registers a VFS that wraps SQLite's own one, as the default of the library that
Python's ``sqlite3`` uses. An audit hook sees the changes that Python itself makes in the folder. This needs neither a
compiler nor root.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BROKEN = 97  # the status of a process in which this module failed
_SHORT = 0x100
_FULL, _CANT_OPEN, _IO_ERROR = 13, 14, 10
_REFUSALS = {"write": 3, "sync": 4, "truncate": 6, "delete": 10, "share": 19}  # SQLITE_IOERR_WRITE, _FSYNC, …


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a file or its name, directly before it is made.

    ``kind`` is write, truncate, sync, delete, create or share for SQLite; open, rename, link, remove or fsync for
    Python; sync-folder for both. ``to`` is the second name of a rename or link.
    """

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    to: str = ""


Before = Callable[[Change], int]
"""Called before each change: 0 allows it, an error number refuses it. It may end the process."""

_P, _I, _S, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_I, _P, _P, _P, _I, _P)  # a pointer to the name, which SQLite keeps as long as the file
_DELETE = ctypes.CFUNCTYPE(_I, _P, _S, _I)
_WRITE = ctypes.CFUNCTYPE(_I, _P, _P, _I, _L)
_TRUNCATE = ctypes.CFUNCTYPE(_I, _P, _L)
_SYNC = ctypes.CFUNCTYPE(_I, _P, _I)
_SHARE = ctypes.CFUNCTYPE(_I, _P, _I, _I, _I, _P)
_OPEN_FOLDER = ctypes.CFUNCTYPE(_I, _S, _P)
_SET_CALL = ctypes.CFUNCTYPE(_I, _P, _S, _P)
_GET_CALL = ctypes.CFUNCTYPE(_P, _P, _S)


def _pointers(names: str) -> list[tuple[str, type]]:
    return [(name, _P) for name in names.split()]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", _I),
        ("szOsFile", _I),
        ("mxPathname", _I),
        ("pNext", _P),
        ("zName", _S),
        ("pAppData", _P),
        *_pointers("xOpen xDelete xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep"),
        *_pointers("xCurrentTime xGetLastError xCurrentTimeInt64 xSetSystemCall xGetSystemCall xNextSystemCall"),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("iVersion", _I),
        *_pointers("xClose xRead xWrite xTruncate xSync xFileSize xLock xUnlock xCheckReservedLock xFileControl"),
        *_pointers("xSectorSize xDeviceCharacteristics xShmMap xShmLock xShmBarrier xShmUnmap xFetch xUnfetch"),
    ]


class Files:
    """The wrapped files of this process; create one instance, and keep it as long as the process lives.

    ``before`` is called only for changes in ``folder``. Half of a refused write is done, as on a disk that is full.
    """

    def __init__(self, folder: Path, before: Before) -> None:
        self._folder = str(folder)
        self._before = before
        self._is_telling = False
        self._paths: dict[int, str] = {}  # SQLite's open files, by their address
        self._methods: dict[int, _Methods] = {}  # our files, by the address of SQLite's file
        self._kept: list[object] = []  # callbacks to which C code refers
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        library.sqlite3_vfs_register.argtypes = (_P, _I)
        self._theirs: _Vfs = library.sqlite3_vfs_find(None).contents
        self._ours = _Vfs.from_buffer_copy(self._theirs)
        self._ours.zName = b"faulty"
        self._ours.xOpen = self._callback(_OPEN, self._open)
        self._ours.xDelete = self._callback(_DELETE, self._delete)
        if library.sqlite3_vfs_register(ctypes.addressof(self._ours), 1):
            raise OSError("SQLite does not take another VFS")
        self._watch_folder_syncs()
        self._fsync = os.fsync
        os.fsync = self._synced  # type: ignore[assignment]  # the process under test is ours
        sys.addaudithook(self._audit)

    def _tell(self, change: Change) -> int:
        if self._is_telling or not change.path.startswith(self._folder):
            return 0
        self._is_telling = True
        try:
            return self._before(change)
        finally:
            self._is_telling = False

    # SQLite's files

    def _callback(self, kind: type, function: Callable[..., int]) -> int | None:
        def called(*args: object) -> int:
            try:
                return function(*args)
            except BaseException:  # noqa: BLE001 - C code can't pass it on
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(_BROKEN)

        made = kind(called)
        self._kept.append(made)
        return ctypes.cast(made, _P).value

    def _open(self, _: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        path = "" if name is None else os.fsdecode(ctypes.string_at(name))
        if path and not os.path.exists(path) and self._tell(Change("create", path)):
            return _CANT_OPEN
        result = int(_OPEN(self._theirs.xOpen)(ctypes.addressof(self._theirs), name, file, flags, out))
        if result == 0:
            self._paths[file] = path
            slot = ctypes.cast(file, ctypes.POINTER(_P))
            slot[0] = ctypes.addressof(self._wrapped(slot[0]))
        return result

    def _wrapped(self, address: int) -> _Methods:
        if address not in self._methods:
            theirs = _Methods.from_address(address)
            ours = _Methods.from_buffer_copy(theirs)
            write, truncate, sync = _WRITE(theirs.xWrite), _TRUNCATE(theirs.xTruncate), _SYNC(theirs.xSync)

            def written(file: int, data: int, size: int, offset: int) -> int:
                change = Change("write", self._paths[file], offset, ctypes.string_at(data, size))
                refused = self._tell(change)
                if refused:
                    write(file, data, size // 2, offset)
                return self._refusal("write", refused) or write(file, data, size, offset)

            def truncated(file: int, size: int) -> int:
                refused = self._tell(Change("truncate", self._paths[file], size))
                return self._refusal("truncate", refused) or truncate(file, size)

            def synced(file: int, flags: int) -> int:
                return self._refusal("sync", self._tell(Change("sync", self._paths[file]))) or sync(file, flags)

            def shared(file: int, region: int, size: int, extends: int, out: int) -> int:
                refused = self._tell(Change("share", self._paths[file])) if extends else 0
                return self._refusal("share", refused) or _SHARE(theirs.xShmMap)(file, region, size, extends, out)

            ours.xWrite = self._callback(_WRITE, written)
            ours.xTruncate = self._callback(_TRUNCATE, truncated)
            ours.xSync = self._callback(_SYNC, synced)
            if theirs.xShmMap:  # files that no other process has open have none
                ours.xShmMap = self._callback(_SHARE, shared)
            self._methods[address] = ours
        return self._methods[address]

    def _delete(self, _: int, name: bytes, syncs: int) -> int:
        refused = self._refusal("delete", self._tell(Change("delete", os.fsdecode(name))))
        return refused or int(_DELETE(self._theirs.xDelete)(ctypes.addressof(self._theirs), name, syncs))

    def _refusal(self, kind: str, number: int) -> int:
        """Return SQLite's code for an error number, as SQLite's VFS for Unix does."""
        if number == errno.ENOSPC and kind == "write":
            return _FULL
        return _IO_ERROR + _REFUSALS[kind] * _SHORT if number else 0

    def _watch_folder_syncs(self) -> None:
        """Watch the folder: SQLite opens it only to sync it, with the first sync of a new journal."""
        address = ctypes.addressof(self._theirs)
        theirs = _OPEN_FOLDER(_GET_CALL(self._theirs.xGetSystemCall)(address, b"openDirectory"))

        def opened(name: bytes, out: int) -> int:
            self._tell(Change("sync-folder", os.path.dirname(os.fsdecode(name))))
            return int(theirs(name, out))

        ours = self._callback(_OPEN_FOLDER, opened)
        _SET_CALL(self._theirs.xSetSystemCall)(address, b"openDirectory", ours)

    # Python's

    def _synced(self, handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        kind = "sync-folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync"
        self._refuse(Change(kind, path))
        self._fsync(handle)

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        match event, args:
            case "open", (str() | bytes() | os.PathLike() as path, _, int(flags)):
                if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    self._refuse(Change("open", os.fsdecode(path)))
            case "os.rename", (str() | bytes() | os.PathLike() as path, to, *_):
                self._refuse(Change("rename", os.fsdecode(path), to=os.fsdecode(to)))  # type: ignore[call-overload]  # a path
            case "os.link", (str() | bytes() | os.PathLike() as path, to, *_):
                self._refuse(Change("link", os.fsdecode(path), to=os.fsdecode(to)))  # type: ignore[call-overload]  # a path
            case "os.remove", (str() | bytes() | os.PathLike() as path, *_) if os.path.lexists(path):
                self._refuse(Change("remove", os.fsdecode(path)))

    def _refuse(self, change: Change) -> None:
        number = self._tell(change)
        if number:
            raise OSError(number, os.strerror(number))
