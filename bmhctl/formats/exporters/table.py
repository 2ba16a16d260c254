"""The formats of `export` that other systems read, and which module writes each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module

from bmhctl.domain.model import Host
from bmhctl.formats.exporters.known_hosts import KEY

OF_OTHERS = ("metal3", "ansible", "ssh", "known-hosts", "dnsmasq", "netbox")
"""The formats of other systems, each with a module of its name."""

NEEDS: Mapping[str, tuple[str, Callable[[Host], bool]]] = {
    "ssh": ("an address", lambda host: host.spec.address is not None),
    "known-hosts": ("a host key", lambda host: any(key.startswith(KEY) for key in host.spec.properties)),
    "dnsmasq": ("a MAC", lambda host: host.spec.mac is not None),
}
"""What a host must have to be written in a format, and whether a host has it; other formats require nothing."""

FORMATS = ("toml", "json", "jsonl", "csv", *OF_OTHERS, "cloudevents")
"""All formats of `export`."""


def export(
    output: str, hosts: Iterable[Host], mine: str | None = None, omit: Callable[[str], None] = lambda _: None
) -> str:
    """Return hosts as the text of a format, whole or not at all; ``mine`` is the id of the caller's reservation.

    ``omit`` is called with the name of each host that does not have what the format needs.
    """
    module = import_module(f"bmhctl.formats.exporters.{output.replace('-', '_')}")
    return "".join(module.write(_fitting(output, hosts, omit), mine))


def _fitting(output: str, hosts: Iterable[Host], omit: Callable[[str], None]) -> Iterator[Host]:
    _, fits = NEEDS.get(output, ("", lambda _: True))
    for host in hosts:
        if fits(host):
            yield host
        else:
            omit(host.name)
