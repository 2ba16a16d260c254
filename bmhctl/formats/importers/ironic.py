"""Ironic nodes: the API's JSON, the headings of `baremetal node list -f json`, and files that declare nodes."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Mapping

from bmhctl.domain.model import State
from bmhctl.formats.importers.record import (
    Item,
    Reader,
    Record,
    bmc_url,
    flag,
    mac_id,
    size,
    state_of,
    text_of,
    texts,
    whole,
)
from bmhctl.formats.manifest_fields import Fields, bad_field, wrong_kind

STATES: dict[str, State | None] = {
    **dict.fromkeys(
        ("", "enroll", "verifying", "manageable", "inspecting", "inspect wait", "inspect failed", "adopting"),
        State.INITIAL,
    ),
    "available": State.AVAILABLE,
    **dict.fromkeys(
        (
            *("active", "deploying", "wait call-back", "deploy complete", "deploy failed", "deploy hold", "rebuild"),
            *("rescue", "rescuing", "rescue wait", "rescue failed", "unrescuing", "unrescue failed"),
            *("servicing", "service wait", "service failed", "service hold"),
        ),
        State.RESERVED,
    ),
    **dict.fromkeys(
        (
            *("deleting", "deleted", "cleaning", "clean wait", "clean failed", "clean hold", "error"),
            "adopt failed",
        ),
        State.TAINTED,
    ),
}
"""Ironic's provision states, each with the state of a host in it."""

_BMC = (
    ("redfish_address", "redfish+https", "redfish_port"),  # this port is only in TripleO's files
    ("ipmi_address", "ipmi", "ipmi_port"),
    ("ilo_address", "ilo", "client_port"),
    ("drac_address", "idrac", "drac_port"),
    ("irmc_address", "irmc", "irmc_port"),
    ("xclarity_manager_ip", "https", "xclarity_port"),
)
"""The keys of ``driver_info`` that have the address of the BMC and its port, and the protocol of the address."""
_HEADINGS = (("provisioning_state", "provision_state"), ("pxe_boot_enabled", "pxe_enabled"))
"""Headings of the command line that differ from the names of the API."""

_TRIPLEO = (("cpu", "cpus"), ("arch", "cpu_arch"), ("memory", "memory_mb"), ("disk", "local_gb"))
"""The properties of a node in TripleO's `instackenv.json`, each with its name in the API."""
_PAIR = re.compile(r"(\w+)='([^']*)'")
_FALSE = ("false", "no", "off", "0")


def reader(items: list[Item]) -> Reader:
    """Return the reader of nodes. It finds the MACs of their ports in ``items``, the boot interface's first."""
    data = {item.place: _by_field(item.data) for item in items}
    nodes = {str(each.get("uuid")) for each in data.values() if _is_node(each)}
    macs: defaultdict[str, list[tuple[bool, str]]] = defaultdict(list)
    for each in data.values():
        mac, node = each.get("address"), each.get("node_uuid")
        if not _is_node(each) and isinstance(mac, str) and isinstance(node, str):
            macs[node].append((each.get("pxe_enabled") is False, mac))

    def read(item: Item) -> Record | str:
        fields = Fields(data[item.place])
        if _is_node(fields.data):
            return _node(fields, macs)
        node = fields.line("node_uuid")
        if node is None:
            return "port skipped: it names no node: write it with baremetal port list --long -f json"
        return "" if node in nodes else f"port skipped: these files have no node {node:.80}"

    return read


def _is_node(data: Mapping[str, object]) -> bool:
    """Return whether a record is a node; a node in a file for `baremetal create` has no state."""
    return "provision_state" in data or "driver" in data


def _ports(fields: Fields, found: Mapping[str, list[tuple[bool, str]]]) -> list[str]:
    """Return the MACs of a node's ports: of those in a file for `baremetal create`, else of those of ``found``."""
    uuid = fields.line("uuid")
    ports = list(found.get(uuid or "", ()))
    if "provision_state" not in fields.data:
        rows = fields.rows("ports")
        ports += [(row.data.get("pxe_enabled") is False, mac) for row in rows if (mac := row.line("address"))]
        if uuid is not None and not ports:
            raise bad_field("provision_state", "is missing", hint="baremetal node list --long -f json writes it")
    return [mac for _, mac in sorted(ports)]


def _by_field(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return a record with the names of the API, also for the command line, which has other headings."""
    if "pm_type" in data:
        return _of_tripleo(Fields(data))
    if "UUID" not in data and "Provisioning State" not in data:
        return data
    # In CSV, older versions of the command line write None for an empty cell.
    named = {key.lower().replace(" ", "_"): None if value == "None" else value for key, value in data.items()}
    for heading, name in _HEADINGS:
        if heading in named:
            named[name] = named.pop(heading)
    return named


def _of_tripleo(fields: Fields) -> Mapping[str, object]:
    """Return a node of TripleO's `instackenv.json` with the names of the API."""
    data = {key: value for key, value in fields.data.items() if not key.startswith("pm_")}
    driver = fields.line("pm_type") or ""  # such as idrac, or pxe_ipmitool in older files
    known = ((key, port) for key, _, port in _BMC if key.partition("_")[0] in driver)
    key, port = next(known, ("pm_addr", "pm_port"))
    return {
        **data,
        "driver": driver,
        "driver_info": {
            key: fields.data.get("pm_addr"),
            port: fields.data.get("pm_port"),
            "redfish_system_id": fields.data.get("pm_system_id"),
        },
        "ports": [*({"address": mac} for mac in texts(fields, "mac")), *(row.data for row in fields.rows("ports"))],
        "properties": {**{name: data.get(old) for old, name in _TRIPLEO}, "capabilities": data.get("capabilities")},
    }


def _node(fields: Fields, ports: Mapping[str, list[tuple[bool, str]]]) -> Record:
    word, state = state_of(fields, "provision_state", STATES)
    uuid = fields.line("uuid")
    instance = fields.line("instance_uuid") or fields.line("allocation_uuid")
    if instance is not None and state in (State.INITIAL, State.AVAILABLE):
        state = State.RESERVED
    owner = fields.line("lessee") or (instance and f"instance {fields.line('instance_name') or instance}")
    properties = mapping(fields, "properties")
    macs = _ports(fields, ports)
    fault = None
    if state is State.TAINTED and (word in ("error", "clean failed", "adopt failed")):
        fault = fields.squeezed("last_error") or word
    retired = flag(fields, "retired")
    bmc, warnings = driver_bmc(mapping(fields, "driver_info"), fields.line("driver"))
    return Record(
        fields.line("name") or uuid,
        id=uuid or (mac_id(macs[0]) if macs else None),  # many files of TripleO have neither names nor UUIDs
        macs=macs,
        bmc=bmc,
        labels={key: fields.line(key) for key in ("resource_class", "conductor_group")},
        groups=texts(fields, "traits"),
        attributes={**_capabilities(properties), **mapping(fields, "extra").data},
        hardware={
            "cpus": whole(properties, "cpus"),
            "arch": properties.line("cpu_arch"),
            "memory": size(properties, "memory_mb", 1024**2),
            "storage": size(properties, "local_gb", 1024**3),
            "vendor": properties.line("vendor"),
        },
        note=fields.squeezed("description"),
        word=word,
        state=None if retired else state,
        gone="it is retired in Ironic",
        owner=owner,
        fault=fault,
        aside=[fields.squeezed("maintenance_reason") or "in maintenance in Ironic"]
        if flag(fields, "maintenance")
        else (),
        warnings=warnings,
    )


def _capabilities(properties: Fields) -> dict[str, object]:
    """Return the capabilities of a node: ``boot_mode:uefi,profile:compute``, or a mapping."""
    value = properties.data.get("capabilities")
    if isinstance(value, dict):
        return dict(value)
    pairs = (each.partition(":") for each in str(value or "").split(","))
    return {key.strip(): what.strip() for key, _, what in pairs if what}


def mapping(fields: Fields, key: str) -> Fields:
    """Return the mapping under a key, also if the command line has written it as a text."""
    value = fields.data.get(key)
    if not isinstance(value, str):
        return fields.fields(key)
    if not value.strip():
        return Fields({})
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(parsed, dict):
            return Fields({str(name): each for name, each in parsed.items()}, fields, key)
        raise wrong_kind(fields.path_of(key), "a mapping", parsed)
    pairs = dict(_PAIR.findall(value))
    if not pairs:
        raise bad_field(fields.path_of(key), "is not a mapping")
    return Fields(pairs, fields, key)


def driver_bmc(info: Fields, driver: str | None) -> tuple[dict[str, object], list[str]]:
    """Return the BMC that a node's ``driver_info`` names, without its credentials; with a warning if it is unknown."""
    if "power" in info.data and isinstance(info.data["power"], dict):  # the key in the first versions of bifrost
        info = Fields({**info.data, **info.data["power"]})
    for key, scheme, port in _BMC:
        address = info.line(key)
        if address is None:
            continue
        bmc: dict[str, object] = {"type": driver, "address": bmc_url(address, scheme), "port": whole(info, port)}
        if key == "redfish_address":
            bmc["system_id"] = info.line("redfish_system_id")
            verify = text_of(info.data.get("redfish_verify_ca"))
            bmc["verify_tls"] = False if verify is not None and verify.lower() in _FALSE else None
        return bmc, []
    unknown = next((key for key, value in info.data.items() if "_addr" in key and value), None)
    if unknown is None:
        return {}, []
    why = f"the driver {driver}, so {unknown} is ignored" if driver else unknown
    return {}, [f"gets no BMC: bmhctl does not know {why}"]
