"""What a file without hosts looks like, so that the message shows which file was named by mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice

_EMPTY = "an empty file"
_OWN_CSV = "a CSV that bmhctl wrote, which has no form for a host's state"
NOT_CSV = (_EMPTY, _OWN_CSV)
"""What a text may look like that is not read as CSV, whatever its name is."""

_ABOVE = r"(?:\s++|#[^\n]*+\n|[a-z][a-z0-9.-]*+(?: [^\n{};]++)?+;)*+"
"""Empty lines, comments and settings above the first block of a file of an ISC server."""
_TEXTS = (
    (_EMPTY, re.compile(r"\s*\Z")),
    ("dnsmasq leases", re.compile(r"\d+ (?:[0-9a-f]{2}:){5}[0-9a-f]{2} [0-9a-f.:]+ \S+")),
    (_OWN_CSV, re.compile(r"name,state,flags,since,")),
    ("CSV", re.compile(r"(?!\s*[#-])(?:(?!: )[^\n{}\[\],])*+(?:,(?:(?!: )[^\n{}\[\],])*+){2,}+\r?(?:\n|\Z)")),
    ("leases of DHCPv6, which have no names", re.compile(rf"{_ABOVE}ia-(?:na|ta|pd) ")),
    (
        "the configuration of an ISC DHCP server",
        re.compile(rf"{_ABOVE}(?:subnet|host|group|shared-network)\b[^\n:{{]*+\{{"),
    ),
    ("an HTML page", re.compile(r"\s*<(?:!doctype|html)", re.I)),
    ("a shell script", re.compile(r"#!")),
)
_RECORDS = (
    ("NetBox devices", {"device_type", "site"}),
    ("Ironic nodes", {"provision_state", "driver"}),
    ("Ironic nodes", {"Provisioning State", "UUID"}),
    ("an Ironic or Bifrost host list", {"driver_info", "nics"}),
    ("MAAS machines", {"system_id", "fqdn"}),
    ("labgrid places", {"acquired", "matches"}),
    ("Boskos resources", {"type", "names"}),
    ("Boskos resources", {"type", "min-count"}),
    ("a Redfish resource", {"@odata.id"}),
    ("a compose file", {"image"}),
    ("an Ansible inventory", {"hosts"}),
    ("an error that bmhctl wrote", {"code", "status", "message"}),
)
_MOST = 4  # keys that are named
_DEPTH = 4
_WIDTH = 50


def text_looks_like(text: str) -> str | None:
    """Return what a text is that is neither YAML, JSON nor TOML as far as its beginning shows; None otherwise."""
    return next((words for words, begins in _TEXTS if begins.match(text)), None)


def document_looks_like(document: object) -> str:
    """Return what the value of a YAML or JSON document seems to be; never more of its content than keys and kinds."""
    if isinstance(document, dict) and isinstance(kind := document.get("kind"), str):
        if isinstance(document.get("version"), int):
            return f"what bmhctl wrote of another kind: {kind!r:.60}"
        return f"a manifest of the kind {kind!r:.60}"
    for record in samples(document):
        for words, keys in _RECORDS:
            if keys <= record.keys():
                return words
    if isinstance(document, dict) and document:
        names = [f"{key!s:.40}" for key in document]
        return f"a mapping with {', '.join(names[:_MOST])}{' …' if len(names) > _MOST else ''}"
    return "a list" if document else "an empty file"


def samples(document: object) -> Iterator[dict[str, object]]:
    """Yield some mappings of a document, the outer ones first: what it is a list of stands in the first ones."""
    level = [document]
    for _ in range(_DEPTH):
        mappings = [each for each in level if isinstance(each, dict)]
        yield from mappings
        lists = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = list(islice(chain.from_iterable(lists), _WIDTH))
