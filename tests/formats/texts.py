"""Read inventories and manifests from texts, as ``import`` reads a file, and write them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.model import Host
from bmhctl.formats.import_batch import combine, decode
from bmhctl.formats.importers.sort_records import ForeignRecords
from bmhctl.formats.metal3 import unpack_manifests
from bmhctl.formats.naming import NameTemplate
from bmhctl.formats.toml_export import dump_parts, unpack_inventory


def read_manifests(text: str | bytes, origin: str, now: datetime, names: NameTemplate | None = None) -> ImportBatch:
    """Return the hosts that ``import`` would read from a file with these manifests."""
    return combine([unpack_manifests(_decoded(text, origin), origin, now, names, ForeignRecords())])


def read_inventory(text: str | bytes, origin: str, now: datetime) -> ImportBatch:
    """Return the hosts that ``import`` would read from a file with this TOML inventory."""
    return combine([unpack_inventory(_decoded(text, origin), origin, now)])


def _decoded(text: str | bytes, origin: str) -> str:
    return decode(text.encode(errors="surrogatepass") if isinstance(text, str) else text, origin)


def dump_inventory(hosts: Iterable[Host], policy: str | None, now: datetime) -> str:
    """Return the text that ``export`` writes for the hosts and their reservations."""
    known = list(hosts)
    held = {host.reservation.id: host.reservation for host in known if host.reservation is not None}
    return "".join(dump_parts(held.values(), known, policy, now))
