"""Names with numbers: fold many into few words, such as ``node[01-20]``, and sort them by the numbers."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

_MOST = 1000  # of more names than this, only the first that fit are shown, unfolded

_LAST_NUMBER = re.compile(r"([^.]*?)([0-9]{1,9})([^0-9.]*(?:\..*)?)|(.*?)([0-9]{1,9})([^0-9]*)", re.S)
"""Matches the last number of a name, before its domain if that part has a number."""


def folded(names: Iterable[str], most: int | None = None) -> list[str]:
    """Return the names as words that host arguments accept; names that differ only in their last number share a word.

    ``node01``, ``node02`` and ``node04`` are ``node[01-02,04]``; of ``node01.rack2.example.com`` the number is ``01``.
    Words come in the order of their first names. A word longer than ``most`` characters is split between its ranges.
    """
    groups: dict[tuple[str, str, int], dict[str, int]] = {}
    for name in names:
        match = _LAST_NUMBER.fullmatch(name)
        if match is None:
            groups.setdefault((name, "", 0), {})
            continue
        before, number, after = match.groups()[:3] if match[2] else match.groups()[3:]
        # Numbers without leading zeros have width 1, so that they are kept apart from padded ones.
        is_padded = number.startswith("0") or (before, after, len(number)) in groups
        width = len(number) if is_padded else 1
        groups.setdefault((before, after, width), {})[number] = int(number)
    return [word for (before, after, _), numbers in groups.items() for word in _words(before, after, numbers, most)]


def folded_within(names: Sequence[str], room: int) -> str:
    """Return the folded names in at most ``room`` cells: as many as fit, and how many more there are: `` +26``."""
    whole = " ".join(folded(names))
    if len(whole) <= room:
        return whole

    def text(number: int) -> str:
        return f"{' '.join(folded(names[:number]))} +{len(names) - number}"

    numbers = range(1, min(len(names), _MOST))
    return text(max(1, bisect_right(numbers, room, key=lambda number: len(text(number)))))


def in_short(names: Iterable[str]) -> list[str]:
    """Return one or two names unchanged, and more names as folded ranges; for people."""
    known = [*names]
    return folded(known) if len(known) > 2 else known


def _words(before: str, after: str, numbers: dict[str, int], most: int | None) -> Iterator[str]:
    if not numbers:
        yield before
        return
    spans: list[str] = []
    for span in _spans(numbers):
        if spans and most is not None and len(_word(before, after, [*spans, span])) > most:
            yield _word(before, after, spans)
            spans = []
        spans.append(span)
    yield _word(before, after, spans)


def _word(before: str, after: str, spans: list[str]) -> str:
    is_one = len(spans) == 1 and "-" not in spans[0]
    return f"{before}{spans[0]}{after}" if is_one else f"{before}[{','.join(spans)}]{after}"


def _spans(numbers: dict[str, int]) -> Iterator[str]:
    ordered = sorted(numbers, key=lambda number: numbers[number])
    first = last = ordered[0]
    for number in ordered[1:]:
        if numbers[number] != numbers[last] + 1 or (len(number) != len(last) and number.startswith("0")):
            yield first if first == last else f"{first}-{last}"
            first = number
        last = number
    yield first if first == last else f"{first}-{last}"


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares the numbers in a text by value, so that r2 comes before r10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", text)
    return [(0, int(part), "") if part.isdecimal() and len(part) < 19 else (1, 0, part) for part in parts]
