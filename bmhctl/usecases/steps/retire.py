"""Retire hosts: keep them from being reserved; once they are free, clean them, run their retire steps, remove them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import cache, partial

from bmhctl.domain.model import EventKind, Host, Note, Phase, Verb
from bmhctl.domain.units import plural
from bmhctl.errors import StateRefusedError, StepFailedError, UsageError
from bmhctl.lifecycle.machine import NOT_CLEANED, GuardInput, ask
from bmhctl.results import Outcome, Outcomes, already, failed, stayed
from bmhctl.support.folding import folded
from bmhctl.support.values import replace
from bmhctl.usecases.shared.bulk import each_in_one_commit
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.expiry import forget_left_claims
from bmhctl.usecases.shared.host_changes import Removal
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.shared.transitions import decide, quarantine, record_event
from bmhctl.usecases.steps.execution import Claimed, StepsRun
from bmhctl.usecases.steps.parallel import BulkOperation, Job, Leaving, each
from bmhctl.usecases.steps.step_outcomes import failure_of


def retire(ctx: Context, choice: Choice, *, reason: str, when_free: bool = False, jobs: int = 16) -> Outcomes:
    """Retire hosts: each free host leaves the inventory when its steps have passed; return the outcomes.

    A host on which a step fails goes to maintenance, and can be retired again. The outcome of a held host is a
    :class:`StateRefusedError`; with ``when_free``, ``recycle`` or another ``retire`` retires it after it was given
    back. Raises :class:`UsageError` for an empty reason.
    """
    if not reason.strip():
        raise UsageError("retire needs a reason", hint="bmhctl retire HOST --reason 'replaced by node31'")
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        run = partial(retire, reason=reason, when_free=when_free, jobs=jobs)
        return confirmed(ctx, "retire", choice, run, most=1)

    may_remove = cache(ctx.store.declared.check_removable)  # before any retire step runs

    def first(host: Host, now: datetime) -> Outcome | Host:
        is_held = host.reservation is not None
        if host.reservation is not None and not when_free:
            raise StateRefusedError(
                f"is held by {host.reservation.words}",
                host=host.name,
                hint=f"bmhctl retire {host.name} --when-free --reason TEXT retires it once it is given back",
            )
        if is_marked(host):
            return already(host, f"already retires when it is free: {reason}") if is_held else host
        left = replace(host, cordon=Note(ctx.actor, reason, now, retires=True).over(host.cordon))
        may_remove()
        if not ctx.dry_run:
            left = record_event(ctx, left, EventKind.RETIRING, now, reason=reason)
        return stayed(host, f"retires when it is free: {reason}") if is_held else left

    def early(host: Host) -> Outcome | None:
        if not is_marked(host):
            raise StateRefusedError("changed meanwhile", host=host.name, hint="check it, then try again")
        return None

    def is_marked(host: Host) -> bool:
        return host.cordon is not None and host.cordon.retires and host.cordon.reason == reason

    def unfinished(names: Sequence[str]) -> str:
        undo = f"bmhctl retire {shlex.join(folded(names))} --undo"
        return f"still being retired: {plural(len(names), 'host')}; retire them again, or keep them: {undo}"

    forget_left_claims(ctx)
    refresh_and_reap(ctx)
    steps = ctx.store.policy().of(Phase.CLEANUP, Phase.RETIRE)
    operation = BulkOperation("retire", early, partial(retirement, ctx), steps, first=first, unfinished=unfinished)
    return each(ctx, operation, *choose(ctx, choice), jobs)


def undo_retire(ctx: Context, choice: Choice) -> Outcomes:
    """Cancel the retirement of hosts, so that they can be reserved again; a host in maintenance stays there."""

    def one(host: Host, now: datetime) -> Outcome:
        if host.cordon is None or not host.cordon.retires:
            return already(host, "is not being retired")
        cordon = host.cordon.before
        record_event(ctx, replace(host, cordon=cordon), EventKind.RETIRE_UNDONE, now, reason=host.cordon.reason)
        words = "is not retired" + (f"; still cordoned by {cordon.actor}" if cordon else "")
        return stayed(host, words)

    return each_in_one_commit(ctx, "retire", choice, one)


def retirement(ctx: Context, held: Claimed) -> Job:
    """Return the job that cleans a host, runs its retire steps and removes it."""
    if not held.host.dirty:
        return _last_job(ctx, held, None)

    def cleaned(run: StepsRun) -> Job:
        if run.refusal is not None:
            raise _fail(ctx, held, run)
        return _last_job(ctx, held, run)

    return Job(held, held.plan(Phase.CLEANUP), cleaned, later=(held.plan(Phase.RETIRE),))


def _last_job(ctx: Context, held: Claimed, cleanup: StepsRun | None) -> Job:
    """Return the job that runs the retire steps of a host and removes it; the reason names the steps that ran."""
    host = held.host

    def finish(run: StepsRun) -> Leaving:
        if run.refusal is not None:
            raise _fail(ctx, held, run)
        cleaned = NOT_CLEANED if cleanup is None else cleanup.refusal
        inputs = GuardInput.of(host, ctx.clock(), is_claimed=False)
        inputs = replace(inputs, cleanup=cleaned, retirement=run.refusal)
        if ask(Verb.RETIRE, host.state, inputs).refusals:
            decide(Verb.RETIRE, host, inputs)  # raises the error of the guard that refuses
        reason = host.cordon.reason if host.cordon else "retired"
        words = "; ".join((reason, *((cleanup.summary,) if cleanup else ()), run.summary))
        steps = (*(cleanup.results if cleanup else ()), *run.results)
        return Leaving(host, Removal(host.name, words, True, True, host.last_event), steps)

    return Job(held, held.plan(Phase.RETIRE), finish)


def _fail(ctx: Context, held: Claimed, run: StepsRun) -> StepFailedError:
    """Record that a step failed, and move the host to maintenance; return the error to raise."""

    def note(now: datetime) -> StepFailedError:
        host = held.unchanged()
        words = run.refusal or run.summary
        reason = f"can't be retired: {words}"
        host = record_event(ctx, host, EventKind.STEP_FAILED, now, reason=words, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)
        others = tuple(each for each in host.maintenance if not each.quarantine)
        host = quarantine(ctx, replace(host, maintenance=others), reason, now)
        hint = f"fix it, then retire it again; or bmhctl retire {host.name} --undo"
        error = failure_of(host, run, f"{words}; it is in maintenance now", hint)
        held.keep_outcome(host, failed(error, host))
        return error

    return held.settle(note)
