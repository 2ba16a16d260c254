"""What columns hold: times as microseconds since 1970 in UTC, everything structured as JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bmhctl.errors import InvalidError

Value = str | int | float | None
"""What a column holds."""

Row = Sequence[Value]
"""What a database returns for one row."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""The errors that reading a row raises if another program wrote the row."""

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)
_make = getattr(json.encoder, "c_make_encoder", None)
_parts: Any = _make and _make(
    None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, True
)
# `encode` makes the C encoder anew for each value, which takes longer than a small value does.
to_json: Callable[[object], str] = (lambda value: "".join(_parts(value, 0))) if _parts else _encoder.encode
from_json = json.JSONDecoder().decode


def from_time(moment: datetime | None) -> int | None:
    """Return the moment in microseconds since 1970 in UTC, exactly; None for None."""
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def to_time(value: Value) -> datetime | None:
    """Return the moment that :func:`from_time` wrote; None for None."""
    return None if value is None else EPOCH + int(value) * MICROSECOND


def to_moment(value: Value) -> datetime:
    """Return the moment that :func:`from_time` wrote, from a column that always has one."""
    return EPOCH + int(value or 0) * MICROSECOND


def to_text(value: Value) -> str | None:
    """Return the text of a column that may be empty."""
    return None if value is None else str(value)


def unreadable(kind: str, name: Value) -> InvalidError:
    """Return the error for a row that can't be read: ``kind`` is what it holds, ``name`` how it is called."""
    return InvalidError(
        f"the row of {kind} {name!s:.80} can't be read", hint="bmhctl doctor reports what is wrong with it"
    )
