"""Reservations as a table and records, and the answer to a new reservation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from bmhctl.domain.model import State
from bmhctl.output.layout import COLOUR, Column, Line, columns
from bmhctl.output.records import flatten, held_record, host_record
from bmhctl.output.render import NAMED, Display, View
from bmhctl.output.spans import FEW_HOSTS, ago, hosts_line, prepared_line, stamp, until_line
from bmhctl.output.views.hosts import ALL_FIELDS
from bmhctl.results import Grant, Held, Reservations
from bmhctl.support.folding import in_short
from bmhctl.support.values import replace

COLUMNS = (
    Column("ID"),
    Column("OWNER", 1, 12),
    Column("EXPIRES_AT", 2),
    Column("HOSTS", 0, 24, below=True),
    Column("CREATED_AT", 5),
    Column("PURPOSE", 4, 12),
    Column("PREPARED_AT", 6, 12),
    Column("TAGS", 4, 12),
    Column("SHARED_WITH", 4, 12),
    Column("ENDED_AT", 3),
    Column("END_REASON", 7, 12),
)


def _rows(items: Iterable[Held], now: datetime) -> Iterator[list[Line]]:
    """Yield reservations as rows of :data:`COLUMNS`."""
    for held in items:
        r = held.reservation
        yield [
            [(r.id, "bold")],
            [(r.owner, "")],
            until_line(r.expires_at, now) if r.is_open() else [("ended", "dim")],
            hosts_line(held.hosts, FEW_HOSTS) if r.ended_at is None else _names(held.had),
            [(ago(r.created_at, now), "")],
            [(r.purpose or "", "")],
            prepared_line(r),
            [(flatten(dict(r.tags)), "cyan")],
            [(" ".join(r.shared_with), "")],
            [(ago(r.ended_at, now), "")] if r.ended_at else [],
            [(r.end_reason or "", "")],
        ]


def _names(names: Sequence[str]) -> Line:
    words = in_short(names)
    if len(words) > FEW_HOSTS:
        words = [*names[:FEW_HOSTS], f"+{len(names) - FEW_HOSTS}"]
    return [(" ".join(words), "dim")]


def _grant_lines(grant: Grant, display: Display) -> Iterator[Line]:
    """Yield the reserved hosts, and how to give them back."""
    r = grant.held.reservation
    expiry = [(stamp(r.expires_at), "")] if r.expires_at else [("no end", "dim")]
    heads = (Column("RESERVATION"), Column("NAME"), Column("ADDRESS", 2), Column("UNTIL", 1))
    rows = (
        [[(r.id, "bold")], [(h.name, COLOUR[State.RESERVED])], [(h.spec.address or "", "")], expiry]
        for h in grant.held.hosts
    )
    yield from columns(heads, rows, display.width)
    yield []
    if prepared := prepared_line(r):
        yield [("prepared   ", "dim"), *prepared]
    yield [("give back  ", "dim"), (f"bmhctl release -R {r.id}", "")]
    if r.expires_at:
        yield [("keep       ", "dim"), (f"bmhctl extend -R {r.id}", "")]


_FIELDS = (
    "id",
    "owner",
    "purpose",
    "created_at",
    "expires_at",
    "ttl",
    "ended_at",
    "end_reason",
    "params",
    "prepared_at",
    "hosts",
    "asked_at",
    "tags",
    "shared_with",
)

VIEWS = {
    Reservations: View(
        NAMED,
        _FIELDS,
        (
            *("id", "owner", "hosts", "expires_at", "purpose", "created_at", "ended_at", "end_reason", "tags"),
            *("prepared_at", "shared_with"),
        ),
        kind="reservations",
        key="reservations",
        records=lambda result: map(held_record, result.items),
        names=lambda result: (held.reservation.id for held in result.items),
        lines=lambda result, display: columns(COLUMNS, _rows(result.items, result.now), display.width),
        empty="no reservations: bmhctl reserve -n 1 takes a host that is free",
    ),
    Grant: View(
        NAMED,
        ALL_FIELDS,
        ("reservation", "name", "address", "until"),
        kind="grant",
        key="hosts",
        head=lambda result: {"reservation": {**held_record(result.held)}, "notes": [*result.notes]},
        records=lambda result: (
            host_record(replace(host, reservation=result.held.reservation)) for host in result.held.hosts
        ),
        names=lambda result: (host.spec.name for host in result.held.hosts),
        lines=_grant_lines,
        notes=lambda result, _: result.notes,
    ),
}
