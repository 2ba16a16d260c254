"""Insert many rows into a SQLite file, several with each statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from bmhctl.stores.rows import Value

_TOGETHER = {"INSERT INTO hosts ": 25, "INSERT INTO facts ": 2000, "INSERT INTO events ": 100}
"""How many rows one statement inserts, if there are so many.

The trigger that counts hosts makes SQLite keep a journal for each statement. A statement itself costs half as much as
the row of a fact, so few statements are better; but with some hundreds of rows, the journal doubles the cost. A
hundred events in one statement cost a quarter less than one by one.
"""


def insert_together(
    connection: sqlite3.Connection, statement: str, rows: Iterable[Sequence[Value]]
) -> Iterable[Sequence[Value]]:
    """Insert rows, several with each statement; return the remaining rows, which are too few for that."""
    for beginning, most in _TOGETHER.items():
        if statement.startswith(beginning):
            return _remaining(connection, statement, iter(rows), most)
    return rows


def _remaining(
    connection: sqlite3.Connection, statement: str, rows: Iterator[Sequence[Value]], most: int
) -> list[Sequence[Value]]:
    before, _, row = statement.rpartition(" VALUES ")
    number = min(most, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // row.count("?"))
    together = f"{before} VALUES {', '.join([row] * number)}"
    while len(some := [*islice(rows, number)]) == number:
        connection.execute(together, [*chain(*some)])
    return some
