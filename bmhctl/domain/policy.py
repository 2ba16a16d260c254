"""The policy of an inventory: lease defaults, and the steps of each phase of a host's life, as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Host, HostSpec, Phase
from bmhctl.domain.units import format_duration
from bmhctl.errors import UsageError, brief
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen, Words, field

if TYPE_CHECKING:
    from bmhctl.domain.limits import Limit
    from bmhctl.domain.requirements import ReservationRequest
    from bmhctl.domain.selector import Selector

PLACEHOLDER = pattern(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_./-]*)\}")
"""A placeholder in a command's arguments: ``{name}``, ``{labels.rack}``; ``{{`` stands for a brace."""


class StepKind(Words):
    """What a step does: run a command, open a TCP connection, request a URL, or ask the BMC."""

    COMMAND = "command"
    TCP = "tcp"
    HTTP = "http"
    REDFISH = "redfish"


class PhaseRules(Frozen):
    """The rules for the steps of one phase.

    ``noun`` names one step in messages. Redfish steps of a phase that ``acts`` change the host; those of other phases
    only query the BMC. A phase that ``stops_at_failure`` runs its steps up to the first failure; the other phases run
    all steps. ``keys`` are settings that only the steps of this phase have.
    """

    noun: str
    acts: bool = True
    stops_at_failure: bool = True
    keys: tuple[str, ...] = ()

    @property
    def short_noun(self) -> str:
        """The noun among the steps of a policy, which has no other checks than readiness checks."""
        return self.noun.removeprefix("readiness ")


PHASES: Mapping[Phase, PhaseRules] = {
    Phase.SETUP: PhaseRules("setup step", keys=("properties",)),
    Phase.CHECKS: PhaseRules("readiness check", acts=False, stops_at_failure=False, keys=("properties",)),
    Phase.PREPARE: PhaseRules("prepare step", keys=("params",)),
    Phase.CLEANUP: PhaseRules("cleanup step", keys=("properties",)),
    Phase.RETIRE: PhaseRules("retire step"),
}
"""The rules of each phase; a new kind of step is a row here and a member of :class:`Phase`."""


class CheckOnReserve(Words):
    """When a free host is checked before it is granted: always, only when its last pass is stale, or never."""

    ALWAYS = "always"
    STALE = "stale"
    NEVER = "never"


class HttpStep(Frozen):
    """The request of an ``http`` step: its URL, the status it must return, and a text that the answer must contain."""

    url: str
    status: int = 200
    text: str | None = None


class RedfishStep(Frozen):
    """What a ``redfish`` step expects of a BMC, or, in a phase that ``acts``, what it makes the BMC do.

    ``health`` and ``power`` are the expected health and power state; where the step acts, ``power`` is the state to
    switch to. ``reset`` is a reset by its Redfish name, such as ``ForceRestart``. ``boot_once`` is what the next start
    boots from. ``insert`` is the URL of an image for the virtual drive, and ``eject`` empties this drive.
    """

    health: str | None = None
    power: str | None = None
    reset: str | None = None
    acts: bool = False
    boot_once: str | None = None
    insert: str | None = None
    eject: bool = False


class Param(Frozen):
    """A value that a reservation may give to a step; ``default`` is None if it has none.

    ``pattern`` is the regular expression that a value must match.
    """

    name: str
    pattern: str
    default: str | None = None

    def refusal(self, value: str) -> str | None:
        """Return why a value is refused, in words that continue "the parameter NAME"; None if the value is allowed."""
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            return f"takes at most {_LONGEST_VALUE} printable characters, not {brief(value)}"
        if value.startswith("-"):
            return f"can't begin with '-', as {brief(value)} does: a program could take it for an option"
        if re.fullmatch(self.pattern, value, re.ASCII) is None:
            return f"must match {self.pattern}, which {brief(value)} does not"
        return None


_LONGEST_VALUE = 200


class Step(Frozen):
    """One step of a phase.

    ``command`` is an argument list (kind command), ``port`` a TCP port (kind tcp), ``page`` the request (kind http),
    ``demand`` what is expected of the BMC or changed on it (kind redfish). ``timeout`` is how long one try may take,
    ``retries`` how many more tries follow a failure. ``needs`` are the steps of the same phase that must pass first;
    None means the step that is declared before this one. ``params`` are the values that a reservation may give to the
    step. ``properties`` are the hardware properties that its output may set.
    """

    name: str
    kind: StepKind
    phase: Phase
    selector: Selector
    command: tuple[str, ...] = ()
    port: int = 0
    page: HttpStep | None = None
    demand: RedfishStep | None = None
    timeout: timedelta = timedelta(minutes=1)
    retries: int = 0
    needs: tuple[str, ...] | None = None
    params: tuple[Param, ...] = ()
    properties: tuple[str, ...] = ()

    def applies_to(self, spec: HostSpec) -> bool:
        """Return whether the step applies to this host."""
        return self.selector.fits(spec)


class LeaseTerms(Frozen):
    """The length of a request's lease under the policy (None: without end); ``notes`` say where the policy changed it.

    ``until`` is when the lease must end at the latest, because something is planned on its hosts; None: no plan.
    """

    ttl: timedelta | None
    notes: tuple[str, ...] = ()
    until: datetime | None = None

    def end(self, now: datetime) -> datetime | None:
        """Return when a lease that begins now ends; None for a lease without end."""
        if self.ttl is None or self.until is None:
            return self.until if self.ttl is None else now + self.ttl
        return min(now + self.ttl, self.until)


class Policy(Frozen):
    """What an inventory requires of its hosts and reservations.

    ``ttl`` is the default length of a lease, and ``max_ttl`` the longest one; None means without end. ``bmc_parallel``
    is how many conversations with one BMC may run at the same time. ``proxy`` is the URL of an HTTP proxy for ``http``
    steps and BMCs; ``environment`` reads it from the environment's variables, and None means no proxy. After
    ``quarantine_after`` failed cleanups in a row, or ``quarantine_after_task_failures`` failed tasks in a row (None:
    never), a host goes to maintenance. ``prepare_failures`` is on how many hosts the preparation for a request may fail
    before the request fails.

    ``recheck_after`` is the age at which the last pass of a free host's checks is stale (None: never).
    ``recheck_share`` is the share of the free hosts that may be rechecked at the same time. A host that failed a
    recheck is tried again after ``recover_after``. ``limits`` are the limits of owners.

    A booking that its owner does not take within ``no_show`` of its start lapses. ``turnaround`` is how long a host is
    kept free for its cleanup before a booking or a planned maintenance.
    """

    ttl: timedelta | None = timedelta(hours=4)
    max_ttl: timedelta | None = timedelta(days=3)
    quarantine_after: int = 3
    steps: Mapping[Phase, tuple[Step, ...]] = field(default_factory=dict)
    bmc_parallel: int = 1
    proxy: str | None = None
    quarantine_after_task_failures: int | None = None
    prepare_failures: int = 3
    recheck_after: timedelta | None = None
    recheck_share: float = 0.25
    check_on_reserve: CheckOnReserve = CheckOnReserve.NEVER
    recover_after: timedelta | None = None
    limits: tuple[Limit, ...] = ()
    no_show: timedelta = timedelta(minutes=30)
    turnaround: timedelta = timedelta()

    def is_stale(self, host: Host, now: datetime) -> bool:
        """Return whether a free host must be rechecked: its checks passed too long ago, or at an unknown time."""
        if self.recheck_after is None:
            return False
        return host.proven_at is None or not is_within(host.proven_at, self.recheck_after, now)

    def must_check(self, host: Host, now: datetime) -> bool:
        """Return whether the checks of a free host must pass again before the host is granted."""
        if self.check_on_reserve is CheckOnReserve.STALE:
            return self.is_stale(host, now)
        return self.check_on_reserve is CheckOnReserve.ALWAYS

    def lease_of(self, request: ReservationRequest) -> LeaseTerms:
        """Return the terms of the lease; raise :class:`UsageError` for a lease without end under a ``max_ttl``."""
        if request.endless:
            if self.max_ttl is not None:
                raise UsageError(
                    "this inventory allows no lease without end",
                    hint=f'its max_ttl is {format_duration(self.max_ttl)}; max_ttl = "none" in its policy lifts it',
                )
            return LeaseTerms(None)
        ttl = request.ttl or self.ttl
        if self.max_ttl is not None and (ttl is None or ttl > self.max_ttl):
            most = format_duration(self.max_ttl)
            return LeaseTerms(self.max_ttl, (f"the lease is {most}, the longest that this inventory allows",))
        return LeaseTerms(ttl)

    def of(self, *phases: Phase) -> tuple[Step, ...]:
        """Return the steps of some phases, in the order of their declaration."""
        return tuple(step for phase in phases for step in self.steps.get(phase, ()))

    def declared(self, results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
        """Return the results whose steps the policy declares, and those whose phase is not known."""
        return tuple(
            each
            for each in results
            if each.phase is None or any(each.step == step.name for step in self.steps.get(each.phase, ()))
        )

    def declared_by_host(self, results: Mapping[int, Sequence[CheckResult]]) -> Mapping[int, Sequence[CheckResult]]:
        """Return the results as :meth:`declared` does, by host id; hosts without any are left out."""
        found = {host_id: self.declared(each) for host_id, each in results.items()}
        return {host_id: each for host_id, each in found.items() if each}

    def applying(self, phase: Phase, spec: HostSpec) -> tuple[Step, ...]:
        """Return the steps of a phase that apply to a host, in the order of their declaration."""
        return tuple(step for step in self.of(phase) if step.applies_to(spec))


AHEAD = timedelta(minutes=1)
"""How far ahead of the clock a last pass may be dated, because time servers set clocks back; else its age is
unknown."""


def is_within(at: datetime, age: timedelta, now: datetime) -> bool:
    """Return whether ``at`` is less than ``age`` before ``now``; false for a time that is far in the future."""
    return -AHEAD <= now - at < age


def predecessors(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return, by the name of each step, the steps that must end before it may start."""
    before = (None, *(step.name for step in steps))
    return {
        step.name: step.needs if step.needs is not None else (previous,) if previous is not None else ()
        for previous, step in zip(before, steps, strict=False)
    }
