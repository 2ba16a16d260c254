"""Claims on hosts: a file lock that a step's process inherits, so that it lives exactly as long as the step."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmhctl.errors import UnreachableError


class Claims:
    """The claims on the hosts of one inventory on this machine; one file in ``folder`` for each claimed host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def claim(self, host_id: int) -> Iterator[int | None]:
        """Claims a host; yields a descriptor for the step's process to inherit, None when it is claimed already.

        The claim ends with the block, or later: with the last process that inherited the descriptor.
        """
        handle = self._acquire(host_id)
        if handle is None:
            yield None
            return
        try:
            yield handle
        finally:
            # A step that outlived its runner would keep the lock on an unlinked file: then the file stays.
            os.close(handle)
            self._tidy(host_id)

    def is_claimed(self, host_id: int) -> bool:
        """Whether a step is running on the host."""
        try:
            handle = os.open(self._path(host_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            return not _lock(handle)
        finally:
            os.close(handle)

    def _acquire(self, host_id: int) -> int | None:
        path = self._path(host_id)
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:
                continue  # the folder was tidied away in between
            except OSError as error:
                raise self._unreachable(error) from error
            if not _lock(handle):
                os.close(handle)
                return None
            if _is_file(handle, path):
                return handle
            os.close(handle)  # it was tidied away in between: lock the one that is there now

    def _tidy(self, host_id: int) -> None:
        path = self._path(host_id)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if _lock(handle) and _is_file(handle, path):
                path.unlink(missing_ok=True)
                self._folder.rmdir()
        except OSError:
            return  # other claims are there
        finally:
            os.close(handle)

    def _path(self, host_id: int) -> Path:
        return self._folder / str(host_id)

    def _unreachable(self, error: OSError) -> UnreachableError:
        return UnreachableError(
            f"can't claim a host in {self._folder}: {error.strerror}", hint=f"make {self._folder.parent} writable"
        )


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
