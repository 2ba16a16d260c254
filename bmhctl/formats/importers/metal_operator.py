"""Servers of IronCore's metal-operator, with their BMCs, claims and maintenances."""

from __future__ import annotations

from collections import defaultdict

from bmhctl.domain.model import State
from bmhctl.domain.units import format_size, quantity
from bmhctl.formats.import_batch import Source, address_of, reference
from bmhctl.formats.importers.record import Item, Reader, Record, bmc_url, nic, size, state_of, text_of, texts, whole
from bmhctl.formats.manifest_fields import Fields

STATES: dict[str, State | None] = {
    **dict.fromkeys(("", "initial", "discovery"), State.INITIAL),
    "available": State.AVAILABLE,
    "reserved": State.RESERVED,
    **dict.fromkeys(("released", "tainted", "error"), State.TAINTED),
    **dict.fromkeys(("parked", "maintenance"), State.MAINTENANCE),
}
"""The states of a Server, each with the state of a host in it."""

_JOINED = ("BMC", "Endpoint", "ServerClaim", "ServerMaintenance")
_ARCHITECTURES = {"x86-64": "x86_64", "ARM-A64": "aarch64", "amd64": "x86_64", "arm64": "aarch64"}


class _Cluster:
    """The objects of a cluster by kind and name, and the claims and maintenances by the name of their server."""

    def __init__(self, items: list[Item]) -> None:
        self.objects: dict[tuple[str, str], Fields] = {}
        self.of_server: defaultdict[tuple[str, str], list[Fields]] = defaultdict(list)
        for item in items:
            kind, name = item.data.get("kind"), _name(item.fields)
            if not isinstance(kind, str) or name is None:
                continue
            self.objects[kind, name] = item.fields
            reference = item.data.get("spec")
            server = reference.get("serverRef") if isinstance(reference, dict) else None
            if isinstance(server, dict) and isinstance(to := server.get("name"), str):
                self.of_server[kind, to].append(item.fields)

    def get(self, kind: str, name: str | None) -> Fields:
        """Return an object, or one without fields if the cluster has no such object."""
        return self.objects.get((kind, name or ""), Fields({}))


def reader(items: list[Item]) -> Reader:
    """Return the reader of Servers; it looks up the BMCs, claims and maintenances of a Server in ``items``."""
    cluster = _Cluster(items)

    def read(item: Item) -> Record | str:
        kind, fields = item.data.get("kind"), item.fields
        if kind == "Server":
            return _server(fields, cluster)
        title = f"{kind!s:.80} {_name(fields)!r:.80} skipped"
        if kind == "BMCSecret":
            return f"{title}: secrets are never stored"
        if kind not in _JOINED:
            return f"{title}: not a Server"
        to = fields.fields("spec").fields("serverRef").line("name") if "Server" in str(kind) else None
        return (
            "" if to is None or ("Server", to) in cluster.objects else f"{title}: these files have no Server {to!r:.80}"
        )

    return read


def _name(fields: Fields) -> str | None:
    metadata = fields.data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None


def _server(fields: Fields, cluster: _Cluster) -> Record:
    metadata, spec, status = (fields.fields(key) for key in ("metadata", "spec", "status"))
    name = metadata.line("name")
    word, state = state_of(status, "state", STATES)
    gone = metadata.line("deletionTimestamp") is not None
    claims = cluster.of_server["ServerClaim", name or ""]
    claim = spec.fields("serverClaimRef")
    owner = _reference("ServerClaim", claim if claim else claims[0].fields("metadata") if claims else claim)
    if owner is not None and state in (State.INITIAL, State.AVAILABLE):
        state = State.RESERVED
    bmc, secret = _bmc(spec, cluster)
    board = spec.fields("bmcRef").line("name")
    interfaces = status.rows("networkInterfaces")
    nics = [nic(each, "ips", ip) for each in interfaces for ip in (*texts(each, "ips"), *texts(each, "ip"))]
    macs = [mac for each in interfaces if (mac := each.line("macAddress"))]
    processors = [each for each in status.rows("processors") if (each.line("type") or "CPU") == "CPU"]
    drives = [drive for storage in status.rows("storages") for drive in storage.rows("drives")]
    archs = [arch for each in processors if (arch := each.line("instructionSet") or each.line("architecture"))]
    return Record(
        name,
        id=metadata.line("uid"),
        address=address_of(nics, None),
        macs=macs,
        bmc=bmc,
        labels=dict(metadata.texts("labels")),
        attributes=metadata.fields("annotations").data,
        hardware={
            "cpus": sum(whole(each, "totalThreads") or whole(each, "totalCores") or 0 for each in processors),
            "arch": _ARCHITECTURES.get(archs[0], archs[0]) if archs else None,
            "memory": size(status, "totalSystemMemory", 1),
            "disks": len(drives),
            "storage": _sum(drives),
            "nics": len({mac.lower() for mac in macs}),
            "vendor": status.squeezed("manufacturer"),
            "model": status.squeezed("model"),
            "serial": status.squeezed("serialNumber"),
        },
        word=word,
        state=None if gone else state,
        gone="it is being deleted in the cluster",
        owner=owner,
        fault="in state Error in the cluster" if word == "Error" else None,
        aside=_aside(word, state, spec, cluster.of_server["ServerMaintenance", name or ""]),
        secret=secret,
        warnings=() if bmc or board is None else [f"{name} gets no BMC: these files have no BMC {board}"],
    )


def _reference(kind: str, to: Fields) -> str | None:
    name = to.line("name")
    return "/".join(filter(None, (to.line("kind") or kind, to.line("namespace"), name))) if name else None


def _aside(word: str, state: State | None, spec: Fields, maintenances: list[Fields]) -> list[str]:
    given = _reference("ServerMaintenance", spec.fields("serverMaintenanceRef"))
    if given is not None:
        return [f"{given} in the cluster"]
    taints = [each.line("key") for each in spec.rows("taints") if each.line("effect") == "NoBind"]
    if taints and state in (State.INITIAL, State.AVAILABLE):
        return [f"taint {each} in the cluster" for each in taints]
    if state is State.MAINTENANCE:
        named = [_reference("ServerMaintenance", each.fields("metadata")) for each in maintenances]
        return [f"{each} in the cluster" for each in named if each] or [f"in state {word} in the cluster"]
    return []


def _sum(drives: list[Fields]) -> str | None:
    sizes = [quantity(text) for drive in drives if (text := text_of(drive.data.get("capacity")))]
    total = int(sum(each for each in sizes if each))
    return format_size(total) if total else None


def _bmc(spec: Fields, cluster: _Cluster) -> tuple[dict[str, object], Source | None]:
    """Return the BMC that a Server contains or refers to, and the Secret of its credentials."""
    inline = spec.fields("bmc")
    object_ = cluster.get("BMC", spec.fields("bmcRef").line("name"))
    access = inline or object_.fields("spec")
    endpoint = cluster.get("Endpoint", access.fields("endpointRef").line("name")).fields("spec")
    address = (
        inline.line("address")
        or (access.fields("access") or access.fields("endpoint")).line("ip")
        or endpoint.line("ip")
        or object_.fields("status").line("ip")
    )
    if address is None:
        return {}, None
    protocol = access.fields("protocol")
    name, port = protocol.line("name") or "Redfish", whole(protocol, "port")
    scheme = f"redfish+{protocol.line('scheme') or 'https'}" if name.startswith("Redfish") else name.lower()
    secret = access.fields("bmcSecretRef").line("name")
    return {
        "address": bmc_url(address, scheme),
        "port": port,
        "type": name,
        "system_id": spec.line("systemURI"),
        "credentials": reference(secret) if secret else None,
    }, ("", secret) if secret else None
