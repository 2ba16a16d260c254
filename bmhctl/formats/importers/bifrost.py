"""The host lists of bifrost: JSON or YAML by host name, and its CSV without a heading."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from bmhctl.errors import InvalidError
from bmhctl.formats.importers.ironic import driver_bmc, mapping
from bmhctl.formats.importers.record import Item, Record, alone, size, texts, whole

_COLUMNS = (
    "mac",
    "ipmi_username",
    "ipmi_password",
    "ipmi_address",
    "cpus",
    "ram",
    "disk_size",
    "flavor",
    "type",
    "uuid",
    "name",
    "ipv4_address",
    "netmask",
    "gateway",
    "nameserver",
    "redfish_address",
    "driver",
)


def read_text(text: str, origin: str) -> Iterator[Item]:
    """Yield the records of the CSV, whose columns have fixed positions."""
    lines = csv.reader(text.splitlines(keepends=True))
    try:
        for row in lines:
            if not row or row[0].lstrip().startswith("#"):
                continue
            values = {key: value.strip() for key, value in zip(_COLUMNS, row, strict=False) if value.strip()}
            keys = ("cpus", "ram", "disk_size")
            yield Item(
                f"{origin}, line {lines.line_num}",
                {
                    **{key: values[key] for key in ("uuid", "name", "ipv4_address", "driver") if key in values},
                    "driver_info": {key: values[key] for key in values if key.startswith("ipmi_")},
                    "nics": [{"mac": values["mac"]}] if "mac" in values else [],
                    "properties": {key: values[key] for key in keys if key in values},
                },
            )
    except csv.Error as error:
        raise InvalidError(f"{origin}, line {lines.line_num}: {error}", details={"file": origin}) from error


@alone
def reader(item: Item) -> Record:
    """Return the host of a record."""
    fields = item.fields
    properties = mapping(fields, "properties")
    macs = [mac for nic in fields.rows("nics") if (mac := nic.line("mac"))]
    bmc, warnings = driver_bmc(mapping(fields, "driver_info"), fields.line("driver"))
    return Record(
        fields.line("name") or item.name or fields.line("uuid"),
        id=fields.line("uuid"),
        address=fields.line("ipv4_address") or fields.line("ipv6_address"),
        macs=macs,
        bmc=bmc,
        labels={"resource_class": fields.line("resource_class")},
        groups=texts(fields, "host_groups"),
        attributes={key: value for key, value in properties.data.items() if not isinstance(value, dict | list)},
        hardware={
            "cpus": whole(properties, "cpus"),
            "arch": properties.line("cpu_arch"),
            "memory": size(properties, "ram", 1024**2) or size(properties, "memory_mb", 1024**2),
            "storage": size(properties, "disk_size", 1024**3) or size(properties, "local_gb", 1024**3),
        },
        note=fields.squeezed("description"),
        warnings=warnings,
    )
