"""Hosts as a part of an ssh configuration, for `Include`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bmhctl.domain.model import Host
from bmhctl.errors import InvalidError

_OPTIONS = (("ssh_user", "User", re.compile(r"[A-Za-z0-9_][\w.@-]*")), ("ssh_port", "Port", re.compile(r"\d{1,5}")))


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a section for each host, which must have an address; raise `InvalidError` for an invalid user or port."""
    yield "# Written by bmhctl export -o ssh\n"
    for host in hosts:
        yield f"\nHost {host.name}\n  HostName {host.spec.address}\n  HostKeyAlias {host.name}\n"
        for key, option, allowed in _OPTIONS:
            value = host.spec.properties.get(key)
            if value is None:
                continue
            if not allowed.fullmatch(str(value)):
                raise InvalidError(f"hardware {key} is not what ssh takes as {option}", host=host.name)
            yield f"  {option} {value}\n"
