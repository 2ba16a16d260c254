"""Output for machines: JSON, JSON lines, CSV and names; a row at a time, and Rich is never loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from bmhctl.output.display import Display
from bmhctl.output.text import clean

if TYPE_CHECKING:
    from bmhctl.output.records import Envelope

_CHUNK = 1000
"""So many names are written at once."""

_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")


def write_json(document: Envelope, display: Display) -> None:
    """One document, its records one a line as they come; ASCII, so nothing in it can steer a terminal."""
    import json

    if document.key is None:
        display.write(json.dumps(document.head, indent=2) + "\n")
        return
    head = json.dumps(document.head, indent=2).removesuffix("\n}")
    display.write(f"{head},\n  {json.dumps(document.key)}: [")
    separator = "\n    "
    for record in document.records:
        display.write(separator + json.dumps(record))
        separator = ",\n    "
    display.write(("\n  " if separator[0] == "," else "") + "]\n}\n")


def write_jsonl(document: Envelope, display: Display) -> None:
    """The records of a document, one a line; a document without a list is one line."""
    import json

    encode = json.JSONEncoder(check_circular=False).encode  # records hold copies: there is no circle
    for record in document.records if document.key else (document.head,):
        display.write(encode(record) + "\n")


def write_csv(fields: Sequence[str], rows: Iterable[Sequence[str]], display: Display) -> None:
    """CSV with a header, one line a row whatever the cells hold; no cell begins a formula."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow([csv_cell(cell) for cell in row])
        display.write(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    display.write(buffer.getvalue())


def csv_cell(text: str) -> str:
    """A cell that a spreadsheet takes as text: what would begin a formula gets a leading ``'``."""
    shown = clean(text)
    return f"'{shown}" if text[:1] in _FORMULA or shown.lstrip()[:1] in _FORMULA else shown


def write_names(names: Iterable[str], display: Display) -> None:
    """One name a line."""
    rest = iter(names)
    while chunk := [f"{clean(name)}\n" for name in islice(rest, _CHUNK)]:
        display.write("".join(chunk))
