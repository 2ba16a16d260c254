"""The table of kinds: what `--from` calls each, how its files are recognised, and which module reads them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Protocol, cast

from bmhctl.errors import InvalidError, UsageError, nearest
from bmhctl.formats.import_batch import FoundHost, Part
from bmhctl.formats.importers.record import (
    GROUPS,
    Found,
    ImportOptions,
    Item,
    Reader,
    Record,
    found_host,
    is_secret,
    secrets_in,
)
from bmhctl.formats.manifest_fields import bad_field, wrong_kind
from bmhctl.formats.recognize import document_looks_like, samples, text_looks_like
from bmhctl.support.values import Frozen

_HEADING = 10_000  # characters of a heading
_CELLS = re.compile(r"[,;\t|]")
_HEAD = 100_000  # how many characters of a text are read to recognise it
_DOCUMENT = re.compile(r"\s*+(?:#[^\n]*+\n\s*+)*+(?:\{|\[\s*+[\[{\"\]]|---|[\w.-]++:(?:\s|\Z))")
_DEPTH = 4  # of lists and mappings around the records of a document
_GLOB = re.compile(r"[*?\[]")
_SAMPLE = 20  # how many records of a list are read to recognise it


class Kind(Frozen):
    """One kind of file.

    ``module`` has ``reader(items)``; beside it ``read_text(text, origin)`` for a kind of texts, and
    ``read_document(document, place)`` for one whose records are not a list. ``records`` are sets of keys of which each
    shows a record of this kind; ``api`` is how the apiVersion of its manifests begins, ``text`` how its texts do.
    """

    word: str
    title: str
    module: str | None = None
    records: tuple[frozenset[str], ...] = ()
    api: tuple[str, ...] = ()
    text: Callable[[str], bool] | None = None
    documents: bool = False
    own: bool = False


class Module(Protocol):
    """What a kind's module has."""

    def reader(self, items: list[Item]) -> Reader:
        """Return the reader of its items, which may look something up in all of them."""

    def read_text(self, text: str, origin: str) -> Iterable[Item]:
        """Return the records of a text."""

    def read_document(self, document: object, place: str) -> list[Item] | None:
        """Return the records of a document; None if it is of another kind."""


def _keys(*groups: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group.split(",")) for group in groups)


_MAC = r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"
_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40})"
_SECTION = re.compile(r"\[[^\]\n=,]++\][ \t]*+(?:[#;].*)?")
_BARE_HOST = re.compile(r"[A-Za-z0-9][\w.\-\[\]:]*+(?<!:)")
_NAME = re.compile(r"(?:host|node|server|machine)?[ _-]?(?:name|host|node|server|machine)|fqdn", re.I)
_LINES = 1000  # how many lines of a text are read to recognise it


def _begins(pattern: str) -> Callable[[str], bool]:
    """Return a test whether the first line that is neither empty nor a comment begins with a pattern."""
    compiled = re.compile(rf"(?:[ \t]*+(?:#[^\n]*+)?+\r?\n)*+{pattern}")
    return lambda text: compiled.match(text) is not None


def _is_ansible(text: str) -> bool:
    """Return whether a text is an Ansible inventory in INI: it has what neither TOML nor YAML has."""
    lines = [line.strip() for line in text.split("\n", _LINES)[:_LINES]]
    lines = [line for line in lines if line and line[0] not in "#;"]
    if not lines or lines[0][0] in "{\"'-" or lines[0].endswith(":"):
        return False
    section = False
    for line in lines:
        if _SECTION.fullmatch(line):
            if ":vars]" in line or ":children]" in line:
                return True
            section = True
        elif (section and _BARE_HOST.fullmatch(line)) or _sets_ansible(line):
            return True
    return False


def _sets_ansible(line: str) -> bool:
    host, _, variable = line.partition("=")[0].partition(" ")
    return line[0] != "[" and ":" not in host and " ansible_" in f" {variable}"


def _is_csv(text: str) -> bool:
    """Return whether the first line of a text is a heading with a column of names."""
    heading = text.lstrip()[:_HEADING].partition("\n")[0].strip()
    if any(mark in heading for mark in "{}[]") or heading.startswith(("name,state,flags,since,", "#", "-")):
        return False
    cells = _CELLS.split(heading)
    return len(cells) > 1 and any(_NAME.fullmatch(cell.strip().strip('"')) for cell in cells)


KINDS = (
    Kind("metal3", "BareMetalHost manifests", api=("metal3.io/", "metal.afritzler.github.io/"), own=True),
    Kind("bmhctl", "what bmhctl export or list wrote", own=True),
    Kind(
        "ironic",
        "Ironic nodes",
        "ironic",
        records=_keys(
            "provision_state,uuid",
            "provision_state,driver",
            "Provisioning State,UUID",
            "address,node_uuid",
            "Address,UUID",
        ),
    ),
    Kind("maas", "MAAS machines", "maas", records=_keys("system_id,status_name", "system_id,fqdn")),
    Kind("netbox", "NetBox devices", "netbox", records=_keys("device_type,site", "device_type,device_role")),
    Kind("metal-operator", "metal-operator Servers", "metal_operator", api=("metal.ironcore.dev/",)),
    Kind("tinkerbell", "Tinkerbell Hardware", "tinkerbell", api=("tinkerbell.org/", "bmc.tinkerbell.org/")),
    Kind("labgrid", "labgrid places", "labgrid", records=_keys("acquired,matches", "acquired,allowed,tags")),
    Kind(
        "bifrost",
        "a bifrost host list",
        "bifrost",
        records=_keys("driver_info,nics", "driver,nics"),
        text=_begins(rf"{_MAC},[^,\n]*+,[^,\n]*+,[^,\n]*+,\d*+,\d*+,\d*+,"),
    ),
    Kind("ansible", "an Ansible inventory", "ansible", text=_is_ansible, documents=True),
    Kind(
        "dnsmasq",
        "dnsmasq leases",
        "leases",
        text=_begins(
            rf"(?:duid [0-9a-f:]++\r?\n)?+(?:(?:\d++|infinite) (?:\d\d-)?+{_MAC} [0-9a-fA-F.:]++ \S|dhcp-host=)"
        ),
    ),
    Kind(
        "isc-dhcp",
        "ISC DHCP leases",
        "isc_leases",
        text=_begins(r"(?:(?:authoring-byte-order|server-duid)[^\n]*+\n\s*+)*+lease [0-9A-Fa-f.:]++ \{"),
    ),
    Kind("hosts", "a hosts file", "hosts_file", text=_begins(rf"[ \t]*+{_IP}[ \t]++[A-Za-z0-9]")),
    Kind("csv", "CSV with a heading", "csv_table", text=_is_csv),
)
"""Every kind, in the order in which a text is compared with them."""

WORDS = tuple(kind.word for kind in KINDS)
"""What ``--from`` may be."""


def kind_named(word: str) -> Kind:
    """Return the kind that ``--from`` names; raise `UsageError` for another word."""
    for kind in KINDS:
        if kind.word == word:
            return kind
    near = nearest(word, WORDS)
    raise UsageError(
        f"--from: {word!r:.80} is not a kind of file{f': did you mean {near}?' if near else ''}",
        hint=f"known: {', '.join(WORDS)}",
    )


def kind_of_text(text: str) -> Kind | None:
    """Return the kind of a text that is neither YAML, JSON nor TOML; None if its beginning shows none."""
    head = text[:_HEAD]
    return next((kind for kind in KINDS if kind.text is not None and kind.text(head)), None)


def reads_text(kind: Kind, text: str) -> bool:
    """Return whether a text, said to be of this kind, is read as lines, and not as YAML or JSON."""
    if kind.text is None:
        return False
    head = text[:_HEAD]
    return bool(kind.text(head)) or not (kind.records or _DOCUMENT.match(head))


def look_of_text(text: str, wanted: Kind) -> str | None:
    """Return what a text looks like that is of another kind than is wanted; None where its beginning shows none."""
    if wanted.text is not None and wanted.text(text[:_HEAD]):
        return None
    kind = kind_of_text(text)
    if kind is not None:
        return None if kind is wanted else kind.title
    return None if wanted.text is not None else text_looks_like(text)


class Others:
    """Takes the records of other systems out of texts and documents, by their kind; ``wanted`` is the only kind."""

    def __init__(self, wanted: Kind | None = None) -> None:
        self.wanted = wanted
        self.items: defaultdict[str, list[Item]] = defaultdict(list)

    def take_text(self, text: str, origin: str, kind: Kind) -> None:
        """Take the records of a text; raise `InvalidError` that begins with ``origin``."""
        self.items[kind.word] += _module(kind).read_text(text, origin)

    def check_records(self, origin: str) -> None:
        """Raise an error that begins with ``origin`` if another kind is wanted than what bmhctl wrote."""
        if self.wanted is not None and self.wanted.word != "bmhctl":
            error = not_as_wanted(self.wanted, "what bmhctl wrote")
            raise InvalidError(f"{origin}: {error.message}", hint=error.hint, details={"file": origin})

    def takes_document(self, place: str, document: object) -> bool:
        """Return whether a document is another system's, and is taken; raise an error if it is not as wanted."""
        if self.wanted is None:
            if not isinstance(document, dict | list) or _is_manifest(document):
                return False
            kind = _recognised(document)
        elif self.wanted.api:
            return False
        else:
            kind = self.wanted
        found = _items(kind, document, place)
        if found is not None:
            self.items[kind.word] += found
            return True
        if self.wanted is None:
            return False
        raise not_as_wanted(self.wanted, document_looks_like(document))

    def takes_manifest(self, place: str, manifest: object) -> bool:
        """Return whether a manifest is another system's, and is taken; raise an error if it is not as wanted."""
        version = manifest.get("apiVersion") if isinstance(manifest, dict) else None
        kind = next((each for each in KINDS if each.api and str(version).startswith(each.api)), None)
        if kind is not None and isinstance(manifest, dict) and not kind.own and self.wanted in (None, kind):
            self.items[kind.word].append(Item(place, manifest))
            return True
        if self.wanted is not None and self.wanted is not kind and not _is_secret(manifest):
            raise not_as_wanted(self.wanted, document_looks_like(manifest))
        return False


def not_as_wanted(wanted: Kind, looks_like: str | None) -> InvalidError:
    """Return the error for a file of another kind than ``--from`` says, without its place."""
    said = f"not {wanted.title}" + (f": it looks like {looks_like}" if looks_like else "")
    return bad_field("", said, hint="leave out --from where the kind is to be found by itself")


def unpack_items(word: str, items: list[Item], now: datetime, options: ImportOptions) -> Part:
    """Return the hosts that the items of a kind stand for; raise `InvalidError` that begins with an item's place."""
    kind = kind_named(word)
    read = _module(kind).reader(items)
    hosts: dict[object, FoundHost] = {}
    skipped: list[str] = []
    warnings: list[str] = []
    secrets: dict[str, int] = {}
    again: dict[object, int] = {}
    seen: dict[str, None] = {}
    used: set[str] = set()
    nameless = 0
    for number, item in enumerate(items):
        secrets_in(item.data, secrets, vaults=kind.documents)
        record, found = _found(read, item, now, options)
        warnings += found.warnings
        if record is not None:
            seen |= dict.fromkeys(record.attributes)
            used.update(record.used)
        nameless += found.nameless
        if found.skipped is not None:
            skipped.append(found.skipped)
        if found.host is None:
            continue
        # Pages that overlap, or were written one after the other, have a record twice: the later one is newer.
        key = (found.host.id, found.host.arrival.host.name) if found.host.id else number
        if key in hosts:
            again[key] = again.get(key, 1) + 1
            del hosts[key]
        hosts[key] = found.host
    origin = items[0].place.partition(", ")[0]
    warnings += [
        f"{hosts[key].arrival.host.name}: {count} records of one id: the last one is used"
        for key, count in again.items()
    ]
    _refuse_unknown(options, seen, origin)
    if kind.word == "csv":
        if nameless == len(items):
            raise InvalidError(
                f"{origin}: no column is a host's name",
                hint=f"--map COLUMN=name says which is: {', '.join(each for each in seen if not is_secret(each)):.400}",
                details={"file": origin},
            )
        skipped += _left_out(options, seen, used, origin)
    if secrets:
        count = sum(secrets.values())
        keys = ", ".join(sorted(secrets)[:8]) + (", …" if len(secrets) > 8 else "")
        skipped.append(f"{origin}: {count} secret{'s' * (count > 1)} skipped, which are never stored: {keys}")
    return Part(tuple(hosts.values()), skipped=tuple(skipped), warnings=tuple(warnings))


def _refuse_unknown(options: ImportOptions, seen: Iterable[str], origin: str) -> None:
    """Raise `UsageError` for what ``--map`` or ``--label-from`` names and no record has."""
    seen = list(seen)
    named = [("--map", source) for source, _ in options.mapping]
    named += [("--label-from", each) for each in options.label_from or () if each != GROUPS and not _GLOB.search(each)]
    for option, source in named:
        if source not in seen:
            near = {each.lower(): each for each in seen}.get(
                nearest(source.lower(), [each.lower() for each in seen]) or ""
            )
            known = ", ".join(each for each in seen if not is_secret(each)) or "nothing that can be named"
            raise UsageError(
                f"{option}: {origin} has no {source!r:.80}{f': did you mean {near}?' if near else ''}",
                hint=f"it has {known:.400}",
            )


def _left_out(options: ImportOptions, seen: Iterable[str], used: set[str], origin: str) -> list[str]:
    taken = used | {source for source, _ in options.mapping}
    patterns = options.label_from or ()
    left = [
        key
        for key in seen
        if key not in taken and not is_secret(key) and not any(fnmatchcase(key, each) for each in patterns)
    ]
    if not left:
        return []
    keys = ", ".join(left[:8]) + (", …" if len(left) > 8 else "")
    return [f"{origin}: columns not imported: {keys}: --label-from COLUMN makes a label of one, --map any field"]


def _found(read: Reader, item: Item, now: datetime, options: ImportOptions) -> tuple[Record | None, Found]:
    try:
        record = read(item)
        if isinstance(record, str):
            return None, Found(skipped=f"{item.place}: {record}" if record else None)
        return record, found_host(record, item, now, options)
    except InvalidError as error:
        raise _placed(error, item) from error


def _placed(error: InvalidError, item: Item) -> InvalidError:
    where = {"file": item.place.partition(", ")[0], "record": item.place, "field": error.details.get("field", "")}
    return InvalidError(f"{item.place}: {error.message}", hint=error.hint, details=where)


def _module(kind: Kind) -> Module:
    return cast("Module", import_module(f"bmhctl.formats.importers.{kind.module}"))


def _is_manifest(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("kind"), str) and "apiVersion" in document


def _is_secret(manifest: object) -> bool:
    return isinstance(manifest, dict) and manifest.get("kind") in ("Secret", "SecretList")


def _recognised(document: object) -> Kind:
    """Return the kind of the first records of a document, else that of documents without any."""
    for record in samples(document):
        for kind in KINDS:
            if kind.records and _fits(kind, record):
                return kind
    return kind_named("ansible")


def _items(kind: Kind, document: object, place: str) -> list[Item] | None:
    if kind.documents:
        return _module(kind).read_document(document, place)
    found = list(_rows(kind, document, place, None, 0))
    return found or None


def _fits(kind: Kind, value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in kind.records)


def _rows(kind: Kind, value: object, place: str, name: str | None, depth: int) -> Iterator[Item]:
    """Yield the records of a document: one alone, in a list, in a page of one, or each under its name."""
    if isinstance(value, dict) and _fits(kind, value):
        yield Item(place, value, name)
    elif depth > _DEPTH:
        return
    elif isinstance(value, list):
        fits = any(_fits(kind, each) for each in value[:_SAMPLE])
        for number, each in enumerate(value, 1):
            where = f"{place}, item {number}"
            if fits and each is not None and not isinstance(each, dict):
                raise wrong_kind(f"item {number}", "a mapping", each)
            if fits and isinstance(each, dict):
                yield Item(where, each)
            elif isinstance(each, dict | list):
                yield from _rows(kind, each, where, None, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, list):
                yield from _rows(kind, each, place, None, depth + 1)
            elif isinstance(each, dict):
                yield from _rows(kind, each, f"{place}, {key!s:.80}", str(key), depth + 1)
