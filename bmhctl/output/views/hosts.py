"""Hosts as a table, records and names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from bmhctl.domain.model import CheckResult, Host, State
from bmhctl.domain.units import format_age
from bmhctl.output.layout import COLOUR, Column, Line, columns, state_span
from bmhctl.output.records import FIELDS, flatten, host_record, reasons
from bmhctl.output.render import NAMED, View
from bmhctl.output.spans import flags_line, joined, until_line
from bmhctl.results import Hosts

ALL_FIELDS = tuple(FIELDS)

_COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("SINCE", 5),
    Column("PROVEN_AT", 10),
    Column("OWNER", 1, 12),
    Column("PURPOSE", 6, 10),
    Column("UNTIL", 2),
    Column("FLAGS", 3),
    Column("ADDRESS", 9),
    Column("LABELS", 8, 16),
    Column("REASON", 4, 16),
    Column("NOTE", 7, 16),
)


def _rows(result: Hosts) -> Iterator[list[Line]]:
    """Yield hosts as rows of :data:`_COLUMNS`."""
    for host in result.hosts:
        held = host.reservation
        yield [
            [(host.name, "bold")],
            [state_span(host.state)],
            [(format_age(result.now - host.since), "")],
            _checked(host, result.now),
            [(held.owner, "")] if held else [],
            [(held.purpose or "", "dim")] if held else [],
            _host_until(host, result.now),
            flags_line(host),
            [(host.spec.address or "", "")],
            [(flatten(dict(host.spec.labels)), "cyan")],
            _reasons(host, result.failed.get(host.id, ())),
            [(host.spec.note or "", "")],
        ]


def _checked(host: Host, now: datetime) -> Line:
    """Return how long ago the checks of a free host last passed, or nothing if it became available at that time."""
    if host.proven_at is None or host.state is not State.AVAILABLE or host.proven_at <= host.since:
        return []
    return [(format_age(now - host.proven_at), "")]


def _host_until(host: Host, now: datetime) -> Line:
    if host.reservation:
        return until_line(host.reservation.expires_at, now)
    planned = [mark.until for mark in host.maintenance if mark.until]
    return until_line(max(planned), now) if planned else []


def _reasons(host: Host, failed: Iterable[CheckResult]) -> Line:
    broken = {host.fault, *(result.failure for result in failed)}
    parts = [(text, "red" if text in broken else COLOUR[State.MAINTENANCE]) for text in reasons(host, failed)]
    return joined(parts, " · ")


VIEWS = {
    Hosts: View(
        NAMED,
        ALL_FIELDS,
        ("name", "state", "flags", "since", "owner", "until", "address", "labels", "note", "purpose", "reason"),
        kind="hosts",
        key="hosts",
        records=lambda result: (host_record(host, result.failed.get(host.id, ())) for host in result.hosts),
        names=lambda result: (host.spec.name for host in result.hosts),
        lines=lambda result, display: columns(_COLUMNS, _rows(result), display.width),
        empty="no hosts: bmhctl list shows all, bmhctl add HOST declares one",
    ),
}
