"""The lifecycle as a graph, in the terminal, as records and for documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bmhctl.domain.model import State
from bmhctl.output.layout import Line
from bmhctl.output.records import Record, answer_record, attributes_record, event_record
from bmhctl.output.render import STRUCTURED, Display, Format, View
from bmhctl.results.why import Graph


def _lines(result: Graph, display: Display) -> Iterable[Line]:
    from bmhctl.output.graph.terminal import drawing

    return drawing(result, display.width if display.is_table else 80)


def _drawn(result: Graph, display: Display) -> Iterator[str]:
    from bmhctl.output.graph.svg import svg
    from bmhctl.output.graph.text_formats import dot, mermaid

    lines = {Format.MERMAID: mermaid, Format.DOT: dot, Format.SVG: svg}[display.shown](result)
    return (f"{line}\n" for line in lines)


def _head(graph: Graph) -> Record:
    from bmhctl.lifecycle.table import EDGES, MEANING

    return {
        "host": graph.why.host.name if graph.why else None,
        "state": graph.why.host.state.value if graph.why else None,
        "states": [
            {"name": state.value, "meaning": MEANING[state], "count": graph.counts.get(state, 0)} for state in State
        ],
        "edges": [
            attributes_record(edge, ("verb", "source", "dest", "label", "guards", "why", "drawn")) for edge in EDGES
        ],
        "events": [event_record(event) for event in graph.events],
        "verbs": [answer_record(answer) for answer in graph.why.answers] if graph.why else [],
    }


_DRAWN = (Format.MERMAID, Format.DOT, Format.SVG)

VIEWS = {
    Graph: View((*STRUCTURED, *_DRAWN), kind="graph", head=_head, lines=_lines, writers=dict.fromkeys(_DRAWN, _drawn))
}
