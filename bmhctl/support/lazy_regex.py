"""Regular expressions that are compiled at their first use."""

from __future__ import annotations

import re


def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """What ``re.compile`` returns, compiled when it is first used: a module has many, and a command needs few."""
    return _Pattern(text, flags)  # type: ignore[return-value]  # it answers to all that is asked of one


class _Pattern:
    def __init__(self, text: str, flags: int) -> None:
        self._source = (text, flags)

    def __getattr__(self, name: str) -> object:
        found = getattr(re.compile(*self._source), name)
        setattr(self, name, found)  # later accesses find the attribute
        return found
