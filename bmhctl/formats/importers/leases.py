"""Leases of dnsmasq, and the hosts of its configuration: `dhcp-host` lines, and the lines of a `dhcp-hostsfile`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bmhctl.domain.host_spec import is_network_name
from bmhctl.formats.importers.record import Item, Record, alone, bad_line, client_name, leased, texts

_MAC = re.compile(r"(?:[0-9A-Fa-f]{1,2}-)?((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})")
_HOST = re.compile(r"dhcp-host[ \t]*=|(?=(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2},)")
_SETTING = re.compile(r"[a-z][a-z0-9-]*[ \t]*(?:=|#|\Z)")
_NO_NAME = re.compile(r"\d+[smhdw]?|infinite|ignore")


def read_text(text: str, origin: str) -> Iterator[Item]:
    """Yield the leases, or the hosts of a configuration; raise `InvalidError` for any other line."""
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        place, line = f"{origin}, line {number}", line.strip()
        words = line.split()
        if not words or line.startswith(("#", "duid ")):
            continue
        if match := _HOST.match(line):
            declared = line[match.end() :].partition("#")[0]
            yield Item(place, {"words": [each.strip() for each in declared.split(",")]})
            continue
        if _SETTING.match(line) and not line.startswith("infinite"):
            continue
        if len(words) < 4 or not (words[0].isdigit() or words[0] == "infinite"):
            raise bad_line(origin, number, "not a lease: a lease has an expiry, a MAC, an address and a name")
        _, mac, ip, name = words[:4]
        if ":" in ip and name in names:  # a lease of an IPv6 address of the same host
            continue
        names.add(name)
        yield Item(place, {"mac": mac, "address": ip.strip("[]"), "name": name})


@alone
def reader(item: Item) -> Record | str:
    """Return the host in a DHCP lease, or in a line of a DHCP configuration."""
    fields = item.fields
    if words := texts(fields, "words"):
        return _declared(words)
    mac = _MAC.fullmatch(fields.line("mac") or "")
    return leased(client_name(fields.line("name")), fields.line("address"), [mac[1]] if mac else ())


def _declared(words: list[str]) -> Record | str:
    if "ignore" in words:
        return f"{words[0]} skipped: dnsmasq ignores it"
    macs = [match[1] for word in words if (match := _MAC.fullmatch(word))]
    others = [word for word in words if not _MAC.fullmatch(word) and ":" not in word]
    addresses = [word for word in others if re.fullmatch(r"\d+(?:\.\d+){3}", word)]
    addresses += [word[1:-1] for word in words if word.startswith("[") and word.endswith("]")]  # IPv6
    names = [
        word for word in others if word not in addresses and is_network_name(word) and not _NO_NAME.fullmatch(word)
    ]
    return leased(next(iter(names), None), next(iter(addresses), None), macs)
