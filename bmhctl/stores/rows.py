"""How columns hold values: times as microseconds since 1970 in UTC, structured values as JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bmhctl.errors import InvalidError

Value = str | int | float | None
"""The value of a column."""

Row = Sequence[Value]
"""What a database returns for one row."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""The errors that reading a row may raise if another program wrote the row."""

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)
_make = getattr(json.encoder, "c_make_encoder", None)
_parts: Any = _make and _make(
    None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, True
)
# ``encode`` makes a new C encoder for each value, which takes longer than to encode a small value.
to_json: Callable[[object], str] = (lambda value: "".join(_parts(value, 0))) if _parts else _encoder.encode
from_json = json.JSONDecoder().decode


def from_time(moment: datetime | None) -> int | None:
    """Return a time as microseconds since 1970 in UTC, exactly; None for None."""
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def to_time(value: Value) -> datetime | None:
    """Return the time that :func:`from_time` wrote; None for None."""
    return None if value is None else EPOCH + int(value) * MICROSECOND


def to_moment(value: Value) -> datetime:
    """Return the time that :func:`from_time` wrote, from a column that is never NULL."""
    return EPOCH + int(value or 0) * MICROSECOND


def to_text(value: Value) -> str | None:
    """Return the text of a column that may be NULL."""
    return None if value is None else str(value)


def number_in(rows: Sequence[Row]) -> int:
    """Return the number in the answer to a query for one number; 0 for NULL."""
    return int(rows[0][0] or 0)


def unreadable(kind: str, name: Value) -> InvalidError:
    """Return the error for a row that can't be read; ``kind`` is what the row holds, ``name`` its name or id."""
    return InvalidError(
        f"the row of {kind} {name!s:.80} can't be read", hint="bmhctl doctor reports what is wrong with it"
    )
