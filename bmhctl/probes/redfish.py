"""The ``redfish`` step: asks a BMC for health and power, or switches power and resets."""

from __future__ import annotations

from bmhctl.domain.model import HostSpec, Power, Verdict
from bmhctl.domain.policy import RedfishStep, Step
from bmhctl.probes.redfish_client import BmcError, Controller, ask
from bmhctl.probes.setting import StepEnvironment


def consult(step: Step, spec: HostSpec, setting: StepEnvironment) -> tuple[Verdict, str]:
    """A check passes when health and power are what is asked; a health that is not reported is unknown, never a pass.

    A cleanup step passes when the reset is sent and the power is where it was wanted.
    """
    demand = step.demand or RedfishStep()
    try:
        answer = _act if demand.acts else _look
        return ask(spec.bmc, setting, step.timeout, lambda controller: answer(controller, demand))
    except BmcError as error:
        return Verdict.FAIL, error.message + (f" ({error.hint})" if error.hint else "")


def _act(controller: Controller, demand: RedfishStep) -> tuple[Verdict, str]:
    done = []
    if demand.reset is not None:
        controller.reset(demand.reset)
        done.append(f"reset {demand.reset}")
    if demand.power is not None:
        done.append(f"power {controller.set_power(Power(demand.power))}")
    return Verdict.PASS, ", ".join(done)


def _look(controller: Controller, demand: RedfishStep) -> tuple[Verdict, str]:
    verdict, said = Verdict.PASS, []
    for name, wanted, tell in (("health", demand.health, controller.health), ("power", demand.power, controller.power)):
        if wanted is None:
            continue
        found = tell()
        said.append(f"{name} {found}")
        if found.lower() != wanted.lower():
            verdict = Verdict.UNKNOWN if found == "unknown" and verdict is not Verdict.FAIL else Verdict.FAIL
    return verdict, ", ".join(said)
