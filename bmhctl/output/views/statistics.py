"""The figures of the fleet with bars, and the use of each hour of the week as a heat map."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from bmhctl.domain.model import State
from bmhctl.domain.units import format_age, plural
from bmhctl.output.layout import COLOUR, GLYPH, UNLIMITED, Column, Line, Listing, Span, listing, table
from bmhctl.output.records import Fields, Json, Record, attributes, attributes_record, iso, record_of
from bmhctl.output.render import LISTED, Display, View
from bmhctl.output.spans import DAYS, heat_level, heat_step, joined
from bmhctl.results.statistics import BookingFigures, Figures, HourlyUse, Statistics, Waits
from bmhctl.support.values import replace

_STATES = (State.RESERVED, State.AVAILABLE, State.TAINTED, State.MAINTENANCE, State.INITIAL)
_BAR = 24  # cells of a bar in the summary
_BESIDE_BAR = 47  # cells of a line of the summary
_SMALL_BAR = 10  # cells of a bar in a row
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEAT = (("░", "blue"), ("▒", "green"), ("▓", "yellow"), ("█", "red"))
_LEFT = 5  # cells for the name of a day

_SORTED = {"waits": "WAIT", **dict.fromkeys(("tasks", "checks", "cleanups"), "FAILED"), "repair": "MTTR"}
"""The titles of columns for which ``--sort`` has another name."""


def _lines(result: Statistics, display: Display) -> Iterator[Line]:
    width = display.width if display.is_table else None
    yield [
        (_window(result.since, result.until), "bold"),
        (f"  {format_age(result.until - result.since)} · ", ""),
        (plural(result.total.hosts or 0, "host"), ""),
    ]
    yield []
    yield from _summary(result.total, width or UNLIMITED)
    if result.by is not None:
        yield []
        least = None if result.by == "host" else 12  # names that are cut might look the same
        key = result.sort or ""
        always = _SORTED.get(key, key.upper())
        name = Column(result.by.rpartition(":")[2].upper(), 0, least)
        figures = ((replace(head, rank=0) if head.title.strip() == always else head, cell) for head, cell in _COLUMNS)
        shown: Listing[Figures, str] = ((name, lambda each, _: [(each.name, "bold")]), *figures)
        yield from listing(shown, result.groups, result.by, width or UNLIMITED)


def _window(since: datetime, until: datetime) -> str:
    """Return a window in the local zone: by its days, and for less than three days also by its times."""
    form = "%Y-%m-%d %H:%M" if until - since < timedelta(days=3) else "%Y-%m-%d"
    return f"{since.astimezone():{form}} – {until.astimezone():{form}}"


def _summary(total: Figures, width: int) -> Iterator[Line]:
    room = width - _BESIDE_BAR
    for state in _STATES:
        share = total.share(state) or 0.0
        yield [
            (f"{GLYPH[state]} {state.value:<12} ", COLOUR[state]),
            (_bar(share, min(_BAR, room)) if room > 0 else "", COLOUR[state]),
            (f" {share:6.1%}  {total.seconds.get(state, 0.0) / 3600:>12,.1f}", ""),
            (" host-hours" if room >= 0 else " h", ""),
        ]
    yield []
    waits = total.waits
    told: dict[str, str] = {
        "reservations": f"{total.reservations:,}",
        "waits": f"median {_short(waits.median)}, 95 % within {_short(waits.p95)}, longest {_short(waits.longest)}"
        + (f" (known of {waits.known:,})" if waits.known != total.reservations else "")
        if waits
        else "not known",
        "failed": ", ".join(plural(number, word) for word, number in _failed(total).items()),
        "faults": f"{total.faults or 0:,}",
        "failures": f"{total.failures or 0:,}"
        + (f", mean time between failures {_short(total.mean_between_failures)}" if total.mean_between_failures else "")
        + (f", mean repair time {_short(total.mean_repair)}" if total.mean_repair else ""),
    }
    if total.bookings != BookingFigures():
        told["bookings"] = _booked(total.bookings or BookingFigures())
    yield from table((word, [(text, "")]) for word, text in told.items())


def _booked(found: BookingFigures) -> str:
    share = "" if found.share is None else f", {found.share:.1%} of it used"
    return (
        f"{found.made:,} made, {found.taken:,} taken, {found.lapsed:,} lapsed, {found.cancelled:,} cancelled; "
        f"{found.booked / 3600:,.1f} host-hours booked{share}"
    )


def _failed(each: Figures) -> dict[str, int]:
    """Return how many tasks, checks and cleanups failed, by their name in the singular."""
    numbers = (each.failed_tasks, each.failed_checks, each.failed_cleanups)
    return {word: number or 0 for word, number in zip(("task", "check", "cleanup"), numbers, strict=True)}


def _number(number: int, title: str) -> str:
    """Return a number padded to the width of its column's title, so that the numbers are aligned."""
    return f"{number:>{len(title)},}"


def _hosts(each: Figures, by: str) -> Line:
    return [] if each.hosts is None or by == "host" else [(_number(each.hosts, "HOSTS"), "")]


def _utilisation(each: Figures, _: str) -> Line:
    share = each.utilisation
    return [] if share is None else [(_bar(share, _SMALL_BAR), COLOUR[State.RESERVED]), (f" {share:6.1%}", "")]


def _failures(each: Figures, _: str) -> Line:
    return [(", ".join(plural(number, word) for word, number in _failed(each).items() if number), "red")]


_COLUMNS: Listing[Figures, str] = (
    (Column("HOSTS", 3), _hosts),
    (Column("UTILISATION", 1), _utilisation),
    (Column("    HOURS", 2), lambda each, _: [(f"{each.seconds.get(State.RESERVED, 0.0) / 3600:>9,.1f}", "")]),
    (Column("RESERVATIONS", 2), lambda each, _: [(_number(each.reservations, "RESERVATIONS"), "")]),
    (Column("WAIT", 4), lambda each, _: [(_short(each.waits.median if each.waits else None), "")]),
    (Column("FAILED", 3, 16), _failures),
    (Column("FAULTS", 3), lambda each, _: [(_number(each.faults, "FAULTS"), "red")] if each.faults else []),
    (Column("FAILURES", 4), lambda each, _: [(_number(each.failures, "FAILURES"), "red")] if each.failures else []),
    (Column("MTBF", 5), lambda each, _: [(_short(each.mean_between_failures), "")]),
    (Column("MTTR", 5), lambda each, _: [(_short(each.mean_repair), "")]),
)


def _short(length: timedelta | None) -> str:
    return "" if length is None else format_age(length)


def _bar(share: float, width: int) -> str:
    """Return a share of 1 as a bar, to an eighth of a cell; any share above zero is visible."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    eighths = max(eighths, 1) if share > 0 else 0
    full, rest = divmod(eighths, 8)
    return (_EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")).ljust(width, "·")


def _heat(result: HourlyUse, display: Display) -> Iterator[Line]:
    yield [
        (_window(result.since, result.until), "bold"),
        ("  reserved hosts in % by weekday and hour", ""),
    ]
    yield []
    wide = not display.is_table or display.width >= _LEFT + 24 * 4
    cell = 4 if wide else next((cell for cell in (3, 2) if display.width >= _LEFT + 24 * cell), 1)
    week = [[result.share(day, hour) for hour in range(24)] for day in range(7)]
    step = heat_step(share for day in week for share in day)
    if cell > 1:
        hours = [f"{hour:>{cell}}" if wide or hour % 2 == 0 else " " * cell for hour in range(24)]
    else:
        hours = [f"{hour:<6}" for hour in range(0, 24, 6)]
    yield [(f"{'':{_LEFT}}" + "".join(hours), "dim")]
    for word, shares in zip(DAYS, week, strict=True):
        yield [(f"{word:<{_LEFT}}", "bold"), *(_cell(share, step, cell) for share in shares)]
        if wide:
            numbers = ("" if share is None else f"{share * 100:.0f}" for share in shares)
            yield [(" " * _LEFT + "".join(f"{number:>{cell}}" for number in numbers), "dim")]
    yield []
    legend = [(f"{mark * 2} to {(level + 1) * step} %", style) for level, (mark, style) in enumerate(_HEAT)]
    unknown = [("· not known", "dim")] if any(share is None for day in week for share in day) else []
    yield joined([*legend, *unknown], "   ")


def _cell(share: float | None, step: int, width: int) -> Span:
    """Return one hour in the shade of its share; ``step`` is the percent from one shade to the next."""
    if share is None:
        return "·".rjust(width), "dim"
    if share <= 0:
        return " " * width, ""
    mark, style = _HEAT[heat_level(share, step) - 1]
    return mark * width, style


_LENGTHS = ("median", "p95", "longest")
_BOOKED = ("made", "taken", "lapsed", "cancelled")


def _waits(found: Waits | None) -> Record | None:
    if found is None:
        return None
    return {"known": found.known, **{name: getattr(found, name).total_seconds() for name in _LENGTHS}}


def _bookings(found: BookingFigures | None) -> Record | None:
    if found is None:
        return None
    return {
        **attributes_record(found, _BOOKED),
        "booked": round(found.booked),
        "used": round(found.used),
        "share": _rounded(found.share),
    }


def _rounded(share: float | None) -> Json:
    return None if share is None else round(share, 4)


def _seconds(length: timedelta | None) -> Json:
    return None if length is None else round(length.total_seconds())


_FIELDS: Fields[Figures] = {
    **attributes("name", "hosts"),
    "utilisation": lambda each, _: _rounded(each.utilisation),
    "seconds": lambda each, _: {state.value: round(each.seconds.get(state, 0.0)) for state in State},
    **attributes("reservations"),
    "waits": lambda each, _: _waits(each.waits),
    **attributes("failed_tasks", "failed_checks", "failed_cleanups", "faults", "failures"),
    "mean_between_failures": lambda each, _: _seconds(each.mean_between_failures),
    "mean_repair": lambda each, _: _seconds(each.mean_repair),
    "bookings": lambda each, _: _bookings(each.bookings),
}
"""The figures of a group: times in seconds, shares of 1, null for what is not known or does not apply."""


def _span(result: Statistics | HourlyUse) -> Record:
    return {"now": iso(result.now), "since": iso(result.since), "until": iso(result.until)}


def _hour_record(result: HourlyUse, day: int, hour: int) -> Record:
    reserved, present = result.cells.get((day, hour), (0.0, 0.0))
    return {
        "weekday": DAYS[day],
        "hour": hour,
        "reserved": round(reserved),
        "present": round(present),
        "utilisation": _rounded(result.share(day, hour)),
    }


_HOUR_FIELDS = ("weekday", "hour", "reserved", "present", "utilisation")


VIEWS = {
    Statistics: View(
        LISTED,
        tuple(_FIELDS),
        tuple(_FIELDS),
        objects={
            "seconds": tuple(state.value for state in State),
            "waits": ("known", *_LENGTHS),
            "bookings": (*_BOOKED, "booked", "used", "share"),
        },
        kind="stats",
        key="groups",
        head=lambda result: {**_span(result), "by": result.by, "total": record_of(result.total, _FIELDS, result.now)},
        records=lambda result: (
            record_of(each, _FIELDS, result.now) for each in ((result.total,) if result.by is None else result.groups)
        ),
        lines=_lines,
    ),
    HourlyUse: View(
        LISTED,
        _HOUR_FIELDS,
        _HOUR_FIELDS,
        kind="hourly",
        key="hours",
        head=_span,
        records=lambda result: (_hour_record(result, day, hour) for day in range(7) for hour in range(24)),
        lines=_heat,
    ),
}
