"""JSON, JSON lines, CSV and names, written row by row without Rich."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from bmhctl.output.sanitize import clean

if TYPE_CHECKING:
    from bmhctl.output.records import Envelope, Record
    from bmhctl.output.render import Display

_LINES_AT_ONCE = 1000  # the number of lines that are written in one call
_FEW = 1000  # encoding this many records takes less time than loading a quick encoder

_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")


def write_json(document: Envelope, display: Display) -> None:
    """Write one document, with one line for each record as it comes; in ASCII, so that it has no control characters."""
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
    """Write the records of a document, one per line, in ASCII; a document without a list is one line."""
    for lines in jsonl(document.records if document.key else (document.head,)):
        display.write(lines)


def jsonl(records: Iterable[Record]) -> Iterator[str]:
    """Yield records as JSON lines, many at once."""
    return map("".join, _batches(_encoded(records)))


def _encoded(records: Iterable[Record]) -> Iterator[str]:
    """Yield each record as a line; encode the first few without loading the quick encoder."""
    import json

    # Records are copies, so they can't contain themselves.
    encode: Callable[[Record], str] = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
    rest = iter(records)
    for record in islice(rest, _FEW):
        yield encode(record) + "\n"
    first = next(rest, None)
    if first is None:
        return
    encode = _quick(encode)
    for record in chain((first,), rest):
        yield encode(record) + "\n"


def _quick(careful: Callable[[Record], str]) -> Callable[[Record], str]:
    """Return an encoder ten times as fast if orjson is installed, else ``careful``.

    Both write the same text, because records have no floats.
    """
    try:
        from orjson import OPT_PASSTHROUGH_DATETIME, dumps
    except ImportError:
        return careful

    def encode(record: Record) -> str:
        try:
            text = dumps(record, option=OPT_PASSTHROUGH_DATETIME)  # the json module refuses datetimes, too
        except TypeError:  # orjson refuses lone surrogates and numbers of more than 64 bits
            return careful(record)
        is_plain = text.isascii() and b"\x7f" not in text
        return text.decode() if is_plain else careful(record)

    return encode


def write_csv(fields: Sequence[str], rows: Iterable[Sequence[str]], display: Display, *, header: bool = True) -> None:
    """Write CSV, one line per row for any content, with or without a ``header``; no cell begins a formula."""
    import csv

    writer = csv.writer(display, lineterminator="\n")
    cells = ([csv_cell(cell) for cell in row] for row in rows)
    first = [*islice(cells, 1)]  # before the heading is written, because reading it may fail
    writer.writerows([[csv_cell(name) for name in fields], *first] if header else first)
    writer.writerows(cells)


def csv_cell(text: str) -> str:
    """Return a cell that a spreadsheet reads as text: the beginning of a formula gets a leading ``'``."""
    shown = clean(text)
    return f"'{shown}" if text[:1] in _FORMULA or shown.lstrip()[:1] in _FORMULA else shown


def write_names(names: Iterable[str], display: Display) -> None:
    """Write one name per line."""
    for lines in _batches(f"{clean(name)}\n" for name in names):
        display.write("".join(lines))


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(lines)
    while batch := list(islice(rest, _LINES_AT_ONCE)):
        yield batch
