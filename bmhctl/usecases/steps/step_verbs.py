"""Ready, reset, check and recycle.

A host is claimed, its steps run in a thread, and their results are saved in a transaction that checks that the host has
not changed meanwhile. The threads never use the inventory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from bmhctl.domain.model import EventKind, Host, Note, Phase, State, Verb
from bmhctl.domain.policy import PHASES
from bmhctl.errors import BmhctlError, NotYoursError, StateRefusedError, StepFailedError, UsageError
from bmhctl.lifecycle.machine import NOT_CHECKED, NOT_CLEANED
from bmhctl.results import Outcome, Outcomes
from bmhctl.support.values import replace
from bmhctl.usecases.shared.bulk import already, failed, moved, refuse_early
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.expiry import forget_left_claims
from bmhctl.usecases.shared.host_selection import Choice, choose, unfold
from bmhctl.usecases.shared.leases import check_token
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.shared.transitions import SELF, guard_input, move, record_event
from bmhctl.usecases.steps.execution import Claimed, ClaimedError, StepsRun
from bmhctl.usecases.steps.parallel import NO_STEPS, BulkOperation, Job, each

JOBS = 16
"""How many hosts are processed at once by default."""


def ready(
    ctx: Context,
    choice: Choice,
    *,
    jobs: int = JOBS,
    override: Sequence[str] = (),
    reason: str | None = None,
    again: bool = False,
) -> Outcomes:
    """Set up each initial host, run its readiness checks, and make it available if they pass; return the outcomes.

    Setup steps that are done are not repeated, except with ``again``. Steps in ``override`` count as passed without
    running; that needs a ``reason``, which is recorded in the history. ``jobs`` is how many hosts are processed at
    once.
    """
    overridden = _overridden(ctx, override, reason)

    def early(host: Host) -> Outcome | None:
        if host.state is State.AVAILABLE:
            return already(host)
        refuse_early(Verb.READY, host)
        return None

    def prepare(held: Claimed) -> Job:
        return _to_available(ctx, held, overridden, again=again)

    refresh_and_reap(ctx)
    operation = BulkOperation("ready", early, prepare, ctx.policy().of(Phase.SETUP, Phase.CHECKS), State.AVAILABLE)
    return each(ctx, operation, *choose(ctx, choice), jobs)


def reset(ctx: Context, choice: Choice, *, jobs: int = JOBS) -> Outcomes:
    """Run the cleanup of each tainted host, and make those that it cleaned initial; return the outcomes.

    A host with a fault is cleaned only when it is named exactly. A cleanup that fails is counted; after the policy's
    ``quarantine_after`` in a row the host goes to maintenance by itself. ``jobs`` is how many hosts are processed at
    once.
    """

    def early(host: Host) -> Outcome | None:
        if host.state is State.INITIAL:
            return already(host)
        refuse_early(Verb.RESET, host)
        if host.fault is not None and host.name not in choice.names:
            raise StateRefusedError(
                f"has a fault: {host.fault}",
                host=host.name,
                hint=f"once it is repaired, name it: bmhctl reset {host.name}",
            )
        return None

    def prepare(held: Claimed) -> Job:
        return Job(held, held.plan(Phase.CLEANUP), lambda run: cleaned(ctx, held, run))

    refresh_and_reap(ctx)
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        choice = confirmed(ctx, "reset", choice)
    operation = BulkOperation("reset", early, prepare, ctx.policy().of(Phase.CLEANUP), State.INITIAL)
    return each(ctx, operation, *choose(ctx, choice), jobs)


def recycle(ctx: Context, choice: Choice, *, jobs: int = JOBS) -> Outcomes:
    """Reset used hosts and make them ready: all that are tainted, or those that are chosen; return the outcomes.

    Without a choice, hosts whose planned maintenance ended by itself are made ready, too: once, unless they are named.
    A pattern or a selector means the tainted ones among its hosts. A host with a fault is left alone unless it is
    named exactly, and one on which another command's step runs unless it is named. Safe to run
    any number of times at once. One that is to be retired is, instead.
    """
    if not ctx.dry_run:
        forget_left_claims(ctx)
    named = set(unfold(choice.names))

    def unless_named(item: Outcome) -> Outcome:
        busy = isinstance(item.error, ClaimedError) and item.host not in named
        return replace(item, message=f"skipped: {item.message}", error=None) if busy else item

    refresh_and_reap(ctx)
    hosts, missing = to_recycle(ctx, choice)
    outcomes = each(ctx, recycling(ctx, choice, hosts), hosts, missing, jobs)
    return replace(outcomes, items=tuple(map(unless_named, outcomes.items)))


def to_recycle(ctx: Context, choice: Choice) -> tuple[list[Host], list[BmhctlError]]:
    """Return the hosts that ``recycle`` means, and what is wrong with names among them."""
    named = set(unfold(choice.names))
    narrow = choice.names or choice.selector.terms
    wanted = choice if narrow else replace(choice, states=frozenset({State.TAINTED}))
    hosts, missing = choose(ctx, wanted)
    found = [host for host in hosts if host.state is State.TAINTED or host.name in named]
    return found if narrow else [*found, *ctx.store.hosts.resumed_by(SELF)], list(missing)


def recycling(ctx: Context, choice: Choice, hosts: Sequence[Host]) -> BulkOperation:
    """Return what ``recycle`` does with each of the hosts."""
    named = set(unfold(choice.names))
    came_back = {host.name for host in hosts if host.state is State.INITIAL}

    def early(host: Host) -> Outcome | None:
        if host.state is State.AVAILABLE:
            return already(host)
        is_back = host.state is State.INITIAL and host.name in came_back
        if host.state is not State.TAINTED and host.name not in named and not is_back:
            return already(host, f"another command was faster: it is {host.state}")
        if host.state is not State.INITIAL:
            refuse_early(Verb.RESET, host, "recycle")
        if host.fault is not None and host.name not in choice.names:
            return already(host, f"skipped because of its fault: {host.fault}")
        return None

    def prepare(held: Claimed) -> Job:
        if _retires(held.host):
            from bmhctl.usecases.steps.retire import retirement

            return retirement(ctx, held)
        if held.host.state is State.INITIAL:
            return _to_available(ctx, held, {})
        return Job(
            held,
            held.plan(Phase.CLEANUP),
            lambda run: then(held, cleaned(ctx, held, run)),
            later=(held.plan(Phase.SETUP), held.plan(Phase.CHECKS)) if ctx.dry_run else (),
        )

    def then(held: Claimed, reset_outcome: Outcome) -> Job:
        held.refresh()
        return _to_available(ctx, held, {}, so_far=reset_outcome)

    steps = None if any(map(_retires, hosts)) else ctx.policy().of(Phase.CLEANUP, Phase.SETUP, Phase.CHECKS)
    return BulkOperation("recycle", early, prepare, steps, State.AVAILABLE)


def _retires(host: Host) -> bool:
    return host.cordon is not None and host.cordon.retires


def check(ctx: Context, choice: Choice, *, only: Sequence[str] = (), jobs: int = JOBS, force: bool = False) -> Outcomes:
    """Run readiness checks without moving a host, and record their results; return the outcomes.

    ``only`` names the checks to run. A host that another owner has reserved is checked only with ``force``.
    """
    _known_steps(ctx, only, Phase.CHECKS)

    def early(host: Host) -> Outcome | None:
        if host.state is State.RESERVED and not force:
            try:
                check_token(ctx, host, None, ctx.clock())
            except NotYoursError as error:
                error.hint = "--force checks it anyway: notify its holder"
                raise
        return None

    def prepare(held: Claimed) -> Job:
        program = held.plan(Phase.CHECKS)
        if only:
            program = replace(program, steps=tuple(step for step in program.steps if step.name in only))
        return Job(held, program, lambda run: _looked_at(ctx, held, run, not only))

    refresh_and_reap(ctx)
    return each(ctx, BulkOperation("check", early, prepare, ctx.policy().of(Phase.CHECKS)), *choose(ctx, choice), jobs)


# what to do with the results of the steps


def _to_available(
    ctx: Context,
    held: Claimed,
    overridden: Mapping[str, str],
    *,
    again: bool = False,
    so_far: Outcome | None = None,
) -> Job:
    """Return the job that makes an initial host available: the rest of its setup, then its readiness checks."""

    def check(setup: StepsRun | None = None) -> Job:
        return Job(
            held, held.plan(Phase.CHECKS, overridden), lambda run: _proven(ctx, held, run, setup, so_far), so_far
        )

    if Phase.SETUP not in held.policy.steps:
        return check()
    from bmhctl.usecases.steps.setup import Setup

    setup = Setup(ctx, held, overridden)
    if not setup.applies:
        return check()
    if again:
        setup.start_over()

    def then(run: StepsRun) -> Job:
        run = setup.judged(run)
        if run.refusal is not None:
            raise note_failure(ctx, held, run, Phase.SETUP)
        setup.save(run.results)
        return check(run)

    later = (held.plan(Phase.CHECKS, overridden),) if ctx.dry_run else ()
    return Job(held, setup.plan(), then, so_far, later, setup.note)


def _proven(
    ctx: Context, held: Claimed, run: StepsRun, setup: StepsRun | None = None, so_far: Outcome | None = None
) -> Outcome:
    if run.refusal is not None:
        raise note_failure(ctx, held, run)
    if setup is not None:
        run = StepsRun((*setup.results, *run.results), None, f"{setup.summary}; {run.summary}")
    outcome = finish(ctx, held, Verb.READY, checks=run)
    if so_far is None:
        return outcome
    words = f"{so_far.message}; {outcome.message}"
    return replace(outcome, source=so_far.source, message=words, steps=(*so_far.steps, *outcome.steps))


def cleaned(ctx: Context, held: Claimed, run: StepsRun, verb: Verb = Verb.RESET) -> Outcome:
    """Move a host on after its cleanup; raise :class:`StepFailedError` when the cleanup failed."""
    if run.refusal is not None:
        raise note_failure(ctx, held, run, Phase.CLEANUP)
    return finish(ctx, held, verb, cleanup=run)


def _looked_at(ctx: Context, held: Claimed, run: StepsRun, proves: bool) -> Outcome:
    """Record what checks found, also if the host changed meanwhile; all of them together ``prove`` a free host."""

    def note(now: datetime) -> Host:
        host = held.save_observed(held.current(), run.results, now)
        if run.refusal is not None:
            record_event(ctx, host, EventKind.STEP_FAILED, now, reason=run.refusal, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)
        if proves and run.refusal is None and host.state is State.AVAILABLE:
            ctx.store.hosts.save_proof(host, now)
        return host

    host = held.settle(note)
    if run.refusal is not None:
        raise failure_of(host, run, run.refusal, f"fix it and try again; bmhctl why {host.name}")
    return Outcome(host.name, False, run.summary, host.state, host.state, steps=run.results)


def finish(
    ctx: Context, held: Claimed, verb: Verb, *, checks: StepsRun | None = None, cleanup: StepsRun | None = None
) -> Outcome:
    """Drive a claimed host by ``verb``, with the results of its steps; raise what the lifecycle refuses."""
    run = checks or cleanup or NO_STEPS

    def go(now: datetime) -> Outcome:
        host = held.save_observed(held.unchanged(), run.results, now)
        inputs = guard_input(
            ctx,
            host,
            now,
            checks=checks.refusal if checks else NOT_CHECKED,
            cleanup=cleanup.refusal if cleanup else NOT_CLEANED,
            setup=None,  # its steps passed now or before, else the checks would not have run
            claim_is_mine=True,
        )
        words = run.refusal or run.summary
        ran = None if run is NO_STEPS else run.results
        left = move(ctx, host, verb, inputs, now, reason=words, steps=ran)
        if run.results:
            ctx.store.step_results.save(host, run.results, now)
        return held.promise(left, moved(host, left, words, run.results))

    return held.settle(go)


_COUNTERS = {
    Phase.CLEANUP: ("failed_cleanups", State.TAINTED, "failed cleanups"),
    Phase.SETUP: ("failed_setups", State.INITIAL, "failed setups"),
}
"""What counts the failures of a phase in a row, the state from which too many lead to maintenance, and their name."""


def note_failure(ctx: Context, held: Claimed, run: StepsRun, phase: Phase = Phase.CHECKS) -> StepFailedError:
    """Record a failed step, count the failures of some phases, quarantine after too many; return the error."""
    counter, state, noun = _COUNTERS.get(phase, (None, None, ""))

    def note(now: datetime) -> StepFailedError:
        host = held.save_observed(held.unchanged(), run.results, now)
        words = run.refusal or run.summary
        hint = f"fix it and try again; bmhctl why {host.name}"
        failures = 0
        if counter is not None:
            failures = getattr(host, counter) + 1
            host = replace(host, **{counter: failures})
        if run.progress is not None:
            host = replace(host, setup=run.progress)
        host = record_event(ctx, host, EventKind.STEP_FAILED, now, reason=words, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)
        limit = ctx.policy().quarantine_after
        if counter is not None and failures >= limit and host.state is state:
            reason = f"quarantined after {failures} {noun} in a row"
            mark = Note(SELF, reason, now, quarantine=True)
            inputs = guard_input(ctx, host, now, reason=reason, claim_is_mine=True)
            host = move(ctx, replace(host, maintenance=(mark,)), Verb.MAINTAIN, inputs, now, reason=reason, actor=SELF)
            words = f"{words}; {reason}"
            hint = f"fix it, then: bmhctl resume {host.name}"
        error = failure_of(host, run, words, hint)
        held.promise(host, failed(error, host))
        return error

    return held.settle(note)


def failure_of(host: Host, run: StepsRun, words: str, hint: str) -> StepFailedError:
    """Return the error for a host whose steps failed, with their results."""
    details = {"steps": [{"step": r.step, "verdict": r.verdict, "detail": r.detail} for r in run.results]}
    error = StepFailedError(words, host=host.name, hint=hint, details=details)
    error.results = run.results
    return error


def _overridden(ctx: Context, override: Sequence[str], reason: str | None) -> Mapping[str, str]:
    if override and not (reason and reason.strip()):
        raise UsageError("--override needs --reason, which is recorded in the history")
    _known_steps(ctx, override, Phase.SETUP, Phase.CHECKS)
    return dict.fromkeys(override, reason or "")


def _known_steps(ctx: Context, names: Sequence[str], *phases: Phase) -> None:
    if not names:
        return
    refresh(ctx)
    policy = ctx.policy()
    known = [step.name for phase in phases for step in policy.of(phase)]
    words = [
        PHASES[phase].noun.removeprefix("readiness ")
        for phase in reversed(phases)
        if policy.of(phase) or phase is Phase.CHECKS
    ]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no {' or '.join(words)} {name!r}", hint=f"declared: {', '.join(known) or 'none'}"
            )
