"""The protocol that a database backend fulfils."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bmhctl.stores.rows import Row, Value

if TYPE_CHECKING:
    from pathlib import Path


Question = tuple[str, Sequence[Value]]
"""A statement that reads, and its parameters."""


class Database(Protocol):
    """What the engine needs of a connection; errors come out as :class:`bmhctl.errors.BmhctlError`."""

    locks_rows: bool
    """Whether writers share turns, and so lock the rows that they read to change them."""

    announces: bool
    """Whether :meth:`version` tells of changes of hosts and of the queue, and of nothing else."""

    knows_frequencies: bool
    """Whether it knows how many rows have a value, and chooses by that which of them it looks at first."""

    @property
    def location(self) -> str:
        """How a person names this database; holds no password."""

    def now(self) -> datetime:
        """The time by which leases are judged."""

    @property
    def is_connected(self) -> bool:
        """Whether it can still be asked, as far as anybody noticed; a server that is lost may come back."""

    def last_disruption(self) -> datetime:
        """When connections to a server were lost last, as far as this one can know, and with them what they held.

        Never where there is no server.
        """

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Runs one statement and returns its rows."""

    def locking(self, *questions: Question, foreseen: Sequence[Question] = ()) -> list[Row]:
        """Asks questions that lock rows, of hosts first, to change them; returns the rows of the first.

        What is ``foreseen`` is going to be asked under these locks: a home far away may ask it at once.
        """

    def stream(self, sql: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Runs one statement whose rows are read as they are asked for, however many."""

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Adds many rows to a table."""

    def enqueue(self, sql: str, *rows: Sequence[Value]) -> None:
        """Runs a statement with each row, in this transaction and before anything else is asked, with others that wait.

        Rows of one statement stay in order, and a row is written after those that it refers to. What changes a host's
        spec, its facts or a queue does not wait.
        """

    def next_id(self, table: str) -> int:
        """An id for a new row of the table: larger than any that was ever given."""

    def transaction(
        self,
        *,
        write: bool,
        shared: bool = False,
        foreseen: Sequence[Question] = (),
        locking: Sequence[Question] = (),
    ) -> AbstractContextManager[None]:
        """A transaction: durable when the block ends, gone when it raises. Reading ones are one snapshot.

        Writing ones take turns; those that are ``shared`` may take theirs at once, where the home can do that.
        What is ``foreseen`` is going to be asked in it before anything is written: a home far away may ask it at once,
        and then what :meth:`locking` is going to be asked first, and what is foreseen under its locks.
        """

    def savepoint(self) -> AbstractContextManager[None]:
        """A part of a transaction that is undone on its own when the block raises."""

    def abandon(self) -> None:
        """Undoes the transaction that an interruption left open, if there is one: its block may not have ended yet."""

    def check_in_place(self) -> None:
        """Raise :class:`MovedError` when it is not the inventory that was opened; costs no message to a server.

        Transactions check this themselves, also where it takes a message, at their beginning and before a commit.
        """

    def version(self) -> int:
        """Differs from an earlier one when another connection committed since."""

    def stir(self, *, parting: bool = False) -> None:
        """Notes that whoever waits shall look, once the transaction is committed; ``parting``: a ticket goes."""

    def hush(self) -> None:
        """Notes that nobody waits, or can begin to before the transaction ends: nobody has to be told of it."""

    def wakes(self) -> int | None:
        """A descriptor that can be read when :meth:`version` may differ; None: look now and then."""

    def start_ids_after(self, table: str, last: int) -> None:
        """Makes the next id that the table gives larger than ``last``."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on this machine that it consists of; none of a server's."""

    def damage(self) -> Iterator[tuple[str, bool]]:
        """What the database itself finds broken in it, and whether :meth:`rebuild_indexes` mends it."""

    def rebuild_indexes(self) -> None:
        """Makes all indexes anew from the rows, in the caller's transaction."""

    def close(self) -> None:
        """Closes the connection."""
