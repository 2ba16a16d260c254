"""What a reservation asks for: named hosts, or so many that fit a selector. Parse, write, compare."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bmhctl.errors import InvalidError, UsageError
from bmhctl.frozen import Frozen
from bmhctl.model import HostSpec
from bmhctl.patterns import pattern
from bmhctl.selector import EVERY_HOST, Selector, parse_selector

MOST_HOSTS = 10_000
"""How many hosts one reservation may hold."""

_COUNT = pattern(r"[0-9]{1,9}")


class Want(Frozen):
    """``count`` hosts that fit the selector; with a ``name``, that one host."""

    selector: Selector = EVERY_HOST
    count: int = 1
    name: str | None = None

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        what = str(self.selector) or "any"
        return f"{what}*{self.count}" if self.count > 1 else what

    def fits(self, spec: HostSpec) -> bool:
        """Whether a host may be one of those that are wanted."""
        return spec.name == self.name if self.name is not None else self.selector.fits(spec)


Wants = tuple[Want, ...]
"""All of a request: every want must be met, each by hosts of its own."""


def parse_want(text: str) -> Want:
    """``arch=arm64*2`` is two hosts that fit ``arch=arm64``; without a number one. Raises :class:`UsageError`."""
    selector, star, count = (part.strip() for part in text.rpartition("*"))
    if not star or not _COUNT.fullmatch(count):
        selector, count = text, "1"
    want = Want(parse_selector(selector), int(count))
    if want.count < 1:
        raise UsageError(f"the want {text!r} asks for no host", hint="such as --want 'arch=arm64*2' --want role=switch")
    return want


def total(wants: Sequence[Want]) -> int:
    """How many hosts are wanted in all."""
    return sum(want.count for want in wants)


def describe(wants: Sequence[Want]) -> str:
    """The wants in words: ``2 hosts with arch=arm64 and 1 with role=switch``."""
    if all(want.name is not None for want in wants):
        return ", ".join(str(want.name) for want in wants)
    parts: list[str] = []
    for want in wants:
        noun = "" if parts else (" host" if want.count == 1 else " hosts")
        parts.append(f"{want.count}{noun}" + (f" with {want.selector}" if want.selector.terms else ""))
    return " and ".join(parts)


def dump_wants(wants: Sequence[Want]) -> str:
    """The wants as a text that :func:`load_wants` reads back; equal wants give equal texts."""
    rows = [
        [",".join(sorted(map(str, want.selector.terms))), want.count] if want.name is None else [want.name]
        for want in wants
    ]
    return json.dumps(sorted(rows, key=str), separators=(",", ":"))


def load_wants(text: str) -> Wants:
    """The wants that :func:`dump_wants` wrote; raises :class:`InvalidError` for any other text."""
    try:
        return tuple(_loaded(row) for row in json.loads(text))
    except (RecursionError, TypeError, ValueError, UsageError) as error:
        raise InvalidError(
            f"the inventory holds wants that are none: {text!r}", hint="restore it from a backup"
        ) from error


def _loaded(row: object) -> Want:
    match row:
        case [str(name)]:
            return Want(name=name)
        case [str(selector), int(count)] if count > 0 and count is not True:
            return Want(parse_selector(selector), count)
    raise ValueError("neither a name nor a selector with a count")
