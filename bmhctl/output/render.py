"""Render a result, report an error, print a note: the entry points of ``output``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from bmhctl.errors import BmhctlError, UsageError
from bmhctl.output.display import Display, Format, encodable
from bmhctl.output.sanitize import clean, clean_lines
from bmhctl.support.values import Frozen, replace

if TYPE_CHECKING:
    from bmhctl.output.layout import Line
    from bmhctl.output.records import Envelope, Record

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
    the JSON document of a result, ``names`` yields what ``-o name`` prints, ``lines`` and ``notes`` (for stderr) get
    the display as well. ``empty`` is the note for a table without rows. ``write`` writes formats of its own and returns
    true when it did. ``records`` are the rows of plain and CSV where the document has no list.
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
    "QueueHistory": "queue_history",
    "Names": "names",
    "HostDetail": "host",
    "Outcomes": "outcomes",
    "Plan": "outcomes",
    "Imported": "outcomes",
    "Grant": "reservations",
    "Reservations": "reservations",
    "Queue": "queue",
    "Reminders": "reminders",
    "Bookings": "bookings",
    "Diagnosis": "doctor",
    "History": "history",
    "Status": "status",
    "Reasons": "overviews",
    "Fleet": "overviews",
    "Statistics": "statistics",
    "HourlyUse": "statistics",
    "Timeline": "timeline",
    "Metrics": "metrics",
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


_FEW_HOSTS = 3  # up to so many hosts with the same error are reported one by one


def check(kind: type, display: Display, fields: tuple[str, ...] | None = None) -> View:
    """Return the view of a kind of result; ask before the work is done.

    Raises :class:`UsageError` for a format or a field that the result does not have.
    """
    view = view_of(kind)
    if display.format is not None and display.format not in view.formats:
        raise UsageError(
            f"this command has no output format {display.format}",
            hint=f"it has: {', '.join(view.formats)}",
            details={"format": display.format.value, "known": [each.value for each in view.formats]},
        )
    if fields is not None:
        if not view.fields:
            raise UsageError("this command shows no list, so it takes no --fields")
        if display.format is Format.NAME:
            raise UsageError(
                "-o name shows names only, so it takes no --fields", hint="use -o plain, csv, jsonl or json"
            )
        from bmhctl.output.records import check_fields

        check_fields(fields, view.fields)
    return view


def render(result: object, display: Display, fields: tuple[str, ...] | None = None) -> None:
    """Write a result to stdout in the format asked for, and its notes to stderr.

    ``fields`` picks columns of a table, plain and CSV, keys of JSON and JSON lines. Raises :class:`UsageError` for a
    format or field that the result does not have, and then writes nothing. Hosts that failed are on stdout only in
    JSON, JSON lines and CSV: pass the result's ``error`` to :func:`report`. Everything is flushed, so a full disk or a
    closed pipe raises here.
    """
    view = check(type(result), display, fields)
    display = _forced(view, display)
    shown = display.shown
    if view.write is None or not view.write(result, display):
        if shown in (Format.JSON, Format.JSONL, Format.CSV, Format.NAME):
            _write_for_machines(view, result, display, fields, shown)
        elif not _write_text(view, result, display, fields, shown) and view.empty and shown is Format.TABLE:
            note(view.empty, display)
    display.stdout.flush()
    if shown is not Format.JSON:
        for text in view.notes(result, display):
            note(text, display)


def _forced(view: View, display: Display) -> Display:
    """Return the display with a terminal's form for a pipe that ``FORCE_COLOR`` asks it for.

    Scripts in a CI job that sets it for all programs read rows: rows become a table only where the pipe has a width.
    """
    has_rows = bool(view.plain or view.records)
    is_table = display.watched if has_rows else display.forced
    return replace(display, format=Format.TABLE) if is_table and display.format is None else display


def _write_for_machines(
    view: View, result: object, display: Display, fields: tuple[str, ...] | None, shown: Format
) -> None:
    from bmhctl.output import machine_formats

    if view.names is not None and shown is Format.NAME:
        machine_formats.write_names(view.names(result), display)
    elif view.document is not None:
        match shown:
            case Format.CSV:
                machine_formats.write_csv(fields or view.csv, _cells(view, result, fields or view.csv), display)
            case Format.JSON:
                machine_formats.write_json(view.document(result, fields), display)
            case _:
                machine_formats.write_jsonl(view.document(result, fields), display)


def _write_text(view: View, result: object, display: Display, fields: tuple[str, ...] | None, shown: Format) -> int:
    """Write the chosen columns, those that plain shows, or the lines of the view; return how many lines."""
    from bmhctl.output import layout

    is_table = shown is Format.TABLE
    wanted = fields or (() if is_table else view.plain)
    if wanted:
        rows = _cells(view, result, wanted)
        return layout.write_columns([name.upper() for name in wanted], rows, display, is_table=is_table)
    return layout.paint(view.lines(result, display) if view.lines else (), display)


def _cells(view: View, result: object, fields: tuple[str, ...]) -> Iterable[Sequence[str]]:
    from bmhctl.output.records import cells

    if view.records is not None:
        return cells(view.records(result), fields)
    return cells(view.document(result, fields).records, fields) if view.document else ()


def report(error: BmhctlError, display: Display) -> None:
    """Write an error to stderr: each host and what to do next, or one JSON object in JSON mode.

    Hosts that failed for the same reason share a line if they are many. Never raises for a stderr that is closed or
    full: no stream is left to report that on.
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
    """Write a line to stderr for a person: not with ``--quiet``, and not in JSON mode.

    ``json`` has the notes of a result in its document; in ``jsonl`` a note is one JSON object a line on stderr.
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


def ask(question: str, display: Display) -> None:
    """Write a question to stderr, for a person at a terminal who answers yes or no."""
    lines = [line for text in clean_lines(question) for line in _folded(text, display.error_width)]
    display.stderr.write(encodable("\n".join(lines) + "\ngo on? [y/N] ", display.stderr))
    display.stderr.flush()


def silence(stream: TextIO) -> None:
    """After a :class:`BrokenPipeError`, point the stream at /dev/null, so that the interpreter ends quietly."""
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
    """Return a text in lines for a terminal, the later ones indented; no word is broken; ``used`` cells are taken."""
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


def _grouped(reasons: Sequence[tuple[str, str]]) -> Iterable[tuple[Sequence[str], str]]:
    """Yield each reason with its hosts; a reason of a few hosts is repeated, so that each has a line of its own."""
    groups: dict[str, list[str]] = {}
    for host, reason in reasons:
        groups.setdefault(reason, []).append(host)
    for reason, hosts in groups.items():
        if len(hosts) > _FEW_HOSTS and all(hosts):
            from bmhctl.support.folding import folded

            yield folded(hosts), reason
        else:
            yield from (([host], reason) for host in hosts)


def _hints(hints: Sequence[tuple[str, str]]) -> Iterable[str]:
    """Yield each hint once; of many that differ in nothing but the host's name, the first stands for all."""
    texts = dict.fromkeys(hint for _, hint in hints)
    if len(texts) <= _FEW_HOSTS:
        yield from texts
        return
    alike: dict[tuple[str, ...], dict[str, None]] = {}
    for host, hint in hints:
        alike.setdefault(tuple(" " if word == host else word for word in hint.split(" ")), {})[hint] = None
    for same in alike.values():
        more = f" (likewise for {len(same) - 1} more)" if len(same) > 1 else ""
        yield f"{next(iter(same))}{more}"


def _error_lines(error: BmhctlError, paint: Painter, width: int | None) -> Iterable[str]:
    each = error.details.get("errors")
    if not isinstance(each, list):
        each = [{"host": error.host, "message": error.message, "hint": error.hint}]
    for hosts, message in _grouped([(str(one.get("host") or ""), str(one["message"])) for one in each]):
        host = f"{clean(' '.join(hosts))}: " if any(hosts) else ""
        first, *rest = clean_lines(message)
        first, *more = _folded(first, width, len("bmhctl: ") + len(host))
        yield f"{paint('bmhctl:', '1;31')} {paint(host, '1') if host else ''}{first}\n"
        yield from (f"{line}\n" for line in more)
        yield from (f"  {line}\n" for line in rest)
    for hint in _hints([(str(one.get("host") or ""), str(one["hint"])) for one in each if one.get("hint")]):
        first, *rest = clean_lines(hint)
        yield f"{paint('hint:', '1;36')} {first}\n"
        yield from (f"  {line}\n" for line in rest)
