"""Hosts as an Ansible inventory, as an inventory script writes it: groups by label, state, owner and reservation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from bmhctl.domain.model import Host
from bmhctl.errors import InvalidError

_NOT_IN_GROUP = re.compile(r"[^A-Za-z0-9_]")
_TEMPLATE = re.compile(r"\{[{%#]")
_RESERVED = {"all": "all", "ungrouped": "ungrouped", "mine": "the hosts of $BMH_RESERVATION"}


def write(hosts: Iterable[Host], mine: str | None) -> Iterator[str]:
    """Yield the JSON of `--list`; raise `InvalidError` for two groups, or a group and a host, with the same name."""
    members: dict[str, list[str]] = {"mine": []}
    origins: dict[str, str] = dict(_RESERVED)
    variables: dict[str, dict[str, object]] = {}
    named: dict[tuple[str, str], str] = {}
    for host in hosts:
        variables[host.name] = _variables(host)
        for pair in _pairs(host):
            group = named.get(pair)
            if group is None:
                group = named[pair] = _claimed(pair, origins)
                members[group] = []
            members[group].append(host.name)
        if mine is not None and host.reservation is not None and host.reservation.id == mine:
            members["mine"].append(host.name)
    for name in origins.keys() & variables.keys():
        raise InvalidError(
            f"{name} is the name of a host, and of the Ansible group for {origins[name]}",
            host=name,
            hint=f"Ansible needs different names: bmhctl rename {name} NEW, or change the label",
        )
    document: dict[str, object] = {group: {"hosts": names} for group, names in sorted(members.items())}
    document["all"] = {"children": ["ungrouped", *sorted(members)]}
    # Without `_meta`, Ansible would call the script again for the variables of each host.
    yield json.dumps({"_meta": {"hostvars": variables}, **document}, ensure_ascii=False)
    yield "\n"


def _pairs(host: Host) -> Iterator[tuple[str, str]]:
    """Yield the keys and values that make the groups of a host: its labels, its state, its owner."""
    yield from host.spec.labels.items()
    yield "state", host.state.value
    if host.reservation is not None:
        yield "owner", host.reservation.owner


def _claimed(pair: tuple[str, str], origins: dict[str, str]) -> str:
    """Return the name of the group for a key and value, and record it; raise `InvalidError` if another group has it."""
    key, value = pair
    group = _NOT_IN_GROUP.sub("_", key if value in ("", "true") else f"{key}_{value}")
    if group[:1].isdigit():
        group = f"_{group}"
    said = f"{key}={value}"
    if group in origins:
        raise InvalidError(
            f"{said} and {origins[group]} would both be the Ansible group {group}",
            hint="change one of the labels, or export only some hosts: -l SELECTOR",
            details={"group": group},
        )
    origins[group] = said
    return group


def _variables(host: Host) -> dict[str, object]:
    spec, held = host.spec, host.reservation
    found: dict[str, object] = {
        "ansible_host": spec.address,
        "bmh_state": host.state.value,
        "bmh_owner": held and held.owner,
        "bmh_reservation": held and held.id,
        "bmh_mac": spec.mac,
        "bmh_labels": dict(spec.labels),
        "bmh_hardware": _plain(spec.properties),
        "bmh_bmc_address": spec.bmc and spec.bmc.address,
        "bmh_note": spec.note,
    }
    return _plain(found)


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that are set, without texts that Ansible would evaluate: a note must not run code."""
    return {
        key: value
        for key, value in values.items()
        if value is not None and not (isinstance(value, str) and _TEMPLATE.search(value))
    }
