"""One host in full: its attributes, its step results, its latest events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from bmhctl.domain.model import Host, State, holding_back
from bmhctl.output.layout import Line, place_span, table
from bmhctl.output.records import (
    FIELDS,
    OBJECTS,
    Envelope,
    Json,
    Record,
    document,
    event_record,
    flatten,
    host_record,
    iso,
    picked,
    step_record,
)
from bmhctl.output.render import NAMED, Display, View
from bmhctl.output.spans import ago, heading, joined, prepared_line, result_lines, stamp, until, until_line
from bmhctl.output.views.history import history_lines
from bmhctl.results import HostDetail


def _lines(result: HostDetail, display: Display) -> Iterable[Line]:
    if display.is_table:
        return _detail_lines(result, display.width)
    return table([(name, [(flatten(value) or "-", "")]) for name, value in _record(result).items()])


def _detail_lines(detail: HostDetail, width: int) -> Iterator[Line]:
    """Yield the lines for everything about one host, then its latest events."""
    host, now = detail.host, detail.now
    yield from heading(host, now)
    yield []
    known = _attributes(host, now)
    yield from table(((word, line) for word, line in known if any(text for text, _ in line)), "  ")
    yield from result_lines(detail.results, now)
    if detail.events:
        yield []
        yield from history_lines(detail.events, now, True, width)


def _attributes(host: Host, now: datetime) -> Iterator[tuple[str, Line]]:
    """Yield the words and values of a host's attributes; a value without text is not known."""
    spec = host.spec
    if r := host.reservation:
        yield "held by", joined([(r.owner, "bold"), (r.id, "")] + ([(r.purpose, "")] if r.purpose else []), " · ")
        yield (
            "until",
            [*until_line(r.expires_at, now), *([(f" · {stamp(r.expires_at)}", "dim")] if r.expires_at else [])],
        )
        yield "prepared", prepared_line(r)
        yield "shared with", [(", ".join(r.shared_with), "")]
        yield "tags", [(flatten(dict(r.tags)), "cyan")]
    for mark in host.maintenance:
        back = f", {'back ' if mark.until > now else ''}{until(mark.until, now)}" if mark.until else ""
        yield "maintenance", [(mark.reason, "magenta"), (f" · {mark.actor}, {ago(mark.since, now)}{back}", "dim")]
    for planned in host.planned:
        what = "booked" if planned.is_booking else "planned"
        times = f"{stamp(planned.starts_at)} to {stamp(planned.ends_at)}"
        yield what, [(times, "magenta"), (f" · {planned.owner}, {planned.id}", "dim")]
    if host.came_from:
        yield "came from", [place_span(host.came_from)]
    if host.cordon:
        yield host.cordon.flag, [(host.cordon.reason, "magenta"), (f" · {host.cordon.actor}", "dim")]
    yield "fault", [(host.fault or "", "red")]
    if host.failed_cleanups:
        yield "cleanups", [(f"{host.failed_cleanups} failed in a row", "red")]
    if host.setup:
        failures = f" · {host.failed_setups} failed in a row" if host.failed_setups else ""
        yield "setup", [(str(host.setup), "red" if host.setup.failed else ""), (failures, "red")]
    if host.proven_at and host.state is State.AVAILABLE:
        yield "proven", [(ago(host.proven_at, now), "")]
    if host.failed_tasks:
        tasks = ", ".join(f"{t.owner} ({t.purpose})" if t.purpose else t.owner for t in host.failed_tasks)
        yield "tasks", [(f"{len(host.failed_tasks)} failed in a row: {tasks}", "red")]
    yield "address", [(spec.address or "", "")]
    yield "mac", [(spec.mac or "", "")]
    yield "labels", [(flatten(dict(spec.labels)), "cyan")]
    yield "hardware", [(flatten(dict(spec.hardware)), "")]
    if spec.observed:
        other = [key for key, value in spec.observed.items() if spec.hardware.get(key, value) != value]
        words = f" · overridden by the declaration: {', '.join(other)}" if other else ""
        yield "observed", [(flatten({**spec.observed}), ""), (words, "yellow")]
    if spec.bmc:
        yield "bmc", joined([(t, "") for t in (spec.bmc.address, spec.bmc.type, spec.bmc.credentials) if t], " · ")
    yield "note", [(spec.note or "", "")]
    if host.used_at:
        yield "last used", [(ago(host.used_at, now), "")]


def _record(detail: HostDetail) -> Record:
    return host_record(detail.host, holding_back(detail.host, detail.results))


def _document(result: HostDetail, fields: tuple[str, ...] | None) -> Envelope:
    (record,) = picked([_record(result)], fields)
    events: list[Json] = [event_record(event) for event in result.events]
    return document(
        "host",
        {
            "now": iso(result.now),
            "host": record,
            "events": events,
            "results": [step_record(step) for step in result.results],
        },
    )


VIEWS = {
    HostDetail: View(
        NAMED,
        FIELDS,
        objects=OBJECTS,
        records=lambda result: [_record(result)],
        document=_document,
        names=lambda result: (result.host.spec.name,),
        lines=_lines,
    )
}
