"""What an import reads beside single manifests: names by a template, HardwareData, exports, files of other kinds."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.import_batch import ImportBatch
from bmhctl.domain.model import HostSpec
from bmhctl.errors import InvalidError, UsageError
from bmhctl.formats.import_files import import_options, read_paths
from bmhctl.formats.naming import NameTemplate

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def host(
    name: str, namespace: str | None = None, labels: dict[str, str] | None = None, **spec: object
) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": metadata, "spec": spec}


def hardware_data(name: str, namespace: str | None, **hardware: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace}
    spec = {"hardware": hardware}
    return {"apiVersion": "metal3.io/v1alpha1", "kind": "HardwareData", "metadata": metadata, "spec": spec}


def read(*documents: object, names: str | None = None) -> ImportBatch:
    text = yaml.safe_dump_all(documents).encode()
    return read_paths(["-"], io.BytesIO(text), NOW, import_options(name=names))


def specs(batch: ImportBatch) -> list[HostSpec]:
    return [arrival.host.spec for arrival in batch.arrivals]


def refusal(*documents: object, names: str | None = None) -> InvalidError:
    with pytest.raises(InvalidError) as caught:
        read(*documents, names=names)
    return caught.value


# tests: names


def test_a_manifest_may_have_a_name_with_dots_or_in_upper_case() -> None:
    assert [spec.name for spec in specs(read(host("Worker-0.lab.Example")))] == ["worker-0.lab.example"]


def test_hosts_with_one_name_in_two_namespaces_can_be_named_by_a_template() -> None:
    cluster = host("worker-0", "a"), host("worker-0", "b")
    error = refusal(*cluster)
    assert error.message == "standard input, document 2: host 'worker-0' is already in standard input, document 1"
    assert error.hint == "a name is unique in an inventory: import --name '{namespace}-{name}' distinguishes them"
    found = specs(read(*cluster, names="{namespace}-{name}"))
    assert [(spec.name, spec.labels) for spec in found] == [
        ("a-worker-0", {"namespace": "a"}),
        ("b-worker-0", {"namespace": "b"}),
    ]


def test_a_name_with_an_underscore_is_refused_with_a_template_that_makes_it_valid() -> None:
    error = refusal(host("rack_1.node_2"))
    assert error.message == "standard input, document 1: metadata.name: 'rack_1.node_2' is not a host name"
    assert error.hint == "import --name '{name}' writes - for _"
    assert [spec.name for spec in specs(read(host("rack_1.node_2"), names="{name}"))] == ["rack-1.node-2"]


def test_two_names_that_a_template_makes_equal_are_refused() -> None:
    error = refusal(host("a_b"), host("a-b"), names="{name}")
    assert error.message == "standard input, document 2: host 'a-b' is already in standard input, document 1"


def test_labels_fill_a_template() -> None:
    found = read(
        host("n1", labels={"rack": "R_7", "lab.example/room": "b2"}), names="{labels.rack}.{labels.lab.example/room}"
    )
    assert [spec.name for spec in specs(found)] == ["r-7.b2"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("{namespace}-{name}", "metadata.namespace: is missing, and --name '{namespace}-{name}' needs it"),
        ("{labels.rack}", "metadata.labels.rack: is missing, and --name '{labels.rack}' needs it"),
        ("{name}-", "metadata.name: --name '{name}-' makes 'n1-' of it, which is not a host name"),
        ("{name} x", "metadata.name: --name '{name} x' makes 'n1 x' of it, which is not a host name"),
        ("", "metadata.name: --name '' makes '' of it, which is not a host name"),
    ],
)
def test_the_error_for_a_missing_name_has_the_place_of_the_document(names: str, said: str) -> None:
    error = refusal(host("n1"), names=names)
    assert error.message.removeprefix("standard input, document 1: ") == said
    assert error.details["document"] == 1


@pytest.mark.parametrize("names", ["{nmae}", "{labels}", "{labels.}", "{labels[rack]}", "{", "a}", "{{name}}", "{}"])
def test_an_unknown_placeholder_is_named_with_the_known_ones(names: str) -> None:
    with pytest.raises(UsageError) as caught:
        NameTemplate(names)
    assert "--name" in caught.value.message
    assert caught.value.hint == "known: {name}, {namespace}, {id}, {labels.KEY}"


@given(st.text(max_size=20) | st.sampled_from(["{name}", "{namespace}.{name}"]), st.text(max_size=10))
def test_a_template_makes_a_host_name_or_an_error(template: str, value: str) -> None:
    from bmhctl.domain.host_name import check_name

    try:
        made = NameTemplate(template).fill(value, {"namespace": value}, value)
    except (UsageError, InvalidError):
        return
    assert check_name(made) == made


def test_a_template_also_names_the_hosts_of_an_export() -> None:
    text = b'[hosts.n1]\nlabels = { namespace = "a" }\n'
    found = read_paths(["-"], io.BytesIO(text), NOW, import_options(name="{namespace}-{name}"))
    assert [spec.name for spec in specs(found)] == ["a-n1"]


# tests: credentials


def test_two_secrets_never_get_the_same_environment_variable() -> None:
    def with_secret(name: str, namespace: str | None, secret: str) -> dict[str, object]:
        return host(name, namespace, bmc={"address": f"https://{name}.bmc", "credentialsName": secret})

    found = specs(
        read(
            with_secret("n1", "a", "bmc"),
            with_secret("n2", "b", "bmc"),
            with_secret("n3", "b", "bmc"),
            with_secret("n4", "c", "x.y"),
            with_secret("n5", "c", "x-y"),
            with_secret("n6", "c", "own"),
        )
    )
    assert [spec.bmc and spec.bmc.credentials for spec in found] == [
        "env:BMC_A_BMC",
        "env:BMC_B_BMC",
        "env:BMC_B_BMC",
        "env:BMC_C_X_Y_2",
        "env:BMC_C_X_Y",
        "env:BMC_OWN",
    ]


# tests: HardwareData

DETAILS = {
    "cpu": {"arch": "x86_64", "count": 64},
    "ramMebibytes": 262144,
    "nics": [
        {"mac": "52:54:00:00:00:01", "ip": "10.0.0.1"},
        {"mac": "52:54:00:00:00:02", "ip": "10.0.0.2"},
        {"mac": "52:54:00:00:00:02", "ip": "fe80::1"},
    ],
    "storage": [{"sizeBytes": 1073741824}],
    "systemVendor": {"manufacturer": "Dell Inc.", "productName": "R640", "serialNumber": "X1"},
    "hostname": "n1",
}


@pytest.mark.parametrize("hardware_first", [True, False])
def test_hardware_data_is_joined_by_name_and_namespace_in_either_order(hardware_first: bool) -> None:
    documents = [
        host("n1", "a", bootMACAddress="52:54:00:00:00:02", architecture="aarch64", hardwareProfile="big"),
        hardware_data("n1", "a", **DETAILS),
    ]
    batch = read(*reversed(documents) if hardware_first else documents)
    assert batch.skipped == ()
    (spec,) = specs(batch)
    assert spec.address == "10.0.0.2"
    assert spec.hardware == {
        "cpus": 64,
        "arch": "aarch64",
        "memory": "256GiB",
        "disks": 1,
        "storage": "1GiB",
        "nics": 2,
        "vendor": "Dell Inc.",
        "model": "R640",
        "serial": "X1",
        "profile": "big",
    }


def test_hardware_data_overrides_the_status_and_may_be_in_another_file(tmp_path: Path) -> None:
    old = host("n1", "a") | {"status": {"hardware": {"cpu": {"count": 2}, "systemVendor": {"productName": "old"}}}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(hardware_data("n1", "a", cpu={"count": 64})))
    (tmp_path / "b.json").write_text(json.dumps(old))
    batch = read_paths(
        [tmp_path / "a.yaml", tmp_path / "b.json"], io.BytesIO(), NOW, import_options(name="{namespace}.{name}")
    )
    assert specs(batch) == [HostSpec("a.n1", labels={"namespace": "a"}, hardware={"cpus": 64, "model": "old"})]


def test_hardware_data_without_a_host_is_skipped_and_named() -> None:
    batch = read(host("n1", "a"), hardware_data("n1", "b"), hardware_data("n2", "a"))
    assert batch.skipped == tuple(
        f"standard input, document {number}: HardwareData {name!r} skipped: these files have no BareMetalHost of its "
        "name and namespace"
        for number, name in ((2, "n1"), (3, "n2"))
    )


def test_a_file_with_hardware_data_and_no_host_is_refused() -> None:
    said = refusal(hardware_data("n1", "b")).message
    assert said.startswith("standard input: nothing to import: document 1: HardwareData 'n1' skipped: these files have")


def test_hardware_data_twice_is_refused_with_both_places() -> None:
    error = refusal(host("n1", "a"), hardware_data("n1", "a"), hardware_data("n1", "a"))
    assert error.message == ("standard input, document 3: HardwareData 'a/n1' is already in standard input, document 2")


def test_a_folder_of_kustomize_is_imported_with_the_way_to_build_it() -> None:
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": ["n1.yaml"]}
    why, built = "not a BareMetalHost", "kubectl kustomize FOLDER | bmhctl import -"
    assert read(host("n1"), kustomization).skipped == (
        f"standard input, document 2: Kustomization skipped: {why}: {built}",
    )
    assert str(refusal(host("n1"), host("n1")).hint).endswith(f"if it is a patch for kustomize: {built}")


def test_an_error_in_hardware_data_names_its_field() -> None:
    error = refusal(host("n1"), hardware_data("n1", None, nics=[{"ip": "10.0.0.999"}]))
    assert error.message == (
        "standard input, document 2: spec.hardware.nics[0].ip: must be an IP address, not '10.0.0.999'"
    )
    assert refusal({**hardware_data("x", None), "metadata": {}}).message.endswith("metadata.name: is missing")


def test_a_list_of_hardware_data_gives_its_items_its_kind() -> None:
    bare = {
        key: value for key, value in hardware_data("n1", "a", cpu={"count": 4}).items() if key in ("metadata", "spec")
    }
    listed = {"apiVersion": "metal3.io/v1alpha1", "kind": "HardwareDataList", "items": [bare]}
    assert specs(read(listed, host("n1", "a")))[0].hardware == {"cpus": 4}


# tests: files of other kinds

TABLE = "a table for people: write JSON, YAML or CSV"
ETHERS = """an ethers file: awk 'BEGIN {print "mac,name"} /^[0-9a-fA-F]/ {print $1","$2}' FILE | bmhctl import -"""
A_MANIFEST = "a manifest of the kind"
GET_HOSTS = "kubectl get bmh -A -o yaml writes its hosts"


@pytest.mark.parametrize(
    ("text", "looks_like"),
    [
        ("", "an empty file"),
        ("---\n# nothing\n", "an empty file"),
        ("resources:\n- type: x\n  state: free\n  names: [a]\n", "Boskos resources"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n", "a manifest of the kind 'Secret'"),
        ('{"version": 1, "kind": "status", "inventory": "x"}', "output of bmhctl of another kind: 'status'"),
        ('{"version": 1, "error": {"code": "usage", "status": 2, "message": "x"}}', "an error that bmhctl wrote"),
        ("a: 1\nb: 2\nc: 3\nd: 4\ne: 5\n", "a mapping with a, b, c, d …"),
        ("what,address,rack\nn1,10.0.0.1,r1\n", "CSV"),
        ("a: 1\nipmi_password: hunter2\n", "a mapping with a, ipmi_password"),
        ("00:1c:ab:8a:97:eb,root,undefined,192.168.122.1,1\r\n", "CSV"),
        ("name,state,flags,since,owner\n", "a CSV that bmhctl wrote: -o json or toml writes all that hosts have"),
        ("<!DOCTYPE html><html>", "an HTML page"),
        ('<?xml version="1.0"?>\n<nmaprun/>', "XML"),
        ("NAME       STATE         AGE\nworker-0   provisioned   4d\n", TABLE),
        ("+------+--------+\n| UUID | Name   |\n+------+--------+\n", TABLE),
        ("| Name | IP |\n|------|:--:|\n| n1 | 10.0.0.1 |\n", TABLE),
        (" Id   Name   State\n-------\n 1    vm1    running\n", TABLE),
        ("# mine\nHost n1\n  HostName 10.0.0.1\n", "a configuration of ssh"),
        ("n1:\n    objtype=node\n    ip=10.0.0.1\n", "nodes of xCAT"),
        (
            "\nconfig dnsmasq\n\toption domain 'lan'\n\nconfig host\n\toption name 'n1'\n",
            "a configuration of OpenWrt: import its leases: /tmp/dhcp.leases",
        ),
        (
            "# 2024-01-02 10:00:00 by RouterOS 7.12\n/ip dhcp-server lease\nadd address=10.0.0.1\n",
            "an export of RouterOS",
        ),
        ("/ip dhcp-server lease\nadd address=10.0.0.1 comment=n1\n", "an export of RouterOS"),
        ("# lab\nClusterName=lab\nNodeName=n[01-03] CPUs=64\n", "a configuration of Slurm"),
        ("# sets\nNodeSet=cpu Feature=cpu\nNodeName=n1 CPUs=8\n", "a configuration of Slurm"),
        ("OBJECT;Server;n1;label;A-1;\nIP;n1;eth0;10.0.0.1\n", "objects of RackTables"),
        ("Name                           : n1\nKernel Options : {}\n", "a report of Cobbler"),
        ("nodeprofiles:\n  default: {}\nnodes:\n  n1: {}\n", "nodes of Warewulf"),
        ('[{"system_id": "a", "macaddress_set": [], "status": 6}]', "nodes of MAAS 1, without status_name"),
        ("10.0.0.1 dev eth0 lladdr 52:54:00:00:00:01 REACHABLE\n", "addresses of neighbours, without names"),
        ("52:54:00:00:00:01 n1\n", ETHERS),
        ("\n# switches\n52:54:00:00:00:01 10.0.0.1 # in the hall\n", ETHERS),
        ("# lab\nnode01\n\nnode02.lab # old\n", "a list of names: --from ansible reads it"),
        ("node01\nnode02 is broken\n", "a text"),
        (
            "max-lease-time 7200;\noption routers {{ router }};\n",
            "a template: import what envsubst or Ansible makes of it",
        ),
        (
            "#!/usr/bin/env python3\nimport json\n",
            "a script: import what it prints, such as SCRIPT --list | bmhctl import -",
        ),
        (
            "plugin: netbox.netbox.nb_inventory\ngroup_by: [sites]\n",
            "the configuration of an inventory plugin: ansible-inventory -i FILE --list | bmhctl import -",
        ),
        ('{"count": 0, "next": null, "results": []}', "a list without records"),
        ('[{"id": 1, "name": "v", "vcpus": 4, "cluster": {}}]', "NetBox virtual machines, which are not devices"),
        ('{"Dhcp4": {}}', "Kea leases or reservations without a host"),
        ("- hosts: all\n  tasks: []\n", "an Ansible playbook"),
        (
            "baseDomain: lab\nplatform: {baremetal: {hosts: [{name: n1}]}}\n",
            f"an install-config of OpenShift: {GET_HOSTS}",
        ),
        *(
            (f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n1}}\n", f"{A_MANIFEST} {kind!r}: {GET_HOSTS}")
            for kind, version in (
                ("ClusterInstance", "siteconfig.open-cluster-management.io/v1alpha1"),
                ("SiteConfig", "ran.openshift.io/v1"),
                ("AgentConfig", "v1beta1"),
            )
        ),
        (
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../base]\n",
            "a manifest of the kind 'Kustomization': kubectl kustomize FOLDER | bmhctl import -",
        ),
        (
            "lab:\n  hosts: {n1: }\nservers: [{n2: }]\n",
            "an Ansible inventory, but a group may have only hosts, vars and children",
        ),
        (
            '{"inventory": {"interfaces": []}, "plugin_data": {"cpus": 1}}',
            "the inventory of an Ironic node, without its name: baremetal node list --long -f json writes the nodes",
        ),
        (
            '# lab\nauthoritative;\noption domain-name "lab";\ninclude "/etc/dhcp/dhcpd.hosts";\n',
            "the configuration of an ISC DHCP server that includes its hosts: import the files that it includes",
        ),
        (
            'include "/etc/dhcp/keys";\nsubnet 10.0.0.0 netmask 255.0.0.0 {\n}\n',
            "the configuration of an ISC DHCP server without hosts",
        ),
        ('[{"hostname": "n1", "fqdn": "n1.maas", "status_name": "Ready"}]', "MAAS machines without system_id"),
        (
            '[{"id": "a", "url": "u", "display": "n1", "natural_slug": "n1", "device_type": {"id": "b"}}]',
            "devices of Nautobot",
        ),
        (
            "6d85703a-565d-469a-96ce-30b6de53079d ir1 None power off available False\n",
            "a list of Ironic nodes for scripts: baremetal node list --long -f json writes one with titles",
        ),
        (
            '[{"Name": "ir1", "Driver Info": {"ipmi_password": "hunter2"}}]',
            "Ironic nodes without their UUID and Provisioning State",
        ),
        ("sw1:\n  hostname: 10.0.0.1\n  groups: [cisco]\n", "hosts of Nornir"),
        ('[{"id": 1, "display_name": "r1"}]', "NetBox objects in brief, or other objects than devices"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_it_looks_like(text: str, looks_like: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_paths(["-"], io.BytesIO(text.encode()), NOW)
    assert caught.value.message == f"standard input: nothing to import: it looks like {looks_like}"
    assert caught.value.details["looks_like"] == looks_like
    assert "hunter2" not in caught.value.message
    # Where the message says what to do, the hint does not list all kinds.
    has_remedy = ": " in looks_like or looks_like.endswith((" without a host", " without hosts"))
    assert str(caught.value.hint).startswith("see bmhctl help formats" if has_remedy else "import reads metal3, ")


def archive(name: str, text: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (archive("xl/workbook.xml"), "an Excel workbook: save it as CSV"),
        (
            archive("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
            "an OpenDocument file: save it as CSV",
        ),
        (archive("hosts.csv"), "an archive: name the files in it"),
        (bz2.compress(b"name\n"), "a compressed file of another kind than gzip"),
        (lzma.compress(b"name\n"), "a compressed file of another kind than gzip"),
        (
            b"$ANSIBLE_VAULT;1.1;AES256\n6166\n",
            "a file that Ansible Vault has encrypted: ansible-vault view FILE | bmhctl import -",
        ),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"SQLite format 3\0\x10", "a SQLite database: bmhctl copy copies an inventory"),
    ],
)
@pytest.mark.parametrize("kind", [None, "csv"])
def test_the_error_for_a_binary_file_says_what_it_looks_like(content: bytes, looks_like: str, kind: str | None) -> None:
    for each in (content, gzip.compress(content)):
        with pytest.raises(InvalidError) as caught:
            read_paths(["-"], io.BytesIO(each), NOW, import_options(kind))
        assert caught.value.message == f"standard input: nothing to import: it looks like {looks_like}"


def test_an_unknown_file_is_refused_with_the_format_that_was_assumed() -> None:
    with pytest.raises(InvalidError, match=r"standard input:1:13: Invalid value") as caught:
        read_paths(["-"], io.BytesIO(b"clustername=c\nNodeName=node[01-20] CPUs=64\n"), NOW)
    assert caught.value.hint == "the file was read as TOML because of its first lines; --from KIND names another kind"


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        (
            "a.yml",
            "[web]\nw1 ansible_host=10.0.0.1\n",
            "the text looks like an Ansible inventory: --from ansible reads it",
        ),
        ("a.json", "10.0.0.1 n1\n", "the text looks like a hosts file: --from hosts reads it"),
        ("a.yaml", "{{- range .Values.hosts }}\nkind: BareMetalHost\n{{- end }}\n", "the file looks like a template"),
        ("a.yaml", "kind: BareMetalHost\nmetadata:\n  name: {{ .name }}\n", "the file looks like a template"),
        (
            "a.j2",
            "all:\n  hosts:\n{% for h in hosts %}\n    {{ h }}:\n{% endfor %}\n",
            "the file looks like a template",
        ),
        (
            "a.yaml",
            "apiVersion: metal3.io/v1alpha1\nkind: BareMetalHost\nmetadata:\n  name: '{{ .name }}'\n",
            "the file looks like a template",
        ),
        ("a.csv", "name,ip\nn1,$NODE_IP\n", "the file looks like a template"),
        ("a.csv", "name,ip\n<node>,10.0.0.1\n", "the file looks like a template"),
        ("a.csv", "name,ip\nn[01-09],10.0.0.1\n", "write a line for each host of a range"),
        ("a.yaml", "a: [1\n", "None"),
    ],
)
def test_the_error_for_a_text_that_can_not_be_parsed_says_how_to_import_it(
    name: str, text: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidError) as caught:
        read_paths([tmp_path / name], io.BytesIO(), NOW)
    assert str(caught.value.hint).startswith(hint)
    word = hint.partition("--from ")[2].partition(" ")[0]
    assert not word or read_paths([tmp_path / name], io.BytesIO(), NOW, import_options(word)).arrivals


def test_a_cluster_without_hosts_and_one_that_is_being_deleted_are_refused() -> None:
    assert "nothing to import" in refusal({"apiVersion": "v1", "kind": "List", "items": []}).message
    gone = host("n1")
    gone["metadata"] = {"name": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert refusal(gone).message == (
        "standard input: nothing to import: document 1: BareMetalHost 'n1' skipped: it is being deleted in the cluster"
    )


def test_files_without_hosts_in_a_folder_are_skipped_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(host("n1")))
    (tmp_path / "c.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n")
    batch = read_paths([tmp_path], io.BytesIO(), NOW)
    assert [spec.name for spec in specs(batch)] == ["n1"]
    assert batch.skipped == (
        f"{tmp_path}/a.yaml: skipped: it looks like an empty file",
        f"{tmp_path}/c.yaml, document 1: Secret 'x' skipped: secrets are never stored",
    )
    with pytest.raises(
        InvalidError, match=r"c\.yaml: nothing to import: it looks like a manifest of the kind 'Secret'"
    ):
        read_paths([tmp_path / "b.yaml", tmp_path / "c.yaml"], io.BytesIO(), NOW)
    (tmp_path / "b.yaml").unlink()
    with pytest.raises(InvalidError, match=r"a\.yaml: nothing to import: .* 2 files"):
        read_paths([tmp_path], io.BytesIO(), NOW)


def test_files_in_a_folder_that_are_not_read_and_may_have_hosts_are_named(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    for name in ("hosts.ini", "group_vars/x.csv", "b.leases", "c.gz", "README.md", ".hidden.ini"):
        (tmp_path / name).write_text("")
    (tmp_path / "group_vars" / "all.yml").write_text("a: 1\n")
    said = (
        "b.leases, c.gz, group_vars/x.csv and 1 more not read: in a folder, import reads only .yaml, .yml, .json, "
        ".toml: name the others"
    )
    with pytest.raises(InvalidError) as caught:
        read_paths([tmp_path], io.BytesIO(), NOW)
    assert caught.value.message.endswith(f"joins with the hosts; {said}")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(host("n1")))
    assert read_paths([tmp_path], io.BytesIO(), NOW).skipped[-1] == f"{tmp_path}: {said}"
