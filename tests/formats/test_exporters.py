"""Exports for other systems: they are read back as the same hosts, as far as the format can express them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.model import Bmc, Host, HostSpec, Note, Reservation, State
from bmhctl.errors import InvalidError
from bmhctl.formats.exporters.table import OF_OTHERS, export
from bmhctl.formats.import_files import read_paths
from bmhctl.support.values import replace

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LINE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
WORD = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?", fullmatch=True)
FULL = HostSpec(
    "node01",
    address="10.0.0.1",
    mac="52:54:00:00:00:01",
    labels={"rack": "r1", "namespace": "lab"},
    bmc=Bmc("redfish+https://10.0.1.1/redfish/v1/Systems/1", credentials="env:BMC_NODE01", verify_tls=False),
    hardware={"cpus": 64, "memory": "256GiB", "disks": 2, "storage": "960GiB", "vendor": "Acme", "arch": "x86_64"},
    note="left slot: #1",
)


def host(state: State = State.AVAILABLE, owner: str | None = None, **fields: Any) -> Host:
    held = None if owner is None else Reservation("r-1", owner, None, NOW, None, None)
    known: dict[str, Any] = {"dirty": state not in (State.INITIAL, State.AVAILABLE), **fields}
    return Host(known.pop("spec", FULL), state, NOW, reservation=held, **known)


def brought(text: str) -> list[Host]:
    return [each.host for each in read_paths(["-"], io.BytesIO(text.encode()), NOW).arrivals]


hosts = st.one_of(
    st.builds(host, st.sampled_from([State.INITIAL, State.AVAILABLE])),
    st.builds(host, st.just(State.RESERVED), LINE, fault=st.none() | LINE),
    st.builds(host, st.just(State.TAINTED), fault=st.none() | LINE),
    st.builds(
        host,
        st.just(State.MAINTENANCE),
        st.none() | LINE,
        came_from=st.just(State.TAINTED),
        maintenance=st.just((Note("a", "fan", NOW),)),
    ),
)
specs = st.builds(
    HostSpec,
    st.just("node01"),
    address=st.none() | st.just("10.0.0.1"),
    mac=st.none() | st.just("52:54:00:00:00:01"),
    labels=st.dictionaries(WORD.filter(lambda key: key != "namespace"), st.just("") | WORD, max_size=3),
    hardware=st.fixed_dictionaries(
        {},
        optional={
            "cpus": st.integers(1, 500),
            "arch": st.just("aarch64"),
            "memory": st.integers(1, 999).map(lambda size: f"{size}GiB"),
            "vendor": LINE,
        },
    ),
    note=st.none() | LINE,
)


@given(hosts, specs)
def test_exported_manifests_are_imported_as_the_same_hosts_states_and_consumers(known: Host, spec: HostSpec) -> None:
    known = replace(known, spec=spec)
    [back] = brought(export("metal3", [known]))
    assert back.spec == spec
    assert (back.state, back.fault, back.dirty) == (known.state, known.fault, known.dirty)
    assert (back.reservation and back.reservation.owner) == (known.reservation and known.reservation.owner)


def test_a_manifest_has_all_required_fields_and_never_frees_a_used_host() -> None:
    manifest = yaml.safe_load(export("metal3", [host(State.RESERVED, "Machine/prod/m1")]))
    assert manifest["metadata"]["namespace"] == "lab"
    assert manifest["metadata"]["labels"] == {"rack": "r1"}
    assert manifest["spec"] == {
        "online": True,
        "bootMACAddress": "52:54:00:00:00:01",
        "bmc": {
            "address": "redfish+https://10.0.1.1/redfish/v1/Systems/1",
            "credentialsName": "node01",
            "disableCertificateVerification": True,
        },
        "description": "left slot: #1",
        "externallyProvisioned": True,
        "consumerRef": {"kind": "Machine", "namespace": "prod", "name": "m1"},
    }
    status = json.loads(manifest["metadata"]["annotations"]["baremetalhost.metal3.io/status"])
    assert status["provisioning"]["state"] == "externally provisioned"
    unclean = host(State.MAINTENANCE, came_from=State.AVAILABLE, dirty=True)
    [back] = brought(export("metal3", [unclean]))
    assert (back.state, back.came_from, back.dirty) == (State.MAINTENANCE, State.TAINTED, True)
    assert [each.spec for each in brought(export("metal3", [host()]))] == [FULL]


@pytest.mark.parametrize(
    ("address", "system_id", "written"),
    [
        ("https://10.0.1.1", "/redfish/v1/Systems/1", "redfish+https://10.0.1.1/redfish/v1/Systems/1"),
        ("http://[fd00::1]:8000/gw/redfish/v1", "a b", "redfish+http://[fd00::1]:8000/gw/redfish/v1/Systems/a%20b"),
        ("idrac-redfish://10.0.1.1", "System.Embedded.1", None),
        ("redfish://10.0.1.1/redfish/v1/Systems/1/", "1", "redfish://10.0.1.1/redfish/v1/Systems/1/"),
        ("redfish+https://10.0.1.1", None, "redfish+https://10.0.1.1"),
        ("ipmi://10.0.1.1:623", "1", "ipmi://10.0.1.1:623"),
    ],
)
def test_the_bmc_address_in_a_manifest_names_redfish_and_the_system(
    address: str, system_id: str | None, written: str | None
) -> None:
    spec = replace(FULL, bmc=Bmc(address, system_id=system_id))
    manifest = yaml.safe_load(export("metal3", [host(spec=spec)]))
    assert manifest["spec"]["bmc"]["address"] == (written or f"{address}/redfish/v1/Systems/{system_id}")


@pytest.mark.parametrize("name", ["b1c7b5a1-4c5e-4b3d-9c4a-0f1c4b1f1a03", "b1c7b5a14c5e4b3d9c4a0f1c4b1f1a03"])
def test_a_manifest_is_not_written_for_a_host_whose_name_is_a_uuid(name: str) -> None:
    with pytest.raises(InvalidError, match="its name is a UUID, which Metal3 refuses"):
        export("metal3", [host(spec=replace(FULL, name=name))])
    assert export("metal3", [host(spec=replace(FULL, name=f"host-{name}"))])


def test_a_text_that_looks_like_a_number_is_quoted_in_a_manifest() -> None:
    labels = {"a": "0E0", "b": "1e3", "c": "0o7", "d": "yes", "e": "1.10"}
    text = export("metal3", [host(spec=replace(FULL, labels=labels))])
    assert all(f"    {key}: '{value}'\n" in text for key, value in labels.items())
    assert brought(text)[0].spec.labels == labels


def test_exported_dhcp_lines_are_imported_as_names_addresses_and_macs() -> None:
    text = export(
        "dnsmasq", [host(), host(spec=HostSpec("n2", address="n2.lab")), host(spec=HostSpec("n3", mac=FULL.mac))]
    )
    assert text == "dhcp-host=52:54:00:00:00:01,node01,10.0.0.1\ndhcp-host=52:54:00:00:00:01,n3\n"
    assert brought(text.partition("\n")[0])[0].spec == HostSpec("node01", address="10.0.0.1", mac=FULL.mac)


def test_two_hosts_with_the_same_address_are_not_exported_for_dnsmasq() -> None:
    twin = HostSpec("n2", address="10.0.0.1", mac="52:54:00:00:00:02")
    with pytest.raises(InvalidError, match=r"^has the address 10\.0\.0\.1 of node01"):
        export("dnsmasq", [host(), host(spec=twin)])


@pytest.mark.parametrize("name", ["100123", "12h", "infinite", "ignore", "10.0.0.9"])
def test_a_name_that_dnsmasq_would_misread_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="dnsmasq would take this name for") as caught:
        export("dnsmasq", [host(spec=replace(FULL, name=name))])
    assert caught.value.host == name
    assert export("dnsmasq", [host(spec=HostSpec(name))]) == ""
    assert f",h-{name}," in export("dnsmasq", [host(spec=replace(FULL, name=f"h-{name}"))])


def test_ssh_gets_addresses_users_and_names_for_host_keys() -> None:
    spec = replace(FULL, hardware={"ssh_user": "root", "ssh_port": 2222, "ssh_host_key": "ssh-ed25519 AAAAC3= x"})
    assert export("ssh", [host(spec=spec), host(spec=HostSpec("n2"))]) == (
        "# Written by bmhctl export -o ssh\n"
        "\nHost node01\n  HostName 10.0.0.1\n  HostKeyAlias node01\n  User root\n  Port 2222\n"
    )
    assert export("known-hosts", [host(spec=spec)]) == "node01,[10.0.0.1]:2222 ssh-ed25519 AAAAC3=\n"
    usual = replace(spec, hardware={"ssh_host_key": "ssh-ed25519 AAAAC3="})
    assert export("known-hosts", [host(spec=usual)]) == "node01,10.0.0.1 ssh-ed25519 AAAAC3=\n"


@pytest.mark.parametrize(
    ("output", "hardware", "said"),
    [
        ("ssh", {"ssh_user": "root\n  ProxyCommand rm"}, "hardware ssh_user is not what ssh takes as User"),
        ("known-hosts", {"ssh_host_key": "@revoked * ssh-rsa AAAA"}, "hardware ssh_host_key is not a host key"),
    ],
)
def test_a_name_that_ssh_would_misread_is_refused(output: str, hardware: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        export(output, [host(spec=replace(FULL, hardware=hardware))])
    assert caught.value.message == said


def test_netbox_gets_patches_of_two_custom_fields() -> None:
    known = host(State.RESERVED, "alice@lab", spec=replace(FULL, labels={"netbox_id": "7"}))
    assert json.loads(export("netbox", [known, host()])) == [
        {"id": 7, "name": "node01", "custom_fields": {"bmh_state": "reserved", "bmh_holder": "alice@lab"}},
        {"name": "node01", "custom_fields": {"bmh_state": "available", "bmh_holder": None}},
    ]
    assert json.loads(export("netbox", [])) == []


@pytest.mark.parametrize("output", OF_OTHERS)
def test_an_export_of_an_empty_inventory_has_no_hosts(output: str) -> None:
    assert "node01" not in export(output, [])
