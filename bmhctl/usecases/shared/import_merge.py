"""Merge an imported host into a known one; values that were set here stay.

The inventory keeps the values of each host from its last import. A value that is still the same as then is replaced by
the value in the file; any other value was set here and stays. Without an earlier import, every value counts as set
here.
"""

from __future__ import annotations

from collections.abc import Mapping

from bmhctl.domain.bmc_address import same_system
from bmhctl.domain.model import Bmc, HostSpec, PropertyValue
from bmhctl.support.values import Frozen, replace

Values = dict[str, PropertyValue]
"""The declared values of a host by their names, such as ``note``, ``labels.rack``, ``bmc.address``."""

_TEXTS = ("address", "mac", "note")
_GROUPS = ("labels", "hardware")
_OF_SYSTEM = ("bmc.address", "bmc.system_id")  # the values that name the system of a BMC
_BMC = ("address", "type", "system_id", "verify_tls", "tls_min_version")  # credentials are never imported


class Merged(Frozen):
    """A host's new declaration, and the old values that were kept: name, value here, value in the file.

    ``moved`` is whether the address of its BMC changed, so that its credentials are dropped.
    """

    spec: HostSpec
    kept: tuple[tuple[str, PropertyValue | None, PropertyValue], ...] = ()
    moved: bool = False


def values_of(spec: HostSpec) -> Values:
    """Return the declared values of a host, without its name and its credentials."""
    values: Values = {key: value for key in _TEXTS if (value := getattr(spec, key)) is not None}
    for key, label in spec.labels.items():
        values[f"labels.{key}"] = label
    for key, given in spec.hardware.items():
        values[f"hardware.{key}"] = given
    for key in _BMC if spec.bmc is not None else ():
        if (value := getattr(spec.bmc, key)) is not None:
            values[f"bmc.{key}"] = value
    return values


def merge(
    known: HostSpec, brought: HostSpec, last: Mapping[str, PropertyValue] | None, *, overwrite: bool = False
) -> Merged:
    """Return the new declaration of a known host for which a file declares ``brought``.

    ``last`` are the values of the last import; None if there was none. ``overwrite`` uses every value of the file.
    Values that the file does not have stay.
    """
    here = values_of(known)
    values = dict(here)
    kept: list[tuple[str, PropertyValue | None, PropertyValue]] = []
    respelled = _is_respelled(known.bmc, brought.bmc)
    for key, there in values_of(brought).items():
        if here.get(key) == there or (respelled and key in _OF_SYSTEM):
            continue
        if key.startswith("bmc.") and any(name == "bmc.address" for name, _, _ in kept):
            continue  # the value belongs to another BMC than the one that is kept
        if overwrite or (here.get(key) == last[key] if last is not None and key in last else key not in here):
            values[key] = there
        else:
            kept.append((key, here.get(key), there))
    moved = known.bmc is not None and values.get("bmc.address") != known.bmc.address
    if moved and (brought.bmc is None or brought.bmc.system_id is None):
        values.pop("bmc.system_id", None)  # the id names a system of the former BMC
    has_credentials = known.bmc is not None and known.bmc.credentials is not None
    return Merged(_spec(known, brought, values, moved=moved), tuple(kept), moved and has_credentials)


def _is_respelled(known: Bmc | None, brought: Bmc | None) -> bool:
    """Return whether another address in the file names the same system: ``https://…`` and ``redfish+https://…``."""
    if known is None or brought is None or known.address == brought.address:
        return False
    return same_system((known.address, known.system_id), (brought.address, brought.system_id))


def _spec(known: HostSpec, brought: HostSpec, values: Mapping[str, PropertyValue], *, moved: bool) -> HostSpec:
    """Return the declaration with these values.

    Credentials are never imported, and are dropped when the BMC moved; otherwise the author of a manifest could have
    them sent to any machine.
    """
    groups: dict[str, dict[str, PropertyValue]] = {group: {} for group in _GROUPS}
    for key, value in values.items():
        group, _, name = key.partition(".")
        if group in groups:
            groups[group][name] = value
    bmc = None
    if "bmc.address" in values:
        owner = brought.bmc if known.bmc is None else known.bmc
        bmc = Bmc(
            str(values["bmc.address"]),
            type=_text(values, "bmc.type"),
            system_id=_text(values, "bmc.system_id"),
            credentials=None if moved or owner is None else owner.credentials,
            verify_tls=bool(values.get("bmc.verify_tls", True)),
            tls_min_version=_text(values, "bmc.tls_min_version"),
        )
    return replace(
        known,
        address=_text(values, "address"),
        mac=_text(values, "mac"),
        note=_text(values, "note"),
        labels={key: str(value) for key, value in groups["labels"].items()},
        hardware=groups["hardware"],
        bmc=bmc,
    )


def _text(values: Mapping[str, PropertyValue], key: str) -> str | None:
    value = values.get(key)
    return None if value is None else str(value)
