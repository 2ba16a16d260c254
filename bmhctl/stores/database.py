"""The interface of a database backend, and the base of both backends: it collects writes, to run them together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

from bmhctl.stores.rows import Row, Value

LOCK_PATIENCE = 15.0
"""How long a command waits for another command's transaction or edit, in seconds."""

UNRECORDED = 0
"""Stands among the ids of events for a change that may have written no event."""

Question = tuple[str, Sequence[Value]]
"""A statement that reads, with its parameters."""


class Database(Protocol):
    """A connection to the tables of an inventory; its errors are those of :mod:`bmhctl.errors`.

    The values and method bodies that are given here are those of a database to which one transaction writes at a time.
    """

    location: str
    """The name of this database in messages, without a password."""

    files: tuple[Path, ...] = ()
    """The files on this machine that the database consists of; none for a server."""

    locks_rows: bool = False
    """Whether transactions write at the same time; then they lock the rows that they read in order to change them."""

    has_statistics: bool = False
    """Whether the database's planner knows how many hosts fit a term; else a query searches from a rare term."""

    is_updated: bool
    """Whether opening it updated tables that an older bmhctl had made, which that one can't use any more."""

    unreported: list[int]
    """What this process has written since the user was last shown what it did: ids of events, and :data:`UNRECORDED`.

    The database drops what a rollback undid, except ids that are never assigned again.
    """

    after_commit: Callable[[], object] | None
    """Called once after the open transaction has committed; dropped if the transaction is undone."""

    @property
    def role(self) -> str | None:
        """The database role with which the server knows the user; None for a file."""
        return None

    def now(self) -> datetime:
        """Return the time by which leases are judged, with its zone."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as is known; a lost connection may be opened again later."""
        return True

    def last_disruption(self) -> datetime:
        """Return when connections to the server were last lost, and with them the locks of their processes.

        For a file, return the earliest possible time.
        """
        return datetime.min.replace(tzinfo=UTC)

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Sequence[Row]:
        """Run one statement and return its rows."""

    def stream(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement and yield its rows, all as of one moment; only some rows are in memory at a time."""

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""

    def enqueue(self, sql: str, *rows: Sequence[Value]) -> None:
        """Run a statement with each row, later but before the next read: see :class:`WriteBuffer`."""

    def next_id(self, table: str) -> int:
        """Return an id for a new row of the table, larger than every id that the table has ever assigned."""

    def transaction(
        self, *questions: Question, write: bool, shared: bool = False, reports: bool = False
    ) -> AbstractContextManager[Sequence[Sequence[Row]]]:
        """Return a transaction: durable when the block ends, undone when the block raises.

        Without ``write``, it is a read-only snapshot. Only one writing transaction runs at a time; but if the database
        :attr:`locks_rows`, ``shared`` ones run beside each other. A shared one may begin with queries: it yields the
        rows of each. A server answers them in the round trip that begins the transaction; each query sees what was
        committed before it ran. With ``reports``, a change adds :data:`UNRECORDED` to :attr:`unreported`.
        """

    def lock(self, *questions: Question) -> None:
        """Run queries that lock rows, those of hosts first, where the database :attr:`locks_rows`."""
        return

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a part of a transaction that is undone on its own when its block raises."""

    def abandon(self) -> None:
        """Undo a transaction that an interruption left open, although its block may not have ended yet."""

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when another inventory has replaced the opened one; sends no message to a server.

        A transaction makes a full check at its beginning and before its commit, even if that takes a message.
        """
        return

    def version(self) -> int:
        """Return a number that changes when another connection commits a change."""

    def generation(self) -> tuple[int, ...]:
        """Return a value that changes when a host or the queue changes."""

    def follow(self) -> None:
        """From the next call on, make :meth:`version` change after every event, even while the queue is empty."""
        return

    def settled_event(self) -> int:
        """Return the newest event id such that no smaller id can still appear; never less than at an earlier call."""

    @property
    def is_settling(self) -> bool:
        """Whether :meth:`settled_event` may soon return a larger id although :meth:`version` does not change."""
        return False

    def wakes(self) -> int | None:
        """Return a descriptor that is readable when :meth:`version` may have changed; None if it must be polled."""
        return None

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the table assign only ids larger than ``last`` from now on."""

    def upkeep(self) -> Upkeep:
        """Return the object that repairs the tables and retires the inventory."""

    def close(self) -> None:
        """Close the connection."""


class Upkeep(Protocol):
    """Repairs the tables, and retires an inventory; apart from :class:`Database`, because few commands need it."""

    def refuse_changes(self) -> None:
        """Make inserts and updates in the tables :data:`GUARDED` fail with :class:`RetiredError`, for every connection.

        This is part of the caller's transaction, and takes effect with its commit. The caller saves
        :data:`SUCCESSOR_KEY` in ``meta`` first.
        """

    def allow_changes(self) -> None:
        """Undo :meth:`refuse_changes`, in the caller's transaction; do nothing if changes are not refused."""

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield what the database itself reports as damaged, each with whether :meth:`rebuild` repairs it."""

    def rebuild(self) -> None:
        """Rebuild from the rows what the database derives from them, in the caller's transaction."""

    def copy_file_to(self, partial: Path) -> bool:
        """Copy the database's file, damaged or not, into an empty one, as of one moment; return False for a server."""


Rows = Sequence[Sequence[Value]]
"""The parameters of a statement, for each time that it runs."""

_ORDER = (
    "INSERT INTO reservations",
    "INSERT INTO hosts",
    "UPDATE hosts",
    "INSERT INTO facts",
    "INSERT INTO results",
    "INSERT INTO events",
    "UPDATE reservations",
    "INSERT INTO meta",
)
"""How the statements that may wait begin, in the order in which they run, so that rows are written before those that
refer to them."""

_NO_IDS: Iterator[int] = iter(())


class _Savepoint:
    """A savepoint, which the database begins only before the first write in it."""

    __slots__ = ("is_begun", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.is_begun = False


class WriteBuffer(Database):
    """A database that may delay writes until the next read or the commit.

    A subclass calls ``_flush`` before it runs any other statement, and ``_flush`` or ``_take`` before it commits.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Rows]] = []
        self._savepoints: list[_Savepoint] = []
        self._broken: BaseException | None = None
        self._ids: dict[str, Iterator[int]] = {}
        self.after_commit: Callable[[], object] | None = None
        self.is_updated = False  # whether this process updated tables that an older bmhctl had made
        self.unreported: list[int] = []

    def enqueue(self, statement: str, *rows: Sequence[Value]) -> None:
        """Run a statement with each row, later in this transaction but before the next read.

        Rows of one statement stay in order, and a row is written after the rows to which it refers. Do not use it for
        statements that change a host's declaration, its attributes or the queue.
        """
        if rows:
            self._waiting.append((statement, rows))

    def next_id(self, table: str) -> int:
        """Return an id for a new row of the table, larger than every id that the table has ever assigned."""
        number = next(self._ids.get(table, _NO_IDS), None)
        if number is None:
            self._ids[table] = self._new_ids(table)
            number = next(self._ids[table])
        if table == "events":
            self.unreported.append(number)
        return number

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Return a part of a transaction that is undone on its own when its block raises."""
        savepoint = _Savepoint(len(self._waiting))
        self._savepoints.append(savepoint)
        name = f"part{len(self._savepoints)}"
        try:
            yield
            if savepoint.is_begun:
                self._run(f"RELEASE {name}")
        except BaseException:
            if savepoint.is_begun:
                self._waiting.clear()
                self._undo(f"ROLLBACK TO {name}")
                self._undo(f"RELEASE {name}")
            else:
                del self._waiting[savepoint.start :]
            raise
        finally:
            self._savepoints.pop()

    def _flush(self, *, then_writes: bool = False) -> None:
        """Write all delayed rows; with ``then_writes``, also begin the savepoints in which the next statement writes.

        If this fails once, every later call in the transaction raises the same error.
        """
        if self._broken is not None:
            raise self._broken
        if not self._waiting and (not then_writes or all(each.is_begun for each in self._savepoints)):
            return
        waiting, self._waiting = self._waiting, []
        done = 0
        try:
            for number, savepoint in enumerate(self._savepoints, 1):
                if not savepoint.is_begun:
                    self._write(waiting[done : savepoint.start])
                    done = savepoint.start
                    self._run(f"SAVEPOINT part{number}")
                    savepoint.is_begun = True
            self._write(waiting[done:])
        except BaseException as error:
            self._broken = error
            raise

    def _take(self, most: int) -> list[tuple[str, Sequence[Value]]]:
        """Return the delayed writes for the caller to run, in order; if they are more than ``most``, run them here."""
        if self._broken is not None or sum(len(rows) for _, rows in self._waiting) > most:
            self._flush()
        waiting, self._waiting = self._waiting, []
        return [
            (statement, row) for statement, rows in sorted(waiting, key=lambda each: _rank(each[0])) for row in rows
        ]

    def _drop(self) -> None:
        """Drop all delayed writes, because their transaction has ended."""
        self._waiting.clear()
        self._broken = None
        self._ids.clear()

    def _write(self, waiting: Sequence[tuple[str, Rows]]) -> None:
        of_statement: dict[str, list[Sequence[Value]]] = {}
        for statement, rows in waiting:
            of_statement.setdefault(statement, []).extend(rows)
        for statement in sorted(of_statement, key=_rank):
            self._run_many(statement, of_statement[statement])

    @abstractmethod
    def _run(self, statement: str) -> object:
        """Run a statement without parameters."""

    @abstractmethod
    def _run_many(self, statement: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement with each row."""

    @abstractmethod
    def _undo(self, statement: str) -> None:
        """Run a statement that undoes something; an error is ignored if it is undone already."""

    @abstractmethod
    def _new_ids(self, table: str) -> Iterator[int]:
        """Yield at least one id for :meth:`next_id`."""


@cache
def _rank(statement: str) -> int:
    for rank, beginning in enumerate(_ORDER):
        if statement.startswith(beginning):
            return rank
    raise AssertionError(f"{statement!r} is not in the order of statements that wait")
