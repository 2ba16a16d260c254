"""Run one step against one host, with retries, and return its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, HostSpec, Verdict
from bmhctl.domain.policy import Step, StepKind
from bmhctl.probes.cancellation import InterruptedStepError
from bmhctl.probes.placeholders import UnfillableError
from bmhctl.probes.step_environment import StepEnvironment

if TYPE_CHECKING:
    from bmhctl.probes.outputs import Outputs

RETRY_PAUSE = 1.0
"""Seconds between two tries of a step."""


def run(step: Step, spec: HostSpec, environment: StepEnvironment) -> CheckResult:
    """Run a step, and repeat it as often as it has retries while it fails; return its result.

    Each try takes at most the timeout of the step. A step that can't run has failed.
    """
    started = time.monotonic()
    for attempt in range(step.retries + 1):
        outputs: Outputs | None = None
        if step.properties:
            from bmhctl.probes.outputs import Outputs

            outputs = Outputs(step.properties)
        verdict, detail = _try(step, spec, environment, outputs)
        if verdict is Verdict.PASS or attempt == step.retries or environment.cancelled.wait(RETRY_PAUSE):
            break
    if attempt and verdict is not Verdict.PASS:
        detail = f"{detail} (tried {attempt + 1} times)"
    observed = outputs.found if outputs is not None and verdict is Verdict.PASS else {}
    return CheckResult(step.name, verdict, detail, time.monotonic() - started, phase=step.phase, observed=observed)


def _try(step: Step, spec: HostSpec, environment: StepEnvironment, outputs: Outputs | None) -> tuple[Verdict, str]:
    try:
        match step.kind:
            case StepKind.COMMAND:
                from bmhctl.probes.command import run_command

                return run_command(step, spec, environment, outputs)
            case StepKind.TCP:
                from bmhctl.probes.tcp import connect

                return connect(step, spec, environment)
            case StepKind.HTTP:
                from bmhctl.probes.http import fetch

                return fetch(step, spec, environment)
            case StepKind.REDFISH:
                from bmhctl.probes.redfish import consult

                return consult(step, spec, environment)
    except UnfillableError as error:
        return Verdict.FAIL, str(error)
    except InterruptedStepError:
        return Verdict.UNKNOWN, "interrupted"
