"""Round local times on the axis of a chart."""

from __future__ import annotations

from datetime import datetime, timedelta

_TICKS = (
    *(timedelta(minutes=minutes) for minutes in (5, 10, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 28, 91, 364)),
)


def ticks(since: datetime, until: datetime, most: int) -> list[tuple[datetime, str]]:
    """Return at most so many round local times between two moments, each with its label."""
    step = next((each for each in _TICKS if (until - since) / each <= max(1, most)), _TICKS[-1])
    at = since.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    while at <= until:
        if at >= since:
            by_day = step >= timedelta(days=1) or (at.hour, at.minute) == (0, 0)
            found.append((at, f"{at:%d %b}" if by_day else f"{at:%H:%M}"))
        at += step
    return found
