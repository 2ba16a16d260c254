"""Regular expressions that are compiled at their first use."""

from __future__ import annotations

import re
from typing import Any, AnyStr


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a pattern as from ``re.compile``, but compiled at its first use: a command uses few of those defined."""
    return _Pattern(text, flags)  # type: ignore[return-value]  # it has the methods of a pattern


class _Pattern:
    def __init__(self, text: Any, flags: int) -> None:
        self._source = (text, flags)

    def __getattr__(self, name: str) -> object:
        found = getattr(re.compile(*self._source), name)
        setattr(self, name, found)  # from now on the attribute is found without this method
        return found
