"""States and holders as patches of NetBox devices, for a script to send to `/api/dcim/devices/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from bmhctl.domain.model import Host

ID = "netbox_id"
"""The label, or the hardware property, that holds the id of the device."""


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield a JSON list with a patch for each host: its name, its id if a label has it, and two custom fields."""
    before = "[\n"
    for host in hosts:
        yield before + json.dumps(_patch(host), ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _patch(host: Host) -> dict[str, object]:
    known = str(host.spec.labels.get(ID) or host.spec.hardware.get(ID) or "")
    identity = {"id": int(known)} if known.isascii() and known.isdigit() and len(known) < 19 else {}
    held = host.reservation
    return {
        **identity,
        "name": host.name,
        "custom_fields": {"bmh_state": host.state.value, "bmh_holder": held and held.owner},
    }
