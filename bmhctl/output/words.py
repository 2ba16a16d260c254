"""Times and counts in words for a person."""

from __future__ import annotations

from datetime import datetime, timedelta

from bmhctl.domain.units import format_age
from bmhctl.output.records import iso


def stamp(at: datetime) -> str:
    """The same moment for a person: ``2026-11-23 08:09:16Z``."""
    return iso(at).replace("T", " ")


def ago(at: datetime, now: datetime) -> str:
    """``2h ago``, ``just now``; a moment that is still to come (clocks differ) is now."""
    past = now - at
    return f"{format_age(past)} ago" if past >= timedelta(seconds=1) else "just now"


def until(at: datetime | None, now: datetime) -> str:
    """Return ``in 35m``, ``overdue 5m`` for an end that has passed, or ``no end``."""
    if at is None:
        return "no end"
    left = at - now
    return f"in {format_age(left)}" if left > timedelta(0) else f"overdue {format_age(-left)}"


def plural(count: int, noun: str) -> str:
    """``1 host``, ``3 hosts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
