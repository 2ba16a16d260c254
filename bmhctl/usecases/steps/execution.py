"""Run the steps of a host, under a claim on the host and outside every transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from bmhctl.domain.model import CheckResult, EventKind, Host, HostSpec, Phase, SetupProgress, Verdict
from bmhctl.domain.policy import PHASES, PhaseRules, Policy, Step
from bmhctl.errors import StateRefusedError, UnreachableError
from bmhctl.lifecycle.machine import CLAIMED
from bmhctl.results import Outcome
from bmhctl.support.values import Frozen, field, replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.shared.transitions import changed_meanwhile, record_event

if TYPE_CHECKING:
    from bmhctl.probes.cancellation import Cancelled
    from bmhctl.probes.step_environment import StepEnvironment
    from bmhctl.stores.claims import Hold
    from bmhctl.usecases.steps.step_graph import Before

_T = TypeVar("_T")


class StepsRun(Frozen):
    """The results of the steps that apply to a host; ``refusal`` is None if all passed, else says in words why not.

    ``progress`` is how far the host's setup is, if setup steps ran.
    """

    results: tuple[CheckResult, ...]
    refusal: str | None
    summary: str
    progress: SetupProgress | None = None


class StepPlan(Frozen):
    """Which steps of a phase to run on one host, and how; it needs no inventory, so it can run in any thread.

    ``environment`` is None for a plan that is never run. ``declared`` is whether the policy has steps for the phase,
    even if none applies to the host. ``overridden`` names steps that count as passed, each with the reason.
    """

    host: Host
    phase: Phase
    steps: tuple[Step, ...] = ()
    environment: StepEnvironment | None = None
    declared: bool = False
    overridden: Mapping[str, str] = field(default_factory=dict)
    before: Before | None = None

    def run(
        self,
        cancelled: Event | None = None,
        report: Callable[[CheckResult], None] | None = None,
        active: dict[str, float] | None = None,
    ) -> StepsRun:
        """Run the steps in their order, in some phases only up to the first failure; return their results.

        ``report`` gets each result, in the thread of the steps; ``active`` the running steps, each with its start time.
        """
        active = {} if active is None else active
        environment = (self if cancelled is None else self.ended_by(cancelled)).environment
        if environment is None or not self.steps:
            noun = self._rules.noun
            return StepsRun((), None, f"no {noun} applies to it" if self.declared else f"no {noun}s are declared")
        from bmhctl.probes import run as probe

        results: list[CheckResult] = []

        def run(step: Step) -> CheckResult:
            active[step.name] = time.monotonic()
            try:
                result = probe.run(step, self.host.spec, environment)
            finally:
                active.pop(step.name, None)
            if report is not None and not environment.cancelled.is_set():  # a cancel may make a step fail
                report(result)
            results.append(result)
            return result

        def goes_on() -> bool:
            failed = self._rules.stops_at_failure and any(each.verdict is not Verdict.PASS for each in results)
            return not failed and not environment.cancelled.is_set()

        steps = [step for step in self.steps if step.name not in self.overridden]
        if self.before is not None:
            from bmhctl.usecases.steps.step_graph import run_in_order

            return self._judged(run_in_order(steps, self.before, run, goes_on))
        for step in steps:
            if not goes_on():
                break
            run(step)
        return self._judged(results)

    def ended_by(self, other: Cancelled) -> StepPlan:
        """Return the same plan, whose steps also end when ``other`` is cancelled."""
        if self.environment is None:
            return self
        from bmhctl.probes.cancellation import AnyOf

        cancelled = AnyOf((other, self.environment.cancelled))
        return replace(self, environment=replace(self.environment, cancelled=cancelled))

    @property
    def _rules(self) -> PhaseRules:
        return PHASES[self.phase]

    def _judged(self, results: list[CheckResult]) -> StepsRun:
        noun = self._rules.noun
        bad = [result for result in results if result.verdict is not Verdict.PASS]
        if bad:
            words = "; ".join(f"{r.step}: {r.detail or r.verdict}" for r in bad)
            summary = f"{len(bad)} of {len(self.steps)} {noun}s failed"
            return StepsRun(tuple(results), f"{noun} failed: {words}", summary)
        said = []
        if results:
            names = ", ".join(result.step for result in results)
            said.append(f"{noun}{'s' if len(results) > 1 else ''} passed: {names}")
        said += [f"{name} overridden: {reason}" for name, reason in self.overridden.items()]
        if any(step.properties for step in self.steps):
            from bmhctl.usecases.steps.observation import kept_words

            said += filter(None, [kept_words(self.host.spec, results)])
        return StepsRun(tuple(results), None, "; ".join(said))


def _order(declared: tuple[Step, ...], spec: HostSpec) -> Before | None:
    if all(step.needs is None for step in declared):
        return None
    from bmhctl.usecases.steps.step_graph import order

    return order(declared, spec)


class Claimed:
    """A host that the caller has claimed with ``hold``, so that only the caller's steps may run on it."""

    def __init__(self, ctx: Context, host: Host, policy: Policy, hold: Hold | None) -> None:
        self.host = host
        self.policy = policy
        self._ctx = ctx
        self._hold = hold
        self._outcome: tuple[int, Outcome] | None = None

    def plan(self, phase: Phase, overridden: Mapping[str, str] | None = None) -> StepPlan:
        """Return a plan with the steps of a phase that apply to the host."""
        declared = self.policy.steps.get(phase, ())
        mine = tuple(step for step in declared if step.applies_to(self.host.spec))
        if not mine:
            return StepPlan(self.host, phase, declared=bool(declared))
        environment = None if self._hold is None else self._environment(self._hold)
        names = {step.name for step in mine}
        skipped = {name: reason for name, reason in (overridden or {}).items() if name in names}
        return StepPlan(self.host, phase, mine, environment, bool(declared), skipped, _order(declared, self.host.spec))

    def _environment(self, hold: Hold) -> StepEnvironment:
        from bmhctl.probes.step_environment import StepEnvironment

        hold.guard()
        return StepEnvironment(
            self._ctx.environ,
            self._ctx.store.folder,
            hold.inherit,
            cancelled=hold.lost or Event(),
            is_guarded=not hold.inherit,
            proxy=self.policy.proxy,
            bmc_parallel=self.policy.bmc_parallel,
        )

    def settle(self, act: Callable[[datetime], _T]) -> _T:
        """Call ``act`` in one transaction, to save the results of steps, as :func:`in_transaction` does."""
        return in_transaction(self._ctx, act)

    def check(self) -> None:
        """Raise :class:`UnreachableError` if the claim was lost; the inventory is not read."""
        if self._hold is not None and self._hold.lost is not None and self._hold.lost.is_set():
            raise UnreachableError(
                "the claim on it was lost, because the inventory could not be reached: its steps were ended",
                host=self.host.name,
                hint="try again",
            )

    def refresh(self) -> None:
        """Read the host again after this command has moved it."""
        self.host = self._ctx.store.hosts.with_id(self.host.id) or self.host

    def current(self) -> Host:
        """Return the host as it is now, locked in the caller's transaction.

        Raises :class:`StateRefusedError` if the host was removed after the claim.
        """
        self.check()
        now = self._ctx.store.hosts.with_id(self.host.id, lock=True)
        if now is None:
            raise StateRefusedError("was removed while its steps ran", host=self.host.name)
        return now

    def unchanged(self) -> Host:
        """Return the host as :meth:`current` does; raise :class:`StateRefusedError` if it changed after the claim."""
        now = self.current()
        if now.last_event != self.host.last_event:
            raise changed_meanwhile(now)
        return now

    def save_observed(self, host: Host, results: Iterable[CheckResult], now: datetime) -> Host:
        """Save the properties that steps reported, in the caller's transaction; return the host."""
        results = [result for result in results if result.observed]
        if not results:
            return host
        from bmhctl.usecases.steps.observation import save_observed

        return save_observed(self._ctx, host, results, now)

    def keep_outcome(self, after: Host, outcome: Outcome) -> Outcome:
        """Record the outcome before the commit, because a signal may come between the commit and the report."""
        self._outcome = after.last_event, outcome
        return outcome

    def committed_outcome(self) -> Outcome | None:
        """Return the recorded outcome if it was committed before an interruption; else None."""
        if self._outcome is None:
            return None
        event, outcome = self._outcome
        now = self._ctx.store.hosts.with_id(self.host.id)
        return outcome if now is not None and now.last_event == event else None


class Unclaimed(Claimed):
    """A host on which no step needs to run, so that the caller needs no claim, only a transaction."""

    def __init__(self, ctx: Context, host: Host, policy: Policy, now: datetime) -> None:
        super().__init__(ctx, host, policy, None)
        self._now = now

    def refresh(self) -> None:
        """Do nothing: the last :meth:`keep_outcome` has set the host."""

    def current(self) -> Host:
        """Return the host as it is in the caller's transaction."""
        return self.host

    def keep_outcome(self, after: Host, outcome: Outcome) -> Outcome:
        """Replace the host by the moved one."""
        self.host = after
        return outcome

    def settle(self, act: Callable[[datetime], _T]) -> _T:
        """Call ``act`` in the caller's transaction."""
        return act(self._now)


class ClaimedError(StateRefusedError):
    """A step of another command runs on the host."""

    def __init__(self, host: Host) -> None:
        super().__init__(CLAIMED, host=host.name, hint="wait until it ends")


@retried
def in_transaction(ctx: Context, act: Callable[[datetime], _T]) -> _T:
    """Call ``act`` with the time in a transaction of its own; repeat that after a conflict."""
    with ctx.store.transaction(shared=True):
        return act(ctx.clock())


@retried
def record_alone(ctx: Context, host: Host, kind: EventKind, reason: str) -> None:
    """Record an event of a host in a transaction of its own, unless the host was removed meanwhile."""
    with ctx.transaction(shared=True):
        fresh = ctx.store.hosts.with_id(host.id, lock=True)
        if fresh is not None:
            record_event(ctx, fresh, kind, ctx.clock(), reason=reason)


@contextmanager
def claimed(ctx: Context, host: Host) -> Iterator[Claimed]:
    """Claim a host for the block, and read it again.

    Raises :class:`ClaimedError` when a step runs on the host, and :class:`StateRefusedError` when it was removed.
    """
    from bmhctl.stores.claims import host_claim

    with ctx.store.claims.claim(host_claim(host.id)) as hold:
        if hold is None:
            raise ClaimedError(host)
        # Read under the write lock: commands that read the claims before this claim existed have committed then.
        with ctx.store.transaction(shared=True):
            fresh = ctx.store.hosts.with_id(host.id, lock=True)
        if fresh is None:
            raise StateRefusedError("was removed meanwhile", host=host.name)
        yield Claimed(ctx, fresh, ctx.store.policy(), hold)
