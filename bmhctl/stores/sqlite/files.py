"""Create SQLite files: built under a temporary name, then linked to their final name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.stores.os_files import LOOK_AT_DISK, unreachable
from bmhctl.stores.sqlite.database import APPLICATION_ID, SqliteDatabase, connect
from bmhctl.stores.sqlite.errors import writable_hint
from bmhctl.stores.sqlite.open_files import refuse_network
from bmhctl.stores.sqlite.upkeep import migrate


def create_database(path: Path, *, group: int | None = None) -> None:
    """Create an empty inventory file; it appears complete or not at all.

    ``group`` and the errors are as in :func:`building`.
    """
    if path.exists():
        raise FileExistsError(path)
    with building(path, group) as partial:
        new_database(partial).close()


def new_database(partial: Path, *, takes_anything: bool = False) -> SqliteDatabase:
    """Return a new, empty inventory in the file ``partial``, open; close it before the file gets its final name.

    With ``takes_anything``, the connection also accepts rows that contradict each other, for the backup of a damaged
    inventory.
    """
    database = SqliteDatabase(destination(partial), connect(partial))
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(database)
        database.configure()
        if takes_anything:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("PRAGMA ignore_check_constraints = ON")
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def building(path: Path, group: int | None = None) -> Iterator[Path]:
    """Yield a temporary name for building a file; the file gets its final name, durably, when the block ends.

    Members of ``group`` (a numeric id) may write the file, from the moment at which it has its final name. Raises
    :class:`FileExistsError` when something has the final name, and :class:`UnreachableError` when the file can't be
    written or given to the group.
    """
    refuse_network(path.parent)
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}{_PARTIAL}")
    try:
        _refuse_leftovers(path)
        partial.touch(exist_ok=False)  # its permissions follow the umask, or the folder's default ACL
    except OSError as error:
        raise unreachable(f"can't write in {path.parent}", error, writable_hint(path)) from error
    try:
        yield partial
        _settle(partial)
        if group is not None:
            try:
                os.chown(partial, -1, group)
                partial.chmod(0o660)
            except OSError as error:
                raise UnreachableError(f"can't give {path} to the group: {error.strerror}") from error
        sync(partial)
        os.link(partial, path)  # unlike a rename, this never replaces a file that appeared meanwhile
        sync(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise unreachable(f"can't write {path}", error, writable_hint(path)) from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):  # leftovers do no harm: their names are not those of an inventory
                os.unlink(f"{partial}{suffix}")


def _refuse_leftovers(path: Path) -> None:
    """Raise :class:`InvalidError` for a journal without its file: SQLite would apply it to a new file of that name.

    The journal is checked before the file. If another command creates the file meanwhile, its journal appears after it.
    """
    for suffix in ("-wal", "-journal"):
        left = Path(f"{path}{suffix}")
        if left.exists() and left.stat().st_size and not path.exists():
            raise InvalidError(
                f"{path} is missing, but {left.name}, which belongs to it, is there",
                hint=f"restore {path.name}; to start again, move {left.name} away, too",
                details={"file": str(left)},
            )


def _settle(partial: Path) -> None:
    """Move the WAL into its database: when a close fails to do so, such as on a full disk, it reports no error."""
    wal = Path(f"{partial}-wal")
    if not wal.exists():
        return
    database = SqliteDatabase(destination(partial), connect(partial))
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()
    if wal.exists():
        raise UnreachableError(f"{destination(partial)} can't be written", hint=LOOK_AT_DISK)


def log_of(path: Path) -> Path:
    """Return the path of a file's write-ahead log, which has the last writes until SQLite moves them into the file."""
    return path.with_name(path.name + "-wal")


def sync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def destination(partial: Path) -> Path:
    """Return the final path of a file that is being built, for messages."""
    return partial.with_name(partial.name.removeprefix(".").removesuffix(_PARTIAL).rpartition(".")[0])


_PARTIAL = ".partial"
