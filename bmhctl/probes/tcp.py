"""The ``tcp`` step: open a connection."""

from __future__ import annotations

import socket

from bmhctl.domain.model import HostSpec, Verdict
from bmhctl.domain.policy import Step
from bmhctl.probes.cancellation import within
from bmhctl.probes.ipv6_zone import zone_trouble
from bmhctl.probes.step_environment import StepEnvironment


def connect(step: Step, spec: HostSpec, environment: StepEnvironment) -> tuple[Verdict, str]:
    """Return a pass if the host accepts a connection on the step's port within the timeout."""
    if spec.address is None:
        return Verdict.FAIL, f"it has no address, so port {step.port} can't be reached"
    there, seconds = (spec.address, step.port), step.timeout.total_seconds()
    where = f"{spec.address} port {step.port}"
    try:
        within(seconds, environment.cancelled, lambda: socket.create_connection(there, timeout=seconds).close())
    except TimeoutError:
        return Verdict.FAIL, f"{where}: no answer in {seconds:g} s"
    except (OSError, UnicodeError) as error:
        words = zone_trouble(spec.address, error) or getattr(error, "strerror", None) or error
        return Verdict.FAIL, f"{where}: {words}"
    return Verdict.PASS, f"{where} is open"
