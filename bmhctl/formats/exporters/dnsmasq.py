"""Hosts as `dhcp-host` lines of dnsmasq."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from bmhctl.domain.model import Host


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a line for each host that has a MAC; its address is in it where that is an IP address."""
    for host in hosts:
        if host.spec.mac is not None:
            yield f"dhcp-host={','.join((host.spec.mac, host.name, *_address(host.spec.address)))}\n"


def _address(address: str | None) -> tuple[str, ...]:
    try:
        ip = ip_address(address or "")
    except ValueError:
        return ()
    return (f"[{ip}]" if ip.version == 6 else str(ip),)
