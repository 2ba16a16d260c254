"""What a view declares about one kind of result, and which module has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from bmhctl.output.display import Format
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.output.records import Envelope, Record
    from bmhctl.output.sanitize import Line

TEXT = (Format.TABLE, Format.PLAIN)
STRUCTURED = (*TEXT, Format.JSON, Format.JSONL)
LISTED = (*STRUCTURED, Format.CSV)
NAMED = (*LISTED, Format.NAME)


def _no_notes(*_: object) -> Iterable[str]:
    return ()


class View(Frozen):
    """How one kind of result is shown.

    ``formats`` are those it has. ``fields`` are the keys of its records, for ``--fields``; ``plain`` and ``csv`` are
    the fields shown in these formats by default (no ``plain``: its ``lines`` are shown there, too). ``document`` makes
    the JSON document of a result, ``names`` yields what ``-o name`` prints, ``lines`` and ``notes`` (for stderr) are
    given the display as well. ``empty`` is the note for a table without rows. ``write`` writes formats of its own and
    returns true when it did. ``records`` are the rows of plain and CSV where the document has no list.
    """

    formats: tuple[Format, ...]
    fields: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    csv: tuple[str, ...] = ()
    document: Callable[..., Envelope] | None = None
    names: Callable[..., Iterable[str]] | None = None
    lines: Callable[..., Iterable[Line]] | None = None
    notes: Callable[..., Iterable[str]] = _no_notes
    empty: str = ""
    write: Callable[..., bool] | None = None
    records: Callable[..., Iterable[Record]] | None = None


MODULES = {
    "Hosts": "hosts",
    "Names": "names",
    "HostDetail": "host",
    "Outcomes": "outcomes",
    "Plan": "outcomes",
    "Imported": "outcomes",
    "Grant": "reservations",
    "Reservations": "reservations",
    "Queue": "queue",
    "Diagnosis": "doctor",
    "History": "history",
    "Status": "status",
    "Why": "why",
    "Graph": "graph",
    "Done": "texts",
    "Document": "texts",
    "Script": "texts",
    "ManualPage": "manual",
    "Topics": "manual",
}
"""The module in ``views`` that has each kind of result."""


def view_of(kind: type) -> View:
    """Return the view of a kind of result; its module is imported when it is first asked for."""
    views: dict[type, View] = import_module(f"bmhctl.output.views.{MODULES[kind.__name__]}").VIEWS
    return views[kind]
