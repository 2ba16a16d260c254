"""The database backend for one SQLite file: WAL, one writer at a time, for one machine."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from bmhctl.errors import AwayError, BmhctlError, InvalidError, MovedError, UnreachableError
from bmhctl.stores.database import Question
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.sqlite.open_files import OpenFiles
from bmhctl.stores.write_buffer import WriteBuffer

LOCK_PATIENCE = 15.0
"""How long a command waits for another one's transaction, in seconds."""
_INDEX_ONLY = re.compile(r"row \d+ missing from index \S+|wrong # of entries in index \S+")
# What a CHECK excludes is no damage: the questions about the rows say what it means.
_NO_DAMAGE = re.compile(r"ok$|\*\*\* in database main \*\*\*$|CHECK constraint failed in ")
LOOK_AT_DISK = "look at the disk, its mount and your quota"


_left_open: list[sqlite3.Connection] = []


class SqliteDatabase:
    """A connection to one file; use :func:`open_database` or :func:`create_database`."""

    locks_rows = False  # one writer at a time
    announces = False
    knows_frequencies = False

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._pending = WriteBuffer(self._run_many, self._run)
        self._last_ids: dict[str, int] = {}
        self.open_files: OpenFiles | None = None  # None while a file is being built under another name

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def now(self) -> datetime:
        """This machine's clock."""
        return datetime.now(UTC)

    @property
    def is_connected(self) -> bool:
        """Always: a file is no server."""
        return True

    def last_disruption(self) -> datetime:
        """Never."""
        return datetime.min.replace(tzinfo=UTC)

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Runs one statement; its rows are read as they are asked for."""
        self._pending.flush(then_writes=not sql.startswith("SELECT"))
        try:
            cursor = self._connection.execute(sql, parameters)
            if cursor.description is None:
                return iter(())
            if sql.startswith("INSERT"):  # RETURNING: the statement ends only when its row is read
                return iter(cursor.fetchall())
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        return self._rows(cursor)

    stream = execute

    def locking(self, *questions: Question, foreseen: Sequence[Question] = ()) -> list[Row]:
        """Asks the questions: whoever writes has all rows for itself."""
        rows, *_ = [list(self.execute(*question)) for question in questions]
        return rows

    def _rows(self, cursor: sqlite3.Cursor) -> Iterator[Row]:
        try:
            for row in cursor:  # noqa: UP028 - "yield from" would close the cursor, also on a closed connection
                yield row
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def enqueue(self, sql: str, *rows: Sequence[Value]) -> None:
        """Runs a statement with each row before anything else is asked, together with others that wait."""
        self._pending.add(sql, rows)

    def next_id(self, table: str) -> int:
        """What no row of the table was ever called."""
        if table not in self._last_ids:
            known = list(self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [table]))
            self._last_ids[table] = int(known[0][0] or 0) if known else 0
        self._last_ids[table] += 1
        return self._last_ids[table]

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Adds many rows to a table."""
        self._pending.flush(then_writes=True)
        self._run_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)

    def _run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _run(self, sql: str) -> None:
        try:
            self._connection.execute(sql)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    @contextmanager
    def transaction(
        self,
        *,
        write: bool,
        shared: bool = False,
        foreseen: Sequence[Question] = (),
        locking: Sequence[Question] = (),
    ) -> Iterator[None]:
        """``BEGIN IMMEDIATE`` for writers, so that two never both read first and then race to write.

        Raises :class:`MovedError` when the file is not the one at the path any more: nothing is written then.
        """
        self.check_in_place()
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            self._pending.flush()
            if write:
                self.check_in_place()
            self._run("COMMIT")
        except BaseException:
            self._undo("ROLLBACK")
            raise
        finally:
            self._pending.drop()
            self._last_ids.clear()

    def savepoint(self) -> AbstractContextManager[None]:
        """Undone on its own when the block raises."""
        return self._pending.part(self._undo)

    def abandon(self) -> None:
        """``ROLLBACK``."""
        self._pending.drop()
        self._undo("ROLLBACK")

    def _undo(self, sql: str) -> None:
        # SQLite may have rolled back all of it by itself (disk full, I/O error); the first error is the one to report.
        if self._connection.in_transaction:
            with suppress(BmhctlError):
                self._run(sql)

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the path leads to another file than the open one, or to none."""
        if self.open_files is not None:
            self.open_files.check()

    def version(self) -> int:
        """SQLite's ``data_version``."""
        self.check_in_place()
        return int(next(iter(self.execute("PRAGMA data_version")))[0] or 0)

    def stir(self, *, parting: bool = False) -> None:
        """Nothing is needed: who waits sees the version change."""

    def hush(self) -> None:
        """Nothing to do: who waits looks for itself."""

    def wakes(self) -> int | None:
        """Nothing wakes who waits: looking costs microseconds."""
        return None

    def start_ids_after(self, table: str, last: int) -> None:
        """Makes the next id that the table gives larger than ``last``."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])
        self._last_ids.clear()

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file; SQLite's own beside it come and go."""
        return (self._path,)

    def damage(self) -> Iterator[tuple[str, bool]]:
        """What ``PRAGMA integrity_check`` says, or why it can't."""
        try:
            for (said,) in self.execute("PRAGMA integrity_check"):
                for line in str(said).splitlines():
                    if not _NO_DAMAGE.match(line):
                        yield line, _INDEX_ONLY.fullmatch(line) is not None
        except InvalidError as error:
            yield error.message, False

    def rebuild_indexes(self) -> None:
        """``REINDEX``."""
        self.execute("REINDEX")

    def copy_to(self, partial: Path) -> None:
        """Writes a copy as of one moment into an empty file, broken or not, while others go on: SQLite's own backup."""
        try:
            with closing(sqlite3.connect(partial)) as copy:
                self._connection.backup(copy)
        except sqlite3.Error as error:
            raise translate(error, partial) from error
        there = self._path.stat()
        partial.chmod(there.st_mode & 0o700)
        with suppress(OSError):  # who may read the one may read the other; if that can't be had, only its owner
            os.chown(partial, -1, there.st_gid)
            partial.chmod(there.st_mode & 0o777)

    def close(self) -> None:
        """Closes the connection."""
        try:
            self.check_in_place()
        except MovedError:
            # As the last one to close it, SQLite would remove the -wal that is at the path now: another inventory's.
            _left_open.append(self._connection)
            return
        with suppress(sqlite3.Error):
            self._connection.close()


def translate(error: sqlite3.Error, path: Path) -> BmhctlError:
    """SQLite's error in words for a person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return AwayError(
            f"{path} is locked: another command has been writing for over {LOCK_PATIENCE:.0f} s",
            hint="try again; if it stays locked, look for a process that hangs: fuser " + str(path),
        )
    if code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path)):
        return AwayError(f"the disk of {path} is full: it can't be written", hint="free some space")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return UnreachableError(f"{path} or its folder can't be written ({error})", hint=writable_hint(path))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error):
        return InvalidError(f"{path} is damaged ({error})", hint="restore it from a backup")
    if code == sqlite3.SQLITE_IOERR:
        return AwayError(f"{path} can't be read or written ({error})", hint=LOOK_AT_DISK)
    if isinstance(error, sqlite3.OperationalError) and "no such" in str(error):
        return InvalidError(f"{path} is not whole ({error})", hint="restore it from a backup")
    raise error  # a defect of ours: let its traceback be seen


def _is_full(path: Path) -> bool:
    """Whether its disk is full: SQLite does not say so of the files that it makes beside an inventory."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    space = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return space == 0 or (disk.f_files > 0 and disk.f_ffree == 0)


def writable_hint(path: Path) -> str:
    """Return the hint for a file that can't be written."""
    return f"bmhctl writes {path.name} and files beside it: make {path.parent or '.'} writable for this user"


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode; raise what :func:`translate` makes of an error."""
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_PATIENCE)
    except sqlite3.Error as error:
        raise translate(error, path) from error
