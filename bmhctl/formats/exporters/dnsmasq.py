"""Hosts as `dhcp-host` lines of dnsmasq."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from bmhctl.domain.model import Host
from bmhctl.errors import InvalidError

_NO_NAME = re.compile(r"\d+[smhdw]?|infinite|ignore", re.I)
"""Names that dnsmasq would read as a lease time or a keyword."""


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a line for each host with its MAC, which it must have, and its address if that is an IP address.

    Raises `InvalidError` for two hosts with the same address, because dnsmasq would not start, and for a name that
    dnsmasq would read as something else.
    """
    bearers: dict[str, str] = {}
    for host in hosts:
        if _NO_NAME.fullmatch(host.name) or _address(host.name) is not None:
            raise InvalidError(
                "dnsmasq would take this name for a lease time, a keyword or an address",
                host=host.name,
                hint=f"bmhctl rename {host.name} host-{host.name}, or export only some hosts: -l SELECTOR",
            )
        address = _address(host.spec.address)
        if address is None:
            yield f"dhcp-host={host.spec.mac},{host.name}\n"
            continue
        first = bearers.setdefault(address, host.name)
        if first != host.name:
            raise InvalidError(
                f"has the address {host.spec.address} of {first}, and dnsmasq would not start",
                host=host.name,
                hint="correct one of them, or export only some hosts: -l SELECTOR",
                details={"address": host.spec.address},
            )
        yield f"dhcp-host={host.spec.mac},{host.name},{address}\n"


def _address(address: str | None) -> str | None:
    try:
        ip = ip_address(address or "")
    except ValueError:
        return None
    return f"[{ip}]" if ip.version == 6 else str(ip)
