"""The ``redfish`` step: asks a BMC for health and power, or switches power, resets and sets the next boot."""

from __future__ import annotations

from bmhctl.domain.model import BootTarget, HostSpec, Power, Verdict
from bmhctl.domain.policy import RedfishStep, Step
from bmhctl.probes import redfish_media
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.placeholders import fill
from bmhctl.probes.redfish_boot import boot_once
from bmhctl.probes.redfish_client import Client
from bmhctl.probes.redfish_conversation import ask
from bmhctl.probes.redfish_power import PowerSwitch
from bmhctl.probes.redfish_system import System
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.support.values import replace


def consult(step: Step, spec: HostSpec, environment: StepEnvironment) -> tuple[Verdict, str]:
    """Return the verdict and the detail of one try.

    A check passes if health and power have the demanded values; a value that the BMC does not report is unknown, never
    a pass. A cleanup step passes if the BMC shows the effect of each of its actions, in this order: ``eject``,
    ``insert``, ``boot_once``, ``reset``, ``power``.
    """
    demand = step.demand or RedfishStep()
    answer = _act if demand.acts else _look
    if demand.insert is not None:
        demand = replace(demand, insert=fill(demand.insert, spec, environment.params))
    try:
        return ask(spec.bmc, environment, step.timeout, lambda client: answer(client, demand))
    except BmcError as error:
        error.name_host(spec.name)
        return Verdict.FAIL, error.message + (f" ({error.hint})" if error.hint else "")


def _act(client: Client, demand: RedfishStep) -> tuple[Verdict, str]:
    system, done = System(client), []
    if demand.eject or demand.insert is not None:
        if demand.eject:
            done.append(redfish_media.eject(system))
        if demand.insert is not None:
            done.append(f"inserted {redfish_media.insert(system, demand.insert)}")
    if demand.boot_once is not None:
        done.append(f"boots once from {boot_once(system, BootTarget(demand.boot_once))}")
    if demand.reset is not None:
        PowerSwitch(system).reset(demand.reset)
        done.append(f"reset {demand.reset}")
    if demand.power is not None:
        done.append(f"power {PowerSwitch(system).set_power(Power(demand.power))}")
    return Verdict.PASS, ", ".join(done)


def _look(client: Client, demand: RedfishStep) -> tuple[Verdict, str]:
    system = System(client)
    verdict, said = Verdict.PASS, []
    power = system.settled_power() if demand.power is not None else ""
    for name, wanted, found in (("health", demand.health, system.health()), ("power", demand.power, power)):
        if wanted is None:
            continue
        said.append(f"{name} {found}")
        if found.lower() != wanted.lower():
            verdict = Verdict.UNKNOWN if found == "unknown" and verdict is not Verdict.FAIL else Verdict.FAIL
    return verdict, ", ".join(said)
