"""The fleet on one screen: counts, reservations, what ends next, what needs attention."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from bmhctl.domain.model import State
from bmhctl.domain.units import plural
from bmhctl.output.layout import COLOUR, GLYPH, UNLIMITED, Column, Line, Span, columns, measured_cell, table
from bmhctl.output.render import STRUCTURED, Display, View
from bmhctl.output.spans import FEW_HOSTS, hosts_line, inventory_line, joined, packed, stamp, until, until_line
from bmhctl.results.status import Status
from bmhctl.support.folding import folded

if TYPE_CHECKING:
    from bmhctl.output.records import Json, Record
    from bmhctl.results.bookings import Booked

_MOST = 8  # the number of items of each list that a terminal shows


def _lines(status: Status, display: Display) -> Iterator[Line]:
    """Yield the fleet on one screen."""
    width = display.width if display.is_table else None
    now, total = stamp(status.now), sum(status.counts.values())
    words = [
        (f"{plural(total, 'host')} · ", ""),
        (f"{status.free:,} free", "green" if status.free else "red"),
        (f" · {status.waiting:,} waiting" if status.waiting else "", "yellow"),
        (f" · {now}", "dim"),
    ]
    yield inventory_line(status.inventory, words, width)
    yield []
    if total:
        yield _bar(status, min(width or 72, 100), display.colour and display.is_table)
        yield []
    counts = [(state, status.counts.get(state, 0)) for state in State]
    free = {State.AVAILABLE: f" ({status.free:,} free)"} if status.free != dict(counts)[State.AVAILABLE] else {}
    legend = [
        (f"{GLYPH[state]} {count:,} {state}{free.get(state, '')}", COLOUR[state] if count else "dim")
        for state, count in counts
    ]
    yield from packed(([each] for each in legend), "   ", width)
    limit = _MOST if width else None
    if not total:
        yield []
        yield [("no hosts yet: ", "dim"), ("bmhctl add 'node[01-03]' --label rack=r1", "cyan")]
    if status.held:
        hosts = [hosts_line(held.hosts, FEW_HOSTS if width else None) for held in status.held[:limit]]
        heads = (Column("", 0, 16), Column("", 1), Column(""), _beside(hosts, width), Column("", 2, 10))
        rows = (
            [
                [("  ", ""), (" + ".join((held.reservation.owner, *held.reservation.shared_with)), "bold")],
                [(held.reservation.id, "")],
                until_line(held.reservation.expires_at, status.now),
                line,
                [(held.reservation.purpose or "", "dim")],
            ]
            for held, line in zip(status.held, hosts, strict=False)
        )
        left = status.total("held") - len(status.held[:limit])
        yield from _section("Held", columns(heads, rows, width or UNLIMITED), left, "bmhctl reservations")
    if status.endings:
        endings = (
            (until(at, status.now), [(f"{what}  ", ""), *_in_short([n for e in alike for n in e.hosts], limit)])
            for (at, what), alike in groupby(status.endings[:limit], lambda ending: (ending.at, ending.what))
        )
        left = status.total("endings") - len(status.endings[:limit])
        yield from _section("Ends next", table(endings, "  "), left, "bmhctl list --sort until")
    if looks := [*_obstacles(status, limit), *_without_reason(status, limit)]:
        yield from _section("Look at", table(looks, "  "))
    if status.expired:
        yield [("  the next command that writes ends an expired lease; to end it now: bmhctl reap", "dim")]
    if status.planned:
        planned = [_planned(item, status.now) for item in status.planned[:limit]]
        hosts_head = _beside([row[2] for row in planned], width)
        heads = (Column(""), Column("", 0, 11), hosts_head, Column("", 1, 10), Column("", 3))
        left = status.total("planned") - len(status.planned[:limit])
        yield from _section("Planned", columns(heads, planned, width or UNLIMITED), left, "bmhctl bookings")
    if status.limited:
        lines = ([("  ", ""), (text, "yellow")] for text in status.limited[:limit])
        yield from _section("At a limit", lines, len(status.limited) - len(status.limited[:limit]), "bmhctl queue")


_STYLES = {"fault": "red", "failed": "red", "maintenance": "magenta", "cordoned": "magenta"}


def _obstacles(status: Status, limit: int | None) -> Iterator[tuple[str, Line]]:
    """Yield why hosts are not free, each reason with its hosts; a terminal gets the first ones, and ranges of hosts."""
    for obstacle in status.obstacles[:limit]:
        reason = f"  {obstacle.reason}" if obstacle.reason else ""
        yield obstacle.flag or obstacle.kind, [*_folded(obstacle.hosts, limit, _STYLES[obstacle.kind]), (reason, "")]
    if limit and len(status.obstacles) > limit:
        yield "", [(f"and {len(status.obstacles) - limit:,} more reasons: bmhctl status --reasons", "dim")]
    named = Counter[str]()
    for obstacle in status.obstacles:
        named[obstacle.kind] += len(obstacle.hosts)
    totals = {
        "fault": status.total("faults"),
        "maintenance": status.counts.get(State.MAINTENANCE, 0),
        "cordoned": status.total("cordoned"),
    }
    for kind, total in totals.items():
        if named[kind] and total > named[kind]:  # the status has only the first few hosts of each kind
            yield kind, [(f"and {plural(total - named[kind], 'more host')}: bmhctl status --reasons", "dim")]


def _without_reason(status: Status, limit: int | None) -> Iterator[tuple[str, Line]]:
    kinds = {obstacle.kind for obstacle in status.obstacles}
    for word, key, names, style in (
        ("cordoned", "cordoned", status.cordoned, "magenta"),
        ("undeclared", "undeclared", status.undeclared, "magenta"),
        ("fault", "faults", status.faults, "red"),
        ("expired", "expired", status.expired, "red"),
    ):
        if names and word not in kinds:
            yield word, _names(names, limit, style, max(0, status.total(key) - len(names)))


def _planned(item: Booked, now: datetime) -> list[Line]:
    """Return when a booking begins or was due to end, its owner, its hosts (``!``: not usable), and its purpose."""
    booking = item.booking
    when = (
        "now"
        if booking.has_begun(now)
        else until(booking.ends_at if booking.ends_at <= now else booking.starts_at, now)
    )
    good = [name for name in item.hosts if name not in item.trouble]
    return [
        [("  ", ""), (when, "" if now < booking.starts_at else "yellow")],
        [("maintenance", "magenta")] if booking.is_maintenance else [(booking.owner, "bold")],
        joined([*((f"{each}!", "red") for each in item.trouble), *((each, "") for each in folded(good))], " "),
        [(booking.purpose or "", "dim")],
        [(booking.id, "dim")],
    ]


def _in_short(names: Sequence[str], limit: int | None) -> Line:
    """Return the hosts of a lease in short: a few by name, more as ranges."""
    return _folded(names, limit) if len(names) > 2 else _names(names, limit)


def _folded(names: Sequence[str], limit: int | None, style: str = "") -> Line:
    """Return hosts as at most ``limit`` folded ranges, with the number of hosts beyond; without a limit, all names."""
    if limit is None:
        return _names(names, None, style)
    shown = bisect_right(range(1, len(names) + 1), limit, key=lambda number: len(folded(names[:number])))
    return _names(folded(names[:shown]), None, style, len(names) - shown)


def _names(names: Sequence[str], limit: int | None, style: str = "", more: int = 0) -> Line:
    line: list[Span] = [(" ".join(names[:limit]), style)]
    more += len(names) - len(names[:limit])
    return [*line, (f" and {more:,} more", "dim")] if more else line


def _beside(hosts: Iterable[Line], width: int | None) -> Column:
    """Return the column for the hosts of some rows; if a few rows have much longer lists, these go below their rows."""
    sizes = [measured_cell(line)[1] for line in hosts]
    short = [size for size in sizes if size <= (width or UNLIMITED) // 3]
    return Column("", 0, max(short, default=10), below=True)


def _section(title: str, lines: Iterable[Line], left: int = 0, command: str = "") -> Iterator[Line]:
    """Yield a title and some lines, and the number of further items with the command that shows them."""
    yield []
    yield [(title, "bold")]
    yield from lines
    if left > 0:
        yield [(f"  and {left:,} more: {command}", "dim")]


def _bar(status: Status, width: int, colour: bool) -> Line:
    """Return the share of each state as a bar: every state with a host has a cell, and the cells fill the width."""
    counts = {state: status.counts.get(state, 0) for state in State}
    total = sum(counts.values())
    cells = {state: max(1, count * width // total) if count else 0 for state, count in counts.items()}
    by_error = sorted(counts, key=lambda state: counts[state] * width / total - cells[state])
    while (excess := sum(cells.values()) - width) != 0:
        state = max(cells, key=lambda s: cells[s]) if excess > 0 else by_error.pop()
        cells[state] += -1 if excess > 0 else 1
    return [("█" * n if colour else GLYPH[state] * n, COLOUR[state]) for state, n in cells.items()]


def _head(status: Status) -> Record:
    from bmhctl.output.records import attributes_record, held_record, iso

    planned: list[Json] = []
    if status.planned:
        from bmhctl.output.views.bookings import booking_record

        planned = [booking_record(item, status.now) for item in status.planned]
    return {
        "now": iso(status.now),
        "inventory": status.inventory,
        "total": sum(status.counts.values()),
        "counts": {state.value: status.counts.get(state, 0) for state in State},
        "free": status.free,
        "waiting": status.waiting,
        "totals": {
            **{name: status.total(name) for name in ("cordoned", "undeclared", "faults", "expired", "endings")},
            "reservations": status.total("held"),
            **{name: status.totals.get(name, 0) for name in ("bookings", "maintenances")},
        },
        **attributes_record(status, ("cordoned", "undeclared", "faults", "expired", "limited")),
        "obstacles": [attributes_record(each, ("kind", "flag", "reason", "hosts")) for each in status.obstacles],
        "endings": [attributes_record(each, ("at", "what", "hosts")) for each in status.endings],
        "planned": planned,
        "reservations": [held_record(held) for held in status.held],
    }


VIEWS = {Status: View(STRUCTURED, kind="status", head=_head, lines=_lines)}
