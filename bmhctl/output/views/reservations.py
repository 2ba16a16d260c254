"""Reservations as a table and records, and the answer to a new reservation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bmhctl.domain.model import State
from bmhctl.output.layout import COLOUR, Column, Line, Listing, columns, listing
from bmhctl.output.records import (
    FIELDS,
    OBJECTS,
    RESERVATION_FIELDS,
    RESERVATION_OBJECTS,
    flatten,
    held_record,
    host_record,
)
from bmhctl.output.render import NAMED, Display, View
from bmhctl.output.spans import FEW_HOSTS, ago, hosts_line, prepared_line, stamp, until_line
from bmhctl.results import Grant, Held, Reservations
from bmhctl.support.folding import in_short
from bmhctl.support.values import replace


def _names(names: Sequence[str]) -> Line:
    words = in_short(names)
    if len(words) > FEW_HOSTS:
        words = [*names[:FEW_HOSTS], f"+{len(names) - FEW_HOSTS}"]
    return [(" ".join(words), "dim")]


COLUMNS: Listing[Held, Reservations] = (
    (Column("ID"), lambda held, _: [(held.reservation.id, "bold")]),
    (Column("OWNER", 1, 12), lambda held, _: [(held.reservation.owner, "")]),
    (
        Column("EXPIRES_AT", 2),
        lambda held, result: (
            until_line(held.reservation.expires_at, result.now) if held.reservation.is_open() else [("ended", "dim")]
        ),
    ),
    (
        Column("HOSTS", 0, 24, below=True),
        lambda held, _: hosts_line(held.hosts, FEW_HOSTS) if held.reservation.ended_at is None else _names(held.had),
    ),
    (Column("CREATED_AT", 5), lambda held, result: [(ago(held.reservation.created_at, result.now), "")]),
    (Column("PURPOSE", 4, 12), lambda held, _: [(held.reservation.purpose or "", "")]),
    (Column("PREPARED_AT", 6, 12), lambda held, _: prepared_line(held.reservation)),
    (Column("TAGS", 4, 12), lambda held, _: [(flatten(dict(held.reservation.tags)), "cyan")]),
    (Column("SHARED_WITH", 4, 12), lambda held, _: [(" ".join(held.reservation.shared_with), "")]),
    (
        Column("ENDED_AT", 3),
        lambda held, result: [(ago(held.reservation.ended_at, result.now), "")] if held.reservation.ended_at else [],
    ),
    (Column("END_REASON", 7, 12), lambda held, _: [(held.reservation.end_reason or "", "")]),
)


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


VIEWS = {
    Reservations: View(
        NAMED,
        RESERVATION_FIELDS,
        (
            *("id", "owner", "hosts", "expires_at", "purpose", "created_at", "ended_at", "end_reason", "tags"),
            *("prepared_at", "shared_with"),
        ),
        objects=RESERVATION_OBJECTS,
        key="reservations",
        records=lambda result: map(held_record, result.items),
        names=lambda result: (held.reservation.id for held in result.items),
        lines=lambda result, display: listing(COLUMNS, result.items, result, display.width),
        empty=lambda result: result.none or "no reservations: bmhctl reserve -n 1 takes a host that is free",
    ),
    Grant: View(
        NAMED,
        FIELDS,
        ("reservation", "name", "address", "until"),
        objects=OBJECTS,
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
