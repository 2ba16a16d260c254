"""Many names in few words: numbered ones as ranges, as ``node[01-20]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,9})([^0-9]*)", re.S)


def folded(names: Iterable[str]) -> list[str]:
    """Return the names in words that host arguments take: those that differ in their last number share one.

    ``node01``, ``node02`` and ``node04`` are ``node[01-02,04]``. Words come in the order of their first names.
    """
    groups: dict[tuple[str, str, int], dict[str, int]] = {}
    for name in names:
        match = _LAST_NUMBER.fullmatch(name)
        if match is None:
            groups.setdefault((name, "", 0), {})
            continue
        before, number, after = match.groups()
        width = len(number) if number.startswith("0") or len(number) == 1 else _unpadded(groups, before, after, number)
        groups.setdefault((before, after, width), {})[number] = int(number)
    return [_word(before, after, numbers) for (before, after, _), numbers in groups.items()]


def in_short(names: Iterable[str]) -> list[str]:
    """Return one name or two as they are, and more of them folded: for people."""
    known = [*names]
    return folded(known) if len(known) > 2 else known


def _unpadded(groups: Iterable[tuple[str, str, int]], before: str, after: str, number: str) -> int:
    """Return the width under which a number without leading zeros is kept: beside padded ones of its length, if any."""
    return len(number) if (before, after, len(number)) in groups else 1


def _word(before: str, after: str, numbers: dict[str, int]) -> str:
    if not numbers:
        return before
    if len(numbers) == 1:
        return f"{before}{next(iter(numbers))}{after}"
    return f"{before}[{','.join(_spans(numbers))}]{after}"


def _spans(numbers: dict[str, int]) -> Iterator[str]:
    ordered = sorted(numbers, key=lambda number: numbers[number])
    first = last = ordered[0]
    for number in ordered[1:]:
        if numbers[number] != numbers[last] + 1 or (len(number) != len(last) and number.startswith("0")):
            yield first if first == last else f"{first}-{last}"
            first = number
        last = number
    yield first if first == last else f"{first}-{last}"
