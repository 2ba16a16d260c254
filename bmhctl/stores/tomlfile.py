"""A TOML inventory on disk: whether it changed since it was looked at, and its bytes. Nothing here knows TOML.

Nothing here writes: the file is a person's. ``stores.edit`` changes it when asked to.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.frozen import Frozen
from bmhctl.stores import state_file

if TYPE_CHECKING:
    from bmhctl.stores.declaration import Declaration

SIZE_LIMIT = 256 * 2**20
"""No declaration is larger than this, in bytes."""

_GRAIN = 20_000_000  # two ticks of the slowest kernel, in ns: a later write is sure to get another time
_COARSE_GRAIN = 2_000_000_000  # FAT counts in steps of two seconds
_PATIENCE = 25_000_000  # how long one reading waits for a file that was written just now, in ns
_TRIES = 40


class Fingerprint(Frozen):
    """What a file looked like when it was read; times in ns, ``sha256`` in hex.

    ``settled``: the file's times lay so far in the past that every later write gives it others.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    settled: bool

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """The fingerprint of a content that is in no file yet: files are compared with it by their content."""
        return cls(0, len(data), 0, 0, _sha256(data), settled=False)

    def to_text(self) -> str:
        """One line that :meth:`from_text` reads back."""
        numbers = (self.inode, self.size, self.mtime_ns, self.ctime_ns, int(self.settled))
        return " ".join((*map(str, numbers), self.sha256))

    @classmethod
    def from_text(cls, text: str) -> Fingerprint | None:
        """The fingerprint that a text stands for; None, which is like no file, when it stands for none."""
        match = re.fullmatch(r"(\d{1,20}) (\d{1,20}) (-?\d{1,20}) (-?\d{1,20}) ([01]) ([0-9a-f]{64})", text, re.ASCII)
        if not match:
            return None
        inode, size, mtime_ns, ctime_ns, settled = map(int, match.groups()[:5])
        return cls(inode, size, mtime_ns, ctime_ns, match[6], settled=bool(settled))


class DeclarationFile:
    """A TOML inventory on disk. Links are followed first, so that all links to a file share its state file."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))

    @property
    def path(self) -> Path:
        """The file itself, links resolved."""
        return self._path

    @property
    def state_path(self) -> Path:
        """Where the states of its hosts are kept: ``lab.state.db`` beside ``lab.toml``."""
        return state_file(self._path)

    def rests(self, fingerprint: Fingerprint) -> bool:
        """Whether one ``stat`` tells that the file is as it was at the fingerprint.

        Raises :class:`UnreachableError` when the file is missing.
        """
        return fingerprint.settled and _stamp(_status(self._path)) == _stamp(fingerprint)

    def same(self, fingerprint: Fingerprint | None) -> bool:
        """Whether the file is as it was at the fingerprint: one ``stat`` as a rule, at most a hash, never a parse.

        Raises :class:`UnreachableError` when the file is missing or can't be read.
        """
        if fingerprint is None:
            return False
        if self.rests(fingerprint):
            return True
        size = _status(self._path).st_size
        return size == fingerprint.size and _sha256(self._bytes()) == fingerprint.sha256

    def fingerprint(self) -> Fingerprint:
        """What the file looks like now; waits and raises as :meth:`read` does."""
        return self._load()[1]

    def read(self) -> Declaration:
        """What the file says now; waits up to 25 ms for one that was written just now, longer for one that grows.

        Raises :class:`UnreachableError` when it can't be read, :class:`InvalidError` when it is no declaration.
        """
        from bmhctl.stores.declaration import parse_declaration

        data, fingerprint = self._load()
        return parse_declaration(data, shown(self._path), fingerprint)

    def text(self) -> bytes:
        """What is in the file now; raises as :meth:`read` does when it can't be read."""
        return self._bytes()

    def _load(self) -> tuple[bytes, Fingerprint]:
        patience, seen = _PATIENCE, None
        for _ in range(_TRIES):
            now = time.time_ns()
            before = _status(self._path)
            if seen is not None and seen.st_ino == before.st_ino and _stamp(seen) != _stamp(before):
                patience = _PATIENCE  # it is being written in place, and is not whole before that ends
            seen = before
            # A file that is being saved may be half there; and only an old one's times tell of the next write.
            short_of = _GRAIN - (now - max(before.st_mtime_ns, before.st_ctime_ns))
            if 0 < short_of <= patience:
                patience -= short_of
                time.sleep(short_of / 1e9)
                continue
            data = self._bytes()
            if _stamp(_status(self._path)) == _stamp(before):
                return data, Fingerprint(*_stamp(before), _sha256(data), settled=_is_settled(before, now))
        raise UnreachableError(
            f"{shown(self._path)} keeps changing while it is read", hint="try again when whoever writes it is done"
        )

    def _bytes(self) -> bytes:
        return read_file(self._path)


def read_file(path: Path) -> bytes:
    """A declaration's bytes; :class:`UnreachableError` or, when there are too many, :class:`InvalidError`."""
    size = _status(path).st_size
    if size <= SIZE_LIMIT:
        try:
            with open(path, "rb") as file:
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(data) <= SIZE_LIMIT:
            return data
    raise InvalidError(f"{shown(path)} is larger than {SIZE_LIMIT // 2**20} MiB", details={"file": shown(path)})


def shown(path: Path) -> str:
    """A path as messages name it: relative when it is in the working directory or below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _status(path: Path) -> os.stat_result:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISREG(status.st_mode):
        return status
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
    raise UnreachableError(f"{shown(path)} is {kind}", hint="name the TOML file itself", details={"file": shown(path)})


def make_again(state: Path) -> str:
    """What to do about a state file whose TOML file is gone."""
    return f"the states of its hosts are there: bmhctl copy {shown(state)} NEW.toml makes an inventory of them"


def _unreadable(path: Path, error: OSError) -> UnreachableError:
    name = shown(path)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            state = state_file(path)
            hint = make_again(state) if state.exists() else f"create it: bmhctl -i {name} init"
            return UnreachableError(f"there is no {name}", hint=hint, details={"file": name})
        case errno.EACCES | errno.EPERM:
            hint = "ask its owner for the right to read it and to enter its folders"
            return UnreachableError(f"may not read {name}: permission denied", hint=hint, details={"file": name})
        case _:
            return UnreachableError(f"can't read {name}: {error.strerror or error}", details={"file": name})


def _stamp(seen: os.stat_result | Fingerprint) -> tuple[int, int, int, int]:
    if isinstance(seen, Fingerprint):
        return seen.inode, seen.size, seen.mtime_ns, seen.ctime_ns
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _is_settled(status: os.stat_result, now: int) -> bool:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    if any(at % 1_000_000_000 == 0 for at in times):
        return now - max(times) > _COARSE_GRAIN
    return now - max(times) >= _GRAIN
