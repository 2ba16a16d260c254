"""The timeline of hosts, as a Gantt chart in the terminal and as SVG, and leases and bookings as a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from bmhctl.domain.model import State
from bmhctl.output.layout import COLOUR, Line, Span
from bmhctl.output.records import Envelope, Record, document, iso, planned_record
from bmhctl.output.render import LISTED, Display, Format, View
from bmhctl.output.sanitize import cell_width, clean, pad, shorten
from bmhctl.output.spans import packed, runs
from bmhctl.output.time_axis import ticks
from bmhctl.results.statistics import HostTimeline, Stay, Timeline

MARKS = {
    State.INITIAL: "○",
    State.AVAILABLE: "·",
    State.RESERVED: "█",
    State.TAINTED: "✗",
    State.MAINTENANCE: "■",
}
"""The mark of each state in the chart. The marks differ even without colours."""

_AHEAD = "░"
BOOKED, PLANNED = ("◇", "cyan"), ("□", COLOUR[State.MAINTENANCE])
"""The marks of time that is set aside, for a booking and for a planned maintenance."""

_NOW = "│"
_WIDEST = 240
_LONGEST_NAME = 24  # cells for a name; on a wide line a quarter of it
_LEAST_CHART = 20  # cells
_LABEL = 12  # cells or more between two ticks


def _lines(result: Timeline, display: Display) -> Iterator[Line]:
    if not result.hosts:
        return
    width = min(display.width, _WIDEST) if display.is_table else 120
    longest = max((cell_width(clean(row.host)) for row in result.hosts), default=0)
    names = max(4, min(max(_LONGEST_NAME, width // 4), width - 2 - _LEAST_CHART, longest))
    room = max(_LEAST_CHART, width - names - 2)
    length = (result.until - result.since) / room
    now = int((result.now - result.since) / length)
    yield [(f"{result.now.astimezone():%Z}".ljust(names)[:names] + "  ", "dim"), (_axis(result, room), "dim")]
    for row in result.hosts:
        name = pad(_short_name(clean(row.host), names), names)
        yield [(f"{name}  ", "bold"), *_chart(row, result, room, length, now)]
    yield []
    yield from _legend(result, width)


def _short_name(name: str, room: int) -> str:
    """Return a name in ``room`` cells: leave out the part after its first dot, and if necessary its middle."""
    host = name.partition(".")[0]
    if cell_width(name) <= room or cell_width(host) < room:
        return shorten(name, room)
    tail = (room - 1) // 2
    return shorten(host, room - tail) + host[len(host) - tail :]


def _legend(result: Timeline, width: int) -> Iterator[Line]:
    """Yield the meaning of the marks, in one or more lines; marks of bookings are left out if there are no bookings."""
    planned = [each for row in result.hosts for each in row.planned]
    marks = [((mark, COLOUR[state]), state.value) for state, mark in MARKS.items()]
    marks.append(((_AHEAD, COLOUR[State.RESERVED]), "leased"))
    if any(each.is_booking for each in planned):
        marks.append((BOOKED, "booked"))
    if any(not each.is_booking for each in planned):
        marks.append((PLANNED, "planned maintenance"))
    marks.append(((_NOW, "bold"), "now"))
    yield from packed(([mark, (f" {words}", "dim")] for mark, words in marks), "  ", width)


def _axis(result: Timeline, room: int) -> str:
    line = [" "] * (room + _LABEL)
    span = (result.until - result.since).total_seconds()
    for at, label in ticks(result.since, result.until, room // _LABEL):
        start = round((at - result.since).total_seconds() / span * room)
        if start + len(label) <= room:
            line[start : start + len(label) + 1] = [*label, " "]
    return "".join(line[:room]).rstrip()


def _chart(row: HostTimeline, result: Timeline, room: int, length: timedelta, now: int) -> Iterator[Span]:
    """Return runs of equal cells. A cell shows the state in which the host was longest, or the present moment."""
    cells = [(" ", "")] * room
    longest = [0.0] * room
    for stay in row.stays:
        first, last = (stay.start - result.since) / length, (stay.end - result.since) / length
        for cell in range(int(first), min(room, int(last) + 1)):
            share = min(last, cell + 1) - max(first, cell)
            if share > longest[cell]:
                longest[cell], cells[cell] = share, (MARKS[stay.state], COLOUR[stay.state])
    if row.owner is not None:
        end = room if row.lease_end is None else int((row.lease_end - result.since) / length) + 1
        for cell in range(max(0, now), min(room, end)):
            if cells[cell][0] == " ":
                cells[cell] = (_AHEAD, COLOUR[State.RESERVED])
    for planned in row.planned:
        start, end = (int((at - result.since) / length) for at in (planned.starts_at, planned.ends_at))
        for cell in range(max(0, now, start), min(room, max(end, start + 1))):
            cells[cell] = BOOKED if planned.is_booking else PLANNED
    if 0 <= now < room:
        cells[now] = (_NOW, "bold")
    return runs(cells)


def _stay_record(stay: Stay) -> Record:
    return {"start": iso(stay.start), "end": iso(stay.end), "state": stay.state.value, "owner": stay.owner}


def _host_record(row: HostTimeline) -> Record:
    return {
        "host": row.host,
        "owner": row.owner,
        "lease_end": iso(row.lease_end) if row.lease_end else None,
        "planned": [*map(planned_record, row.planned)],
        "stays": [*map(_stay_record, row.stays)],
    }


def _document(result: Timeline, _: tuple[str, ...] | None) -> Envelope:
    head: Record = {"now": iso(result.now), "since": iso(result.since), "until": iso(result.until)}
    return document("timeline", head, "hosts", map(_host_record, result.hosts))


def _rows(result: Timeline) -> Iterator[Record]:
    for row in result.hosts:
        yield from ({"host": row.host, **_stay_record(stay)} for stay in row.stays)


_FIELDS = ("host", "start", "end", "state", "owner")


def _svg(result: Timeline, _: Display) -> Iterable[str]:
    from bmhctl.output.graph.timeline_svg import svg

    return [svg(result)]


def _calendar(result: Timeline, _: Display) -> Iterable[str]:
    from bmhctl.output.calendar import calendar

    return [calendar(result.leases, result.now, result.inventory, result.planned)]


VIEWS = {
    Timeline: View(
        (*LISTED, Format.SVG, Format.ICS),
        plain=_FIELDS,
        csv=_FIELDS,
        records=_rows,
        document=_document,
        lines=_lines,
        empty=lambda _: "no hosts: bmhctl list shows all",
        writers={Format.SVG: _svg, Format.ICS: _calendar},
    )
}
