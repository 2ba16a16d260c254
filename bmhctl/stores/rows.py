"""What columns hold: times as microseconds since 1970 in UTC, everything structured as JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from bmhctl.errors import InvalidError

Value = str | int | float | None
"""What a column holds."""

Row = Sequence[Value]
"""What a database returns for one row."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a row raises when another program wrote it."""


def _encode() -> Callable[[object], str]:
    """Return what writes a value as JSON text.

    `JSONEncoder.encode` makes its C encoder anew for each value, which takes longer than a small value does.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    parts = make(None, encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, True)
    return lambda value: "".join(parts(value, 0))


to_json = _encode()
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
