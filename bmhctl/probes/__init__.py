"""Runs one step against one host and says how it went; knows nothing of inventories."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import Generic, Protocol, TypeVar

from bmhctl.frozen import Frozen, field
from bmhctl.model import CheckResult, HostSpec, Verdict
from bmhctl.policy import PLACEHOLDER, Step, StepKind

RETRY_PAUSE = 1.0
"""Seconds between two tries of a step."""

_TICK = 0.1  # seconds between two looks whether what is waited for is still wanted
_T = TypeVar("_T")


class Cancelled(Protocol):
    """Whether nobody wants to know any more; a :class:`threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is so."""

    def wait(self, timeout: float) -> bool:
        """Waits for it, so many seconds at most; whether it is so."""


class AnyOf(Frozen):
    """Cancelled as soon as one of the others is."""

    others: tuple[Cancelled, ...]

    def is_set(self) -> bool:
        """Whether one of them is."""
        return any(other.is_set() for other in self.others)

    def wait(self, timeout: float) -> bool:
        """Waits for one of them, so many seconds at most; whether one is."""
        deadline = time.monotonic() + timeout
        while not self.is_set() and (left := deadline - time.monotonic()) > 0:
            self.others[0].wait(min(_TICK, left))
        return self.is_set()


class Setting(Frozen):
    """Where a step runs: its environment, its working folder, and a descriptor that its process inherits.

    When ``cancelled`` is set, a step that runs ends as soon as it can; one that ``is_guarded`` also when this process
    is killed.
    """

    environ: Mapping[str, str]
    folder: str
    inherit: int | None = None
    cancelled: Cancelled = field(default_factory=Event)
    is_guarded: bool = False


class UnfillableError(Exception):
    """A placeholder without a value, or with one that a program could take for an option."""


class InterruptedStepError(Exception):
    """Nobody wants to know any more."""


def within(seconds: float, cancelled: Cancelled, work: Callable[[], _T]) -> _T:
    """What ``work`` returns or raises; :class:`TimeoutError` when it takes longer than it may.

    Raises :class:`InterruptedStepError` when it is cancelled. Work that can't be ended from outside (a name that is
    resolved, a server that sends a byte now and then) is left behind: it must not change anything by then.
    """
    answer = _Answer(work)
    Thread(target=answer.find, daemon=True).start()
    deadline = time.monotonic() + seconds
    while not answer.found.wait(max(0.0, min(_TICK, deadline - time.monotonic()))):
        if cancelled.is_set():
            raise InterruptedStepError
        if time.monotonic() >= deadline:
            raise TimeoutError
    if answer.error is not None:
        raise answer.error
    return answer.values[0]


class _Answer(Generic[_T]):
    """What a piece of work came to, once it is found."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self.found = Event()
        self.values: list[_T] = []
        self.error: BaseException | None = None
        self._work = work

    def find(self) -> None:
        try:
            self.values.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            self.error = error
        self.found.set()


def run(step: Step, spec: HostSpec, setting: Setting) -> CheckResult:
    """Runs a step, and again as often as it has retries while it fails; waits for its end, at most its timeout a try.

    A step that can't run is a failure.
    """
    started = time.monotonic()
    for attempt in range(step.retries + 1):
        verdict, detail = _try(step, spec, setting)
        if verdict is Verdict.PASS or attempt == step.retries or setting.cancelled.wait(RETRY_PAUSE):
            break
    if attempt and verdict is not Verdict.PASS:
        detail = f"{detail} (tried {attempt + 1} times)"
    return CheckResult(step.name, verdict, detail, time.monotonic() - started)


def _try(step: Step, spec: HostSpec, setting: Setting) -> tuple[Verdict, str]:
    try:
        match step.kind:
            case StepKind.COMMAND:
                from bmhctl.probes.command import run_command

                return run_command(step, spec, setting)
            case StepKind.TCP:
                from bmhctl.probes.tcp import connect

                return connect(step, spec, setting)
            case StepKind.HTTP:
                from bmhctl.probes.http import fetch

                return fetch(step, spec, setting)
            case StepKind.REDFISH:
                from bmhctl.probes.redfish import consult

                return consult(step, spec, setting)
    except UnfillableError as error:
        return Verdict.FAIL, str(error)
    except InterruptedStepError:
        return Verdict.UNKNOWN, "interrupted"


def fill(part: str, spec: HostSpec) -> str:
    """A text with its placeholders replaced by what is declared about a host; :class:`UnfillableError` if it is not."""

    def value(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        found = _value(match[1], spec)
        if found is None:
            raise UnfillableError(f"it has no {match[1]} to put into {part!r}")
        if found.startswith("-"):
            raise UnfillableError(f"its {match[1]} {found!r} begins with '-': a program could take it for an option")
        return found

    return PLACEHOLDER.sub(value, part)


def _value(name: str, spec: HostSpec) -> str | None:
    group, _, key = name.partition(".")
    match group:
        case "labels":
            return spec.labels.get(key)
        case "hardware":
            fact = spec.hardware.get(key)
            return None if fact is None else str(fact)
        case "bmc":
            known = ("address", "type", "system_id")
            return str(getattr(spec.bmc, key)) if key in known and getattr(spec.bmc, key, None) is not None else None
        case _:
            return {"name": spec.name, "address": spec.address, "mac": spec.mac}.get(name)
