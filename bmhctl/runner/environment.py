"""What a task knows of the hosts it runs on: ``BMH_*`` variables, and the line that ``--shell`` prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from bmhctl.model import Host, HostSpec
from bmhctl.results import Held

VARIABLES: dict[str, str] = {
    "BMH_RESERVATION": "the reservation's id: the fencing token that bmhctl takes for -R",
    "BMH_HOSTS": "the names of the hosts, with spaces between them, in the order of what was asked for",
    "BMH_COUNT": "how many they are",
    "BMH_HOST": "the first host's name",
    "BMH_ADDRESS": "its address",
    "BMH_MAC": "its MAC address",
    "BMH_BMC_ADDRESS": "its BMC's address; also BMH_BMC_TYPE and BMH_BMC_SYSTEM_ID",
    "BMH_LABEL_<KEY>": "each of its labels; letters in upper case, all else but digits as _",
    "BMH_HARDWARE_<KEY>": "each of its hardware facts, likewise",
    "BMH_<n>_HOST": "the name of the n-th host, from 1; BMH_<n>_ADDRESS and all the others likewise",
    "BMHCTL_INVENTORY": "the inventory, so that bmhctl inside the task means the same one",
    "BMHCTL_ACTOR": "who acts, likewise",
}
"""Every variable that ``run`` sets; those of a fact that is not declared are not set."""


def task_environment(held: Held, inventory: str, actor: str) -> dict[str, str]:
    """The variables of :data:`VARIABLES` for a reservation."""
    environment = {
        "BMH_RESERVATION": held.reservation.id,
        "BMH_HOSTS": " ".join(host.name for host in held.hosts),
        "BMH_COUNT": str(len(held.hosts)),
        "BMHCTL_INVENTORY": inventory,
        "BMHCTL_ACTOR": actor,
    }
    for number, host in enumerate(held.hosts, 1):
        facts = dict(_facts(host.spec))
        environment.update((f"BMH_{number}_{name}", value) for name, value in facts.items())
        if number == 1:
            environment.update((f"BMH_{name}", value) for name, value in facts.items())
    return environment


def export_line(reservation: str, hosts: Sequence[Host]) -> str:
    """What ``eval`` turns into variables, in any POSIX shell."""
    names = " ".join(host.name for host in hosts)
    first = hosts[0] if hosts else None
    words = [f"BMH_RESERVATION={shlex.quote(reservation)}", f"BMH_HOSTS={shlex.quote(names)}"]
    if first is not None:
        words.append(f"BMH_HOST={shlex.quote(first.name)}")
        if first.spec.address is not None:
            words.append(f"BMH_ADDRESS={shlex.quote(first.spec.address)}")
    return f"export {' '.join(words)}"


def unset_line(status: int) -> str:
    """What ``eval`` turns into a failure with this status, and no stale variables."""
    return f"unset BMH_RESERVATION BMH_HOSTS BMH_HOST BMH_ADDRESS; (exit {status})"


def _facts(spec: HostSpec) -> Iterator[tuple[str, str]]:
    yield "HOST", spec.name
    bmc = spec.bmc
    for name, value in (
        ("ADDRESS", spec.address),
        ("MAC", spec.mac),
        ("BMC_ADDRESS", bmc and bmc.address),
        ("BMC_TYPE", bmc and bmc.type),
        ("BMC_SYSTEM_ID", bmc and bmc.system_id),
    ):
        if value:
            yield name, value
    for prefix, facts in (("LABEL", spec.labels), ("HARDWARE", spec.hardware)):
        for key, fact in facts.items():
            yield f"{prefix}_{re.sub('[^A-Z0-9]', '_', key.upper())}", str(fact)
