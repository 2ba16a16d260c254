"""CSV with a heading: columns with well-known names, and others with `--map` or `--label-from`."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from bmhctl.domain.host_spec import is_ip, normal_mac
from bmhctl.domain.model import PropertyValue
from bmhctl.errors import InvalidError
from bmhctl.formats.importers.record import (
    BMC_DNS_NAMES,
    BMC_NAMES,
    IPMI_NAMES,
    MAC_NAMES,
    Item,
    Reader,
    Record,
    bad_line,
    bmc_url,
    is_secret,
    port_of,
    size,
    text_of,
    whole,
)
from bmhctl.formats.manifest_fields import Fields, bad_field

COLUMNS = {
    "name": (
        *("name", "hostname", "host", "host_name", "node", "nodename", "node_name", "server", "servername"),
        *("server_name", "machine", "machinename", "machine_name", "fqdn"),
    ),
    "address": (
        *("address", "ip", "ip_addr", "ip_address", "ipaddr", "ipaddress", "ipv4", "ipv4_address", "host_ip"),
        *("primary_ip", "primaryip", "primary_ip4"),
    ),
    "mac": MAC_NAMES,
    "bmc": ("bmc", *BMC_NAMES, "mgmt_ip", "management_ip", "idrac", "ilo"),
    "bmc_dns": BMC_DNS_NAMES,
    "bmc_port": ("bmc_port", "redfish_port", "idrac_port", "ilo_port"),
    "ipmi": ("ipmi", *IPMI_NAMES),
    "ipmi_port": ("ipmi_port",),
    "cpus": ("cpus", "cpu_count", "cpu_cores", "cores", "vcpus"),
    "arch": ("arch", "architecture", "cpu_arch"),
    "memory": ("memory", "ram"),
    "memory_mb": ("memory_mb", "memory_mib", "ram_mb", "ram_mib"),
    "memory_gb": ("memory_gb", "memory_gib", "ram_gb", "ram_gib"),
    "vendor": ("vendor", "manufacturer"),
    "model": ("model",),
    "serial": ("serial", "serial_number", "serialno", "serial_no", "service_tag"),
    "note": ("note", "notes", "description", "comment", "comments"),
    "id": ("id", "uuid"),
}
"""The fields of a host, with the names of the columns that have them, in any case and with any separators."""

_FIELDS = {column: key for key, columns in COLUMNS.items() for column in columns}
_NIC = frozenset(("interface", "interface_name", "iface", "nic"))
"""The columns with the names of NICs: a host may have a line for each of its NICs."""
_OF_NIC = frozenset(
    (
        *("default", "interface_hostname", "network", "netmask", "subnet", "gateway", "vlan", "channel", "options"),
        *(*_NIC, *COLUMNS["address"], *COLUMNS["mac"]),
    )
)
"""The columns that may differ between the lines for the NICs of one host."""
_YES = ("true", "yes", "1")
_FREE = ("name", "note", "id")
"""The fields that may have any word."""
_NOTHING = frozenset(("-", "--", "–", "—", "?", "n/a", "na", "none", "null", "tba", "tbd", "unknown", "dhcp"))
"""The words with which people fill the cell of an address, a MAC or a property that is not known."""
_DELIMITERS = ",;\t|"
_NO_HEADING = re.compile(r"#[^,;\t|]*\Z|sep=.{1,2}\Z", re.I)
"""Lines that may precede the heading: comments, and the line that names the separator for Excel."""
_BETWEEN = re.compile(r"[^a-z0-9]+")
_UNIT = re.compile(r"(?<=[KMGT])B?\Z")


def read_text(text: str, origin: str) -> Iterator[Item]:
    """Yield a record for each line; raise `InvalidError` for a bad line, and if there is no heading."""
    first = next((line for line in text.splitlines() if line.strip() and not _NO_HEADING.match(line)), "")
    delimiter = max(_DELIMITERS, key=first.count)
    lines = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, skipinitialspace=True)
    heading: list[str] | None = None
    try:
        for row in lines:
            if not any(cell.strip() for cell in row):
                continue
            if heading is None:
                if _NO_HEADING.match(delimiter.join(row)):
                    continue
                cells = [cell.strip() for cell in row]
                # Beside a known title, a number is a title, too: 2026. pandas numbers columns that have no titles.
                titled = any(plain(cell) in _FIELDS for cell in cells) or _are_numbered(cells)
                if any(is_ip(cell) or normal_mac(cell) or (cell.isdigit() and not titled) for cell in cells):
                    said = "a host instead of the titles of the columns"
                    raise bad_line(origin, lines.line_num, said, "write titles above it, such as name,address,mac")
                heading = _heading(row)
                continue
            place = f"{origin}, line {lines.line_num}"
            if row[0].startswith("#") and not heading[0].startswith("#"):
                yield Item(place, {}, skipped="skipped: it begins with #")
                continue
            if len(row) > len(heading):
                said = f"{len(row)} cells, and the heading has {len(heading)}"
                raise bad_line(origin, lines.line_num, said, f"a cell with a {delimiter!r} in it needs quotes")
            yield Item(place, {key: cell.strip() for key, cell in zip(heading, row, strict=False) if cell.strip()})
    except csv.Error as error:
        raise InvalidError(f"{origin}, line {lines.line_num}: {error}", details={"file": origin}) from error


def _are_numbered(cells: list[str]) -> bool:
    numbers = [cell for cell in cells if cell]
    return len(numbers) > 1 and numbers == [str(number) for number in range(len(numbers))]


def _heading(row: list[str]) -> list[str]:
    """Return the titles of the columns; a repetition gets a number (``Mask 2``), and no title becomes ``column 3``."""
    counts: dict[str, int] = {}
    titles: dict[str, None] = {}
    heading = []
    for number, cell in enumerate(row, 1):
        title = cell = cell.strip() or f"column {number}"
        while title in titles:
            counts[cell] = counts.get(cell, 1) + 1
            title = f"{cell} {counts[cell]}"
        titles[title] = None
        heading.append(title)
    return heading


@lru_cache(maxsize=1000)
def plain(heading: str) -> str:
    """Return the title of a column in the form of the well-known names: ``RAM (GB)`` becomes ``ram_gb``."""
    return _BETWEEN.sub("_", heading.lower()).strip("_")


@lru_cache(maxsize=1000)
def _place(heading: str) -> tuple[str, str]:
    """Return the part of a record that a column fills (empty: none), and the name in that part."""
    field = _FIELDS.get(plain(heading))
    if field is not None and not is_secret(heading):
        return "field", field
    group, _, name = heading.partition(".")
    return (group, name) if group in ("labels", "hardware") and name else ("", "")


def reader(items: list[Item]) -> Reader:
    """Return the reader of lines; it joins the lines of ``items`` that describe the NICs of one host."""
    joined = _by_host(items)

    def read(item: Item) -> Record | str:
        if item.place not in joined:
            return _host(item.data)
        lines = joined[item.place]
        data: dict[str, object] = {}
        for line in reversed(lines):  # of the values of a column, the first counts
            data |= line
        return _host(data, _macs(lines)) if lines else ""

    return read


def _by_host(items: list[Item]) -> dict[str, list[Mapping[str, object]]]:
    """Return all lines of each host that has a line for each NIC, under the place of the first of them.

    The places of the other lines have an empty list: these lines do not make a host.
    """
    named: defaultdict[tuple[str, object], list[Item]] = defaultdict(list)
    columns = {key for key in set().union(*(item.data for item in items)) if plain(key) in _NIC}
    for item in items if columns else ():
        if not columns.isdisjoint(item.data):
            name = next((value for key, value in item.data.items() if _place(key) == ("field", "name")), None)
            named[item.place.partition(", ")[0], name].append(item)
    found: dict[str, list[Mapping[str, object]]] = {}
    for (_, name), rows in named.items():
        lines = [row.data for row in rows]
        if name and len(lines) > 1 and _are_nics(lines):
            found |= {row.place: [] for row in rows}
            found[rows[0].place] = sorted(lines, key=lambda line: not _is_default(line))
    return found


def _are_nics(lines: list[Mapping[str, object]]) -> bool:
    """Return whether lines name different NICs and agree in every other column, except where it is empty."""
    cells = [(key, value) for line in lines for key, value in line.items()]
    nics = {value for key, value in cells if plain(key) in _NIC}
    shared = {(key, value) for key, value in cells if plain(key) not in _OF_NIC}
    return len(nics) == len(lines) and len(dict(shared)) == len(shared)


def _is_default(line: Mapping[str, object]) -> bool:
    return any(plain(key) == "default" and str(value).lower() in _YES for key, value in line.items())


def _macs(lines: list[Mapping[str, object]]) -> list[str]:
    cells = (text_of(value) for line in lines for key, value in line.items() if _place(key) == ("field", "mac"))
    return [mac for mac in cells if mac and mac.lower() not in _NOTHING]


def _host(data: Mapping[str, object], macs: Sequence[str] = ()) -> Record:
    """Return the host of a line, or of several joined lines with the MACs ``macs``."""
    named: dict[str, object] = {}
    labels: dict[str, str | None] = {}
    hardware: dict[str, PropertyValue | None] = {}
    used = []
    for key, value in data.items():
        group, name = _place(key)
        if group == "field" and name not in named:
            if name.endswith("_port") and port_of(str(value)) is None:
                continue  # a port of a switch
            if name in _FREE or str(value).lower() not in _NOTHING:
                named[name] = value
        elif group == "labels":
            labels[name] = text_of(value)
        elif group == "hardware":
            hardware[name] = text_of(value)
        else:
            continue
        used.append(key)
    fields = Fields(named)
    if memory := fields.line("memory"):
        if memory.isdigit():
            raise bad_field("memory", "needs a unit, such as 64GiB", hint="or name the column memory_gb or memory_mb")
        named["memory"] = _UNIT.sub("iB", memory)  # the unit of memory is a power of two, even if the sheet calls it GB
    return Record(
        fields.line("name"),
        id=fields.line("id"),
        address=fields.line("address"),
        macs=macs or ([mac] if (mac := fields.line("mac")) else ()),
        bmc={
            "address": bmc_url(fields.line("bmc") or fields.line("bmc_dns")) or bmc_url(fields.line("ipmi"), "ipmi"),
            "port": port_of(fields.line("bmc_port" if named.keys() & {"bmc", "bmc_dns"} else "ipmi_port")),
        },
        labels=labels,
        attributes=data,
        hardware={
            "cpus": whole(fields, "cpus"),
            "arch": fields.line("arch"),
            "memory": size(fields, "memory", 1)
            or size(fields, "memory_mb", 1024**2)
            or size(fields, "memory_gb", 1024**3),
            **{key: fields.line(key) for key in ("vendor", "model", "serial")},
            **hardware,
        },
        note=fields.squeezed("note"),
        used=used,
    )
