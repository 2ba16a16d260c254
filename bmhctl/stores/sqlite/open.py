"""Open, create and migrate an inventory in a SQLite file."""

from __future__ import annotations

import os
from pathlib import Path

from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.stores.schema import VERSION
from bmhctl.stores.sqlite.database import OpenFiles, SqliteDatabase, connect, refuse_network, writable_hint

APPLICATION_ID = 0x424D4843
"""Marks a SQLite file as an inventory of bmhctl (``BMHC``)."""
_HEADER = b"SQLite format 3\x00"


def open_database(path: Path) -> SqliteDatabase:
    """Open an existing inventory file and update its schema.

    Raises :class:`UnreachableError` when it is missing or can't be used here, :class:`InvalidError` when it is
    not an inventory, is damaged, or was written by a newer bmhctl.
    """
    _check_file(path)
    opened = OpenFiles(path)
    database = SqliteDatabase(path, connect(path))
    try:
        version = database.schema_version()
        if version > VERSION:
            raise InvalidError(
                f"{path} was written by a newer bmhctl (schema {version}; this one knows {VERSION})",
                hint="update bmhctl on this machine",
            )
        if version < VERSION:
            _migrate(database)
        database.configure()
        opened.add_beside()
        opened.check()  # it may have been replaced since it was looked at
        database.open_files = opened
    except BaseException:
        database.close()
        raise
    return database


def create_database(path: Path, *, mode: int | None = None, group: int | None = None) -> None:
    """Create an empty inventory file, whole or not at all.

    ``mode`` and ``group`` (an id) are set before the file appears. Raises :class:`FileExistsError` when
    something is there already.
    """
    if path.exists():
        raise FileExistsError(path)
    from bmhctl.stores.sqlite.files import building

    with building(path) as partial:
        new_database(partial).close()
        try:
            if group is not None:
                os.chown(partial, -1, group)
            if mode is not None:
                partial.chmod(mode)
        except OSError as error:
            raise UnreachableError(f"can't give {path} to the group: {error.strerror}") from error


def new_database(partial: Path, *, takes_anything: bool = False) -> SqliteDatabase:
    """Make an empty inventory in a file that is being built, and return it open; close it before it gets its name.

    With ``takes_anything`` this connection also accepts rows that contradict each other, for a backup of damaged ones.
    """
    from bmhctl.stores.sqlite.files import destination

    database = SqliteDatabase(destination(partial), connect(partial))
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _migrate(database)
        database.configure()
        if takes_anything:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("PRAGMA ignore_check_constraints = ON")
    except BaseException:
        database.close()
        raise
    return database


def _check_file(path: Path) -> None:
    try:
        header = _header(path)
    except FileNotFoundError:
        raise UnreachableError(f"there is no inventory at {path}", hint=f"create one: bmhctl -i {path} init") from None
    except OSError as error:
        raise UnreachableError(f"can't read {path}: {error.strerror}") from error
    if not header:
        raise InvalidError(f"{path} is empty: no inventory", hint=f"remove it, then: bmhctl -i {path} init")
    if not header.startswith(_HEADER) or len(header) < 100:
        raise InvalidError(f"{path} is no SQLite file", hint="an inventory ends in .toml, .db, .sqlite or .sqlite3")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise InvalidError(f"{path} is a SQLite file of another program", hint="choose another file with -i")
    if not os.access(path, os.W_OK):
        # Read-only commands create the files beside it too, and can't remove them: they would lock out other users.
        raise UnreachableError(f"{path} can't be written: it is read-only for this user", hint=writable_hint(path))
    refuse_network(path.parent)


_looked_at: dict[tuple[int, int], int] = {}


def _header(path: Path) -> bytes:
    """Return the first bytes of a file, through a descriptor that stays open as long as the process runs.

    Closing any descriptor of a file drops all locks that this process has on it, those of an open inventory too; then
    another process would find itself the only one. See "How To Corrupt An SQLite Database File", section 2.2.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _looked_at:
        _looked_at[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.pread(_looked_at[key], 100, 0)


def _migrate(database: SqliteDatabase) -> None:
    from bmhctl.stores.migrations import MIGRATIONS

    with database.transaction(write=True):
        for number, migration in enumerate(MIGRATIONS, 1):
            if number <= database.schema_version():
                continue
            for statement in (*migration.statements, *migration.in_file):
                database.execute(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
            database.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, migration.name])
            database.execute(f"PRAGMA user_version = {number}")
