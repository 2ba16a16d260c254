"""What ends soon, and who waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.output.records import Envelope, Record, iso, listing, picked
from bmhctl.output.render import LISTED, View
from bmhctl.output.sanitize import Line, clean
from bmhctl.output.spans import until
from bmhctl.results import Reminder, Reminders
from bmhctl.support.folding import folded


def _lines(result: Reminders) -> Iterator[Line]:
    for item in result.items:
        what = f"lease {item.id}" if item.id else "maintenance"
        line: Line = [
            (until(item.at, result.now), "yellow" if item.at > result.now else "red"),
            (f"  {what} of ", ""),
            (item.owner, "bold"),
            (f"  {' '.join(folded(item.hosts))}", "cyan"),
            (f"  {clean(item.about)}" if item.about else "", "dim"),
        ]
        yield [*line, (f"  {', '.join(map(clean, item.waiting))} waiting" if item.waiting else "", "yellow")]


def _record(item: Reminder) -> Record:
    return {
        "kind": item.kind,
        "id": item.id,
        "owner": item.owner,
        "hosts": [*item.hosts],
        "at": iso(item.at),
        "about": item.about,
        "waiting": [*item.waiting],
    }


def _document(result: Reminders, fields: tuple[str, ...] | None) -> Envelope:
    return listing("reminders", {"now": iso(result.now)}, "reminders", picked(map(_record, result.items), fields))


_FIELDS = ("kind", "id", "owner", "hosts", "at", "about", "waiting")

VIEWS = {Reminders: View(LISTED, _FIELDS, csv=_FIELDS, document=_document, lines=lambda result, _: _lines(result))}
