"""Every drawing has every edge of the lifecycle's table that is drawn; the tests read the drawings back."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bmhctl.domain.model import State, Verb
from bmhctl.lifecycle.table import EDGES
from bmhctl.output import Format, render
from bmhctl.output.graph import svg, terminal
from bmhctl.output.graph.terminal import Marks, trail
from bmhctl.results.why import Graph
from tests.output.samples import (
    COUNTS,
    EVENTS,
    GRAPH,
    HOST_GRAPH,
    HOSTILE,
    MAINTENANCE_EVENTS,
    MAINTENANCE_GRAPH,
    WHY,
    display,
    host,
    spec,
)

SOURCE = """\
stateDiagram-v2
    [*] --> Initial
    Initial --> Available: Host is ready
    Available --> Reserved: Host is allocated
    Reserved --> Tainted: Host is tainted
    Tainted --> Initial: Host is reset/recycled
    Initial --> Maintenance: Maintenance required
    Available --> Maintenance: Maintenance required
    Reserved --> Maintenance: Maintenance required
    Tainted --> Maintenance: Maintenance required
    Maintenance --> Initial: Maintenance complete
    Maintenance --> Available: Maintenance complete
    Maintenance --> Reserved: Maintenance complete
"""
"""The diagram of the document that defined the lifecycle."""

EXIT = """\
    Initial --> [*]: Host is retired
    Available --> [*]: Host is retired
    Tainted --> [*]: Host is retired
    Maintenance --> [*]: Host is retired
"""
"""The edges of decommissioning, which that document describes, but does not draw."""

DRAWN = {(e.source or "[*]", e.verb.value, e.dest) for e in EDGES if e.drawn and e.dest}
EXITS = {(e.source, e.verb.value, "[*]") for e in EDGES if e.drawn and not e.dest}
GRAPHS = {"fleet": GRAPH, "host": HOST_GRAPH, "maintenance": MAINTENANCE_GRAPH}


def shown(result: object, format: Format | None = None, **options: object) -> str:
    where = display(format, **options)  # type: ignore[arg-type]
    render(result, where)
    return where.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


def traced(text: str) -> set[tuple[str, str, str]]:
    """The edges of a terminal drawing, found by following its lines from box to box."""
    grid = {(x, y): c for y, line in enumerate(text.splitlines()) for x, c in enumerate(line)}
    boxes: dict[tuple[int, int], str] = {}
    for state in State:
        y, x = next(
            (y, m.start()) for y, line in enumerate(text.splitlines()) if (m := re.search(rf"[│║] +{state}\b", line))
        )
        left, right, top, bottom = x, x + 1, y, y
        while grid[right, y] not in "│║":
            right += 1
        while grid[left, top] not in "╭╔":
            top -= 1
        while grid[left, bottom] not in "╰╚":
            bottom += 1
        boxes |= {(x, y): state.value for x in range(left, right + 1) for y in range(top, bottom + 1)}
    go = {"├": (1, 0), "╟": (1, 0), "┬": (0, 1), "╤": (0, 1), "┴": (0, -1), "╧": (0, -1)}
    starts = [(at, go[c], boxes[at]) for at, c in grid.items() if c in go and at in boxes]
    outside = next(at for at, c in grid.items() if c == "*")
    return {followed(grid, boxes, at, step, source) for at, step, source in [*starts, (outside, (0, 1), "[*]")]}


TURNS = {
    "╭": {(0, -1): (1, 0), (-1, 0): (0, 1)},
    "╮": {(0, -1): (-1, 0), (1, 0): (0, 1)},
    "┏": {(0, -1): (1, 0), (-1, 0): (0, 1)},
    "┓": {(0, -1): (-1, 0), (1, 0): (0, 1)},
}


def followed(
    grid: dict[tuple[int, int], str],
    boxes: dict[tuple[int, int], str],
    at: tuple[int, int],
    step: tuple[int, int],
    source: str,
) -> tuple[str, str, str]:
    passed, label = [], ""
    while grid[at] not in "▶▷▼▽▲△":
        at = (at[0] + step[0], at[1] + step[1])
        c = grid[at]
        assert at not in boxes, f"the line from {source} ends at a border without a head"
        assert c in "─│━┃╭╮┏┓▶▷▼▽▲△ " or c.isalpha(), f"the line from {source} breaks off at {at}: {c!r}"
        passed.append(at)
        step = TURNS.get(c, {}).get(step, step)
        if c.isalpha():
            label = label or word(grid, at)
    dest = boxes[at[0] + step[0], at[1] + step[1]]
    if not label:  # a label above the arrow
        x, y = passed[len(passed) // 2]
        label = word(grid, (x, y - 1))
    return source, label, dest


def word(grid: dict[tuple[int, int], str], at: tuple[int, int]) -> str:
    x, y = at
    while grid.get((x - 1, y), " ").isalpha():
        x -= 1
    text = ""
    while grid.get((x, y), " ").isalpha():
        text += grid[x, y]
        x += 1
    return text


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_edge_of_the_lifecycle_can_be_followed_in_the_terminal_drawing(name: str, width: int) -> None:
    assert traced(shown(GRAPHS[name], tty=True, width=width)) == DRAWN
    assert len(DRAWN) == 12


def test_an_edge_that_cannot_be_drawn_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = replace(EDGES[5], verb=Verb.TAINT, source=State.INITIAL, dest=State.TAINTED)
    for module in (terminal, svg):
        monkeypatch.setattr(module, "DRAWN", (*terminal.DRAWN, odd))
    for format in (Format.TABLE, Format.SVG):
        with pytest.raises(LookupError, match="no way from initial to tainted"):
            shown(GRAPH, format)


def test_an_edge_removed_from_the_table_disappears_from_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "DRAWN", tuple(e for e in terminal.DRAWN if e.verb is not Verb.RESET))
    assert traced(shown(GRAPH, tty=True)) == {edge for edge in DRAWN if edge[1] != "reset"}


def test_the_drawing_is_ascii_where_the_encoding_is() -> None:
    import io

    from bmhctl.output import Display

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render(GRAPH, Display(stream, stream, True, True, 80))
    assert stream.buffer.getvalue().decode("ascii") == (  # type: ignore[attr-defined]
        "   [*]      +-------------------------- reset --------------------------+\n"
        "  enter     |                                                           |\n"
        "    v       v                                                           |\n"
        "  +-----------+        +-----------+         +-----------+        +-----+-----+\n"
        "  |  initial  |  ready | available | reserve | reserved  |  taint |  tainted  |\n"
        "  |    o 4    +------->|   * 12    +-------->|   # 20    +------->|    x 2    |\n"
        "  +-+---------+        +-+---------+         +-+---------+        +-----+-----+\n"
        "    |       ^            |       ^             |       ^                |\n"
        "maintain resume      maintain resume       maintain resume          maintain\n"
        "    |       |            |       |             |       |                |\n"
        "    v       |            v       |             v       |                v\n"
        "  +---------+--------------------+---------------------+----------------------+\n"
        "  |                             maintenance  % 2                              |\n"
        "  +---------------------------------------------------------------------------+\n"
        "  retire: initial, available, tainted, maintenance > [*]\n"
    )


def test_the_drawing_in_a_pipe_has_no_colour() -> None:
    assert shown(GRAPH) == shown(GRAPH, tty=True, width=80)
    coloured = shown(GRAPH, tty=True, colour=True)
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(GRAPH)


def test_the_trail_begins_where_the_host_was_last_initial() -> None:
    assert trail(EVENTS) == ((None, "initial"), ("initial", "available"), ("available", "reserved"))
    again = [
        replace(EVENTS[0], source=source, dest=dest)
        for source, dest in [
            (State.RESERVED, State.TAINTED),
            (State.TAINTED, State.INITIAL),
            (State.INITIAL, State.AVAILABLE),
        ]
    ]
    assert trail((*EVENTS, *again)) == (("tainted", "initial"), ("initial", "available"))
    assert trail(()) == ()


def test_only_the_edge_that_a_verb_would_take_is_marked_as_open() -> None:
    assert Marks.of(MAINTENANCE_GRAPH).open == {(State.MAINTENANCE, State.AVAILABLE)}
    assert Marks.of(HOST_GRAPH).open == {(State.RESERVED, State.TAINTED), (State.RESERVED, State.MAINTENANCE)}


def test_mermaid_without_counts_is_the_documented_diagram() -> None:
    assert sorted(shown(Graph({}), Format.MERMAID).splitlines()) == sorted((SOURCE + EXIT).splitlines())


def test_retire_is_named_below_each_drawing() -> None:
    assert shown(GRAPH).endswith("  retire: initial, available, tainted, maintenance → [*]\n")
    assert "retire: initial, available, tainted, maintenance → [*]</text>" in shown(GRAPH, Format.SVG)


def test_mermaid_adds_counts_or_the_host_to_the_same_edges() -> None:
    counted = shown(GRAPH, Format.MERMAID)
    assert set(SOURCE.splitlines()) <= set(counted.splitlines())
    assert "    Reserved: Reserved (20)\n" in counted
    marked = shown(HOST_GRAPH, Format.MERMAID)
    assert set(SOURCE.splitlines()) <= set(marked.splitlines())
    assert marked.endswith(
        "    note right of Reserved\n"
        "        node01\n"
        "        It is reserved by alice #40;r-7k3m#41; for nightly tests, for another 35m.\n"
        "    end note\n"
        "    classDef here fill:#fef3c7,stroke:#c98a04,color:#713f12,stroke-width:4px\n"
        "    class Reserved here\n"
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_of_the_lifecycle_is_in_the_dot_file(name: str) -> None:
    found = re.findall(r'^    (\w+) -> (\w+) \[label="(\w+)", .*\]$', shown(GRAPHS[name], Format.DOT), re.M)
    edges = {(source.replace("start", "[*]"), verb, dest.replace("end", "[*]")) for source, dest, verb in found}
    assert edges == DRAWN | EXITS


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_of_the_lifecycle_leads_from_box_to_box_in_the_svg(name: str) -> None:
    tree = ElementTree.fromstring(shown(GRAPHS[name], Format.SVG))
    space = {"s": "http://www.w3.org/2000/svg"}
    boxes = {
        state: [float(rect.get(side, "nan")) for side in ("x", "y", "width", "height")]
        for state in State
        for rect in tree.findall(f"s:g[@id='state-{state}']/s:rect", space)
    }
    found = set()
    for group in tree.findall("s:g", space):
        kind, *edge = str(group.get("id")).split("-")
        if kind != "edge":
            continue
        source, verb, dest = edge
        path, label = group.find("s:path", space), group.find("s:text", space)
        assert path is not None
        assert label is not None
        assert label.text == verb
        start, end = ends(str(path.get("d")))
        assert source == "outside" or distance(start, boxes[State(source)]) <= 8
        assert 0 < distance(end, boxes[State(dest)]) <= 20
        found.add((source.replace("outside", "[*]"), verb, dest))
    assert found == DRAWN


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the beginning and the end of an SVG path."""
    x = y = 0.0
    points = []
    for letter, numbers in re.findall(r"([MCHV])([^MCHV]*)", path):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        x = values[-1] if letter == "H" else x if letter == "V" else values[-2]
        y = y if letter == "H" else values[-1]
        points.append((x, y))
    return points[0], points[-1]


def distance(point: tuple[float, float], box: list[float]) -> float:
    (x, y), (left, top, width, height) = point, box
    return max(left - x, x - left - width, top - y, y - top - height, 0.0)


def test_untrusted_text_is_escaped_in_every_drawing() -> None:
    why = replace(WHY, host=host(HOSTILE, State.RESERVED, spec=spec(HOSTILE)), summary=HOSTILE, next=HOSTILE)
    hostile = Graph(COUNTS, why, MAINTENANCE_EVENTS)
    for format in (Format.TABLE, Format.PLAIN, Format.MERMAID, Format.DOT, Format.SVG):
        text = shown(hostile, format)
        assert "".join(text.split("\n")).isprintable(), format
    svg = shown(hostile, Format.SVG)
    assert ElementTree.fromstring(svg) is not None
    assert "</text>&quot;" not in svg
    assert "&lt;/text&gt;" in svg
    assert len(shown(hostile, Format.DOT).splitlines()) == len(shown(HOST_GRAPH, Format.DOT).splitlines())
    assert 'evil\\\\u2066\\\\n\\\\x9b1m\\\\t\\\\udc80</text>\\"' in shown(hostile, Format.DOT)
    mermaid = shown(hostile, Format.MERMAID)
    assert len(mermaid.splitlines()) == len(shown(HOST_GRAPH, Format.MERMAID).splitlines())
    assert mermaid.count("-->") == len(DRAWN | EXITS)
    assert "#60;/text#62;#34;" in mermaid
    ended = replace(hostile, why=replace(why, summary="an End note; class X"))
    assert "        an End#32;note#59; class X\n" in shown(ended, Format.MERMAID)
