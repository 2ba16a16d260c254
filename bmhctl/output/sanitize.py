"""Make untrusted text harmless for terminals; times in words, widths in terminal cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from bmhctl.domain.units import format_age
from bmhctl.errors import BmhctlError

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
"""What a JSON document is made of."""

_KEPT = frozenset("\u00a0\u3000\u200c\u200d")  # harmless, and Asian scripts and emoji are unreadable without them


def clean(text: str) -> str:
    r"""The text with everything that could steer a terminal or hide itself made visible: ``\x1b``, ``\u202e``, ``\n``.

    Control characters, escape sequences, bidi overrides, invisible characters and lone surrogates; the result
    is always one line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text)


def clean_lines(text: str) -> list[str]:
    """Like :func:`clean` for our own longer texts: their line breaks are kept."""
    return [clean(line) for line in text.split("\n")]


def cell_width(text: str) -> int:
    """How many terminal cells a clean text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(c) or c in "\u200c\u200d\ufe0e\ufe0f" else 2 if east_asian_width(c) in "WF" else 1 for c in text
    )


def pad(text: str, width: int) -> str:
    """The text with spaces up to ``width`` cells; a longer one is left whole."""
    return text + " " * (width - cell_width(text))


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """The text cut to ``width`` cells, its end marked when something was cut off."""
    if cell_width(text) <= width:
        return text
    room = width - len(ellipsis)
    kept = ""
    for c in text:
        room -= cell_width(c)
        if room < 0:
            break
        kept += c
    return (kept.rstrip() + ellipsis)[: max(width, 0)]


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, whole seconds: ``2026-11-23T08:09:16Z``; for machines and for every pipe."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    return f"{at.date().isoformat()}T{at.time().isoformat('seconds')}Z"  # in a third of the time of strftime


def stamp(at: datetime) -> str:
    """The same moment for a person: ``2026-11-23 08:09:16Z``."""
    return iso(at).replace("T", " ")


def ago(at: datetime, now: datetime) -> str:
    """``2h ago``, ``just now``; a moment that is still to come (clocks differ) is now."""
    past = now - at
    return f"{format_age(past)} ago" if past >= timedelta(seconds=1) else "just now"


def until(at: datetime | None, now: datetime) -> str:
    """``in 35m``, ``5m ago``, or ``no end``."""
    if at is None:
        return "no end"
    left = at - now
    return f"in {format_age(left)}" if left > timedelta(0) else ago(at, now)


def plural(count: int, noun: str) -> str:
    """``1 host``, ``3 hosts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def flatten(value: Json) -> str:
    """A JSON value in one cell: ``yes``/``no``, ``k=v`` pairs and lists with commas, nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ",".join(f"{key}={flatten(each)}" for key, each in value.items() if each is not None)
        case list():
            return ",".join(flatten(each) for each in value)
    return str(value)


def jsonable(value: object) -> Json:
    """Any value as JSON: times in ISO 8601, durations in seconds, enums by value, the unknown as text."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str.__str__(value)
        case datetime():
            return iso(value)
        case timedelta():
            return int(value.total_seconds())
        case Mapping():
            return {str(key): jsonable(each) for key, each in value.items()}
        case BmhctlError():
            return value.message
        case Iterable():
            return [jsonable(each) for each in value]
    return str(value)
