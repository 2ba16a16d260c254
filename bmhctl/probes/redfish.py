"""The ``redfish`` step: asks a BMC for health and power, or switches power and resets."""

from __future__ import annotations

from bmhctl.model import HostSpec, Verdict
from bmhctl.policy import Demand, Step
from bmhctl.probes import Setting
from bmhctl.probes.bmc import BmcError, Controller, Power


def consult(step: Step, spec: HostSpec, setting: Setting) -> tuple[Verdict, str]:
    """A check passes when health and power are what is asked; a health that is not reported is unknown, never a pass.

    A cleanup step passes when the reset is sent and the power is where it was wanted.
    """
    demand = step.demand or Demand()
    try:
        controller = Controller(spec.bmc, setting.environ, step.timeout)
        if demand.acts:
            return Verdict.PASS, _act(controller, demand, setting)
        return _look(controller, demand)
    except BmcError as error:
        return Verdict.FAIL, error.message


def _act(controller: Controller, demand: Demand, setting: Setting) -> str:
    done = []
    if demand.reset is not None:
        controller.reset(demand.reset)
        done.append(f"reset {demand.reset}")
    if demand.power is not None:
        done.append(f"power {controller.set_power(Power(demand.power), setting.cancelled)}")
    return ", ".join(done)


def _look(controller: Controller, demand: Demand) -> tuple[Verdict, str]:
    verdict, said = Verdict.PASS, []
    for name, wanted, ask in (("health", demand.health, controller.health), ("power", demand.power, controller.power)):
        if wanted is None:
            continue
        found = ask()
        said.append(f"{name} {found}")
        if found.lower() != wanted.lower():
            verdict = Verdict.UNKNOWN if found == "unknown" and verdict is not Verdict.FAIL else Verdict.FAIL
    return verdict, ", ".join(said)
