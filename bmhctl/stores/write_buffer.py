"""Collect writes and run those of one statement together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from bmhctl.stores.rows import Value

Rows = Sequence[Sequence[Value]]
"""Parameters of a statement, for each time that it is run."""

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
"""How the statements that may wait begin, in the order in which they are run: what is referred to comes first."""


class _Part:
    """A savepoint; it is begun in the database only when something has to be written in it."""

    __slots__ = ("is_begun", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.is_begun = False


class WriteBuffer:
    """What a transaction has yet to write. Flush it before anything else is run; flush or take it before the commit.

    ``run_many`` runs one statement for each row of parameters, ``run`` a statement without any.
    """

    def __init__(self, run_many: Callable[[str, list[Sequence[Value]]], None], run: Callable[[str], object]) -> None:
        self._run_many = run_many
        self._run = run
        self._rows: list[tuple[str, Rows]] = []
        self._parts: list[_Part] = []
        self._broken: BaseException | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._rows

    def add(self, statement: str, rows: Rows) -> None:
        """Keeps rows for later. Of one statement they stay in order; the statements go in that of their tables."""
        if rows:
            self._rows.append((statement, rows))

    def flush(self, *, then_writes: bool = False) -> None:
        """Writes all that waits; what comes next may be undone with the part that it is in, if it ``then_writes``.

        What could not be written once makes every later try fail, until :meth:`drop`.
        """
        if self._broken is not None:
            raise self._broken
        if not self._rows and (not then_writes or all(part.is_begun for part in self._parts)):
            return
        rows, self._rows = self._rows, []
        done = 0
        try:
            for number, part in enumerate(self._parts, 1):
                if not part.is_begun:
                    self._write(rows[done : part.start])
                    done = part.start
                    self._run(f"SAVEPOINT part{number}")
                    part.is_begun = True
            self._write(rows[done:])
        except BaseException as error:
            self._broken = error
            raise

    def take(self, most: int) -> list[tuple[str, Sequence[Value]]]:
        """What waits, for the caller to write in this order; nothing when it is more than ``most``: that is written."""
        if self._broken is not None or sum(len(rows) for _, rows in self._rows) > most:
            self.flush()
        left, self._rows = self._rows, []
        return [(statement, row) for statement, rows in sorted(left, key=lambda each: _rank(each[0])) for row in rows]

    def drop(self) -> None:
        """Forgets all that waits: its transaction is over."""
        self._rows.clear()
        self._broken = None

    @contextmanager
    def part(self, undo: Callable[[str], None]) -> Iterator[None]:
        """A part of the transaction that is undone on its own when the block raises; ``undo`` runs what does that."""
        part = _Part(len(self._rows))
        self._parts.append(part)
        name = f"part{len(self._parts)}"
        try:
            yield
            if part.is_begun:
                self._run(f"RELEASE {name}")
        except BaseException:
            if part.is_begun:
                self._rows.clear()
                undo(f"ROLLBACK TO {name}")
                undo(f"RELEASE {name}")
            else:
                del self._rows[part.start :]
            raise
        finally:
            self._parts.pop()

    def _write(self, waiting: Sequence[tuple[str, Rows]]) -> None:
        of_statement: dict[str, list[Sequence[Value]]] = {}
        for statement, rows in waiting:
            of_statement.setdefault(statement, []).extend(rows)
        for statement in sorted(of_statement, key=_rank):
            self._run_many(statement, of_statement[statement])


@cache
def _rank(statement: str) -> int:
    for rank, beginning in enumerate(_ORDER):
        if statement.startswith(beginning):
            return rank
    raise AssertionError(f"nobody said when {statement!r} may be run later")
