"""The lifecycle drawn in a terminal: a box for each state, an arrow for each edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from bmhctl.domain.model import Edge, Event, State
from bmhctl.lifecycle.table import EDGES
from bmhctl.output.layout import COLOUR, GLYPH, Line, Span, transition_spans
from bmhctl.output.sanitize import cell_width
from bmhctl.output.spans import answer_lines, heading
from bmhctl.results.why import Graph
from bmhctl.support.values import Frozen

DRAWN = tuple(edge for edge in EDGES if edge.drawn)

EXITS = tuple(edge for edge in DRAWN if edge.dest is None)
"""The edges out of the inventory. A line names them instead of arrows, because nearly every state has one."""

RING = (State.INITIAL, State.AVAILABLE, State.RESERVED, State.TAINTED)
"""The states in the upper row; the box of maintenance is below all of them."""

Way = tuple[State | None, State | None]


class Marks(Frozen):
    """The marks for one host in a drawing: its state, the edges that it took, and the edges that are possible now.

    Without a host ``here`` is None and every edge counts as open.
    """

    here: State | None
    taken: tuple[Way, ...]
    open: frozenset[Way]

    @classmethod
    def of(cls, graph: Graph) -> Marks:
        """Return the marks for the host of a graph."""
        if graph.why is None:
            return cls(None, (), frozenset((e.source, e.dest) for e in DRAWN))
        here = graph.why.host.state
        verbs = {answer.verb: answer for answer in graph.why.answers if answer.open is not False}
        ways = [(e.source, e.dest) for e in DRAWN if e.source is here and e.verb in verbs]
        sure = {answer.dest for answer in verbs.values() if answer.dest}
        return cls(here, trail(graph.events), frozenset(way for way in ways if not sure or way[1] in (*sure, None)))


def trail(events: Sequence[Event]) -> tuple[Way, ...]:
    """Return the moves of a host since it was last initial, or since it was added."""
    moves: list[Way] = []
    for event in events:
        if event.source is event.dest:
            continue
        if event.source in (None, State.INITIAL):
            moves = [way for way in moves[-1:] if way[1] is State.INITIAL]
        moves.append((event.source, event.dest))
    return tuple(moves)


def drawing(graph: Graph, width: int) -> Iterator[Line]:
    """Yield the lines of the lifecycle, with counts or with the place of one host.

    If ``width`` is too narrow for the drawing, yield a list of the edges.
    """
    marks = Marks.of(graph)
    if graph.why:
        yield from heading(graph.why.host, graph.why.now)
        yield []
    layout = _Layout.within(width)
    yield from layout.draw(graph, marks) if layout else _listed(graph, marks)
    if layout:
        yield exit_line(marks)
    if graph.why:
        yield []
        yield [("  ━━ came this way   ", "dim"), ("▶", "bold"), (" possible now   ▷ not possible now", "dim")]
        yield []
        yield [("  ", ""), (graph.why.summary, "")]
        if marks.taken:
            yield []
            yield [("  ", ""), *_told(marks.taken)]
        yield []
        yield from answer_lines(graph.why.answers)
        if graph.why.next:
            yield []
            yield [("next  ", "bold"), (graph.why.next, "bold cyan")]


def exit_line(marks: Marks) -> Line:
    """Return the line with the states from which a host may be retired."""
    states = [edge.source for edge in EXITS if edge.source]
    line: list[Span] = [("  retire: ", "dim")]
    for state in states:
        style = COLOUR[state] if (state, None) in marks.open else "dim"
        line += [(state.value, style), (", " if state is not states[-1] else " → [*]", "dim")]
    return line


def _told(ways: Sequence[Way]) -> Line:
    line = list(transition_spans(*ways[0]))
    for _, dest in ways[1:]:
        line += transition_spans(None, dest)[1:]
    return line


def _listed(graph: Graph, marks: Marks) -> Iterator[Line]:
    for state in State:
        where = "  here" if state is marks.here else ""
        count = "" if marks.here else f"  {graph.counts.get(state, 0)}"
        yield [(f"{GLYPH[state]} {state}{count}", COLOUR[state]), (where, "bold")]
    yield []
    for edge in DRAWN:
        way = (edge.source, edge.dest)
        signs = ("━" if way in marks.taken else " ") + (
            " " if marks.here is None else "▶" if way in marks.open else "▷"
        )
        yield [(f"{signs} {edge.verb:<9}", "bold" if way in marks.open else "dim"), *transition_spans(*way)]


Point = tuple[int, int]

_LIGHT = dict(zip(("lr", "du", "dr", "dl", "ru", "lu"), "─│╭╮╰╯", strict=True))
_HEAVY = dict(zip(("lr", "du", "dr", "dl", "ru", "lu"), "━┃┏┓┗┛", strict=True))
_SINGLE_BOX, _DOUBLE_BOX = "─│╭╮╰╯├┬┴", "═║╔╗╚╝╟╤╧"
_HEADS = {"r": "▶▷", "d": "▼▽", "u": "▲△"}
_OPPOSITE = {"l": "r", "r": "l", "u": "d", "d": "u"}


class _Canvas:
    """A grid of styled characters."""

    def __init__(self) -> None:
        self.cells: dict[Point, Span] = {}

    def text(self, x: int, y: int, text: str, style: str) -> None:
        for i, c in enumerate(text):
            self.cells[x + i, y] = (c, style)

    def centred(self, x: int, y: int, text: str, style: str) -> None:
        self.text(x - cell_width(text) // 2, y, text, style)

    def box(self, x: int, y: int, width: int, height: int, style: str, chars: str) -> None:
        across, along, top_left, top_right, low_left, low_right, *_ = list(chars)
        self.text(x, y, top_left + across * (width - 2) + top_right, style)
        for row in range(y + 1, y + height - 1):
            self.text(x, row, along, style)
            self.text(x + width - 1, row, along, style)
        self.text(x, y + height - 1, low_left + across * (width - 2) + low_right, style)

    def arrow(self, points: Sequence[Point], style: str, *, heavy: bool, solid: bool) -> None:
        """Draw a line through the corners: from the border of a box (the first point) to the arrowhead (the last)."""
        chars = _HEAVY if heavy else _LIGHT
        steps = list(_steps(points))
        for (x, y, come), (_, _, go) in pairwise(steps):
            self.text(x, y, chars["".join(sorted((_OPPOSITE[come], go)))], style)
        x, y, come = steps[-1]
        self.text(x, y, _HEADS[come][0 if solid else 1], style)

    def lines(self) -> Iterator[Line]:
        for y in range(1 + max(y for _, y in self.cells)):
            width = 1 + max((x for x, row in self.cells if row == y), default=-1)
            yield [self.cells.get((x, y), (" ", "")) for x in range(width)]


def _steps(points: Sequence[Point]) -> Iterator[tuple[int, int, str]]:
    """Yield each cell of a line after the first point, with the direction in which the line enters the cell."""
    for (x, y), (to_x, to_y) in pairwise(points):
        dx, dy = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
        while (x, y) != (to_x, to_y):
            x, y = x + dx, y + dy
            yield x, y, "r" if dx > 0 else "l" if dx < 0 else "d" if dy > 0 else "u"


_TOP, _HIGH, _LOW = 3, 4, 11  # the line of the boxes, their height, the line of maintenance


class _Layout(Frozen):
    """Four boxes in a row, maintenance below them, recycling above them."""

    box: int
    gaps: tuple[int, int, int]

    @classmethod
    def within(cls, width: int) -> _Layout | None:
        """Return the widest layout that fits; None if none fits."""
        sizes = (cls(17, (17, 17, 17)), cls(15, (12, 12, 12)), cls(13, (8, 9, 8)))
        return next((size for size in sizes if size.right <= width), None)

    @property
    def right(self) -> int:
        return self.left(State.TAINTED) + self.box

    def left(self, state: State) -> int:
        before = RING.index(state)
        return 2 + before * self.box + sum(self.gaps[:before])

    def lane(self, state: State, side: int) -> int:
        """Return the column of the arrow to the left (-1) or right (1) of the middle of a box."""
        return self.left(state) + self.box // 2 + 4 * side

    def draw(self, graph: Graph, marks: Marks) -> Iterator[Line]:
        canvas = _Canvas()
        canvas.centred(self.lane(State.INITIAL, -1), 0, "[*]", "dim")
        for state in State:
            self._state(canvas, state, graph, marks)
        for edge in DRAWN:
            if edge.dest is not None:
                self._edge(canvas, edge, marks)
        return canvas.lines()

    def _state(self, canvas: _Canvas, state: State, graph: Graph, marks: Marks) -> None:
        here = state is marks.here
        style = f"bold {COLOUR[state]}" if here else COLOUR[state]
        chars = _DOUBLE_BOX if here else _SINGLE_BOX
        detail = (
            f"{GLYPH[state]} here"
            if here
            else GLYPH[state]
            if marks.here
            else f"{GLYPH[state]} {graph.counts.get(state, 0)}"
        )
        if state in RING:
            canvas.box(self.left(state), _TOP, self.box, _HIGH, style, chars)
            middle = self.left(state) + self.box // 2
            canvas.centred(middle, _TOP + 1, state.value, style)
            canvas.centred(middle, _TOP + 2, detail, style)
        else:
            canvas.box(2, _LOW, self.right - 2, 3, style, chars)
            canvas.centred(self.right // 2 + 1, _LOW + 1, f"{state}  {detail}", style)

    def _edge(self, canvas: _Canvas, edge: Edge, marks: Marks) -> None:
        way = (edge.source, edge.dest)
        taken, is_open = way in marks.taken, way in marks.open
        style = COLOUR[edge.dest] if edge.dest and (taken or is_open) else "dim"
        style = f"bold {style}" if marks.here and (taken or is_open) else style
        points, (label_x, label_y), tee = self._route(edge)
        canvas.arrow(points, style, heavy=taken, solid=is_open)
        canvas.centred(label_x, label_y, f" {edge.verb} " if label_y == 0 else edge.verb.value, style)
        if edge.source:
            x, y = points[0]
            border = _DOUBLE_BOX if edge.source is marks.here else _SINGLE_BOX
            canvas.text(x, y, border[tee], canvas.cells[x, y][1])

    def _route(self, edge: Edge) -> tuple[Sequence[Point], Point, int]:
        """Return the corners of an edge from its border to its head, the middle of its label, and its tee."""
        source, dest = edge.source, edge.dest
        bottom = _TOP + _HIGH - 1
        label_y = (bottom + _LOW) // 2
        match source, dest:
            case None, State.INITIAL:
                x = self.lane(State.INITIAL, -1)
                return [(x, 0), (x, _TOP - 1)], (x, 1), 0
            case State(), State.MAINTENANCE:
                x = self.lane(source, -1 if returns(source) else 0)
                return [(x, bottom), (x, _LOW - 1)], (x, label_y), 7
            case State.MAINTENANCE, State():
                x = self.lane(dest, 1)
                return [(x, _LOW), (x, bottom + 1)], (x, label_y), 8
            case State(), State() if dest is RING[0] and source is RING[-1]:
                start, end = self.lane(source, 0), self.lane(dest, 1)
                return [(start, _TOP), (start, 0), (end, 0), (end, _TOP - 1)], ((start + end) // 2, 0), 8
            case State(), State() if RING.index(dest) == RING.index(source) + 1:
                start, end = self.left(source) + self.box - 1, self.left(dest) - 1
                return [(start, _TOP + 2), (end, _TOP + 2)], ((start + end) // 2 + 1, _TOP + 1), 6
        raise LookupError(f"the drawing has no way from {source} to {dest}")


def returns(state: State) -> bool:
    """Return whether an edge leads from maintenance back to a state: then the state's box has two arrows below."""
    return any(edge.source is State.MAINTENANCE and edge.dest is state for edge in DRAWN)
