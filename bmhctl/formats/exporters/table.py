"""The formats of `export` that other systems read, and which module writes each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import cast

from bmhctl.domain.model import Host

Write = Callable[[Iterable[Host], str | None], Iterator[str]]
"""Writes hosts as parts of a text; the second argument is the id of the caller's reservation."""

OF_OTHERS = ("metal3", "ansible", "ssh", "known-hosts", "dnsmasq", "netbox")
"""The formats of other systems, each with a module of its name."""

FORMATS = ("toml", "json", "jsonl", "csv", *OF_OTHERS, "cloudevents")
"""All formats of `export`."""


def export(output: str, hosts: Iterable[Host], mine: str | None = None) -> str:
    """Return hosts as the text of a format, whole or not at all; ``mine`` is the id of the caller's reservation."""
    write = cast("Write", import_module(f"bmhctl.formats.exporters.{output.replace('-', '_')}").write)
    return "".join(write(hosts, mine))
