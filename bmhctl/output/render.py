"""Render a result, report an error, print a note: the entry points of ``output``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from bmhctl.errors import BmhctlError, UsageError
from bmhctl.output.display import Display, Format, encodable
from bmhctl.output.sanitize import clean, clean_lines
from bmhctl.results import (
    Diagnosis,
    Document,
    Done,
    Grant,
    Graph,
    History,
    HostDetail,
    Hosts,
    Imported,
    ManualPage,
    Names,
    Outcomes,
    Plan,
    Queue,
    Reservations,
    Script,
    Status,
    Topics,
    Why,
)

if TYPE_CHECKING:
    from bmhctl.output.layout import Line
    from bmhctl.output.records import Listing

_TEXT = (Format.TABLE, Format.PLAIN)
_STRUCTURED = (*_TEXT, Format.JSON, Format.JSONL)
_LISTED = (*_STRUCTURED, Format.CSV)
_NAMED = (*_LISTED, Format.NAME)

_MOST_HINTS = 3

FORMATS: dict[type, tuple[Format, ...]] = {
    Hosts: _NAMED,
    Names: (Format.NAME,),
    HostDetail: _NAMED,
    Outcomes: _NAMED,
    Plan: _NAMED,
    Imported: _NAMED,
    Grant: _NAMED,
    Reservations: _NAMED,
    Queue: _NAMED,
    Diagnosis: _NAMED,
    History: _LISTED,
    Status: _STRUCTURED,
    Why: _STRUCTURED,
    Done: _STRUCTURED,
    Graph: (*_STRUCTURED, Format.MERMAID, Format.DOT, Format.SVG),
    Document: (*_TEXT, Format.TOML),
    Script: _TEXT,
    ManualPage: _TEXT,
    Topics: (*_TEXT, Format.NAME),
}
"""The formats that each result has."""


def check(kind: type, display: Display, fields: tuple[str, ...] | None = None) -> None:
    """Raises :class:`UsageError` when a result of this kind can't be shown so; ask before the work is done."""
    formats = FORMATS[kind]
    if display.format is not None and display.format not in formats:
        raise UsageError(
            f"this command has no output format {display.format}",
            hint=f"it has: {', '.join(formats)}",
            details={"format": display.format.value, "known": [each.value for each in formats]},
        )
    if fields is None:
        return
    if kind not in _listings():
        raise UsageError("this command shows no list, so it takes no --fields")
    if display.format is Format.NAME:
        raise UsageError("-o name shows names only, so it takes no --fields", hint="use -o plain, csv, jsonl or json")
    from bmhctl.output.records import check_fields

    check_fields(fields, _listings()[kind].known)


def render(result: object, display: Display, fields: tuple[str, ...] | None = None) -> None:
    """Writes a result to stdout in the format asked for, and its notes to stderr.

    ``fields`` picks columns of a table, plain and CSV, keys of JSON and JSON lines. A format or a field that
    the result does not have is a :class:`UsageError`, and nothing is written. Hosts that failed are not on
    stdout but in JSON, JSON lines and CSV: pass the result's ``error`` to :func:`report`. Everything is
    flushed: a full disk or a closed pipe is raised here.
    """
    check(type(result), display, fields)
    match display.shown:
        case Format.TABLE | Format.PLAIN | Format.TOML if isinstance(result, Document | Script):
            for part in (result.text,) if isinstance(result.text, str) else result.text:
                display.write(part)
        case Format.PLAIN if isinstance(result, ManualPage):
            display.write(result.text)
        case Format.TABLE if isinstance(result, ManualPage):
            from bmhctl.output.manual import write_markdown

            write_markdown(result.text, display)
        case Format.JSON | Format.JSONL | Format.CSV | Format.NAME:
            _structured(result, display, fields)
        case Format.MERMAID | Format.DOT | Format.SVG if isinstance(result, Graph):
            from bmhctl.output.graph.svg import svg
            from bmhctl.output.graph.text_formats import dot, mermaid

            display.write({Format.MERMAID: mermaid, Format.DOT: dot, Format.SVG: svg}[display.shown](result))
        case _:
            _text(result, display, fields)
    display.stdout.flush()
    if display.shown is not Format.JSON:
        for text in _notes(result, display):
            note(text, display)


def report(error: BmhctlError, display: Display) -> None:
    """Writes an error to stderr: a line for each host and what to do next, or one JSON object in JSON mode.

    Never raises for a stderr that is closed or full: nobody is left to be told.
    """
    with suppress(OSError):
        if display.machine:
            import json

            from bmhctl.output.records import error_document

            display.stderr.write(json.dumps(error_document(error)) + "\n")
        else:
            text = _coloured if display.error_colour else _bare
            lines = _error_lines(error, text, display.error_width if display.stderr_tty else None)
            display.stderr.write(encodable("".join(lines), display.stderr))
        display.stderr.flush()


def note(text: str, display: Display) -> None:
    """Writes a line to stderr for a person: not with ``--quiet``, and not in JSON mode.

    ``json`` has a result's notes in its document; in ``jsonl`` a note is one JSON object a line on stderr.
    """
    if display.quiet or display.format is Format.JSON:
        return
    with suppress(OSError):
        if display.format is Format.JSONL:
            import json

            display.stderr.write(json.dumps({"version": 1, "note": text}) + "\n")
        else:
            lines = _folded(clean(text), display.error_width if display.stderr_tty else None)
            display.stderr.write(encodable("\n".join(lines) + "\n", display.stderr))
        display.stderr.flush()


def hush(stream: TextIO) -> None:
    """After a :class:`BrokenPipeError`: points the stream at nothing, so that the interpreter ends quietly."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


Painter = Callable[[str, str], str]


def _bare(text: str, code: str) -> str:
    return text


def _coloured(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _folded(text: str, width: int | None, used: int = 0) -> list[str]:
    """A text in lines for a terminal, the later ones set in; no word is broken. ``used`` cells are taken already."""
    if width is None or used + len(text) <= width:
        return [text]
    from textwrap import wrap

    lines = wrap(
        text,
        max(width, 20),
        initial_indent=" " * used,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [lines[0][used:], *lines[1:]]


def _error_lines(error: BmhctlError, paint: Painter, width: int | None) -> Iterable[str]:
    each = error.details.get("errors")
    if not isinstance(each, list):
        each = [{"host": error.host, "message": error.message, "hint": error.hint}]
    hints = list(dict.fromkeys(str(one["hint"]) for one in each if one.get("hint")))
    if len(hints) > _MOST_HINTS:  # the same advice, a host each: a few show what is meant
        hints = [*hints[: _MOST_HINTS - 1], f"and likewise for the others ({len(hints) - _MOST_HINTS + 1} more)"]
    for one in each:
        host = f"{clean(str(one['host']))}: " if one.get("host") else ""
        first, *rest = clean_lines(str(one["message"]))
        first, *more = _folded(first, width, len("bmhctl: ") + len(host))
        yield f"{paint('bmhctl:', '1;31')} {paint(host, '1') if host else ''}{first}\n"
        yield from (f"{line}\n" for line in more)
        yield from (f"  {line}\n" for line in rest)
    for hint in hints:
        first, *rest = clean_lines(hint)
        yield f"{paint('hint:', '1;36')} {first}\n"
        yield from (f"  {line}\n" for line in rest)


def _notes(result: object, display: Display) -> Iterable[str]:
    match result:
        case Outcomes() | Plan() | Grant() | Done():
            return result.notes
        case Imported():
            return (*result.warnings, *(f"passed over {text}" for text in result.skipped))
        case Diagnosis():
            from bmhctl.output.doctor_view import diagnosis_notes

            return diagnosis_notes(result, is_plain=display.shown is Format.PLAIN)
    return ()


def _names(result: object) -> Iterable[str]:
    match result:
        case Hosts():
            return (host.name for host in result.hosts)
        case Names():
            return result.names
        case Topics():
            return iter(result.titles)
        case HostDetail():
            return (result.host.name,)
        case Grant():
            return (host.name for host in result.held.hosts)
        case Reservations():
            return (held.reservation.id for held in result.items)
        case Queue():
            return (str(item.ticket.id) for item in result.items)
        case Diagnosis():
            return dict.fromkeys(each.host for each in result.findings if each.host)
        case Outcomes() | Plan() | Imported():
            return (item.host for item in result.items if item.error is None)
    raise TypeError(f"no names in {type(result).__name__}")


def _structured(result: object, display: Display, fields: tuple[str, ...] | None) -> None:
    from bmhctl.output import machine_formats

    match display.shown:
        case Format.NAME:
            machine_formats.write_names(_names(result), display)
        case Format.CSV:
            from bmhctl.output.records import rows

            fields = fields or _listings()[type(result)].csv
            machine_formats.write_csv(fields, rows(result, fields), display)
        case Format.JSON:
            from bmhctl.output.records import document

            machine_formats.write_json(document(result, fields), display)
        case _:
            from bmhctl.output.records import document

            machine_formats.write_jsonl(document(result, fields), display)


def _text(result: object, display: Display, fields: tuple[str, ...] | None) -> None:
    from bmhctl.output.layout import paint

    lines = _chosen(result, display, fields) or _lines(result, display)
    if not paint(lines, display) and display.shown is Format.TABLE:
        words: dict[type, str] = {
            Hosts: "no hosts",
            Reservations: "no reservations",
            Queue: "nobody waits",
            History: "no events",
        }
        empty = words.get(type(result))
        if empty:
            note(empty, display)


def _chosen(result: object, display: Display, fields: tuple[str, ...] | None) -> Iterable[Line] | None:
    """A listing as the columns that somebody chose, or that plain shows; None where a view of its own is due."""
    from bmhctl.output.layout import Column, columns
    from bmhctl.output.records import rows

    listing = _listings().get(type(result))
    table = display.shown is Format.TABLE
    shown = fields or (listing.plain if listing and not table else ())
    if not shown:
        return None
    first, *others = (name.upper() for name in shown)
    heads = [Column(first), *(Column(name, 0, 8) for name in others)]
    cells = ([[(cell, "")] for cell in row] for row in rows(result, shown))
    return columns(heads, cells, display.width if table else None)


def _lines(result: object, display: Display) -> Iterable[Line]:
    from bmhctl.output import views
    from bmhctl.output.layout import columns

    table = display.shown is Format.TABLE
    width = display.width if table else None
    match result:
        case Hosts():
            return columns(views.HOST_COLUMNS, views.host_rows(result.hosts, result.now), display.width)
        case HostDetail():
            return views.detail_lines(result) if table else views.plain_detail(result)
        case Reservations():
            return columns(views.RESERVATION_COLUMNS, views.reservation_rows(result.items, result.now), display.width)
        case Queue():
            return views.queue_lines(result, display.width)
        case Grant():
            return views.grant_lines(result, display.width)
        case Diagnosis():
            from bmhctl.output.doctor_view import diagnosis_lines

            return diagnosis_lines(result, display.verbose)
        case History():
            return views.history_lines(result.events, result.now, result.host is not None)
        case Outcomes() | Imported():
            return () if display.quiet else views.outcome_lines(result.items, display.verbose)
        case Plan():
            return views.outcome_lines(result.items, display.verbose)
        case Status():
            return views.status_lines(result, width, display.colour and table)
        case Why():
            return views.why_lines(result)
        case Graph():
            from bmhctl.output.graph.terminal import drawing

            return drawing(result, width or 80)
        case Topics():
            from bmhctl.output.manual import topic_lines

            return topic_lines((name, [(title, "")]) for name, title in result.titles.items())
        case Done():
            return () if display.quiet else [[(result.message, "")]]
    raise TypeError(f"nothing to show of {type(result).__name__}")


def _listings() -> dict[type, Listing]:
    from bmhctl.output.records import LISTINGS

    return LISTINGS
