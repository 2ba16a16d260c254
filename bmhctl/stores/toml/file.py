"""A TOML inventory as a file: its bytes, and whether it changed since it was read; no TOML is parsed here.

Nothing here writes, because the file belongs to a person. ``atomic_replace`` writes it, for commands that change the
declaration.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from functools import cached_property
from pathlib import Path

from bmhctl.errors import AwayError, InvalidError, MovedError, UnreachableError
from bmhctl.stores.os_files import unreachable
from bmhctl.stores.state_files import beside, state_file
from bmhctl.support.values import Frozen

SIZE_LIMIT = 256 * 2**20
"""The size in bytes beyond which a file is refused as a declaration."""

_GRAIN = 20_000_000  # ns; two ticks of the slowest kernel, after which a write gets another time
_COARSE_GRAIN = 2_000_000_000  # ns; FAT stores times in steps of two seconds
_PATIENCE = 25_000_000  # ns; how long a read waits for a file that was written just now
_TRIES = 40


class Fingerprint(Frozen):
    """The state of a file when it was read; times in ns, ``sha256`` in hex.

    ``settled`` is whether the file's times were so far in the past that every later write must change them.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str
    settled: bool

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """The inode, the size and the times, which every later write changes."""
        return self.inode, self.size, self.mtime_ns, self.ctime_ns

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """Return the fingerprint of a content that is not in a file yet; only its hash can match a file."""
        return cls(0, len(data), 0, 0, sha256_of(data), settled=False)

    def to_text(self) -> str:
        """Return the fingerprint as one line that :meth:`from_text` reads back."""
        numbers = (self.inode, self.size, self.mtime_ns, self.ctime_ns, int(self.settled))
        return " ".join((*map(str, numbers), self.sha256))

    @classmethod
    def from_text(cls, text: str) -> Fingerprint | None:
        """Return the fingerprint in a text; None for any other text, which then matches no file."""
        match = re.fullmatch(r"(\d{1,20}) (\d{1,20}) (-?\d{1,20}) (-?\d{1,20}) ([01]) ([0-9a-f]{64})", text, re.ASCII)
        if not match:
            return None
        inode, size, mtime_ns, ctime_ns, settled = map(int, match.groups()[:5])
        return cls(inode, size, mtime_ns, ctime_ns, match[6], settled=bool(settled))


class DeclarationFile:
    """A TOML inventory on disk; ``path`` has its links resolved, so that all links to a file share its state file."""

    def __init__(self, given: Path) -> None:
        self.given = Path(os.path.abspath(given))
        """The path by which the file was opened."""
        self.path = Path(os.path.realpath(given))

    @cached_property
    def state_path(self) -> Path:
        """The path of the state file, as determined at the first use of this property: see :func:`state_file`."""
        return state_file(self.path)

    @property
    def identity(self) -> str:
        """The owner that the state file records: the path of the TOML file with or without links resolved.

        If the state file is not beside the TOML file, it is the unresolved name, because a link may lead to another
        release later.
        """
        return str(self.path if self.state_path == beside(self.path) else self.given)

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the path by which the file was opened is a link that leads elsewhere now."""
        if self.given == self.path:
            return
        try:
            is_same = os.path.samefile(self.given, self.path)
        except OSError:
            return  # reading the file reports that it is missing
        if not is_same:
            raise MovedError(
                f"{shown(self.given)} leads to {shown(Path(os.path.realpath(self.given)))} now, "
                f"no longer to {shown(self.path)}",
                hint="nothing was written; run the command again to use the file that is there now",
                details={"file": str(self.given)},
            )

    def check_state_path(self) -> None:
        """Raise :class:`MovedError` when the file now names another state file."""
        now = state_file(self.path)
        if now != self.state_path:
            raise MovedError(
                f"{shown(self.path)} names {shown(now)} as its state now, no longer {shown(self.state_path)}",
                hint="nothing was written; run the command again to use the state file that is named there",
                details={"file": str(self.path)},
            )

    def is_untouched(self, fingerprint: Fingerprint) -> bool:
        """Return whether one ``stat`` proves that the file has not changed since the fingerprint.

        Raises :class:`UnreachableError` when the file is missing.
        """
        return fingerprint.settled and _stamp(_status(self.path)) == fingerprint.stamp

    def same(self, fingerprint: Fingerprint | None) -> bool:
        """Return whether the file has not changed since the fingerprint; costs one ``stat`` or a hash, never a parse.

        Raises :class:`UnreachableError` when the file is missing or can't be read.
        """
        if fingerprint is None:
            return False
        if self.is_untouched(fingerprint):
            return True
        size = _status(self.path).st_size
        return size == fingerprint.size and sha256_of(self.text()) == fingerprint.sha256

    def load(self) -> tuple[bytes, Fingerprint]:
        """Return the file's bytes and its fingerprint; wait up to 25 ms for a file that was written just now.

        The wait is longer for a file that is still growing. Raises :class:`UnreachableError` when the file can't be
        read.
        """
        patience, seen = _PATIENCE, None
        for _ in range(_TRIES):
            now = time.time_ns()
            before = _status(self.path)
            if seen is not None and seen.st_ino == before.st_ino and _stamp(seen) != _stamp(before):
                patience = _PATIENCE  # the file is being written in place, and is not complete yet
            seen = before
            # A file may be incomplete while it is saved; only an old time proves that no write followed.
            short_of = _GRAIN - (now - max(before.st_mtime_ns, before.st_ctime_ns))
            if 0 < short_of <= patience:
                patience -= short_of
                time.sleep(short_of / 1e9)
                continue
            data = self.text()
            if _stamp(_status(self.path)) == _stamp(before):
                return data, Fingerprint(*_stamp(before), sha256_of(data), settled=_is_settled(before, now))
        raise UnreachableError(
            f"{shown(self.path)} keeps changing while it is read",
            hint="try again when the program that writes it has finished",
        )

    def text(self) -> bytes:
        """Return the file's bytes; raise :class:`UnreachableError` when it can't be read."""
        return read_file(self.path)


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def read_file(path: Path) -> bytes:
    """Return the bytes of a declaration.

    Raises :class:`UnreachableError` when the file can't be read, and :class:`InvalidError` when it is too large.
    """
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
    """Return a path as messages name it: relative if it is in or below the working directory."""
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
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    raise UnreachableError(f"{shown(path)} is {kind}", hint="name the TOML file itself", details={"file": shown(path)})


def make_again(state: Path) -> str:
    """Return the hint for a state file without its TOML file."""
    return f"the state file is still there: bmhctl copy {shown(state)} NEW.toml makes an inventory of it"


def _unreadable(path: Path, error: OSError) -> UnreachableError:
    name = shown(path)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            state, details = beside(path), {"file": name}
            if state.exists():  # the file may be back soon: a checkout or an editor replaces it
                return AwayError(f"there is no {name}", hint=make_again(state), details=details)
            return UnreachableError(f"there is no {name}", hint=f"create it: bmhctl -i {name} init", details=details)
        case errno.EACCES | errno.EPERM:
            hint = "ask its owner for the right to read it and to enter its folders"
            return UnreachableError(f"may not read {name}: permission denied", hint=hint, details={"file": name})
        case _:
            return unreachable(f"can't read {name}", error, file=name)


def _stamp(seen: os.stat_result) -> tuple[int, int, int, int]:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _is_settled(status: os.stat_result, now: int) -> bool:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    if any(at % 1_000_000_000 == 0 for at in times):
        return now - max(times) > _COARSE_GRAIN
    return now - max(times) >= _GRAIN
