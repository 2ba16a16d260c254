"""Files of other systems: an import beside its parser, and an export beside ``list`` of the same hosts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import tomli_w

from bmhctl.domain.model import HostSpec
from tests.benchmarks.generate import Generator
from tests.benchmarks.harness import Bench, Figure, Series, in_turn
from tests.benchmarks.processes import Cost, programs
from tests.benchmarks.starting import series

PARSE = {
    "json": "import json, sys; json.load(open(sys.argv[1], encoding='utf-8'))",
    "yaml": "import sys, yaml; list(yaml.load_all(open(sys.argv[1], encoding='utf-8'), yaml.CSafeLoader))",
    "csv": "import csv, sys; list(csv.reader(open(sys.argv[1], encoding='utf-8', newline='')))",
}
"""The floor for reading each kind of text: its parser in C."""

WRITE = """
import sqlite3
database = sqlite3.connect(sys.argv[3], isolation_level=None)
database.execute("PRAGMA synchronous = FULL")
database.execute("ATTACH ? AS made", (sys.argv[2],))
database.execute("BEGIN IMMEDIATE")
for rows_of in ("reservations", "hosts", "facts", "events", "meta WHERE key LIKE 'imported/%'"):
    rows = database.execute(f"SELECT * FROM made.{rows_of}").fetchall()
    if rows:
        marks = ",".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO main.{rows_of.split()[0]} VALUES ({marks})", rows)
database.execute("COMMIT")
database.close()
"""
"""The rows of the import, written by a raw loop; together with parsing, this is the floor of an import."""

Record = Callable[[int, HostSpec], object]


def _ironic(number: int, spec: HostSpec) -> object:
    """A node with all the fields of the API."""
    unset = (
        *("allocation_uuid", "chassis_uuid", "conductor_group", "console_interface", "deploy_step", "description"),
        *("fault", "firmware_interface", "inspection_finished_at", "inspection_started_at", "instance_uuid", "lessee"),
        *(
            "last_error",
            "maintenance_reason",
            "network_data",
            "owner",
            "parent_node",
            "protected_reason",
            "reservation",
        ),
        *("retired_reason", "service_step", "target_power_state", "target_provision_state", "updated_at", "vendor"),
    )
    interfaces = ("bios", "boot", "deploy", "inspect", "management", "network", "power", "raid", "rescue", "storage")
    return {
        **dict.fromkeys(unset),
        **{f"{each}_interface": "redfish" for each in interfaces},
        "uuid": f"6d85703a-565d-469a-96ce-{number:012x}",
        "name": spec.name,
        "provision_state": "available",
        "power_state": "power off",
        "maintenance": False,
        "retired": False,
        "driver": "redfish",
        "driver_info": {
            "redfish_address": f"https://bmc-{number}.lab.example",
            "redfish_system_id": "/redfish/v1/Systems/1",
            "redfish_username": "admin",
            "redfish_password": "******",
        },
        "properties": {"cpus": spec.hardware["cpus"], "cpu_arch": "x86_64", "memory_mb": 32768, "local_gb": 100},
        "extra": {},
        "resource_class": spec.labels["role"],
        "traits": [],
        "links": [{"href": f"http://127.0.0.1:6385/{each}/{number}", "rel": each} for each in ("self", "bookmark")],
    }


def _netbox(number: int, spec: HostSpec) -> object:
    """A device with all the fields of the API; every second one is in use."""

    def named(kind: str, name: str) -> dict[str, object]:
        url = f"https://netbox.example/api/dcim/{kind}/{number}/"
        return {"id": number, "url": url, "display": name, "name": name, "slug": name.lower()}

    is_used = number % 2 == 0
    unset = ("airflow", "asset_tag", "cluster", "config_template", "latitude", "local_context_data", "location")
    unset = (*unset, "longitude", "parent_device", "platform", "primary_ip6", "vc_position", "virtual_chassis")
    address = {"id": number, "family": {"value": 4, "label": "IPv4"}, "address": f"{spec.address}/16"}
    kind = named("device-types", "R640") | {"model": "R640", "manufacturer": named("manufacturers", "Dell")}
    return {
        **dict.fromkeys(unset),
        **{f"{each}_count": 0 for each in ("console_port", "interface", "power_port", "device_bay", "inventory_item")},
        **named("devices", spec.name),
        "device_type": kind,
        "role": named("device-roles", spec.labels["role"]),
        "tenant": named("tenants", "Dunder-Mifflin") if is_used else None,
        "serial": spec.labels["serial"],
        "site": named("sites", spec.labels["zone"]),
        "rack": named("racks", spec.labels["rack"]),
        "position": 12.0,
        "face": {"value": "front", "label": "Front"},
        "status": {"value": "active", "label": "Active"} if is_used else {"value": "planned", "label": "Planned"},
        "primary_ip": address,
        "primary_ip4": address,
        "oob_ip": None,
        "description": "",
        "comments": "",
        "tags": [],
        "custom_fields": {},
    }


def _maas(number: int, spec: HostSpec) -> object:
    """A machine with its interface and its disk; the API writes several times as much about each."""
    vlan = {"vid": 0, "mtu": 1500, "dhcp_on": True, "fabric": "fabric-0", "name": "untagged", "id": 5001}
    link = {"id": number, "mode": "auto", "ip_address": spec.address, "subnet": {"name": "lab", "vlan": vlan}}
    nic = {"type": "physical", "name": "eth0", "mac_address": spec.mac, "vlan": vlan, "links": [link], "enabled": True}
    partition = {"id": number, "type": "partition", "size": 10**11, "bootable": True, "filesystem": {"fstype": "ext4"}}
    disk = {"id": number, "type": "physical", "name": "sda", "size": 10**12, "partitions": [partition]}
    tests = ("commissioning", "cpu_test", "memory_test", "network_test", "storage_test", "testing", "other_test")
    return {
        **{f"{each}_status_name": "Passed" for each in tests},
        **{f"{each}_status": 2 for each in tests},
        "system_id": f"{number:06x}",
        "hostname": spec.name,
        "fqdn": f"{spec.name}.maas",
        "status_name": "Ready",
        "architecture": "amd64/generic",
        "cpu_count": spec.hardware["cpus"],
        "memory": 16384,
        "ip_addresses": [spec.address],
        "pool": {"name": "default", "id": 0, "description": "Default pool"},
        "zone": {"name": spec.labels["zone"], "id": 1, "description": ""},
        "tag_names": ["gpu"],
        "power_type": "redfish",
        "boot_interface": nic,
        "interface_set": [nic],
        "boot_disk": disk,
        "physicalblockdevice_set": [disk],
        "hardware_info": {"system_vendor": "Dell", "system_product": "R640", "system_serial": spec.labels["serial"]},
    }


def _bifrost(number: int, spec: HostSpec) -> object:
    return {
        "uuid": f"6d85703a-565d-469a-96ce-{number:012x}",
        "name": spec.name,
        "driver": "ipmi",
        "driver_info": {"ipmi_address": f"10.200.{number // 250}.{number % 250}", "ipmi_username": "ADMIN"},
        "nics": [{"mac": spec.mac}],
        "ipv4_address": spec.address,
        "properties": {"cpu_arch": "x86_64", "ram": "32768", "disk_size": "100", "cpus": "16"},
    }


def _tinkerbell(number: int, spec: HostSpec) -> object:
    dhcp = {"arch": "x86_64", "mac": spec.mac, "hostname": spec.name, "ip": {"address": spec.address, "netmask": "/16"}}
    return {
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": spec.name, "namespace": "tink-system", "labels": dict(spec.labels)},
        "spec": {
            "disks": [{"device": "/dev/nvme0n1"}],
            "interfaces": [{"dhcp": dhcp, "netboot": {"allowPXE": True}}],
        },
    }


def _metal_operator(number: int, spec: HostSpec) -> object:
    return {
        "apiVersion": "metal.ironcore.dev/v1alpha1",
        "kind": "Server",
        "metadata": {
            "name": spec.name,
            "labels": dict(spec.labels),
            "creationTimestamp": "2026-01-01T12:00:00Z",
            "finalizers": ["metal.ironcore.dev/server"],
            "generation": 2,
            "resourceVersion": "26481",
            "uid": f"0e2f0a1c-5d7c-4a5e-9d0b-{number:012x}",
        },
        "spec": {
            "systemUUID": f"38947555-7742-3448-3784-{number:012x}",
            "systemURI": "/redfish/v1/Systems/1",
            "bmcRef": {"name": f"bmc-{number}"},
            "power": "Off",
        },
        "status": {
            "state": "Available",
            "powerState": "Off",
            "indicatorLED": "Off",
            "model": "3500",
            "serialNumber": spec.labels["serial"],
            "manufacturer": "Contoso",
            "totalSystemMemory": "96Gi",
            "networkInterfaces": [{"name": "eth0", "ips": [spec.address], "macAddress": spec.mac}],
        },
    }


def _labgrid(number: int, spec: HostSpec) -> object:
    return {
        "acquired": None,
        "acquired_resources": [],
        "aliases": [],
        "allowed": [],
        "changed": 1575386386.3115733,
        "comment": "by the window",
        "created": 1575376664.3120446,
        "matches": [{"cls": "*", "exporter": "exp1", "group": spec.name, "name": None, "rename": None}],
        "reservation": None,
        "tags": dict(spec.labels),
    }


def _ansible(number: int, spec: HostSpec) -> dict[str, object]:
    return {"ansible_host": spec.address, "mac": spec.mac, "ipmi_address": f"bmc-{number}.lab.example", **spec.labels}


def _in_ansible(records: dict[str, object]) -> object:
    return {"_meta": {"hostvars": records}, "all": {"children": ["lab"]}, "lab": {"hosts": list(records)}}


def _json(record: Record, around: Callable[[dict[str, object]], object]) -> Callable[[Path, int], None]:
    def write(path: Path, hosts: int) -> None:
        path.write_text(json.dumps(around({spec.name: record(number, spec) for number, spec in _specs(hosts)})))

    return write


def _yaml(record: Record, *, documents: bool) -> Callable[[Path, int], None]:
    def write(path: Path, hosts: int) -> None:
        import yaml

        made = {spec.name: record(number, spec) for number, spec in _specs(hosts)}
        with path.open("w") as file:
            if documents:
                yaml.dump_all(made.values(), file, yaml.CSafeDumper)
            else:
                yaml.dump(made, file, yaml.CSafeDumper)

    return write


def _csv(path: Path, hosts: int) -> None:
    lines = ["Host Name,IP Address,MAC,CPUs,Memory,labels.rack,labels.zone,labels.role,labels.arch,Comment\n"]
    for _, spec in _specs(hosts):
        labels = ",".join(spec.labels[key] for key in ("rack", "zone", "role", "arch"))
        hardware = f"{spec.hardware['cpus']},{spec.hardware['memory']}"
        lines.append(f'{spec.name},{spec.address},{spec.mac},{hardware},{labels},"left slot, top"\n')
    path.write_text("".join(lines))


def _specs(hosts: int) -> Iterator[tuple[int, HostSpec]]:
    generator = Generator(1)
    return ((number, generator.spec(number)) for number in range(1, hosts + 1))


FILES: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "ironic": ("json", _json(_ironic, lambda made: {"nodes": [*made.values()]})),
    "maas": ("json", _json(_maas, lambda made: [*made.values()])),
    "netbox": ("json", _json(_netbox, lambda made: {"count": len(made), "results": [*made.values()]})),
    "bifrost": ("json", _json(_bifrost, lambda made: made)),
    "ansible": ("json", _json(_ansible, _in_ansible)),
    "metal-operator": ("yaml", _yaml(_metal_operator, documents=True)),
    "tinkerbell": ("yaml", _yaml(_tinkerbell, documents=True)),
    "labgrid": ("yaml", _yaml(_labgrid, documents=False)),
    "csv": ("csv", _csv),
}
"""The kinds with a parser in C: the parser of each, and a function that writes a file with a number of hosts."""


def _imported(kind: str, script: str, bench: Bench) -> Series:
    tools = programs(bench)
    parser, write = FILES[kind]
    with bench.scratch() as folder:
        file, empty, made = folder / f"hosts.{parser}", folder / "empty.db", folder / "made.db"
        write(file, bench.size(10_000, 2_000))
        tools.run(tools.bmhctl, "-i", str(empty), "-q", "init")
        numbers = count()

        def copy() -> Path:
            return shutil.copy(empty, folder / f"lab{next(numbers)}.db")

        def imported() -> Cost:
            path = copy()
            cost = tools.run(tools.bmhctl, "-i", str(path), "-q", "import", str(file))
            path.replace(made)
            return cost

        def floor() -> Cost:
            return tools.run(tools.python, "-c", script, str(file), str(made), str(copy()))

        return series(*in_turn(bench.at_most(5), imported, floor))


def _lab(bench: Bench) -> str:
    """Return an inventory whose labels have few values, like the labels by which people group hosts."""

    def make() -> str:
        tools, path, lines = programs(bench), bench.folder / "grouped.db", bench.folder / "grouped.csv"
        _csv(lines, 10_000)
        tools.run(tools.bmhctl, "-i", str(path), "-q", "init")
        tools.run(tools.bmhctl, "-i", str(path), "-q", "import", str(lines))
        return str(path)

    return bench.once(_lab, make)


def _exported(bench: Bench) -> Series:
    tools = programs(bench)
    export = partial(tools.run, tools.bmhctl, "-i", _lab(bench), "export", "-o", "ansible")
    return series(
        *in_turn(bench.rounds, export, partial(tools.run, tools.bmhctl, "-i", _lab(bench), "list", "-o", "json"))
    )


def _read_by_ansible(bench: Bench) -> Series:
    tools = programs(bench)
    reader = Path(sys.executable).with_name("ansible-inventory")
    export = (tools.bmhctl, "-i", _lab(bench), "export", "-o", "ansible")
    with bench.scratch() as folder:
        exported, same = folder / "exported.json", folder / "hosts.toml"
        tools.run(*export, output=exported)
        same.write_text(_toml(json.loads(exported.read_text())))
        ours, its = partial(tools.run, *export), partial(tools.run, str(reader), "-i", str(same), "--list")
        return series(*in_turn(bench.at_most(3), its, ours, warm_up=0))


def _toml(inventory: dict[str, dict[str, Any]]) -> str:
    """Return the same inventory in the form in which people write it for Ansible."""
    every = {"all": {"hosts": inventory["_meta"]["hostvars"]}}
    groups = {name: group["hosts"] for name, group in inventory.items() if "hosts" in group}
    return tomli_w.dumps(every | {name: {"hosts": {host: {} for host in hosts}} for name, hosts in groups.items()})


OVER_ROWS = ("maas", "netbox", "csv", "bifrost", "ironic", "ansible")
"""The kinds that are parsed so fast that the rows of an import are a part of its floor."""


FIGURES = (
    *(
        Figure(
            f"import/{kind}",
            f"import of 10,000 records of {kind}, over the {parser} parser in C on the same file",
            partial(_imported, kind, PARSE[parser]),
            2.0 if parser == "yaml" else None,
            by_cpu=True,
        )
        for kind, (parser, _) in FILES.items()
    ),
    *(
        Figure(
            f"import-rows/{kind}",
            f"import of 10,000 records of {kind}, over that parser and the same rows written by hand",
            partial(_imported, kind, PARSE[FILES[kind][0]] + WRITE),
            2.0,
            by_cpu=True,
        )
        for kind in OVER_ROWS
    ),
    Figure("export/ansible", "export -o ansible of 10,000 hosts over list -o json", _exported, 1.5),
    Figure(
        "export/ansible-inventory",
        "ansible-inventory --list of the same hosts and groups in TOML over export -o ansible",
        _read_by_ansible,
        20,
        at_least=True,
    ),
)
