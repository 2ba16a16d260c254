"""Edit a TOML inventory and keep every byte that need not change, comments included.

An edit is a handful of splices at the places that ``scan`` found, for every layout that TOML allows:
header tables, sub-tables, dotted keys, inline tables. The result is read again before anyone may write it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bmhctl.domain.host_name import as_stored, check_name
from bmhctl.domain.host_spec import SPEC_KEYS, dump_spec, parse_spec
from bmhctl.domain.model import HostSpec
from bmhctl.errors import InvalidError, NotFoundError
from bmhctl.stores.toml.declaration import parse_declaration
from bmhctl.stores.toml.scanner import Node, scan, walk
from bmhctl.support.values import Frozen, replace

_BLANK_LINE = re.compile(r"\r?\n")
_STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|(#[^\r\n]*)''', re.S
)


class Add(Frozen):
    """Declare a host."""

    spec: HostSpec


class Replace(Frozen):
    """Change what is declared about a host; equal values stay as they are written."""

    spec: HostSpec


class Rename(Frozen):
    """Give a host another name."""

    old: str
    new: str


class Remove(Frozen):
    """Remove a host's declaration; the comments in its tables stay."""

    name: str


Change = Add | Replace | Rename | Remove


def edited(text: bytes, changes: Sequence[Change], name: str) -> bytes:
    """Return the text of a TOML inventory with the changes, made in order; ``name`` is the file's name in messages.

    Raises :class:`NotFoundError` for a host that is not declared. Raises :class:`InvalidError` when the text is
    no inventory, when a name is taken, and when the result would not be exactly what was asked for with every
    comment kept; then ``hint`` and ``details["by_hand"]`` say what to write by hand.
    """
    before = parse_declaration(text, name)
    changes = [_canonical(change) for change in changes]
    wanted = {spec.name: spec for spec in before.hosts}
    for change in changes:
        _apply(change, wanted, name)
    source = text.decode("utf-8")
    try:
        result = _rewritten(source, changes, before.hosts)
        after = parse_declaration(result.encode("utf-8"), name)
        exact = (
            {spec.name: spec for spec in after.hosts} == wanted
            and after.policy_text == before.policy_text
            and _comments(result) == _comments(source)
        )
    except (InvalidError, ValueError, RecursionError):
        exact = False
    if exact:
        return result.encode("utf-8")
    by_hand = _by_hand(changes, before.hosts)
    raise InvalidError(
        f"{name}: can't make this change without disturbing the rest of the file; it is as it was",
        hint="edit it by hand: " + "; ".join(by_hand[:3]) + (" …" if len(by_hand) > 3 else ""),
        details={"file": name, "by_hand": by_hand},
    )


# What is asked for


def _canonical(change: Change) -> Change:
    match change:
        case Add(spec) | Replace(spec):
            return replace(change, spec=parse_spec(spec.name, dump_spec(spec)))
        case Rename(old, new):
            return Rename(as_stored(old), check_name(new))
        case Remove(gone):
            return Remove(as_stored(gone))


def _names(change: Change) -> set[str]:
    match change:
        case Add(spec) | Replace(spec):
            return {spec.name}
        case Rename(old, new):
            return {old, new}
        case Remove(name):
            return {name}


def _apply(change: Change, specs: dict[str, HostSpec], name: str) -> None:
    match change:
        case Add(spec):
            _refuse_taken(spec.name, specs, name)
            specs[spec.name] = spec
        case Replace(spec):
            _require(spec.name, specs, name)
            specs[spec.name] = spec
        case Rename(old, new):
            _require(old, specs, name)
            if new != old:
                _refuse_taken(new, specs, name)
                specs[new] = replace(specs.pop(old), name=new)
        case Remove(gone):
            _require(gone, specs, name)
            del specs[gone]


def _require(host: str, specs: Mapping[str, HostSpec], name: str) -> None:
    if host not in specs:
        raise NotFoundError(f"{name} declares no host {host}", host=host, hint="see what it declares: bmhctl list")


def _refuse_taken(host: str, specs: Mapping[str, HostSpec], name: str) -> None:
    if host in specs:
        raise InvalidError(f"{name} already declares {host}", host=host, hint=f"change it: bmhctl set {host} …")


def _by_hand(changes: Iterable[Change], hosts: Iterable[HostSpec]) -> list[str]:
    specs = {spec.name: spec for spec in hosts}
    lines = []
    for change in changes:
        match change:
            case Add(spec):
                pairs = ", ".join(_pairs(dump_spec(spec)))
                lines.append(f"at the end write [hosts.{_key(spec.name)}] and below it {pairs}")
            case Replace(spec):
                before, after = dump_spec(specs[spec.name]), dump_spec(spec)
                new = _pairs({key: value for key, value in after.items() if before.get(key) != value})
                gone = [key for key in before if key not in after]
                said = [f"write {', '.join(new)}"] * bool(new) + [f"delete {', '.join(gone)}"] * bool(gone)
                lines.append(f"under [hosts.{_key(spec.name)}] {' and '.join(said) or 'change nothing'}")
            case Rename(old, new_name):
                lines.append(f"write hosts.{_key(new_name)} for hosts.{_key(old)} wherever it stands")
            case Remove(name):
                lines.append(f"delete all of hosts.{_key(name)}")
        _apply(change, specs, "")
    return lines


# Text


def _comments(text: str) -> Counter[str]:
    """Return the comments of a valid TOML text, found in another way than the edit found them."""
    return Counter(comment for comment in _STRING_OR_COMMENT.findall(text) if comment)


def _rewritten(text: str, changes: Sequence[Change], hosts: Iterable[HostSpec]) -> str:
    specs = {spec.name: spec for spec in hosts}
    first_line = text.find("\n")
    newline = "\r\n" if text.endswith("\r", 0, max(first_line, 0)) else "\n"
    is_open = not text.endswith("\n") and text != ""
    if is_open:
        text += newline
    for batch in _batches(changes):
        rewriting = _Rewriting(text, newline)
        for change in batch:
            rewriting.make(change, specs)
            _apply(change, specs, "")
        text = rewriting.result()
    return text.removesuffix(newline) if is_open else text


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Return the changes in groups that concern different hosts, so that each group needs one scan of the text."""
    batch: list[Change] = []
    touched: set[str] = set()
    for change in changes:
        names = _names(change)
        if touched & names:
            yield batch
            batch, touched = [], set()
        batch.append(change)
        touched |= names
    yield batch


def _pairs(entry: Mapping[str, object]) -> list[str]:
    return [_pair(key, value) for key, value in entry.items()]


def _pair(key: str, value: object) -> str:
    """Return ``key = value`` on one line, a table as an inline table."""
    import tomli_w

    if isinstance(value, Mapping):
        return tomli_w.dumps({key: 0}).removesuffix("0\n") + _inline(_pairs(value))
    return tomli_w.dumps({key: value}).removesuffix("\n")


def _key(name: str) -> str:
    """Return a host's name as a key: one with dots needs quotes."""
    return f'"{name}"' if "." in name else name


def _inline(pairs: Sequence[str]) -> str:
    return f"{{ {', '.join(pairs)} }}" if pairs else "{}"


class _Rewriting:
    """Changes to different hosts of one text, collected as splices."""

    def __init__(self, text: str, newline: str) -> None:
        self._text = text
        self._newline = newline
        self._source = scan(text)
        self._tables: list[Node] = []  # what is written for `hosts` itself
        self._hosts: dict[str, list[Node]] = {}  # all that is written about a host
        self._owner: dict[Node, Node] = {}  # the inline table that a key is in
        self._last: dict[Node, Node] = {}  # the last key under a header
        self._gone: dict[Node, None] = {}
        self._joining: dict[Node, list[str]] = {}  # new keys of inline tables
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

    def make(self, change: Change, specs: Mapping[str, HostSpec]) -> None:
        match change:
            case Add(spec):
                self._add(spec)
            case Replace(spec):
                self._replace(dump_spec(specs[spec.name]), dump_spec(spec), spec.name)
            case Rename(old, new):
                self._rename(old, new)
            case Remove(name):
                self._unset(("hosts", name))

    def result(self) -> str:
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

    def _add(self, spec: HostSpec) -> None:
        entry = dump_spec(spec)
        for table in self._tables:
            if table.inside is not None:
                self._joining.setdefault(table, []).append(_pair(spec.name, entry))
                return
        self._blocks.append("".join(line + self._newline for line in (f"[hosts.{_key(spec.name)}]", *_pairs(entry))))

    def _rename(self, old: str, new: str) -> None:
        for node in self._hosts[old]:
            part = 1 - _depth(node)
            if 0 <= part < len(node.parts):
                self._splices.append((*node.parts[part], _key(new)))

    def _replace(self, before: Mapping[str, object], after: Mapping[str, object], name: str) -> None:
        host = ("hosts", name)
        new: dict[tuple[str, ...], list[str]] = {}
        for key in SPEC_KEYS:
            was, value = before.get(key), after.get(key)
            path = (*host, key)
            if was == value:
                continue
            if value is None:
                self._unset(path)
            elif isinstance(value, Mapping) and self._is_written(path):
                facts = was if isinstance(was, Mapping) else {}
                for fact in facts.keys() - value.keys():
                    self._unset((*path, fact))
                for fact in value:
                    if facts.get(fact) != value[fact]:
                        self._set((*path, fact), value[fact], new)
            else:
                self._set(path, value, new)
        for table, pairs in new.items():
            self._insert(table, pairs, name)
        if before and not after:
            self._keep_declared(name)

    def _set(self, path: tuple[str, ...], value: object, new: dict[tuple[str, ...], list[str]]) -> None:
        for node in self._hosts[path[1]]:
            if node.path == path and node.value is not None:
                self._splices.append((node.value, node.end, _pair("_", value).removeprefix("_ = ")))
                return
        new.setdefault(path[:-1], []).append(_pair(path[-1], value))

    def _unset(self, path: tuple[str, ...]) -> None:
        self._gone.update((node, None) for node in self._hosts[path[1]] if node.path[: len(path)] == path)

    def _is_written(self, path: tuple[str, ...]) -> bool:
        return any(node.path[: len(path)] == path for node in self._hosts[path[1]])

    def _keep_declared(self, name: str) -> None:
        """Keep a host declared when none of its keys is left."""
        nodes = self._hosts[name]
        if all(node in self._gone for node in nodes):
            if _dotted(nodes, ("hosts", name)):
                self._insert(("hosts",), [_pair(name, {})], name)
            else:
                self._insert(("hosts", name), [], name)

    def _insert(self, table: tuple[str, ...], pairs: Sequence[str], name: str) -> None:
        """Write new keys into a table, in the way in which the table is written; ``name`` is the host's."""
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
        # Only tables below it are written, such as [hosts.node01.labels]: its own header goes above them.
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
        """Remove the lines of removed keys; comments stay on lines of their own."""
        gone: list[tuple[int, int, str]] = []
        runs: list[list[int]] = []  # adjacent lines that leave nothing, as indices, with a header among them
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
            taken = gone[first - 1][1] if first else 0  # by the table above, if that is gone, too
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
    """Return the last key that is written as a dotted key through the table."""
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
