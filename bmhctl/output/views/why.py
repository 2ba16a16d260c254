"""Why a host is in its state, which verbs are possible now, and the lifecycle as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bmhctl.domain.model import State, holding_back
from bmhctl.output.layout import Line
from bmhctl.output.render import STRUCTURED, Display, Format, View
from bmhctl.output.spans import answer_lines, heading, result_lines
from bmhctl.results.why import Graph, Why

if TYPE_CHECKING:
    from bmhctl.output.records import Record


def _lines(why: Why, _: Display) -> Iterator[Line]:
    """Yield why a host is in its state, and what is possible."""
    host = why.host
    yield from heading(host, why.now)
    yield []
    yield [(f"  {why.summary}", "")]
    for fact in why.facts:
        yield [("  · ", "dim"), (fact, "")]
    yield from result_lines(why.results, why.now)
    if why.answers:
        yield []
        yield from answer_lines(why.answers)
    if why.next or why.first:
        yield []
    if why.first:
        yield [("first ", "bold"), (why.first, "")]
    if why.next:
        yield [("next  ", "bold"), (why.next, "bold cyan")]


def _head(why: Why) -> Record:
    from bmhctl.output.records import answer_record, host_record, iso, step_record

    return {
        "now": iso(why.now),
        "host": host_record(why.host, holding_back(why.host, why.results)),
        "summary": why.summary,
        "facts": [*why.facts],
        "verbs": [answer_record(answer) for answer in why.answers],
        "first": why.first,
        "next": why.next,
        "results": [step_record(step) for step in why.results],
    }


def _graph_lines(result: Graph, display: Display) -> Iterable[Line]:
    from bmhctl.output.graph.terminal import drawing

    return drawing(result, display.width if display.is_table else 80)


def _drawn(result: Graph, display: Display) -> Iterator[str]:
    from bmhctl.output.graph.svg import svg
    from bmhctl.output.graph.text_formats import dot, mermaid

    lines = {Format.MERMAID: mermaid, Format.DOT: dot, Format.SVG: svg}[display.shown](result)
    return (f"{line}\n" for line in lines)


def _graph_head(graph: Graph) -> Record:
    from bmhctl.lifecycle.table import EDGES, MEANING
    from bmhctl.output.records import answer_record, attributes_record, event_record

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
    Why: View(STRUCTURED, kind="why", head=_head, lines=_lines),
    Graph: View(
        (*STRUCTURED, *_DRAWN),
        kind="graph",
        head=_graph_head,
        lines=_graph_lines,
        writers=dict.fromkeys(_DRAWN, _drawn),
    ),
}
