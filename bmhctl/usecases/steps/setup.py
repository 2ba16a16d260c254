"""The setup of one host under a claim: run the steps that are not done, and record each one as soon as it passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from bmhctl.domain.model import CheckResult, Host, Phase
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.setup_progress import setup_state
from bmhctl.usecases.steps.execution import Claimed, StepPlan, StepsRun


class Setup:
    """The setup steps of a host, and which of them are done since the host became initial."""

    def __init__(self, ctx: Context, held: Claimed) -> None:
        self._ctx = ctx
        self._held = held
        self._state = setup_state(held.policy, held.host, ctx.store.step_results.of(held.host))
        self._was_complete = not self._state.left

    def plan(self, overridden: Mapping[str, str]) -> StepPlan:
        """Return a plan with the steps that are not done; those in ``overridden`` count as passed."""
        plan = self._held.plan(Phase.SETUP, overridden)
        left = {step.name for step in self._state.left}
        return replace(plan, steps=tuple(step for step in plan.steps if step.name in left))

    def save(self, results: Iterable[CheckResult]) -> None:
        """Save results, and how far the setup is, unless the host changed after the claim."""
        results = tuple(self._state.marked(results))
        if not results:
            return
        self._state = self._state.and_then(results)
        store = self._ctx.store

        def act(now: datetime) -> Host:
            host = self._held.save_observed(self._held.unchanged(), results, now)
            store.step_results.save(host, results, now)
            store.hosts.save_setup(host, self._state.progress)
            return host

        self._held.host = self._held.settle(act)

    def judged(self, run: StepsRun) -> StepsRun:
        """Return the result of the whole setup after a run of the remaining steps."""
        if self._was_complete:
            return StepsRun((), None, "its setup was complete")
        results = tuple(self._state.marked(run.results))
        self._state = self._state.and_then(results)
        progress = self._state.progress
        refusal = run.refusal and f"{run.refusal}; {progress.done} of {progress.total} done"
        return replace(run, results=results, refusal=refusal, progress=progress)
