"""Exported manifests are validated: with the schema below, and with that of a cluster if a variable names it.

``BMHCTL_TEST_CRD=metal3.io_baremetalhosts.yaml`` names the CustomResourceDefinition of baremetalhosts in a checkout of
Metal3's baremetal-operator, which is not part of this repository.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.domain.model import Bmc, Host, HostSpec
from bmhctl.formats.exporters.table import export
from bmhctl.support.values import replace
from tests.formats.test_exporters import FULL, host, hosts, specs

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

CRD = os.environ.get("BMHCTL_TEST_CRD")

OURS = """
type: object
properties:
  apiVersion: {type: string}
  kind: {type: string}
  metadata: {type: object}
  spec:
    type: object
    required: [online]
    properties:
      online: {type: boolean}
      bootMACAddress: {type: string, pattern: '[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}'}
      bmc:
        type: object
        required: [address, credentialsName]
        properties:
          address: {type: string}
          credentialsName: {type: string}
          disableCertificateVerification: {type: boolean}
      description: {type: string}
      externallyProvisioned: {type: boolean}
      consumerRef:
        type: object
        properties: {kind: {type: string}, namespace: {type: string}, name: {type: string}}
  status:
    type: object
    required: [errorCount, errorMessage, operationalStatus, poweredOn, provisioning]
    properties:
      errorCount: {type: integer}
      errorMessage: {type: string}
      errorType:
        type: string
        enum:
        - provisioned registration error
        - registration error
        - inspection error
        - preparation error
        - provisioning error
        - power management error
        - servicing error
      hardwareProfile: {type: string}
      operationalStatus: {type: string, enum: ['', OK, discovered, error, delayed, detached, servicing]}
      poweredOn: {type: boolean}
      provisioning:
        type: object
        required: [ID, state]
        properties:
          ID: {type: string}
          state: {type: string}
          image: {type: object, required: [url], properties: {url: {type: string}}}
      hardware:
        type: object
        properties:
          cpu: {type: object, properties: {arch: {type: string}, count: {type: integer}}}
          ramMebibytes: {type: integer}
          nics:
            type: array
            items: {type: object, properties: {ip: {type: string}, pxe: {type: boolean}}}
          storage:
            type: array
            items: {type: object, properties: {name: {type: string}, sizeBytes: {type: integer}}}
          systemVendor:
            type: object
            properties: {manufacturer: {type: string}, productName: {type: string}, serialNumber: {type: string}}
"""
"""The fields that the exporter writes, each with the rules of the definition of v1alpha1. A new field is an error here
until it has been looked up there."""

STATES = {
    "",
    *("unmanaged", "registering", "match profile", "preparing", "ready", "available", "provisioning", "provisioned"),
    *("externally provisioned", "deprovisioning", "inspecting", "powering off before delete", "deleting"),
}
"""The values of ``provisioning.state``, which the definition does not list."""

LABEL = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 253, "pattern": f"^{NAME}$"},
        "namespace": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {
            "propertyNames": {"pattern": f"^({NAME}/)?{LABEL}$"},
            "additionalProperties": {"type": "string", "pattern": f"^{LABEL}$"},
        },
        "annotations": {"additionalProperties": {"type": "string"}},
    },
}
"""The rules of a cluster for the metadata of any object."""


@cache
def validator() -> Draft202012Validator:
    """The schema of a manifest with its status; objects take no other fields, as with ``kubectl --validate=strict``."""
    from jsonschema import Draft202012Validator  # only here: it takes long, and each worker imports every test

    if CRD:
        definition = yaml.safe_load(Path(CRD).read_text())
        [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1alpha1"]
        schema = version["schema"]["openAPIV3Schema"]
    else:
        schema = yaml.safe_load(OURS)
    schema = closed(schema)
    schema["properties"]["metadata"] = METADATA
    return Draft202012Validator(schema)


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def checked(text: str) -> None:
    manifest = yaml.safe_load(text)
    manifest["status"] = json.loads(manifest["metadata"]["annotations"]["baremetalhost.metal3.io/status"])
    errors = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(manifest)]
    assert errors == []
    assert manifest["status"]["provisioning"]["state"] in STATES


bmcs = st.builds(
    Bmc,
    st.just("redfish+https://10.0.1.1/redfish/v1/Systems/1"),
    credentials=st.sampled_from([None, "env:BMC_NODE01", "env:LAB", "file:/etc/bmc", "env:__"]),
    verify_tls=st.booleans(),
)


@given(hosts, st.one_of(st.just(FULL), specs), st.none() | bmcs)
def test_a_cluster_accepts_every_manifest(known: Host, spec: HostSpec, bmc: Bmc | None) -> None:
    checked(export("metal3", [replace(known, spec=replace(spec, bmc=bmc))]))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("online: false", "online: 'no'"),
        lambda text: text.replace("bootMACAddress:", "bootMac:"),
        lambda text: text.replace("credentialsName: node01", ""),
        lambda text: text.replace("name: node01", "name: Node_01", 1),
        lambda text: text.replace('"poweredOn": false, ', ""),
    ],
)
def test_the_schema_refuses_what_a_cluster_refuses(change: Any) -> None:
    text = export("metal3", [host()])
    checked(text)
    assert change(text) != text
    with pytest.raises(AssertionError):
        checked(change(text))
