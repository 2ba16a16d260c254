"""Read points in time as people write them, in the local zone (``$TZ``, else the zone of the machine)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from bmhctl.domain.units import MAX_DURATION, local_time, parse_duration
from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern


def parse_moment(text: str, now: datetime, *, said: datetime | None = None) -> datetime:
    """Return a point in time after ``now``, in UTC: a duration from then (``2h``), a time of day, or an ISO time.

    A time of day alone is the next such time. After ``today``, ``tomorrow`` or a day of the week (``sat 08:00``) a time
    of day may follow, and a day alone means its beginning. To read the end of a span, pass its beginning as ``now``,
    and as ``said`` the time of the request, from which ``today`` and ``tomorrow`` count. A time without an offset is
    local; ``24:00`` is the end of its day.

    Raises :class:`UsageError` for any other text, for a time not after ``now``, and for a local time that does not
    exist or exists twice because the clocks change.
    """
    forms = (
        "a duration such as 2h or 3d, a time such as 17:00, 'tomorrow 09:00' or 'sat 08:00', "
        "or a date such as 2026-12-24T18:00"
    )
    at = _parsed(text, now, said or now, forms)
    if at <= now:
        words = f"{text} is not in the future" if said is None else f"the end, {text}, is not after the beginning"
        raise UsageError(words, hint="write a duration such as 2h, or a later time")
    check_not_too_far(at, now)
    return at


def check_not_too_far(at: datetime, now: datetime) -> None:
    """Raise :class:`UsageError` for a time more than :data:`MAX_DURATION` after ``now``: sums could overflow."""
    if at - now > MAX_DURATION:
        raise UsageError(f"{at:%Y-%m-%d} is too far in the future", hint=f"at most {MAX_DURATION.days} days from now")


def check_period(since: datetime, until: datetime | None) -> None:
    """Raise :class:`UsageError` for a period that ends before it begins; ``until`` is None if it has no end."""
    if until is not None and until <= since:
        raise UsageError(
            f"--since ({local_time(since)}) is not before --until ({local_time(until)})",
            hint="--since names the earlier time",
        )


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPOKEN = pattern(
    r"(?:(yesterday|today|tomorrow|(mon|tue|wed|thu|fri|sat|sun)[a-z]*)(?:\s+|$))?(?:(\d{1,2}):(\d\d)(?::(\d\d))?)?",
    re.I,
)


_ONE_DIGIT = pattern(r"(?<=[T ])\d(?=:)")
_MIDNIGHT = pattern(r"(?<=[T ])24:00(?::00)?(?![0-9:.])")


def _iso_time(text: str) -> datetime:
    """Return an ISO time; raise :class:`ValueError` for other texts.

    Its hour may have one digit. Python reads ``24:00`` only since 3.13.
    """
    text = _ONE_DIGIT.sub(r"0\g<0>", text)
    begun = _MIDNIGHT.sub("00:00", text)
    return datetime.fromisoformat(begun) + timedelta(days=begun != text)


def _parsed(text: str, now: datetime, said: datetime, forms: str, *, past: bool = False) -> datetime:
    """Return the time that a text means, in UTC; ``forms`` says in an error how to write one."""
    if text.strip().lower() == "now":
        return said
    try:
        length = parse_duration(text)
    except UsageError:
        try:
            return in_utc(_day_and_time(text, now, said, past=past) or _iso_time(text))
        except (ValueError, OverflowError):
            raise UsageError(f"{text!r} is not a time", hint=f"write {forms}") from None
    return now - length if past else now + length


_DISTANCE = {"yesterday": -1, "today": 0, "tomorrow": 1}


def _day_and_time(text: str, now: datetime, said: datetime, *, past: bool = False) -> datetime | None:
    """Return the local time that a day and a time of day mean; None if the text is something else.

    A time of day or a day of the week means the next one after ``now``; with ``past``, the last one. ``today`` is the
    day of ``said``. Raises :class:`ValueError` for a time of day that no clock shows.
    """
    found = _SPOKEN.fullmatch(text.strip())
    if found is None or not text.strip():
        return None
    day, weekday, hour, minute, second = found.groups()
    local = now.astimezone().replace(tzinfo=None)
    is_end = hour == "24" and not int(minute) and not int(second or 0)
    end, hour = timedelta(days=is_end), "0" if is_end else hour
    at = local.replace(hour=int(hour or 0), minute=int(minute or 0), second=int(second or 0), microsecond=0)
    if day is not None and weekday is None:
        date = said.astimezone().date() + timedelta(days=_DISTANCE[day.lower()])
        return datetime.combine(date, at.time()) + end
    at += end
    days = 1 if weekday is None else 7
    if weekday is not None:
        at += timedelta(days=(_DAYS.index(weekday.lower()) - local.weekday()) % 7)
    if past:
        return at if at <= local else at - timedelta(days=days)
    return at if at > local else at + timedelta(days=days)


def in_utc(at: datetime) -> datetime:
    """Return a time in UTC; a time without an offset is local.

    Raises :class:`UsageError` for a local time that does not exist or exists twice, and names the two times that may be
    meant. Also raises it for a time so far away that its year in UTC is not a year from 1 to 9999.
    """
    try:
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        first, second = sorted((at.replace(fold=0).astimezone(UTC), at.replace(fold=1).astimezone(UTC)))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{at.isoformat(timespec='minutes')} is too far away", hint="give a time in this century"
        ) from error
    if first == second:
        return first
    twice = first.astimezone().replace(tzinfo=None) == at
    meant = [each.astimezone().isoformat(timespec="minutes") for each in (first, second)]
    said = "exists twice" if twice else "does not exist"
    raise UsageError(
        f"{at.isoformat(timespec='minutes')} {said} here: the clocks change then",
        hint=f"write {meant[0]} or {meant[1]}",
        details={"possible": meant},
    )


def parse_past(text: str, now: datetime) -> datetime:
    """Return a point in time in the past, in UTC: a duration before ``now`` (``30d``), a day, an ISO time, or "now".

    A time of day alone is the last such time. After ``today``, ``yesterday`` or a day of the week a time of day may
    follow, and a day alone means its beginning. A time without an offset is local. Raises :class:`UsageError` for any
    other text, for a time in the future, and for a local time that does not exist or exists twice.
    """
    try:
        at = _parsed(text, now, now, "a duration such as 2h or 30d, 'yesterday 18:00', or 2026-11-24T18:00", past=True)
    except OverflowError:
        at = datetime.min.replace(tzinfo=UTC)
    if at > now:
        raise UsageError(f"{text} is not in the past", hint="write a duration such as 2h, or an earlier time")
    return at


def parse_until(text: str, now: datetime) -> datetime:
    """Return the end of a span, in UTC: ``+12h`` is in the future; other durations and days are in the past.

    Raises :class:`UsageError` for a text that is not a time.
    """
    if text.startswith("+"):
        return parse_moment(text[1:], now)
    try:
        return parse_past(text, now)
    except UsageError:
        return parse_moment(text, now)
