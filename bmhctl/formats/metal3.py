"""BareMetalHost manifests, of Metal3 and of the project whose lifecycle this is, as hosts to take in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address

from bmhctl.domain.host_spec import parse_spec
from bmhctl.domain.model import Host, HostSpec, ImportBatch, ImportedHost, Note, Reservation, State
from bmhctl.domain.units import format_size
from bmhctl.errors import InvalidError
from bmhctl.formats.documents import parse_documents
from bmhctl.formats.import_batch import combine, decode
from bmhctl.formats.manifest_fields import Fields, bad_field, wrong_kind
from bmhctl.support.values import Frozen

_MARKS = (("detached", "baremetalhost.metal3.io/detached"), ("paused", "baremetalhost.metal3.io/paused"))
_ARCHITECTURES = {"x86-64": "x86_64", "ARM-A64": "aarch64"}
"""Redfish's words for what Metal3 and Linux call otherwise."""

_KIND = re.compile(r"[A-Za-z0-9]{1,63}")
_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9]")

_METAL3_STATES: dict[str, State | None] = {
    "": State.INITIAL,
    "unmanaged": State.INITIAL,
    "registering": State.INITIAL,
    "inspecting": State.INITIAL,
    "match profile": State.INITIAL,
    "preparing": State.INITIAL,
    "ready": State.AVAILABLE,
    "available": State.AVAILABLE,
    "provisioning": State.RESERVED,
    "provisioned": State.RESERVED,
    "externally provisioned": State.RESERVED,
    "deprovisioning": State.TAINTED,
    "powering off before delete": None,
    "deleting": None,
}
_LIFECYCLE_STATES: dict[str, State | None] = {
    "": State.INITIAL,
    "Initial": State.INITIAL,
    "Available": State.AVAILABLE,
    "Reserved": State.RESERVED,
    "Tainted": State.TAINTED,
    "Maintenance": State.MAINTENANCE,
}
"""What a manifest's word for its state is here; None: such a host is not taken in."""


def read_manifests(text: str | bytes, origin: str, now: datetime) -> ImportBatch:
    """The hosts of a YAML or JSON text: one or many documents, lists of them, of both dialects.

    ``origin`` is what messages call the text. Secrets and other kinds are passed over, each with a line that
    never shows its content. Raises :class:`InvalidError` that begins with "ORIGIN, document N: field.path:" and
    has ``file``, ``document`` and ``field`` in its details; then nothing of the text is to be taken in.
    """
    return combine([unpack_manifests(text, origin, now)])


def unpack_manifests(text: str | bytes, origin: str, now: datetime) -> ImportBatch:
    """As :func:`read_manifests`, for a text that is one of several: what spans them is not looked at yet."""
    arrivals: list[ImportedHost] = []
    skipped: list[str] = []
    warnings: list[str] = []
    for number, document in parse_documents(decode(text, origin), origin):
        place = whole = f"{origin}, document {number}"
        try:
            for place, manifest in _manifests(whole, document):
                account = _read(manifest)
                if isinstance(account, str):
                    skipped.append(f"{place}: {account}")
                else:
                    arrivals.append(ImportedHost(_enter(account, now), account.word or None, place))
                    warnings += [f"{place}: {warning}" for warning in account.warnings]
        except (InvalidError, RecursionError) as error:
            if isinstance(error, RecursionError):
                error = bad_field("", "nested too deep")
            where = {"file": origin, "document": number, "field": error.details["field"]}
            raise InvalidError(f"{place}: {error.message}", hint=error.hint, details=where) from error
    return ImportBatch(tuple(arrivals), tuple(skipped), tuple(warnings))


def _manifests(place: str, document: object) -> Iterator[tuple[str, object]]:
    """The manifests of a document, with lists of them unrolled; what is none comes out as it is."""
    items, inherited = document, {}
    if isinstance(document, dict) and document.get("kind") in ("List", "BareMetalHostList"):
        items = document.get("items") or []
        if document["kind"] == "BareMetalHostList":
            inherited = {"kind": "BareMetalHost", "apiVersion": document.get("apiVersion")}
    if isinstance(items, list):
        for number, item in enumerate(items, 1):
            heir = inherited | item if isinstance(item, dict) else item
            yield from _manifests(f"{place}, item {number}", heir)
    elif items is not None:
        yield place, items


class _Account(Frozen):
    """What a manifest says of one host: its declaration, and all that its state follows from."""

    spec: HostSpec
    word: str
    state: State
    owner: str | None
    fault: str | None
    aside: tuple[str, ...]
    warnings: tuple[str, ...]


def _enter(account: _Account, now: datetime) -> Host:
    state, came_from, reservation = account.state, None, None
    if account.owner is not None:
        # A machine that is in use is so with a fault too: as tainted, a cleanup would wipe it under its user's hands.
        state = State.RESERVED
        reservation = Reservation("", account.owner, "in use elsewhere", now, expires_at=None, ttl=None)
    elif account.fault is not None:
        state = State.TAINTED
    if account.aside:
        came_from = None if state is State.MAINTENANCE else state
        state = State.MAINTENANCE
    return Host(
        account.spec,
        state,
        since=now,
        # Where maintenance is all that a manifest knows, nobody can say that the host is clean.
        dirty=(came_from or state) not in (State.INITIAL, State.AVAILABLE),
        came_from=came_from,
        maintenance=tuple(Note("import", reason, now) for reason in account.aside),
        fault=account.fault,
        reservation=reservation,
    )


def _read(manifest: object) -> _Account | str:
    """What a manifest says of its host, or why there is none to take in."""
    if not isinstance(manifest, dict):
        raise wrong_kind("", "a manifest", manifest)
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    if kind is None:
        return "skipped: it has no kind, so it is no manifest"
    title = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else f"{kind!r:.80}"
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    title += f" {name!r:.80} skipped" if isinstance(name, str) else " skipped"
    if kind != "BareMetalHost":
        secret = kind in ("Secret", "SecretList")
        return f"{title}: {'secrets are never stored' if secret else 'not a BareMetalHost'}"
    if version not in ("metal3.io/v1alpha1", "metal.afritzler.github.io/v1alpha1"):
        said = "it has no apiVersion" if version is None else f"its apiVersion is {version!r:.80}"
        return f"{title}: {said}, not metal3.io/v1alpha1 or metal.afritzler.github.io/v1alpha1"
    top = Fields(manifest)
    account = _metal3(top) if version == "metal3.io/v1alpha1" else _lifecycle(top)
    if account is None or top.fields("metadata").line("deletionTimestamp"):
        return f"{title}: it is being deleted there"
    return account


def _metal3(top: Fields) -> _Account | None:
    spec, status = top.fields("spec"), top.fields("status")
    annotations = top.fields("metadata").fields("annotations")
    if not (status.fields("provisioning").line("state") or status.line("errorType")):
        # A pivot or a restore leaves the status empty, with this copy to fill it from: without it, a host in use
        # would look new.
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
    aside = [f"{mark} there (annotation {key})" for mark, key in _MARKS if key in annotations.data]
    if operational == "detached" and not aside:
        aside = ["detached there (operationalStatus)"]

    mac = spec.line("bootMACAddress")
    hardware = (
        status.fields("hardware")
        or status.fields("hardwareDetails")
        or annotations.json("inspect.metal3.io/hardwaredetails")
    )
    nics = hardware.rows("nics")
    vendor, cpu = hardware.fields("systemVendor"), hardware.fields("cpu")
    storage = [disk.whole("sizeBytes") or 0 for disk in hardware.rows("storage")]
    memory = hardware.whole("ramMebibytes")
    facts: dict[str, object] = {
        "cpus": cpu.whole("count"),
        "arch": spec.line("architecture") or cpu.line("arch"),
        "memory": format_size(memory * 1024**2) if memory else None,
        "disks": len(storage),
        "storage": format_size(sum(storage)) if sum(storage) else None,
        "nics": len({nic_mac.lower() for nic in nics if (nic_mac := nic.line("mac"))}),
        "vendor": vendor.line("manufacturer"),
        "model": vendor.line("productName"),
        "serial": vendor.line("serialNumber"),
        "profile": spec.line("hardwareProfile") or status.line("hardwareProfile"),
    }
    bmc = spec.fields("bmc")
    declared = _declared(
        top,
        bmc={
            "address": bmc.line("address"),
            "credentials": _reference(bmc.line("credentialsName")),
            "verify_tls": not bmc.flag("disableCertificateVerification"),
        },
        hardware=facts,
        address=_address(nics, mac),
        mac=mac,
        note=spec.squeezed("description"),
    )
    warnings = []
    if owner is None and spec.fields("image").line("url") and state in (State.INITIAL, State.AVAILABLE):
        warnings.append(f"{declared.name} has a spec.image: Metal3 may be about to install it")
    return _Account(declared, word, state, owner, fault, tuple(aside), tuple(warnings))


def _lifecycle(top: Fields) -> _Account | None:
    spec, status = top.fields("spec"), top.fields("status")
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
    declared = _declared(
        top,
        bmc={
            "address": bmc.line("address"),
            "type": bmc.line("type"),
            "system_id": spec.line("systemId"),
            "credentials": _reference(bmc.fields("secretRef").line("name")),
        },
        hardware={
            "cpus": sum(processor.whole("threads") or processor.whole("cores") or 0 for processor in processors),
            "arch": _ARCHITECTURES.get(archs[0], archs[0]) if archs else None,
            "nics": len(macs),
            "vendor": status.line("manufacturer"),
            "model": status.line("model"),
            "serial": status.line("serialNumber"),
        },
        mac=spec.line("bootMACAddress"),
    )
    aside = ("in maintenance there",) if state is State.MAINTENANCE else ()
    return _Account(declared, word, state, owner, None, aside, ())


def _state(fields: Fields, states: Mapping[str, State | None]) -> tuple[str, State | None]:
    word = fields.line("state") or ""
    if word not in states:
        known = ", ".join(state for state in states if state)
        raise bad_field(fields.path_of("state"), f"{word!r:.80} is no state known here", hint=f"known: {known}")
    return word, states[word]


def _owner(consumer: Fields) -> str | None:
    if not consumer:
        return None
    return "/".join(filter(None, (consumer.line(key) for key in ("kind", "namespace", "name")))) or None


def _reference(secret: str | None) -> str | None:
    """Where to put the credentials that a manifest keeps in a Secret: a variable named after it."""
    return f"env:BMC_{_NOT_IN_VARIABLE.sub('_', secret.upper())}" if secret else None


def _address(nics: list[Fields], boot_mac: str | None) -> str | None:
    """The address of the NIC that the host boots from, else of any; IPv4 first, link-local never."""
    best: tuple[int, int] = (3, 0)
    address = None
    for nic in nics:
        text = nic.line("ip")
        if text is None:
            continue
        try:
            ip = ip_address(text)
        except ValueError:
            raise bad_field(nic.path_of("ip"), f"must be an IP address, not {text!r:.60}") from None
        boots = boot_mac is not None and (nic.line("mac") or "").lower() == boot_mac.lower()
        rank = (0 if boots else 1 if nic.flag("pxe") else 2, ip.version)
        if rank < best and not ip.is_link_local:
            best, address = rank, text
    return address


def _declared(top: Fields, bmc: dict[str, object], hardware: dict[str, object], **entry: str | None) -> HostSpec:
    """The spec of what a manifest declares; its faults are told by the names of the manifest's own fields."""
    metadata = top.fields("metadata")
    name = metadata.line("name")
    if name is None:
        raise bad_field("metadata.name", "is missing")
    labels, namespace = metadata.texts("labels"), metadata.line("namespace")
    paths = {"name": "metadata.name", "mac": "spec.bootMACAddress"}
    if namespace is not None and "namespace" not in labels:
        labels["namespace"] = namespace
        paths["labels.namespace"] = "metadata.namespace"
    facts = {key: value for key, value in hardware.items() if value}
    try:
        return parse_spec(name, {**entry, "labels": labels, "bmc": bmc if bmc["address"] else None, "hardware": facts})
    except InvalidError as error:
        where = str(error.details.get("key", ""))
        key = where.removeprefix(f"hosts.{name}.")
        path = paths.get(key) or f"{'metadata' if key.startswith('labels') else 'spec'}.{key}"
        raise bad_field(path, error.message.removeprefix(where).lstrip(": "), hint=error.hint) from error
