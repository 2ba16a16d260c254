"""Hosts as a table, records and names."""

from __future__ import annotations

from bmhctl.domain.model import Host, State
from bmhctl.domain.units import format_age
from bmhctl.output.layout import COLOUR, Column, Line, Listing, listing, state_span
from bmhctl.output.records import FIELDS, OBJECTS, flatten, host_record, reasons
from bmhctl.output.render import NAMED, View
from bmhctl.output.spans import flag_spans, joined, until_line
from bmhctl.results import Hosts


def _checked(host: Host, result: Hosts) -> Line:
    """Return how long ago the checks of a free host last passed, or nothing if it became available at that time."""
    if host.proven_at is None or host.state is not State.AVAILABLE or host.proven_at <= host.since:
        return []
    return [(format_age(result.now - host.proven_at), "")]


def _host_until(host: Host, result: Hosts) -> Line:
    if host.reservation:
        return until_line(host.reservation.expires_at, result.now)
    planned = [mark.until for mark in host.maintenance if mark.until]
    return until_line(max(planned), result.now) if planned else []


def _reasons(host: Host, result: Hosts) -> Line:
    failed = result.failed.get(host.id, ())
    broken = {host.fault, *(each.failure for each in failed)}
    parts = [(text, "red" if text in broken else COLOUR[State.MAINTENANCE]) for text in reasons(host, failed)]
    return joined(parts, " · ")


_COLUMNS: Listing[Host, Hosts] = (
    (Column("NAME"), lambda host, _: [(host.name, "bold")]),
    (Column("STATE"), lambda host, _: [state_span(host.state)]),
    (Column("SINCE", 5), lambda host, result: [(format_age(result.now - host.since), "")]),
    (Column("PROVEN_AT", 10), _checked),
    (Column("OWNER", 1, 12), lambda host, _: [(host.reservation.owner, "")] if host.reservation else []),
    (Column("PURPOSE", 6, 10), lambda host, _: [(host.reservation.purpose or "", "dim")] if host.reservation else []),
    (Column("UNTIL", 2), _host_until),
    (Column("FLAGS", 3), lambda host, _: joined(flag_spans(host), " ")),
    (Column("ADDRESS", 9), lambda host, _: [(host.spec.address or "", "")]),
    (Column("LABELS", 8, 16), lambda host, _: [(flatten(dict(host.spec.labels)), "cyan")]),
    (Column("REASON", 4, 16), _reasons),
    (Column("NOTE", 7, 16), lambda host, _: [(host.spec.note or "", "")]),
)

VIEWS = {
    Hosts: View(
        NAMED,
        FIELDS,
        ("name", "state", "flags", "since", "owner", "until", "address", "labels", "note", "purpose", "reason"),
        objects=OBJECTS,
        key="hosts",
        records=lambda result: (host_record(host, result.failed.get(host.id, ())) for host in result.hosts),
        names=lambda result: (host.spec.name for host in result.hosts),
        lines=lambda result, display: listing(_COLUMNS, result.hosts, result, display.width),
        # An error for each missing name says that there is none.
        empty=lambda result: "" if result.missing else "no hosts: bmhctl list shows all, bmhctl add HOST declares one",
    ),
}
