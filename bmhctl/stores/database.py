"""The protocol that a database backend fulfils."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bmhctl.stores.rows import Row, Value

if TYPE_CHECKING:
    from pathlib import Path

    from bmhctl.stores.host_query import HostQuery, RareTerm

Question = tuple[str, Sequence[Value]]
"""A statement that reads, and its parameters."""


class Database(Protocol):
    """A connection to the tables of an inventory; its errors are those of :mod:`bmhctl.errors`."""

    locks_rows: bool
    """Whether several transactions write at the same time, and so lock the rows that they read to change them."""

    after_commit: Callable[[], object] | None
    """The function to call once the open transaction has committed; it is dropped if the transaction is undone."""

    @property
    def location(self) -> str:
        """The name of this database in messages, without a password."""

    @property
    def role(self) -> str | None:
        """The role with which a server knows the user; None for a file."""

    def now(self) -> datetime:
        """Return the time by which leases are judged."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as is known; a lost server may come back."""

    def last_disruption(self) -> datetime:
        """Return when connections to the server were last lost, and with them the locks of their processes.

        Without a server, return the earliest time there is.
        """

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Sequence[Row]:
        """Run one statement and return its rows."""

    def stream(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement and yield its rows, however many, as of one moment."""

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""

    def enqueue(self, sql: str, *rows: Sequence[Value]) -> None:
        """Run a statement with each row before anything is read: see ``write_buffer.WriteBuffer``."""

    def next_id(self, table: str) -> int:
        """Return an id for a new row of the table: larger than any that was ever given."""

    def transaction(self, *, write: bool, shared: bool = False) -> AbstractContextManager[object]:
        """Return a transaction: durable when the block ends, undone when it raises; one that only reads is a snapshot.

        Of those that write, one runs at a time; ``shared`` ones run beside each other where the database
        :attr:`locks_rows`.
        """

    def begin_with(self, *questions: Question) -> AbstractContextManager[Sequence[Sequence[Row]]]:
        """Return a shared transaction that writes; it yields the rows of each question that it begins with.

        A server answers all of them in one round trip. Each question sees what was committed before it was asked.
        """

    def lock(self, *questions: Question) -> None:
        """Ask questions that lock rows, those of hosts first, where the database :attr:`locks_rows`."""

    def rare_term(self, query: HostQuery) -> RareTerm | None:
        """Return the term of a query from which the database starts; None where its planner decides."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a part of a transaction that is undone on its own when the block raises."""

    def abandon(self) -> None:
        """Undo the transaction that an interruption left open, if there is one: its block may not have ended yet."""

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when it is not the inventory that was opened; costs no message to a server.

        Transactions check this themselves, also where it takes a message, at their beginning and before a commit.
        """

    def version(self) -> int:
        """Return a number that differs from an earlier one when another connection committed a change since."""

    def generation(self) -> tuple[int, ...]:
        """Return a value that differs from an earlier one when a host or the queue changed since."""

    def follow(self) -> None:
        """Make :meth:`version` differ after every event, from its next call on, also while no ticket is open."""

    def settled_event(self) -> int:
        """Return the id of the newest event before which no other will appear; at least that of an earlier call."""

    @property
    def is_settling(self) -> bool:
        """Whether :meth:`settled_event` may soon return more, although :meth:`version` stays."""

    def wakes(self) -> int | None:
        """Return a descriptor that can be read when :meth:`version` may differ; None where it has to be polled."""

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the next id that the table gives larger than ``last``."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on this machine that the database consists of; none for a server."""

    def refuse_changes(self, tables: Sequence[str]) -> None:
        """Let every insert and update in the tables fail with :class:`RetiredError`, for every connection.

        In the caller's transaction, with effect from its commit. The caller saves :data:`SUCCESSOR_KEY` in ``meta``
        before.
        """

    def allow_changes(self, tables: Sequence[str]) -> None:
        """Undo :meth:`refuse_changes`, in the caller's transaction; do nothing where it was not called."""

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield what the database itself finds broken, each with whether :meth:`rebuild_indexes` repairs it."""

    def rebuild_indexes(self) -> None:
        """Build all indexes again from the rows, in the caller's transaction."""

    def close(self) -> None:
        """Close the connection."""
