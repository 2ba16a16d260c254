"""Hosts as BareMetalHost manifests that a cluster accepts and that `import` reads back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

import yaml

from bmhctl.domain.bmc_address import redfish_endpoint
from bmhctl.domain.host_spec import is_ip
from bmhctl.domain.model import Bmc, Host, State
from bmhctl.domain.units import quantity
from bmhctl.errors import InvalidError
from bmhctl.formats.import_batch import is_link_local
from bmhctl.formats.yaml_reader import needs_quotes

_STATUS = "baremetalhost.metal3.io/status"
_PAUSED = "baremetalhost.metal3.io/paused"
_MEBIBYTE = 1024**2
_MOST_DISKS = 1000
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_NOT_IN_NAME = re.compile(r"[^a-z0-9.-]+")
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}(?:\1[0-9a-f]{4}){2}\1[0-9a-f]{12}")
_STATES = {
    State.AVAILABLE: "available",
    State.RESERVED: "externally provisioned",
    State.TAINTED: "deprovisioning",
}


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield one YAML document per host; raise `InvalidError` for a name that Metal3 refuses."""
    dumper = _dumper()
    for host in hosts:
        if _UUID.fullmatch(host.name):
            raise InvalidError(
                "its name is a UUID, which Metal3 refuses",
                host=host.name,
                hint=f"bmhctl rename {host.name} host-{host.name}, or export only some hosts: -l SELECTOR",
            )
        yield "---\n" + yaml.dump(_manifest(host), Dumper=dumper, sort_keys=False, allow_unicode=True, width=1000)


def _dumper() -> type[yaml.SafeDumper]:
    """Return a dumper that quotes what YAML 1.2 reads as a number; PyYAML writes YAML 1.1, where ``0E0`` is a text."""

    class Dumper(yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, "'" if needs_quotes(value) else None)

    Dumper.add_representer(str, text)
    return Dumper


def _manifest(host: Host) -> dict[str, object]:
    """Return the manifest of a host; its status is in the annotation from which Metal3 restores it after a move."""
    labels = dict(host.spec.labels)
    namespace = labels.get("namespace")
    if namespace is not None and _NAMESPACE.fullmatch(namespace):
        del labels["namespace"]
    else:
        namespace = None
    state = _state(host)
    annotations = {_STATUS: json.dumps(_status(host, state), ensure_ascii=False)}
    if host.state is State.MAINTENANCE:
        annotations[_PAUSED] = ""
    owner = host.reservation.owner if host.reservation is not None else None
    return {
        "apiVersion": "metal3.io/v1alpha1",
        "kind": "BareMetalHost",
        "metadata": _set({"name": host.name, "namespace": namespace, "labels": labels, "annotations": annotations}),
        "spec": _set(
            {
                "online": state is State.RESERVED,
                "bootMACAddress": host.spec.mac,
                "bmc": _bmc(host.name, host.spec.bmc),
                "description": host.spec.note,
                # A cluster never wipes or installs a host that something else has provisioned.
                "externallyProvisioned": True if state is State.RESERVED else None,
                "consumerRef": owner and _reference(owner),
            }
        ),
    }


def _state(host: Host) -> State:
    """Return the state without its maintenance; a host that was used and not cleaned since is never shown as free."""
    if host.state is not State.MAINTENANCE:
        return host.state
    if host.reservation is not None:
        return State.RESERVED
    return State.TAINTED if host.dirty or host.came_from is None else host.came_from


def _status(host: Host, state: State) -> dict[str, object]:
    word = _STATES.get(state) or ("unmanaged" if host.spec.bmc is None else "registering")
    return _set(
        {
            "operationalStatus": "error" if host.fault else "OK",
            "errorType": "provisioned registration error" if host.fault else None,
            "errorMessage": host.fault or "",
            "errorCount": 1 if host.fault else 0,
            "poweredOn": state is State.RESERVED,
            "hardwareProfile": "",
            "provisioning": {"ID": "", "image": {"url": ""}, "state": word},
            "hardware": _hardware(host),
        }
    )


def _hardware(host: Host) -> dict[str, object] | None:
    known, address = host.spec.hardware, host.spec.address or ""
    cpus, arch, memory = known.get("cpus"), known.get("arch"), _bytes(known.get("memory"))
    vendor = {key: known.get(name) for key, name in _VENDOR.items() if isinstance(known.get(name), str)}
    hardware = {
        "cpu": _set(
            {"arch": arch if isinstance(arch, str) else None, "count": cpus if isinstance(cpus, int) else None}
        ),
        "ramMebibytes": memory // _MEBIBYTE if memory and memory % _MEBIBYTE == 0 else None,
        "nics": [{"ip": address, "pxe": True}] if is_ip(address) and not is_link_local(address) else None,
        "storage": _disks(known),
        "systemVendor": vendor,
    }
    return {key: value for key, value in hardware.items() if value} or None


_VENDOR = {"manufacturer": "vendor", "productName": "model", "serialNumber": "serial"}


def _disks(known: Mapping[str, object]) -> list[dict[str, object]]:
    """Return disks of about equal size: their number and their total are declared, the size of each is not."""
    count, total = known.get("disks"), _bytes(known.get("storage")) or 0
    if not isinstance(count, int) or not 0 < count <= _MOST_DISKS:
        count = 1 if total else 0
    sizes = [total // count] * count if count else []
    if sizes:
        sizes[0] += total - sum(sizes)
    return [{"name": f"disk{number}", "sizeBytes": size} for number, size in enumerate(sizes)]


def _bytes(value: object) -> int | None:
    number = quantity(str(value)) if value is not None else None
    return int(number) if number is not None else None


def _bmc(name: str, bmc: Bmc | None) -> dict[str, object] | None:
    if bmc is None:
        return None
    variable = (bmc.credentials or "").removeprefix("env:").removeprefix("BMC_") if bmc.credentials else ""
    secret = _NOT_IN_NAME.sub("-", variable.lower()).strip("-.") if (bmc.credentials or "").startswith("env:") else ""
    return _set(
        {
            "address": _address(bmc),
            "credentialsName": secret or f"{name}-bmc",
            "disableCertificateVerification": None if bmc.verify_tls else True,
        }
    )


def _address(bmc: Bmc) -> str:
    """Return the address of a BMC with what Metal3 needs in it: Redfish as the protocol, and the path of the system."""
    try:
        service, chosen = redfish_endpoint(bmc.address), redfish_endpoint(bmc.address, bmc.system_id)
    except ValueError:
        return bmc.address
    if service is None or chosen is None:
        return bmc.address
    scheme, _, rest = bmc.address.partition("://")
    if chosen.system != service.system:
        rest = f"{chosen.url.partition('://')[2]}{chosen.system}"
    return f"{'redfish+' if scheme in ('http', 'https') else ''}{scheme}://{rest}"


def _reference(owner: str) -> dict[str, str]:
    """Return an owner as a reference, which `import` reads as the same owner."""
    parts = owner.split("/", 2)
    keys = {2: ("kind", "name"), 3: ("kind", "namespace", "name")}.get(len(parts))
    if keys is None or not all(parts):
        return {"name": owner}
    return dict(zip(keys, parts, strict=True))


def _set(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None and value != {}}
