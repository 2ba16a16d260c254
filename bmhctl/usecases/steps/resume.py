"""Close reasons for maintenance, and move the hosts that have no other reason."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from bmhctl.domain.model import NO_LONGER_WHEN_FREE, EventKind, Host, Note, Phase, State, Verb
from bmhctl.errors import NotYoursError, StateRefusedError
from bmhctl.results import Outcome, Outcomes, Plan, already, failed, stayed
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.expiry import forget_left_claims
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.maintenance import in_words, remaining_reasons, where_resume_leads
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.shared.transitions import change_cordon, record_event
from bmhctl.usecases.steps.execution import Claimed, StepPlan
from bmhctl.usecases.steps.parallel import BulkOperation, Job, each
from bmhctl.usecases.steps.step_outcomes import cleaned, finish
from bmhctl.usecases.steps.step_verbs import JOBS


def resume(ctx: Context, choice: Choice, *, everyones: bool = False, jobs: int = JOBS) -> Outcomes:
    """Close the actor's reasons (``everyones``: all), and move each host without other reasons; return the outcomes.

    A host that goes to maintenance when it is free no longer does, and a cordon that it had before stays. For any
    other, :func:`where_resume_leads` says where it goes. A dry run returns that for each host, and why.
    """
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        return confirmed(ctx, "resume", choice, partial(resume, everyones=everyones, jobs=jobs))
    if ctx.dry_run:
        return _plan(ctx, choice, everyones)

    def first(host: Host, now: datetime) -> Outcome | Host:
        if host.state is not State.MAINTENANCE:
            if host.cordon is not None and host.cordon.maintains:
                return _take_back(ctx, host, host.cordon, everyones, now)
            return already(host, f"is not in maintenance: already {host.state}")
        rest = remaining_reasons(ctx, host, everyones)
        return _close_reasons(ctx, host, rest, now) if rest else host

    def early(host: Host) -> Outcome | None:
        if host.state is not State.MAINTENANCE or remaining_reasons(ctx, host, everyones):
            raise StateRefusedError("changed meanwhile", host=host.name, hint="check it, then try again")
        return None

    def prepare(held: Claimed) -> Job:
        host = held.host
        if host.reservation is None and host.dirty:
            return Job(held, held.plan(Phase.CLEANUP), lambda run: cleaned(ctx, held, run, Verb.RESUME))
        if host.reservation is None and host.came_from is State.AVAILABLE:
            return Job(held, held.plan(Phase.CHECKS), lambda run: finish(ctx, held, Verb.RESUME, checks=run))
        return Job(held, StepPlan(host, Phase.CHECKS), lambda _: finish(ctx, held, Verb.RESUME))

    forget_left_claims(ctx)
    refresh_and_reap(ctx)
    steps = ctx.store.policy().of(Phase.CLEANUP, Phase.CHECKS)
    return each(ctx, BulkOperation("resume", early, prepare, steps, first=first), *choose(ctx, choice), jobs)


def _plan(ctx: Context, choice: Choice, everyones: bool) -> Plan:
    now = refresh(ctx)
    hosts, missing = choose(ctx, choice)
    with ctx.transaction():
        ctx.store.hosts.fresh(hosts, lock=True)  # raises if they may not be changed
    items = [_resume_words(ctx, host, everyones, now) for host in hosts]
    return Plan("resume", (*items, *(failed(error) for error in missing)))


def _close_reasons(ctx: Context, host: Host, rest: tuple[Note, ...], now: datetime) -> Outcome:
    """Close all reasons except ``rest``, which keep the host in maintenance; return the outcome."""
    whose = in_words(rest)
    closed = [mark for mark in host.maintenance if mark not in rest]
    if not closed:
        raise NotYoursError(
            f"stays in maintenance, and none of its reasons is yours: {whose}",
            host=host.name,
            hint=f"bmhctl resume {host.name} --all closes all reasons",
        )
    reasons = "; ".join(mark.reason for mark in closed)
    record_event(ctx, replace(host, maintenance=rest), EventKind.REASON_CLOSED, now, reason=reasons)
    return stayed(host, f"closed: {reasons}; stays for {whose}")


def _take_back(ctx: Context, host: Host, cordon: Note, everyones: bool, now: datetime) -> Outcome:
    """Take back a maintenance that would begin when the host is free, and return the outcome."""
    if not (everyones or cordon.actor == ctx.actor):
        raise NotYoursError(
            f"goes to maintenance when it is free, and that is not yours: {in_words((cordon,))}",
            host=host.name,
            hint=f"bmhctl resume {host.name} --all takes it back",
        )
    words = f"{NO_LONGER_WHEN_FREE}: {cordon.reason}"
    change_cordon(ctx, host, cordon.before, now, words, Verb.RESUME.value)
    return stayed(host, words)


def _resume_words(ctx: Context, host: Host, everyones: bool, now: datetime) -> Outcome:
    if host.state is not State.MAINTENANCE:
        if host.cordon is None or not host.cordon.maintains:
            return already(host, f"is not in maintenance: already {host.state}")
        if everyones or host.cordon.actor == ctx.actor:
            return stayed(host, f"{NO_LONGER_WHEN_FREE}: {host.cordon.reason}")
        return already(host, f"goes to maintenance when it is free, for {in_words((host.cordon,))}")
    rest = remaining_reasons(ctx, host, everyones)
    if rest:
        whose = in_words(rest)
        return already(host, f"stays in maintenance for {whose}")
    state, words = where_resume_leads(ctx, host, now)
    return Outcome(host.name, True, words, host.state, state)
