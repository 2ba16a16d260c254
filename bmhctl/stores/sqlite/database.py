"""The database backend for one SQLite file, opened: WAL, one writing transaction at a time, for one machine.

A transaction begins and commits only while the file that was opened is the one at its path. Nothing is written as long
as a task or step runs for a file that was at the path before: see `claims.Marks`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bmhctl.errors import BmhctlError, GoneError, InvalidError, MovedError, UnreachableError
from bmhctl.stores.os_files import descriptor, mounts, refuse_network, refuse_other_name
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import SUCCESSOR_KEY, VERSION
from bmhctl.stores.sqlite.errors import RETIRED, translate, unwritable
from bmhctl.stores.state_files import STATE_SUFFIX
from bmhctl.stores.time_limits import LOCK_PATIENCE
from bmhctl.stores.write_buffer import WriteBuffer

if TYPE_CHECKING:
    from bmhctl.stores.database import Question
    from bmhctl.stores.host_query import HostQuery, RareTerm
    from bmhctl.stores.sqlite.claims import FileClaims, Marks

APPLICATION_ID = 0x424D4843
"""Marks a SQLite file as an inventory of bmhctl (``BMHC``)."""
_HEADER = b"SQLite format 3\x00"
_WITH_LOG = b"\x02\x02"  # in the header of a file that has a write-ahead log

_CHANGES = ("insert", "update")
_AT_ONCE = 100  # how many rows of a stream are in memory at once
_TOGETHER = 25
"""How many hosts one statement inserts: the trigger that counts them makes each statement keep a journal of its own."""
_INDEX_ONLY = re.compile(r"row \d+ missing from index \S+|wrong # of entries in index \S+")
# A row that a CHECK excludes is not damage: doctor's questions about the rows report what it means.
_NO_DAMAGE = re.compile(r"ok$|\*\*\* in database main \*\*\*$|CHECK constraint failed in ")


_left_open: list[sqlite3.Connection] = []

_BESIDE = ("-wal", "-shm")  # what SQLite keeps beside a file: two processes must have the same ones

Identity = tuple[int, int]
_NONE: Identity = (0, 0)  # of no file


def open_database(path: Path) -> SqliteDatabase:
    """Open an existing inventory file and update its schema.

    Raises :class:`UnreachableError` when it is missing or can't be used here, :class:`InvalidError` when it is
    not an inventory, is damaged, or was written by a newer bmhctl.
    """
    try:
        _check_file(path)
        opened = OpenFiles(path)
    except OSError as error:
        from bmhctl.stores.os_errors import unreachable

        raise unreachable(f"can't read {path}", error) from error
    database = SqliteDatabase(path, connect(path))
    database.open_files = opened
    try:
        version = database.schema_version()
        if version > VERSION:
            raise InvalidError(
                f"{path} was written by a newer bmhctl (schema {version}; this one knows {VERSION})",
                hint="update bmhctl on this machine",
            )
        if version < VERSION:
            migrate(database)
        database.configure()
        opened.add_beside()
    except BaseException as error:
        try:
            if isinstance(error, InvalidError):
                opened.add_beside()  # with the log of another inventory, a file only looks damaged
        finally:
            database.close()
        raise
    return database


def _check_file(path: Path) -> None:
    try:
        header = _header(path)
    except FileNotFoundError:
        raise UnreachableError(f"there is no inventory at {path}", hint=f"create one: bmhctl -i {path} init") from None
    if not header:
        is_state = path.name.endswith(STATE_SUFFIX)
        made = "then all hosts are initial" if is_state else f"then: bmhctl -i {path} init"
        raise InvalidError(f"{path} is empty: no inventory", hint=f"put a backup in its place, or remove it, {made}")
    if not header.startswith(_HEADER) or len(header) < 100:
        raise InvalidError(f"{path} is not a SQLite file", hint="an inventory ends in .toml, .db, .sqlite or .sqlite3")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise InvalidError(f"{path} is a SQLite file of another program", hint="choose another file with -i")
    if not os.access(path, os.W_OK):
        # Read-only commands create the files beside it too, and can't remove them: they would lock out other users.
        raise unwritable(path)
    kinds = mounts()
    refuse_network(path.parent, kinds)
    refuse_other_name(path, kinds)


def _header(path: Path) -> bytes:
    """Return the first bytes of a file."""
    return os.pread(descriptor(path), 100, 0)


class OpenFiles:
    """The device and inode of each file that a connection has open.

    No other file gets one of these inodes while the connection lives, since it keeps a descriptor of each.
    """

    def __init__(self, path: Path) -> None:
        """Take note of the file at the path; raise :class:`OSError` when it can't be found."""
        self._path = path
        self._known: dict[str, Identity] = {str(path): _identity(path)}

    @property
    def inode(self) -> int:
        """The inode of the file itself."""
        return self._known[str(self._path)][1]

    def add_beside(self) -> None:
        """Take note of the files that SQLite has made beside it; call it once something was read.

        Raises :class:`MovedError` when they are not those that SQLite opened: the folder was moved away meanwhile, or
        back. Linux lists what a process has open.
        """
        mine = _opened()
        for suffix in _BESIDE:
            beside = f"{self._path}{suffix}"
            try:
                there = _identity(beside)
            except OSError:  # `check` reports what else is wrong
                there = _NONE
            if there in mine or (not mine and there != _NONE):
                self._known[beside] = there
            elif mine and self._has_log():
                self._known[beside] = _NONE
        self.check()

    def _has_log(self) -> bool:
        try:
            return _header(self._path)[18:20] == _WITH_LOG
        except OSError:
            return False

    def check(self) -> None:
        """Raise :class:`GoneError` when a path leads nowhere, :class:`MovedError` when it leads to another file.

        Raises :class:`AwayError` when that can't be found out. Costs a ``stat`` of each path, and is for any thread.
        """
        for path, known in self._known.items():
            try:
                now = _identity(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise GoneError(
                    f"{path} is gone: it was removed, moved away or unmounted while it was in use",
                    hint="nothing was written; restore it, or create an inventory, and run the command again",
                    details={"file": path},
                ) from error
            except OSError as error:
                from bmhctl.stores.os_errors import unreachable

                raise unreachable(f"can't read {path}", error, was_usable=True) from error
            if now != known:
                raise MovedError(
                    f"{path} is another file now: it was replaced, restored or mounted over while it was in use",
                    hint="nothing was written; run the command again: it opens the file that is there now",
                    details={"file": path},
                )


def _opened() -> set[Identity]:
    """Return the device and inode of each file that this process has open; none where that can't be found out."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                status = os.fstat(int(name))
                found.add((status.st_dev, status.st_ino))
    return found


def _identity(path: Path | str) -> Identity:
    """Return the device and inode of a path's file; raise :class:`OSError` when there is none."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


class SqliteDatabase(WriteBuffer):
    """A connection to one file; use :func:`open_database`."""

    locks_rows = False  # one transaction writes at a time

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.location = str(path)
        """The file's path."""
        self._path = path
        self._connection = connection
        self.open_files: OpenFiles | None = None  # None while a file is being built under another name
        self._is_alone = False  # whether it is known that no work goes on for an earlier file: none can begin later

    def configure(self) -> None:
        """Apply the settings that every connection needs."""
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA foreign_keys = ON")

    role: str | None = None

    def schema_version(self) -> int:
        """Return how many migrations the file has seen."""
        return int(self.execute("PRAGMA user_version")[0][0] or 0)

    def now(self) -> datetime:
        """Return the time of this machine's clock."""
        return datetime.now(UTC)

    @property
    def is_connected(self) -> bool:
        """Always true: a file has no connection to lose."""
        return True

    def last_disruption(self) -> datetime:
        """Return the earliest time there is: never."""
        return datetime.min.replace(tzinfo=UTC)

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        if self._waiting or self._savepoints or self._broken:
            self._flush(then_writes=not sql.startswith("SELECT"))
        return self._rows(sql, parameters)

    def _rows(self, sql: str, parameters: Sequence[Value]) -> list[Row]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def stream(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement and yield its rows; they are read some at a time."""
        if self._waiting or self._broken:
            self._flush()
        try:
            cursor = self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error
        return chain.from_iterable(self._batches(cursor))

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        try:
            while rows := cursor.fetchmany(_AT_ONCE):
                yield rows
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def begin_with(self, *questions: Question) -> AbstractContextManager[list[list[Row]]]:
        """Return a transaction that writes; it yields the rows of each question that it begins with."""
        return self._transaction(True, questions)

    def transaction(self, *, write: bool, shared: bool = False) -> AbstractContextManager[object]:
        """Return a transaction; while one writes, no other one does.

        Raises :class:`MovedError` when the file at the path is another one by now: then nothing is written.
        """
        return self._transaction(write)

    @contextmanager
    def _transaction(self, write: bool, questions: Sequence[Question] = ()) -> Iterator[list[list[Row]]]:
        if self.open_files is not None:
            self.open_files.check()
        if write and not self._is_alone and self.open_files is not None:
            self._marks(self.open_files).await_earlier()
            self._is_alone = True
        # IMMEDIATE, so that no two transactions read first and then fail when both of them write.
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield [self.execute(*question) for question in questions]
            if write:
                self._flush()
                if self.open_files is not None:
                    self.open_files.check()
            self._run("COMMIT")
        except BaseException:
            self.after_commit = None
            self._undo("ROLLBACK")
            self._drop()
            raise
        finally:
            self._ids.clear()
        act, self.after_commit = self.after_commit, None
        if act is not None:
            act()

    def claims(self) -> FileClaims:
        """Return the claims of the inventory: file locks beside it."""
        from bmhctl.stores.sqlite.claims import FileClaims

        return FileClaims(self._path, None if self.open_files is None else self._marks(self.open_files))

    def _marks(self, files: OpenFiles) -> Marks:
        from bmhctl.stores.sqlite.claims import Marks

        return Marks(self._path, files.inode)

    def lock(self, *questions: Question) -> None:
        """Do nothing: no other transaction writes."""

    def rare_term(self, query: HostQuery) -> RareTerm | None:
        """Return the rarest term of a query, if few hosts fit it."""
        from bmhctl.stores.host_query import rarest

        return rarest(self.execute, query)

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""
        self._flush(then_writes=True)
        self._run_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)

    def _new_ids(self, table: str) -> Iterator[int]:
        known = self._rows("SELECT seq FROM sqlite_sequence WHERE name = ?", [table])  # whatever waits to be written
        return count(int(known[0][0] or 0) + 1 if known else 1)

    def _run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            if statement.startswith("INSERT INTO hosts "):
                rows = self._insert_together(statement, iter(rows))
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _insert_together(self, statement: str, rows: Iterator[Sequence[Value]]) -> list[Sequence[Value]]:
        """Insert rows several at a time, and return those that are too few for that."""
        before, _, row = statement.rpartition(" VALUES ")
        together = f"{before} VALUES {', '.join([row] * _TOGETHER)}"
        while len(some := [*islice(rows, _TOGETHER)]) == _TOGETHER:
            self._connection.execute(together, [*chain(*some)])
        return some

    def _run(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _undo(self, statement: str) -> None:
        # SQLite may have rolled back all of it already (disk full, I/O error); the first error is the one to report.
        if self._connection.in_transaction:
            with suppress(BmhctlError):
                self._run(statement)

    def abandon(self) -> None:
        """Undo the transaction that is open, if there is one."""
        self._drop()
        self._undo("ROLLBACK")

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the path leads to another file than the open one, or to none."""
        if self.open_files is not None:
            self.open_files.check()

    def version(self) -> int:
        """Return SQLite's ``data_version``: it differs after another connection committed a change."""
        self.check_in_place()
        return int(self.execute("PRAGMA data_version")[0][0] or 0)

    def generation(self) -> tuple[int, ...]:
        """Return the last event, and the number of the tickets, and sums that change with their ids and places."""
        newest = (
            "SELECT (SELECT COALESCE(MAX(id), 0) FROM events), COUNT(*), COALESCE(SUM(id), 0), "
            "COALESCE(SUM(id * place), 0) FROM tickets"
        )
        return tuple(int(number or 0) for number in self.execute(newest)[0])

    def follow(self) -> None:
        """Do nothing: every commit changes the version."""

    def settled_event(self) -> int:
        """Return the newest event: ids are given in the order of the commits."""
        return int(self.execute("SELECT COALESCE(MAX(id), 0) FROM events")[0][0] or 0)

    @property
    def is_settling(self) -> bool:
        """Whether an older event may still appear: never."""
        return False

    def wakes(self) -> int | None:
        """Return None: asking for the version takes microseconds."""
        return None

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the next id that the table gives larger than ``last``."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])
        self._ids.clear()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file itself; SQLite makes and removes others beside it."""
        return (self._path,)

    def refuse_changes(self, tables: Sequence[str]) -> None:
        """Make a trigger for each table that raises the successor, as :func:`translate` reads it."""
        [(successor,)] = self.execute("SELECT value FROM meta WHERE key = ?", [SUCCESSOR_KEY])
        words = f"{RETIRED}{successor}".replace("'", "''")
        for table in tables:
            for change in _CHANGES:
                self.execute(
                    f"CREATE TRIGGER IF NOT EXISTS retired_{table}_{change} BEFORE {change} ON {table}"
                    f" BEGIN SELECT RAISE(ABORT, '{words}'); END"
                )

    def allow_changes(self, tables: Sequence[str]) -> None:
        """Drop the triggers."""
        for table in tables:
            for change in _CHANGES:
                self.execute(f"DROP TRIGGER IF EXISTS retired_{table}_{change}")

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield what ``PRAGMA integrity_check`` reports, or why it fails."""
        try:
            for (said,) in self.stream("PRAGMA integrity_check"):
                for line in str(said).splitlines():
                    if not _NO_DAMAGE.match(line):
                        yield line, _INDEX_ONLY.fullmatch(line) is not None
        except InvalidError as error:
            yield error.message, False

    def rebuild_indexes(self) -> None:
        """Run ``REINDEX``."""
        self.execute("REINDEX")

    def copy_to(self, partial: Path) -> None:
        """Write a copy as of one moment into an empty file, broken or not, while others go on writing."""
        try:
            with closing(sqlite3.connect(partial)) as copy:
                self._connection.backup(copy)
        except sqlite3.Error as error:
            raise translate(error, partial) from error
        there = self._path.stat()
        partial.chmod(there.st_mode & 0o700)
        with suppress(OSError):  # the same group may read both; where that is refused, only the owner may
            os.chown(partial, -1, there.st_gid)
            partial.chmod(there.st_mode & 0o777)

    def close(self) -> None:
        """Close the connection."""
        try:
            self.check_in_place()
        except UnreachableError:
            # As the last one to close it, SQLite would remove the -wal that is at the path now: another inventory's.
            _left_open.append(self._connection)
            return
        with suppress(sqlite3.Error):
            self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode; raise what :func:`translate` makes of an error."""
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_PATIENCE)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def migrate(database: SqliteDatabase) -> None:
    """Bring the schema of a file up to date."""
    from bmhctl.stores.migrations import MIGRATIONS
    from bmhctl.stores.retirement import changes_allowed

    with database.transaction(write=True), changes_allowed(database) if database.schema_version() else nullcontext():
        for number, migration in enumerate(MIGRATIONS, 1):
            if number <= database.schema_version():
                continue
            for statement in (*migration.statements, *migration.in_file):
                database.execute(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
            database.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, migration.name])
            database.execute(f"PRAGMA user_version = {number}")
