"""The database backend for one SQLite file: WAL, one writing transaction at a time, for one machine.

A transaction begins and commits only while the opened file is still the one at its path. Nothing is written while a
task or step runs for an earlier file at this path: see ``claims.Marks``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bmhctl.errors import BmhctlError, GoneError, InvalidError, MovedError, UnreachableError
from bmhctl.stores.os_files import descriptor, mounts, refuse_network, refuse_other_name, unreachable
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import VERSION
from bmhctl.stores.sqlite.errors import translate, unwritable
from bmhctl.stores.state_files import STATE_SUFFIX
from bmhctl.stores.time_limits import LOCK_PATIENCE
from bmhctl.stores.write_buffer import WriteBuffer

if TYPE_CHECKING:
    from bmhctl.stores.database import Question
    from bmhctl.stores.host_query import HostQuery, RareTerm
    from bmhctl.stores.sqlite.claims import FileClaims, Marks
    from bmhctl.stores.sqlite.upkeep import SqliteUpkeep

APPLICATION_ID = 0x424D4843
"""Marks a SQLite file as an inventory of bmhctl (``BMHC``)."""
_HEADER = b"SQLite format 3\x00"
_WITH_LOG = b"\x02\x02"  # bytes in the header of a file that has a write-ahead log

_AT_ONCE = 100  # the most rows of a stream in memory
_TOGETHER = {"INSERT INTO hosts ": 25, "INSERT INTO facts ": 2000, "INSERT INTO events ": 100}
"""How many rows one statement inserts, if there are so many.

The trigger that counts hosts makes SQLite keep a journal for each statement. A statement itself costs half as much as
the row of a fact, so few statements are better; but with some hundreds of rows, the journal doubles the cost. A
hundred events in one statement cost a quarter less than one by one.
"""


_left_open: list[sqlite3.Connection] = []

_BESIDE = _LOG, _INDEX = ("-wal", "-shm")  # suffixes of SQLite's other files, the same ones for all processes

Identity = tuple[int, int]
_NONE: Identity = (0, 0)  # the identity of a missing file


def open_database(path: Path) -> SqliteDatabase:
    """Open an existing inventory file, and update its schema if an older bmhctl made it.

    Raises :class:`UnreachableError` when the file is missing or can't be used here, and :class:`InvalidError` when it
    is not an inventory, is damaged, or was written by a newer bmhctl.
    """
    try:
        header = _check_file(path)
        opened = OpenFiles(path)
        shared = f"{path}-shm"
        if os.path.exists(shared):
            from bmhctl.stores.sqlite.left_log import await_own_log

            await_own_log(path, Path(shared))
    except OSError as error:
        raise unreachable(f"can't read {path}", error) from error
    database = SqliteDatabase(path, connect(path))
    database.open_files = opened
    try:
        version = database.schema_version()
        if not version:
            from bmhctl.stores.sqlite.upkeep import restore_version

            version = restore_version(database)
        if version > VERSION:
            raise InvalidError(
                f"{path} was written by a newer bmhctl (schema {version}; this one knows {VERSION})",
                hint="update bmhctl on this machine",
            )
        if version < VERSION:
            from bmhctl.stores.sqlite.upkeep import migrate

            migrate(database)
        database.configure()
        if header[18:20] != _WITH_LOG:
            database.use_log()
        opened.add_beside()
    except BaseException as error:
        try:
            if isinstance(error, InvalidError):
                opened.add_beside()  # a file with the log of another inventory looks damaged: report the log instead
        finally:
            database.close()
        raise
    return database


def _check_file(path: Path) -> bytes:
    """Return the header of an inventory that can be used here; raise the errors of :func:`open_database`."""
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
        raise InvalidError(
            f"{path} is a SQLite file of another program",
            hint=f"choose another file with -i; a dump of an inventory lacks PRAGMA application_id = {APPLICATION_ID}",
        )
    if not os.access(path, os.W_OK):
        # SQLite creates files beside it even for a command that only reads, and can't remove them then: other users
        # would be locked out.
        raise unwritable(path)
    kinds = mounts()
    refuse_network(path.parent, kinds)
    refuse_other_name(path, kinds)
    return header


def _header(path: Path) -> bytes:
    """Return the first bytes of a file."""
    return os.pread(descriptor(path), 100, 0)


class OpenFiles:
    """The device and inode of each file that a connection has open.

    No other file can get one of these inodes while the connection lives, because it keeps a descriptor of each file.
    """

    def __init__(self, path: Path) -> None:
        """Record the file at the path; raise :class:`OSError` when it can't be found."""
        self._path = path
        status = os.stat(path)
        self._group = status.st_gid
        self.inode = status.st_ino
        """The inode of the inventory file itself."""
        self._known: dict[str, Identity] = {str(path): (status.st_dev, status.st_ino)}
        self._has_own_log = False

    def add_beside(self) -> None:
        """Record the files that SQLite has opened beside the inventory; call this after the first read.

        Raises :class:`MovedError` when the files at their paths are not those that SQLite opened, because the folder
        was moved away or back meanwhile. On Linux, the system lists the files that a process has open.
        """
        mine = _opened()
        for suffix in _BESIDE:
            beside = f"{self._path}{suffix}"
            try:
                status = os.stat(beside)
                there = status.st_dev, status.st_ino
                if status.st_gid != self._group:
                    with suppress(OSError):  # another user's; SQLite gives its files the permissions of the inventory
                        os.chown(beside, -1, self._group, follow_symlinks=False)
            except OSError:  # ``check`` reports other failures
                there = _NONE
            if there in mine or (not mine and there != _NONE):
                self._known[beside] = there
            elif mine and self._has_log():
                self._known[beside] = _NONE
        self.check()
        with suppress(OSError), _folder(self._path.parent) as folder:
            self._has_own_log = self._is_in(folder) and self._is_in(folder, _LOG)

    def _is_in(self, folder: int, suffix: str = "") -> bool:
        """Return whether a folder has the file with this suffix that was recorded."""
        return _identity(f"{self._path.name}{suffix}", folder) == self._known.get(f"{self._path}{suffix}")

    def _has_log(self) -> bool:
        try:
            return _header(self._path)[18:20] == _WITH_LOG
        except OSError:
            return False

    def check(self) -> None:
        """Raise :class:`GoneError` when a path leads nowhere, :class:`MovedError` when it leads to another file.

        Raises :class:`AwayError` when that can't be determined. Costs a ``stat`` of each path; any thread may call it.
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
                raise unreachable(f"can't read {path}", error, was_usable=True) from error
            if now != known:
                if path == str(self._path):
                    self._set_log_aside()
                raise MovedError(
                    f"{path} is another file now: it was replaced, restored or mounted over while it was in use",
                    hint="nothing was written; run the command again to use the file that is there now",
                    details={"file": path},
                )

    def _set_log_aside(self) -> None:
        """Rename the log of the replaced file if it is still at its path: SQLite would copy it into the new file.

        One process does that. As soon as the index of the log is gone, another process may have opened the new file,
        with a new log, so the index is removed last: :func:`await_own_log` recognises the old log by it. The files are
        looked up in one folder, because a folder that was moved away may be back at its path at any moment.
        """
        import fcntl

        if not self._has_own_log or str(self._path) in mounts():
            return  # if a file is mounted over this one, no command opens the log with it
        name = f"{self._path.name}{_LOG}"
        with suppress(OSError), _folder(self._path.parent) as folder:
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            with open(handle, "rb"):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_in(folder) and self._is_in(folder, _LOG):
                    os.rename(name, f"{name}.replaced", src_dir_fd=folder, dst_dir_fd=folder)
                    if self._is_in(folder, _INDEX):
                        os.unlink(f"{self._path.name}{_INDEX}", dir_fd=folder)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _opened() -> set[Identity]:
    """Return the device and inode of each file that this process has open; empty where that is not known."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                status = os.fstat(int(name))
                found.add((status.st_dev, status.st_ino))
    return found


def _identity(path: Path | str, folder: int | None = None) -> Identity:
    """Return the device and inode of the file at a path; raise :class:`OSError` when there is no file.

    ``folder`` is the descriptor of the folder that the path is relative to, if it is not the current folder.
    """
    status = os.stat(path, dir_fd=folder)
    return status.st_dev, status.st_ino


class SqliteDatabase(WriteBuffer):
    """A connection to one file; use :func:`open_database`."""

    locks_rows = False  # one transaction writes at a time

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.location = str(path)
        """The path of the inventory file."""
        self._path = path
        self._connection = connection
        self.open_files: OpenFiles | None = None  # None while the file is being built under a temporary name
        self._is_alone = False  # whether it is certain that no step runs for an earlier file

    def configure(self) -> None:
        """Apply the settings that every connection needs."""
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA foreign_keys = ON")

    def use_log(self) -> None:
        """Use a write-ahead log again, unless others use the file now.

        Files that SQLite's own tools make, such as a recovered one, have a journal instead: each reader would then stop
        all writers.
        """
        self.execute("PRAGMA busy_timeout = 0")
        with suppress(BmhctlError):
            self.execute("PRAGMA journal_mode = WAL")
        self.execute(f"PRAGMA busy_timeout = {LOCK_PATIENCE * 1000:.0f}")
        self.schema_version()  # the first read opens the log

    role: str | None = None

    def schema_version(self) -> int:
        """Return how many migrations the file has had."""
        return int(self.execute("PRAGMA user_version")[0][0] or 0)

    def now(self) -> datetime:
        """Return the time of this machine's clock."""
        # Not datetime.now(): a test that replaces it in its process, as freezegun does, would end the leases of others.
        return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), UTC)

    @property
    def is_connected(self) -> bool:
        """True: a file has no connection that could be lost."""
        return True

    def last_disruption(self) -> datetime:
        """Return the earliest possible time: a file has no connections that could be lost."""
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
        """Run one statement and yield its rows; they are read in batches."""
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
        """Return a writing transaction; it yields the rows of each query."""
        return self._transaction(True, questions)

    def transaction(self, *, write: bool, shared: bool = False) -> AbstractContextManager[object]:
        """Return a transaction; only one transaction writes at a time.

        Raises :class:`MovedError` when another file is at the path by now; then nothing is written.
        """
        return self._transaction(write)

    @contextmanager
    def _transaction(self, write: bool, questions: Sequence[Question] = ()) -> Iterator[list[list[Row]]]:
        self.check_in_place()
        if write and not self._is_alone and self.open_files is not None:
            self._marks(self.open_files).await_earlier()
            self._is_alone = True
        # IMMEDIATE: else two transactions could both read first, and one would then fail to write.
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield [self.execute(*question) for question in questions]
            if write:
                self._flush()
                self.check_in_place()
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
        """Return the claims of the inventory: file locks in a folder beside it."""
        from bmhctl.stores.sqlite.claims import FileClaims

        return FileClaims(self._path, None if self.open_files is None else self._marks(self.open_files))

    def _marks(self, files: OpenFiles) -> Marks:
        from bmhctl.stores.sqlite.claims import Marks

        return Marks(self._path, files.inode)

    def lock(self, *questions: Question) -> None:
        """Do nothing: no other transaction writes at the same time."""

    def rare_term(self, query: HostQuery) -> RareTerm | None:
        """Return the rarest term of a query, if few hosts fit it."""
        from bmhctl.stores.host_query import rarest

        return rarest(self.execute, query)

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""
        self._flush(then_writes=True)
        self._run_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)

    def _new_ids(self, table: str) -> Iterator[int]:
        known = self._rows("SELECT seq FROM sqlite_sequence WHERE name = ?", [table])  # does not flush delayed rows
        return count(int(known[0][0] or 0) + 1 if known else 1)

    def _run_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        try:
            for beginning, most in _TOGETHER.items():
                if statement.startswith(beginning):
                    rows = self._insert_together(statement, iter(rows), most)
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def _insert_together(self, statement: str, rows: Iterator[Sequence[Value]], most: int) -> list[Sequence[Value]]:
        """Insert rows, several with each statement; return the remaining rows, which are too few for that."""
        before, _, row = statement.rpartition(" VALUES ")
        number = min(most, self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // row.count("?"))
        together = f"{before} VALUES {', '.join([row] * number)}"
        while len(some := [*islice(rows, number)]) == number:
            self._connection.execute(together, [*chain(*some)])
        return some

    def _run(self, statement: str) -> None:
        self._rows(statement, ())

    def _undo(self, statement: str) -> None:
        # SQLite may have rolled back the transaction already (disk full, I/O error). Report only the first error.
        if self._connection.in_transaction:
            with suppress(BmhctlError):
                self._run(statement)

    def abandon(self) -> None:
        """Undo the open transaction, if there is one."""
        self._drop()
        self._undo("ROLLBACK")

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when the path no longer leads to the open file."""
        if self.open_files is not None:
            self.open_files.check()

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

    def follow(self) -> None:
        """Do nothing: every commit changes the version."""

    def settled_event(self) -> int:
        """Return the newest event's id: ids are assigned in the order of the commits."""
        return int(self.execute("SELECT COALESCE(MAX(id), 0) FROM events")[0][0] or 0)

    @property
    def is_settling(self) -> bool:
        """False: no event with a smaller id can still appear."""
        return False

    def wakes(self) -> int | None:
        """Return None: the caller polls, because reading the version takes only microseconds."""
        return None

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the table assign only ids larger than ``last`` from now on."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])
        self._ids.clear()

    @property
    def files(self) -> tuple[Path, ...]:
        """The inventory file; SQLite creates and removes other files beside it."""
        return (self._path,)

    def upkeep(self) -> SqliteUpkeep:
        """Return the object that repairs the tables and retires the inventory."""
        from bmhctl.stores.sqlite.upkeep import SqliteUpkeep

        return SqliteUpkeep(self)

    def copy_to(self, partial: Path) -> None:
        """Copy the file, damaged or not, as of one moment into an empty file; other processes may write meanwhile."""
        try:
            with closing(sqlite3.connect(partial)) as copy:
                self._connection.backup(copy)
        except sqlite3.Error as error:
            raise translate(error, partial) from error
        there = self._path.stat()
        partial.chmod(there.st_mode & 0o700)
        with suppress(OSError):  # the same group may read the copy; if that is refused, only the owner may
            os.chown(partial, -1, there.st_gid)
            partial.chmod(there.st_mode & 0o777)

    def close(self) -> None:
        """Close the connection."""
        try:
            self.check_in_place()
        except UnreachableError:
            # Closing the last connection makes SQLite remove the -wal at the path, which is another inventory's now.
            _left_open.append(self._connection)
            return
        with suppress(sqlite3.Error):
            self._connection.close()


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
