"""Leases of the ISC DHCP server: `dhcpd.leases`, in which a later lease of an address replaces the earlier one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.record import Item, Record, alone, bad_line
from bmhctl.formats.recognize import text_looks_like

_LEASE = re.compile(r"lease\s++([0-9A-Fa-f.:]++)\s*+\{")
_FIELDS = (
    ("mac", re.compile(r"hardware ethernet ([0-9A-Fa-f:]++);")),
    ("name", re.compile(r'client-hostname "([^"\\]*+)"')),
    ("state", re.compile(r"binding state (\w++);")),
)


def read_text(text: str, origin: str) -> Iterable[Item]:
    """Return the last lease of each address; raise `InvalidError` for a lease that is cut off, and for no leases."""
    leases: dict[str, Item] = {}
    address, found, opened = "", None, 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if found is None:
            if match := _LEASE.match(line):
                address, found, opened = match[1], {"address": match[1]}, number
        elif line.startswith("lease "):
            break
        elif line == "}":
            leases.pop(address, None)
            if found.pop("state", "active") == "active":
                leases[address] = Item(f"{origin}, lease {address}", found)
            found = None
        else:
            found |= {key: match[1] for key, pattern in _FIELDS if (match := pattern.match(line))}
    if found is not None:
        raise bad_line(origin, opened, f"the lease {address} is not complete", "the file may be cut off")
    if not opened:
        looks_like = text_looks_like(text)
        said = f"it looks like {looks_like}" if looks_like else "it has no lease"
        raise InvalidError(f"{origin}: nothing to import: {said}", details={"file": origin, "looks_like": looks_like})
    return leases.values()


@alone
def reader(item: Item) -> Record:
    """Return the host of a lease."""
    fields = item.fields
    mac = fields.line("mac")
    return Record(
        fields.line("name"),
        id=mac.lower().replace(":", "-") if mac else None,
        address=fields.line("address"),
        macs=[mac] if mac else (),
    )
