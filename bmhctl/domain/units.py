"""Read and write durations and sizes as people write them: ``1h30m``, ``256GiB``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern

_DURATION = pattern(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_QUANTITY = pattern(r"(\d{1,20})(?:\.(\d{1,9}))?\s?([KMGTPE]i?)?(B?)", re.ASCII)
_STEPS = "KMGTPE"

MAX_DURATION = timedelta(days=36500)
"""The longest lease or time-out, about a century: a date plus such a duration never overflows."""


def parse_duration(text: str) -> timedelta:
    """Return the duration in a text: ``90s``, ``20m``, ``4h``, ``3d``, or several in falling order such as ``1h30m``.

    Raises :class:`UsageError` for any other text and for a duration beyond :data:`MAX_DURATION`.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is not a duration", hint="write it like 90s, 20m, 4h, 3d or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total > MAX_DURATION.total_seconds():
        raise UsageError(f"{text!r} is too long a duration", hint="at most 36500d")
    return timedelta(seconds=total)


def format_duration(value: timedelta) -> str:
    """Return the shortest text that :func:`parse_duration` reads back, in whole seconds: ``1h30m``, ``0s``."""
    seconds = max(0, int(value.total_seconds()))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_age(value: timedelta) -> str:
    """Return a duration for people, with its two largest units at most: ``3d4h``, ``12m``, ``8s``."""
    seconds = max(0, int(value.total_seconds()))
    for big, small, unit, sub in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if seconds >= big:
            rest = seconds % big // small
            return f"{seconds // big}{unit}" + (f"{rest}{sub}" if rest and seconds // big < 10 else "")
    return f"{seconds}s"


@lru_cache(maxsize=1000)
def quantity(text: str) -> float | None:
    """Return the number in a text: plain (``64``, ``2.5``) or a size in bytes (``256GiB``); None for other texts.

    ``K``, ``M``, ``G`` … are powers of 1000, ``Ki``, ``Mi``, ``Gi`` … of 1024, as in Kubernetes.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        return None
    whole, fraction, prefix, unit = match.groups()
    if unit and not prefix:
        return float(f"{whole}.{fraction or 0}")
    base = 1024 if prefix and prefix.endswith("i") else 1000
    factor = base ** (_STEPS.index(prefix[0]) + 1) if prefix else 1
    return float(f"{whole}.{fraction or 0}") * factor


@lru_cache(maxsize=1000)
def format_size(size: int) -> str:
    """Return a number of bytes in the largest binary unit that divides it: ``256GiB``; else in bytes: ``1000B``."""
    for power in range(len(_STEPS), 0, -1):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{_STEPS[power - 1]}iB"
    return f"{size}B"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 host``, ``3,000 hosts``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


SECONDS, OF_DAY = "%Y-%m-%d %H:%M:%S", "%H:%M:%S"
"""Forms of :func:`local_time`: with seconds, and without the day."""


def by_minute(eta: datetime) -> datetime:
    """Return the first whole minute at or after a point in time."""
    whole = eta.replace(second=0, microsecond=0)
    return whole if whole == eta else whole + timedelta(minutes=1)


def local_time(at: datetime, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return a point in time for people: in the local zone, with its name (``2026-11-28 14:05 CET``).

    ``form`` is the format for ``strftime``, such as :data:`SECONDS`.
    """
    return at.astimezone().strftime(f"{form} %Z")
