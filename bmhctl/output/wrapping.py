"""Break lines that are too long for a terminal, and indent their continuations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from bmhctl.output.sanitize import cell_width

Piece = tuple[int, int, int]
"""The indent of a line, and which characters of the text it shows."""

_GAP = re.compile(r" {2,}(?=\S)")
_SEPARATOR = re.compile(r"(?<=\S) · (?=\S)")
_BEGINNING = re.compile(r"^ *[·✓✗?] (?=\S)| {2,}(?=\S)")
_ATOM = re.compile(
    r"(?:\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?: [A-Z]{3,5}\b)?|\d\w* ago\b|in \d\w*|just now|no end|\S+)\S*(?: ·(?= ))?"
)
"""A part of a line that is never broken: a time, an age or a word, with the punctuation or separator after it."""


def wrapped(text: str, width: int) -> list[Piece]:
    """Return the lines of a text, none wider than ``width`` cells; all but the first are indented.

    The further lines are indented to the last column of the text in which its longest word still fits. A column that
    fits on one line is not broken. A word that does not fit at that indent begins further to the left, so that names
    stay whole. Only a word that is wider than a line is broken, after punctuation if possible.
    """
    indent = _indent(text, width)
    pieces: list[Piece] = []
    margin = start = at = 0  # the line that is being filled: its indent, its first character, its width
    is_empty = True

    def begin(line_margin: int, first: int) -> None:
        nonlocal margin, start, at
        pieces.append((margin, start, first))
        margin, start, at = line_margin, first, line_margin

    for first, last, column_end in _words(text, width - indent):
        size = cell_width(text[first:last])
        gap = cell_width(text[start:first]) + margin - at
        whole = cell_width(text[first:column_end])
        fits = at + gap + size <= width
        if is_empty and not fits and size <= width:  # nor directly after the spaces at the beginning
            margin = at = width - size
            start, gap = first, 0
        elif not is_empty and (not fits or (at + gap + whole > width and whole <= width - indent and column_end > 0)):
            begin(min(indent, width - size) if size <= width else indent, first)
            gap = 0
        is_empty = False
        at += gap + size
        while at > width:  # a word that is wider than a line
            cut = start + _fitting(text[start:last], width - margin)
            begin(indent, cut)
            at = indent + cell_width(text[cut:last])
    return [*pieces, (margin, start, len(text))]


def _indent(text: str, width: int) -> int:
    """Return where all lines but the first begin."""
    longest = max((size for size in map(cell_width, text.split()) if size <= width), default=0)
    ends = [gap.end() for gap in _BEGINNING.finditer(text[: width // 2])]
    return max((end for end in ends if end + longest <= width), default=min([*ends, 4, width // 2]))


def _words(text: str, room: int) -> Iterator[tuple[int, int, int]]:
    """Yield the beginning and the end of each word, and the end of the column that the word begins.

    The last is 0 for a word that begins no column, and for the first column. The parts between separators are columns,
    too. A word that is wider than ``room`` counts as several words that end at its commas.
    """
    gaps = [0, *(gap.end() for gap in _GAP.finditer(text)), len(text)]
    parts = sorted({*gaps, *(part.end() for part in _SEPARATOR.finditer(text))})
    ends = {begin: len(text[:end].rstrip()) for begin, end in pairwise(parts)}
    ends.update({begin: len(text[:end].rstrip()) for begin, end in pairwise(gaps[1:])})
    for atom in _ATOM.finditer(text):
        first, last = atom.span()
        if cell_width(atom[0]) > room and "," in atom[0]:
            for part in re.finditer(r"[^,]*,+|[^,]+", atom[0]):
                yield first + part.start(), first + part.end(), 0
        else:
            yield first, last, ends.get(first, 0)


def _fitting(text: str, room: int) -> int:
    """Return how many characters of a text fit, at least one; end after punctuation if their second half has any."""
    count = 1
    while count < len(text) and cell_width(text[: count + 1]) <= room:
        count += 1
    return next((end for end in range(count, count // 2, -1) if text[end - 1] in ",/@.:=-_"), count)
