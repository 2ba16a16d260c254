"""The protocol that a database backend fulfils."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from bmhctl.stores.rows import Row, Value

if TYPE_CHECKING:
    from pathlib import Path

Question = tuple[str, Sequence[Value]]
"""A statement that reads, with its parameters."""


class Database(Protocol):
    """A connection to the tables of an inventory; its errors are those of :mod:`bmhctl.errors`.

    Methods that have a body here need no other one for a file, to which one transaction writes at a time.
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
    """The ids of the events that this process has written since the user was last shown what it did."""

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
        """Run a statement with each row, later but before the next read: see ``write_buffer.WriteBuffer``."""

    def next_id(self, table: str) -> int:
        """Return an id for a new row of the table, larger than every id that the table has ever assigned."""

    def transaction(
        self, *questions: Question, write: bool, shared: bool = False
    ) -> AbstractContextManager[Sequence[Sequence[Row]]]:
        """Return a transaction: durable when the block ends, undone when the block raises.

        Without ``write``, it is a read-only snapshot. Only one writing transaction runs at a time; but if the database
        :attr:`locks_rows`, ``shared`` ones run beside each other. A shared one may begin with queries: it yields the
        rows of each. A server answers them in the round trip that begins the transaction; each query sees what was
        committed before it ran.
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
        """Copy the database's file, damaged or not, into an empty one; return False for a database server."""
