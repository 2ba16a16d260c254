"""The lifecycle as an SVG drawing, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bmhctl.domain.model import Edge, State
from bmhctl.domain.units import plural
from bmhctl.lifecycle.table import MEANING
from bmhctl.output.graph.terminal import DRAWN, EXITS, RING, Marks, returns
from bmhctl.output.graph.text_formats import FONT, NEUTRAL, TONES, stroke
from bmhctl.output.sanitize import clean
from bmhctl.results.why import Graph

_WIDTH, _HEIGHT, _HEADER, _LEGEND = 980, 392, 40, 30
_BOX, _STEP, _LEFT = 156, 244, 46  # a box's width, the distance to the next box, the left end of the first
_ROW = (len(RING) - 1) * _STEP + _BOX  # the width of the upper row
_TOP, _HIGH = 112, 64
_LOW, _LOW_HIGH = 296, 60
_LANE = 34  # the distance of the arrows to and from maintenance from the middle of a box
_TIP = 12  # the distance between the end of a line and its box: the arrowhead and a gap


def svg(graph: Graph) -> Iterator[str]:
    """Yield the lines of the drawing, with the number of hosts in each state, or with the place of one host.

    Every text is escaped, and the drawing loads nothing from elsewhere.
    """
    marks = Marks.of(graph)
    top, height = (-_HEADER, _HEIGHT + _HEADER + _LEGEND) if graph.why else (0, _HEIGHT)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {top} {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" font-family="{FONT}" font-size="14">'
    )
    title = (
        f"{graph.why.host.name} in the lifecycle: {graph.why.host.state}" if graph.why else "The lifecycle of a host"
    )
    yield f"  <title>{_text(title)}</title>"
    yield "  <defs>"
    for colour in (NEUTRAL, *(tone.line for tone in TONES.values())):
        yield (
            f'    <marker id="{_marker(colour)}" viewBox="0 0 10 10" refX="0.5" refY="5" markerWidth="11" '
            f'markerHeight="11" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0,0.5 L10,5 L0,9.5 Z" fill="{colour}"/></marker>'
        )
    yield "  </defs>"
    if graph.why:
        host = graph.why.host
        yield (
            f'  <text x="{_LEFT}" y="-12" font-size="17" font-weight="600" fill="{TONES[host.state].line}">'
            f"{_text(host.name)}</text>"
        )
    for edge in DRAWN:
        if edge.dest is not None:
            yield from _edge(edge, marks)
    yield f'  <circle cx="{_middle(State.INITIAL) - _LANE}" cy="34" r="8" fill="{NEUTRAL}"/>'
    for state in State:
        yield from _state(state, graph, marks)
    exits = ", ".join(edge.source for edge in EXITS if edge.source)
    place = f'x="{_LEFT}" y="{_HEIGHT - 14}"'
    yield f'  <text id="exits" {place} font-size="12" fill="{NEUTRAL}">retire: {exits} → [*]</text>'
    if graph.why:
        words = "bold: came this way · coloured: possible now · grey: not possible now"
        yield f'  <text x="{_LEFT}" y="{_HEIGHT + 12}" font-size="12" fill="{NEUTRAL}">{words}</text>'
    yield "</svg>"


def _state(state: State, graph: Graph, marks: Marks) -> Iterator[str]:
    tone, here = TONES[state], state is marks.here
    ring = state in RING
    x, y, width, height = (_x(state), _TOP, _BOX, _HIGH) if ring else (_LEFT, _LOW, _ROW, _LOW_HIGH)
    middle = x + width / 2
    detail = plural(graph.counts.get(state, 0), "host") if graph.why is None else "here" if here else ""
    yield f'  <g id="state-{state}"><title>{_text(MEANING[state])}</title>'
    if here:
        yield (
            f'    <rect x="{x - 6}" y="{y - 6}" width="{width + 12}" height="{height + 12}" rx="17" fill="none" '
            f'stroke="{tone.line}" stroke-width="2.5"/>'
        )
    yield (
        f'    <rect x="{x}" y="{y}" width="{width}" height="{height}" rx="12" fill="{tone.fill}" '
        f'stroke="{tone.line}" stroke-width="{3 if here else 1.8}"/>'
    )
    line = y + height / 2 + (-3 if detail else 6)
    yield (
        f'    <text x="{middle:g}" y="{line:g}" text-anchor="middle" font-size="17" font-weight="600" '
        f'fill="{tone.text}">{state}</text>'
    )
    if detail:
        yield f'    <text x="{middle:g}" y="{line + 20:g}" text-anchor="middle" fill="{tone.text}">{detail}</text>'
    yield "  </g>"


def _edge(edge: Edge, marks: Marks) -> Iterator[str]:
    colour, width = stroke(edge, marks)
    path, label_x, label_y, anchor = _route(edge, marks)
    yield f'  <g id="edge-{edge.source or "outside"}-{edge.verb}-{edge.dest}"><title>{_text(edge.why)}</title>'
    yield (
        f'    <path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'marker-end="url(#{_marker(colour)})"/>'
    )
    weight = ' font-weight="600"' if (edge.source, edge.dest) in marks.taken else ""
    yield (
        f'    <text x="{label_x:g}" y="{label_y:g}" text-anchor="{anchor}"{weight} fill="{colour}">'
        f"{_text(edge.verb)}</text>"
    )
    yield "  </g>"


def _route(edge: Edge, marks: Marks) -> tuple[str, float, float, str]:
    """Return the path of an edge, and the position and side of its label."""
    source, dest = edge.source, edge.dest
    tip = _TIP + (7 if dest is marks.here else 0)
    tail = 7 if source is not None and source is marks.here else 0
    bottom = _TOP + _HIGH
    label_y = (bottom + _LOW) / 2 + 5
    match source, dest:
        case None, State.INITIAL:
            x = _middle(State.INITIAL) - _LANE
            return f"M{x},42 V{_TOP - tip}", x - 10, 76, "end"
        case State(), State.MAINTENANCE:
            lane, bend = (_LANE, -14) if returns(source) else (0, 0)
            x = _middle(source) - lane
            return _bow(x, bottom + tail, _LOW - tip, bend), x + bend - 6, label_y, "end"
        case State.MAINTENANCE, State():
            x = _middle(dest) + _LANE
            return _bow(x, _LOW - tail, bottom + tip, 14), x + 20, label_y, "start"
        case State(), State() if dest is RING[0] and source is RING[-1]:
            start, end = _middle(source), _middle(dest) + _LANE
            over = f"C{start},66 {start - 37},30 {start - 82},30 H{end + 82} C{end + 37},30 {end},66 {end},{_TOP - tip}"
            return f"M{start},{_TOP - tail} {over}", (start + end) / 2, 20, "middle"
        case State(), State() if RING.index(dest) == RING.index(source) + 1:
            start, end, y = _x(source) + _BOX + tail, _x(dest) - tip, _TOP + _HIGH / 2
            return f"M{start},{y:g} H{end}", (start + end) / 2, y - 9, "middle"
    raise LookupError(f"the drawing has no way from {source} to {dest}")


def _bow(x: int, start: float, end: float, bend: int) -> str:
    third = (end - start) / 3
    return f"M{x},{start} C{x + bend},{start + third:g} {x + bend},{end - third:g} {x},{end}"


def _x(state: State) -> int:
    return _LEFT + RING.index(state) * _STEP


def _middle(state: State) -> int:
    return _x(state) + _BOX // 2


def _marker(colour: str) -> str:
    return f"head-{colour.removeprefix('#')}"


def _text(text: str) -> str:
    return escape(clean(text))
