"""BareMetalHost manifests, of Metal3 and of the project that defined this lifecycle, as hosts to import."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.host_spec import known_mac
from bmhctl.domain.model import HostSpec, PropertyValue, State
from bmhctl.domain.units import format_size
from bmhctl.errors import InvalidError
from bmhctl.formats.documents import parse_documents
from bmhctl.formats.import_batch import (
    FoundHardware,
    FoundHost,
    Nic,
    Part,
    Source,
    address_of,
    entering,
    reference,
)
from bmhctl.formats.importers.record import nic
from bmhctl.formats.json_export import records_of, unpack_records
from bmhctl.formats.manifest_fields import Fields, bad_field, wrong_kind
from bmhctl.formats.naming import NameTemplate, host_name, spec_of
from bmhctl.formats.recognize import document_looks_like, remedy_for

if TYPE_CHECKING:
    from bmhctl.formats.importers.sort_records import ForeignRecords

_METAL3 = "metal3.io/v1alpha1"
_MARKS = (("detached", "baremetalhost.metal3.io/detached"), ("paused", "baremetalhost.metal3.io/paused"))
_ARCHITECTURES = {"x86-64": "x86_64", "ARM-A64": "aarch64"}
"""Redfish's words for processor architectures, each with the word of Metal3 and Linux."""

_KIND = re.compile(r"[A-Za-z0-9]{1,63}")

_METAL3_STATES: dict[str, State | None] = {
    **dict.fromkeys(("", "unmanaged", "registering", "inspecting", "match profile", "preparing"), State.INITIAL),
    **dict.fromkeys(("ready", "available"), State.AVAILABLE),
    **dict.fromkeys(("provisioning", "provisioned", "externally provisioned"), State.RESERVED),
    "deprovisioning": State.TAINTED,
    **dict.fromkeys(("powering off before delete", "deleting")),
}
_LIFECYCLE_STATES: dict[str, State | None] = {"": State.INITIAL, **{state.capitalize(): state for state in State}}
"""The state here for each state of a manifest; None: such a host is not imported."""


def unpack_manifests(text: str, origin: str, now: datetime, names: NameTemplate | None, others: ForeignRecords) -> Part:
    """Return the hosts of a YAML or JSON text: one or more documents or lists, of both API groups.

    ``origin`` names the text in messages, ``names`` makes the hosts' names. Secrets and other kinds are skipped, each
    with a line that never shows its content. Conflicts with other texts are not checked here. Raises
    :class:`InvalidError` that begins with "ORIGIN, document N: field.path:" and has ``file``, ``document`` and
    ``field`` in its details.

    The returned part does not contain the records of other systems, which ``others`` collects.
    """
    hosts: list[FoundHost] = []
    hardware: list[FoundHardware] = []
    skipped: list[str] = []
    warnings: list[str] = []
    planned: frozenset[str] = frozenset()
    looks_like: str | None = "an empty file"
    elsewhere = False
    for number, document in parse_documents(text, origin):
        if records_of(document) is not None:
            others.check_records(origin)
            part = unpack_records(document, origin, now, names)
            hosts += part.hosts
            planned |= part.planned
            looks_like = None
            continue
        place = whole = f"{origin}, document {number}"
        try:
            if others.takes_document(whole, document):
                elsewhere = True
                continue
            for place, manifest in _manifests(whole, document):
                if others.takes_manifest(place, manifest):
                    elsewhere = True
                    continue
                found = _read(manifest, place, now, names, warnings)
                match found:
                    case str():
                        skipped.append(f"{place}: {found}")
                        is_host = isinstance(manifest, dict) and manifest.get("kind") == "BareMetalHost"
                        looks_like = None if is_host else document_looks_like(manifest)
                    case FoundHardware():
                        hardware.append(found)
                    case _:
                        hosts.append(found)
        except (InvalidError, RecursionError) as error:
            if isinstance(error, RecursionError):
                error = bad_field("", "nested too deep")
            where = {"file": origin, "document": number, "field": error.details["field"]}
            raise InvalidError(f"{place}: {error.message}", hint=error.hint, details=where) from error
    parts = tuple(hosts), tuple(hardware), tuple(skipped), tuple(warnings)
    return Part(*parts, looks_like=None if elsewhere else looks_like, elsewhere=elsewhere, planned=planned)


def _manifests(place: str, document: object) -> Iterator[tuple[str, object]]:
    """Yield the manifests of a document, and those of a list one by one; yield any other value unchanged."""
    items, inherited = document, {}
    kind = document.get("kind") if isinstance(document, dict) and "items" in document else None
    if (
        isinstance(document, dict)
        and isinstance(kind, str)
        and kind.endswith("List")
        and kind != "SecretList"
        and isinstance(document["items"], list | None)
    ):
        items = document["items"] or []
        if kind != "List":
            inherited = {"kind": kind.removesuffix("List"), "apiVersion": document.get("apiVersion")}
    if isinstance(items, list):
        for number, item in enumerate(items, 1):
            heir = inherited | item if isinstance(item, dict) else item
            yield from _manifests(f"{place}, item {number}", heir)
    elif items is not None:
        yield place, items


def _read(
    manifest: object, place: str, now: datetime, names: NameTemplate | None, warnings: list[str]
) -> FoundHost | FoundHardware | str:
    """Return the host that a manifest declares, or a text why it has none; append warnings to ``warnings``."""
    if not isinstance(manifest, dict):
        error = wrong_kind("", "a manifest", manifest)
        error.hint = "kubectl get bmh -A -o yaml writes manifests" if isinstance(manifest, str) else error.hint
        raise error
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    if kind is None:
        return "skipped: it has no kind, so it is not a manifest"
    if "$patch" in manifest:
        return _skipped(manifest, "it is a patch for kustomize")
    if kind == "HardwareData" and version == _METAL3:
        return _hardware_data(Fields(manifest), place)
    if kind != "BareMetalHost":
        is_secret = kind in ("Secret", "SecretList")
        remedy = remedy_for(kind)
        why = "not a BareMetalHost" + (f": {remedy}" if remedy else "")
        return _skipped(manifest, "secrets are never stored" if is_secret else why)
    if version not in (_METAL3, "metal.afritzler.github.io/v1alpha1"):
        said = "it has no apiVersion" if version is None else f"its apiVersion is {version!r:.80}"
        return _skipped(manifest, f"{said}, not metal3.io/v1alpha1 or metal.afritzler.github.io/v1alpha1")
    top = Fields(manifest)
    found = _metal3(top, place, now, names, warnings) if version == _METAL3 else _lifecycle(top, place, now, names)
    if found is None or top.fields("metadata").line("deletionTimestamp"):
        return _skipped(manifest, "it is being deleted in the cluster")
    return found


def _skipped(manifest: Mapping[str, object], why: str) -> str:
    """Return the line about a manifest that is not imported."""
    kind, metadata = manifest["kind"], manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    title = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else f"{kind!r:.80}"
    return f"{title} {name!r:.80} skipped: {why}" if isinstance(name, str) else f"{title} skipped: {why}"


def _metal3(
    top: Fields, place: str, now: datetime, names: NameTemplate | None, warnings: list[str]
) -> FoundHost | None:
    metadata, spec, status = top.fields("metadata"), top.fields("spec"), top.fields("status")
    annotations = metadata.fields("annotations")
    if not (status.fields("provisioning").line("state") or status.line("errorType")):
        # After a pivot or a restore the status is empty, and Metal3 fills it from this annotation. Without reading it,
        # a host in use would look new.
        status = annotations.json("baremetalhost.metal3.io/status") or status
    word, state = _state(status.fields("provisioning"), _METAL3_STATES)
    if state is None:
        return None

    external = spec.flag("externallyProvisioned")
    owner = _owner(spec.fields("consumerRef"))
    if owner is None and (external or state is State.RESERVED):
        owner = f"unknown ({'externally provisioned' if external else word})"
    operational = status.line("operationalStatus")
    fault = None
    if status.line("errorType") or operational == "error":
        fault = status.squeezed("errorMessage") or status.line("errorType") or operational
    aside = [f"{mark} in the cluster (annotation {key})" for mark, key in _MARKS if key in annotations.data]
    if operational == "detached" and not aside:
        aside = ["detached in the cluster (operationalStatus)"]

    mac = known_mac(spec.line("bootMACAddress"))
    hardware = (
        status.fields("hardware")
        or status.fields("hardwareDetails")
        or annotations.json("inspect.metal3.io/hardwaredetails")
    )
    pinned = _set(
        {
            "arch": spec.line("architecture"),
            "profile": spec.line("hardwareProfile") or status.line("hardwareProfile"),
        }
    )
    bmc = spec.fields("bmc")
    secret = bmc.line("credentialsName")
    declared = _declared(
        metadata,
        names,
        bmc={
            "address": bmc.line("address"),
            "credentials": secret and reference(secret),
            "verify_tls": not bmc.flag("disableCertificateVerification"),
        },
        hardware={**_properties(hardware), **pinned},
        address=address_of(_nics(hardware), mac),
        mac=mac,
        note=spec.squeezed("description"),
    )
    is_free = owner is None and state in (State.INITIAL, State.AVAILABLE) and not metadata.line("deletionTimestamp")
    if is_free and spec.fields("image").line("url"):
        warnings.append(f"{place}: {declared.name} has a spec.image: Metal3 may be about to install it")
    host = entering(declared, state, now, owner=owner, fault=fault, aside=aside)
    source = _source(metadata)
    return FoundHost(host, word or None, place, source, _secret(source, secret), pinned)


def _hardware_data(top: Fields, place: str) -> FoundHardware:
    source = _source(top.fields("metadata"))
    if not source[1]:
        raise bad_field("metadata.name", "is missing")
    hardware = top.fields("spec").fields("hardware")
    return FoundHardware(source, _properties(hardware), _nics(hardware), place)


def _properties(hardware: Fields) -> dict[str, PropertyValue]:
    """Return the hardware properties that an inspection by Metal3 found."""
    vendor, cpu = hardware.fields("systemVendor"), hardware.fields("cpu")
    storage = [disk.whole("sizeBytes") or 0 for disk in hardware.rows("storage")]
    memory = hardware.whole("ramMebibytes")
    return _set(
        {
            "cpus": cpu.whole("count"),
            "arch": cpu.line("arch"),
            "memory": format_size(memory * 1024**2) if memory else None,
            "disks": len(storage),
            "storage": format_size(sum(storage)) if sum(storage) else None,
            "nics": len({mac.lower() for nic in hardware.rows("nics") if (mac := nic.line("mac"))}),
            "vendor": vendor.line("manufacturer"),
            "model": vendor.line("productName"),
            "serial": vendor.line("serialNumber"),
        }
    )


def _nics(hardware: Fields) -> tuple[Nic, ...]:
    known = [(each, ip) for each in hardware.rows("nics") if (ip := each.line("ip")) is not None]
    return tuple(nic(each, "ip", ip, mac=each.line("mac") or "", pxe=each.flag("pxe")) for each, ip in known)


def _set(properties: Mapping[str, PropertyValue | None]) -> dict[str, PropertyValue]:
    """Return the values that are set: Go programs write zero and empty values for "unknown"."""
    return {key: value for key, value in properties.items() if value}


def _lifecycle(top: Fields, place: str, now: datetime, names: NameTemplate | None) -> FoundHost | None:
    metadata, spec, status = top.fields("metadata"), top.fields("spec"), top.fields("status")
    word, state = _state(status, _LIFECYCLE_STATES)
    if state is None:
        return None
    owner = _owner(spec.fields("claimRef")) or _owner(spec.fields("consumerRef"))
    if owner is None and state is State.RESERVED:
        owner = f"unknown ({word})"
    processors = status.rows("processors")
    archs = [arch for processor in processors if (arch := processor.line("instructionSet"))]
    macs = {mac.lower() for nic in status.rows("networkInterfaces") if (mac := nic.line("macAddress"))}
    bmc = spec.fields("bmc")
    secret = bmc.fields("secretRef").line("name")
    declared = _declared(
        metadata,
        names,
        bmc={
            "address": bmc.line("address"),
            "type": bmc.line("type"),
            "system_id": spec.line("systemId"),
            "credentials": secret and reference(secret),
        },
        hardware=_set(
            {
                "cpus": sum(processor.whole("threads") or processor.whole("cores") or 0 for processor in processors),
                "arch": _ARCHITECTURES.get(archs[0], archs[0]) if archs else None,
                "nics": len(macs),
                "vendor": status.line("manufacturer"),
                "model": status.line("model"),
                "serial": status.line("serialNumber"),
            }
        ),
        mac=spec.line("bootMACAddress"),
    )
    aside = ("in maintenance in the cluster",) if state is State.MAINTENANCE else ()
    host = entering(declared, state, now, owner=owner, aside=aside)
    source = _source(metadata)
    return FoundHost(host, word or None, place, source, _secret(source, secret))


def _state(fields: Fields, states: Mapping[str, State | None]) -> tuple[str, State | None]:
    word = fields.line("state") or ""
    if word not in states:
        known = ", ".join(state for state in states if state)
        raise bad_field(fields.path_of("state"), f"{word!r:.80} is not a known state", hint=f"known: {known}")
    return word, states[word]


def _owner(consumer: Fields) -> str | None:
    if not consumer:
        return None
    return "/".join(filter(None, (consumer.line(key) for key in ("kind", "namespace", "name")))) or None


def _source(metadata: Fields) -> Source:
    return metadata.line("namespace") or "", metadata.line("name") or ""


def _secret(source: Source, name: str | None) -> Source | None:
    return (source[0], name) if name else None


def _declared(
    metadata: Fields,
    names: NameTemplate | None,
    bmc: dict[str, object],
    hardware: Mapping[str, PropertyValue],
    **entry: str | None,
) -> HostSpec:
    """Return the spec that a manifest declares; errors name the fields of the manifest."""
    given = metadata.line("name")
    if given is None:
        raise bad_field("metadata.name", "is missing")
    labels, namespace = metadata.texts("labels"), metadata.line("namespace")
    name = host_name(names, given, labels, namespace, metadata.line("uid"))
    paths = {"mac": "spec.bootMACAddress"}
    if namespace is not None and "namespace" not in labels:
        labels["namespace"] = namespace
        paths["labels.namespace"] = "metadata.namespace"
    return spec_of(
        name,
        {**entry, "labels": labels, "bmc": bmc if bmc["address"] else None, "hardware": hardware},
        lambda key: paths.get(key) or f"{'metadata' if key.startswith('labels') else 'spec'}.{key}",
    )
