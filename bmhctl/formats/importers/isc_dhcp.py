"""Files of the ISC DHCP server: the leases in `dhcpd.leases`, and the `host` declarations there and in `dhcpd.conf`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.record import Item, Record, alone, bad_line, client_name, leased
from bmhctl.formats.recognize import text_looks_like
from bmhctl.support.values import Frozen, field

_TOKEN = re.compile(r'#[^\n]*+|"(?:[^"\\]|\\.)*+"?|[{};]|[^\s{};"#]++', re.S)
_BLOCKS = ("lease", "host")
_FIELDS = {
    ("hardware", "ethernet"): "mac",
    ("fixed-address",): "address",
    ("fixed-address6",): "address",
    ("client-hostname",): "name",
    ("binding", "state"): "state",
    ("deleted",): "deleted",
    ("dynamic",): "dynamic",
}
"""The words at the beginning of a statement in a block, and the field that the word after them fills."""


class _Block(Frozen):
    """A block of the file; ``kind`` is ``lease``, ``host`` or the first word of any other block or ``include``."""

    kind: str
    name: str
    begin: int
    fields: dict[str, str] = field(default_factory=dict)


def read_text(text: str, origin: str) -> list[Item]:
    """Return the active leases and the declared hosts.

    A later lease of the same address replaces the earlier, and so does what the server recorded about a host. Of the
    declarations of a host in a configuration, the first counts.

    Raise `InvalidError` for a block that is cut off, and for a text without such blocks.
    """
    found: dict[tuple[str, str], Item] = {}
    opened = 0
    for block in _blocks(text, origin):
        key = (block.kind, block.name)
        recorded = block.kind != "host" or not block.fields.keys().isdisjoint(("dynamic", "deleted"))
        place = f"{origin}, {block.kind} {block.name:.80}"
        if key in found and not recorded:
            said = f"{block.name} is declared again: only its first declaration counts"
            found[block.kind, f"{block.name} {opened}"] = Item(place, {}, skipped=said)
            continue
        found.pop(key, None)
        opened += block.kind in _BLOCKS
        if block.fields.get("state", "active") == "active" and "deleted" not in block.fields:
            name = "address" if block.kind == "lease" else "include" if block.kind == "include" else "name"
            found[key] = Item(place, {**block.fields, name: block.name})
    if not opened:
        looks_like = text_looks_like(text)
        said = f"it looks like {looks_like}" if looks_like else "it has no lease"
        raise InvalidError(f"{origin}: nothing to import: {said}", details={"file": origin, "looks_like": looks_like})
    return list(found.values())


def _blocks(text: str, origin: str) -> Iterator[_Block]:
    """Yield the leases and hosts of a text, and the files that it includes."""
    words: list[str] = []
    begin = 0
    open_: list[_Block] = []
    for match in _TOKEN.finditer(text):
        found = match[0]
        if found[0] == "#":
            continue
        if found not in "{};":
            begin = begin if words else match.start()
            words.append(found.strip('",'))
            continue
        inner = open_[-1] if open_ and open_[-1].kind in _BLOCKS else None
        kind, name = words[0] if words else "", " ".join(words[1:])
        if found == "{":
            if inner is not None and kind in _BLOCKS:
                break
            open_.append(_Block(kind, name, begin))
        elif found == "}":
            if inner is not None:
                yield inner
            del open_[-1:]
        elif inner is not None:
            _take(words, inner.fields)
        elif kind == "include":
            yield _Block(kind, name, begin)
        words = []
    if cut := next((block for block in open_ if block.kind in _BLOCKS), None):
        line = text.count("\n", 0, cut.begin) + 1
        raise bad_line(origin, line, f"the {cut.kind} {cut.name:.80} is not complete", "the file may be cut off")


def _take(words: list[str], fields: dict[str, str]) -> None:
    for length in (1, 2):
        key = _FIELDS.get(tuple(words[:length]))
        if key is not None:
            fields.setdefault(key, " ".join(words[length : length + 1]))


@alone
def reader(item: Item) -> Record | str:
    """Return the host of a lease or a declaration."""
    fields = item.fields
    if (included := fields.line("include")) is not None:
        return f"{included} is not read: import it together with this file"
    mac = ":".join(each.zfill(2) for each in (fields.line("mac") or "").split(":") if each)
    return leased(client_name(fields.line("name")), fields.line("address"), [mac] if mac else ())
