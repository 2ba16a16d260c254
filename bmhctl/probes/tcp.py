"""The ``tcp`` step: can a connection be opened?"""

from __future__ import annotations

import socket

from bmhctl.model import HostSpec, Verdict
from bmhctl.policy import Step


def connect(step: Step, spec: HostSpec) -> tuple[Verdict, str]:
    """Passes when the host's address accepts a connection on the step's port in time."""
    if spec.address is None:
        return Verdict.FAIL, f"it has no address to reach port {step.port} at"
    where = f"{spec.address} port {step.port}"
    try:
        socket.create_connection((spec.address, step.port), timeout=step.timeout.total_seconds()).close()
    except TimeoutError:
        return Verdict.FAIL, f"{where}: no answer in {step.timeout.total_seconds():g} s"
    except OSError as error:
        return Verdict.FAIL, f"{where}: {error.strerror or error}"
    return Verdict.PASS, f"{where} is open"
