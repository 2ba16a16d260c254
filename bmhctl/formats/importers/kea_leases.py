"""Kea: leases in `kea-leases4.csv` or an answer to `lease4-get-all`, and reservations in `kea-dhcp4.conf`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.isc_dhcp import reader
from bmhctl.formats.importers.record import Item, bad_line

__all__ = ["read_text", "reader"]

_CUT_OFF = "the file may be cut off"
_HELD = "0"
"""The state of a lease that its client holds; other leases were declined or have expired."""
_PREFIX = "2"
"""The type of an IPv6 lease of a prefix for a router, and not of an address."""
_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*+"?|(?://|#)[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?', re.S)
"""A text of JSON, which is kept, or a comment, which only Kea allows in JSON."""
_LAST_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"?|,(?=\s*+[\]}])', re.S)
"""A text of JSON, which is kept, or a comma after the last item, which Kea ignores."""
_INCLUDE = re.compile(r'\s*<\?include\s+"([^"\n]{1,200})"')
_INCLUDED = "write its text in place of the <?include?>, or import the answer of Kea to its command config-get"

_IDENTIFIERS = frozenset({"hw-address", "duid", "client-id", "circuit-id", "flex-id"})
"""The keys by which Kea recognises the client of a reservation: each reservation has one of them."""
_COLUMNS = {"address", "hwaddr", "hostname", "state", "valid_lifetime"}


def read_text(text: str, origin: str) -> Iterable[Item]:
    """Return the last lease of each address, or the reservations of a configuration.

    Raise `InvalidError` for another heading, a line that is cut off, and a configuration that is not JSON.
    """
    if not text.startswith("address,"):
        return _in_json(text, origin)
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
            held = row["state"] == _HELD and row["valid_lifetime"] != "0"
            if held and row.get("lease_type") != _PREFIX:
                data = {"address": address, "name": row["hostname"], "mac": row["hwaddr"]}
                leases[address] = Item(f"{origin}, line {lines.line_num}", data)
    except csv.Error as error:
        raise bad_line(origin, lines.line_num, str(error), _CUT_OFF) from error
    return leases.values()


def _in_json(text: str, origin: str) -> Iterator[Item]:
    """Yield the reservations of a configuration, and the leases of an answer that their clients hold."""
    plain = _COMMENT.sub(lambda match: match[0] if match[0][0] == '"' else "\n" * match[0].count("\n"), text)
    plain = _LAST_COMMA.sub(lambda match: match[0] if match[0][0] == '"' else "", plain)
    try:
        pending: list[object] = [json.loads(plain)]
    except json.JSONDecodeError as error:
        if included := _INCLUDE.match(plain, error.pos):
            said = f"the file {included[1]} is included, which import does not read"
            raise bad_line(origin, error.lineno, said, _INCLUDED) from error
        raise bad_line(origin, error.lineno, f"not a configuration of Kea: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise bad_line(origin, 1, "not a configuration of Kea: nested too deep, or a number too long") from error
    number = 0
    for value in pending:
        if isinstance(value, dict) and not _IDENTIFIERS.isdisjoint(value):
            if str(value.get("state", _HELD)) != _HELD or value.get("type") == "IA_PD":
                continue
            number += 1
            addresses = value.get("ip-addresses")  # of IPv6
            address = addresses[0] if isinstance(addresses, list) and addresses else value.get("ip-address")
            data = {"address": address, "name": value.get("hostname"), "mac": value.get("hw-address")}
            yield Item(f"{origin}, {'lease' if 'valid-lft' in value else 'reservation'} {number}", data)
        elif isinstance(value, dict | list):
            pending += value.values() if isinstance(value, dict) else value
