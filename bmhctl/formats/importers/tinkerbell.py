"""Tinkerbell Hardware, with the Machines or BaseboardManagements, which have the addresses of its BMCs."""

from __future__ import annotations

from bmhctl.domain.model import State
from bmhctl.formats.import_batch import Source, address_of, reference
from bmhctl.formats.importers.maas import ARCHITECTURES
from bmhctl.formats.importers.record import Item, Reader, Record, bmc_url, nic, size, texts, whole
from bmhctl.formats.manifest_fields import Fields

STATES: dict[str, State] = {
    **dict.fromkeys(("in_use", "provisioned", "active"), State.RESERVED),
    **dict.fromkeys(("deprovisioning", "deleted", "failed", "error"), State.TAINTED),
}
"""The words for a Hardware's state, each with the state of a host in it; any other word means initial."""

_BMCS = ("Machine", "BaseboardManagement")
"""The kinds that have the address of a BMC; the second is the older one, which EKS Anywhere writes."""

_OWNER = "v1alpha1.tinkerbell.org/ownerName"
_OWNER_SPACE = "v1alpha1.tinkerbell.org/ownerNamespace"


def reader(items: list[Item]) -> Reader:
    """Return the reader of Hardware; it finds the Machine of a Hardware in ``items``."""
    machines: dict[tuple[str, Source], Fields] = {}
    hardware: set[Source] = set()
    for item in items:
        where = _source(item.fields)
        if item.data.get("kind") in _BMCS:
            machines[str(item.data.get("kind")), where] = item.fields
        bmc = item.fields.fields("spec").data.get("bmcRef") if item.data.get("kind") == "Hardware" else None
        if isinstance(bmc, dict):
            hardware.add((where[0], str(bmc.get("name"))))

    def read(item: Item) -> Record | str:
        kind, fields = item.data.get("kind"), item.fields
        where = _source(fields)
        if kind == "Hardware" and str(item.data.get("apiVersion")).endswith("/v1alpha2"):
            return f"Hardware {where[1]!r:.80} skipped: import reads v1alpha1 of tinkerbell.org, not v1alpha2"
        if kind == "Hardware":
            return _hardware(fields, machines)
        if kind in _BMCS and where in hardware:
            return ""
        why = "no Hardware of these files refers to it" if kind in _BMCS else "not Hardware"
        return f"{kind!s:.80} {where[1]!r:.80} skipped: {why}"

    return read


def _source(fields: Fields) -> Source:
    metadata = fields.data.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    return str(found.get("namespace") or ""), str(found.get("name") or "")


def _hardware(fields: Fields, machines: dict[tuple[str, Source], Fields]) -> Record:
    metadata, spec, status = (fields.fields(key) for key in ("metadata", "spec", "status"))
    about = spec.fields("metadata")
    instance, resources = about.fields("instance"), spec.fields("resources")
    words = [status.line("state"), instance.line("state"), about.line("state")]
    word = next((each for each in words if each and each.lower() in STATES), None) or next(filter(None, words), None)
    state = STATES.get((word or "").lower(), State.INITIAL)
    labels = dict(metadata.texts("labels"))
    name, space = labels.get(_OWNER), labels.get(_OWNER_SPACE)
    owner = "/".join(filter(None, (space, name))) or None
    if owner is not None and state is State.INITIAL:
        state = State.RESERVED
    namespace = metadata.line("namespace")
    if namespace is not None:
        labels.setdefault("namespace", namespace)
    facility = about.fields("facility")
    booting = sorted(spec.rows("interfaces"), key=lambda each: not each.fields("netboot").flag("allowPXE"))
    leases = [interface.fields("dhcp") for interface in booting]
    archs = [arch for lease in leases if (arch := lease.line("arch"))]
    macs = [mac for lease in leases if (mac := lease.line("mac"))]
    wanted = spec.fields("bmcRef")
    machine = wanted.line("name")
    kinds = (wanted.line("kind"), *_BMCS)  # a reference without a kind, or with another one, still names one of them
    source = _source(fields)
    found = (machines.get((kind or "", (source[0], machine or ""))) for kind in kinds)
    bmc, secret = _bmc(source, next((each for each in found if each is not None), None))
    addresses = [lease.fields("ip") for lease in leases]
    nics = [nic(each, "address", ip) for each in addresses if (ip := each.line("address"))]
    return Record(
        metadata.line("name"),
        id=metadata.line("uid") or instance.line("id"),
        namespace=namespace,
        address=address_of(nics, None),
        macs=macs,
        bmc=bmc,
        labels={
            "facility": facility.line("facility_code"),
            "plan": facility.line("plan_slug"),
            **labels,
        },
        groups=texts(instance, "tags"),
        attributes=metadata.fields("annotations").data,
        hardware={
            "cpus": whole(resources, "cpu"),
            "arch": ARCHITECTURES.get(archs[0], archs[0]) if archs else None,
            "memory": size(resources, "memory", 1),
            "disks": len(spec.rows("disks")),
            "nics": len({mac.lower() for mac in macs}),
            "vendor": about.fields("manufacturer").line("slug"),
        },
        word=word,
        state=None if metadata.line("deletionTimestamp") else state,
        gone="it is being deleted in the cluster",
        owner=owner,
        fault=f"{word} in the cluster" if (word or "").lower() in ("error", "failed") else None,
        secret=secret,
        warnings=()
        if bmc or machine is None
        else [f"{metadata.line('name')} gets no BMC: these files have no {wanted.line('kind') or 'Machine'} {machine}"],
    )


def _bmc(hardware: Source, machine: Fields | None) -> tuple[dict[str, object], Source | None]:
    if machine is None:
        return {}, None
    connection = machine.fields("spec").fields("connection")
    options = connection.fields("providerOptions")
    redfish = "redfish" in options.data or not options
    secret = connection.fields("authSecretRef").line("name")
    port = whole(options.fields("redfish" if redfish else "ipmitool"), "port")
    if not redfish:
        port = port or whole(connection, "port")
    return {
        "address": bmc_url(connection.line("host"), "redfish+https" if redfish else "ipmi"),
        "port": port,
        "credentials": reference(secret) if secret else None,
        "verify_tls": False if connection.flag("insecureTLS") and redfish else None,
    }, (hardware[0], secret) if secret else None
