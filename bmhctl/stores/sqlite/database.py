"""The database backend for one SQLite file: WAL, one writing transaction at a time, for one machine.

A transaction begins and commits only while the opened file is still the one at its path. Nothing is written while a
task or step runs for an earlier file at this path: see ``open_files.Marks``.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.stores.database import LOCK_PATIENCE, UNRECORDED, WriteBuffer
from bmhctl.stores.os_files import unreachable
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import VERSION
from bmhctl.stores.sqlite.errors import not_an_inventory, translate, unwritable
from bmhctl.stores.sqlite.open_files import OpenFiles, descriptor, mounts, refuse_network, refuse_other_name

if TYPE_CHECKING:
    from bmhctl.stores.database import Question
    from bmhctl.stores.sqlite.claims import FileClaims
    from bmhctl.stores.sqlite.upkeep import SqliteUpkeep

APPLICATION_ID = 0x424D4843
"""Marks a SQLite file as an inventory of bmhctl (``BMHC``)."""
_HEADER = b"SQLite format 3\x00"

_AT_ONCE = 100  # the most rows of a stream in memory
_MANY = 25  # rows that are worth fewer statements
_TOGETHER = {"INSERT INTO hosts ": 25, "INSERT INTO facts ": 2000, "INSERT INTO events ": 100}
"""How many rows one statement inserts, if there are so many.

The trigger that counts hosts makes SQLite keep a journal for each statement. A statement itself costs half as much as
the row of a fact, so few statements are better; but with some hundreds of rows, the journal doubles the cost. A
hundred events in one statement cost a quarter less than one by one.
"""


def open_database(path: Path) -> SqliteDatabase:
    """Open an existing inventory file, and update its schema if an older bmhctl made it.

    Raises :class:`UnreachableError` when the file is missing or can't be used here, and :class:`InvalidError` when it
    is not an inventory, is damaged, or was written by a newer bmhctl.
    """
    try:
        opened = _check_file(path)
        if os.path.exists(f"{path}{OpenFiles.INDEX}") or os.path.exists(f"{path}{OpenFiles.LOG}"):
            from bmhctl.stores.sqlite.left_log import await_own_log

            await_own_log(opened)
    except OSError as error:
        raise unreachable(f"can't read {path}", error) from error
    database = SqliteDatabase(path, connect(path))
    database.open_files = opened
    try:
        if database.schema_version() != VERSION:
            from bmhctl.stores.sqlite.upkeep import update

            update(database)
        database.configure()
        if not opened.has_log:
            from bmhctl.stores.sqlite.upkeep import use_log

            use_log(database)
            opened.written = os.stat(path).st_mtime_ns
        opened.add_beside()
        database.check_in_place()
    except BaseException as error:
        try:
            if isinstance(error, InvalidError):
                opened.add_beside()  # a file with the log of another inventory looks damaged: report the log instead
                database.check_in_place()
        finally:
            database.close()
        raise
    return database


def _check_file(path: Path) -> OpenFiles:
    """Return the file of an inventory that can be used here; raise the errors of :func:`open_database`."""
    try:
        status = os.stat(path)
        beginning = os.pread(descriptor(path), 100, 0)
    except FileNotFoundError:
        raise UnreachableError(f"there is no inventory at {path}", hint=f"create one: bmhctl -i {path} init") from None
    if not beginning.startswith(_HEADER) or int.from_bytes(beginning[68:72], "big") != APPLICATION_ID:
        raise not_an_inventory(path, beginning, APPLICATION_ID)
    if not os.access(path, os.W_OK):
        # SQLite creates files beside it even for a command that only reads, and can't remove them then: other users
        # would be locked out.
        raise unwritable(path)
    kinds = mounts()
    refuse_network(path.parent, kinds)
    refuse_other_name(path, kinds)
    return OpenFiles(path, status, beginning)


class SqliteDatabase(WriteBuffer):
    """A connection to one file; use :func:`open_database`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.location = str(path)
        self.files = (path,)  # SQLite creates and removes other files beside it
        self._path = path
        self.connection = connection
        self.open_files: OpenFiles | None = None  # None while the file is being built under a temporary name

    def configure(self) -> None:
        """Apply the settings that every connection needs."""
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA foreign_keys = ON")

    def schema_version(self) -> int:
        """Return how many migrations the file has had."""
        return int(self.execute("PRAGMA user_version")[0][0] or 0)

    def now(self) -> datetime:
        """Return the time of this machine's clock."""
        return datetime.fromtimestamp(_real_time(), UTC)

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        if self._waiting or self._savepoints or self._broken:
            self._flush(then_writes=not sql.startswith("SELECT"))
        return self._rows(sql, parameters)

    def _rows(self, sql: str, parameters: Sequence[Value]) -> list[Row]:
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def stream(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement and yield its rows; they are read in batches."""
        if self._waiting or self._broken:
            self._flush()
        try:
            cursor = self.connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        return chain.from_iterable(self._batches(cursor))

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        try:
            while rows := cursor.fetchmany(_AT_ONCE):
                yield rows
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    @contextmanager
    def transaction(
        self, *questions: Question, write: bool, shared: bool = False, reports: bool = False
    ) -> Iterator[list[list[Row]]]:
        """Return a transaction; only one transaction writes at a time.

        Raises :class:`MovedError` when another file is at the path by now; then nothing is written.
        """
        self.check_in_place()
        if write and self.open_files is not None:
            self.open_files.await_earlier()
        # IMMEDIATE: else two transactions could both read first, and one would then fail to write.
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")
        before, changes = len(self.unreported), self.connection.total_changes
        try:
            yield [self.execute(*question) for question in questions]
            if write:
                self._flush()
                self.check_in_place()
            if reports and self.connection.total_changes != changes:
                self.unreported.append(UNRECORDED)
            self._run("COMMIT")
        except BaseException:
            self.after_commit = None
            if self.connection.in_transaction:  # the COMMIT was not reached, so the ids of its events are free again
                del self.unreported[before:]
            self._undo("ROLLBACK")
            self._drop()
            raise
        finally:
            self._ids.clear()
        if write and self.open_files is not None:
            self.open_files.stamp()  # the first commit gives a log its salts
        act, self.after_commit = self.after_commit, None
        if act is not None:
            act()

    def claims(self) -> FileClaims:
        """Return the claims of the inventory: file locks in a folder beside it."""
        from bmhctl.stores.sqlite.claims import FileClaims

        return FileClaims(self._path, self.open_files)

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""
        self._flush(then_writes=True)
        self._run_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)

    def _new_ids(self, table: str) -> Iterator[int]:
        known = self._rows("SELECT seq FROM sqlite_sequence WHERE name = ?", [table])  # does not flush delayed rows
        return count(int(known[0][0] or 0) + 1 if known else 1)

    def _run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            if not isinstance(rows, list) or len(rows) >= _MANY:
                rows = _insert_together(self.connection, statement, rows)
            self.connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _run(self, statement: str) -> None:
        self._rows(statement, ())

    def _undo(self, statement: str) -> None:
        # SQLite may have rolled back the transaction already (disk full, I/O error). Report only the first error.
        if self.connection.in_transaction:
            with suppress(BmhctlError):
                self._run(statement)

    def abandon(self) -> None:
        """Undo the open transaction, if there is one."""
        self._drop()
        self._undo("ROLLBACK")

    def check_in_place(self) -> None:
        """Raise :class:`GoneError` when a path leads nowhere, :class:`MovedError` when it leads to another file.

        Raises :class:`MovedError` also when another program has written into the file, and :class:`AwayError` when it
        can't be determined. Any thread may call it.
        """
        if self.open_files is None:
            return
        for path in self.open_files.changed():
            from bmhctl.stores.sqlite.left_log import examine

            examine(self.open_files, path)

    def version(self) -> int:
        """Return SQLite's ``data_version``, which changes when another connection commits a change."""
        self.check_in_place()
        return int(self.execute("PRAGMA data_version")[0][0] or 0)

    def generation(self) -> tuple[int, ...]:
        """Return the last event's id, the number of tickets, and sums that change with their ids and places."""
        newest = (
            "SELECT (SELECT COALESCE(MAX(id), 0) FROM events), COUNT(*), COALESCE(SUM(id), 0), "
            "COALESCE(SUM(id * place), 0) FROM tickets"
        )
        return tuple(int(number or 0) for number in self.execute(newest)[0])

    def settled_event(self) -> int:
        """Return the newest event's id: ids are assigned in the order of the commits."""
        return int(self.execute("SELECT COALESCE(MAX(id), 0) FROM events")[0][0] or 0)

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the table assign only ids larger than ``last`` from now on."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])
        self._ids.clear()

    def upkeep(self) -> SqliteUpkeep:
        """Return the object that repairs the tables and retires the inventory."""
        from bmhctl.stores.sqlite.upkeep import SqliteUpkeep

        return SqliteUpkeep(self)

    def close(self) -> None:
        """Close the connection."""
        try:
            self.check_in_place()
        except UnreachableError:
            if self.open_files is not None:
                from bmhctl.stores.sqlite.left_log import close

                close(self.connection, self.open_files)
            return
        with suppress(sqlite3.Error):
            self.connection.close()


def _insert_together(
    connection: sqlite3.Connection, statement: str, rows: Iterable[Sequence[Value]]
) -> Iterable[Sequence[Value]]:
    """Insert rows, several with each statement; return the remaining rows, which are too few for that."""
    most = next((number for beginning, number in _TOGETHER.items() if statement.startswith(beginning)), 1)
    if most == 1:
        return rows
    rows = iter(rows)
    before, _, row = statement.rpartition(" VALUES ")
    number = min(most, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // row.count("?"))
    together = f"{before} VALUES {', '.join([row] * number)}"
    while len(some := [*islice(rows, number)]) == number:
        connection.execute(together, [*chain(*some)])
    return some


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode; raise the errors of :func:`translate`."""
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_PATIENCE)
        if not _has_temporary_folder():
            connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        raise translate(error, path) from error
    return connection


def _has_temporary_folder() -> bool:
    """Return whether SQLite may write in a folder where it looks for room for large changes and sorts.

    It also tries the current folder, which may be one such as /proc, where even root can't make files.
    """
    usual = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108
    return any(os.access(folder, os.W_OK | os.X_OK) for folder in usual)


def _real_time() -> float:
    """Return the seconds since 1970 by this machine's clock, also while a test replaces the clock of its process.

    Otherwise that process would end the leases of others. freezegun replaces ``datetime.now``; time_machine replaces
    the functions of ``time``, but keeps the real ones.
    """
    travelling = sys.modules.get("time_machine")
    if travelling is not None:
        with suppress(ValueError):  # the test does not replace the clock now
            return float(travelling.escape_hatch.time.clock_gettime(time.CLOCK_REALTIME))
    return time.clock_gettime(time.CLOCK_REALTIME)
