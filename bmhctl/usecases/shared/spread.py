"""Spread a value with a range over several hosts: ``10.0.1.[11-20]`` gives each of ten hosts its own address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from bmhctl.errors import UsageError

_RANGES = {  # by the base of the numbers
    10: re.compile(r"\[([0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*)\]"),
    16: re.compile(r"\[([0-9a-fA-F]{1,8}(?:-[0-9a-fA-F]{1,8})?(?:,[0-9a-fA-F]{1,8}(?:-[0-9a-fA-F]{1,8})?)*)\]"),
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_MOST = 100_000


def has_range(text: str | None, *, base: int = 10) -> bool:
    """Return whether a value has a range, and so stands for several values; an IPv6 address in brackets has none."""
    return text is not None and bool(_RANGES[base].search(text))


def spread(option: str, text: str | None, count: int, *, base: int = 10) -> list[str | None]:
    """Return the values for ``count`` hosts, in their order: those of the range, or the same value for each.

    ``base`` is 16 for the numbers of a MAC address. Raises :class:`UsageError` for a range of another length, and for
    an unknown placeholder.
    """
    if text is None:
        return [None] * count
    for name in _PLACEHOLDER.findall(text):
        if name != "name":
            raise UsageError(
                f"{option} has the placeholder {{{name}}}, which is not known",
                hint="{name} is the host's name; a range gives each host its own: --address '10.0.1.[11-20]'",
            )
    if not has_range(text, base=base):
        return [text] * count
    groups = [list(_numbers(group, base)) for group in _RANGES[base].findall(text)]
    values: list[str | None] = [_filled(text, iter(numbers), base) for numbers in product(*groups)]
    if len(values) != count:
        hosts = "1 host is" if count == 1 else f"{count} hosts are"
        digits = ", counted in hexadecimal" if base == 16 else ""
        raise UsageError(f"{option} {text} stands for {len(values)} values{digits}, but {hosts} named")
    return values


def _filled(text: str, numbers: Iterator[str], base: int) -> str:
    """Return the text with each of its ranges replaced by the next number."""
    return _RANGES[base].sub(lambda _: next(numbers), text)


def _numbers(group: str, base: int) -> Iterator[str]:
    for span in group.split(","):
        first, _, last = span.partition("-")
        start, end = int(first, base), int(last or first, base)
        if not start <= end < start + _MOST:
            raise UsageError(f"[{group}] is not a range", hint="write it like [11-20] or [1,3,5-7]")
        form = f"0{len(first)}{'x' if base == 16 else 'd'}"
        yield from (format(number, form) for number in range(start, end + 1))
