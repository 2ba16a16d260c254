"""Imports of manifests: hosts, skipped records, and errors that name the place to correct."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.import_batch import ImportBatch, ImportedHost
from bmhctl.domain.model import Bmc, Host, HostSpec, Note, Reservation, State
from bmhctl.errors import BmhctlError, InvalidError, UsageError
from bmhctl.formats.import_files import read_paths
from tests.formats.texts import read_manifests

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

METAL3 = """\
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata:
  name: node-0
  namespace: metal3
  labels: {rack: r1}
spec:
  online: true
  bootMACAddress: 00:5C:52:31:3A:9C
  description: |
    left slot,
    top
  hardwareProfile: libvirt
  bmc:
    address: redfish-virtualmedia+https://10.0.1.11/redfish/v1/Systems/1
    credentialsName: node-0.bmc-secret
    disableCertificateVerification: true
status:
  operationalStatus: OK
  errorMessage: ""
  provisioning: {ID: 0b1e, state: available}
  hardware:
    cpu: {arch: x86_64, count: 64, model: Xeon, clockMegahertz: 2399.8}
    ramMebibytes: 262144
    nics:
    - {name: eth1, mac: "00:5c:52:31:3a:9d", ip: 10.9.9.9, pxe: false}
    - {name: eth0, mac: "00:5c:52:31:3a:9c", ip: "fd00::5", pxe: true}
    - {name: eth0, mac: "00:5c:52:31:3a:9c", ip: 10.0.0.11, pxe: true}
    storage:
    - {name: /dev/sda, sizeBytes: 1073741824}
    - {name: /dev/sdb, sizeBytes: 2147483648}
    systemVendor: {manufacturer: Dell Inc., productName: R640, serialNumber: ""}
"""

LIFECYCLE = """\
apiVersion: metal.afritzler.github.io/v1alpha1
kind: BareMetalHost
metadata: {name: compute-1}
spec:
  systemId: System-1
  power: "Off"
  bootMACAddress: 10:20:30:40:50:60
  bmc:
    address: http://127.0.0.1:8000
    type: RedfishLocal
    secretRef: {name: foo}
"""


def manifest(name: str = "n1", **parts: object) -> dict[str, object]:
    metadata = {"name": name, **parts.pop("metadata", {})}  # type: ignore[dict-item]
    return {"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": metadata, **parts}


def status(word: str, **more: object) -> dict[str, object]:
    return {"provisioning": {"state": word}, **more}


def read(*documents: object) -> ImportBatch:
    return read_manifests(yaml.safe_dump_all(documents), "lab.yaml", NOW)


def arrive(document: object) -> ImportedHost:
    (arrival,) = read(document).arrivals
    return arrival


def life(document: object) -> Host:
    return arrive(document).host


def refusal(text: str | bytes | dict[str, object], origin: str = "lab.yaml") -> InvalidError:
    content = yaml.safe_dump(text) if isinstance(text, dict) else text
    with pytest.raises(InvalidError) as caught:
        read_manifests(content, origin, NOW)
    return caught.value


def claim(owner: str) -> Reservation:
    return Reservation("", owner, "in use elsewhere", NOW, None, None)


def test_a_metal3_manifest_becomes_a_host_with_its_hardware() -> None:
    spec = HostSpec(
        name="node-0",
        address="10.0.0.11",
        mac="00:5c:52:31:3a:9c",
        labels={"rack": "r1", "namespace": "metal3"},
        bmc=Bmc(
            address="redfish-virtualmedia+https://10.0.1.11/redfish/v1/Systems/1",
            credentials="env:BMC_NODE_0_BMC_SECRET",
            verify_tls=False,
        ),
        hardware={
            "cpus": 64,
            "arch": "x86_64",
            "memory": "256GiB",
            "disks": 2,
            "storage": "3GiB",
            "nics": 2,
            "vendor": "Dell Inc.",
            "model": "R640",
            "profile": "libvirt",
        },
        note="left slot, top",
    )
    arrival = ImportedHost(Host(spec, State.AVAILABLE, since=NOW), "available", "lab.yaml, document 1")
    assert read_manifests(METAL3, "lab.yaml", NOW) == ImportBatch((arrival,))


def test_a_manifest_of_the_metal_lifecycle_project_becomes_a_host() -> None:
    spec = HostSpec(
        name="compute-1",
        mac="10:20:30:40:50:60",
        bmc=Bmc("http://127.0.0.1:8000", type="RedfishLocal", system_id="System-1", credentials="env:BMC_FOO"),
    )
    assert read_manifests(LIFECYCLE.encode(), "c.yaml", NOW) == ImportBatch(
        (ImportedHost(Host(spec, State.INITIAL, since=NOW), None, "c.yaml, document 1"),)
    )


def test_the_status_of_a_lifecycle_manifest_gives_hardware_and_a_claim() -> None:
    document = yaml.safe_load(LIFECYCLE)
    document["spec"]["claimRef"] = {"kind": "BareMetalHostClaim", "name": "job"}
    document["status"] = {
        "state": "Reserved",
        "manufacturer": "Contoso",
        "processors": [{"id": "1", "cores": 8, "threads": 16, "instructionSet": "x86-64"}, {"id": "2", "cores": 4}],
        "networkInterfaces": [{"id": "1", "macAddress": "00:00:00:00:00:01"}],
    }
    host = life(document)
    assert host.spec.hardware == {"cpus": 20, "arch": "x86_64", "nics": 1, "vendor": "Contoso"}
    assert (host.state, host.dirty, host.reservation) == (State.RESERVED, True, claim("BareMetalHostClaim/job"))


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("", State.INITIAL),
        ("unmanaged", State.INITIAL),
        ("registering", State.INITIAL),
        ("inspecting", State.INITIAL),
        ("match profile", State.INITIAL),
        ("preparing", State.INITIAL),
        ("available", State.AVAILABLE),
        ("ready", State.AVAILABLE),
        ("provisioning", State.RESERVED),
        ("provisioned", State.RESERVED),
        ("externally provisioned", State.RESERVED),
        ("deprovisioning", State.TAINTED),
    ],
)
def test_every_metal3_state_is_mapped_and_its_word_is_kept(word: str, state: State) -> None:
    arrival = arrive(manifest(status=status(word)))
    used = state in (State.RESERVED, State.TAINTED)
    assert arrival.source_state == (word or None)
    assert arrival.host == Host(
        HostSpec("n1"),
        state,
        since=NOW,
        dirty=used,
        reservation=claim(f"unknown ({word})") if state is State.RESERVED else None,
    )


@pytest.mark.parametrize("word", ["Initial", "Available", "Reserved", "Tainted", "Maintenance"])
def test_a_manifest_whose_state_is_a_word_of_the_lifecycle_gets_that_state(word: str) -> None:
    document = yaml.safe_load(LIFECYCLE) | {"status": {"state": word}}
    arrival = arrive(document)
    assert (arrival.host.state, arrival.source_state) == (State(word.lower()), word)
    assert arrival.host.dirty is (word not in ("Initial", "Available"))


def test_a_host_with_a_consumer_is_reserved_in_any_metal3_state() -> None:
    consumer = {"kind": "Metal3Machine", "namespace": "ci", "name": "m-1"}
    host = life(manifest(spec={"consumerRef": consumer}, status=status("available")))
    assert host == Host(
        HostSpec("n1"), State.RESERVED, since=NOW, dirty=True, reservation=claim("Metal3Machine/ci/m-1")
    )


def test_an_externally_provisioned_host_is_in_use_by_an_unknown_owner() -> None:
    host = life(manifest(spec={"externallyProvisioned": True}))
    assert (host.state, host.reservation) == (State.RESERVED, claim("unknown (externally provisioned)"))


def test_an_error_taints_and_keeps_its_message_as_the_fault() -> None:
    document = manifest(status=status("available", errorType="registration error", errorMessage="no\n route"))
    assert life(document) == Host(HostSpec("n1"), State.TAINTED, since=NOW, dirty=True, fault="no route")


def test_a_host_in_use_with_an_error_stays_reserved_with_its_fault() -> None:
    host = life(manifest(status=status("provisioned", errorType="power management error")))
    assert (host.state, host.fault) == (State.RESERVED, "power management error")


@pytest.mark.parametrize("mark", ["detached", "paused"])
def test_maintenance_wins_over_other_states_and_keeps_the_consumer(mark: str) -> None:
    key = f"baremetalhost.metal3.io/{mark}"
    document = manifest(
        metadata={"annotations": {key: ""}}, spec={"consumerRef": {"name": "m-1"}}, status=status("provisioned")
    )
    assert life(document) == Host(
        HostSpec("n1"),
        State.MAINTENANCE,
        since=NOW,
        dirty=True,
        came_from=State.RESERVED,
        maintenance=(Note("import", f"{mark} in the cluster (annotation {key})", NOW),),
        reservation=claim("m-1"),
    )


def test_a_free_host_in_maintenance_is_clean_and_came_from_available() -> None:
    document = manifest(metadata={"annotations": {"baremetalhost.metal3.io/paused": "x"}}, status=status("ready"))
    host = life(document)
    assert (host.state, host.came_from, host.dirty) == (State.MAINTENANCE, State.AVAILABLE, False)


def test_the_status_is_read_from_its_annotation_when_the_field_is_missing() -> None:
    kept = json.dumps(status("provisioned", hardware={"cpu": {"count": 8}}))
    annotations = {"baremetalhost.metal3.io/status": kept}
    empty = {"provisioning": {"state": "", "ID": ""}, "errorMessage": ""}
    for document in (manifest(metadata={"annotations": annotations}),) * 2:
        arrival = arrive(document | {"status": empty})
        assert (arrival.source_state, arrival.host.state) == ("provisioned", State.RESERVED)
        assert arrival.host.spec.hardware == {"cpus": 8}
    arrival = arrive(manifest(metadata={"annotations": annotations}, status=status("available")))
    assert (arrival.source_state, arrival.host.spec.hardware) == ("available", {})


def test_a_host_that_is_being_deleted_is_refused_and_named() -> None:
    batch = read(
        manifest("a", status=status("deleting")),
        manifest("b", status=status("powering off before delete")),
        manifest("c", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    )
    assert batch == ImportBatch(
        (),
        (
            "lab.yaml, document 1: BareMetalHost 'a' skipped: it is being deleted in the cluster",
            "lab.yaml, document 2: BareMetalHost 'b' skipped: it is being deleted in the cluster",
            "lab.yaml, document 3: BareMetalHost 'c' skipped: it is being deleted in the cluster",
        ),
    )


def test_secrets_and_unknown_kinds_are_skipped_and_named_without_their_content() -> None:
    batch = read(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foo"}, "data": {"password": "aHVudGVyMg=="}},
        {"kind": "Namespace", "metadata": {"name": "metal3"}},
        None,
        manifest("other") | {"apiVersion": "example.org/v1"},
        {"password": "aHVudGVyMg=="},
        {"kind": "\x1b[31m", "metadata": {"name": "\x1b[0m"}},
        manifest("gone") | {"$patch": "delete"},
        {"kind": "PlayList", "items": "songs"},
    )
    assert batch == ImportBatch(
        (),
        (
            "lab.yaml, document 1: Secret 'foo' skipped: secrets are never stored",
            "lab.yaml, document 2: Namespace 'metal3' skipped: not a BareMetalHost",
            "lab.yaml, document 4: BareMetalHost 'other' skipped: its apiVersion is 'example.org/v1', "
            "not metal3.io/v1alpha1 or metal.afritzler.github.io/v1alpha1",
            "lab.yaml, document 5: skipped: it has no kind, so it is not a manifest",
            "lab.yaml, document 6: '\\x1b[31m' '\\x1b[0m' skipped: not a BareMetalHost",
            "lab.yaml, document 7: BareMetalHost 'gone' skipped: it is a patch for kustomize",
            "lab.yaml, document 8: PlayList skipped: not a BareMetalHost",
        ),
    )


def test_items_of_a_list_are_read_and_inherit_the_kind_of_a_typed_list() -> None:
    bare = {"metadata": {"name": "c"}}
    batch = read(
        {"apiVersion": "v1", "kind": "List", "items": [manifest("a"), {"kind": "Secret"}]},
        [manifest("b")],
        {"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHostList", "items": [bare]},
        {"kind": "List", "items": None},
    )
    assert [(arrival.host.name, arrival.origin) for arrival in batch.arrivals] == [
        ("a", "lab.yaml, document 1, item 1"),
        ("b", "lab.yaml, document 2, item 1"),
        ("c", "lab.yaml, document 3, item 1"),
    ]
    assert batch.skipped == ("lab.yaml, document 1, item 2: Secret skipped: secrets are never stored",)


def test_json_may_have_one_document_or_many() -> None:
    text = f"{json.dumps(manifest('a'))}\n{json.dumps([manifest('b')])}"
    assert [arrival.host.name for arrival in read_manifests(text, "x.json", NOW).arrivals] == ["a", "b"]


def test_flow_style_yaml_is_not_reported_as_broken_json() -> None:
    text = "{apiVersion: metal3.io/v1alpha1, kind: BareMetalHost, metadata: {name: a}}"
    assert [arrival.host.name for arrival in read_manifests(text, "stdin", NOW).arrivals] == ["a"]


def test_utf16_from_a_windows_redirection_is_read() -> None:
    assert len(read_manifests(METAL3.encode("utf-16"), "lab.yaml", NOW).arrivals) == 1


def test_concatenated_files_with_byte_order_marks_are_read() -> None:
    for name in "utf-8", "utf-16":
        text = "\ufeff".join(f"{yaml.safe_dump(manifest(name))}---\n" for name in "abc")
        assert len(read_manifests(text.encode(name), "lab.yaml", NOW).arrivals) == 3


def test_a_label_that_is_null_is_absent() -> None:
    document = manifest()
    document["metadata"] = {"name": "n1", "labels": {"rack": None, "gpu": "", "example.org/zone": "a"}}
    assert life(document).spec.labels == {"gpu": "", "example.org/zone": "a"}


@pytest.mark.parametrize("mac", ["0011.2233.44FF", "0011223344ff", "00-11-22-33-44-FF", " 00:11:22:33:44:ff "])
def test_a_mac_is_read_as_switches_and_windows_write_it(mac: str) -> None:
    assert life(manifest(spec={"bootMACAddress": mac})).spec.mac == "00:11:22:33:44:ff"


@pytest.mark.parametrize("mac", ["00:00:00:00:00:00", "FF-FF-FF-FF-FF-FF", "0000.0000.0000"])
def test_a_placeholder_mac_is_ignored(mac: str) -> None:
    batch = read(*(manifest(name, spec={"bootMACAddress": mac}) for name in "ab"))
    assert [arrival.host.spec.mac for arrival in batch.arrivals] == [None, None]
    assert batch.warnings == ()


def test_a_very_long_mac_is_refused_at_once() -> None:
    error = refusal(manifest(spec={"bootMACAddress": "0" * 900 + "x"}))
    assert "must be a MAC address" in error.message


def test_the_table_of_kubectl_is_answered_with_the_command_that_writes_manifests() -> None:
    error = refusal("NAMESPACE   NAME   STATE\nmetal3      n1     provisioned\n")
    assert error.hint == "kubectl get bmh -A -o yaml writes manifests"


def test_a_host_without_spec_or_status_is_fine() -> None:
    expected = ImportedHost(Host(HostSpec("n1"), State.INITIAL, since=NOW), None, "lab.yaml, document 1")
    assert arrive(manifest(spec=None)) == expected
    assert arrive(manifest()) == expected


def test_dates_and_macs_of_digits_are_texts_as_in_kubernetes() -> None:
    text = f"{LIFECYCLE}".replace("{name: compute-1}", "{name: 2026-01-02, labels: {since: 2026-01-02}}")
    (arrival,) = read_manifests(text, "lab.yaml", NOW).arrivals
    assert arrival.host.spec.labels == {"since": "2026-01-02"}


def test_yaml_aliases_and_merge_keys_are_read() -> None:
    text = (
        METAL3.replace("labels: {rack: r1}", "labels: &l {rack: r1}")
        + "---\n"
        + (
            "x: &base {rack: r1, role: a}\n"
            "apiVersion: metal3.io/v1alpha1\nkind: BareMetalHost\n"
            "metadata: {name: m, labels: {<<: *base, role: b}}\n"
        )
    )
    assert read_manifests(text, "lab.yaml", NOW).arrivals[1].host.spec.labels == {"rack": "r1", "role": "b"}


def test_the_same_mac_on_two_hosts_is_a_warning() -> None:
    spec = {"bootMACAddress": "00:5c:52:31:3a:9c"}
    assert read(manifest("a", spec=spec), manifest("b", spec=spec)).warnings == (
        "a and b have the same MAC 00:5c:52:31:3a:9c: one machine under two names can be reserved twice",
    )


def test_an_image_on_a_host_that_looks_free_is_a_warning() -> None:
    batch = read(manifest("a", spec={"image": {"url": "http://x/y"}}))
    assert batch.warnings == ("lab.yaml, document 1: a has a spec.image: Metal3 may be about to install it",)


def test_a_duplicate_name_is_reported_with_both_places() -> None:
    with pytest.raises(InvalidError) as caught:
        read(manifest("a", metadata={"namespace": "x"}), manifest("a", metadata={"namespace": "y"}))
    assert caught.value.message == "lab.yaml, document 2: host 'a' is already in lab.yaml, document 1"


@pytest.mark.parametrize(
    ("document", "field", "said"),
    [
        ({"metadata": {"name": 123}}, "metadata.name", "must be a text, not a number"),
        ({"metadata": {"name": False}}, "metadata.name", "must be a text, not a boolean"),
        ({"metadata": {"name": None}}, "metadata.name", "is missing"),
        ({"metadata": {"name": "a_b"}}, "metadata.name", "'a_b' is not a host name"),
        ({"metadata": ["n"]}, "metadata", "must be a mapping, not a list"),
        ({"metadata": {"name": "n", "labels": {"rack": 1}}}, "metadata.labels.rack", "must be a text, not a number"),
        (
            {"metadata": {"name": "n", "labels": {"rack": "a b"}}},
            "metadata.labels.rack",
            "must be a text of at most 63 letters, digits, '-', '_' and '.', not 'a b'",
        ),
        ({"metadata": {"name": "n", "labels": {"a b": "x"}}}, "metadata.labels", "'a b' is not a label key"),
        (
            {"metadata": {"name": "n", "namespace": "a b"}},
            "metadata.namespace",
            "must be a text of at most 63 letters, digits, '-', '_' and '.', not 'a b'",
        ),
        (
            {"spec": {"bootMACAddress": "zz"}},
            "spec.bootMACAddress",
            "must be a MAC address such as bc:55:85:92:de:b7, not 'zz'",
        ),
        ({"spec": {"bmc": "http://u:pw@h"}}, "spec.bmc", "must be a mapping, not a text"),
        (
            {"spec": {"bmc": {"address": "ipmi://user:p/w@10.0.0.1"}}},
            "spec.bmc.address",
            "holds a user name or a password",
        ),
        (
            {"spec": {"bmc": {"address": "10.0.0.1", "credentialsName": {"password": "x"}}}},
            "spec.bmc.credentialsName",
            "must be a text, not a mapping",
        ),
        ({"spec": {"externallyProvisioned": "yes"}}, "spec.externallyProvisioned", "must be true or false, not a text"),
        ({"status": status("paused")}, "status.provisioning.state", "'paused' is not a known state"),
        (
            {"status": {"hardware": {"ramMebibytes": -1}}},
            "status.hardware.ramMebibytes",
            "must be a whole number from 0",
        ),
        (
            {"status": {"hardware": {"nics": [{"ip": "10.0.0.999"}]}}},
            "status.hardware.nics[0].ip",
            "must be an IP address, not '10.0.0.999'",
        ),
        ({"status": {"hardware": {"nics": {"ip": "x"}}}}, "status.hardware.nics", "must be a list, not a mapping"),
        (
            {"metadata": {"name": "n", "annotations": {"baremetalhost.metal3.io/status": "{"}}},
            "metadata.annotations.baremetalhost.metal3.io/status",
            "is not valid JSON",
        ),
    ],
)
def test_an_error_names_file_document_and_field(document: dict[str, object], field: str, said: str) -> None:
    error = refusal(manifest() | document)
    assert error.message == f"lab.yaml, document 1: {field}: {said}"
    assert error.details == {"file": "lab.yaml", "document": 1, "field": field}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "line 2, column 1: did not find expected node content"),
        ("a: b\n---\n\na: b\na: c\n", "document 2: line 5: the key 'a' occurs twice in one mapping"),
        ("a: *x", "line 1: the alias *x has no anchor before it"),
        ("a: &x [*x]", "line 1: the alias *x has no anchor before it"),
        ("[" * 100_000, "nested too deep"),
        ("- " * 10_000, "line 1: nested deeper than 100 levels"),
        ("? [a]\n: b", "line 1: a key of a mapping must be a text"),
        ("a: !!python/object:os.system x", "the tag 'tag:yaml.org,2002:python/object:os.system' is not known here"),
        ("a:\n  <<: 1\n  b: c\n\n\nd: e", "line 2: << merges mappings only"),
        ("&x <<: {a: b}\nc: *x", "line 1: the key << takes no anchor"),
        ("just words", "must be a manifest, not a text"),
        (b"\xff\xff", "not UTF-8 text (at byte 0)"),
        ("a: \x00", "control characters are not allowed"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice in one mapping"),
        ('{"kind": ]', "line 1, column 10: Expecting value"),
    ],
)
def test_broken_or_dangerous_yaml_is_refused_with_its_place(text: str | bytes, said: str) -> None:
    error = refusal(text)
    assert error.message.startswith("lab.yaml")
    assert said in error.message


def test_manifests_are_read_without_the_c_library_too(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_manifests(METAL3, "lab.yaml", NOW)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert read_manifests(METAL3, "lab.yaml", NOW) == expected
    assert refusal("- " * 200).message == "lab.yaml, document 1: line 1: nested deeper than 100 levels"


def test_many_hosts_may_share_a_long_block_by_an_alias() -> None:
    block = "x: &labels\n  rack: r1\n" + "  # why these labels are as they are\n" * 2000 + "  role: a\n"
    item = "- {apiVersion: metal3.io/v1alpha1, kind: BareMetalHost, metadata: {name: node%d, labels: *labels}}\n"
    text = f"{block}kind: List\nitems:\n" + "".join(item % number for number in range(60))
    labels = [arrival.host.spec.labels for arrival in read_manifests(text, "lab.yaml", NOW).arrivals]
    assert labels == [{"rack": "r1", "role": "a"}] * 60


def test_aliases_that_multiply_a_text_are_refused() -> None:
    layers = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9))
    assert "aliases multiply" in refusal(f"x0: &x0 [1]\n{layers}").message
    merges = "\n".join(f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}" for n in range(1, 9))
    assert "aliases multiply" in refusal(f"x0: &x0 {{a: 1}}\n{merges}").message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{a: b}", "line 1, column 2: Expecting property name enclosed in double quotes"),
        ('{"kind": }', "line 1, column 10: Expecting value"),
        ('{"a": ' + "1" * 5000 + "}", "Exceeds the limit"),
        ('{} {"a": 1, "a": 2}', "the key 'a' occurs twice in one mapping"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_broken_json_in_a_json_file_is_reported_as_json(text: str, said: str) -> None:
    error = refusal(text, "x.json")
    assert error.message.startswith("x.json, document ")
    assert said in error.message


FIELDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "bmc",
        "address",
        "credentialsName",
        "consumerRef",
        "status",
        "provisioning",
        "state",
        "hardware",
        "nics",
        "ip",
        "mac",
        "cpu",
        "count",
        "items",
        "deletionTimestamp",
        "externallyProvisioned",
        "ramMebibytes",
        "baremetalhost.metal3.io/status",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["metal3.io/v1alpha1", "BareMetalHost", "List", "available", "{}", "10.0.0.1", "a"]),
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=20
)
PARTS = st.dictionaries(st.sampled_from(["spec", "status", "metadata", "apiVersion", "kind"]), TREES, max_size=4).map(
    lambda parts: manifest() | parts
)


def said_of(text: str | bytes) -> str:
    try:
        read_manifests(text, "x", NOW)
    except BmhctlError as error:
        return error.message
    return "x"


@given(TREES | PARTS, st.booleans())
def test_every_random_document_is_read_or_refused_with_a_message(tree: object, as_json: bool) -> None:
    text = json.dumps(tree) if as_json else yaml.safe_dump(tree, allow_unicode=True)
    assert said_of(text).startswith("x")


YAML_TEXT = st.lists(
    st.sampled_from(
        [
            "a",
            ": ",
            "\n",
            "- ",
            "  ",
            "&x ",
            "*x",
            "<<",
            "[",
            "]",
            "{",
            "}",
            ",",
            "'",
            '"',
            "!!str ",
            "!t ",
            "---\n",
            "? ",
            "|",
            "\t",
            "#",
            "1",
            "kind",
            "%",
            "\x85",
            "é",
        ]
    ),
    max_size=25,
).map("".join)


def with_texts_as_keys(tree: object) -> object:
    if isinstance(tree, dict):
        return {"" if key is None else str(key): with_texts_as_keys(value) for key, value in tree.items()}
    return [with_texts_as_keys(item) for item in tree] if isinstance(tree, list) else tree


@given(YAML_TEXT)
def test_yaml_is_read_as_pyyaml_reads_it(text: str) -> None:
    from bmhctl.formats.documents import parse_documents

    try:
        ours = [document for _, document in parse_documents(text, "x")]
        theirs = [with_texts_as_keys(tree) for tree in yaml.load_all(text, Loader=yaml.CSafeLoader)]
    except (InvalidError, yaml.YAMLError):
        return  # our reader is stricter on purpose, and PyYAML can't read a single << or =
    assert ours == theirs


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_is_read_in_order_without_what_is_hidden(tmp_path: Path) -> None:
    write(tmp_path, "b.yml", json.dumps(manifest("b")))
    write(tmp_path, "a.yaml", json.dumps(manifest("a")))
    write(tmp_path, "sub/c.json", json.dumps(manifest("c")))
    write(tmp_path, "d.toml", "[hosts.d]")
    write(tmp_path, ".git/e.yaml", json.dumps(manifest("e")))
    write(tmp_path, ".f.yaml", json.dumps(manifest("f")))
    write(tmp_path, "notes.txt", "- [")
    batch = read_paths([tmp_path, "-"], io.BytesIO(b"[export]\nversion = 1\n[hosts.z]\n"), NOW)
    assert [(arrival.host.name, arrival.origin) for arrival in batch.arrivals] == [
        ("a", f"{tmp_path}/a.yaml, document 1"),
        ("b", f"{tmp_path}/b.yml, document 1"),
        ("d", f"{tmp_path}/d.toml, hosts.d"),
        ("c", f"{tmp_path}/sub/c.json, document 1"),
        ("z", "standard input, hosts.z"),
    ]


def test_standard_input_may_be_a_manifest(tmp_path: Path) -> None:
    batch = read_paths(["-"], io.BytesIO(b"# mine\n" + METAL3.encode()), NOW)
    assert [arrival.origin for arrival in batch.arrivals] == ["standard input, document 1"]


def test_names_and_macs_are_compared_across_files(tmp_path: Path) -> None:
    spec = {"bootMACAddress": "00:5c:52:31:3a:9c"}
    write(tmp_path, "a.yaml", json.dumps(manifest("a", spec=spec)))
    write(tmp_path, "b.yaml", json.dumps(manifest("b", spec=spec)))
    assert len(read_paths([tmp_path], io.BytesIO(), NOW).warnings) == 1
    write(tmp_path, "b.yaml", json.dumps(manifest("a")))
    with pytest.raises(InvalidError, match=r"b\.yaml, document 1: host 'a' is already in .*a\.yaml, document 1"):
        read_paths([tmp_path], io.BytesIO(), NOW)


def test_a_missing_file_or_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match=str(path)):
            read_paths([path], io.BytesIO(), NOW)
