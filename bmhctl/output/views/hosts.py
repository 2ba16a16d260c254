"""Hosts as a table, records and names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from bmhctl.domain.model import Host, Reservation, State
from bmhctl.domain.units import format_age
from bmhctl.output.display import Display
from bmhctl.output.layout import COLOUR, Column, columns, state_span
from bmhctl.output.records import FIELDS, Envelope, flatten, host_record, iso, listing, picked
from bmhctl.output.render import NAMED, View
from bmhctl.output.sanitize import Line, Span, clean
from bmhctl.output.spans import flags_line, joined, until_line
from bmhctl.results import Hosts

ALL_FIELDS = tuple(FIELDS)

HOST_COLUMNS = (
    Column("HOST"),
    Column("STATE"),
    Column("SINCE", 4),
    Column("HOLDER", 1, 12),
    Column("UNTIL", 2),
    Column("FLAGS", 3),
    Column("ADDRESS", 7),
    Column("LABELS", 6, 16),
    Column("NOTE", 5, 16),
)


def host_rows(hosts: Iterable[Host], now: datetime) -> Iterator[list[Line]]:
    """Hosts as rows of :data:`HOST_COLUMNS`."""
    for host in hosts:
        yield [
            [(host.name, "bold")],
            [state_span(host.state)],
            [(format_age(now - host.since), "")],
            _holder(host.reservation) if host.reservation else [],
            _host_until(host, now),
            flags_line(host),
            [(host.spec.address or "", "")],
            [(flatten(dict(host.spec.labels)), "cyan")],
            _remarks(host),
        ]


def _holder(reservation: Reservation) -> Line:
    line = [(reservation.owner, "")]
    return [*line, (f" {clean(reservation.purpose)}", "dim")] if reservation.purpose else line


def _host_until(host: Host, now: datetime) -> Line:
    if host.reservation:
        return until_line(host.reservation.expires_at, now)
    planned = [mark.until for mark in host.maintenance if mark.until]
    return until_line(max(planned), now) if planned else []


def _remarks(host: Host) -> Line:
    parts: list[Span] = []
    if host.fault:
        parts.append((host.fault, "red"))
    if host.setup and host.setup.failed:
        parts.append((f"setup step failed: {host.setup.failed}", "red"))
    parts += [(mark.reason, COLOUR[State.MAINTENANCE]) for mark in host.maintenance]
    if host.cordon:
        parts.append((host.cordon.reason, "magenta"))
    if host.spec.note:
        parts.append((host.spec.note, ""))
    return joined(parts, " · ")


def _document(result: Hosts, fields: tuple[str, ...] | None) -> Envelope:
    return listing("hosts", {"now": iso(result.now)}, "hosts", picked(map(host_record, result.hosts), fields))


def _lines(result: Hosts, display: Display) -> Iterable[Line]:
    return columns(HOST_COLUMNS, host_rows(result.hosts, result.now), display.width)


VIEWS = {
    Hosts: View(
        NAMED,
        ALL_FIELDS,
        ("name", "state", "flags", "since", "owner", "until", "address", "labels", "note"),
        ALL_FIELDS,
        _document,
        lambda result: (host.spec.name for host in result.hosts),
        _lines,
        empty="no hosts",
    ),
}
