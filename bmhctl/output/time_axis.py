"""Round local times on the axis of a chart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

_TICKS = (
    *(timedelta(minutes=minutes) for minutes in (5, 10, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 28, 91, 364)),
)


def ticks(since: datetime, until: datetime, most: int) -> list[tuple[datetime, str]]:
    """Return at most ``most`` round local times between two moments, each with its label.

    They are round on both sides of a change between standard and summer time.
    """
    step = next((each for each in _TICKS if (until - since) / each <= max(1, most)), _TICKS[-1])
    found = []
    for at in _days(since, until, step) if step >= _DAY else _times(since, until, step):
        if at >= since:
            by_day = step >= _DAY or (at.hour, at.minute) == (0, 0)
            found.append((at, f"{at:%d %b}" if by_day else f"{at:%H:%M}"))
    return found


def _days(since: datetime, until: datetime, step: timedelta) -> Iterator[datetime]:
    """Yield local midnights, beginning with the last one before a moment."""
    naive = since.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    while (at := naive.astimezone()) <= until:
        yield at
        naive += step


def _times(since: datetime, until: datetime, step: timedelta) -> Iterator[datetime]:
    """Yield the times of day that are multiples of a step of less than a day."""
    at = since.astimezone().replace(minute=0, second=0, microsecond=0)
    while at <= until:
        if not timedelta(hours=at.hour, minutes=at.minute) % step:
            yield at
        at = (at.astimezone(UTC) + min(step, _HOUR)).astimezone()
