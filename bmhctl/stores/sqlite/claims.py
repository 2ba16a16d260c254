"""Claims as file locks, for the processes of one machine."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import MovedError, UnreachableError
from bmhctl.stores.os_files import unreachable

if TYPE_CHECKING:
    from bmhctl.stores.claims import Hold, Holder, LeftClaim
    from bmhctl.stores.database import Question
    from bmhctl.stores.rows import Row
    from bmhctl.stores.sqlite.open_files import OpenFiles

_TRIES = 5  # attempts to take a held lock, since another process may only be testing it
_PAUSE = 0.002  # seconds between attempts; a test holds the lock for microseconds
_MOST_TRIES = 500

_locked: set[int] = set()
"""The descriptors by which this process holds claims; only a program that they are passed to has the claims, too."""


def folder_beside(inventory: Path) -> Path:
    """Return the folder with the claims of the inventory in the file ``inventory``."""
    return inventory.with_name(inventory.name + ".claims")


class _HeldError(Exception):
    """Another process has the claim."""


class FileClaims:
    """The claims of one inventory on this machine: a file for each, in a folder beside the inventory's file."""

    standing: tuple[Question, ...] = ()

    def __init__(self, inventory: Path, files: OpenFiles | None = None) -> None:
        self._inventory = inventory
        self._files = files
        self._marked: tuple[int, ...] = ()  # descriptors that are open while any claim is held alone
        self._alone = 0  # the number of claims that are held alone
        self._folder = folder_beside(inventory)
        self._held: dict[int, tuple[str, Callable[[int], None]]] = {}

    @contextmanager
    def share(self, name: str) -> Iterator[Callable[[], bool]]:
        """Hold a claim together with other processes until the block ends; yield a test whether this one is alone."""
        handle = self._open(name, _join)
        self._held[handle] = name, _join
        try:
            yield lambda: _take(handle, sharers=True, tries=_TRIES)
        finally:
            del self._held[handle]
            try:
                self._tidy(handle, name, sharers=True)
            finally:
                _close(handle)

    @contextmanager
    def claim(self, name: str) -> Iterator[Hold | None]:
        """Hold a claim alone until the block ends, or longer if a process that inherited the descriptor outlives it."""
        from bmhctl.stores.claims import Hold
        from bmhctl.support.fork_lock import STARTING

        try:
            handle = self._open(name, _take_alone)
        except _HeldError:
            yield None
            return
        self._held[handle] = name, _take_alone
        with STARTING:
            if self._files is not None and not self._marked:
                self._marked = self._files.marks.hold()
                _locked.update(self._marked)
            self._alone += 1
        try:
            yield Hold((handle, *self._marked))
        finally:
            del self._held[handle]
            with STARTING:
                self._alone -= 1
                if not self._alone:
                    self._unmark()
                # If a step that inherited the descriptor still runs, it keeps the lock, and the file stays.
                _close(handle)
                self.forget(name)

    def _unmark(self) -> None:
        for each in self._marked:
            _close(each)
        self._marked = ()

    def claimed_hosts(self, hosts: Collection[int], standing: Sequence[Row] | None = None) -> frozenset[int]:
        """Return the ids of the hosts that some process has claimed."""
        if not _is_there(self._folder):
            return frozenset()
        from bmhctl.stores.claims import host_claim

        names = {host_claim(host): host for host in hosts}
        return frozenset(names[name] for name in self.claimed(names))

    def claimed(self, names: Collection[str], standing: Sequence[Row] | None = None) -> frozenset[str]:
        """Return the names of the claims that some process holds alone."""
        return self._those(names, lambda handle: not _lock(handle, fcntl.LOCK_SH))

    def shared(self, names: Collection[str]) -> frozenset[str]:
        """Return the names of the claims that some process shares, and perhaps of some that several processes test."""
        return self._those(names, lambda handle: not _take(handle, sharers=True, tries=1))

    def _those(self, names: Collection[str], question: Callable[[int], bool]) -> frozenset[str]:
        if not _is_there(self._folder):
            return frozenset()
        return frozenset(name for name in names if self._ask(name, question))

    def left_behind(self) -> list[LeftClaim]:
        """Return the claims whose file is locked by no process; only a killed process leaves such a file."""
        from bmhctl.stores.claims import LeftClaim

        return [
            LeftClaim(name, "the process that held it was killed")
            for name in self.names()
            if self._ask(name, lambda handle: _lock(handle, fcntl.LOCK_EX))
        ]

    def is_there(self, name: str) -> bool:
        """Return whether there is a file of the claim, as far as this user may know."""
        return os.path.exists(self._path(name))  # False for a folder that this user must not read

    def names(self) -> list[str]:
        """Return the names of the claims that have a file."""
        try:
            return sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreachable(error) from error

    def holders(self, name: str) -> list[Holder]:
        """Return the processes of this machine that have the claim's file open."""
        from bmhctl.stores.sqlite.holders import holders

        return holders(self._path(name))

    def end_holders(self, name: str) -> None:
        """End the processes that inherited the claim, and remove its file."""
        from bmhctl.stores.sqlite.holders import end

        end(self._path(name))
        self.forget(name)

    def restore(self) -> None:
        """Create the files of held claims again if they were removed; costs one ``stat`` for each claim.

        Raises :class:`MovedError` when another process has taken one of the claims meanwhile.
        """
        for handle, (name, lock) in tuple(self._held.items()):
            if _is_file(handle, self._path(name)):
                continue
            try:
                fresh = self._open(name, lock)
            except _HeldError:
                raise MovedError(
                    f"the claim {self._path(name)} was removed, and another process has it now",
                    hint=f"{self._folder.name} belongs to the inventory: keep both where nothing deletes files",
                ) from None
            os.dup2(fresh, handle, inheritable=False)
            _close(fresh)

    def _ask(self, name: str, question: Callable[[int], object]) -> bool:
        try:
            handle = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            return bool(question(handle))
        finally:
            os.close(handle)

    def _open(self, name: str, lock: Callable[[int], None]) -> int:
        """Return a descriptor of the claim's file after ``lock`` has locked it; raise the errors of ``lock``."""
        path = self._path(name)
        while True:
            self._make_folder()
            try:
                # Open read-only, so that a file of another member of the group can be locked, too.
                handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
                _locked.add(handle)
                self._share(handle)
            except FileNotFoundError:
                continue  # the folder was removed in between
            except OSError as error:
                raise self._unreachable(error) from error
            try:
                lock(handle)
            except BaseException:
                _close(handle)
                raise
            if _is_file(handle, path):
                return handle
            _close(handle)  # the file was removed in between: lock the new one

    def forget(self, name: str, *, shared: bool = False) -> None:
        """Remove the file of a claim that no process holds; a killed process leaves one."""
        with suppress(UnreachableError):
            self._ask(name, lambda handle: self._tidy(handle, name, sharers=shared))

    def _tidy(self, handle: int, name: str, *, sharers: bool) -> None:
        path = self._path(name)
        with suppress(OSError, UnreachableError):  # the folder is not empty: it has files of other claims
            if _take(handle, sharers=sharers, tries=_TRIES) and _is_file(handle, path):
                path.unlink(missing_ok=True)
                self._folder.rmdir()

    def _make_folder(self) -> None:
        if _is_there(self._folder):
            return
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unreachable(error) from error
        with suppress(OSError):  # its permissions, or another process, have made it unreadable or removed it
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._share(handle)
            finally:
                os.close(handle)

    def _share(self, made: int) -> None:
        """Let the users of the inventory use a file or folder of this user: the group, whatever the umask is.

        Members of the group could also have put a link to another file there, which stays as it is.
        """
        with suppress(OSError):  # another user's
            there, status = self._inventory.stat(), os.fstat(made)
            mode = there.st_mode & 0o777
            if stat.S_ISDIR(status.st_mode):
                mode |= (mode & 0o444) >> 2
            elif status.st_nlink > 1:
                return
            if status.st_uid == os.geteuid() and (status.st_gid, status.st_mode & 0o777) != (there.st_gid, mode):
                os.fchown(made, -1, there.st_gid)
                os.fchmod(made, mode)

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _unreachable(self, error: OSError) -> UnreachableError:
        return unreachable(f"can't make claims in {self._folder}", error, f"make {self._folder.parent} writable")


def _close(handle: int) -> None:
    _locked.discard(handle)
    os.close(handle)


def _leave_claims() -> None:
    """In a fork of this process, give up the inherited claims, which would last as long as the fork.

    The descriptors stay open, because code that the fork returns to may close them.
    """
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for handle in _locked:
            os.dup2(nothing, handle, inheritable=False)
        os.close(nothing)


os.register_at_fork(after_in_child=_leave_claims)


def _take(handle: int, *, sharers: bool, tries: int) -> bool:
    """Lock a file alone; return False if ``tries`` attempts found it held.

    ``sharers`` is whether holders share the lock or one holds it alone. A process with the other kind of lock is only
    testing the claim. This waits for such a process, but not for ever, because it may be stopped.
    """
    for _ in range(_MOST_TRIES):
        if _lock(handle, fcntl.LOCK_EX):
            return True
        is_shared = _lock(handle, fcntl.LOCK_SH)
        if is_shared:
            fcntl.flock(handle, fcntl.LOCK_UN)
        if is_shared is sharers:
            tries -= 1
            if not tries:
                return False
        time.sleep(_PAUSE)
    return False


def _take_alone(handle: int) -> None:
    if not _take(handle, sharers=False, tries=_TRIES):
        raise _HeldError


def _join(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_SH)  # may wait for a process that is testing the claim


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreachable(f"can't look at the claim {path}", error, was_usable=True) from error


def _is_there(folder: Path) -> bool:
    """Return whether anything is at a path; raise :class:`UnreachableError` if that can't be determined."""
    try:
        os.stat(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreachable(f"can't look at {folder}", error) from error
    return True
