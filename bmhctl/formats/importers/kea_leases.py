"""Leases of Kea: `kea-leases4.csv`, in which a later line of an address replaces the earlier one."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.isc_dhcp import reader
from bmhctl.formats.importers.record import Item, bad_line

__all__ = ["read_text", "reader"]

_CUT_OFF = "the file may be cut off"
_HELD = "0"
"""The state of a lease that its client holds; other leases were declined or have expired."""


_COLUMNS = {"address", "hwaddr", "hostname", "state", "valid_lifetime"}


def read_text(text: str, origin: str) -> Iterable[Item]:
    """Return the last lease of each address; raise `InvalidError` for another heading or a line that is cut off."""
    lines = csv.DictReader(text.splitlines())
    leases: dict[str, Item] = {}
    try:
        missing = sorted(_COLUMNS - set(lines.fieldnames or ()))
        if missing:
            said = f"{origin}: not Kea leases: no column {', '.join(missing)}"
            raise InvalidError(said, details={"file": origin, "record": origin})
        for row in lines:
            if None in row or None in row.values():
                raise bad_line(origin, lines.line_num, "not a whole lease", _CUT_OFF)
            address = row["address"]
            leases.pop(address, None)
            if row["state"] == _HELD and row["valid_lifetime"] != "0":
                data = {"address": address, "name": row["hostname"], "mac": row["hwaddr"]}
                leases[address] = Item(f"{origin}, line {lines.line_num}", data)
    except csv.Error as error:
        raise bad_line(origin, lines.line_num, str(error), _CUT_OFF) from error
    return leases.values()
