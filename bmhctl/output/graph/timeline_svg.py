"""Where hosts were as an SVG drawing, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape

from bmhctl.domain.model import State
from bmhctl.output.graph.text_formats import NEUTRAL, TONES
from bmhctl.output.records import stamp
from bmhctl.output.sanitize import clean
from bmhctl.output.time_axis import ticks
from bmhctl.results import HostTimeline, Timeline

_LEFT, _WIDTH, _ROW, _BAR, _TOP, _BOTTOM = 170, 830, 22, 14, 34, 40
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def svg(timeline: Timeline) -> str:
    """Return the drawing; every text is escaped, nothing is loaded from elsewhere."""
    return "".join(f"{line}\n" for line in _svg(timeline))


def _svg(timeline: Timeline) -> Iterator[str]:
    bottom = _TOP + _ROW * len(timeline.hosts)
    width, height = _LEFT + _WIDTH + 20, bottom + _BOTTOM
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{_FONT}" font-size="12">'
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
    for state in State:
        yield f'  <rect x="{x}" y="{bottom + 14}" width="12" height="12" rx="2" {_paint(state)}/>'
        yield f'  <text x="{x + 18}" y="{bottom + 24}" fill="{NEUTRAL}">{state}</text>'
        x += 110
    yield "</svg>"


def _row(timeline: Timeline, row: HostTimeline, top: int) -> Iterator[str]:
    yield (
        f'  <text x="{_LEFT - 10}" y="{top + _BAR}" fill="{NEUTRAL}" text-anchor="end">{_text(row.host, 22)}'
        f"<title>{_text(row.host)}</title></text>"
    )
    for stay in row.stays:
        x, end = _x(timeline, stay.start), _x(timeline, stay.end)
        owner = f" by {stay.owner}" if stay.owner else ""
        words = f"{row.host}: {stay.state}{owner}, {stamp(stay.start)} to {stamp(stay.end)}"
        yield (
            f'  <rect x="{x}" y="{top + 3}" width="{max(0.5, round(end - x, 1))}" height="{_BAR}" '
            f"{_paint(stay.state)}><title>{_text(words)}</title></rect>"
        )
    if row.owner is not None and timeline.now < timeline.until:
        end_of_lease = timeline.until if row.lease_end is None else min(row.lease_end, timeline.until)
        x, end = _x(timeline, timeline.now), _x(timeline, end_of_lease)
        if end > x:
            words = f"{row.host}: leased to {row.owner}" + (f" until {stamp(row.lease_end)}" if row.lease_end else "")
            yield (
                f'  <rect x="{x}" y="{top + 3}" width="{round(end - x, 1)}" height="{_BAR}" '
                f'{_paint(State.RESERVED)} fill-opacity="0.35" stroke-dasharray="3 3">'
                f"<title>{_text(words)}</title></rect>"
            )


def _paint(state: State) -> str:
    tone = TONES[state]
    return f'fill="{tone.fill}" stroke="{tone.line}"'


def _x(timeline: Timeline, at: datetime) -> float:
    share = (at - timeline.since) / (timeline.until - timeline.since)
    return round(_LEFT + _WIDTH * min(1.0, max(0.0, share)), 1)


def _text(text: str, most: int = 10**6) -> str:
    shown = clean(text)
    return escape(shown if len(shown) <= most else shown[: most - 1] + "…")
