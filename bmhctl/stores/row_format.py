"""How rows hold the values of a class, and the statements that save rows; for tables that few commands use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from bmhctl.stores.rows import UNREADABLE, Row, Value, from_time, to_moment, to_text, to_time, unreadable


def insert_into(table: str, columns: Sequence[str]) -> str:
    """Return the statement that adds a row with values for these columns."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def update(table: str, columns: Sequence[str]) -> str:
    """Return the statement that sets these columns of the row with an id; the id is the last parameter."""
    return f"UPDATE {table} SET {', '.join(f'{column} = ?' for column in columns)} WHERE id = ?"


Codec = tuple[Callable[..., Value], Callable[..., object]]
"""Two functions: one returns the value of a column for an attribute, the other reads it back."""

_TEXT: Codec = to_text, to_text
NUMBER: Codec = int, lambda value: int(value or 0)
FLAG: Codec = int, bool
MOMENT: Codec = from_time, to_moment
MOMENT_OR_NONE: Codec = from_time, to_time

_T = TypeVar("_T")


class RowFormat(Generic[_T]):
    """How rows hold the values of a class: ``codecs`` by column; columns without one hold texts or NULL.

    An attribute has the name of its column, or the one in ``renamed``. ``kind`` is what a row holds, for messages.
    Hosts, reservations and events have faster functions instead, because nearly every command reads them.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[..., _T],
        columns: Sequence[str],
        codecs: Mapping[str, Codec],
        renamed: Mapping[str, str],
    ) -> None:
        self._kind = kind
        self._make = make
        self._attributes = [(renamed.get(column, column), *codecs.get(column, _TEXT)) for column in columns]

    def row(self, value: _T) -> list[Value]:
        """Return the values of the columns."""
        return [encode(getattr(value, name)) for name, encode, _ in self._attributes]

    def value(self, row: Row) -> _T:
        """Return the value in a row; raise :class:`InvalidError` for a row that can't be read."""
        try:
            return self._make(
                **{name: decode(each) for (name, _, decode), each in zip(self._attributes, row, strict=True)}
            )
        except UNREADABLE as error:
            raise unreadable(self._kind, row[0]) from error
