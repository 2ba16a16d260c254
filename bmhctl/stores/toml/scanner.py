"""Find the positions of headers, keys, values and comments in a TOML text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from bmhctl.domain.host_name import AS_STORED
from bmhctl.support.values import Frozen


class Node(Frozen):
    """A header, or a key with its value, and its position in the text.

    ``path`` is the full dotted name, with a host's name in lower case. ``parts`` are the spans of those last parts of
    the path that are written here. ``value`` is where the value begins (None: a header), and ``inside`` are the keys in
    a value that is an inline table. ``header`` is the header above the key.
    """

    path: tuple[str, ...]
    parts: tuple[tuple[int, int], ...]
    start: int
    end: int
    value: int | None = None
    inside: tuple[Node, ...] | None = None
    header: Node | None = None

    __eq__ = object.__eq__  # nodes are compared by identity
    __hash__ = object.__hash__


class Source(Frozen):
    """The headers and keys of a TOML text in their order, and the spans of its comments."""

    text: str
    nodes: tuple[Node, ...]
    comments: tuple[tuple[int, int], ...]

    def comments_within(self, start: int, end: int) -> list[str]:
        """Return the comments that begin at or after ``start`` and before ``end``."""
        first = bisect_right(self.comments, (start, -1))
        last = bisect_right(self.comments, (end, -1))
        return [self.text[begin:stop] for begin, stop in self.comments[first:last]]


def scan(text: str) -> Source:
    """Find every header, key and comment of a valid TOML text; raise ``ValueError`` for a text that it can't follow."""
    return _Scanner(text).source()


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield these nodes and all nodes inside them, in the order of the text."""
    for node in nodes:
        yield node
        if node.inside:
            yield from walk(node.inside)


class _Scanner:
    _BLANK = re.compile(r"[ \t\r\n]*(#[^\r\n]*)?")
    _KEY_PART = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*(\.?)""")
    _EQUALS = re.compile(r"=[ \t]*")
    _CLOSE = re.compile(r"\]\]?")
    _SCALAR = re.compile(
        r'"""(?:[^\\]|\\.)*?"{3,5}'
        r"|'''.*?'{3,5}"
        r'|"(?:[^"\\\n]|\\.)*"'
        r"|'[^'\n]*'"
        r"|\d{4}-\d\d-\d\d [^\s,\]}#]+"  # a date and a time with a space between them
        r"|[^\s,\]}#]+",
        re.S,
    )

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self._comments: list[tuple[int, int]] = []

    def source(self) -> Source:
        nodes: list[Node] = []
        header: Node | None = None
        while self._skip():
            if self._next() == "[":
                nodes.append(header := self._header())
            else:
                nodes.append(self._pair(header.path if header else (), header))
        return Source(self._text, tuple(nodes), tuple(self._comments))

    def _header(self) -> Node:
        start = self._offset
        self._offset += 2 if self._text.startswith("[[", start) else 1
        path, parts = self._key()
        self._match(self._CLOSE)
        return Node(_as_stored(path), parts, start, self._offset)

    def _pair(self, above: tuple[str, ...], header: Node | None) -> Node:
        path, parts = self._key()
        self._match(self._EQUALS)
        value = self._offset
        path = _as_stored((*above, *path))
        inside = self._value(path)
        return Node(path, parts, parts[0][0], self._offset, value, inside, header)

    def _key(self) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        path: list[str] = []
        parts: list[tuple[int, int]] = []
        dot = "."
        while dot:
            match = self._match(self._KEY_PART)
            path.append(_unquoted(match[1]))
            parts.append(match.span(1))
            dot = match[2]
        return tuple(path), tuple(parts)

    def _value(self, path: tuple[str, ...]) -> tuple[Node, ...] | None:
        opening = self._next()
        if opening not in ("[", "{"):
            self._match(self._SCALAR)
            return None
        inside: list[Node] = []
        self._offset += 1
        while self._skip() and self._next() not in ("]", "}"):
            if self._next() == ",":
                self._offset += 1
            elif opening == "{":
                inside.append(self._pair(path, None))
            else:
                self._value(path)
        self._offset += 1
        return tuple(inside) if opening == "{" else None

    def _skip(self) -> bool:
        """Advance to the next header, key or comment; return False at the end of the text."""
        while True:
            match = self._match(self._BLANK)
            if match[1] is None:
                return self._offset < len(self._text)
            self._comments.append(match.span(1))

    def _next(self) -> str:
        return self._text[self._offset : self._offset + 1]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._offset)
        if not match:
            raise ValueError(f"can't follow the text at offset {self._offset}")
        self._offset = match.end()
        return match


def _as_stored(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path with the host's name in it in lower case, as the inventory stores it."""
    return ("hosts", path[1].translate(AS_STORED), *path[2:]) if len(path) > 1 and path[0] == "hosts" else path


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    if "\\" not in key or key[0] == "'":
        return key[1:-1]
    import tomllib

    return next(iter(tomllib.loads(f"{key} = 0")))
