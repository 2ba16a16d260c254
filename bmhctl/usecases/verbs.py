"""The verbs of the lifecycle but ``reserve``: each host on its own, all are tried, the result names every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from bmhctl.errors import (
    BmhctlError,
    InvalidError,
    NotYoursError,
    StateRefusedError,
    StepFailedError,
    UnreachableError,
    UsageError,
)
from bmhctl.lifecycle.machine import NOT_CHECKED, NOT_CLEANED
from bmhctl.lifecycle.table import edges, sources, where
from bmhctl.model import Host, Mark, Remark, State, Verb
from bmhctl.results import Outcome, Outcomes, Plan
from bmhctl.usecases.choosing import Choice, choose
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import begin, look
from bmhctl.usecases.leases import EXPIRED, check_token, describe, forced_reason, give_back, held_reservation, hosts_of
from bmhctl.usecases.moving import SELF, decide, facts_of, move, remark
from bmhctl.usecases.steps import Claimed, StepsRun, claimed


def ready(ctx: Context, choice: Choice) -> Outcomes:
    """Runs the readiness checks of each host that is initial, and makes those that pass available."""

    def one(host: Host) -> Outcome:
        if host.state is State.AVAILABLE:
            return _already(host)
        _refuse_early(Verb.READY, host)
        with claimed(ctx, host) as held:
            _refuse_early(Verb.READY, held.host)
            checks = held.run_checks()
            if checks.refusal is not None:
                raise _note_failure(ctx, held, checks)
            return _finish(ctx, held, Verb.READY, _Runs(checks=checks))

    return _each(ctx, "ready", choice, one)


def reset(ctx: Context, choice: Choice) -> Outcomes:
    """Runs the cleanup of each host that is tainted, and makes those that it cleaned initial.

    A host with a fault is cleaned only when it is named exactly. A cleanup that fails is counted; after the
    policy's ``quarantine_after`` in a row the host goes to maintenance by itself.
    """

    def one(host: Host) -> Outcome:
        if host.state is State.INITIAL:
            return _already(host)
        _refuse_early(Verb.RESET, host)
        if host.fault is not None and host.name not in choice.names:
            raise StateRefusedError(
                f"has a fault: {host.fault}",
                host=host.name,
                hint=f"once it is repaired, name it: bmhctl reset {host.name}",
            )
        with claimed(ctx, host) as held:
            _refuse_early(Verb.RESET, held.host)
            cleanup = held.run_cleanup()
            if cleanup.refusal is not None:
                raise _note_failure(ctx, held, cleanup, counted=True)
            return _finish(ctx, held, Verb.RESET, _Runs(cleanup=cleanup))

    return _each(ctx, "reset", choice, one)


def taint(
    ctx: Context,
    choice: Choice,
    *,
    reason: str | None = None,
    fault: str | None = None,
    reservation: str | None = None,
    force: bool = False,
    word: str = "taint",
) -> Outcomes:
    """Takes each host out of its reservation into tainted; ``fault`` also records what is broken.

    ``reservation`` is the fencing token; without it the actor's name must be the owner's. ``force`` needs a
    reason. ``word`` is what the caller calls it.
    """
    forced_reason(force, reason or fault)

    def one(host: Host, now: datetime) -> Outcome:
        if host.state is State.TAINTED:
            return _taint_again(ctx, host, now, fault, reservation)
        if reservation is not None or (host.reservation is not None and not force):
            check_token(ctx, host, reservation, now)
        if host.reservation is None:
            _refuse_early(Verb.TAINT, host, word)
        words = reason or (f"fault: {fault}" if fault else "task completed")
        left = give_back(ctx, host, now, reason=f"forced: {words}" if force else words)
        if fault:
            left = remark(ctx, replace(left, fault=fault), Remark.FAULT, now, reason=fault)
        return _moved(host, left, words)

    return _each_in_one_commit(ctx, word, choice, one)


def _taint_again(ctx: Context, host: Host, now: datetime, fault: str | None, token: str | None) -> Outcome:
    if token is not None:
        last = ctx.store.reservation(token)
        if last is None or last.is_open() or ctx.store.last_reservation(host) != token or _was_lost(last.end_reason):
            held_reservation(ctx, token, now)  # over, or unknown: says which
            raise NotYoursError(f"is tainted: reservation {token} does not hold it", host=host.name)
    if fault and fault != host.fault:
        left = remark(ctx, replace(host, fault=fault), Remark.FAULT, now, reason=fault)
        return Outcome(host.name, True, f"fault recorded: {fault}", host.state, left.state)
    return _already(host)


def _was_lost(end_reason: str | None) -> bool:
    return end_reason is None or end_reason == EXPIRED or end_reason.startswith("forced")


def release(
    ctx: Context,
    choice: Choice,
    *,
    reservation: str | None = None,
    reason: str | None = None,
    force: bool = False,
) -> Outcomes:
    """Gives hosts back, as ``taint`` does: those that are named, else all that the reservation still holds.

    A reservation that its holder gave back already is a success; one whose lease was lost is refused.
    """
    forced_reason(force, reason)
    words = reason or "released"
    if choice.names or choice.selector.terms or choice.states:
        return taint(ctx, choice, reason=words, reservation=reservation, force=force, word="release")
    if reservation is None:
        raise UsageError(
            "what shall be released?", hint="name hosts, or give -R RESERVATION; bmhctl reservations lists them"
        )
    begin(ctx)
    with ctx.store.transaction():
        now = ctx.clock()
        known = ctx.store.reservation(reservation)
        if known is not None and not known.is_open() and not _was_lost(known.end_reason):
            return Outcomes("release", (), (f"reservation {reservation} was given back already",))
        held = held_reservation(ctx, reservation, now)
        outcomes = []
        for host in hosts_of(ctx, held):
            left = give_back(ctx, host, now, reason=f"forced: {words}" if force else words)
            outcomes.append(_moved(host, left, words))
    return Outcomes("release", tuple(outcomes))


def maintain(ctx: Context, choice: Choice, *, reason: str, until: datetime | None = None) -> Outcomes:
    """Sets hosts aside with a reason; on a host in maintenance it adds the reason to those that are there.

    A reserved host keeps its reservation. ``until`` notes when it should be back; nothing happens then.
    """
    if not reason.strip():
        raise UsageError("maintain needs a reason", hint="bmhctl maintain HOST --reason 'new disk'")

    def one(host: Host, now: datetime) -> Outcome:
        mark = Mark(ctx.actor, reason, now, until)
        if host.state is not State.MAINTENANCE:
            facts = facts_of(ctx, host, now, reason=reason)
            decide(Verb.MAINTAIN, host, facts)
            left = move(ctx, replace(host, maintenance=(mark,)), Verb.MAINTAIN, facts, now, reason=reason)
            return _moved(host, left, reason)
        same = [m for m in host.maintenance if (m.actor, m.reason) == (mark.actor, mark.reason)]
        if same and same[0].until == until:
            return _already(host, f"already in maintenance: {reason}")
        others = tuple(m for m in host.maintenance if m not in same)
        mark = replace(mark, since=same[0].since) if same else mark
        remark(ctx, replace(host, maintenance=(*others, mark)), Remark.REASON_ADDED, now, reason=reason)
        return Outcome(host.name, True, f"reason added: {reason}", host.state, host.state)

    return _each_in_one_commit(ctx, "maintain", choice, one)


def resume(ctx: Context, choice: Choice, *, everyones: bool = False) -> Outcomes:
    """Closes the actor's reasons (``everyones``: all), and moves each host that has none left.

    It goes back to its valid reservation; or to available, if it came from there and its checks pass; else to
    initial, after a cleanup if it is dirty. A cleanup that fails leaves it where it is.
    """

    def one(host: Host) -> Outcome:
        if host.state is not State.MAINTENANCE:
            return _already(host, f"is not in maintenance: already {host.state}")
        rest = _rest(ctx, host, everyones)
        if rest:
            return _close_reasons(ctx, host, everyones)
        with claimed(ctx, host) as held:
            if held.host.state is not State.MAINTENANCE or _rest(ctx, held.host, everyones):
                held.unchanged()
                raise StateRefusedError("changed meanwhile", host=host.name, hint="look again, then try again")
            runs = _steps_to_resume(held)
            if runs.cleanup is not None and runs.cleanup.refusal is not None:
                raise _note_failure(ctx, held, runs.cleanup, counted=True)
            return _finish(ctx, held, Verb.RESUME, runs)

    return _each(ctx, "resume", choice, one)


def plan_resume(ctx: Context, choice: Choice, *, everyones: bool = False) -> Plan:
    """Where ``resume`` would bring each host and why; nothing runs and nothing changes."""
    now = look(ctx)
    hosts, missing = choose(ctx, choice)
    items = [_resume_words(ctx, host, everyones, now) for host in hosts]
    return Plan("resume", (*items, *(_failed(error) for error in missing)))


def cordon(ctx: Context, choice: Choice, *, reason: str | None = None) -> Outcomes:
    """Keeps hosts from being reserved from now on; whoever holds one keeps it."""

    def one(host: Host, now: datetime) -> Outcome:
        if host.cordon is not None and reason in (None, host.cordon.reason):
            return _already(host, f"already cordoned by {host.cordon.actor}")
        marked = replace(host, cordon=Mark(ctx.actor, reason or "", now))
        remark(ctx, marked, Remark.CORDON, now, reason=reason)
        return Outcome(host.name, True, "cordoned" + (f": {reason}" if reason else ""), host.state, host.state)

    return _each_in_one_commit(ctx, "cordon", choice, one)


def uncordon(ctx: Context, choice: Choice) -> Outcomes:
    """Lets hosts be reserved again."""

    def one(host: Host, now: datetime) -> Outcome:
        if host.cordon is None:
            return _already(host, "is not cordoned")
        remark(ctx, replace(host, cordon=None), Remark.UNCORDON, now)
        return Outcome(host.name, True, "uncordoned", host.state, host.state)

    return _each_in_one_commit(ctx, "uncordon", choice, one)


# how a verb treats many hosts


def _each(ctx: Context, verb: str, choice: Choice, one: Callable[[Host], Outcome]) -> Outcomes:
    """Treats each host on its own, in commits of its own: for verbs that run steps."""
    begin(ctx)
    hosts, missing = choose(ctx, choice)
    done: list[Outcome] = []
    try:
        for number, host in enumerate(hosts, 1):
            ctx.progress(f"{verb} {host.name} ({number} of {len(hosts)})")
            done.append(_tried(host, one))
    except BaseException:
        for outcome in done:  # each was committed on its own: whoever interrupts wants to know how far it went
            ctx.tell(f"{outcome.host}: {outcome.message}")
        raise
    return Outcomes(verb, (*done, *(_failed(error) for error in missing)))


def _each_in_one_commit(ctx: Context, verb: str, choice: Choice, one: Callable[[Host, datetime], Outcome]) -> Outcomes:
    """Treats each host on its own, behind a savepoint; what succeeded is committed at once."""
    begin(ctx)

    def guarded(host: Host) -> Outcome:
        with ctx.store.savepoint():
            return one(host, now)

    with ctx.store.transaction():
        now = ctx.clock()
        hosts, missing = choose(ctx, choice)
        items = tuple(_tried(host, guarded) for host in hosts)
    return Outcomes(verb, (*items, *(_failed(error) for error in missing)))


def _tried(host: Host, one: Callable[[Host], Outcome]) -> Outcome:
    try:
        return one(host)
    except (UnreachableError, InvalidError):
        raise  # the inventory itself is in trouble, not this host
    except BmhctlError as error:
        error.host = error.host or host.name
        return _failed(error, host)


def _failed(error: BmhctlError, host: Host | None = None) -> Outcome:
    state = host.state if host else None
    steps = error.results if isinstance(error, StepFailedError) else ()
    return Outcome(error.host or "", False, error.message, state, state, steps=steps, error=error)


def _already(host: Host, words: str | None = None) -> Outcome:
    return Outcome(host.name, False, words or f"already {host.state}", host.state, host.state)


def _moved(before: Host, after: Host, words: str, steps: StepsRun | None = None) -> Outcome:
    held = after.reservation or before.reservation
    return Outcome(
        host=before.name,
        changed=True,
        message=words,
        source=before.state,
        state=after.state,
        reservation=held.id if held else None,
        steps=steps.results if steps else (),
    )


def _refuse_early(verb: Verb, host: Host, word: str | None = None) -> None:
    """Refuses, before any step runs, what the table refuses anyway."""
    if not edges(verb, host.state):
        raise StateRefusedError(
            f"is {where(host.state)}: {word or verb} is only possible from {', '.join(sources(verb))}",
            host=host.name,
            hint=f"bmhctl why {host.name}",
        )


# verbs that run steps


@dataclass(frozen=True, slots=True)
class _Runs:
    """Which steps a verb ran; a group that its path does not need did not run."""

    checks: StepsRun | None = None
    cleanup: StepsRun | None = None


def _finish(ctx: Context, held: Claimed, verb: Verb, runs: _Runs) -> Outcome:
    run = runs.checks or runs.cleanup
    with ctx.store.transaction():
        now = ctx.clock()
        host = held.unchanged()
        facts = facts_of(
            ctx,
            host,
            now,
            checks=runs.checks.refusal if runs.checks else NOT_CHECKED,
            cleanup=runs.cleanup.refusal if runs.cleanup else NOT_CLEANED,
            claim_is_mine=True,
        )
        words = run.refusal or run.summary if run else "maintenance complete"
        left = move(ctx, host, verb, facts, now, reason=words)
    return _moved(host, left, words, run)


def _note_failure(ctx: Context, held: Claimed, run: StepsRun, *, counted: bool = False) -> StepFailedError:
    """Records that a step failed, counts failed cleanups and quarantines after too many; returns what to raise."""
    words = run.refusal or run.summary
    hint = f"mend it and try again; bmhctl why {held.host.name}"
    with ctx.store.transaction():
        now = ctx.clock()
        host = held.unchanged()
        failures = host.failed_cleanups + 1 if counted else host.failed_cleanups
        host = remark(ctx, replace(host, failed_cleanups=failures), Remark.STEP_FAILED, now, reason=words)
        limit = ctx.policy().quarantine_after
        if counted and failures >= limit and host.state is State.TAINTED:
            reason = f"quarantined after {failures} failed cleanups in a row"
            mark = Mark(SELF, reason, now, quarantine=True)
            facts = facts_of(ctx, host, now, reason=reason, claim_is_mine=True)
            marked = replace(host, maintenance=(mark,))
            move(ctx, marked, Verb.MAINTAIN, facts, now, reason=reason, actor=SELF)
            words = f"{words}; {reason}"
            hint = f"mend it, then: bmhctl resume {host.name}"
    details = {"steps": [{"step": r.step, "verdict": r.verdict, "detail": r.detail} for r in run.results]}
    error = StepFailedError(words, host=held.host.name, hint=hint, details=details)
    error.results = run.results
    return error


def _steps_to_resume(held: Claimed) -> _Runs:
    host = held.host
    if host.reservation is not None:
        return _Runs()
    if host.dirty:
        return _Runs(cleanup=held.run_cleanup())
    return _Runs(checks=held.run_checks()) if host.came_from is State.AVAILABLE else _Runs()


def _rest(ctx: Context, host: Host, everyones: bool) -> tuple[Mark, ...]:
    """The reasons that stay open after the actor's are closed; a quarantine's is anyone's to close."""
    return tuple(m for m in host.maintenance if not (everyones or m.quarantine or m.actor == ctx.actor))


def _close_reasons(ctx: Context, host: Host, everyones: bool) -> Outcome:
    with ctx.store.transaction():
        now = ctx.clock()
        fresh = ctx.store.host_with_id(host.id)
        if fresh is None or fresh.state is not State.MAINTENANCE:
            raise StateRefusedError("changed meanwhile", host=host.name, hint="look again, then try again")
        rest = _rest(ctx, fresh, everyones)
        whose = "; ".join(f"{mark.actor}: {mark.reason}" for mark in rest)
        closed = [mark for mark in fresh.maintenance if mark not in rest]
        if not closed:
            raise NotYoursError(
                f"stays in maintenance, and no reason there is yours: {whose}",
                host=host.name,
                hint=f"bmhctl resume {host.name} --all closes everybody's reasons",
            )
        reasons = "; ".join(mark.reason for mark in closed)
        remark(ctx, replace(fresh, maintenance=rest), Remark.REASON_CLOSED, now, reason=reasons)
    return Outcome(host.name, True, f"closed: {reasons}; stays for {whose}", host.state, host.state)


def _resume_words(ctx: Context, host: Host, everyones: bool, now: datetime) -> Outcome:
    if host.state is not State.MAINTENANCE:
        return _already(host, f"is not in maintenance: already {host.state}")
    rest = _rest(ctx, host, everyones)
    if rest:
        whose = "; ".join(f"{mark.actor}: {mark.reason}" for mark in rest)
        return Outcome(host.name, False, f"stays in maintenance for {whose}", host.state, host.state)
    state, words = where_resume_leads(ctx, host, now)
    return Outcome(host.name, True, words, host.state, state)


def where_resume_leads(ctx: Context, host: Host, now: datetime) -> tuple[State, str]:
    """Where a host in maintenance would go if its reasons were closed now, and why, supposing that steps pass."""
    policy = ctx.policy()
    if host.reservation is not None and host.reservation.is_valid(now):
        return State.RESERVED, f"its reservation is valid: {describe(host.reservation)}"
    if host.dirty:
        steps = [step.name for step in policy.cleanup if step.applies_to(host.spec)]
        run = f"if its cleanup succeeds ({', '.join(steps)}), else it stays" if steps else "no cleanup step applies"
        return State.INITIAL, f"it is dirty: {run}"
    if host.came_from is State.AVAILABLE:
        steps = [step.name for step in policy.checks if step.applies_to(host.spec)]
        run = f"if its checks pass ({', '.join(steps)}), else initial" if steps else "no readiness check applies"
        return State.AVAILABLE, f"it came from available and is clean: {run}"
    return State.INITIAL, f"it came from {host.came_from or 'elsewhere'} and is clean"
