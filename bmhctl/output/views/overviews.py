"""The fleet by the reasons why hosts are not free, or by the values of a label with one mark for each host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from bmhctl.domain.booking import is_set_aside
from bmhctl.domain.model import Host, State
from bmhctl.domain.units import format_age, plural
from bmhctl.output.layout import COLOUR, GLYPH, UNLIMITED, Column, Line, Span, columns, padded
from bmhctl.output.records import Record, attributes_record, flags, iso
from bmhctl.output.render import NAMED, STRUCTURED, Display, View
from bmhctl.output.sanitize import cell_width, clean, shorten
from bmhctl.output.spans import inventory_line, packed, runs, stamp
from bmhctl.results.status import Fleet, HostGroup, Reason, Reasons
from bmhctl.support.folding import folded

_STYLE = dict.fromkeys(
    ("maintenance", "cordoned", "retiring", "draining", "undeclared", "booked", "planned"), "magenta"
)

# Further marks, besides those of the states. All marks must differ even without colour.
_FAULT: Span = ("!", "red")
_KEPT_BACK: Span = ("◐", "magenta")


def _reason_lines(result: Reasons, display: Display) -> Iterator[Line]:
    room = max(24, display.width // 3)
    heads = (
        Column("REASON", 0, 16),
        Column("BY", 2, 8),
        Column("SINCE", 1),
        Column("KIND", 1),
        Column("HOSTS", 0, room, below=True),
    )
    rows = (row for item in result.items for row in _reason_rows(item, result.now, room))
    yield from columns(heads, rows, display.width)


def _reason_rows(item: Reason, now: datetime, room: int) -> Iterator[Sequence[Line]]:
    """Yield a row for a reason, and further rows for the hosts that do not fit in it."""
    first, *more = packed([[(word, "")] for word in map(clean, folded(item.hosts, room))], " ", room)
    yield [
        [(clean(item.reason) or "(no reason given)", "bold" if item.reason else "dim")],
        [(clean(item.actor or "-"), "cyan")],
        [(format_age(now - item.since), "")],
        [(item.kind, _STYLE.get(item.kind, "red"))],
        first,
    ]
    yield from ([[], [], [], [], hosts] for hosts in more)


def _mark(host: Host, fleet: Fleet) -> Span:
    """Return the mark of a host: that of its state, or of an obstacle such as a cordon."""
    if host.fault:
        return _FAULT
    if host.state is State.AVAILABLE and not _is_free(host, fleet):
        return _KEPT_BACK
    return GLYPH[host.state], COLOUR[host.state]


def _is_free(host: Host, fleet: Fleet) -> bool:
    kept_back = host.cordon or host.undeclared or is_set_aside(host, fleet.now) or host.id in fleet.due
    return host.state is State.AVAILABLE and not kept_back


def _fleet_lines(result: Fleet, display: Display) -> Iterator[Line]:
    width = display.width if display.is_table else None
    hosts = [host for group in result.groups for host in group.hosts]
    words = [
        (f"{plural(len(hosts), 'host')} by {clean(result.by)} · ", ""),
        (f"{_free(hosts, result):,} free", "green"),
        (f" · {stamp(result.now)}", "dim"),
    ]
    yield inventory_line(result.inventory, words, width)
    if not hosts:
        return
    yield []
    longest = UNLIMITED if width is None else width * 2 // 5
    values = padded(
        shorten(clean(group.value), longest) if group.value is not None else "(none)" for group in result.groups
    )
    counts = padded(f"{_free(group.hosts, result)}/{len(group.hosts)}" for group in result.groups)
    for group, value, count in zip(result.groups, values, counts, strict=True):
        head: list[Span] = [(value, "bold" if group.value is not None else "dim"), (f"  {count}  ", "dim")]
        indent = cell_width(value) + len(count) + 4
        room = UNLIMITED if width is None else max(10, width - indent)
        marks = [_mark(host, result) for host in group.hosts]
        for start in range(0, len(marks), room):
            yield [*(head if not start else [(" " * indent, "")]), *runs(marks[start : start + room])]
    yield []
    yield from _legend([_mark(host, result) for host in hosts], width)


def _free(hosts: Iterable[Host], fleet: Fleet) -> int:
    return sum(_is_free(host, fleet) for host in hosts)


def _legend(marks: Iterable[Span], width: int | None) -> Iterator[Line]:
    """Yield the meaning of each mark in the drawing, and the number of hosts that have it."""
    seen = Counter(marks)
    words = [((GLYPH[state], COLOUR[state]), state.value) for state in State]
    words += [(_KEPT_BACK, "available, but cordoned, undeclared or set aside"), (_FAULT, "fault")]
    parts = [(f"{mark[0]} {seen[mark]:,} {word}", mark[1]) for mark, word in words if seen[mark]]
    yield from packed(([part] for part in parts), "   ", width)
    yield [("n/m: n of m hosts are free", "dim")]


def _group_record(group: HostGroup, fleet: Fleet) -> Record:
    counts = Counter(host.state for host in group.hosts)
    return {
        "value": group.value,
        "total": len(group.hosts),
        "free": _free(group.hosts, fleet),
        "counts": {state.value: counts[state] for state in State},
        "hosts": [{"name": host.name, "state": host.state.value, "flags": [*flags(host)]} for host in group.hosts],
    }


_FIELDS = ("kind", "reason", "actor", "since", "hosts")

VIEWS = {
    Reasons: View(
        NAMED,
        _FIELDS,
        _FIELDS,
        key="reasons",
        head=lambda result: {"now": iso(result.now), "inventory": result.inventory},
        records=lambda result: (attributes_record(item, _FIELDS) for item in result.items),
        names=lambda result: dict.fromkeys(name for item in result.items for name in item.hosts),
        lines=_reason_lines,
        empty=lambda _: "no reasons: no host is out of use",
    ),
    Fleet: View(
        STRUCTURED,
        kind="fleet",
        key="groups",
        head=lambda result: {"now": iso(result.now), "inventory": result.inventory, "by": result.by},
        records=lambda result: (_group_record(group, result) for group in result.groups),
        lines=_fleet_lines,
    ),
}
