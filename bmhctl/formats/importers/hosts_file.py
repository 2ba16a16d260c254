"""A hosts file such as `/etc/hosts`: an address, a name, other names."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from bmhctl.formats.importers.record import Item, Record, alone, bad_line

_OWN = ("localhost", "broadcasthost", "ip6-")
_SHORT = re.compile(r"(?:0|[1-9]\d{0,9})(?:\.(?:0|[1-9]\d{0,9})){1,2}")
"""An IPv4 address of fewer than four numbers, as BSD allows: `10.1` is `10.0.0.1`."""


def read_text(text: str, origin: str) -> Iterable[Item]:
    """Return the hosts, each with its first IPv4 address, else its first IPv6 one; raise an error for a bad line."""
    found: dict[str, Item] = {}
    versions: dict[str, int] = {}
    others: list[Item] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        address = words[0]
        try:
            if _SHORT.fullmatch(address):
                address = socket.inet_ntoa(socket.inet_aton(address))
            ip = ip_address(address.partition("%")[0])
        except (ValueError, OSError):
            raise bad_line(origin, number, f"{words[0]!r:.80} is not an IP address") from None
        if len(words) < 2:
            raise bad_line(origin, number, "no name after the address")
        name = words[1].removesuffix(".")
        special = ip.is_loopback or ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255"
        if special or name.startswith(_OWN):
            continue
        place = f"{origin}, line {number}"
        if name not in found or ip.version < versions[name]:
            found[name] = Item(place, {"address": address, "name": name, "aliases": " ".join(words[2:])})
            versions[name] = ip.version
        elif ip.version == versions[name] and address != found[name].data["address"]:
            others.append(Item(place, {}, skipped=f"{address} skipped: {name} has an address before it"))
    return [*found.values(), *others]


@alone
def reader(item: Item) -> Record:
    """Return the host of a line."""
    fields = item.fields
    return Record(fields.line("name"), address=fields.line("address"), attributes={"aliases": item.data["aliases"]})
