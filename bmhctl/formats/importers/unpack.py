"""Turn the records of one kind into hosts, and report records, secrets and columns that are skipped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from bmhctl.errors import InvalidError, UsageError, nearest
from bmhctl.formats.import_batch import FoundHost, Part
from bmhctl.formats.importers.kinds import kind_named, module_of
from bmhctl.formats.importers.record import (
    GROUPS,
    ImportOptions,
    Item,
    Reader,
    Record,
    found_host,
    is_secret,
    secrets_in,
    takes_attribute,
    takes_group,
    unread_bmcs,
)

_GLOB = re.compile(r"[*?\[]")


def unpack_items(word: str, items: list[Item], now: datetime, options: ImportOptions) -> Part:
    """Return the hosts of the items of a kind; raise `InvalidError` that begins with the place of an item."""
    kind = kind_named(word)
    read: Reader = module_of(kind).reader(items)
    hosts: dict[object, FoundHost] = {}
    skipped: list[str] = []
    warnings: list[str] = []
    secrets: dict[str, int] = {}
    again: dict[object, int] = {}
    seen: dict[str, None] = {}
    groups: dict[str, None] = {}
    used: set[str] = set()
    bmcs: dict[str, None] = {}
    records = left_out = 0
    for number, item in enumerate(items):
        secrets_in(item.data, secrets, vaults=kind.documents)
        try:
            record = item.skipped or read(item)
            found = record if isinstance(record, str) else found_host(record, item.place, now, options)
        except InvalidError as error:
            where = {"file": _file_of(item), "record": item.place, "field": error.details.get("field", "")}
            raise InvalidError(f"{item.place}: {error.message}", hint=error.hint, details=where) from error
        if isinstance(record, Record):
            records += 1
            left_out += isinstance(found, str)
            seen |= dict.fromkeys(record.attributes)
            groups |= dict.fromkeys(record.groups)
            used.update(record.used)
            bmcs |= dict.fromkeys(unread_bmcs(record))
        if isinstance(found, str) and found:
            skipped.append(f"{item.place}: {found}")
        if not isinstance(found, FoundHost):
            continue
        warnings += [f"{item.place}: {said}" for said in found.warnings]
        # Pages of an API may contain a record twice: the later one is newer.
        key = (found.id, found.host.name) if found.id else number
        if key in hosts:
            again[key] = again.get(key, 1) + 1
            del hosts[key]
        hosts[key] = found
    origin = _file_of(items[0])
    warnings += [
        f"{hosts[key].host.name}: {count} records have the same id: the last one is used"
        for key, count in again.items()
    ]
    # Without a known title, the first line of a CSV may be a host with its password: no message shows it. The title 0
    # is read only where the titles are numbers.
    titled = kind.word != "csv" or bool(used) or "0" in seen or any(source in seen for source, _ in options.mapping)
    _refuse_unknown(options, seen, groups, origin, titled=titled)
    if left := _in_short([each for each in groups if not takes_group(options, each)]):
        skipped.append(f"{origin}: groups not imported: {left}: --label-from groups turns all into labels")
    if kind.word == "csv":
        if records and left_out == records:  # a line of CSV is only left out if it has no name
            raise InvalidError(
                f"{origin}: no column has the names of hosts",
                hint="--map COLUMN=name says which column has them"
                + (f"; the columns are: {_listed(seen):.400}" if titled else ", by its title in the first line"),
                details={"file": origin},
            )
        skipped += _left_out(options, seen, used, origin)
    elif left := _in_short([each for each in bmcs if not _is_taken(options, each)]):
        skipped.append(f"{origin}: not imported: {left}, which may be a BMC's address: --map NAME=bmc.address takes it")
    if secrets:
        count = sum(secrets.values())
        keys = _in_short(sorted(secrets))
        skipped.append(f"{origin}: {count} secret{'s' * (count > 1)} skipped, which are never stored: {keys}")
    return Part(tuple(hosts.values()), skipped=tuple(skipped), warnings=tuple(warnings))


def _is_taken(options: ImportOptions, attribute: str) -> bool:
    labels = options.label_from or ()
    return attribute in dict(options.mapping) or any(takes_attribute(name, attribute) for name in labels)


def _refuse_unknown(
    options: ImportOptions, seen: Iterable[str], groups: Iterable[str], origin: str, *, titled: bool
) -> None:
    """Raise `UsageError` for a name in ``--map`` or ``--label-from`` that no record has.

    If ``titled``, the hint lists the names that there are.
    """
    attributes, labels = [*seen], [*dict.fromkeys((*seen, *groups))]
    named = [("--map", source, attributes) for source, _ in options.mapping]
    named += [("--label-from", each, labels) for each in options.label_from or () if not _GLOB.search(each)]
    for option, source, seen in named:
        if option == "--label-from" and source == GROUPS:
            continue
        if source not in seen:
            near = {each.lower(): each for each in seen}.get(
                nearest(source.lower(), [each.lower() for each in seen]) or ""
            )
            known = (_listed(seen) if titled else "") or "nothing that can be named"
            raise UsageError(
                f"{option}: {origin} has no {source!r:.80}{f': did you mean {near}?' if near else ''}",
                hint=f"it has {known:.400}",
            )


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(key for key in keys if not is_secret(key))


def _in_short(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (", …" if len(keys) > 8 else "")


def _left_out(options: ImportOptions, seen: Iterable[str], used: set[str], origin: str) -> list[str]:
    taken = used | {source for source, _ in options.mapping}
    patterns = options.label_from or ()
    left = [
        key
        for key in seen
        if key not in taken and not is_secret(key) and not any(takes_attribute(each, key) for each in patterns)
    ]
    if not left:
        return []
    keys = _in_short(left)
    return [f"{origin}: columns not imported: {keys}: --label-from COLUMN turns one into a label, --map into any field"]


def _file_of(item: Item) -> str:
    return item.place.partition(", ")[0]
