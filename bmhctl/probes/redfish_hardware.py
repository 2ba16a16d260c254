"""Read the hardware of a system from its BMC, as properties that selectors match."""

from __future__ import annotations

from collections.abc import Iterable

from bmhctl.domain.host_spec import known_mac, normal_mac
from bmhctl.domain.model import PropertyValue
from bmhctl.probes.redfish_client import Client
from bmhctl.probes.redfish_reply import Json, items, links, table
from bmhctl.probes.redfish_system import System

_TEXTS = (("vendor", "Manufacturer"), ("model", "Model"), ("serial", "SerialNumber"), ("bios", "BiosVersion"))
_MOST_PARTS = 256  # reads for one host: processors, interfaces and drives each have their own resource
_LONGEST = 200  # characters
_LEAST_DRIVE = 10**9  # bytes; BMCs with a smaller drive report it in another unit
_FILLERS = "0 .-_*?#"
_NO_TEXTS = (
    *("", "n/a", "na", "none", "null", "empty", "unknown", "not specified", "not available", "default string"),
    *("to be filled by o.e.m", "system manufacturer", "system product name", "system serial number", "123456789"),
)
"""Texts that mean nothing, without their fillers, in lower case: vendors write them where they know nothing."""


def hardware(client: Client) -> dict[str, PropertyValue]:
    """Return the hardware properties that the BMC reports; unknown ones are left out.

    ``sockets`` is the number of processors, ``cpus`` that of their threads, or of their cores if threads are not
    reported. If one drive or interface can't be read, ``storage`` or ``macs`` is left out, because a part of it would
    be misleading.
    """
    system = System(client)
    report = system.report
    lines = {key: _line(report.get(name)) for key, name in _TEXTS}
    found: dict[str, PropertyValue] = {key: line for key, line in lines.items() if line is not None}
    found |= _memory(client, report)
    found |= _processors(client, report)
    found |= _interfaces(client, report)
    storage = _storage(system)
    if storage:
        found["storage"] = f"{storage // 10**9}GB"
    found["health"] = system.health()
    return found


def _memory(client: Client, report: Json) -> dict[str, PropertyValue]:
    given = table(report.get("MemorySummary")).get("TotalSystemMemoryGiB")
    total = _whole(given)
    if total is not None and isinstance(given, float) and not given.is_integer():
        scaled = given * 2**30 / 10**9
        if abs(scaled - round(scaled)) < 0.1 and round(scaled) % 8 == 0:
            total = round(scaled)  # some iDRACs count 10**9 bytes for each GiB of a module
    if total is None:
        modules = [part for part in _parts(client, report.get("Memory")) or [] if _is_there(part)]
        total = (_sum(modules, "CapacityMiB", 2**41) or 0) // 1024
    return {"memory": f"{total}GiB"} if total else {}


def _processors(client: Client, report: Json) -> dict[str, PropertyValue]:
    summary = table(report.get("ProcessorSummary"))
    sockets = _whole(summary.get("Count"))
    threads = _whole(summary.get("LogicalProcessorCount"))
    cores = _whole(summary.get("CoreCount"))
    if sockets is None or threads is None:
        each = _parts(client, report.get("Processors")) or []
        each = [part for part in each if part.get("ProcessorType") in ("CPU", None) and _is_there(part)]
        sockets = sockets or _whole(len(each))
        threads = threads or _sum(each, "TotalThreads")
        cores = cores or _sum(each, "TotalCores")
    cpus = threads or cores
    return {key: value for key, value in (("sockets", sockets), ("cpus", cpus)) if value is not None}


def _interfaces(client: Client, report: Json) -> dict[str, PropertyValue]:
    parts = _parts(client, report.get("EthernetInterfaces"))
    macs = _macs(part for part in parts or [] if not links(_links(part).get("HostInterface")))  # that leads to the BMC
    if not macs and (parts is not None or "EthernetInterfaces" not in report):
        macs = _macs(table(each.get("Ethernet")) for each in _network_functions(client, report) or [])
    return {"nics": len(macs), "macs": ",".join(sorted(macs))} if macs and len(macs) <= 50 else {}


def _macs(parts: Iterable[Json]) -> set[str]:
    """Return the MAC address of each part that has one."""
    found = set()
    for part in parts:
        values = [part.get(name) for name in ("PermanentMACAddress", "MACAddress")]
        known = [known_mac(normal_mac(value)) for value in values if isinstance(value, str)]
        found.update([mac for mac in known if mac is not None][:1])
    return found


def _network_functions(client: Client, report: Json) -> list[Json] | None:
    """Return the functions of the network adapters, of which some BMCs list no interfaces; None unless all are read."""
    interfaces = _parts(client, report.get("NetworkInterfaces"))
    paths = [client.link(_links(each).get("NetworkAdapter")) for each in interfaces or []]
    adapters = _read(client, list(dict.fromkeys(filter(None, paths))))
    return _members(client, adapters, "NetworkDeviceFunctions")


def _storage(system: System) -> int | None:
    """Return the bytes of the drives of the controllers, or else of the simple storage, or else of the chassis."""
    client, report = system.client, system.report
    controllers = _parts(client, report.get("Storage")) or []
    listed = [drive for controller in controllers for drive in items(controller.get("Drives"))]
    drives, smart = _drives(client, listed), _smart_drives(client, report)
    found = None
    if drives is not None and smart is not None:
        known = [serial for drive in drives if (serial := drive.get("SerialNumber"))]
        found = _bytes(drives + [each for each in smart if each.get("SerialNumber") not in known])
    found = found or _simple_storage(client, report)
    if found is not None or listed or smart != []:
        return found
    own = [each for _, each in system.linked("Chassis") if system.is_alone_in(each, "ComputerSystems")]
    return _bytes(_drives(client, [each for chassis in own for each in links(_links(chassis).get("Drives"))]) or [])


def _drives(client: Client, references: list[object]) -> list[Json] | None:
    found = {path.rstrip("/").casefold(): path for each in references if (path := client.link(each)) is not None}
    return _read(client, list(found.values()))  # each drive once: two controllers may share one


def _smart_drives(client: Client, report: Json) -> list[Json] | None:
    """Return the drives of HPE's Smart Arrays, which many iLOs list nowhere else; None if one of them can't be read."""
    oem = table(report.get("Oem"))
    found = _drives(client, [_links(table(oem.get(vendor))).get("SmartStorage") for vendor in ("Hpe", "Hp")])
    for name in ("ArrayControllers", "PhysicalDrives"):
        found = _members(client, found, name)
    return found and [{**drive, "CapacityBytes": (_whole(drive.get("CapacityMiB")) or 0) << 20} for drive in found]


def _simple_storage(client: Client, report: Json) -> int | None:
    parts = _parts(client, report.get("SimpleStorage")) or []
    return _bytes([each for part in parts for each in items(part.get("Devices")) if isinstance(each, dict)])


def _bytes(drives: list[Json]) -> int | None:
    return _sum([drive for drive in drives if _is_there(drive)], "CapacityBytes", 2**62, least=_LEAST_DRIVE)


def _parts(client: Client, reference: object) -> list[Json] | None:
    """Return the members of the collection to which a reference leads; None unless all can be read."""
    path = client.link(reference)
    members = None if path is None else client.members(path, needed=False)
    return None if members is None else _read(client, members)


def _members(client: Client, resources: list[Json] | None, name: str) -> list[Json] | None:
    """Return the members of the collections of this name that resources have or link; None unless all can be read."""
    found: list[Json] = []
    for resource in resources or []:
        reference = resource.get(name) or _links(resource).get(name)
        parts = _parts(client, reference) if client.link(reference) is not None else []
        if parts is None:
            return None
        found += parts
    return None if resources is None else found


def _read(client: Client, paths: list[str]) -> list[Json] | None:
    if len(paths) > _MOST_PARTS:
        return None
    found: list[Json] = []
    for path in paths:
        part = client.find(path)
        if part is None:
            return None
        found.append(part)
    return found


def _links(resource: Json) -> Json:
    return table(resource.get("Links"))


def _is_there(part: Json) -> bool:
    return table(part.get("Status")).get("State") != "Absent"


def _sum(parts: list[Json], name: str, most: int = 2**31, *, least: int = 1) -> int | None:
    """Return the sum of a number over all parts; None if a part does not have the number, or if there are no parts."""
    numbers = [_whole(part.get(name), most, least=least) for part in parts]
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _whole(value: object, most: int = 2**31, *, least: int = 1) -> int | None:
    """Return a number, or a text with only a whole number, from ``least`` to ``most``; None for any other value."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < _LONGEST:
        value = int(value)
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    return int(number) if least <= number < most else None


def _line(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    line = "".join(filter(str.isprintable, value)).strip()[:_LONGEST]
    return None if line.strip(_FILLERS).casefold() in _NO_TEXTS else line
