"""Combine the hosts of several files or documents into one import batch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from itertools import chain, count
from pathlib import Path

from bmhctl.domain.host_spec import duplicates
from bmhctl.domain.import_batch import ImportBatch, ImportedHost
from bmhctl.domain.model import Host, HostSpec, Note, PropertyValue, Reservation, State
from bmhctl.domain.selector import Selector
from bmhctl.errors import InvalidError
from bmhctl.support.values import Frozen, field, replace

MAX_BYTES = 256 * 1024 * 1024
"""The most bytes of a file to import. A longer file is a mistake, and would not fit into memory."""

_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9]")

Source = tuple[str, str]
"""A namespace, which may be empty, and a name in it."""


class Nic(Frozen):
    """A network interface whose address a manifest declares; ``pxe`` says that the host boots from it."""

    mac: str
    ip: str
    pxe: bool


class FoundHost(ImportedHost):
    """A host of one file, before the files are combined.

    ``source`` is the host's namespace and name in a cluster, ``secret`` those of its BMC's Secret. ``pinned`` are the
    hardware properties that its own manifest declares: inspected properties do not replace them. ``id`` is the
    identifier of the host in another system, if it differs from the name.
    """

    source: Source | None = None
    secret: Source | None = None
    pinned: Mapping[str, PropertyValue] = field(default_factory=dict)
    id: str | None = None
    warnings: tuple[str, ...] = ()


class FoundHardware(Frozen):
    """The hardware properties in a HardwareData, for the host of the same namespace and name.

    ``origin`` is the position of the HardwareData, for messages.
    """

    source: Source
    properties: Mapping[str, PropertyValue]
    nics: tuple[Nic, ...]
    origin: str


class Part(Frozen):
    """What one file contains; ``looks_like`` is what it seems to be if it has nothing to import.

    ``elsewhere`` is true if the file has records that are read together with those of other files. ``planned`` are the
    ids of the bookings and planned maintenances of its hosts, which are not imported.
    """

    hosts: tuple[FoundHost, ...] = ()
    hardware: tuple[FoundHardware, ...] = ()
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: str | None = None
    looks_like: str | None = None
    elsewhere: bool = False
    planned: frozenset[str] = frozenset()


def entering(
    spec: HostSpec,
    state: State,
    now: datetime,
    *,
    owner: str | None = None,
    fault: str | None = None,
    aside: Sequence[str] = (),
) -> Host:
    """Return a host in the state in which it enters the inventory.

    ``owner`` uses it in the other system, ``fault`` is its fault there, ``aside`` the reason of its maintenance there.
    """
    came_from, reservation = None, None
    if owner is not None:
        # A machine in use stays reserved despite a fault: if it were tainted, a cleanup would wipe it while it is used.
        state = State.RESERVED
        reservation = Reservation("", owner, "in use elsewhere", now, expires_at=None, ttl=None)
    elif fault is not None:
        state = State.TAINTED
    if aside:
        came_from = None if state is State.MAINTENANCE else state
        state = State.MAINTENANCE
    return Host(
        spec,
        state,
        since=now,
        # A file that has only the maintenance of a host does not say whether the host is clean.
        dirty=(came_from or state) not in (State.INITIAL, State.AVAILABLE),
        came_from=came_from,
        maintenance=tuple(Note("import", reason, now) for reason in aside),
        fault=fault,
        reservation=reservation,
    )


def combine(parts: Iterable[Part], only: Selector | None = None) -> ImportBatch:
    """Return one batch of several parts, with a warning for every MAC or address that several hosts have.

    Hosts that do not match ``only`` are left out. Raises :class:`InvalidError` for a second policy, and for a name that
    two hosts have; the error names both places.
    """
    parts = tuple(parts)
    hosts, without_host = _with_hardware(
        chain.from_iterable(part.hosts for part in parts), chain.from_iterable(part.hardware for part in parts)
    )
    if only is not None:
        hosts = [each for each in hosts if only.fits(each.host.spec)]
    _refuse_same_names(hosts)
    arrivals = tuple(ImportedHost(each.host, each.source_state, each.origin) for each in _with_credentials(hosts))
    policies = [part.policy for part in parts if part.policy is not None]
    if len(policies) > 1:
        raise InvalidError(
            "several of these files have a policy, but an inventory has only one",
            hint="import them one by one, or take the policy out of all but one",
        )
    skipped = (*chain.from_iterable(part.skipped for part in parts), *without_host)
    warnings = [
        *chain.from_iterable(part.warnings for part in parts),
        *duplicates(arrival.host.spec for arrival in arrivals),
    ]
    if planned := frozenset(chain.from_iterable(part.planned for part in parts)):
        what = "bookings and planned maintenances in the files, not imported"  # they belong to the other inventory
        warnings.append(f"{what}: {len(planned)}; bmhctl copy keeps them")
    return ImportBatch(
        arrivals,
        skipped=tuple(map(_short, skipped)),
        warnings=tuple(map(_short, warnings)),
        policy=policies[0] if policies else None,
    )


_LONGEST_LINE = 900


def _short(line: str) -> str:
    """Return a line about a record, with its very long keys and values cut."""
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def _refuse_same_names(hosts: Iterable[FoundHost]) -> None:
    seen: dict[str, FoundHost] = {}
    for found in hosts:
        first = seen.setdefault(found.host.name, found)
        if first is found:
            continue
        hint = "a name is unique in an inventory: remove or rename one of them, or import them into two inventories"
        if found.source and first.source and found.source[0] != first.source[0]:
            hint = "a name is unique in an inventory: import --name '{namespace}-{name}' distinguishes them"
        elif found.source and found.source == first.source:
            hint = "remove one of them; if it is a patch for kustomize: kubectl kustomize FOLDER | bmhctl import -"
        elif found.id and first.id and found.id != first.id:
            hint = "a name is unique in an inventory: import --name '{name}-{id}' distinguishes them"
        raise InvalidError(
            f"{found.origin}: host {found.host.name!r} is already in {first.origin}",
            host=found.host.name,
            hint=hint,
            details={"origins": [first.origin, found.origin]},
        )


def _with_hardware(hosts: Iterable[FoundHost], hardware: Iterable[FoundHardware]) -> tuple[list[FoundHost], list[str]]:
    """Return the hosts with the properties of their HardwareData, and a line for each HardwareData without a host."""
    inspected: dict[Source, FoundHardware] = {}
    for each in hardware:
        first = inspected.setdefault(each.source, each)
        if first is not each:
            raise InvalidError(
                f"{each.origin}: HardwareData {'/'.join(filter(None, each.source))!r} is already in {first.origin}",
                hint="remove one of them",
                details={"origins": [first.origin, each.origin]},
            )
    found = [_inspected(host, inspected.pop(host.source, None)) if host.source else host for host in hosts]
    return found, [
        f"{each.origin}: HardwareData {each.source[1]!r} skipped: these files have no BareMetalHost of its name and "
        "namespace"
        for each in inspected.values()
    ]


def _inspected(found: FoundHost, hardware: FoundHardware | None) -> FoundHost:
    if hardware is None:
        return found
    spec = found.host.spec
    return _with_spec(
        found,
        replace(
            spec,
            hardware={**spec.hardware, **hardware.properties, **found.pinned},
            address=address_of(hardware.nics, spec.mac) or spec.address,
        ),
    )


def _with_spec(found: FoundHost, spec: HostSpec) -> FoundHost:
    return replace(found, host=replace(found.host, spec=spec))


def address_of(nics: Iterable[Nic], boot_mac: str | None) -> str | None:
    """Return the address of the NIC that the host boots from, else of any NIC; IPv4 if possible, never link-local."""
    best: tuple[int, int] = (3, 0)
    address = None
    for nic in nics:
        boots = boot_mac is not None and nic.mac.lower() == boot_mac.lower()
        rank = (0 if boots else 1 if nic.pxe else 2, 6 if ":" in nic.ip else 4)
        if rank < best and not is_link_local(nic.ip):
            best, address = rank, nic.ip
    return address


def is_link_local(ip: str) -> bool:
    """Return whether an IP address is valid only in its own network."""
    return ip.startswith("169.254.") if ":" not in ip else ip_address(ip).is_link_local


def reference(*names: str) -> str:
    """Return a reference to an environment variable that is named after a Secret of a cluster."""
    return f"env:BMC_{'_'.join(_NOT_IN_VARIABLE.sub('_', name.upper()) for name in names)}"


def _with_credentials(hosts: Iterable[FoundHost]) -> list[FoundHost]:
    """Return the hosts with references to credentials; each Secret has its own variable."""
    hosts = list(hosts)
    wanted: defaultdict[str, set[Source]] = defaultdict(set)
    for found in hosts:
        bmc = found.host.spec.bmc
        if found.secret is not None and bmc is not None and bmc.credentials is not None:
            wanted[bmc.credentials].add(found.secret)
    shared = [secrets for secrets in wanted.values() if len(secrets) > 1]
    if not shared:
        return hosts
    taken = set(wanted)
    variables: dict[Source, str] = {}
    for secret in sorted(chain.from_iterable(shared)):
        plain = reference(*filter(None, secret))
        numbered = (f"{plain}_{number}" for number in count(2))
        variables[secret] = next(each for each in chain((plain,), numbered) if each not in taken)
        taken.add(variables[secret])
    return [_with_variable(found, variables[found.secret]) if found.secret in variables else found for found in hosts]


def _with_variable(found: FoundHost, variable: str) -> FoundHost:
    spec = found.host.spec
    return found if spec.bmc is None else _with_spec(found, replace(spec, bmc=replace(spec.bmc, credentials=variable)))


def read_file(path: Path) -> bytes:
    """Return the content of a file, up to one byte more than :func:`decode` accepts."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def decode(text: bytes, origin: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark; else raise :class:`InvalidError`."""
    if len(text) > MAX_BYTES:
        raise InvalidError(
            f"{origin}: longer than {MAX_BYTES // 1024**2} MiB", hint="split the file", details={"file": origin}
        )
    marked = text.startswith((b"\xff\xfe", b"\xfe\xff"))  # PowerShell writes redirected output in UTF-16
    try:
        # Concatenated files may have byte order marks in the middle.
        return text.decode("utf-16" if marked else "utf-8-sig").replace("\n\ufeff", "\n")
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"{origin}: not UTF-8 text (at byte {error.start})",
            hint="save it as UTF-8; a file of Excel in western Europe: iconv -f WINDOWS-1252 -t UTF-8 FILE",
            details={"file": origin},
        ) from error
