"""Which owners or actors a pattern such as ``ci*`` means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from bmhctl.errors import UsageError

_MOST_NAMES = 8  # the most names in a note

T = TypeVar("T")


def of_owner(
    items: Iterable[T],
    pattern: str,
    name_of: Callable[[T], str],
    words: tuple[str, str],
    report: Callable[[str], None] | None,
) -> Iterator[T]:
    """Return the items whose owner or actor matches a pattern with ``*`` and ``?``; no other character is special.

    If none of them does, ``report`` is called with the names that they have. ``words`` say what is missing, and what
    the names are: ``("reservation of", "owner")``. Raises :class:`UsageError` for an empty pattern.
    """
    if not pattern:
        word = words[1]
        raise UsageError(f"the {word} is empty", hint=f"such as --{word} alice@lab, or --{word} 'ci*'")
    from fnmatch import fnmatchcase

    def matching() -> Iterator[T]:
        glob = pattern.replace("[", "[[]")
        others: dict[str, None] | None = {}
        for item in items:
            name = name_of(item)
            if fnmatchcase(name, glob):
                others = None
                yield item
            elif others is not None and len(others) <= _MOST_NAMES:
                others[name] = None
        if others and report is not None:
            shown = ", ".join(sorted(others)[:_MOST_NAMES]) + (", …" if len(others) > _MOST_NAMES else "")
            report(f"no {words[0]} {pattern}; {words[1]}s are {shown}")

    return matching()
