"""Why a host is in its state, and which verbs are possible now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bmhctl.domain.model import holding_back
from bmhctl.output.layout import Line
from bmhctl.output.render import STRUCTURED, Display, View
from bmhctl.output.spans import answer_lines, heading, result_lines
from bmhctl.results.why import Why

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


VIEWS = {Why: View(STRUCTURED, kind="why", head=_head, lines=_lines)}
