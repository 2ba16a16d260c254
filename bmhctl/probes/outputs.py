"""Read the properties of a host that a command reports: lines ``BMH_PROPERTY key=value`` in its output."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bmhctl.domain.host_spec import parse_properties
from bmhctl.domain.model import PropertyValue
from bmhctl.errors import InvalidError, brief

_LINE = re.compile(rb"^BMH_PROPERTY[ \t]([^\n]*)", re.M)
_LONGEST = 2000
_MOST_LINES = 100
_MOST_WORDS = 3


class Outputs:
    """The properties that a command has reported so far: the last value of each key that its step declares.

    It gets the whole output in parts, and needs little memory for any output. :attr:`ignored` has the lines that it
    does not accept.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.found: dict[str, PropertyValue | None] = {}
        self._keys = frozenset(keys)
        self._rest = b""
        self._lines = 0
        self._refused: list[str] = []

    @property
    def ignored(self) -> str:
        """Which lines were ignored, and why; empty if no line was ignored."""
        words = self._refused[:_MOST_WORDS]
        more = len(self._refused) - len(words) + max(0, self._lines - _MOST_LINES)
        return "; ".join([*words, f"{more} more lines"] if more else words)

    def feed(self, chunk: bytes) -> None:
        """Read the next part of the output."""
        text, _, rest = (self._rest + chunk).rpartition(b"\n")
        # A line that is too long is refused when it ends; its beginning is enough for that.
        self._rest = rest[: _LONGEST + 1]
        for match in _LINE.finditer(text):
            self._lines += 1
            if self._lines <= _MOST_LINES:
                self._take(match[1])

    def end(self) -> None:
        """Read the last line, if the output does not end with a newline."""
        self.feed(b"\n")

    def _take(self, line: bytes) -> None:
        key, equals, value = (part.strip() for part in line.decode("utf-8", "replace").partition("="))
        if len(line) > _LONGEST:
            self._refused.append(f"{brief(key[:20])}: longer than {_LONGEST} bytes")
        elif not equals:
            self._refused.append(f"{brief(key[:40])} is not key=value")
        elif key not in self._keys:
            self._refused.append(f"{brief(key[:40])} is not among the step's properties")
        else:
            self._set(key, value)

    def _set(self, key: str, text: str) -> None:
        value = int(text) if re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) else text
        try:
            self.found[key] = parse_properties({key: value}, "it")[key] if text else None
        except InvalidError as error:
            self._refused.append(error.message.removeprefix("it."))
