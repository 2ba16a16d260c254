"""An inventory in one SQLite file: WAL, synchronous=FULL, one writer at a time, for one machine."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.stores.database import Question
from bmhctl.stores.pending import Pending
from bmhctl.stores.rows import Row, Value
from bmhctl.stores.schema import MIGRATIONS, VERSION

APPLICATION_ID = 0x424D4843
"""Marks a SQLite file as an inventory of bmhctl (``BMHC``)."""

LOCK_PATIENCE = 15.0
"""How long a command waits for another one's transaction, in seconds."""

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "fuse.sshfs", "fuse.glusterfs"}
_INDEX_ONLY = re.compile(r"row \d+ missing from index \S+|wrong # of entries in index \S+")
# What a CHECK excludes is no damage: the questions about the rows say what it means.
_NO_DAMAGE = re.compile(r"ok$|\*\*\* in database main \*\*\*$|CHECK constraint failed in ")
_HEADER = b"SQLite format 3\x00"
_PARTIAL = ".partial"
_LOOK_AT_DISK = "look at the disk, its mount and your quota"


class SqliteDatabase:
    """A connection to one file; use :func:`open_database` or :func:`create_database`."""

    locks_rows = False  # one writer at a time
    announces = False
    knows_frequencies = False

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._pending = Pending(self._run_many, self._run)
        self._last_ids: dict[str, int] = {}

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

    def upset_at(self) -> datetime:
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

    def later(self, sql: str, *rows: Sequence[Value]) -> None:
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
        """``BEGIN IMMEDIATE`` for writers, so that two never both read first and then race to write."""
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
            self._pending.flush()
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

    def version(self) -> int:
        """SQLite's ``data_version``."""
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
        with suppress(sqlite3.Error):
            self._connection.close()


def open_database(path: Path) -> SqliteDatabase:
    """Opens an existing inventory file and brings its schema up to date.

    Raises :class:`UnreachableError` when it is missing or can't be used here, :class:`InvalidError` when it is
    not an inventory, is damaged, or was written by a newer bmhctl.
    """
    _check_file(path)
    database = SqliteDatabase(path, _connect(path))
    try:
        _check_schema(database, path)
        _configure(database)
    except BaseException:
        database.close()
        raise
    return database


def create_database(path: Path, *, mode: int | None = None, group: int | None = None) -> None:
    """Creates an empty inventory file in one step: it is there whole, or not at all.

    ``mode`` and ``group`` (an id) are set before the file appears. Raises :class:`FileExistsError` when
    something is there already.
    """
    if path.exists():
        raise FileExistsError(path)
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
    """Makes an empty inventory in a file that is being built, and opens it; close it before it gets its name.

    Over this connection it ``takes_anything``, also rows that contradict each other: for a backup of what is broken.
    """
    database = SqliteDatabase(_destination(partial), _connect(partial))
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _migrate(database)
        _configure(database)
        if takes_anything:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("PRAGMA ignore_check_constraints = ON")
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """A name to build a file under; it gets its own name, durably, when the block ends, unless one is there.

    Raises :class:`FileExistsError` for that, and :class:`UnreachableError` when it can't be written.
    """
    import tempfile

    refuse_network(path.parent)
    _refuse_leftovers(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UnreachableError(f"can't write in {path.parent}: {error.strerror}", hint=_remedy(path, error)) from error
    partial = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    try:
        partial.chmod(0o666 & ~mask)
        yield partial
        _settle(partial)
        sync(partial)
        os.link(partial, path)  # unlike rename, never takes the place of a file that appeared meanwhile
        sync(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise UnreachableError(f"can't write {path}: {error.strerror}", hint=_remedy(path, error)) from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):  # what is left bears no inventory's name
                os.unlink(name + suffix)


def _refuse_leftovers(path: Path) -> None:
    """Raises :class:`InvalidError` for a journal without its file: SQLite would play it into the new one.

    The journal is looked for first: that of a file which another command makes meanwhile comes after the file.
    """
    for suffix in ("-wal", "-journal"):
        left = Path(f"{path}{suffix}")
        if left.exists() and left.stat().st_size and not path.exists():
            raise InvalidError(
                f"{path} is missing, but {left.name}, which belongs to it, is there",
                hint=f"bring {path.name} back; to start afresh, move {left.name} away, too",
                details={"file": str(left)},
            )


def _destination(partial: Path) -> Path:
    """What a file that is being built will be called: so it is named in messages."""
    return partial.with_name(partial.name.removeprefix(".").removesuffix(_PARTIAL).rpartition(".")[0])


def _settle(partial: Path) -> None:
    """Brings into a database what is left in its WAL: when closing it could not, as on a full disk, it said nothing."""
    wal = Path(f"{partial}-wal")
    if not wal.exists():
        return
    database = SqliteDatabase(_destination(partial), _connect(partial))
    try:
        list(database.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
    finally:
        database.close()
    if wal.exists():
        raise UnreachableError(f"{_destination(partial)} can't be written", hint=_LOOK_AT_DISK)


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of a file: the last writes to it, until they are moved into it."""
    return path.with_name(path.name + "-wal")


def sync(path: Path) -> None:
    """Makes a file's bytes, or a folder's names, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_PATIENCE)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _configure(database: SqliteDatabase) -> None:
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")


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
        # Who only reads makes the files beside it, too, and can't remove them: they would lock out those who write.
        raise UnreachableError(f"{path} can't be written: it is read-only for this user", hint=_writable(path))
    refuse_network(path.parent)


_looked_at: dict[tuple[int, int], int] = {}


def _header(path: Path) -> bytes:
    """The first bytes of a file, through a descriptor that is kept as long as the process lives.

    Closing any descriptor of a file drops all locks that this process has on it, those of an open inventory too; then
    another process would take itself for the only one. See "How To Corrupt An SQLite Database File", section 2.2.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _looked_at:
        _looked_at[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.pread(_looked_at[key], 100, 0)


def _check_schema(database: SqliteDatabase, path: Path) -> None:
    version = _version(database)
    if version > VERSION:
        raise InvalidError(
            f"{path} was written by a newer bmhctl (schema {version}; this one knows {VERSION})",
            hint="update bmhctl on this machine",
        )
    if version < VERSION:
        _migrate(database)


def _version(database: SqliteDatabase) -> int:
    return int(next(iter(database.execute("PRAGMA user_version")))[0] or 0)


def _migrate(database: SqliteDatabase) -> None:
    with database.transaction(write=True):
        for number, migration in enumerate(MIGRATIONS, 1):
            if number <= _version(database):
                continue
            for statement in (*migration.statements, *migration.in_file):
                database.execute(statement.format(serial="INTEGER PRIMARY KEY AUTOINCREMENT"))
            database.execute("INSERT INTO migrations (version, name) VALUES (?, ?)", [number, migration.name])
            database.execute(f"PRAGMA user_version = {number}")


def refuse_network(folder: Path) -> None:
    """Raises :class:`UnreachableError` for a folder on a network filesystem: SQLite's locks don't hold there."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # not Linux: SQLite's own errors have to do
    kinds = {fields[1]: fields[2] for line in mounts.splitlines() if len(fields := line.split(" ")) > 2}
    for place in (folder.resolve(), *folder.resolve().parents):
        kind = kinds.get(str(place).replace(" ", "\\040"))
        if kind is not None:
            if kind in _NETWORK:
                raise UnreachableError(
                    f"{folder} is on a network filesystem ({kind}): files there can't be shared safely",
                    hint="several machines share an inventory through PostgreSQL; keep a file on a local disk",
                )
            return


def translate(error: sqlite3.Error, path: Path) -> BmhctlError:
    """SQLite's error in words for a person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return UnreachableError(
            f"{path} is locked: another command has been writing for over {LOCK_PATIENCE:.0f} s",
            hint="try again; if it stays locked, look for a process that hangs: fuser " + str(path),
        )
    if code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path)):
        return UnreachableError(f"the disk of {path} is full: it can't be written", hint="free some space")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return UnreachableError(f"{path} or its folder can't be written ({error})", hint=_writable(path))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode to UTF-8" in str(error):
        return InvalidError(f"{path} is damaged ({error})", hint="restore it from a backup")
    if code == sqlite3.SQLITE_IOERR:
        return UnreachableError(f"{path} can't be read or written ({error})", hint=_LOOK_AT_DISK)
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


def _remedy(path: Path, error: OSError) -> str:
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else _writable(path)


def _writable(path: Path) -> str:
    return f"bmhctl writes {path.name} and files beside it: make {path.parent or '.'} writable for this user"
