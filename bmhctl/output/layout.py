"""Lay out styled lines and columns, and write them with or without colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from bmhctl.domain.model import State, Verdict
from bmhctl.output.sanitize import cell_width, clean, shorten
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from rich.console import Console

    from bmhctl.output.render import Display

Span = tuple[str, str]
"""A text and its style, in Rich's words (``bold green``); no style is empty."""

Line = Sequence[Span]

COLOUR = {
    State.INITIAL: "blue",
    State.AVAILABLE: "green",
    State.RESERVED: "yellow",
    State.TAINTED: "red",
    State.MAINTENANCE: "magenta",
}

GLYPH = {
    State.INITIAL: "○",
    State.AVAILABLE: "●",
    State.RESERVED: "◆",
    State.TAINTED: "✗",
    State.MAINTENANCE: "■",
}
"""The glyph of each state: one cell wide, and different from all others even without colour."""

VERDICT = {Verdict.PASS: ("✓", "green"), Verdict.FAIL: ("✗", "red"), Verdict.UNKNOWN: ("?", "yellow")}
"""The glyph and colour of a step's result."""

# Each glyph has a substitute of one character, so that columns stay aligned if the encoding is ASCII.
_ASCII = (
    str.maketrans("○●◆✗■◐✓→·…–█", "o*#x%/+>-~-#")
    | str.maketrans("░◇□", ":bp")
    | str.maketrans("─│━┃═║▶▼▲▷▽△", "-|=!=|>v^)un")
    | dict.fromkeys(map(ord, "╭╮╰╯╔╗╚╝┏┓┗┛├┬┴╟╤╧"), "+")
)

_CHUNK = 1000
"""The number of rows from which the widths of columns are computed, so that a fleet of any size can be streamed."""

UNLIMITED = 10**6  # a width at which nothing is cut; empty columns are still left out

_GAP = 2
_IMPORTANT = 2  # columns up to this rank may take one more line for each row
_NARROWEST = 8  # the least width of a column that is never cut, if not all values fit
_BELOW = " " * 4  # the indent of text below a row

Cell = tuple[Line, int]
"""A cell's clean spans, and its width in terminal cells."""


def state_span(state: State) -> Span:
    """Return the glyph and word of a state in its colour."""
    return f"{GLYPH[state]} {state}", COLOUR[state]


def transition_spans(source: State | None, dest: State | None) -> list[Span]:
    """Return ``reserved → tainted``, each state in its colour."""
    return [place_span(source), (" → ", ""), place_span(dest)]


def place_span(state: State | None) -> Span:
    """Return a state in its colour, ``[*]`` for none."""
    return (state.value, COLOUR[state]) if state else ("[*]", "dim")


class Column(Frozen):
    """A column, and how it is shortened when the lines are too long.

    A column of ``rank`` 0 is never dropped; of the others, those with the lowest rank are kept longest. ``least`` is
    the width to which the column may be cut (None: never). With ``below``, a value that is wider than the column is
    written whole on a line below the row; if there is no room for the column, all its values are written there.
    """

    title: str
    rank: int = 0
    least: int | None = None
    below: bool = False


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

Listing = Sequence[tuple[Column, Callable[[_Item, _Result], Line]]]
"""The columns of a list, each with the function that returns the cell for an item of a result."""


def measured_text(text: str) -> tuple[str, int]:
    """Return a text, cleaned, and its width in terminal cells."""
    text = text if text.isprintable() else clean(text)
    return text, len(text) if text.isascii() else _width_beyond_ascii(text)


@lru_cache(maxsize=1000)  # most texts beyond ASCII are the same few glyphs
def _width_beyond_ascii(text: str) -> int:
    return len(text) if text.translate(_ASCII).isascii() else cell_width(text)  # each glyph of bmhctl takes one cell


def measured_cell(cell: Line) -> Cell:
    """Return one cell, cleaned and measured."""
    spans, width = [], 0
    for text, style in cell:
        shown, size = measured_text(text)
        spans.append((shown, style))
        width += size
    return spans, width


def padded(texts: Iterable[str]) -> list[str]:
    """Return the texts, cleaned and padded to the width of the widest."""
    known = [measured_text(text) for text in texts]
    width = max((size for _, size in known), default=0)
    return [text + " " * (width - size) for text, size in known]


def listing(shown: Listing[_Item, _Result], items: Iterable[_Item], result: _Result, width: int) -> Iterator[Line]:
    """Yield a row for each item of a result, under the heads of the columns: see :func:`columns`."""
    cells = [cell for _, cell in shown]
    return columns([head for head, _ in shown], ([cell(item, result) for cell in cells] for item in items), width)


def columns(
    heads: Sequence[Column],
    rows: Iterable[Sequence[Line]],
    width: int,
    *,
    names_left_out: bool = True,
) -> Iterator[Line]:
    """Yield rows under their heads, if possible in lines no wider than ``width``, by dropping and cutting columns.

    Heads without titles are not shown, and empty columns are left out. Unless ``names_left_out`` is False, a last line
    names the columns with values that have no room. The widths are computed from chunks of rows and never shrink, so
    that the rows of a generator are streamed.
    """
    stream = iter(rows)
    naturals = [0] * len(heads)
    sizes: dict[int, set[int]] = {i: set() for i, head in enumerate(heads) if head.below}
    kept: list[int] = []
    first = True
    has_titles = any(head.title for head in heads)
    while chunk := [[measured_cell(cell) for cell in row] for row in islice(stream, _CHUNK)]:
        naturals = [max(natural, max([row[i][1] for row in chunk])) for i, natural in enumerate(naturals)]
        if first:
            kept = _kept(heads, naturals, width)
        for i, known in sizes.items():
            known.update([row[i][1] for row in chunk])
        widths = _widths(heads, naturals, sizes, kept, width)
        shown = [heads[i] for i in kept]
        if first and has_titles:
            yield from _row([measured_cell([(head.title, "dim")]) for head in shown], shown, widths)
        first = False
        for row in chunk:
            yield from _row([row[i] for i in kept], shown, widths)
    left_out = [head.title.strip() for i, head in enumerate(heads) if naturals[i] and i not in kept]
    if left_out and has_titles and names_left_out and not first:
        yield [(f"left out: {', '.join(left_out)} (see -o plain)", "dim")]


def _kept(heads: Sequence[Column], naturals: Sequence[int], width: int) -> list[int]:
    """Return the columns to show: those with values that fit, important ones first.

    A column is moved below the rows before it takes room from a more important one.
    """
    floors = [_floor(head, natural) for head, natural in zip(heads, naturals, strict=True)]
    kept = _fitting(heads, naturals, floors, width)
    if any(0 < heads[i].rank <= _IMPORTANT and naturals[i] and i not in kept for i in range(len(heads))):
        floors = [-_GAP if head.below else floor for head, floor in zip(heads, floors, strict=True)]
        kept = _fitting(heads, naturals, floors, width)
    return kept


def _fitting(heads: Sequence[Column], naturals: Sequence[int], floors: Sequence[int], width: int) -> list[int]:
    """Return the indices of the columns to show: those of rank 0, then, by rank, others that have values and fit."""
    kept = []
    room = width + _GAP
    for i in sorted(range(len(heads)), key=lambda i: heads[i].rank):
        needed = floors[i] + _GAP
        if not heads[i].rank or (naturals[i] and needed <= room):
            kept.append(i)
            room -= needed
    return sorted(kept)


def _widths(
    heads: Sequence[Column],
    naturals: Sequence[int],
    sizes: Mapping[int, Set[int]],
    kept: Sequence[int],
    width: int,
) -> list[int]:
    """Return the width of each column in cells. Spare cells go to the narrowest column that is cut, or to a lower rank.

    So one long value takes no room from the other columns. If not even the least widths fit, columns that may be below
    the rows get width 0; then the widest of the columns that are never cut becomes too narrow for its values.
    ``sizes`` are the widths of the values of each column that may be below the rows. The column gets the width of its
    widest value that fits, and 0 if none fits.
    """
    wanted = {i: max(len(heads[i].title), naturals[i]) for i in kept}
    widths = {i: _floor(heads[i], naturals[i]) for i in kept}
    spare = width - sum(widths.values()) - _GAP * (len(kept) - 1)
    if spare < 0:
        for i in (i for i in kept if heads[i].below):
            spare += widths[i] + _GAP
            widths[i] = wanted[i] = 0
    whole = [i for i in kept if heads[i].least is None and not heads[i].below]
    if spare < 0 and whole:
        widest = max(whole, key=lambda i: widths[i])
        widths[widest] = wanted[widest] = max(len(heads[widest].title), _NARROWEST, widths[widest] + spare)
    spare = _spread(spare, heads, widths, wanted)
    for i in (i for i in kept if heads[i].below and widths[i]):
        fitting = [size for size in sizes[i] if 0 < size <= widths[i]]
        wanted[i] = max(len(heads[i].title), *fitting) if fitting else 0
        spare += widths[i] - wanted[i] + (0 if fitting else _GAP)
        widths[i] = wanted[i]
    _spread(spare, heads, widths, wanted)
    return list(widths.values())


def _spread(spare: int, heads: Sequence[Column], widths: dict[int, int], wanted: Mapping[int, int]) -> int:
    """Widen columns that are cut by at most ``spare`` cells in all, and return the cells that are left."""
    while spare > 0 and (cut := [i for i in widths if widths[i] < wanted[i]]):
        narrowest = min(widths[i] for i in cut)
        for i in sorted(cut, key=lambda i: heads[i].rank):
            if widths[i] == narrowest and spare > 0:
                widths[i] += 1
                spare -= 1
    return spare


def _floor(head: Column, natural: int) -> int:
    wanted = max(len(head.title), natural)
    return wanted if head.least is None else min(wanted, head.least)


def _row(cells: Sequence[Cell], heads: Sequence[Column], widths: Sequence[int]) -> Iterator[Line]:
    """Yield a row, in several lines if a cell that is never cut is wider than its column."""
    line: list[Span] = []
    below: list[Line] = []
    at = 0
    for (cell, size), head, width in zip(cells, heads, widths, strict=True):
        if size > width and head.below:
            below.append([(_BELOW, ""), *cell])
            cell, size = [], 0
        elif size > width and head.least is not None:
            cell, size = measured_cell([*_cut(cell, width)])
        if head.below and not width:
            continue
        line += cell
        at += width + _GAP
        if size > width and head is not heads[-1]:
            yield line
            line = [(" " * at, "")]
        else:
            line.append((" " * (width - size + _GAP), ""))
    if not below or any(text.strip() for text, _ in line):
        yield line
    yield from below


def _cut(cell: Line, room: int) -> Iterator[Span]:
    """Yield the part of a cell that fits into ``room`` cells."""
    for text, style in cell:
        shown = shorten(text, room)
        room -= cell_width(shown)
        yield shown, style


def table(pairs: Iterable[tuple[str, Line]], indent: str = "") -> list[Line]:
    """Return two columns, words and their meanings; nothing is cut."""
    known = list(pairs)
    words = padded(word for word, _ in known)
    return [[(f"{indent}{word}  ", "dim"), *value] for word, (_, value) in zip(words, known, strict=True)]


def write_columns(titles: Sequence[str], rows: Iterable[Sequence[str]], display: Display, *, is_table: bool) -> int:
    """Write rows of texts under their titles, and return the number of lines; in a pipe, ``-`` marks an empty cell.

    Nothing is cut, because the user chose the columns: a line that is too long for the terminal is continued below.
    """
    if is_table:
        heads = [Column(title) for title in titles]
        return paint(columns(heads, ([[(cell, "")] for cell in row] for row in rows), display.width), display)
    return ColumnWriter(titles, display).write(rows)


class ColumnWriter:
    """Writes rows of texts under their titles as they come; columns may become wider, but never narrower."""

    def __init__(self, titles: Sequence[str], display: Display) -> None:
        self._titles = titles
        self._display = display
        self._widths = [0] * len(titles)
        self._is_begun = False

    def write(self, rows: Iterable[Sequence[str]]) -> int:
        """Write more rows, and return the number of lines."""
        stream = iter(rows)
        count = 0
        while known := [*([] if self._is_begun else [self._titles]), *islice(stream, _CHUNK)]:
            self._is_begun = True
            chunk = [[measured_text(text) for text in row] for row in known]
            widths = self._widths = [
                max(width, *(row[i][1] or 1 for row in chunk)) for i, width in enumerate(self._widths)
            ]
            lines = (
                "".join(
                    [
                        (text or "-") + " " * (width - (size or 1) + _GAP)
                        for (text, size), width in zip(row, widths, strict=True)
                    ]
                )
                for row in chunk
            )
            self._display.write(_transcribed("".join([line.rstrip() + "\n" for line in lines]), self._display))
            count += len(chunk)
            if len(chunk) < _CHUNK:
                break
        return count


def paint(lines: Iterable[Line], display: Display) -> int:
    """Write lines to stdout, with styles only for a table, and return their number."""
    count = 0
    if not display.is_table:
        stream = iter(lines)
        while chunk := list(islice(stream, _CHUNK)):
            display.write(_transcribed("".join([_bare(line) for line in chunk]), display))
            count += len(chunk)
        return count
    write = _rich(display)
    for line in lines:
        write(line)
        count += 1
    return count


def _bare(line: Line) -> str:
    """Return a line without its styles, cleaned, and without spaces at its end."""
    text = "".join([text for text, _ in line])
    return (text if text.isprintable() else clean(text)).rstrip() + "\n"


def _transcribed(text: str, display: Display) -> str:
    """Return the text; glyphs are replaced by ASCII characters if the encoding of stdout does not have them."""
    return text if text.isascii() or display.unicode else display.encodable(text.translate(_ASCII))


def _rich(display: Display) -> Callable[[Line], None]:
    from rich.color import ColorSystem
    from rich.style import Style

    colours = ColorSystem.STANDARD if display.colour else None

    def write(line: Line) -> None:
        parts = [(_transcribed(clean(text), display), style) for text, style in line]
        while parts and not parts[-1][0].strip():
            parts.pop()
        if parts:
            parts[-1] = (parts[-1][0].rstrip(), parts[-1][1])
        if sum(cell_width(text) for text, _ in parts) > display.width:
            _wrapped(parts, display)
            return
        # Lines that fit are written without Rich's console, which would take seconds for a table of thousands of lines.
        display.write("".join(Style.parse(style).render(text, color_system=colours) for text, style in parts) + "\n")

    return write


def _wrapped(line: Line, display: Display) -> None:
    """Write a long line as several lines; a bar at its beginning is repeated on each."""
    from rich.text import Text

    from bmhctl.output.wrapping import wrapped

    console = console_of(display)
    text = Text.assemble(*line)
    bar = text.plain[0] if text.plain[:4] in ("│   ", "|   ") else ""
    for number, (indent, start, end) in enumerate(wrapped(text.plain, display.width)):
        part = text[start:end]
        part.rstrip()
        part.pad_left(indent)
        if bar and number and indent:
            part = Text.assemble((bar, line[0][1]), part[1:])
        console.print(part, no_wrap=True, overflow="ignore", crop=False)


def console_of(display: Display, *, is_live: bool = False) -> Console:
    """Return Rich's console for stdout, with all settings given, so that it reads none from the environment.

    A console that ``is_live`` moves the cursor, and always has the present width of the terminal.
    """
    from rich.console import Console

    return Console(
        file=display.stdout,
        width=None if is_live else display.width,
        color_system="standard" if display.colour else None,
        no_color=not display.colour,
        force_terminal=is_live or display.colour,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        legacy_windows=False,
        _environ={},
    )
