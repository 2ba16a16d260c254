"""Why a link-local IPv6 address can't be reached: it needs its zone, a network interface of this machine."""

from __future__ import annotations

import errno
import socket


def zone_trouble(host: str, error: Exception) -> str | None:
    """Return what is wrong with the zone of an address, None if ``error`` has another cause."""
    address, _, zone = host.partition("%")
    if isinstance(error, socket.gaierror) and zone:
        return f"this machine has no network interface {zone}"
    if getattr(error, "errno", None) == errno.EINVAL and not zone and address.lower().startswith("fe80:"):
        return f"a link-local address needs its zone, such as {address}%eth0"
    return None
