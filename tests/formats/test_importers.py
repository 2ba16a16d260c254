"""Imports from other systems: hosts, their states with the systems' own words, and never a secret."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.model import Bmc, Host, HostSpec
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.import_files import import_options, read_paths
from bmhctl.formats.importers import ironic, maas, metal_operator, netbox
from bmhctl.formats.importers.kinds import WORDS
from tests.formats import importer_samples as samples
from tests.formats.importer_samples import SAMPLES

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
JSON = {name: text for name, text in SAMPLES.items() if text[0] in "{["}


BMC = "apiVersion: metal.ironcore.dev/v1alpha1\nkind: BMC\nmetadata: {name: bmc1}\nspec: {endpoint: {ip: 10.0.0.1}}\n"


def read(
    text: str | bytes,
    kind: str | None = None,
    name: str | None = None,
    only: str | None = None,
    label_from: Sequence[str] | None = None,
    mapping: Sequence[str] | None = None,
) -> ImportBatch:
    content = text.encode() if isinstance(text, str) else text
    return read_paths(["-"], io.BytesIO(content), NOW, options=import_options(kind, name, only, label_from, mapping))


def hosts(batch: ImportBatch) -> dict[str, Host]:
    return {arrival.host.name: arrival.host for arrival in batch.arrivals}


def states(batch: ImportBatch) -> dict[str, tuple[str, str | None, str | None]]:
    """The state of each host, the source's word for it, and its owner there."""
    return {
        arrival.host.name: (
            arrival.host.state.value,
            arrival.source_state,
            arrival.host.reservation.owner if arrival.host.reservation else None,
        )
        for arrival in batch.arrivals
    }


def entry(batch: ImportBatch, name: str) -> dict[str, object]:
    return dump_spec(hosts(batch)[name].spec)


# tests: rules for every kind


@pytest.mark.parametrize(("name", "pages"), [("ironic", "nodes"), ("netbox", "results")])
def test_a_missing_next_page_is_reported(name: str, pages: str) -> None:
    document = json.loads(JSON[name])
    records, said = document[pages], "the pages after this one are missing: import them together with it"
    first = {pages: records[:1], "next": "https://example.org/?offset=1"}
    second = {pages: records[1:], "next": "https://example.org/?offset=2"}
    assert said in read(json.dumps(first), name="{name}").warnings[0]
    assert f"document 2: {said}" in read(f"{json.dumps(first)}\n{json.dumps(second)}", name="{name}").warnings[0]
    whole = f"{json.dumps(first)}\n{json.dumps({**second, 'next': None})}"
    assert not [line for line in read(whole, name="{name}").warnings if "pages" in line]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kea", samples.KEA.partition("\n")[0]),
        ("isc-dhcp", "lease 10.0.0.1 {\n  binding state free;\n}\n"),
        ("csv", "name,address\n"),
        ("dnsmasq", "duid 00:01:00:01:2d:c6:80:86\n"),
        ("dnsmasq", "# no hosts\nport=53\nlog-dhcp\ndhcp-boot=pxelinux.0\n"),
        ("dnsmasq", "domain-needed \nbogus-priv\ndhcp-range=main,10.0.0.20,10.0.0.250\n"),
        ("ansible", "all:\n  hosts:\n"),
        ("metal-operator", BMC),
    ],
)
def test_a_file_without_a_record_is_refused(name: str, text: str) -> None:
    for kind in (None, name):
        with pytest.raises(InvalidError, match=r"nothing to import: it looks like .* without a host"):
            read(text, kind)


def test_a_file_whose_records_are_all_skipped_is_refused_unless_a_selector_left_them_out() -> None:
    retired = json.dumps([json.loads(samples.MAAS)[2]])
    for text, said in ((retired, "old-eel skipped: it is retired in MAAS"), (samples.IRONIC_PORTS, "port skipped: ")):
        with pytest.raises(InvalidError, match=f"nothing to import: document 1, item 1: {said}"):
            read(text)
    assert not read(samples.MAAS, only="pool=other").arrivals


@pytest.mark.parametrize("name", SAMPLES)
def test_the_kind_of_a_file_is_recognized_by_its_text(name: str) -> None:
    found = read(SAMPLES[name], name="{name}")
    assert found.arrivals
    assert read(SAMPLES[name], name.partition("'")[0], name="{name}") == found


@pytest.mark.parametrize("name", SAMPLES)
def test_a_secret_is_never_stored_or_shown_and_its_key_is_named(name: str) -> None:
    found = read(SAMPLES[name], name="{name}", label_from=["groups", "*"])
    assert "hunter2" not in repr(found)
    if "hunter2" in SAMPLES[name]:
        assert any("never stored" in line for line in found.skipped)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("other", [word for word in WORDS if word != "csv"])
def test_a_file_of_another_kind_than_given_is_refused_with_the_kind_that_it_looks_like(name: str, other: str) -> None:
    if other == name.partition("'")[0]:
        return
    with pytest.raises(InvalidError) as caught:
        read(SAMPLES[name], other)
    assert "hunter2" not in caught.value.message
    assert caught.value.message.startswith("standard input")


@pytest.mark.parametrize("name", SAMPLES)
def test_line_ends_of_windows_a_byte_order_mark_and_gzip_change_nothing(name: str) -> None:
    found = hosts(read(SAMPLES[name], name="{name}"))
    windows = "\ufeff" + SAMPLES[name].replace("\r\n", "\n").replace("\n", "\r\n")
    assert hosts(read(windows, name="{name}")) == found
    assert hosts(read(gzip.compress(SAMPLES[name].encode()), name="{name}")) == found


@pytest.mark.parametrize("name", JSON)
def test_json_may_be_spread_over_lines_or_written_as_yaml(name: str) -> None:
    found = hosts(read(JSON[name], name="{name}"))
    document = json.loads(JSON[name])
    assert hosts(read(json.dumps(document, indent=2), name="{name}")) == found
    assert hosts(read(yaml.safe_dump(document), name="{name}")) == found


@pytest.mark.parametrize("name", ["ironic", "ironic's command line", "maas", "netbox"])
def test_records_can_be_a_list_pages_lines_or_a_single_one(name: str) -> None:
    found = hosts(read(JSON[name], name="{name}"))
    document = json.loads(JSON[name])
    records = document if isinstance(document, list) else next(v for v in document.values() if isinstance(v, list))
    assert hosts(read(json.dumps(records), name="{name}")) == found
    assert hosts(read(json.dumps({"count": 9, "results": records}), name="{name}")) == found
    assert hosts(read(json.dumps([records[:1], records[1:]]), name="{name}")) == found
    assert hosts(read("\n".join(json.dumps([record]) for record in records), name="{name}")) == found
    assert hosts(read(json.dumps(records[0]), name="{name}")) == dict([next(iter(found.items()))])


@pytest.mark.parametrize("name", ["ironic", "maas", "netbox"])
def test_a_record_of_a_wrong_type_is_reported_with_file_and_record(name: str) -> None:
    document = json.loads(JSON[name])
    records = document if isinstance(document, list) else next(v for v in document.values() if isinstance(v, list))
    records[1] = ["hunter2"]
    with pytest.raises(InvalidError) as caught:
        read(json.dumps(document), name="{name}")
    assert caught.value.message == "standard input, document 1: item 2: must be a mapping, not a list"


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("ironic", "provision_state", "levitating", "provision_state: 'levitating' is not a known state"),
        ("maas", "status_name", "Napping", "status_name: 'Napping' is not a known state"),
        ("netbox", "status", {"value": "lost"}, "status.value: 'lost' is not a known state"),
        ("netbox", "primary_ip", {"address": "10.0.0.300/24"}, "address: must be an IP address or a DNS name"),
        ("netbox", "device_type", "R640", "device_type: must be a mapping, not a text"),
        ("maas", "cpu_count", "many", "cpu_count: must be a whole number from 0"),
        ("ironic", "driver_info", "hunter2", "driver_info: is not a mapping"),
        ("ironic", "properties", {"cpus": -1}, "properties.cpus: must be a whole number from 0"),
        ("ironic", "properties", {"memory_mb": 1e300}, "properties.memory_mb: must be a whole number from 0"),
        ("ironic", "retired", "perhaps", "retired: must be true or false, not a text"),
        ("maas", "ip_addresses", ["10.0.0.300"], "ip_addresses: must be an IP address, not '10.0.0.300'"),
    ],
)
def test_a_wrong_value_is_reported_with_its_field(name: str, key: str, value: object, said: str) -> None:
    document = json.loads(JSON[name])
    records = document if isinstance(document, list) else next(v for v in document.values() if isinstance(v, list))
    records[0][key] = value
    with pytest.raises(InvalidError) as caught:
        read(json.dumps(document), name="{name}")
    assert caught.value.message.startswith(f"standard input, document 1, item 1: {said}")
    assert caught.value.details["field"] == said.partition(":")[0]


def test_two_records_with_one_id_are_one_host_with_the_values_of_the_later() -> None:
    page = json.loads(samples.MAAS)
    later = {**page[3], "status_name": "Allocated", "owner": "eve"}
    found = read(json.dumps([page, [later]]))
    assert states(found)["ready-ray"] == ("reserved", "Allocated", "eve")
    assert "ready-ray: 2 records have the same id: the last one is used" in found.warnings


def test_two_hosts_with_the_same_name_can_be_named_by_their_ids() -> None:
    page = json.loads(samples.MAAS)
    page[3]["hostname"] = page[0]["hostname"]
    with pytest.raises(InvalidError) as caught:
        read(json.dumps(page))
    assert caught.value.hint == "a name is unique in an inventory: import --name '{name}-{id}' distinguishes them"
    assert "calm-cod-abc126" in hosts(read(json.dumps(page), name="{name}-{id}"))


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean netbox"):
        read("", "netbix")


def test_hosts_that_the_only_option_leaves_out_are_not_validated() -> None:
    page = json.loads(samples.NETBOX)["results"]
    switch = {**page[0], "id": 10, "name": "sw/1", "role": {"slug": "switch"}, "status": {"value": "lost?"}}
    switch["status"] = {"value": "active"}
    found = read(json.dumps([{**page[0], "name": "srv1"}, switch]), only="role=server")
    assert list(hosts(found)) == ["srv1"]


def test_files_of_two_kinds_are_imported_together(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(samples.MAAS)
    (tmp_path / "b.yaml").write_text(samples.LABGRID)
    found = read_paths([tmp_path / "a.json", tmp_path / "b.yaml"], io.BytesIO(), NOW)
    assert {"calm-cod", "board-1"} <= hosts(found).keys()


def test_the_same_name_in_files_of_two_kinds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(samples.MAAS)
    (tmp_path / "hosts").write_text("10.0.0.1 calm-cod\n")
    with pytest.raises(InvalidError, match="already in"):
        read_paths([tmp_path / "a.json", tmp_path / "hosts"], io.BytesIO(), NOW)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (ironic.STATES, "enroll manageable available active deploying rescue cleaning error"),
        (maas.STATES, "new ready deployed broken retired"),
        (netbox.STATES, "planned active failed offline decommissioning"),
        (metal_operator.STATES, "initial available reserved error maintenance"),
    ],
)
def test_the_tables_of_states_are_in_lower_case(table: dict[str, object], words: str) -> None:
    assert set(words.split()) <= table.keys()
    assert all(word == word.lower() for word in table)


# tests: the kinds


def test_ironic_nodes_keep_their_states_instances_and_faults() -> None:
    found = read(samples.IRONIC)
    node = "2b045129-a906-46af-bc1a-092b294b3428"  # a node without a name is called by its UUID
    instance = "instance 5344a3e2-978a-444e-990a-cbf47c62ef88"
    assert states(found) == {
        "ir1": ("available", "available", None),
        node: ("maintenance", "active", instance),
        "ir3": ("tainted", "clean failed", None),
    }
    assert [note.reason for note in hosts(found)[node].maintenance] == ["fan"]
    assert hosts(found)["ir3"].fault == "disk"
    assert found.skipped[0] == "standard input, document 1, item 4: ir4 skipped: it is retired in Ironic"
    assert entry(found, "ir1") == {
        "labels": {"resource_class": "baremetal", "CUSTOM_GPU": "true"},
        "bmc": {
            "address": "https://10.0.1.1",
            "type": "redfish",
            "system_id": "/redfish/v1/Systems/1",
            "verify_tls": False,
        },
        "hardware": {"cpus": 16, "arch": "x86_64", "memory": "32GiB", "storage": "100GiB"},
    }


def test_csv_of_the_openstack_command_has_the_states_of_ironic() -> None:
    records = json.loads(samples.IRONIC_LIST)
    lines = [",".join(f'"{value}"' if value is not None else "" for value in record.values()) for record in records]
    text = "\n".join([",".join(f'"{key}"' for key in records[0]), *lines])
    for kind in (None, "ironic"):
        assert states(read(text, kind)) == states(read(samples.IRONIC_LIST))
    with pytest.raises(InvalidError) as caught:
        read(text, "netbox")
    assert caught.value.message == "standard input: not NetBox devices: it looks like Ironic nodes"


def test_ironic_ports_give_the_nodes_of_another_file_their_macs(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(samples.IRONIC_LIST)
    (tmp_path / "ports.json").write_text(samples.IRONIC_PORTS)
    found = read_paths([tmp_path], io.BytesIO(), NOW)
    assert entry(found, "ir1") == {"mac": "52:54:00:00:00:01", "hardware": {"nics": 2}}
    assert found.skipped == (f"{tmp_path}/ports.json, document 1, item 3: port skipped: these files have no node u-9",)


def test_nodes_that_baremetal_create_enrolls_have_their_ports_inside() -> None:
    node = {
        "name": "en1",
        "driver": "ipmi",
        "driver_info": {"ipmi_address": "10.0.1.5", "ipmi_port": 6230, "ipmi_password": "hunter2"},
        "ports": [{"address": "52:54:00:00:05:02", "pxe_enabled": False}, {"address": "52:54:00:00:05:01"}],
    }
    alone = {"name": "en2", "driver": "redfish", "driver_info": {"redfish_address": "https://10.0.1.6"}}
    batch = read(yaml.safe_dump({"chassis": [{"nodes": [node]}], "nodes": [alone]}))
    assert {name: state for name, (state, *_) in states(batch).items()} == {"en1": "initial", "en2": "initial"}
    assert entry(batch, "en1") == {
        "mac": "52:54:00:00:05:01",
        "hardware": {"nics": 2},
        "bmc": {"address": "ipmi://10.0.1.5:6230", "type": "ipmi"},
    }
    assert entry(batch, "en2")["bmc"] == {"address": "https://10.0.1.6", "type": "redfish"}
    with pytest.raises(InvalidError, match="provision_state: is missing") as caught:
        read(json.dumps([{**alone, "uuid": "u-1", "ports": [{"href": "http://ironic/v1/nodes/u-1/ports"}]}]))
    assert caught.value.hint == "baremetal node list --long -f json writes it"


@pytest.mark.parametrize(
    ("driver", "address", "port", "found"),
    [
        ("ilo", "ilo_address", "client_port", "ilo://10.0.1.5:8443"),
        ("idrac", "drac_address", "drac_port", "idrac://10.0.1.5:8443"),
        ("irmc", "irmc_address", "irmc_port", "irmc://10.0.1.5:8443"),
        ("xclarity", "xclarity_manager_ip", "xclarity_port", "https://10.0.1.5:8443"),
    ],
)
def test_each_driver_of_ironic_has_its_own_key_for_the_port(driver: str, address: str, port: str, found: str) -> None:
    node = {"name": "en1", "driver": driver, "driver_info": {address: "10.0.1.5", port: 8443}}
    assert entry(read(json.dumps({"nodes": [node]})), "en1")["bmc"] == {"address": found, "type": driver}


def test_the_nodes_of_tripleo_have_their_bmcs_macs_and_properties() -> None:
    size = {"cpu": "8", "arch": "x86_64", "memory": "32768", "disk": "100"}
    nodes = [
        {"name": "tr1", "mac": ["52:54:00:00:06:01"], "pm_type": "pxe_ipmitool", "pm_addr": "10.0.1.7", **size},
        {"name": "tr2", "mac": "52:54:00:00:06:02", "pm_type": "ipmi", "pm_addr": "10.0.1.8", "pm_port": "6230"},
        {"name": "tr3", "pm_type": "redfish", "pm_addr": "10.0.1.9", "pm_system_id": "/redfish/v1/Systems/1"},
        {"name": "tr4", "ports": [{"address": "52:54:00:00:06:04"}], "pm_type": "pxe_drac", "pm_addr": "10.0.1.10"},
        {"name": "tr5", "mac": ["52:54:00:00:06:05"], "pm_type": "pxe_ssh", "pm_addr": "10.0.1.11"},
        {"name": "tr6", "pm_type": "idrac", "pm_addr": "10.0.1.12", "pm_port": "8443"},
    ]
    for node in nodes:
        node |= {"pm_user": "root", "pm_password": "hunter2"}
    batch = read(json.dumps({"ssh-user": "stack", "arch": "x86_64", "nodes": nodes}))
    assert set(states(batch).values()) == {("initial", None, None)}
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "tr1": {
            "mac": "52:54:00:00:06:01",
            "bmc": {"address": "ipmi://10.0.1.7", "type": "pxe_ipmitool"},
            "hardware": {"cpus": 8, "arch": "x86_64", "memory": "32GiB", "storage": "100GiB"},
        },
        "tr2": {"mac": "52:54:00:00:06:02", "bmc": {"address": "ipmi://10.0.1.8:6230", "type": "ipmi"}},
        "tr3": {
            "bmc": {"address": "redfish+https://10.0.1.9", "type": "redfish", "system_id": "/redfish/v1/Systems/1"}
        },
        "tr4": {"mac": "52:54:00:00:06:04", "bmc": {"address": "idrac://10.0.1.10", "type": "pxe_drac"}},
        "tr5": {"mac": "52:54:00:00:06:05"},
        "tr6": {"bmc": {"address": "idrac://10.0.1.12:8443", "type": "idrac"}},
    }
    assert batch.skipped == ("standard input: 6 secrets skipped, which are never stored: pm_password",)
    said = "gets no BMC: bmhctl does not know the driver pxe_ssh, so pm_addr is ignored"
    assert batch.warnings == (f"standard input, document 1, item 5: {said}",)


def test_a_node_of_tripleo_may_have_only_a_mac() -> None:
    nodes = json.dumps({"nodes": [{"mac": ["52:54:00:00:06:0A"], "pm_type": "fake-hardware"}], "network_details": {}})
    with pytest.raises(InvalidError, match=r"52-54-00-00-06-0a skipped: .*: --name 'host-\{id\}' names it"):
        read(nodes)
    assert entry(read(nodes, name="n-{id}"), "n-52-54-00-00-06-0a") == {"mac": "52:54:00:00:06:0a"}


def test_ironic_properties_may_be_written_as_text() -> None:
    node = {"UUID": "u", "Name": "n", "Provisioning State": "enroll", "Properties": "{'cpus': '4', 'cpu_arch': 'arm'}"}
    assert entry(read(json.dumps([node])), "n") == {"hardware": {"cpus": 4, "arch": "arm"}}


@pytest.mark.parametrize("text", ['"u","n","None","enroll"', "u,n,,enroll"])
def test_an_empty_cell_of_the_openstack_command_is_no_instance(text: str) -> None:
    found = read(f"UUID,Name,Instance UUID,Provisioning State\n{text}\n")
    assert states(found) == {"n": ("initial", "enroll", None)}


def test_maas_machines_keep_their_owner_disks_and_boot_interface() -> None:
    found = read(samples.MAAS)
    assert states(found) == {
        "calm-cod": ("reserved", "Deployed", "ada"),
        "new-tuna": ("tainted", "Failed testing", None),
        "ready-ray": ("available", "Ready", None),
        "rescue-ray": ("maintenance", "Rescue mode", None),
    }
    assert entry(found, "calm-cod") == {
        "address": "10.0.0.5",
        "mac": "52:54:00:00:01:01",
        "labels": {"pool": "default", "zone": "north", "gpu": "true"},
        "bmc": {"address": "ipmi://10.0.1.5", "type": "ipmi"},
        "hardware": {
            "cpus": 8,
            "arch": "x86_64",
            "memory": "16GiB",
            "disks": 2,
            "storage": "25000000000B",
            "nics": 2,
            "vendor": "Dell",
            "serial": "X1",
        },
    }


def test_the_heading_of_the_maas_command_line_is_skipped() -> None:
    assert hosts(read("Success.\nMachine-readable output follows:\n" + samples.MAAS)) == hosts(read(samples.MAAS))


def test_netbox_devices_become_labels_and_names_need_a_template() -> None:
    with pytest.raises(InvalidError) as caught:
        read(samples.NETBOX)
    assert caught.value.message == "standard input, document 1, item 1: name: 'srv 7:a' is not a host name"
    assert caught.value.hint == "import --name '{name}' writes - for a space"
    found = read(samples.NETBOX, name="{name}", label_from=["groups", "cost_centre", "kind", "uses"])
    assert states(found) == {"srv-7-a": ("reserved", "active", "Team A")}
    assert entry(found, "srv-7-a") == {
        "address": "10.0.0.7",
        "labels": {
            "site": "dc1",
            "rack": "Plant-1",
            "role": "server",
            "tenant": "team-a",
            "position": "37",
            "gpu": "true",
            "cost_centre": "12",
            "kind": "x",
            "uses": "ci-dev",
        },
        "bmc": {"address": "redfish+https://10.0.1.7"},
        "hardware": {"vendor": "Dell", "model": "R640", "serial": "S7"},
    }
    assert found.skipped[:2] == (
        "standard input, document 1, item 2: gone skipped: it is being decommissioned in NetBox",
        "standard input, document 1, item 3: 9 skipped: it has no name in the file: --name 'host-{id}' names it",
    )
    assert states(read(samples.NETBOX, name="nb-{id}")) == {
        "nb-7": ("reserved", "active", "Team A"),
        "nb-9": ("initial", "staged", None),
    }


@pytest.mark.parametrize(
    "text",
    [
        "ID,Name,Status,Tenant,Site,Rack,Position (U),Role,Manufacturer,Type,Serial number,IPv4 Address,OOB IP,Tags,"
        "Cost\n"
        '7,nb1,Active,Team A,DC 1,r1,12.0,Server,Dell,R640,S7,10.0.0.7/24,10.0.1.7/24,"gpu, big",x\n'
        "8,nb2,Planned,,DC 1,,,Server,Dell,R640,,,,,\n",
        "name,status,tenant,site,rack_name,position,device_role,manufacturer,device_type,serial,primary_ip4,oob_ip,tags,"
        "Cost\n"
        'nb1,active,Team A,DC 1,r1,12,Server,Dell,R640,S7,10.0.0.7,10.0.1.7,"gpu,big",x\n'
        "nb2,planned,,DC 1,,,Server,Dell,R640,,,,,\n",
    ],
)
def test_a_csv_of_netbox_has_states_racks_and_tags(text: str) -> None:
    batch = read(text, "netbox", label_from=["groups", "Cost"])
    assert hosts(batch) == hosts(read(text, label_from=["groups", "Cost"]))
    assert {name: state for name, (state, *_) in states(batch).items()} == {"nb1": "reserved", "nb2": "initial"}
    assert states(batch)["nb1"][2] == "Team A"
    assert entry(batch, "nb1") == {
        "address": "10.0.0.7",
        "labels": {
            "site": "DC-1",
            "rack": "r1",
            "position": "12",
            "role": "Server",
            "tenant": "Team-A",
            "gpu": "true",
            "big": "true",
            "Cost": "x",
        },
        "bmc": {"address": "redfish+https://10.0.1.7"},
        "hardware": {"vendor": "Dell", "model": "R640", "serial": "S7"},
    }
    assert entry(batch, "nb2") == {
        "labels": {"site": "DC-1", "role": "Server"},
        "hardware": {"vendor": "Dell", "model": "R640"},
    }


def test_devices_as_in_a_request_to_netbox_are_refused_with_the_request_that_reads_them() -> None:
    with pytest.raises(InvalidError, match="device_type: is a number, as in a request") as caught:
        read('[{"name": "n", "device_type": 1, "site": 1, "status": 1}]')
    assert caught.value.hint == "GET /api/dcim/devices/ has whole devices"


def test_the_bmc_that_a_manifest_names_and_the_files_lack_is_reported() -> None:
    server = {"apiVersion": "metal.ironcore.dev/v1alpha1", "kind": "Server", "metadata": {"name": "s1"}}
    hardware = {"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "h1"}}
    batch = read(json.dumps({**server, "spec": {"bmcRef": {"name": "b1"}}}))
    assert batch.warnings == ("standard input, document 1: s1 gets no BMC: these files have no BMC b1",)
    batch = read(json.dumps({**hardware, "spec": {"bmcRef": {"name": "b1"}}}))
    assert batch.warnings == ("standard input, document 1: h1 gets no BMC: these files have no Machine b1",)


def test_metal_operator_servers_are_joined_with_bmcs_claims_and_maintenances() -> None:
    found = read(samples.METAL_OPERATOR)
    assert states(found) == {
        "srv1": ("available", "Available", None),
        "srv2": ("reserved", "Reserved", "ServerClaim/team/claim2"),
        "srv3": ("maintenance", "Maintenance", None),
        "srv4": ("tainted", "Error", None),
    }
    assert [note.reason for note in hosts(found)["srv3"].maintenance] == ["ServerMaintenance/ops/m1 in the cluster"]
    assert entry(found, "srv1") == {
        "address": "10.0.0.21",
        "mac": "52:54:00:00:02:01",
        "labels": {"rack": "1-1"},
        "bmc": {
            "address": "redfish+http://10.0.1.21:8000",
            "type": "Redfish",
            "system_id": "/redfish/v1/Systems/437XR1138R2",
            "credentials": "env:BMC_BMC1_SECRET",
        },
        "hardware": {"cpus": 16, "arch": "x86_64", "memory": "96GiB", "nics": 1, "vendor": "Contoso"},
    }


def test_a_server_that_no_claim_may_use_is_in_maintenance() -> None:
    taint = "spec:\n  taints: [{key: lab/not-ready, effect: NoBind}]\n  systemUUID:"
    found = hosts(read(samples.METAL_OPERATOR.replace("spec:\n  systemUUID:", taint, 1)))["srv1"]
    assert (found.state, [note.reason for note in found.maintenance], found.came_from) == (
        "maintenance",
        ["taint lab/not-ready in the cluster"],
        "available",
    )


def test_manifests_of_two_projects_may_be_in_one_file() -> None:
    metal3 = "---\napiVersion: metal3.io/v1alpha1\nkind: BareMetalHost\nmetadata: {name: m1}\n"
    assert {"m1", "srv1", "tink1"} <= hosts(read(samples.METAL_OPERATOR + "---\n" + samples.TINKERBELL + metal3)).keys()


def test_tinkerbell_hardware_boots_from_the_interface_that_may_netboot() -> None:
    hardware = """
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: t}
spec:
  interfaces:
  - {dhcp: {mac: "52:54:00:00:03:01", ip: {address: 10.0.0.1}}, netboot: {allowPXE: false}}
  - {dhcp: {mac: "52:54:00:00:03:02", ip: {address: 10.0.0.2}}, netboot: {allowPXE: true}}
  - {disableDhcp: true}
"""
    assert entry(read(hardware), "t") == {
        "address": "10.0.0.2",
        "mac": "52:54:00:00:03:02",
        "hardware": {"nics": 2},
    }


def test_tinkerbell_hardware_has_the_bmc_that_an_older_version_keeps_in_a_baseboard_management() -> None:
    api, about = "bmc.tinkerbell.org/v1alpha1", {"name": "n1", "namespace": "eksa"}
    bmc = {"host": "10.0.1.1", "port": 623, "authSecretRef": {"name": "n1-auth"}, "insecureTLS": True}
    wanted = {"bmcRef": {"apiGroup": "bmc.tinkerbell.org", "kind": "BaseboardManagement", "name": "bmc-n1"}}
    hardware = {"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": about, "spec": wanted}
    board = {"apiVersion": api, "kind": "BaseboardManagement", "metadata": {**about, "name": "bmc-n1"}}
    found = read(json.dumps(hardware) + json.dumps({**board, "spec": {"connection": bmc}}))
    assert entry(found, "n1")["bmc"] == {
        "address": "redfish+https://10.0.1.1",
        "credentials": "env:BMC_N1_AUTH",
        "verify_tls": False,
    }
    assert found.skipped == ()
    assert read(json.dumps(hardware)).warnings == (
        "standard input, document 1: n1 gets no BMC: these files have no BaseboardManagement bmc-n1",
    )


def test_a_reference_of_tinkerbell_names_one_of_two_bmcs_of_a_name_by_its_kind() -> None:
    documents = [
        {"kind": kind, "metadata": {"name": "b1"}, "spec": {"connection": {"host": host}}}
        for kind, host in (("Machine", "10.0.9.9"), ("BaseboardManagement", "10.0.9.1"))
    ]
    documents += [
        {
            "kind": "Hardware",
            "metadata": {"name": f"h-{kind.lower()}"},
            "spec": {"bmcRef": {"name": "b1", "kind": kind}},
        }
        for kind in ("Machine", "BaseboardManagement")
    ]
    found = read("".join(json.dumps({"apiVersion": "tinkerbell.org/v1alpha1", **each}) for each in documents))
    assert {name: entry(found, name)["bmc"] for name in hosts(found)} == {
        "h-machine": {"address": "redfish+https://10.0.9.9"},
        "h-baseboardmanagement": {"address": "redfish+https://10.0.9.1"},
    }


def test_the_port_of_ipmitool_in_a_machine_of_tinkerbell_is_that_of_the_bmc() -> None:
    ref = {"bmcRef": {"kind": "Machine", "name": "m1"}}
    hardware = {"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "n1"}, "spec": ref}
    options = {"preferredOrder": ["ipmitool"], "ipmitool": {"port": 6230}}
    connection = {"host": "10.0.1.1", "port": 623, "providerOptions": options}
    machine = {"apiVersion": "bmc.tinkerbell.org/v1alpha1", "kind": "Machine", "metadata": {"name": "m1"}}
    found = read(json.dumps(hardware) + json.dumps({**machine, "spec": {"connection": connection}}))
    assert entry(found, "n1")["bmc"] == {"address": "ipmi://10.0.1.1:6230"}


def test_tinkerbell_hardware_of_a_version_with_other_fields_is_skipped() -> None:
    first, hardware, last = samples.TINKERBELL.rpartition("tinkerbell.org/v1alpha1\nkind: Hardware")
    batch = read(first + hardware.replace("v1alpha1", "v1alpha2") + last)
    assert list(hosts(batch)) == ["tink1"]
    assert batch.skipped[0] == (
        "standard input, document 3: Hardware 'tink2' skipped: import reads v1alpha1 of tinkerbell.org, not v1alpha2"
    )


@pytest.mark.parametrize("name", ["metal-operator", "tinkerbell"])
def test_a_secret_in_the_file_of_another_system_is_skipped(name: str) -> None:
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
    found = read(SAMPLES[name].rstrip("\n") + "\n" + secret)
    assert found.arrivals == read(SAMPLES[name]).arrivals
    assert any(line.endswith("Secret 's' skipped: secrets are never stored") for line in found.skipped)


def test_tinkerbell_hardware_is_in_use_where_a_cluster_owns_it() -> None:
    found = read(samples.TINKERBELL)
    assert states(found) == {"tink1": ("initial", None, None), "tink2": ("reserved", "provisioned", "capt/node-a")}
    assert entry(found, "tink1") == {
        "address": "10.0.0.31",
        "mac": "52:54:00:00:03:01",
        "labels": {"facility": "onprem", "type": "cp", "namespace": "tink-system"},
        "bmc": {"address": "redfish+https://10.0.1.31", "credentials": "env:BMC_BMC_CREDS", "verify_tls": False},
        "hardware": {"arch": "x86_64", "disks": 1, "nics": 1},
    }


def test_an_acquired_place_of_labgrid_is_reserved_and_a_free_one_is_initial() -> None:
    found = read(samples.LABGRID)
    assert states(found) == {"board-1": ("reserved", "acquired", "host1/alice"), "board-2": ("initial", "free", None)}
    assert entry(found, "board-1") == {
        "labels": {"exporter": "exp1", "board": "imx8", "soc": "nxp"},
        "note": "by the window",
    }


@pytest.mark.parametrize(("text", "name"), [(samples.BIFROST, "bif1"), (samples.BIFROST_CSV, "bif2")])
def test_macs_bmcs_and_hardware_are_read_from_bifrost_lists(text: str, name: str) -> None:
    found = entry(read(text), name)
    assert str(found["bmc"]).startswith("{'address': 'ipmi://10.0.1.4")
    assert found["mac"]
    assert found["hardware"]


def test_groups_of_an_ansible_inventory_become_labels_and_variables_as_asked_for() -> None:
    found = read(samples.ANSIBLE_YAML)
    assert list(hosts(found)) == ["db-1", "web01.lab", "web02.lab"]
    assert entry(found, "web01.lab") == {"address": "10.0.0.51", "labels": {"web": "true", "lab": "true"}}
    chosen = read(samples.ANSIBLE_YAML, label_from=["rack,site,version"])
    assert entry(chosen, "web02.lab")["labels"] == {"rack": "r1", "site": "dc1"}
    assert entry(chosen, "db-1")["labels"] == {"rack": "r2", "site": "dc1", "version": "1.10"}
    assert [line for line in chosen.skipped if "groups" in line] == [
        "standard input: groups not imported: db, lab, web: --label-from groups turns all into labels"
    ]


def test_groups_may_be_named_as_labels_one_by_one() -> None:
    found = read(samples.ANSIBLE_YAML, label_from=["web", "rack"])
    assert entry(found, "web02.lab")["labels"] == {"rack": "r1", "web": "true"}
    assert entry(found, "db-1")["labels"] == {"rack": "r2"}
    with pytest.raises(UsageError, match="standard input has no 'wbe': did you mean web"):
        read(samples.ANSIBLE_YAML, label_from=["wbe"])


def test_what_is_not_a_group_of_an_ansible_inventory_is_skipped_and_named() -> None:
    text = "x-login: &login\n  ansible_user: root\nall:\n  children:\n    lab:\n      hosts:\n        n1: *login\n"
    found = read(text)
    assert entry(found, "n1") == {"labels": {"lab": "true"}}
    assert found.skipped == ("standard input, document 1: x-login skipped: not a group",)
    listed = read(f"x-racks: &racks [r1, r2]\n{text}")
    assert [*hosts(listed)] == ["n1"]
    assert listed.skipped[0] == "standard input, document 1: x-racks skipped: not a group"
    with pytest.raises(InvalidError, match="a group may have only hosts, vars and children"):
        read(text.replace("all:", "every:"))


@pytest.mark.parametrize(
    "text",
    [
        "lab:\n  hosts: {n1: }\n  servers: {hosts: {n2: }}\n",
        "all:\n  children:\n    lab:\n      hosts: {n1: }\n      servers: r1\n",
        '{"lab": {"hosts": ["n1"], "servers": 7}, "_meta": {"hostvars": {}}}',
    ],
)
def test_a_key_of_an_ansible_group_that_ansible_skips_is_skipped_and_named(text: str) -> None:
    found = read(text)
    assert {name: entry(found, name) for name in hosts(found)} == {"n1": {"labels": {"lab": "true"}}}
    said = "standard input, document 1: lab.servers skipped: a group has only hosts, vars and children"
    assert found.skipped == (said,)


@pytest.mark.parametrize(
    "text",
    [
        "ingress: {enabled: true, hosts: [chart-example.local]}\nnodeSelector: {}\n",
        'output.elasticsearch: {hosts: ["es1:9200"], username: u}\n',
        "output.elasticsearch: {hosts: es1, username: u}\n",
    ],
)
def test_the_configuration_of_a_program_with_a_list_of_hosts_is_not_taken_for_an_inventory(text: str) -> None:
    with pytest.raises(InvalidError, match="a group may have only hosts, vars and children"):
        read(text)


def test_a_variable_in_ini_that_python_can_not_evaluate_is_a_text() -> None:
    found = read("[lab]\nn1 d={1:2} bmc={1:'x'} rack=r1\n[lab:vars]\nx={{ 'abc' }}\ny={[]: 1}\n", label_from=["rack"])
    assert entry(found, "n1") == {"labels": {"rack": "r1"}}


@pytest.mark.parametrize(
    "text",
    [
        "[all]\nn1\n[ungrouped:vars]\nrack=r1\n[lab]\nn2\n",
        "n1\n[ungrouped:vars]\nrack=r1\n[lab]\nn2\n",
        "[ungrouped]\nn1\nn2\n[ungrouped:vars]\nrack=r1\n[lab]\nn2\n",
        "all: {hosts: {n1: }, children: {ungrouped: {vars: {rack: r1}}, lab: {hosts: {n2: }}}}",
    ],
)
def test_a_host_in_no_group_of_an_ansible_inventory_has_the_variables_of_ungrouped(text: str) -> None:
    found = read(text, label_from=["groups,rack"])
    labels = {"n1": {"labels": {"rack": "r1"}}, "n2": {"labels": {"lab": "true"}}}
    assert {name: entry(found, name) for name in hosts(found)} == labels


def test_a_variable_of_ansible_that_may_be_the_address_of_a_bmc_is_taken_or_named() -> None:
    taken = read("all: {hosts: {n1: {bmc_hostname: n1-bmc}, n2: {idrac: {ip: 10.0.1.2, port: 8443}}}}")
    assert [entry(taken, name)["bmc"] for name in ("n1", "n2")] == [
        {"address": "redfish+https://n1-bmc"},
        {"address": "redfish+https://10.0.1.2:8443"},
    ]
    host = "n1 oob_lan_ip4=10.0.1.1 drac=10.0.1.1 IloIP=10.0.1.1 ipmi_user=root"
    text = f"[lab]\n{host}\nn2 ipmi_host='{{{{ x }}}}'\n[lab:vars]\nipmi=True\n"
    named = "oob_lan_ip4, drac, IloIP"
    assert read(text).skipped == (
        f"standard input: not imported: {named}, which may be a BMC's address: --map NAME=bmc.address takes it",
    )
    assert "drac," not in read(text, label_from=["drac"]).skipped[0]
    assert read("all: {hosts: {n1: {bmc_mac_address: '52:54:00:00:00:01', has_ipmi: 1, ilo: 5}}}").skipped == ()
    mapped = read(text, mapping=["drac=bmc.address"])
    assert entry(mapped, "n1")["bmc"] == {"address": "redfish+https://10.0.1.1"}


@pytest.mark.parametrize(
    ("name", "port", "address"),
    [
        ("ipmi_address", "ipmi_port=6230", "ipmi://10.0.1.1:6230"),
        ("ipmi_address", "ipmi_port=623", "ipmi://10.0.1.1"),
        ("ipmi_address", "ipmi_port=443", "ipmi://10.0.1.1:443"),
        ("ipmi_address", "ipmi_port=6230.0", "ipmi://10.0.1.1:6230"),
        ("bmc_ip", "bmc_port=8443", "redfish+https://10.0.1.1:8443"),
        ("bmc_ip", "bmc_port=443", "redfish+https://10.0.1.1"),
        ("bmc_ip", "ipmi_port=6230", "redfish+https://10.0.1.1"),
        ("bmc_ip", "bmc_port=eth3", "redfish+https://10.0.1.1"),
    ],
)
def test_the_port_of_a_bmc_beside_its_address_counts(name: str, port: str, address: str) -> None:
    mac = "52:54:00:00:08:01"
    key, _, number = port.partition("=")
    table = f"name,{name},{key},provision_mac\nx,10.0.1.1,{number},{mac}\n"
    for text in (table, f"[lab]\nx {name}=10.0.1.1 {port} provision_mac={mac}\n"):
        found = read(text)
        assert (found.arrivals[0].host.spec.mac, found.arrivals[0].host.spec.bmc) == (mac, Bmc(address))
    assert any("not imported: bmc_port" in line for line in read(table).skipped) == (number == "eth3")


@pytest.mark.parametrize(
    ("scheme", "port", "address"),
    [
        ("http", 443, "redfish+http://10.0.1.1:443"),
        ("https", 443, "redfish+https://10.0.1.1"),
        ("https", 8443, "redfish+https://10.0.1.1:8443"),
    ],
)
def test_a_port_is_left_out_only_if_it_is_that_of_the_protocol(scheme: str, port: int, address: str) -> None:
    protocol = f"bmc: {{address: 10.0.1.1, protocol: {{name: Redfish, scheme: {scheme}, port: {port}}}}}"
    server = f"apiVersion: metal.ironcore.dev/v1alpha1\nkind: Server\nmetadata: {{name: x}}\nspec: {{{protocol}}}\n"
    assert entry(read(server), "x")["bmc"] == {"address": address, "type": "Redfish"}


@pytest.mark.parametrize(
    ("address", "imported"),
    [
        ("10.0.1.1:9000", "redfish+https://10.0.1.1:9000"),
        ("https://10.0.1.1", "https://10.0.1.1:8443"),
        ("https://10.0.1.1:9000", "https://10.0.1.1:9000"),
        ("redfish+http://bmc.lab/redfish/v1/Systems/1", "redfish+http://bmc.lab:8443/redfish/v1/Systems/1"),
        ("https://[fd00::1]/", "https://[fd00::1]:8443/"),
        ("https://[fd00::1]:9000/", "https://[fd00::1]:9000/"),
        ("https://root@10.0.1.1", "https://10.0.1.1:8443"),
    ],
)
def test_the_port_beside_an_address_without_a_port_counts_whatever_form_the_address_has(
    address: str, imported: str
) -> None:
    for text in (f"name,bmc_ip,bmc_port\nx,{address},8443\n", f"[lab]\nx bmc_ip={address} bmc_port=8443\n"):
        assert entry(read(text), "x")["bmc"] == {"address": imported}


@pytest.mark.parametrize(
    ("bmc", "address"),
    [
        ("10.0.1.1/redfish/v1/Systems/1", "redfish+https://10.0.1.1:8443/redfish/v1/Systems/1"),
        ("10.0.1.1:9000/redfish/v1/Systems/1", "redfish+https://10.0.1.1:9000/redfish/v1/Systems/1"),
        ("[2001:db8::1]:9000", "redfish+https://[2001:db8::1]:9000"),
        ("2001:db8::1", "redfish+https://[2001:db8::1]:8443"),
        ("10.0.1.1/24", "redfish+https://10.0.1.1:8443"),
    ],
)
def test_the_port_stands_after_the_host_of_a_bmc_unless_the_address_has_one(bmc: str, address: str) -> None:
    for text in (
        f"name,bmc_ip,bmc_port\nx,{bmc},8443\n",
        f"all: {{hosts: {{x: {{bmc_ip: '{bmc}', bmc_port: 8443}}}}}}",
    ):
        assert entry(read(text), "x")["bmc"] == {"address": address}


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (
            "name,bmc_ip,bmc_port\nx,https://root@10.0.1.1:9443,443\n",
            "line 2",
            "port 443 of the BMC is ignored: https://10.0.1.1:9443 has another",
        ),
        (
            "[lab]\nx bmc_ip=10.0.1.1:9000 bmc_port=8443\n",
            "host x",
            "port 8443 of the BMC is ignored: redfish+https://10.0.1.1:9000 has another",
        ),
        (
            '{"nodes": [{"name": "x", "pm_type": "redfish", "pm_addr": "https://10.0.1.1:8000", "pm_port": "8001"}]}',
            "document 1, item 1",
            "port 8001 of the BMC is ignored: https://10.0.1.1:8000 has another",
        ),
        (
            '[{"name": "x", "driver": "ibmc", "driver_info": {"ibmc_address": "https://10.0.1.1"}}]',
            "document 1, item 1",
            "gets no BMC: bmhctl does not know the driver ibmc, so ibmc_address is ignored",
        ),
        (
            '[{"uuid": "1", "provision_state": "available", "name": "x", "driver_info": {"ibmc_address": "10.0.1.1"}}]',
            "document 1, item 1",
            "gets no BMC: bmhctl does not know ibmc_address",
        ),
    ],
)
def test_a_part_of_the_address_of_a_bmc_that_is_ignored_is_reported(text: str, place: str, said: str) -> None:
    assert read(text).warnings == (f"standard input, {place}: {said}",)


def test_a_port_of_a_bmc_that_is_a_template_is_skipped_with_a_warning() -> None:
    found = read("all: {hosts: {x: {ipmi_host: 10.0.1.1, ipmi_port: '{{ port }}'}}}")
    assert entry(found, "x")["bmc"] == {"address": "ipmi://10.0.1.1"}
    assert found.warnings == ("standard input, document 1, host x: ipmi_port is a template, which is not evaluated",)


@pytest.mark.parametrize("kind", [None, "ansible"])
def test_an_ansible_inventory_may_be_written_in_toml(kind: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        '[web]\nchildren = ["db"]\nvars = { rack = "r1" }\n[web.hosts."w1.lab"]\nansible_password = "hunter2"\n'
        '[db.hosts]\nd1 = { ansible_host = "10.0.0.1" }\n'
    )
    batch = read_paths([tmp_path / "a.toml"], io.BytesIO(), NOW, import_options(kind, label_from=["groups", "rack"]))
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "w1.lab": {"labels": {"web": "true", "rack": "r1"}},
        "d1": {"address": "10.0.0.1", "labels": {"web": "true", "db": "true", "rack": "r1"}},
    }


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("bmhctl", "[hosts.n1]\nadress = '10.0.0.1'\n", "hosts.n1: unknown key 'adress'"),
        ("ansible", "[web.hosts]\nn1 = 5\n", "web.hosts.n1: must be a mapping"),
        (None, "[web.hosts]\nn1 = 5\n", "web.hosts.n1: must be a mapping"),
    ],
)
def test_a_mistake_in_a_toml_file_is_reported_with_the_file(
    kind: str | None, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InvalidError) as caught:
        read_paths([tmp_path / "a.toml"], io.BytesIO(), NOW, import_options(kind))
    assert caught.value.message == f"{tmp_path / 'a.toml'}: {said}"


def test_files_without_a_host_are_refused_with_a_file_and_the_whole_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as caught:
        read(BMC)
    assert caught.value.message == (
        "standard input: nothing to import: it looks like metal-operator Servers without a host"
    )
    (tmp_path / "bmc.yaml").write_text(BMC)
    (tmp_path / "a.csv").write_text("name\n")
    with pytest.raises(InvalidError) as caught:
        read_paths([tmp_path], io.BytesIO(), NOW)
    assert caught.value.message.startswith(f"{tmp_path}: nothing to import: a.csv not read: in a folder, import reads")


def test_an_ini_inventory_whose_name_ends_with_toml_is_refused_with_the_kind_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[all]\nn1 ansible_host=10.0.0.1\n")
    with pytest.raises(InvalidError) as caught:
        read_paths([tmp_path / "a.toml"], io.BytesIO(), NOW)
    assert caught.value.hint == "the text looks like an Ansible inventory: --from ansible reads it"
    assert hosts(read_paths([tmp_path / "a.toml"], io.BytesIO(), NOW, import_options("ansible"))).keys() == {"n1"}


def test_a_variable_of_the_group_with_the_higher_priority_counts() -> None:
    text = "[a]\nn[:2]\n[b]\nn[:2]\n[a:vars]\nrack=a\nansible_group_priority=10\n[b:vars]\nrack=b\n"
    batch = read(text, label_from=["rack"])
    assert [(name, host.spec.labels) for name, host in hosts(batch).items()] == [
        (name, {"rack": "a"}) for name in ("n0", "n1", "n2")
    ]


def test_a_negative_priority_of_an_ansible_group_counts_too() -> None:
    text = "[a]\nn1\n[b]\nn1\n[a:vars]\nrack=a\n[b:vars]\nrack=b\nansible_group_priority=-1\n"
    assert entry(read(text, label_from=["rack"]), "n1")["labels"] == {"rack": "a"}


def test_the_variables_of_an_ini_inventory_are_literals_of_python() -> None:
    text = "[a]\nn1\n[a:vars]\nrow=7 # north\nrack='r 1' # left\nsite=dc1 # both\nzones=['z1', 'z2']\nempty=\n"
    labels = {"row": "7", "rack": "r-1", "site": "dc1-both"}  # as in ansible-inventory --list
    assert entry(read(text, label_from=["row,rack,site,zones,empty"]), "n1")["labels"] == labels


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("""[a]\nn1 login='{"user": "root", "password": "hunter2"}'\n""", "password"),
        ("""[a]\nn1 login='{"safe": true, "password": "hunter2"}'\n""", "login"),
        ("""[a]\nn1\n[a:vars]\nlogin={"user": "root", "password": "hunter2"}\n""", "password"),
        ("[a]\nn1 login=\"[{'user': 'root', 'password': 'hunter2'}]\"\n", "password"),
        ("""all: {hosts: {n1: {login: '{"password": "hunter2"}'}}}""", "login"),
        ("""name;login\nn1;"[{""password"": ""hunter2""}]"\n""", "login"),
    ],
)
def test_a_password_inside_a_list_or_mapping_is_skipped_and_its_key_is_named(text: str, key: str) -> None:
    for option in ({"label_from": ["login"]}, {"mapping": ["login=note"]}):
        found = read(text, **option)
        assert {**entry(found, "n1"), "labels": None} == {"labels": None}
        assert "hunter2" not in str(found)
        assert f"standard input: 1 secret skipped, which are never stored: {key}" in found.skipped


def test_hosts_or_children_of_an_ansible_group_may_be_a_single_name() -> None:
    text = "all: {children: {old: {children: lab}, lab: {hosts: n1}}}"
    assert entry(read(text), "n1") == {"labels": {"lab": "true", "old": "true"}}


@pytest.mark.parametrize(
    "text",
    [
        "[lab]\n%{ for name, ip in hosts ~}\n${name} ansible_host=${ip}\n%{ endfor ~}\n",
        "[lab]\n{% for host in hosts %}\n{{ host.name }} ansible_host={{ host.ip }}\n{% endfor %}\n",
        "all:\n  hosts:\n    n1: {ansible_host: '${public_ip}'}\n",
    ],
)
def test_an_ansible_inventory_that_is_a_template_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(text)
    assert caught.value.hint == (
        "the file looks like a template: import what helm template, envsubst, Terraform or Ansible makes of it"
    )


def test_an_ansible_inventory_may_have_groups_as_lists_and_no_variables() -> None:
    text = '{"databases": {"hosts": ["db1"], "children": ["old"]}, "old": ["db0"], "web": ["w1", "db1"]}'
    assert {name: entry(read(text), name)["labels"] for name in ("db0", "db1", "w1")} == {
        "db0": {"old": "true", "databases": "true"},
        "db1": {"databases": "true", "web": "true"},
        "w1": {"web": "true"},
    }


def test_the_whole_path_of_a_bmc_address_is_kept() -> None:
    address = "redfish+https://10.0.1.1/redfish/v1/Systems/1"
    assert entry(read(f"name,bmc\nx,{address}\n"), "x")["bmc"] == {"address": address}
    assert entry(read(f"[lab]\nx bmc_address={address}\n"), "x")["bmc"] == {"address": address}


def test_a_secret_that_is_a_number_is_skipped_too() -> None:
    found = read("all: {hosts: {x: {ipmi_password: 12345, password_expired: false}}}", label_from=["*"])
    assert entry(found, "x") == {}
    assert found.skipped == ("standard input: 1 secret skipped, which are never stored: ipmi_password",)


def test_an_ini_inventory_has_ranges_ports_variables_and_children() -> None:
    found = read(samples.ANSIBLE_INI, label_from=["groups", "rack"], mapping=["note=note"])
    assert list(hosts(found)) == ["mail.example", "web01.lab", "web02.lab", "db-a", "db-b"]
    assert entry(found, "db-b") == {
        "mac": "52:54:00:00:06:01",
        "labels": {"web": "true", "lab": "true", "rack": "r1"},
        "note": "with spaces",
    }
    assert entry(read("[fd00::1]:22\n[a:vars]\n", name="{name}"), "fd00-1") == {"address": "fd00::1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nx[1:z]\n[a:vars]\n", "line 2: host: [1:z] is not a range"),
        ("[a]\nx[01:100]\n[a:vars]\n", "line 2: host: [01:100]: both ends must have as many digits"),
        ("[a]\nx[1:999999]\n[a:vars]\n", "line 2: host: [1:999999] stands for more than 100000 hosts"),
        ("[a]\nx password=my hunter2\n[a:vars]\n", "line 2: a variable must be KEY=VALUE"),
        ("[a]\nx\n[a:vars]\npassword: hunter2\n", "line 4: a variable must be KEY=VALUE"),
        ("[a]\nx a='hunter2\n[a:vars]\n", "line 2: no closing quotation in the line of a host"),
        ("[a:hunter]\nx\n[a:vars]\n", "line 1: [a:hunter] is not a kind of section (vars or children)"),
        ("[a]\nx\n[a:children]\nb\n[b:children]\na\n", "a: the group contains itself"),
    ],
)
def test_an_error_in_an_ini_inventory_names_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(text)
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message


def test_csv_columns_with_well_known_names_are_read_and_others_are_reported() -> None:
    found = read(samples.CSV)
    assert entry(found, "csv1") == {
        "address": "10.0.0.81",
        "mac": "52:54:00:00:08:01",
        "bmc": {"address": "redfish+https://10.0.1.81"},
        "hardware": {"cpus": 16, "memory": "64GiB"},
        "note": "left, top",
    }
    assert found.skipped[0] == (
        "standard input: columns not imported: Rack: --label-from COLUMN turns one into a label, --map into any field"
    )


@pytest.mark.parametrize("mac", ["525400000801", "5254.0000.0801", "52-54-00-00-08-01", "52:54:00:00:08:01"])
def test_a_mac_may_be_in_the_notation_of_switches(mac: str) -> None:
    assert entry(read(f"name,mac\nx,{mac}\n"), "x") == {"mac": "52:54:00:00:08:01"}


def test_the_machine_that_runs_ansible_is_not_a_host_of_the_lab() -> None:
    found = read("localhost ansible_connection=local\n[web]\nw1\nw2 ansible_host=127.0.0.1\n")
    assert [entry(found, name) for name in hosts(found)] == [{"labels": {"web": "true"}}] * 2
    assert found.warnings == (
        "standard input, host w2: gets no address: ansible_host is the machine that runs Ansible",
    )
    assert found.skipped == ("standard input, host localhost: localhost skipped: it is the machine that runs Ansible",)


@pytest.mark.parametrize("status", [{"value": 1, "label": "Active"}, "ACTIVE", {"value": "active", "label": "Aktiv"}])
def test_a_status_of_netbox_is_read_as_each_of_its_versions_writes_it(status: object) -> None:
    device = {"name": "d", "device_type": {}, "site": {"name": "x"}, "status": status, "tags": ["a"]}
    found = read(json.dumps([device]))
    assert hosts(found)["d"].state.value == "reserved"
    assert entry(found, "d")["labels"] == {"site": "x", "a": "true"}


@pytest.mark.parametrize(
    ("heading", "cell", "hardware"),
    [
        ("Memory", "64 GB", {"memory": "64GiB"}),
        ("RAM", "1.5T", {"memory": "1536GiB"}),
        ("RAM", "512GiB", {"memory": "512GiB"}),
        ("RAM (GB)", "64", {"memory": "64GiB"}),
        ("Memory(MiB)", "98304", {"memory": "96GiB"}),
        ("CPU Cores", "32", {"cpus": 32}),
        ("Service-Tag", "ABC1234", {"serial": "ABC1234"}),
    ],
)
def test_a_hand_written_spreadsheet_is_read(heading: str, cell: str, hardware: dict[str, object]) -> None:
    assert entry(read(f"Host Name;{heading};Mgmt. IP\nx;{cell};10.0.1.1\n"), "x") == {
        "hardware": hardware,
        "bmc": {"address": "redfish+https://10.0.1.1"},
    }


def test_a_file_in_another_encoding_is_refused_with_how_to_convert_it() -> None:
    with pytest.raises(InvalidError, match="not UTF-8 text") as caught:
        read("name;where\nx;München\n".encode("latin-1"))
    assert "iconv -f WINDOWS-1252" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("above", "kind"), [("sep=;\r\n", None), ("# exported on monday\n", "csv"), ("\ufeffsep=,\n#\n\n", "csv")]
)
def test_lines_above_the_heading_of_a_csv_are_skipped(above: str, kind: str | None) -> None:
    [arrival] = read(f"{above}name;#;ip\nn1;1;10.0.0.1\n", kind).arrivals
    assert (arrival.host.spec, arrival.origin) == (
        HostSpec("n1", address="10.0.0.1"),
        f"standard input, line {above.count(chr(10)) + 2}",
    )


@pytest.mark.parametrize("word", ["-", "—", "N/A", "TBD", "unknown", "DHCP"])
def test_words_for_an_unknown_value_in_a_csv_count_as_missing(word: str) -> None:
    batch = read(f"name,ip,mac,bmc ip,cpus,ram,model,notes\ndhcp,{word},{word},{word},{word},{word},{word},{word}\n")
    assert entry(batch, "dhcp") == {"note": word}
    assert not batch.skipped


def test_a_column_with_the_title_of_an_earlier_one_gets_a_number() -> None:
    text = "name,mac,Mask,MAC,Mask,Mask 2,Mask\nx,52:54:00:00:00:01,a,52:54:00:00:00:02,b,c,d\n"
    batch = read(text, label_from=["Mask*"])
    assert entry(batch, "x") == {
        "mac": "52:54:00:00:00:01",
        "labels": {"Mask": "a", "Mask-2": "b", "Mask-2-2": "c", "Mask-3": "d"},
    }
    batch = read(text)
    assert "columns not imported: Mask, MAC, Mask 2, Mask 2 2, Mask 3:" in batch.skipped[0]


def test_a_column_without_a_title_is_called_by_its_number() -> None:
    text = ",name,ip\n7,n1,10.0.0.1\n8,n2,10.0.0.2\n"  # as pandas writes it
    batch = read(text, label_from=["column 1"])
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "n1": {"address": "10.0.0.1", "labels": {"column-1": "7"}},
        "n2": {"address": "10.0.0.2", "labels": {"column-1": "8"}},
    }
    assert "columns not imported: column 1:" in read(text).skipped[0]


def test_a_glob_makes_no_label_of_a_column_without_a_title() -> None:
    batch = read("name,rack,\nn1,r1,hunter2\n", label_from=["*"])
    assert entry(batch, "n1") == {"labels": {"name": "n1", "rack": "r1"}}
    assert "columns not imported: column 3:" in batch.skipped[0]


def test_a_line_of_a_csv_that_begins_with_a_number_sign_is_skipped_and_named() -> None:
    assert read("name,ip\n#n1,10.0.0.1\nn2,10.0.0.2\n").skipped == (
        "standard input, line 2: skipped: it begins with #",
    )
    assert list(hosts(read("#,name\n#1,n1\n", "csv"))) == ["n1"]
    with pytest.raises(InvalidError, match="no column has the names of hosts"):
        read("ip\n10.0.0.1\n# later\n", "csv")


@pytest.mark.parametrize(
    ("column", "value", "address"),
    [
        ("Console", "10.0.1.1", "redfish+https://10.0.1.1"),
        ("Console", "ipmi://10.0.1.1", "ipmi://10.0.1.1"),
        ("IPMI LAN", "10.0.1.1", "ipmi://10.0.1.1"),
    ],
)
def test_a_mapped_address_of_a_bmc_gets_the_protocol_of_its_column(column: str, value: str, address: str) -> None:
    found = read(f"name,{column}\nx,{value}\n", mapping=[f"{column}=bmc.address"])
    assert entry(found, "x")["bmc"] == {"address": address}


def test_the_map_option_gives_any_column_a_meaning() -> None:
    text = "asset;where;ip;cond\nA 7;r1;10.0.0.1;available\nA 8;r2;10.0.0.2;reserved\n"
    found = read(text, "csv", name="{name}", mapping=["asset=name,where=labels.rack", "cond=state", "ip=hardware.port"])
    assert states(found) == {
        "a-7": ("available", "available", None),
        "a-8": ("reserved", "reserved", "unknown (reserved)"),
    }
    assert entry(found, "a-7") == {
        "address": "10.0.0.1",
        "labels": {"rack": "r1"},
        "hardware": {"port": "10.0.0.1"},
    }


NICS = """\
NAME,DEFAULT,RACK,IP,MAC,INTERFACE,VLAN
nic1,,r1,,52:54:00:00:0a:01,eno1,
nic1,TRUE,,10.1.2.1,52:54:00:00:0a:02,eno2,
nic1,,,,,bond0,7
nic1,,r1,192.168.0.1,52:54:00:00:0a:03,eno3,
nic2,,r2,10.1.2.2,52:54:00:00:0a:04,em1,
"""


def test_the_lines_of_a_csv_for_the_nics_of_a_host_are_one_host() -> None:
    found = read(NICS, label_from=["RACK"])
    assert {name: entry(found, name) for name in hosts(found)} == {
        "nic1": {
            "address": "10.1.2.1",
            "mac": "52:54:00:00:0a:02",
            "labels": {"RACK": "r1"},
            "hardware": {"nics": 3},
        },
        "nic2": {"address": "10.1.2.2", "mac": "52:54:00:00:0a:04", "labels": {"RACK": "r2"}},
    }


@pytest.mark.parametrize(("old", "new"), [("nic1,,r1,192", "nic1,,r9,192"), ("eno3", "eno1"), ("INTERFACE", "Port")])
def test_lines_of_a_csv_with_one_name_that_are_not_of_nics_are_refused(old: str, new: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(NICS.replace(old, new))
    assert caught.value.message == "standard input, line 3: host 'nic1' is already in standard input, line 2"


@pytest.mark.parametrize(
    ("text", "mapping", "said"),
    [
        ("name,a\nx,1,2\n", None, "standard input, line 2: 3 cells, and the heading has 2"),
        ("name,memory\nx,64\n", None, "standard input, line 2: memory: needs a unit, such as 64GiB"),
        ("name,mac\nx,52:54\n", None, "standard input, line 2: mac: must be a MAC address"),
        (
            "52:54:00:00:00:01;10.0.0.1;n1\n",
            None,
            "standard input, line 1: a host instead of the titles of the columns",
        ),
        ("# lab\nn1,10.0.0.1\n", None, "standard input, line 2: a host instead of the titles of the columns"),
        ("n1;root;hunter2;22\n", None, "standard input, line 1: a host instead of the titles of the columns"),
        ("what,2026\nx,1\n", None, "standard input, line 1: a host instead of the titles of the columns"),
        ("what,ip\nx,10.0.0.1\n", None, "standard input: no column has the names of hosts"),
        ("name,cond\nx,lost\n", ["cond=state"], "standard input, line 2: state: 'lost' is not a state of bmhctl"),
    ],
)
def test_an_error_in_a_csv_names_its_line(text: str, mapping: Sequence[str] | None, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(text, "csv", mapping=mapping)
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize("mapping", [None, ["rak=name"]])
def test_no_message_shows_the_first_line_of_a_csv_without_a_known_title(mapping: Sequence[str] | None) -> None:
    with pytest.raises((InvalidError, UsageError)) as caught:
        read("n1;root;hunter2\nn2;root;hunter3\n", "csv", mapping=mapping)
    assert "hunter" not in f"{caught.value.message} {caught.value.hint}"
    with pytest.raises((InvalidError, UsageError)) as caught:
        read("rack;ip\nr1;10.0.0.1\n", "csv", mapping=mapping)
    assert str(caught.value.hint).endswith("rack, ip")


@pytest.mark.parametrize("index", ["", ",", "0,"])
def test_a_csv_whose_columns_are_only_numbered_is_read_with_a_map_of_its_numbers(index: str) -> None:
    first = index.replace("0", "")
    text = f"{first}0,1,2\n{index}n1,10.0.0.1,hunter2\n"
    assert entry(read(text, mapping=["0=name,1=address"]), "n1") == {"address": "10.0.0.1"}
    with pytest.raises(InvalidError, match="no column has the names of hosts") as caught:
        read(text, "csv")
    columns = "column 1, 0, 1, 2" if index.startswith("0") else "0, 1, 2"
    assert caught.value.hint == f"--map COLUMN=name says which column has them; the columns are: {columns}"


def test_a_number_may_be_the_title_of_a_column_beside_a_known_title() -> None:
    assert entry(read("name,ip,2026\nn1,10.0.0.1,r1\n", mapping=["2026=labels.rack"]), "n1") == {
        "address": "10.0.0.1",
        "labels": {"rack": "r1"},
    }


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"mapping": ["rak=labels.rack"]}, "--map: standard input has no 'rak': did you mean Rack?"),
        ({"mapping": ["Rack=rack"]}, "--map: can't read 'Rack=rack'"),
        ({"mapping": ["Rack"]}, "--map: can't read 'Rack'"),
        ({"label_from": ["rack"]}, "--label-from: standard input has no 'rack': did you mean Rack?"),
    ],
)
def test_the_map_option_with_a_missing_column_is_a_usage_error(option: dict[str, Sequence[str]], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(samples.CSV, **option)
    assert caught.value.message == said


def test_names_addresses_and_macs_are_read_from_lease_files() -> None:
    found = read(samples.DNSMASQ)
    assert entry(found, "lease1") == {"address": "10.0.0.91", "mac": "52:54:00:00:09:01"}
    assert found.skipped == (
        "standard input, line 2: 52-54-00-00-09-02 skipped: it has no name in the file: --name 'host-{id}' names it",
    )
    assert "host-52-54-00-00-09-02" in hosts(read(samples.DNSMASQ, name="host-{id}"))
    assert entry(read(samples.ISC), "isc1") == {"address": "10.0.0.95", "mac": "52:54:00:00:09:05"}


def test_the_hosts_that_a_configuration_of_dnsmasq_declares_are_read() -> None:
    batch = read(samples.DNSMASQ_HOSTS)
    assert [(each.host.name, each.host.spec.address, each.host.spec.mac) for each in batch.arrivals] == [
        ("dm1", "10.5.0.5", "52:54:00:00:04:05"),
        ("dm2", "10.5.0.6", "52:54:00:00:04:06"),
        ("dm3", "2001:db8::9", "52:54:00:00:04:09"),
    ]
    assert batch.skipped == ("standard input, line 8: 52:54:00:00:04:0a skipped: dnsmasq ignores it",)
    declared = [line.partition("=")[2].strip() for line in samples.DNSMASQ_HOSTS.splitlines() if "dhcp-host" in line]
    assert hosts(read("\n".join(declared))) == hosts(batch)  # a file for dhcp-hostsfile


def test_a_mac_in_a_configuration_of_dnsmasq_may_have_the_number_of_its_hardware() -> None:
    found = read("dhcp-host=1-52:54:00:00:04:0b,dm4,10.5.0.7\ndhcp-host=0A-52:54:00:00:04:0c,dm5\n")
    assert entry(found, "dm4") == {"address": "10.5.0.7", "mac": "52:54:00:00:04:0b"}
    assert entry(found, "dm5") == {"mac": "52:54:00:00:04:0c"}


def test_hosts_of_an_isc_server_may_have_ipv6_addresses_and_no_mac() -> None:
    found = read(
        "host six1 {\n  host-identifier option dhcp6.client-id 00:01:00:01:4a:1f;\n  fixed-address6 2001:db8::1;\n}\n"
        "host six2 { hardware ethernet 52:54:00:00:05:0a; fixed-address6 2001:db8::2; }\n"
    )
    assert entry(found, "six1") == {"address": "2001:db8::1"}
    assert entry(found, "six2") == {"address": "2001:db8::2", "mac": "52:54:00:00:05:0a"}
    with pytest.raises(InvalidError, match=r"host x: mac: must be a MAC address .*, not 'MAC'"):
        read("host x {\n  hardware ethernet MAC;\n  fixed-address 10.0.0.1;\n}\n")


@pytest.mark.parametrize("kind", [None, "kea"])
def test_the_answer_of_kea_to_a_command_has_its_leases(kind: str | None) -> None:
    lease = {"ip-address": "10.7.0.1", "hw-address": "52:54:00:00:07:01", "hostname": "kl1.lab.", "valid-lft": 600}
    leases = [
        {**lease, "state": 0},
        {**lease, "ip-address": "10.7.0.2", "hostname": "declined", "state": 1},
        {"ip-address": "2001:db8:7::", "duid": "01:02", "hostname": "router", "type": "IA_PD", "valid-lft": 600},
    ]
    text = json.dumps([{"result": 0, "arguments": {"leases": leases}}])
    found = read(text, kind)
    assert {name: entry(found, name) for name in hosts(found)} == {
        "kl1.lab": {"address": "10.7.0.1", "mac": "52:54:00:00:07:01"}
    }
    assert found.arrivals[0].origin == "standard input, lease 1"


def test_a_comma_after_the_last_item_of_a_configuration_of_kea_is_ignored() -> None:
    text = (
        '{"Dhcp4": {"reservations": [ {"hw-address": "52:54:00:00:07:03", "hostname": "kr3", "x": "a,]"}, // one\n ],}}'
    )
    assert entry(read(text), "kr3") == {"mac": "52:54:00:00:07:03"}


def test_the_hosts_that_an_isc_server_declares_are_read() -> None:
    recorded = """\
host is3 {
  dynamic;
  hardware ethernet 52:54:00:00:05:03;
  fixed-address 10.5.0.3;
}
host gone { hardware ethernet 52:54:00:00:05:04; }
host gone { dynamic; deleted; }
lease 10.5.0.9 {
  binding state active;
  hardware ethernet 52:54:00:00:05:05;
  client-hostname "localhost";
  on expiry { log (debug, "}"); }
}
"""
    batch = read(samples.ISC_HOSTS)
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "is1": {"address": "10.5.0.1", "mac": "52:54:00:00:05:01"},
        "is2.lab": {"mac": "52:54:00:00:05:02"},
    }
    assert batch.skipped == (
        "standard input, include /etc/dhcp/more.conf: /etc/dhcp/more.conf is not read: import it together with this "
        "file",
    )
    batch = read(recorded)
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "is3": {"address": "10.5.0.3", "mac": "52:54:00:00:05:03"}
    }
    assert batch.skipped == (
        "standard input, lease 10.5.0.9: 52-54-00-00-05-05 skipped: it has no name in the file: --name 'host-{id}' "
        "names it",
    )
    batch = read(f"{samples.ISC_HOSTS}host is1 {{ hardware ethernet 52:54:0:0:5:7; fixed-address 10.6.0.1; }}\n")
    assert entry(batch, "is1")["address"] == "10.5.0.1"
    assert batch.skipped[1] == "standard input, host is1: is1 is declared again: only its first declaration counts"
    with pytest.raises(InvalidError, match=r"line 5: the host is1 is not complete"):
        read(samples.ISC_HOSTS.replace("10.5.0.2; }", "10.5.0.2;"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('server-duid "x";\n\nia-na "1" {\n}\n', "it looks like leases of DHCPv6, which have no names"),
        (
            "option domain-name lab;\nsubnet 10.0.0.0 netmask 255.0.0.0 {\n}\n",
            "it looks like the configuration of an ISC DHCP server without hosts",
        ),
    ],
)
@pytest.mark.parametrize("kind", [None, "isc-dhcp"])
def test_other_files_of_an_isc_server_are_refused_with_the_kind_that_they_look_like(
    text: str, said: str, kind: str | None
) -> None:
    with pytest.raises(InvalidError, match="nothing to import") as caught:
        read(text, kind)
    assert caught.value.message.endswith(said)


def test_maas_devices_that_are_not_machines_are_skipped() -> None:
    machine, *_ = json.loads(samples.MAAS)
    device = {"system_id": "d1", "hostname": "switch", "fqdn": "switch.maas", "node_type": 1}
    nodes = [{**machine, "node_type": 0}, {**device, "node_type_name": "Device"}, device]
    batch = read(json.dumps(nodes))
    assert list(hosts(batch)) == ["calm-cod"]
    assert batch.skipped[:2] == (
        "standard input, document 1, item 2: switch skipped: not a machine, but: Device",
        "standard input, document 1, item 3: switch skipped: not a machine, but: another kind of node",
    )


@pytest.mark.parametrize("key", ["k_g", "ipmi_hex_kg_key", "root_pw", "ansible_ssh_private_key_file"])
def test_secrets_with_unusual_key_names_are_skipped_too(key: str) -> None:
    batch = read(f"[all]\nn1 {key}=hunter2 ca_file=/x pwm=3\n", label_from=["*"])
    assert entry(batch, "n1")["labels"] == {"ca_file": "x", "pwm": "3"}
    assert batch.skipped == (f"standard input: 1 secret skipped, which are never stored: {key}",)


@pytest.mark.parametrize(
    ("label_from", "mapping", "landed"),
    [
        (None, None, {}),
        (["url"], None, {"labels": {"url": "by-ssh-10.0.0.1"}}),
        (None, ["url=note"], {"note": "by ssh://10.0.0.1"}),
        (None, ["url=bmc.address"], {"bmc": {"address": "https://10.0.0.2"}}),
    ],
)
def test_a_url_with_a_password_is_skipped_under_any_key(
    label_from: list[str] | None, mapping: list[str] | None, landed: dict[str, object]
) -> None:
    url = "https://10.0.0.2" if mapping == ["url=bmc.address"] else "by ssh://ada:hunter2@10.0.0.1"
    text = f"name,bmc,url,comment\nn1,https://root:hunter2@10.0.0.2,{url},see http://x:hunter2@wiki or a@b.c\n"
    batch = read(text, label_from=label_from, mapping=mapping)
    spec = entry(batch, "n1")
    assert "hunter2" not in repr(batch)
    assert spec | landed == spec
    assert spec["bmc"] == {"address": "https://10.0.0.2"}
    assert landed.get("note") or spec["note"] == "see http://wiki or a@b.c"
    assert any(line.endswith("never stored: bmc, comment, url") for line in batch.skipped) == ("ada" in url)


def test_files_of_ansible_variables_are_skipped_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "host_vars" / "n1").mkdir(parents=True)
    (tmp_path / "hosts.yml").write_text("all: {hosts: {n1: {}}}\n")
    (tmp_path / "host_vars" / "n1" / "main.yml").write_text("ansible_host: 10.0.0.1\n")
    batch = read_paths([tmp_path], io.BytesIO(), NOW)
    assert list(hosts(batch)) == ["n1"]
    assert "variables of Ansible, which ansible-inventory --list joins with the hosts" in batch.skipped[0]


def test_a_lease_file_that_is_cut_off_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"line 15: the lease 10\.0\.0\.96 is not complete"):
        read(samples.ISC.rstrip().removesuffix("}"))
    with pytest.raises(InvalidError, match="not a whole gzip file: it is cut off"):
        read(gzip.compress(samples.MAAS.encode())[:-20])


def test_the_last_line_of_a_kea_file_for_an_address_counts() -> None:
    batch = read(samples.KEA)
    assert {name: entry(batch, name) for name in hosts(batch)} == {
        "kea1.lab": {"address": "10.0.0.90", "mac": "52:54:00:00:09:10"}
    }
    assert batch.skipped == (
        "standard input, line 3: 52-54-00-00-09-11 skipped: it has no name in the file: --name 'host-{id}' names it",
    )
    with pytest.raises(InvalidError, match="line 6: not a whole lease"):
        read(samples.KEA.rstrip()[:-8])


def test_a_prefix_that_kea_leased_is_not_an_address() -> None:
    heading = "address,duid,valid_lifetime,expire,lease_type,hostname,hwaddr,state"
    lease = "2001:db8::7,01:02,3600,1700003600,0,k6,52:54:00:00:07:06,0"
    prefix = "2001:db8:7::,01:02,3600,1700003600,2,k6,52:54:00:00:07:06,0"
    assert entry(read("\n".join((heading, lease, prefix))), "k6") == {
        "address": "2001:db8::7",
        "mac": "52:54:00:00:07:06",
    }


def test_the_reservations_of_a_kea_server_are_read(tmp_path: Path) -> None:
    text = samples.KEA_HOSTS
    (tmp_path / "kea.json").write_text(text)
    for batch in (read(text), read_paths([tmp_path / "kea.json"], io.BytesIO(), NOW, import_options("kea"))):
        assert {name: entry(batch, name) for name in hosts(batch)} == {
            "ke1": {"address": "10.7.0.1", "mac": "52:54:00:00:07:01"},
            "ke2.lab": {"mac": "52:54:00:00:07:02"},
            "ke4": {"address": "2001:db8::4"},
            "ke5": {"address": "10.7.0.5"},
        }
        assert "reservation 5: 52-54-00-00-07-03 skipped: it has no name in the file" in batch.skipped[0]
    with pytest.raises(InvalidError, match=r"line 11: not a configuration of Kea: Expecting"):
        read(text.replace("} }\n", "} ]\n"))
    answer = f'[ {{ "arguments": {text.partition("lab")[2]}, "result": 0 }} ]'  # of the command config-get
    assert hosts(read(answer)) == hosts(read(text))


@pytest.mark.parametrize("beginning", ['{ "Dhcp4": ', '{ "Dhcp4": {},', '{ "Dhcp4": [ {},'])
def test_a_kea_configuration_that_includes_a_file_is_refused_with_the_line_and_the_way_to_import_it(
    beginning: str,
) -> None:
    with pytest.raises(InvalidError) as caught:
        read(f'// <?include "commented.json"?>\n{beginning}\n  <?include "/etc/kea/lab.json"?> }}\n')
    assert caught.value.message == (
        "standard input, line 3: the file /etc/kea/lab.json is included, which import does not read"
    )
    assert caught.value.hint == (
        "write its text in place of the <?include?>, or import the answer of Kea to its command config-get"
    )


def test_a_hosts_file_is_read_without_the_entries_of_this_machine() -> None:
    found = read(samples.HOSTS)
    assert {name: entry(found, name) for name in hosts(found)} == {
        "h1.lab": {"address": "10.0.0.97"},
        "h2": {"address": "10.0.0.98"},
    }


def test_a_second_address_of_a_name_in_a_hosts_file_is_skipped_and_named() -> None:
    found = read("10.0.0.1 n1.lab\n10.0.0.2 n1.lab\nfd00::1 n1.lab\n10.0.0.1 n1.lab\n")
    assert entry(found, "n1.lab") == {"address": "10.0.0.1"}
    assert found.skipped == ("standard input, line 2: 10.0.0.2 skipped: n1.lab has an address before it",)


def test_short_addresses_and_absolute_names_in_a_hosts_file_of_bsd_are_read() -> None:
    found = read("127.1 localhost localhost.\n10.1 b1.lab. b1\n10.2.258 b2\nfd00::1 b1.lab\n", "hosts")
    assert {name: entry(found, name) for name in hosts(found)} == {
        "b1.lab": {"address": "10.0.0.1"},
        "b2": {"address": "10.2.1.2"},
    }
    with pytest.raises(InvalidError, match=r"line 1: '10\.999999999' is not an IP address"):
        read("10.999999999 b1\n", "hosts")


def test_of_the_name_and_the_address_of_a_bmc_the_address_counts() -> None:
    found = read("name,bmc_hostname,bmc_ip\nn1,n1-bmc.lab,10.0.1.1\nn2,n2-bmc.lab,\n")
    assert [entry(found, name)["bmc"] for name in ("n1", "n2")] == [
        {"address": "redfish+https://10.0.1.1"},
        {"address": "redfish+https://n2-bmc.lab"},
    ]


@pytest.mark.parametrize("secret", ['{"password": "hunter2"}', '{"BMC Password": "hunter2"}', "{password: hunter2}"])
def test_a_mapping_with_a_password_is_not_stored_from_any_column(secret: str) -> None:
    columns = ("note", "labels.x", "model", "hardware.y", "info")
    row = ["n1"] + ['"' + secret.replace('"', '""') + '"'] * len(columns)
    found = read(f"name,{','.join(columns)}\n{','.join(row)}\n", label_from=["info"])
    assert entry(found, "n1") == {}
    assert found.skipped[-1] == (
        "standard input: 5 secrets skipped, which are never stored: hardware.y, info, labels.x, model, note"
    )
