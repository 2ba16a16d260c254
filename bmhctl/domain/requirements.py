"""The hosts that a reservation asks for, by names or by a count and a selector: parse, write and compare."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bmhctl.domain.model import HostSpec
from bmhctl.domain.selector import EVERY_HOST, Selector, parse_selector
from bmhctl.errors import InvalidError, UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

MOST_HOSTS = 10_000
"""The most hosts of one reservation."""

_COUNT = pattern(r"[0-9]{1,9}")


class Requirement(Frozen):
    """A requirement for ``count`` hosts that fit the selector; with a ``name``, for this one host."""

    selector: Selector = EVERY_HOST
    count: int = 1
    name: str | None = None

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        what = str(self.selector) or "any"
        return f"{what}*{self.count}" if self.count > 1 else what

    def fits(self, spec: HostSpec) -> bool:
        """Return whether a host fits the requirement."""
        return spec.name == self.name if self.name is not None else self.selector.fits(spec)


Requirements = tuple[Requirement, ...]
"""The requirements of a request. Each must be met, and no host counts for two of them."""


def parse_requirement(text: str) -> Requirement:
    """Return the requirement in a text: ``arch=arm64*2`` is two hosts that fit ``arch=arm64``, ``arch=arm64`` is one.

    Raises :class:`UsageError` for a text that can't be read, and for a count of 0.
    """
    selector, star, count = (part.strip() for part in text.rpartition("*"))
    if not star or not _COUNT.fullmatch(count):
        selector, count = text, "1"
    requirement = Requirement(parse_selector(selector), int(count))
    if requirement.count < 1:
        raise UsageError(
            f"the requirement {text!r} asks for no host", hint="such as --want 'arch=arm64*2' --want role=switch"
        )
    return requirement


def total(requirements: Sequence[Requirement]) -> int:
    """Return how many hosts the requirements ask for in all."""
    return sum(requirement.count for requirement in requirements)


def describe_requirements(requirements: Sequence[Requirement]) -> str:
    """Return the requirements in words: ``2 hosts with arch=arm64 and 1 with role=switch``."""
    if all(requirement.name is not None for requirement in requirements):
        return ", ".join(str(requirement.name) for requirement in requirements)
    parts: list[str] = []
    for requirement in requirements:
        noun = "" if parts else (" host" if requirement.count == 1 else " hosts")
        parts.append(
            f"{requirement.count}{noun}" + (f" with {requirement.selector}" if requirement.selector.terms else "")
        )
    return " and ".join(parts)


def dump_requirements(requirements: Sequence[Requirement]) -> str:
    """Return the requirements as a text that :func:`load_requirements` reads back.

    Equal requirements give equal texts.
    """
    rows = [
        [",".join(sorted(map(str, requirement.selector.terms))), requirement.count]
        if requirement.name is None
        else [requirement.name]
        for requirement in requirements
    ]
    return json.dumps(sorted(rows, key=str), separators=(",", ":"))


def load_requirements(text: str) -> Requirements:
    """Return what :func:`dump_requirements` wrote; raise :class:`InvalidError` for any other text."""
    try:
        return tuple(_loaded(row) for row in json.loads(text))
    except (RecursionError, TypeError, ValueError, UsageError) as error:
        raise InvalidError(
            f"the inventory has a text in place of requirements: {text!r}", hint="restore it from a backup"
        ) from error


def _loaded(row: object) -> Requirement:
    match row:
        case [str(name)]:
            return Requirement(name=name)
        case [str(selector), int(count)] if count > 0 and count is not True:
            return Requirement(parse_selector(selector), count)
    raise ValueError("neither a name nor a selector with a count")
