"""Hosts as `dhcp-host` lines of dnsmasq."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from bmhctl.domain.model import Host
from bmhctl.errors import InvalidError


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a line for each host that has a MAC; its address is in it where that is an IP address.

    Raises `InvalidError` for two hosts of one address: dnsmasq does not start with them.
    """
    bearers: dict[str, str] = {}
    for host in hosts:
        if host.spec.mac is None:
            continue
        address = _address(host.spec.address)
        if address is None:
            yield f"dhcp-host={host.spec.mac},{host.name}\n"
            continue
        first = bearers.setdefault(address, host.name)
        if first != host.name:
            raise InvalidError(
                f"{host.name}: has the address {host.spec.address} of {first}, and dnsmasq would not start",
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
