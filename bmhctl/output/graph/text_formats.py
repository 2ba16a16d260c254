"""The lifecycle as Mermaid and DOT."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bmhctl.domain.model import Edge, State
from bmhctl.domain.units import plural
from bmhctl.lifecycle.table import MEANING
from bmhctl.output.graph.terminal import DRAWN, Marks
from bmhctl.output.sanitize import clean
from bmhctl.results.why import Graph
from bmhctl.support.values import Frozen


class Tone(Frozen):
    """A state's colours in a document: its line, readable on light and dark pages; its box and the text in it."""

    line: str
    fill: str
    text: str


TONES = {
    State.INITIAL: Tone("#3b82f6", "#dbeafe", "#1e3a8a"),
    State.AVAILABLE: Tone("#2da44e", "#dcfce7", "#14532d"),
    State.RESERVED: Tone("#c98a04", "#fef3c7", "#713f12"),
    State.TAINTED: Tone("#e5534b", "#fee2e2", "#7f1d1d"),
    State.MAINTENANCE: Tone("#986ee2", "#f3e8ff", "#581c87"),
}
NEUTRAL = "#7d8590"
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def mermaid(graph: Graph) -> Iterator[str]:
    """Yield the lines of a Mermaid ``stateDiagram-v2``: the lifecycle, then the counts or the place of the host."""
    yield "stateDiagram-v2"
    for edge in DRAWN:
        label = f": {edge.label}" if edge.source else ""  # the form of the diagram in the README
        yield f"    {_mermaid_state(edge.source)} --> {_mermaid_state(edge.dest)}{label}"
    if graph.why is None:
        for state, count in graph.counts.items():
            yield f"    {_mermaid_state(state)}: {_mermaid_state(state)} ({count})"
        return
    host = graph.why.host
    tone = TONES[host.state]
    yield f"    note right of {_mermaid_state(host.state)}"
    yield f"        {_mermaid_text(host.name)}"
    yield f"        {_mermaid_text(graph.why.summary)}"
    yield "    end note"
    yield f"    classDef here fill:{tone.fill},stroke:{tone.line},color:{tone.text},stroke-width:4px"
    yield f"    class {_mermaid_state(host.state)} here"


def _mermaid_state(state: State | None) -> str:
    return state.value.capitalize() if state else "[*]"


def _mermaid_text(text: str) -> str:
    """Return the text of a note, with entities for what Mermaid would read as syntax, HTML or the note's end."""
    safe = "".join(c if c.isalnum() or c in " .,-_/" else f"#{ord(c)};" for c in clean(text))
    return re.sub("(end) (note)", r"\1#32;\2", safe, flags=re.IGNORECASE)


def dot(graph: Graph) -> Iterator[str]:
    """Yield the lines of a Graphviz digraph, readable on light and dark pages."""
    marks = Marks.of(graph)
    yield "digraph lifecycle {"
    yield "    rankdir=LR"
    yield '    bgcolor="transparent"'
    yield '    node [shape=box, style="rounded,filled", fontname="Helvetica", margin="0.25,0.12"]'
    yield '    edge [fontname="Helvetica", fontsize=11]'
    yield f'    start [shape=circle, width=0.18, label="", style=filled, color="{NEUTRAL}", fillcolor="{NEUTRAL}"]'
    yield f'    end [shape=doublecircle, width=0.12, label="", style=filled, color="{NEUTRAL}", fillcolor="{NEUTRAL}"]'
    for state in State:
        tone = TONES[state]
        detail = plural(graph.counts.get(state, 0), "host")
        if graph.why:
            detail = graph.why.host.name if state is marks.here else ""
        label = "\\n".join(_dot_text(text) for text in (state.value, detail) if text)
        look = ", penwidth=4" if state is marks.here else ""
        yield (
            f'    {state} [label="{label}", tooltip="{_dot_text(MEANING[state])}", '
            f'color="{tone.line}", fillcolor="{tone.fill}", fontcolor="{tone.text}"{look}]'
        )
    for edge in DRAWN:
        yield f"    {edge.source or 'start'} -> {edge.dest or 'end'} [{_dot_edge(edge, marks)}]"
    yield "}"


def _dot_edge(edge: Edge, marks: Marks) -> str:
    colour, width = stroke(edge, marks)
    return (
        f'label="{_dot_text(edge.verb)}", tooltip="{_dot_text(edge.why)}", '
        f'color="{colour}", fontcolor="{colour}", penwidth={width}'
    )


def stroke(edge: Edge, marks: Marks) -> tuple[str, float]:
    """Return the colour and width of an edge: bold if the host took it, grey if it neither took it nor can now."""
    way = (edge.source, edge.dest)
    lit = way in marks.open or way in marks.taken
    return TONES[edge.dest].line if edge.dest and lit else NEUTRAL, 3.5 if way in marks.taken else 1.6 if lit else 1


def _dot_text(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')
