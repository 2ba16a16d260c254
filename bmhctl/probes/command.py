"""The ``command`` step: runs a program without a shell, in a process group of its own."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from threading import Event
from typing import IO, cast

from bmhctl.model import HostSpec, Verdict
from bmhctl.policy import Step
from bmhctl.probes import Setting, fill

GRACE = 2.0
"""Seconds between the request to end (TERM) and the end (KILL) of a step that ran out of time."""

_KEPT = 4000
_DETAIL_LINES = 3


def run_command(step: Step, spec: HostSpec, setting: Setting) -> tuple[Verdict, str]:
    """Passes on exit 0; the last lines of what it printed are the detail.

    The command's group is ended when the time is up, when bmhctl is interrupted, and when the command itself
    ends: nothing of a step outlives it.
    """
    arguments = [fill(part, spec) for part in step.command]
    try:
        process = subprocess.Popen(
            arguments,
            cwd=setting.folder,
            env={**setting.environ, **host_environment(spec)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if setting.inherit is None else (setting.inherit,),
        )
    except OSError as error:
        return Verdict.FAIL, f"{arguments[0]}: {error.strerror}"
    try:
        output, in_time = _watch(process, step.timeout.total_seconds(), setting.cancelled)
    except BaseException:
        _end(process, 0)
        raise
    _end(process, 0 if in_time else GRACE)
    said = _last_lines(output)
    if not in_time:
        return Verdict.FAIL, f"took longer than {step.timeout.total_seconds():g} s" + (f": {said}" if said else "")
    status = process.returncode
    if status == 0:
        return Verdict.PASS, said
    ended = f"exit {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
    return Verdict.FAIL, ended + (f": {said}" if said else "")


def host_environment(spec: HostSpec) -> dict[str, str]:
    """What a step's process knows of its host: ``BMH_HOST``, ``BMH_ADDRESS``, ``BMH_LABEL_RACK`` and so on."""
    environment = {"BMH_HOST": spec.name}
    for name, value in (("ADDRESS", spec.address), ("MAC", spec.mac)):
        if value is not None:
            environment[f"BMH_{name}"] = value
    if spec.bmc is not None:
        environment["BMH_BMC_ADDRESS"] = spec.bmc.address
        for name, value in (("TYPE", spec.bmc.type), ("SYSTEM_ID", spec.bmc.system_id)):
            if value is not None:
                environment[f"BMH_BMC_{name}"] = value
    for prefix, facts in (("LABEL", spec.labels), ("HARDWARE", spec.hardware)):
        for key, fact in facts.items():
            environment[f"BMH_{prefix}_{re.sub('[^A-Z0-9]', '_', key.upper())}"] = str(fact)
    return environment


def _watch(process: subprocess.Popen[bytes], timeout: float, cancelled: Event) -> tuple[bytes, bool]:
    """The end of what a process prints, and whether it ended in time; its children may keep the pipe open."""
    deadline = time.monotonic() + timeout
    kept = b""
    with selectors.DefaultSelector() as selector, cast(IO[bytes], process.stdout) as pipe:
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ)
        open_pipe = True
        while process.poll() is None and (left := deadline - time.monotonic()) > 0 and not cancelled.is_set():
            if not open_pipe:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, 0.05))
            elif selector.select(min(left, 0.05)):
                chunk = pipe.read(65536)
                if chunk == b"":
                    open_pipe = False
                kept = (kept + (chunk or b""))[-_KEPT:]
        while open_pipe and (chunk := pipe.read(65536)) and time.monotonic() < deadline:
            kept = (kept + chunk)[-_KEPT:]
    return kept, process.returncode is not None


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    if grace:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-_DETAIL_LINES:])[-400:]
