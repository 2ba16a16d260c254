"""The timeline of hosts as an SVG drawing, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape

from bmhctl.domain.model import State
from bmhctl.output.graph.text_formats import FONT, NEUTRAL, TONES
from bmhctl.output.sanitize import clean, shorten
from bmhctl.output.spans import stamp
from bmhctl.output.time_axis import ticks
from bmhctl.results.statistics import HostTimeline, Timeline

_LEFT, _WIDTH, _ROW, _BAR, _TOP, _BOTTOM = 170, 830, 22, 14, 34, 40


def svg(timeline: Timeline) -> str:
    """Return the drawing. Every text is escaped, and the drawing loads nothing from elsewhere."""
    return "".join(f"{line}\n" for line in _svg(timeline))


def _svg(timeline: Timeline) -> Iterator[str]:
    bottom = _TOP + _ROW * len(timeline.hosts)
    width, height = _LEFT + _WIDTH + 20, bottom + _BOTTOM
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{FONT}" font-size="12">'
    )
    yield f"  <title>Hosts from {stamp(timeline.since)} to {stamp(timeline.until)}</title>"
    for at, label in ticks(timeline.since, timeline.until, 8):
        x = _x(timeline, at)
        yield f'  <line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom}" stroke="{NEUTRAL}" stroke-opacity="0.25"/>'
        yield f'  <text x="{x}" y="{_TOP - 12}" fill="{NEUTRAL}" text-anchor="middle">{label}</text>'
    for place, row in enumerate(timeline.hosts):
        yield from _row(timeline, row, _TOP + _ROW * place)
    if timeline.since <= timeline.now <= timeline.until:
        x = _x(timeline, timeline.now)
        yield f'  <line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom}" stroke="{NEUTRAL}" stroke-width="2"/>'
    x = _LEFT
    for words, paint in _legend(timeline):
        yield f'  <rect x="{x}" y="{bottom + 14}" width="12" height="12" rx="2" {paint}/>'
        yield f'  <text x="{x + 18}" y="{bottom + 24}" fill="{NEUTRAL}">{words}</text>'
        x += 34 + 7 * len(words)
    yield "</svg>"


def _legend(timeline: Timeline) -> Iterator[tuple[str, str]]:
    yield from ((state.value, _paint(state)) for state in State)
    if any(row.owner is not None for row in timeline.hosts):
        yield "leased", _AHEAD
    planned = [each for row in timeline.hosts for each in row.planned]
    if any(each.is_booking for each in planned):
        yield "booked", _BOOKED
    if any(not each.is_booking for each in planned):
        yield "planned maintenance", _PLANNED


def _row(timeline: Timeline, row: HostTimeline, top: int) -> Iterator[str]:
    name = escape(shorten(clean(row.host), 22))
    yield (
        f'  <text x="{_LEFT - 10}" y="{top + _BAR}" fill="{NEUTRAL}" text-anchor="end">{name}'
        f"<title>{_text(row.host)}</title></text>"
    )
    for stay in row.stays:
        owner = f" by {stay.owner}" if stay.owner else ""
        words = f"{row.host}: {stay.state}{owner}, {stamp(stay.start)} to {stamp(stay.end)}"
        yield _rectangle(timeline, stay.start, stay.end, top, _paint(stay.state), words)
    if row.owner is not None:
        words = f"{row.host}: leased to {row.owner}" + (f" until {stamp(row.lease_end)}" if row.lease_end else "")
        yield from _ahead(timeline, timeline.now, row.lease_end or timeline.until, top, _AHEAD, words)
    for each in row.planned:
        what, paint = (f"booked by {each.owner}", _BOOKED) if each.is_booking else ("planned maintenance", _PLANNED)
        words = f"{row.host}: {what} ({each.id}), {stamp(each.starts_at)} to {stamp(each.ends_at)}"
        yield from _ahead(timeline, each.starts_at, each.ends_at, top, paint, words)


def _ahead(timeline: Timeline, starts: datetime, ends: datetime, top: int, paint: str, words: str) -> Iterator[str]:
    """Yield the rectangle of a lease or booking, for the part of its future that is within the drawing."""
    starts, ends = max(starts, timeline.now, timeline.since), min(ends, timeline.until)
    if starts < ends:
        yield _rectangle(timeline, starts, ends, top, paint, words)


def _rectangle(timeline: Timeline, start: datetime, end: datetime, top: int, paint: str, words: str) -> str:
    x = _x(timeline, start)
    return (
        f'  <rect x="{x}" y="{top + 3}" width="{max(0.5, round(_x(timeline, end) - x, 1))}" height="{_BAR}" {paint}>'
        f"<title>{_text(words)}</title></rect>"
    )


def _paint(state: State) -> str:
    tone = TONES[state]
    return f'fill="{tone.fill}" stroke="{tone.line}"'


# Future times have no state yet: leases are half transparent, bookings and planned maintenances are hollow.
_AHEAD = f'{_paint(State.RESERVED)} fill-opacity="0.35" stroke-dasharray="3 3"'
_BOOKED = 'fill="none" stroke="#0891b2" stroke-width="2"'
_PLANNED = f'fill="none" stroke="{TONES[State.MAINTENANCE].line}" stroke-width="2"'


def _x(timeline: Timeline, at: datetime) -> float:
    share = (at - timeline.since) / (timeline.until - timeline.since)
    return round(_LEFT + _WIDTH * min(1.0, max(0.0, share)), 1)


def _text(text: str) -> str:
    return escape(clean(text))
