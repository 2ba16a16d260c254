"""What the results of steps do to a host: move it, record the results, count failures, and quarantine it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bmhctl.domain.model import EventKind, Host, Phase, State, Verb, Verdict
from bmhctl.errors import StepFailedError
from bmhctl.lifecycle.machine import NOT_CHECKED, NOT_CLEANED, GuardInput
from bmhctl.results import Outcome, already, failed, moved
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import move, quarantine, record_event
from bmhctl.usecases.steps.execution import Claimed, StepsRun
from bmhctl.usecases.steps.parallel import Job


def to_available(
    ctx: Context,
    held: Claimed,
    overridden: Mapping[str, str],
    *,
    again: bool = False,
    so_far: Outcome | None = None,
    recycles: bool = False,
) -> Job:
    """Return the job that makes an initial host available: the remaining setup steps, then its readiness checks.

    ``overridden`` names steps that count as passed, each with the reason. ``again`` repeats setup steps that are done.
    ``so_far`` is the outcome of the verb before this job. ``recycles`` counts failures: too many lead to maintenance.
    """

    def check(setup: StepsRun | None = None) -> Job:
        def checked(run: StepsRun) -> Outcome:
            if run.refusal is not None:
                raise note_failure(ctx, held, run, recycles=recycles)
            if setup is not None:
                run = StepsRun((*setup.results, *run.results), None, f"{setup.summary}; {run.summary}")
            outcome = finish(ctx, held, Verb.READY, checks=run)
            if so_far is None:
                return outcome
            words = f"{so_far.message}; {outcome.message}"
            return replace(outcome, source=so_far.source, message=words, steps=(*so_far.steps, *outcome.steps))

        return Job(held, held.plan(Phase.CHECKS, overridden), checked, so_far)

    if Phase.SETUP not in held.policy.steps or not held.policy.applying(Phase.SETUP, held.host.spec):
        return check()
    from bmhctl.usecases.steps.setup import Setup

    if again:  # even if this process does not get to the steps
        held.settle(lambda _: ctx.store.step_results.forget(held.host, Phase.SETUP))
    setup = Setup(ctx, held)

    def then(run: StepsRun) -> Job:
        run = setup.judged(run)
        if run.refusal is not None:
            raise note_failure(ctx, held, run, Phase.SETUP, recycles=recycles)
        setup.save(run.results)
        return check(run)

    later = (held.plan(Phase.CHECKS, overridden),) if ctx.dry_run else ()
    return Job(held, setup.plan(overridden), then, so_far, later, lambda result: setup.save((result,)))


def cleaned(ctx: Context, held: Claimed, run: StepsRun, verb: Verb = Verb.RESET, *, recycles: bool = False) -> Outcome:
    """Move a host after its cleanup, whose results are in ``run``; raise :class:`StepFailedError` if it failed.

    With ``recycles``, ``recycle`` makes the host available afterwards.
    """
    if run.refusal is not None:
        raise note_failure(ctx, held, run, Phase.CLEANUP)
    return finish(ctx, held, verb, cleanup=run, recycles=recycles)


def record_checks(ctx: Context, held: Claimed, run: StepsRun, are_all: bool) -> Outcome:
    """Record the results of checks, even if the host changed meanwhile; return the outcome.

    ``are_all`` is whether no check that applies was left out. Then, if all passed, the checks of a free host count as
    passed now. Raises :class:`StepFailedError` if a check failed.
    """

    def note(now: datetime) -> Host:
        host = held.save_observed(held.current(), run.results, now)
        if run.refusal is not None:
            record_event(ctx, host, EventKind.STEP_FAILED, now, reason=run.refusal, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)
        if are_all and run.refusal is None and host.state is State.AVAILABLE:
            ctx.store.hosts.save_checks_passed(host, now)
        return host

    host = held.settle(note)
    if run.refusal is not None:
        raise failure_of(host, run, run.refusal, f"fix it and try again; bmhctl why {host.name}")
    return already(host, run.summary, run.results)


def finish(
    ctx: Context,
    held: Claimed,
    verb: Verb,
    *,
    checks: StepsRun | None = None,
    cleanup: StepsRun | None = None,
    recycles: bool = False,
) -> Outcome:
    """Move a claimed host with ``verb`` and the results of its steps; raise the error if the lifecycle refuses.

    ``checks`` and ``cleanup`` are the results of those steps that ran. ``recycles`` is as in :func:`move`.
    """
    run = checks or cleanup or StepsRun((), None, "maintenance complete")

    def go(now: datetime) -> Outcome:
        host = held.save_observed(held.unchanged(), run.results, now)
        inputs = replace(
            GuardInput.of(host, now, is_claimed=False),
            checks=checks.refusal if checks else NOT_CHECKED,
            cleanup=cleanup.refusal if cleanup else NOT_CLEANED,
            setup=None,  # the checks run only after the setup, so its steps passed
        )
        words = run.refusal or run.summary
        ran = run.results if checks or cleanup else None
        left = move(ctx, host, verb, inputs, now, reason=words, steps=ran, recycles=recycles)
        if run.results:
            ctx.store.step_results.save(host, run.results, now)
        return held.keep_outcome(left, moved(host, left, words, run.results))

    return held.settle(go)


_COUNTERS = {
    Phase.CLEANUP: ("failed_cleanups", State.TAINTED, "failed cleanups"),
    Phase.SETUP: ("failed_setups", State.INITIAL, "failed setups"),
}
"""By phase: the field that counts failures in a row, the state in which too many are a quarantine, and a noun."""

_RECYCLES = ("failed_recycles", State.INITIAL, "failed tries to make it available")


def note_failure(
    ctx: Context, held: Claimed, run: StepsRun, phase: Phase = Phase.CHECKS, *, recycles: bool = False
) -> StepFailedError:
    """Record a failed step and count the failure; quarantine the host after too many; return the error to raise.

    Failed readiness checks are counted only with ``recycles``, because then ``recycle`` tries again.
    """
    counters = [row for row in (_COUNTERS.get(phase), _RECYCLES if recycles else None) if row is not None]

    def note(now: datetime) -> StepFailedError:
        host = held.save_observed(held.unchanged(), run.results, now)
        words = run.refusal or run.summary
        hint = f"fix it and try again; bmhctl why {host.name}"
        counts = any(result.verdict is Verdict.FAIL for result in run.results)
        if counts:
            numbers: dict[str, Any] = {name: (getattr(host, name) or 0) + 1 for name, _, _ in counters}
            host = replace(host, **numbers)
        elif recycles:
            host = replace(host, failed_recycles=host.failed_recycles or 0)
        if run.progress is not None:
            host = replace(host, setup=run.progress)
        host = record_event(ctx, host, EventKind.STEP_FAILED, now, reason=words, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)
        limit = ctx.store.policy().quarantine_after
        in_a_row = [(getattr(host, name), noun) for name, state, noun in counters if counts and host.state is state]
        failures, noun = max(in_a_row, key=lambda one: one[0], default=(0, ""))
        if failures and failures >= limit:
            reason = f"quarantined after {failures} {noun} in a row"
            host = quarantine(ctx, host, reason, now)
            words = f"{words}; {reason}"
            hint = f"fix it, then: bmhctl resume {host.name}"
        error = failure_of(host, run, words, hint)
        held.keep_outcome(host, failed(error, host))
        return error

    return held.settle(note)


def failure_of(host: Host, run: StepsRun, words: str, hint: str) -> StepFailedError:
    """Return the error for a host whose steps failed, with their results."""
    details = {"steps": [{"step": r.step, "verdict": r.verdict, "detail": r.detail} for r in run.results]}
    error = StepFailedError(words, host=host.name, hint=hint, details=details)
    error.results = run.results
    return error
