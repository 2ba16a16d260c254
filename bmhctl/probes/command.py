"""The ``command`` step: run a program without a shell, in its own process group."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, TYPE_CHECKING, cast

from bmhctl.domain.host_spec import host_variables
from bmhctl.domain.model import HostSpec, Verdict
from bmhctl.domain.policy import Step
from bmhctl.probes.cancellation import Cancelled
from bmhctl.probes.placeholders import fill
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.support import watchdog
from bmhctl.support.fork_lock import STARTING
from bmhctl.support.programs import why_missing
from bmhctl.support.values import Frozen, replace

if TYPE_CHECKING:
    from bmhctl.probes.outputs import Outputs

GRACE = 2.0
"""Seconds between the request to end (TERM) and the end (KILL) of a step that ran out of time."""

_TICK = 0.05  # seconds between two checks whether a program without output has ended, or must be ended
_PATIENCE = 5.0  # seconds to wait for the end of a guard
_CHUNK = 1 << 16
_MOST_IN_PIPE = 1 << 20
_KEPT = 4000
_DETAIL_LINES = 3


def run_command(
    step: Step, spec: HostSpec, environment: StepEnvironment, outputs: Outputs | None = None
) -> tuple[Verdict, str]:
    """Return a pass if the program exits with 0, unknown if it can't be started, else a failure.

    The detail is the last lines of its output. ``outputs`` reads the properties that the program reports.
    """
    arguments = [fill(part, spec, environment.params) for part in step.command]
    seconds = step.timeout.total_seconds()
    environ = {name: value for name, value in environment.environ.items() if not name.startswith("BMH_")}
    environ.update((f"BMH_{name}", value) for name, value in host_variables(spec).items())
    environ.update(environment.variables)
    try:
        ended = call(
            arguments, replace(environment, environ=environ), seconds, read=None if outputs is None else outputs.feed
        )
    except (OSError, ValueError) as error:
        # This says nothing about the host: perhaps the program is not installed on this machine.
        why = why_missing(arguments[0], environment.folder) if isinstance(error, FileNotFoundError) else ""
        return Verdict.UNKNOWN, f"{arguments[0]}: {getattr(error, 'strerror', None) or error}{why}"
    said = _last_lines(ended.output, b"BMH_PROPERTY " if outputs else None)
    if outputs is not None:
        outputs.end()
        said = " · ".join(filter(None, (said, outputs.ignored and f"ignored: {outputs.ignored}")))
    if ended.status == 0:
        return Verdict.PASS, said
    return Verdict.FAIL, ended.words(seconds) + (f": {said}" if said else "")


class Ended(Frozen):
    """The end of a program: its ``status`` as in :mod:`subprocess` (None: it timed out), and its last lines."""

    status: int | None
    output: bytes

    def words(self, seconds: float) -> str:
        """Return in words how the program ended; ``seconds`` was its time limit."""
        if self.status is None:
            return f"took longer than {seconds:g} s"
        if self.status >= 0:
            return f"exit {self.status}"
        try:
            return f"ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"ended by signal {-self.status}"


def call(
    arguments: list[str],
    environment: StepEnvironment,
    seconds: float,
    stderr: int = subprocess.STDOUT,
    read: Callable[[bytes], None] | None = None,
) -> Ended:
    """Run a program; raise :class:`OSError` or :class:`ValueError` when it can't be started.

    ``read`` gets its whole output. Its process group is ended at the time limit, when it is cancelled, and when the
    program itself ends, so that no process of it stays.
    """
    readable, writable = os.pipe()
    with (
        open(readable, "rb") as pipe,
        open(writable, "wb", buffering=0) as output,
        _guard(output, environment.deadline) if environment.is_guarded else nullcontext(lambda _: None) as introduce,
    ):
        with STARTING:
            process = subprocess.Popen(
                arguments,
                cwd=environment.folder,
                env=dict(environment.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=stderr,
                start_new_session=True,
                pass_fds=environment.inherit,
            )
        output.close()
        try:
            introduce(process.pid)
            kept, in_time = _watch(process, pipe, seconds, environment.cancelled, read or _ignore)
        except BaseException:
            _end(process, 0)
            raise
        _end(process, 0 if in_time else GRACE)
        kept += _rest(pipe, read or _ignore)
    return Ended(process.returncode if in_time else None, kept[-_KEPT:])


@contextmanager
def _guard(output: IO[bytes], deadline: watchdog.Deadline | None) -> Iterator[Callable[[int], None]]:
    """Start a guard: a process that ends the process group of a step if this process is killed.

    Yield a function that sends the group to the guard. The guard also ends the group before the deadline if this
    process is stopped. Until it has the group, it recognises the step's processes by the pipe of their ``output``.
    """
    with STARTING:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, "group"],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    pipe = cast(IO[bytes], guard.stdin)

    def tell(line: bytes) -> None:
        with suppress(BrokenPipeError):  # the guard may have been killed
            pipe.write(line)

    try:
        tell(watchdog.OUTPUT % os.fstat(output.fileno()).st_ino + (b"" if deadline is None else deadline.to_line()))
        yield lambda process: tell(b"%d\n" % process)
    finally:
        tell(watchdog.DONE)
        pipe.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(_PATIENCE)
        guard.kill()  # the guard may have been stopped
        guard.wait()


def _ignore(_: bytes) -> None:
    """Ignore a part of the output."""


def _watch(
    process: subprocess.Popen[bytes],
    pipe: IO[bytes],
    seconds: float,
    cancelled: Cancelled,
    read: Callable[[bytes], None],
) -> tuple[bytes, bool]:
    """Return the end of a process's output, and whether it ended in time, even if its children keep the pipe open."""
    deadline = time.monotonic() + seconds
    kept, is_open = b"", True
    with selectors.DefaultSelector() as selector:
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ)
        while process.poll() is None and (left := deadline - time.monotonic()) > 0 and not cancelled.is_set():
            if not is_open:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, _TICK))
            elif selector.select(min(left, _TICK)):
                chunk = pipe.read(_CHUNK)
                is_open = chunk != b""
                read(chunk or b"")
                kept = (kept + (chunk or b""))[-_KEPT:]
    return kept, process.returncode is not None


def _rest(pipe: IO[bytes], read: Callable[[bytes], None]) -> bytes:
    """Return what is still in the pipe, up to its capacity, because another process may go on writing."""
    kept = b""
    for _ in range(_MOST_IN_PIPE // _CHUNK):
        chunk = pipe.read(_CHUNK)
        if not chunk:
            break
        read(chunk)
        kept = (kept + chunk)[-_KEPT:]
    return kept


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    if grace:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(output: bytes, without: bytes | None) -> str:
    """Return the last lines, except lines that begin with ``without``."""
    if without is not None:
        output = b"\n".join(line for line in output.split(b"\n") if not line.startswith(without))
    text = output.decode("utf-8", "replace").replace("\0", "\ufffd")  # no database can store a NUL in a text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-_DETAIL_LINES:])[-400:]
