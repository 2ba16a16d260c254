"""Runs one step against one host and says how it went; knows nothing of inventories."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bmhctl.model import CheckResult, HostSpec
from bmhctl.policy import Step, StepKind


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a step runs: its environment, its working folder, and a descriptor that its process inherits."""

    environ: Mapping[str, str]
    folder: str
    inherit: int | None = None


def run(step: Step, spec: HostSpec, setting: Setting) -> CheckResult:
    """Runs a step and waits for its end, at most for its ``timeout``; a step that can't run is a failure."""
    started = time.monotonic()
    match step.kind:
        case StepKind.COMMAND:
            from bmhctl.probes.command import run_command

            verdict, detail = run_command(step, spec, setting)
        case StepKind.TCP:
            from bmhctl.probes.tcp import connect

            verdict, detail = connect(step, spec)
    return CheckResult(step.name, verdict, detail, time.monotonic() - started)
