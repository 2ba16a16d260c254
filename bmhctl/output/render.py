"""Render a result on a display: the streams, what they can show, and the view of each kind of result."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from bmhctl.errors import UsageError
from bmhctl.output.sanitize import clean
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, Words, field, replace

if TYPE_CHECKING:
    from bmhctl.output.layout import Line
    from bmhctl.output.records import Envelope, Record


class Format(Words):
    """The output formats of ``-o``."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    NAME = "name"
    TOML = "toml"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    METAL3 = "metal3"
    ANSIBLE = "ansible"
    SSH = "ssh"
    KNOWN_HOSTS = "known-hosts"
    DNSMASQ = "dnsmasq"
    NETBOX = "netbox"
    ICS = "ics"
    CLOUDEVENTS = "cloudevents"


class Display(Frozen):
    """stdout and stderr: what each can show, and what the user asked for.

    ``format`` is None if the user chose none: see :attr:`shown`. ``colour`` and ``width`` are for stdout,
    ``error_colour`` and ``error_width`` for stderr. ``forced`` is true if ``FORCE_COLOR`` asks for the output of a
    terminal, ``watched`` if a program such as ``watch`` also gives the width for it.
    """

    stdout: TextIO
    stderr: TextIO
    stdout_tty: bool = False
    stderr_tty: bool = False
    width: int = 80
    colour: bool = False
    error_colour: bool = False
    quiet: bool = False
    verbose: bool = False
    format: Format | None = None
    error_width: int = 80
    forced: bool = False
    watched: bool = False

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        stdout: TextIO,
        stderr: TextIO,
        *,
        quiet: bool = False,
        verbose: bool = False,
    ) -> Display:
        """Return what these streams can show, by ``NO_COLOR``, ``FORCE_COLOR``, ``TERM`` and ``COLUMNS``.

        ``NO_COLOR`` overrides ``FORCE_COLOR``, which overrides ``TERM=dumb`` and the lack of a terminal.
        """
        ttys = stdout.isatty(), stderr.isatty()
        forced = environ.get("FORCE_COLOR", "0") not in ("", "0") and not environ.get("NO_COLOR")
        watched = forced and "COLUMNS" in environ and not environ.get("CI")
        if environ.get("NO_COLOR"):
            colours = False, False
        elif forced:
            colours = True, True
        elif environ.get("TERM") == "dumb":
            colours = False, False
        else:
            colours = ttys
        widths = _width(environ, stdout), _width(environ, stderr)
        return cls(stdout, stderr, *ttys, widths[0], *colours, quiet, verbose, None, widths[1], forced, watched)

    @property
    def shown(self) -> Format:
        """Return the format in use: the chosen one, else a table on a terminal and plain in a pipe."""
        return self.format or (Format.TABLE if self.stdout_tty else Format.PLAIN)

    @property
    def is_table(self) -> bool:
        """Whether lines are styled and fit the width: on a terminal, unless the user chose another format."""
        return self.shown is Format.TABLE

    @property
    def machine(self) -> bool:
        """Whether failures are reported as JSON, too."""
        return self.format in (Format.JSON, Format.JSONL)

    @property
    def shows_progress(self) -> bool:
        """Whether a line of progress is shown: on a terminal, without ``--quiet`` and JSON."""
        return self.stderr_tty and not self.quiet and not self.machine

    @property
    def unicode(self) -> bool:
        """Whether stdout can write lines, arrows and glyphs."""
        return unicode_capable(self.stdout)

    def write(self, text: str) -> None:
        """Write to stdout; characters that its encoding does not have become escapes."""
        self.stdout.write(self.encodable(text))

    def encodable(self, text: str) -> str:
        """Return the text with escapes for characters that the encoding of stdout does not have."""
        return encodable(text, self.stdout)


def unicode_capable(stream: TextIO) -> bool:
    """Return whether the encoding of a stream has box drawings and glyphs."""
    return (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf")


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with escapes for characters that the stream's encoding lacks, so that writing never fails."""
    if text.isascii() or unicode_capable(stream):
        return text
    return text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)


def _width(environ: Mapping[str, str], stream: TextIO) -> int:
    columns = environ.get("COLUMNS", "")
    if re.fullmatch("[1-9][0-9]{0,4}", columns):
        return int(columns)
    return window_of(stream).columns


def window_of(stream: TextIO, columns: int = 80, lines: int = 24) -> os.terminal_size:
    """Return the size of the terminal to which a stream leads; each part that is not known is as given."""
    with suppress(OSError, ValueError, AttributeError):
        size = os.get_terminal_size(stream.fileno())
        return os.terminal_size((size.columns or columns, size.lines or lines))
    return os.terminal_size((columns, lines))


TEXT = (Format.TABLE, Format.PLAIN)
STRUCTURED = (*TEXT, Format.JSON, Format.JSONL)
LISTED = (*STRUCTURED, Format.CSV)
NAMED = (*LISTED, Format.NAME)


def _only_now(result: Any) -> Record:
    from bmhctl.output.records import iso

    return {"now": iso(result.now)}


def _nothing(*_: object) -> tuple[()]:
    return ()


class View(Frozen):
    """The functions and fields that show one kind of result.

    ``formats`` are its output formats. ``fields`` are the keys of its ``records``, for ``--fields``, and ``objects``
    are those of them whose values are objects, each with the keys of its object (``()`` if it may have any).
    ``plain`` and ``csv`` are the default fields in these formats (without ``plain``, its ``lines`` are shown there,
    too; without ``csv``, CSV has all fields). The JSON document has the ``head``, the records under ``key`` if there is
    one, and the ``kind``, which is the ``key`` by default; a result whose document has another form makes its own
    ``document``. ``names`` yields the names for ``-o name``; ``lines``, and ``notes`` for stderr, also get the display.
    ``empty`` returns the note for a table without rows. ``writers`` yield the text of the whole result in some formats.
    """

    formats: tuple[Format, ...]
    fields: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    csv: tuple[str, ...] = ()
    kind: str = ""
    key: str = ""
    head: Callable[..., Record] = _only_now
    records: Callable[..., Iterable[Record]] = _nothing
    document: Callable[..., Envelope] | None = None
    names: Callable[..., Iterable[str]] = _nothing
    lines: Callable[..., Iterable[Line]] = _nothing
    notes: Callable[..., Iterable[str]] = _nothing
    empty: Callable[..., str] = lambda _: ""
    writers: Mapping[Format, Callable[..., Iterable[str]]] = field(default_factory=dict)
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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
    "QueueHistory": "queue",
    "Reminders": "queue",
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
    "Graph": "why",
    "Done": "texts",
    "Document": "texts",
    "Script": "texts",
    "ManualPage": "texts",
    "Topics": "texts",
}
"""For each kind of result, its module in ``views``."""


def view_of(kind: type) -> View:
    """Return the view of a kind of result; its module is imported at the first call."""
    views: dict[type, View] = import_module(f"bmhctl.output.views.{MODULES[kind.__name__]}").VIEWS
    return views[kind]


def check(kind: type, display: Display, fields: tuple[str, ...] | None = None) -> View:
    """Return the view of a kind of result; call this before the command does its work.

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

        check_fields(fields, view.fields, view.objects)
    return view


def render(result: object, display: Display, fields: tuple[str, ...] | None = None) -> None:
    """Write a result to stdout in the requested format, and its notes to stderr.

    ``fields`` picks columns of a table, plain and CSV, keys of JSON and JSON lines. Raises :class:`UsageError` for a
    format or field that the result does not have, and then writes nothing. Hosts that failed are on stdout only in
    JSON, JSON lines and CSV: pass the result's ``error`` to :func:`report`. Everything is flushed, so a full disk or a
    closed pipe raises here.
    """
    view = check(type(result), display, fields)
    display = _forced(view, display)
    shown = display.shown
    if shown in view.writers:
        for part in view.writers[shown](result, display):
            display.write(part)
    elif shown in (Format.JSON, Format.JSONL, Format.CSV, Format.NAME):
        _write_for_machines(view, result, display, fields)
    elif not _write_text(view, result, display, fields) and shown is Format.TABLE and (words := view.empty(result)):
        note(words, display)
    display.stdout.flush()
    if shown is not Format.JSON:
        for text in view.notes(result, display):
            note(text, display)


def _forced(view: View, display: Display) -> Display:
    """Return the display, with the form of a terminal for a pipe if ``FORCE_COLOR`` asks for it.

    In a CI job that sets ``FORCE_COLOR``, scripts still read rows: rows become a table only if the pipe has a width.
    """
    has_rows = bool(view.plain or (view.document and view.fields))  # the second is ``show``: a row for each field
    is_table = display.watched if has_rows else display.forced
    return replace(display, format=Format.TABLE) if is_table and display.format is None else display


def _write_for_machines(view: View, result: object, display: Display, fields: tuple[str, ...] | None) -> None:
    from bmhctl.output import machine_formats

    match display.shown:
        case Format.NAME:
            machine_formats.write_names(view.names(result), display)
        case Format.CSV:
            from bmhctl.output.records import cells

            wanted = fields or view.csv or view.fields
            machine_formats.write_csv(wanted, cells(view.records(result), wanted), display)
        case Format.JSON:
            machine_formats.write_json(_document(view, result, fields), display)
        case _:
            machine_formats.write_jsonl(_document(view, result, fields), display)


def _document(view: View, result: object, fields: tuple[str, ...] | None) -> Envelope:
    from bmhctl.output.records import document, picked

    if view.document is not None:
        return view.document(result, fields)
    return document(view.kind or view.key, view.head(result), view.key or None, picked(view.records(result), fields))


def _write_text(view: View, result: object, display: Display, fields: tuple[str, ...] | None) -> int:
    """Write the chosen columns, the columns of plain, or the lines of the view; return the number of lines."""
    from bmhctl.output import layout

    is_table = display.is_table
    wanted = fields or (() if is_table else view.plain)
    if wanted:
        from bmhctl.output.records import cells

        rows = cells(view.records(result), wanted)
        return layout.write_columns([name.upper() for name in wanted], rows, display, is_table=is_table)
    return layout.paint(view.lines(result, display), display)


def note(text: str, display: Display) -> None:
    """Write a line to stderr for a person: not with ``--quiet``, and not in JSON mode.

    ``json`` has the notes of a result in its document; in ``jsonl`` a note is one JSON object per line on stderr.
    """
    if display.quiet or display.format is Format.JSON:
        return
    with suppress(OSError):
        if display.format is Format.JSONL:
            import json

            display.stderr.write(json.dumps({"version": 1, "note": text}) + "\n")
        else:
            lines = folded_text(clean(text), display.error_width if display.stderr_tty else None)
            display.stderr.write(encodable("\n".join(lines) + "\n", display.stderr))
        display.stderr.flush()


_JOINED = "\0"  # stands for a space at which a line is not broken; no cleaned text has it
_COMMAND = pattern(
    r"bmhctl(?: -i \S+)?(?: [a-z][a-z-]*)?(?: (?:show|check|apply|cancel|move)\b)?"
    r"(?: (?:-[^\s;,?]+|[A-Z]+|'[^']*'|[^\s;,?]*[0-9@=*/\[][^\s;,?]*))*"
)
"""A command line in a message: its options, its placeholders, and words that can't belong to a sentence."""


def folded_text(text: str, width: int | None, used: int = 0) -> list[str]:
    """Return a text in lines for a terminal, the later ones indented; ``used`` cells of the first are taken.

    Neither words nor command lines are broken, so that both can be copied.
    """
    if width is None or used + len(text) <= width:
        return [text]
    from textwrap import wrap

    lines = wrap(
        _COMMAND.sub(lambda command: command[0].replace(" ", _JOINED), text),
        max(width, 20),
        initial_indent=" " * used,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_JOINED, " ") for line in (lines[0][used:], *lines[1:])]
