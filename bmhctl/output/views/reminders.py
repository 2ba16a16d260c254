"""What ends or begins soon, and who waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.output.layout import Line, padded
from bmhctl.output.records import attributes_record
from bmhctl.output.render import LISTED, View
from bmhctl.output.spans import until
from bmhctl.results.queue import BOOKING, LEASE, MAINTENANCE, PLANNED, SHORT, Reminders
from bmhctl.support.folding import in_short

_WORDS = {
    LEASE: "lease {}",
    MAINTENANCE: "maintenance",
    BOOKING: "start of booking {}",
    PLANNED: "start of maintenance {}",
    SHORT: "too few hosts for booking {}",
}


def _lines(result: Reminders) -> Iterator[Line]:
    ends = padded(until(item.at, result.now) for item in result.items)
    for item, end in zip(result.items, ends, strict=True):
        what = _WORDS[item.kind].format(item.id)
        line: Line = [
            (end, "yellow" if item.at > result.now and item.kind != SHORT else "red"),
            (f"  {what} of ", ""),
            (item.owner, "bold"),
            (f"  {' '.join(in_short(item.hosts))}", "cyan"),
            (f"  {item.about}" if item.about else "", "dim"),
        ]
        yield [*line, (f"  {', '.join(item.waiting)} waiting" if item.waiting else "", "yellow")]


_FIELDS = ("kind", "id", "owner", "hosts", "at", "about", "waiting")

VIEWS = {
    Reminders: View(
        LISTED,
        _FIELDS,
        key="reminders",
        records=lambda result: (attributes_record(item, _FIELDS) for item in result.items),
        lines=lambda result, _: _lines(result),
        empty=lambda _: "nothing to remind of: bmhctl status shows what ends next",
    )
}
