"""The database backend for one SQLite file: WAL, one writing transaction at a time, for one machine.

A transaction begins and commits only while the opened file is still the one at its path. Nothing is written while a
task or step runs for an earlier file at this path: see ``claims.Marks``.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.stores.os_files import descriptor, mounts, refuse_network, refuse_other_name, unreachable
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import VERSION
from bmhctl.stores.sqlite.errors import not_an_inventory, translate, unwritable
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
_MANY = 25  # rows that are worth fewer statements

Identity = tuple[int, int]
"""The device and inode of a file."""

_NONE: Identity = (0, 0)  # the identity of a missing file
_NO_PART = bytes(12)  # what is in the file of a log that nothing was ever written to
_GET_GENERATION = 0x8008_7601  # FS_IOC_GETVERSION: the number that tells the files apart that have had one inode


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
    except BaseException as error:
        try:
            if isinstance(error, InvalidError):
                opened.add_beside()  # a file with the log of another inventory looks damaged: report the log instead
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


class OpenFiles:
    """The files that a connection has open, and how to tell that they are not the ones at their paths any more.

    No other file can get one of these inodes while the connection lives, because it keeps a descriptor of each file.
    """

    LOG, INDEX = "-wal", "-shm"
    """The suffixes of SQLite's files beside it: the write-ahead log, and the index of the log."""

    STAMP = "user.bmhctl"
    """The extended attribute of a log that says to which file it belongs, and what is in that: see ``left_log``."""

    def __init__(self, path: Path, status: os.stat_result, beginning: bytes) -> None:
        """Record the file at a path, from its status and its first bytes."""
        self.path = path
        self.inode = status.st_ino
        """The inode of the inventory file itself."""
        self.known: dict[str, Identity] = {str(path): (status.st_dev, status.st_ino)}
        self.has_log = beginning[18:20] == _WITH_LOG
        self.has_own_log = False
        """Whether the log was seen in one folder with the file: another folder may be at the path for a moment."""
        self.written, self.content, self._part = status.st_mtime_ns, b"", b""
        self._log = self._index = -1  # descriptors that SQLite keeps open
        self._group = status.st_gid

    def add_beside(self) -> None:
        """Record the files that SQLite has opened beside the inventory; call this after the first read.

        Raises :class:`MovedError` when the files at their paths are not those that SQLite opened, because the folder
        was moved away or back meanwhile. On Linux, the system lists the files that a process has open.
        """
        mine = self.opened()
        for suffix in (self.LOG, self.INDEX):
            beside = f"{self.path}{suffix}"
            try:
                status = os.stat(beside)
                there = status.st_dev, status.st_ino
                if status.st_gid != self._group:
                    with suppress(OSError):  # another user's; SQLite gives its files the permissions of the inventory
                        os.chown(beside, -1, self._group, follow_symlinks=False)
            except OSError:  # ``check`` reports other failures
                there = _NONE
            if there in mine or (not mine and there != _NONE):
                self.known[beside] = there
            elif mine and self.has_log:
                self.known[beside] = _NONE
        with suppress(OSError), self.folder() as folder:
            self.has_own_log = self.is_in(folder) and self.is_in(folder, self.LOG)
            if self.has_own_log and mine:
                self._log = mine[self.known[f"{self.path}{self.LOG}"]]
                self._index = mine.get(self.known[f"{self.path}{self.INDEX}"], -1)
                self.take(mine.get(self.known[str(self.path)], -1), self._index)
                self.stamp()
        self.check()

    def add_link(self, path: Path) -> None:
        """Record a path that leads to the file through links, to notice when it leads to another one."""
        self.known[str(path)] = self.known[str(self.path)]

    def take(self, file: int, index: int) -> bool:
        """Record what is in the file; return whether that is certain, because SQLite writes nothing into it now."""
        before, status = self.copied(index)[1], os.fstat(file)
        content = self.content_of(file)
        after, again = self.copied(index)[1], os.fstat(file)
        if not after or before != after or status.st_mtime_ns != again.st_mtime_ns:
            return False
        self.content, self._part = content, after
        self.written = status.st_mtime_ns  # last: another thread may be about to record the content in the log
        return True

    def stamp(self) -> None:
        """Record in the log to which file it belongs, and what is in that, unless the file was written meanwhile."""
        with suppress(OSError):  # the file system has no room for it
            log, part = self.copied(self._index)
            status = os.stat(self.path)
            file = self._log_file()
            stamp = self.number_of(file) + _number(self.inode)
            try:
                recorded = os.getxattr(file, self.STAMP)
            except OSError:
                recorded = b""
            is_as_taken = (status.st_ino, status.st_mtime_ns) == (self.inode, self.written) and (
                part == self._part or (self._part == _NO_PART and part[8:] == _NO_PART[8:])
            )
            if log and is_as_taken and self.copied(self._index) == (log, part):
                stamp += self.content + log + part
            is_new = recorded[:8] != stamp[:8]
            if is_new or (recorded[8:16] == stamp[8:16] and len(stamp) > 16 and recorded[32:] != stamp[32:]):
                os.setxattr(file, self.STAMP, stamp)

    def _log_file(self) -> int:
        """Return a descriptor of the log; another connection may have closed the last one, and its number is reused."""
        known = self.known.get(f"{self.path}{self.LOG}", _NONE)
        with suppress(OSError):
            status = os.fstat(self._log)
            if (status.st_dev, status.st_ino) == known:
                return self._log
        self._log = self.opened().get(known, -1)
        return self._log

    @staticmethod
    def number_of(log: int) -> bytes:
        """Return a number that no copy of a log has, even if it gets the inode: that, and the inode's generation."""
        generation = b""
        with suppress(OSError):  # the file system has no generations
            generation = fcntl.ioctl(log, _GET_GENERATION, bytes(8))[:4]
        return _number(os.fstat(log).st_ino ^ int.from_bytes(generation, sys.byteorder) << 32)

    @staticmethod
    def content_of(file: int) -> bytes:
        """Return the size of a file and a checksum of its first pages: every event changes one of these."""
        return _number(os.fstat(file).st_size) + _number(zlib.crc32(os.pread(file, 1 << 16, 0)))

    @staticmethod
    def copied(index: int) -> tuple[bytes, bytes]:
        """Return a checksum of the log, and which part of it is in the file, according to the log's index.

        The checksum is empty if the log is, and both are empty if that is just changing. The format is that of
        "WAL-mode File Format", section 2.
        """
        counted = os.pread(index, 132, 0)
        header, copied, attempted = counted[:48], counted[96:100], counted[128:132]
        frames, in_file = (int.from_bytes(each, sys.byteorder) for each in (header[16:20], copied))
        if header != counted[48:96] or copied != attempted or in_file > frames:
            return b"", b""
        return header[40:] if frames else b"", header[32:40] + copied

    @staticmethod
    def opened() -> dict[Identity, int]:
        """Return a descriptor of each file that this process has open; empty where that is not known."""
        found: dict[Identity, int] = {}
        with suppress(OSError):
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    status = os.fstat(int(name))
                    found.setdefault((status.st_dev, status.st_ino), int(name))
        return found

    @contextmanager
    def folder(self) -> Iterator[int]:
        """Open the folder at the path: a folder that was moved away may be back at any moment."""
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    def is_in(self, folder: int, suffix: str = "") -> bool:
        """Return whether a folder has the file with this suffix that was recorded."""
        try:
            status = os.stat(f"{self.path.name}{suffix}", dir_fd=folder)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self.known.get(f"{self.path}{suffix}")

    def check(self) -> None:
        """Raise :class:`GoneError` when a path leads nowhere, :class:`MovedError` when it leads to another file.

        Raises :class:`MovedError` also when another program has written into the file, and :class:`AwayError` when it
        can't be determined. Costs a ``stat`` of each path; any thread may call it.
        """
        for path, known in self.known.items():
            try:
                status = os.stat(path)
                is_same = (status.st_dev, status.st_ino) == known
            except OSError:
                is_same = False
            if not is_same or (path == str(self.path) and status.st_mtime_ns != self.written):
                from bmhctl.stores.sqlite.left_log import examine

                examine(self, path)


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


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

    role: str | None = None

    def schema_version(self) -> int:
        """Return how many migrations the file has had."""
        return int(self.execute("PRAGMA user_version")[0][0] or 0)

    def now(self) -> datetime:
        """Return the time of this machine's clock."""
        return datetime.fromtimestamp(_real_time(), UTC)

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
        if write and self.open_files is not None:
            self.open_files.stamp()  # the first commit gives a log its salts
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
            if not isinstance(rows, list) or len(rows) >= _MANY:
                from bmhctl.stores.sqlite.bulk_inserts import insert_together

                rows = insert_together(self._connection, statement, rows)
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

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
        from bmhctl.stores.sqlite.upkeep import copy

        copy(self._connection, self._path, partial)

    def close(self) -> None:
        """Close the connection."""
        try:
            self.check_in_place()
        except UnreachableError:
            if self.open_files is not None:
                from bmhctl.stores.sqlite.left_log import close

                close(self._connection, self.open_files)
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
