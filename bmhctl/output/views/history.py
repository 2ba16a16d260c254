"""Events as a timeline, records and CloudEvents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from bmhctl.domain.model import Event
from bmhctl.domain.units import format_age
from bmhctl.output.layout import COLOUR, GLYPH, UNLIMITED, Line, Span, transition_spans
from bmhctl.output.records import Record, event_record, iso
from bmhctl.output.render import LISTED, Display, Format, View
from bmhctl.output.sanitize import cell_width, clean
from bmhctl.output.spans import ago, joined, stamp
from bmhctl.results import History


def history_lines(events: Iterable[Event], now: datetime, one_host: bool, width: int = UNLIMITED) -> Iterator[Line]:
    """Yield a timeline: the glyph of a state for an event that brought a host into it, a bar for any other event.

    The age of an event is left out if a line of this ``width`` has no room for it.
    """
    for event in events:
        moved = event.source is not event.dest
        sign = (GLYPH[event.dest], COLOUR[event.dest]) if moved and event.dest else ("│" if not moved else "·", "dim")
        line: list[Span] = [sign, (f" {stamp(event.at)}  ", "dim")]
        if not one_host:
            line += [(event.host, "bold"), ("  ", "")]
        line.append((event.verb.value, "bold" if moved else ""))
        if moved:
            line += [("  ", ""), *transition_spans(event.source, event.dest)]
        line.append((f"  {clean(event.actor)}", "cyan"))
        age = (f"  {ago(event.at, now)}", "dim")
        yield [*line, age] if sum(cell_width(text) for text, _ in (*line, age)) <= width else line
        about = joined([(text, "") for text in (event.reason, event.reservation, _took(event)) if text], " · ")
        if about:
            yield [("│   " if one_host else "    ", "dim"), *about]


def _took(event: Event) -> str:
    """Return how long the steps took in all; an empty text for less than a second."""
    seconds = sum(step.seconds for step in event.steps or ())
    return f"took {format_age(timedelta(seconds=seconds))}" if seconds >= 1 else ""


def _cloudevents(result: History, _: Display) -> Iterator[str]:
    """Yield events as CloudEvents 1.0 in JSON, one per line: for webhooks, event buses and log shippers.

    ``source`` and ``id`` together are unique, so that receivers recognise a repeat.
    """
    from bmhctl.output.machine_formats import jsonl

    source = _uri(result.inventory)
    return jsonl(_cloudevent(event, source) for event in result.events)


def _cloudevent(event: Event, source: str) -> Record:
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": f"bmhctl.host.{event.verb.value}",
        "subject": event.host,
        "time": iso(event.at),
        "datacontenttype": "application/json",
        "data": event_record(event),
    }


def _uri(inventory: str) -> str:
    """Return the location of an inventory as a URI without its password."""
    from pathlib import Path
    from urllib.parse import quote

    if "://" in inventory:
        return quote(inventory, safe=":/?#[]@!$&'()*+,;=%~")
    return Path(os.path.abspath(inventory)).as_uri()


_FIELDS = ("id", "at", "host", "actor", "verb", "source", "dest", "reason", "reservation", "steps", "before")

VIEWS = {
    History: View(
        (*LISTED, Format.CLOUDEVENTS),
        _FIELDS,
        ("at", "host", "actor", "verb", "source", "dest", "reason", "reservation"),
        objects={"before": ()},
        kind="history",
        key="events",
        head=lambda result: {"now": iso(result.now), "host": result.host},
        records=lambda result: map(event_record, result.events),
        lines=lambda result, display: history_lines(result.events, result.now, result.host is not None, display.width),
        empty=lambda _: "no event fits: bmhctl history shows all",
        writers={Format.CLOUDEVENTS: _cloudevents},
    )
}
