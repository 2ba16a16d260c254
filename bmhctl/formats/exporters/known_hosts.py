"""The host keys of hosts as lines of `known_hosts`: their hardware properties `ssh_host_key…`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bmhctl.domain.model import Host
from bmhctl.errors import InvalidError

KEY = "ssh_host_key"
"""The prefix of the properties that hold a host key: the type of the key, and the key in base64."""

_LINE = re.compile(r"((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*)(?: .*)?")
_PORT = re.compile(r"\d{1,5}", re.ASCII)


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a line for each host key; raise `InvalidError` for a property whose value is not a host key."""
    for host in hosts:
        names = ",".join(filter(None, (host.name, _address(host))))
        for key, value in sorted(host.spec.properties.items()):
            if not key.startswith(KEY):
                continue
            match = _LINE.fullmatch(str(value))
            if not match:
                raise InvalidError(
                    f"hardware {key} is not a host key",
                    host=host.name,
                    hint="give the text that ssh-keyscan shows after the name: ssh-ed25519 AAAA…",
                )
            yield f"{names} {match[1]}\n"


def _address(host: Host) -> str | None:
    """Return a host's address as ssh looks it up: with the port, unless that is 22."""
    address, port = host.spec.address, str(host.spec.properties.get("ssh_port", "22"))
    return address if address is None or port == "22" or not _PORT.fullmatch(port) else f"[{address}]:{port}"
