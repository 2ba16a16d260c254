"""The table of kinds of files: the word for `--from`, how a file is recognised, and which module reads it."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from bmhctl.errors import UsageError, nearest
from bmhctl.formats.recognize import text_looks_like
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

_HEADING = 10_000  # how many characters of a heading are read
_CELLS = pattern(r"[,;\t|]")
_HEAD = 100_000  # how many characters of a text are read to recognise it
_DOCUMENT = pattern(r"\s*+(?:#[^\n]*+\n\s*+)*+(?:\{|\[\s*+[\[{\"\]]|---|[\w.-]++:(?:\s|\Z))")


class Kind(Frozen):
    """One kind of file.

    ``module`` has ``reader(items)``, which returns a :data:`Reader`; that may use all items while it reads one. For
    texts it also has ``read_text(text, origin)``, which returns items. For documents whose records are not a list it
    has ``read_document(document, place)``, which returns items, or None for a document of another kind. ``records`` are
    sets of keys: a record with all keys of one set is of this kind. ``api`` is the beginning of the apiVersion of its
    manifests, ``text`` recognises its texts. bmhctl's own kinds have no module.
    """

    word: str
    title: str
    module: str | None = None
    records: tuple[frozenset[str], ...] = ()
    api: tuple[str, ...] = ()
    text: Callable[[str], bool] | None = None
    documents: bool = False


def _keys(*groups: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group.split(",")) for group in groups)


_MAC = r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"
_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40})"
_SECTION = pattern(r"\[[^\]\n=,]++\][ \t]*+(?:[#;].*)?")
_HOST = pattern(r"[A-Za-z0-9][\w.\-\[\]:]*+(?<!:)(?:[ \t]++\w++=.*)?")
_NAME = pattern(r"(?:host|node|server|machine)?[ _-]?(?:name|host|node|server|machine)|fqdn", re.I)
_SEPARATOR = pattern(r"\Asep=.[ \t]*\r?\n", re.I)  # the line that names the separator for Excel
_LINES = 1000  # how many lines of a text are read to recognise it


def _begins(beginning: str) -> Callable[[str], bool]:
    """Return a function that tests whether a text begins with a pattern, after empty lines and comments."""
    compiled = pattern(rf"(?:[ \t]*+(?:#[^\n]*+)?+\r?\n)*+{beginning}")
    return lambda text: compiled.match(text) is not None


def _is_ansible(text: str) -> bool:
    """Return whether a text is an Ansible inventory in INI, by lines that neither TOML nor YAML can have."""
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
        elif (section and _HOST.fullmatch(line)) or _sets_ansible(line):
            return True
    return False


def _sets_ansible(line: str) -> bool:
    host, _, variable = line.partition("=")[0].partition(" ")
    return line[0] != "[" and ":" not in host and " ansible_" in f" {variable}"


_is_leases = _begins(
    rf"(?:duid [0-9a-f:]++\s*+\Z|(?:duid [0-9a-f:]++\r?\n)?+(?:\d++|infinite) (?:\d\d-)?+{_MAC} [0-9a-fA-F.:]++ \S)"
)
_DNSMASQ = pattern(
    r"^[ \t]*+(?:dhcp-(?:host|range|option|boot)[ \t]*+=[ \t]*+[^\s\"'\[{]|(?:domain-needed|bogus-priv)[ \t]*+\r?$)",
    re.M,
)
_NAME_OR_NOTHING = r"(?:,[A-Za-z0-9][\w.-]*+)?"
_is_hostsfile = _begins(
    rf"{_MAC}(?:,(?:set:[^,\s]++|{_MAC}))*+{_NAME_OR_NOTHING},(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|\[[0-9A-Fa-f:]++\])"
    rf"{_NAME_OR_NOTHING}(?:,(?:\d++[smhdw]?|infinite))?[ \t]*+(?:\r?\n|\Z)"
)


def _is_dnsmasq(text: str) -> bool:
    """Return whether a text is a file of dnsmasq: leases, a configuration, or a hosts file that declares hosts."""
    return _is_leases(text) or _is_hostsfile(text) or _DNSMASQ.search(text) is not None


_is_kea_leases = _begins("address,(?:hwaddr|duid),")
_KEA_BEGIN = pattern(r"(?:\s++|(?://|#)[^\n]*+\n|/\*.*?\*/)*+[\[{]", re.S)


def _is_kea(text: str) -> bool:
    """Return whether a text has leases of Kea, as a file or as the answer to a command, or is its configuration."""
    is_json = any(key in text for key in ('"Dhcp4"', '"Dhcp6"', '"valid-lft"')) and _KEA_BEGIN.match(text) is not None
    return _is_kea_leases(text) or is_json


_ISC_HOST = r"\b(?:hardware[ \t]++ethernet|host-identifier|fixed-address6?)\b"
_ISC_BLOCK = pattern(rf"^[ \t]*+(?:lease [0-9A-Fa-f.:]++ \{{|host[ \t]++[^\s{{}};]++\s*+\{{[^{{}}]*?{_ISC_HOST})", re.M)


def _is_isc_dhcp(text: str) -> bool:
    """Return whether a text has leases or hosts of an ISC DHCP server; false for a document that quotes such a text."""
    return _ISC_BLOCK.search(text) is not None and not _DOCUMENT.match(text)


def _is_csv(text: str) -> bool:
    """Return whether the first line of a text is a heading with a column of names."""
    heading = _SEPARATOR.sub("", text.lstrip()[:_HEADING], 1).partition("\n")[0].strip()
    if any(mark in heading for mark in "{}[]") or heading.startswith(("name,state,flags,since,", "#", "-")):
        return False
    cells = _CELLS.split(heading)
    return len(cells) > 1 and any(_NAME.fullmatch(cell.strip().strip('"')) for cell in cells)


KINDS = (
    Kind("metal3", "BareMetalHost manifests", api=("metal3.io/", "metal.afritzler.github.io/")),
    Kind("bmhctl", "what bmhctl export or list wrote"),
    Kind(
        "bifrost",
        "a bifrost host list",
        "bifrost",
        records=_keys("driver_info,nics", "driver,nics"),
        text=_begins(rf"{_MAC},[^,\n]*+,[^,\n]*+,[^,\n]*+,\d*+,\d*+,\d*+,"),
    ),
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
            "driver,driver_info",
            "pm_type",
        ),
    ),
    Kind("maas", "MAAS machines", "maas", records=_keys("system_id,status_name", "system_id,fqdn")),
    Kind(
        "netbox",
        "NetBox devices",
        "netbox",
        records=_keys("device_type,site", "device_type,device_role", "Manufacturer,Role,Site,Status,Type"),
    ),
    Kind("metal-operator", "metal-operator Servers", "metal_operator", api=("metal.ironcore.dev/",)),
    Kind("tinkerbell", "Tinkerbell Hardware", "tinkerbell", api=("tinkerbell.org/", "bmc.tinkerbell.org/")),
    Kind("labgrid", "labgrid places", "labgrid", records=_keys("acquired,matches", "acquired,allowed,tags")),
    Kind("ansible", "an Ansible inventory", "ansible", text=_is_ansible, documents=True),
    Kind("dnsmasq", "leases or a configuration of dnsmasq", "leases", text=_is_dnsmasq),
    Kind("isc-dhcp", "ISC DHCP leases", "isc_dhcp", text=_is_isc_dhcp),
    Kind("kea", "Kea leases or reservations", "kea_leases", text=_is_kea),
    Kind("hosts", "a hosts file", "hosts_file", text=_begins(rf"[ \t]*+(?!{_MAC}[ \t]){_IP}[ \t]++[A-Za-z0-9]")),
    Kind("csv", "CSV with a heading", "csv_table", text=_is_csv),
)
"""Every kind. A text is of the first kind that recognises it."""

WORDS = tuple(kind.word for kind in KINDS)
"""The words for ``--from``."""


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
    """Return whether a text of this kind is read as lines, and not as YAML or JSON."""
    if kind.text is None:
        return False
    head = text[:_HEAD]
    return bool(kind.text(head)) or not (kind.records or _DOCUMENT.match(head))


def as_csv(wanted: Kind, text: str) -> Kind:
    """Return the kind of CSV for records of the wanted kind that are written as CSV, else the wanted kind."""
    kind = kind_of_text(text) if wanted.records and wanted.text is None else None
    return kind if kind is not None and kind.word == "csv" else wanted


def look_of_text(text: str, wanted: Kind) -> str | None:
    """Return what a text looks like if it is not of the wanted kind; None if its beginning does not show that."""
    if wanted.text is not None and wanted.text(text[:_HEAD]):
        return None
    kind = kind_of_text(text)
    if kind is not None:
        return None if kind is wanted else kind.title
    return None if wanted.text is not None else text_looks_like(text)


def module_of(kind: Kind) -> ModuleType:
    """Return the module that reads a kind."""
    return import_module(f"bmhctl.formats.importers.{kind.module}")
