"""MAAS machines, as `maas PROFILE machines read` and the API write them."""

from __future__ import annotations

from collections.abc import Mapping

from bmhctl.domain.model import State
from bmhctl.domain.units import format_size
from bmhctl.formats.import_batch import address_of
from bmhctl.formats.importers.record import Item, Record, alone, bmc_url, nic, size, state_of, texts, whole
from bmhctl.formats.manifest_fields import Fields

STATES: dict[str, State | None] = {
    **dict.fromkeys(("", "new", "default", "commissioning", "testing"), State.INITIAL),
    "ready": State.AVAILABLE,
    **dict.fromkeys(("allocated", "reserved", "deploying", "deployed"), State.RESERVED),
    **dict.fromkeys(
        (
            *("releasing", "disk erasing", "broken", "missing"),
            *("failed commissioning", "failed deployment", "failed releasing", "releasing failed"),
            *("failed disk erasing", "failed testing", "failed to enter rescue mode", "failed to exit rescue mode"),
        ),
        State.TAINTED,
    ),
    **dict.fromkeys(("rescue mode", "entering rescue mode", "exiting rescue mode"), State.MAINTENANCE),
    "retired": None,
}
"""MAAS's names of a machine's status, each with the state of a host with this status."""

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le"}
"""Debian's words for processor architectures, each with Linux's word."""

_FAULTS = ("broken", "missing", "releasing failed", "failed")  # how the names of a status with a fault begin
_SCHEMES = {"redfish": "redfish+https", "ipmi": "ipmi"}


@alone
def reader(item: Item) -> Record | str:
    """Return the host of a machine."""
    fields = item.fields
    if whole(fields, "node_type"):
        kind = fields.squeezed("node_type_name") or "another kind of node"
        return f"{fields.line('hostname') or 'a node'} skipped: not a machine, but: {kind}"
    word, state = state_of(fields, "status_name", STATES)
    known = fields.fields("hardware_info")
    disks = [disk.data.get("size") for disk in fields.rows("physicalblockdevice_set")]
    sizes = sum(each for each in disks if isinstance(each, int))
    arch = (fields.line("architecture") or "").partition("/")[0]
    macs = _macs(fields)
    return Record(
        fields.line("hostname") or (fields.line("fqdn") or "").partition(".")[0] or None,
        id=fields.line("system_id"),
        address=_address(fields),
        macs=macs,
        bmc=_bmc(fields),
        labels={key: _name(fields, key) for key in ("pool", "zone", "domain")},
        groups=texts(fields, "tag_names"),
        attributes={**fields.fields("owner_data").data, **fields.fields("workload_annotations").data},
        hardware={
            "cpus": whole(fields, "cpu_count"),
            "arch": ARCHITECTURES.get(arch, arch),
            "memory": size(fields, "memory", 1024**2),
            "disks": len(disks),
            "storage": format_size(sizes) if sizes else None,
            "nics": len(macs),
            "vendor": _known(known, "system_vendor"),
            "model": _known(known, "system_product"),
            "serial": _known(known, "system_serial"),
        },
        note=fields.squeezed("description"),
        word=word,
        state=state,
        gone="it is retired in MAAS",
        owner=fields.line("owner"),
        fault=(fields.squeezed("status_message") or word) if word.lower().startswith(_FAULTS) else None,
    )


def _name(fields: Fields, key: str) -> str | None:
    value = fields.data.get(key)
    return fields.fields(key).line("name") if isinstance(value, Mapping) else fields.line(key)


def _known(fields: Fields, key: str) -> str | None:
    text = fields.squeezed(key)
    return None if text is None or text.lower() == "unknown" else text


def _macs(fields: Fields) -> list[str]:
    """Return the MACs of the physical interfaces, that of the boot interface first."""
    interfaces = [each for each in fields.rows("interface_set") if each.data.get("type") != "vlan"]
    macs = (each.line("mac_address") for each in (fields.fields("boot_interface"), *interfaces))
    return [mac for mac in dict.fromkeys(macs) if mac]


def _address(fields: Fields) -> str | None:
    boots = {
        link.line("ip_address") for link in fields.fields("boot_interface").rows("links") if link.line("ip_address")
    }
    found = (nic(fields, "ip_addresses", text, pxe=text in boots) for text in texts(fields, "ip_addresses"))
    return address_of(found, None)


def _bmc(fields: Fields) -> dict[str, object]:
    """Return the BMC of a machine, if the file has its power parameters."""
    parameters = fields.fields("power_parameters")
    kind, address = fields.line("power_type"), parameters.line("power_address")
    if address is None:
        return {}
    system = parameters.line("node_id") if kind == "redfish" else None
    return {"address": bmc_url(address, _SCHEMES.get(kind or "", "https")), "type": kind, "system_id": system}
