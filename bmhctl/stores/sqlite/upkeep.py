"""Rare work on a SQLite file: migrate, check, repair and copy it, and retire an inventory."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.errors import BmhctlError, InvalidError
from bmhctl.stores.database import LOCK_PATIENCE
from bmhctl.stores.meta import changes_allowed
from bmhctl.stores.migrations import MIGRATIONS, check_known
from bmhctl.stores.rows import number_in
from bmhctl.stores.schema import GUARDED, SUCCESSOR_KEY, VERSION
from bmhctl.stores.sqlite.errors import RETIRED, translate
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.sqlite.database import SqliteDatabase

_CHANGES = ("insert", "update")
_INDEX_ONLY = re.compile(r"row \d+ missing from index \S+|wrong # of entries in index \S+")
# A row that violates a CHECK is not damage; other checks of ``doctor`` report what is wrong with it.
_NO_DAMAGE = re.compile(r"ok$|\*\*\* in database main \*\*\*$|CHECK constraint failed in ")


def migrate(database: SqliteDatabase) -> None:
    """Update the schema of a file."""
    with database.transaction(write=True), changes_allowed(database) if database.schema_version() else nullcontext():
        for number, migration in enumerate(MIGRATIONS, 1):
            if number <= database.schema_version():
                continue
            for statement in (*migration.statements, *migration.in_file):
                database.execute(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
            database.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, migration.name])
            database.execute(f"PRAGMA user_version = {number}")


def update(database: SqliteDatabase) -> None:
    """Update a file of an older bmhctl; raise :class:`InvalidError` for a file of a newer one."""
    version = database.schema_version() or _restored_version(database)
    check_known(version, database.location)
    if version < VERSION:
        migrate(database)
        database.is_updated = True


def _restored_version(database: SqliteDatabase) -> int:
    """Set the version of a file that lacks it, because ``.dump`` of sqlite3 wrote it; return it, or 0 if unknown."""
    if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'"):
        return 0
    version = number_in(database.execute("SELECT MAX(version) FROM migrations"))
    database.execute(f"PRAGMA user_version = {version}")
    return version


def use_log(database: SqliteDatabase) -> None:
    """Use a write-ahead log again, unless others use the file now.

    Files that SQLite's own tools make, such as a recovered one, have a journal instead: each reader would then stop all
    writers.
    """
    database.execute("PRAGMA busy_timeout = 0")
    with suppress(BmhctlError):
        database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA busy_timeout = {LOCK_PATIENCE * 1000:.0f}")
    database.schema_version()  # the first read opens the log


class SqliteUpkeep(Frozen):
    """The upkeep of one file; made by :meth:`SqliteDatabase.upkeep`."""

    _database: SqliteDatabase

    def refuse_changes(self) -> None:
        """Create triggers for each table that raise an error with the successor's location: see :func:`translate`."""
        [(successor,)] = self._database.execute("SELECT value FROM meta WHERE key = ?", [SUCCESSOR_KEY])
        words = f"{RETIRED}{successor}".replace("'", "''")
        for table in GUARDED:
            for change in _CHANGES:
                self._database.execute(
                    f"CREATE TRIGGER IF NOT EXISTS retired_{table}_{change} BEFORE {change} ON {table}"
                    f" BEGIN SELECT RAISE(ABORT, '{words}'); END"
                )

    def allow_changes(self) -> None:
        """Drop the triggers of :meth:`refuse_changes`."""
        for table in GUARDED:
            for change in _CHANGES:
                self._database.execute(f"DROP TRIGGER IF EXISTS retired_{table}_{change}")

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield the reports of ``PRAGMA integrity_check``, or why it fails."""
        try:
            for (said,) in self._database.stream("PRAGMA integrity_check"):
                for line in str(said).splitlines():
                    if not _NO_DAMAGE.match(line):
                        yield line, _INDEX_ONLY.fullmatch(line) is not None
        except InvalidError as error:
            yield error.message, False

    def rebuild(self) -> None:
        """Rebuild all indexes with ``REINDEX``."""
        self._database.execute("REINDEX")

    def copy_file_to(self, partial: Path) -> bool:
        """Copy the file, and give the copy the same permissions; other processes may write meanwhile."""
        try:
            with closing(sqlite3.connect(partial)) as other:
                self._database.connection.backup(other)
        except sqlite3.Error as error:
            raise translate(error, partial) from error
        there = os.stat(self._database.location)
        partial.chmod(there.st_mode & 0o700)
        with suppress(OSError):  # the same group may read the copy; if that is refused, only the owner may
            os.chown(partial, -1, there.st_gid)
            partial.chmod(there.st_mode & 0o777)
        return True
