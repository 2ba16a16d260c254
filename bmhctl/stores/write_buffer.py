"""The base of both databases: it collects writes, and runs those of the same statement together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from bmhctl.stores.database import Database
from bmhctl.stores.rows import Value

LOCK_PATIENCE = 15.0
"""How long a command waits for another command's transaction or edit, in seconds."""

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
