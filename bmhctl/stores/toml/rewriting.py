"""Rewrite the text of a TOML inventory at the positions of keys and headers that ``scanner`` found.

Handles every layout that TOML allows: header tables, sub-tables, dotted keys, inline tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bmhctl.domain.host_spec import SPEC_KEYS, dump_spec
from bmhctl.domain.model import HostSpec
from bmhctl.stores.toml.scanner import Node, scan, walk

_BLANK_LINE = re.compile(r"\r?\n")


def toml_pairs(entry: Mapping[str, object]) -> list[str]:
    """Return ``key = value`` for each key of a table."""
    return [_pair(key, value) for key, value in entry.items()]


def _pair(key: str, value: object) -> str:
    """Return ``key = value`` on one line; a table becomes an inline table."""
    import tomli_w

    if isinstance(value, Mapping):
        return tomli_w.dumps({key: 0}).removesuffix("0\n") + _inline(toml_pairs(value))
    return tomli_w.dumps({key: value}).removesuffix("\n")


def host_key(name: str) -> str:
    """Return a host's name as a TOML key; a name with dots needs quotes."""
    return f'"{name}"' if "." in name else name


def _inline(pairs: Sequence[str]) -> str:
    return f"{{ {', '.join(pairs)} }}" if pairs else "{}"


class Rewriting:
    """Changes to different hosts of one text, collected as replacements of spans.

    Raises ``ValueError`` if two of them overlap.
    """

    def __init__(self, text: str, newline: str) -> None:
        self._text = text
        self._newline = newline
        self._source = scan(text)
        self._tables: list[Node] = []  # the nodes of ``hosts`` itself
        self._hosts: dict[str, list[Node]] = {}  # for each host, all its nodes
        self._owner: dict[Node, Node] = {}  # for each key, the inline table that contains it
        self._last: dict[Node, Node] = {}  # for each header, the last key under it
        self._gone: dict[Node, None] = {}
        self._joining: dict[Node, list[str]] = {}  # for each inline table, its new keys
        self._blocks: list[str] = []
        self._splices: list[tuple[int, int, str]] = []
        for node in walk(self._source.nodes):
            if node.path[0] != "hosts":
                continue
            if len(node.path) == 1:
                self._tables.append(node)
            else:
                self._hosts.setdefault(node.path[1], []).append(node)
            if node.header is not None:
                self._last[node.header] = node
            self._owner.update((child, node) for child in node.inside or ())

    def add(self, spec: HostSpec) -> None:
        """Declare a host: in the inline table of all hosts if the text has one, else in a table at the end."""
        entry = dump_spec(spec)
        for table in self._tables:
            if table.inside is not None:
                self._joining.setdefault(table, []).append(_pair(spec.name, entry))
                return
        self._blocks.append(
            "".join(line + self._newline for line in (f"[hosts.{host_key(spec.name)}]", *toml_pairs(entry)))
        )

    def rename(self, old: str, new: str) -> None:
        """Give a host another name."""
        for node in self._hosts[old]:
            part = 1 - _depth(node)
            if 0 <= part < len(node.parts):
                self._splices.append((*node.parts[part], host_key(new)))

    def remove(self, name: str) -> None:
        """Remove a host's declaration."""
        self._unset(("hosts", name))

    def replace(self, was: HostSpec, spec: HostSpec) -> None:
        """Change the values that differ between two specs of one host."""
        before, after = dump_spec(was), dump_spec(spec)
        host = ("hosts", spec.name)
        new: dict[tuple[str, ...], list[str]] = {}
        for key in SPEC_KEYS:
            old, value = before.get(key), after.get(key)
            path = (*host, key)
            if old == value:
                continue
            if value is None:
                self._unset(path)
            elif isinstance(value, Mapping) and any(node.path[: len(path)] == path for node in self._hosts[spec.name]):
                entries = old if isinstance(old, Mapping) else {}
                for entry in entries.keys() - value.keys():
                    self._unset((*path, entry))
                for entry in value:
                    if entries.get(entry) != value[entry]:
                        self._set((*path, entry), value[entry], new)
            else:
                self._set(path, value, new)
        for table, pairs in new.items():
            self._insert(table, pairs, spec.name)
        if before and not after:
            self._keep_declared(spec.name)

    def result(self) -> str:
        """Return the text with the changes."""
        splices = [*self._splices, *self._lines_gone()]
        owners = {self._owner[node]: None for node in self._gone if node in self._owner} | dict.fromkeys(self._joining)
        for owner in owners:
            if owner not in self._gone:
                splices.extend(self._inline_table(owner))
        text = _spliced(self._text, splices)
        for block in self._blocks:
            if text and not _ends_blank(text, len(text)):
                text += self._newline
            text += block
        return text

    def _set(self, path: tuple[str, ...], value: object, new: dict[tuple[str, ...], list[str]]) -> None:
        for node in self._hosts[path[1]]:
            if node.path == path and node.value is not None:
                self._splices.append((node.value, node.end, _pair("_", value).removeprefix("_ = ")))
                return
        new.setdefault(path[:-1], []).append(_pair(path[-1], value))

    def _unset(self, path: tuple[str, ...]) -> None:
        self._gone.update((node, None) for node in self._hosts[path[1]] if node.path[: len(path)] == path)

    def _keep_declared(self, name: str) -> None:
        """Keep a host declared after all of its keys were removed."""
        nodes = self._hosts[name]
        if all(node in self._gone for node in nodes):
            if _dotted(nodes, ("hosts", name)):
                self._insert(("hosts",), [_pair(name, {})], name)
            else:
                self._insert(("hosts", name), [], name)

    def _insert(self, table: tuple[str, ...], pairs: Sequence[str], name: str) -> None:
        """Write new keys into a table, in the layout that the table has; ``name`` is the host's name."""
        nodes = [*self._tables, *self._hosts[name]]
        for node in nodes:
            if node.path == table:
                if node.inside is not None:
                    self._joining.setdefault(node, []).extend(pairs)
                else:
                    last = self._last.get(node, node)
                    self._insert_lines(self._line_end(last), last, pairs)
                return
        dotted = _dotted(nodes, table)
        if dotted is not None:
            prefix = self._text[dotted.start : dotted.parts[len(table) - _depth(dotted)][0]]
            pairs = [prefix + pair for pair in pairs]
            if dotted in self._owner:
                self._joining.setdefault(self._owner[dotted], []).extend(pairs)
            else:
                self._insert_lines(self._line_end(dotted), dotted, pairs)
            return
        # The text has only sub-tables of the table, such as [hosts.node01.labels]: insert its header above them.
        below = self._hosts[name][0]
        header = self._text[below.start : below.parts[len(table) - 1][1]] + "]"
        self._insert_lines(self._line_start(below), below, [header, *pairs])

    def _insert_lines(self, offset: int, like: Node, lines: Sequence[str]) -> None:
        indent = self._text[self._line_start(like) : like.start]
        self._splices.append((offset, offset, "".join(indent + line + self._newline for line in lines)))

    def _line_start(self, node: Node) -> int:
        return self._text.rfind("\n", 0, node.start) + 1

    def _line_end(self, node: Node) -> int:
        return self._text.index("\n", node.end) + 1

    def _lines_gone(self) -> list[tuple[int, int, str]]:
        """Remove the lines of removed keys; their comments stay, on separate lines."""
        gone: list[tuple[int, int, str]] = []
        runs: list[list[int]] = []  # indices into ``gone``: adjacent lines without comments, beginning with a header
        for node in sorted((node for node in self._gone if node not in self._owner), key=lambda node: node.start):
            start, end = self._line_start(node), self._line_end(node)
            indent = self._text[start : node.start]
            kept = "".join(indent + comment + self._newline for comment in self._source.comments_within(start, end))
            gone.append((start, end, kept))
            if node.value is None and not kept:
                runs.append([len(gone) - 1])
            elif not kept and runs and runs[-1][-1] == len(gone) - 2 and gone[-2][1] == start:
                runs[-1].append(len(gone) - 1)
        for run in runs:
            self._close_gap(gone, run[0], run[-1])
        return gone

    def _close_gap(self, gone: list[tuple[int, int, str]], first: int, last: int) -> None:
        """Remove one of the blank lines around each removed table."""
        start, end = gone[first][0], gone[last][1]
        following = _BLANK_LINE.match(self._text, end)
        if following and (start == 0 or _ends_blank(self._text, start)):
            gone[last] = (gone[last][0], following.end(), "")
        elif end == len(self._text) and _ends_blank(self._text, start):
            blank = self._text.rindex("\n", 0, start - 1) + 1
            taken = gone[first - 1][1] if first else 0  # the end of the removed table above, if any
            gone[first] = (max(blank, taken), gone[first][1], "")

    def _inline_table(self, owner: Node) -> Iterator[tuple[int, int, str]]:
        inside, joining = owner.inside or (), self._joining.get(owner, [])
        kept = [index for index, node in enumerate(inside) if node not in self._gone]
        if not kept:
            yield owner.value or 0, owner.end, _inline(joining)
            return
        for index, node in enumerate(inside):
            if node not in self._gone:
                continue
            if index > kept[0]:
                yield inside[index - 1].end, node.end, ""
            else:
                yield node.start, inside[index + 1].start, ""
        if joining:
            end = inside[kept[-1]].end
            yield end, end, "".join(f", {pair}" for pair in joining)


def _depth(node: Node) -> int:
    """Return how many parts of a node's path are written above it."""
    return len(node.path) - len(node.parts)


def _dotted(nodes: Iterable[Node], table: tuple[str, ...]) -> Node | None:
    """Return the last key that the text writes as a dotted key through the table; None if there is none."""
    found = None
    for node in nodes:
        if node.value is not None and _depth(node) < len(table) < len(node.path) and node.path[: len(table)] == table:
            found = node
    return found


def _ends_blank(text: str, end: int) -> bool:
    return text.endswith(("\n\n", "\n\r\n"), 0, end)


def _spliced(text: str, splices: Iterable[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    offset = 0
    for start, end, new in sorted(splices, key=lambda splice: splice[:2]):
        if start < offset:
            raise ValueError("two changes overlap")
        parts += text[offset:start], new
        offset = end
    return "".join((*parts, text[offset:]))
