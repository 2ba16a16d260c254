"""Ready, reset, check and recycle; end a step that outlived its bmhctl.

A host is claimed, and its steps run in a thread. The results are saved in one transaction if the host has not changed
meanwhile. The threads never use the inventory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from bmhctl.domain.model import EventKind, Host, Phase, State, Verb
from bmhctl.domain.policy import PHASES
from bmhctl.errors import BmhctlError, NotYoursError, StateRefusedError, UsageError
from bmhctl.lifecycle.machine import refuse_impossible
from bmhctl.results import Outcome, Outcomes, already, attempt, failed, stayed
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose, unfold
from bmhctl.usecases.shared.leases import check_token
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.steps.execution import Claimed, ClaimedError, record_alone
from bmhctl.usecases.steps.parallel import BulkOperation, Job, each
from bmhctl.usecases.steps.step_outcomes import cleaned, record_checks, to_available

JOBS = 16
"""The default number of hosts that are processed at once."""


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
    running; this needs a ``reason``, which is recorded in the history.
    """
    overridden = _overridden(ctx, override, reason)

    def early(host: Host) -> Outcome | None:
        if host.state is State.AVAILABLE:
            return already(host, "already available: its setup is not repeated" if again else None)
        refuse_impossible(Verb.READY, host)
        return None

    def prepare(held: Claimed) -> Job:
        return to_available(ctx, held, overridden, again=again)

    refresh_and_reap(ctx)
    operation = BulkOperation(
        "ready", early, prepare, ctx.store.policy().of(Phase.SETUP, Phase.CHECKS), State.AVAILABLE
    )
    return each(ctx, operation, *choose(ctx, choice), jobs)


def reset(ctx: Context, choice: Choice, *, jobs: int = JOBS) -> Outcomes:
    """Run the cleanup of each tainted host, and make the host initial if it succeeds; return the outcomes.

    A host with a fault is cleaned only when its exact name is given; otherwise it is refused.
    """
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        return confirmed(ctx, "reset", choice, partial(reset, jobs=jobs))

    def early(host: Host) -> Outcome | None:
        if host.state is State.INITIAL:
            return already(host)
        refuse_impossible(Verb.RESET, host)
        if host.fault is not None and host.name not in choice.names:
            raise StateRefusedError(
                f"has a fault: {host.fault}",
                host=host.name,
                hint=f"once it is repaired, name it: bmhctl reset {host.name}",
            )
        return None

    def prepare(held: Claimed) -> Job:
        return Job(held, held.plan(Phase.CLEANUP), lambda run: cleaned(ctx, held, run))

    _tidy(ctx)
    refresh_and_reap(ctx)
    operation = BulkOperation("reset", early, prepare, ctx.store.policy().of(Phase.CLEANUP), State.INITIAL)
    return each(ctx, operation, *choose(ctx, choice), jobs)


def _tidy(ctx: Context) -> None:
    from bmhctl.usecases.shared.expiry import forget_left_claims

    forget_left_claims(ctx)


def recycle(ctx: Context, choice: Choice, *, jobs: int = JOBS) -> Outcomes:
    """Reset used hosts and make them ready, all tainted hosts or those that are chosen; return the outcomes.

    Initial hosts are made ready, too, if they are named, if an earlier ``recycle`` failed to make them available, or if
    their planned maintenance ended by itself. A host with a fault is skipped unless its exact name is given, and a host
    on which another command runs a step unless it is named. A host that is being retired is retired instead.
    """
    _tidy(ctx)
    named = set(unfold(choice.names))

    def unless_named(item: Outcome) -> Outcome:
        busy = isinstance(item.error, ClaimedError) and item.host not in named
        return replace(item, message=f"skipped: {item.message}", error=None) if busy else item

    refresh_and_reap(ctx)
    hosts, missing = to_recycle(ctx, choice)
    if not (hosts or choice.names or choice.selector):
        return Outcomes("recycle", (), ("no host is tainted",))
    outcomes = each(ctx, recycling(ctx, choice, hosts), hosts, missing, jobs)
    return replace(outcomes, items=tuple(map(unless_named, outcomes.items)))


def to_recycle(ctx: Context, choice: Choice) -> tuple[list[Host], list[BmhctlError]]:
    """Return the hosts to which ``recycle`` applies, and the errors for names that it can't use."""
    named = set(unfold(choice.names))
    if not (choice.names or choice.selector):
        tainted = ctx.store.hosts.find(replace(choice, states=frozenset({State.TAINTED})).query(None))
        return [*tainted, *ctx.store.hosts.being_recycled()], []
    hosts, missing = choose(ctx, choice)
    found = [host for host in hosts if host.state is State.TAINTED or _goes_on(host) or host.name in named]
    if hosts and not found:
        ctx.report("none of the chosen hosts is tainted")
    return found, list(missing)


def recycling(ctx: Context, choice: Choice, hosts: Sequence[Host]) -> BulkOperation:
    """Return the operation of ``recycle`` for these hosts."""
    named = set(unfold(choice.names))

    def early(host: Host) -> Outcome | None:
        if host.state is State.AVAILABLE:
            return already(host)
        if host.state is not State.TAINTED and host.name not in named and not _goes_on(host):
            return already(host, f"another command was faster: it is {host.state}")
        if host.state is not State.INITIAL:
            refuse_impossible(Verb.RESET, host, "recycle")
        if host.fault is not None and host.name not in choice.names:
            return already(host, f"skipped because of its fault: {host.fault}")
        return None

    def prepare(held: Claimed) -> Job:
        if _retires(held.host):
            from bmhctl.usecases.steps.retire import retirement

            return retirement(ctx, held)
        if held.host.state is State.INITIAL:
            return to_available(ctx, held, {}, recycles=True)
        return Job(
            held,
            held.plan(Phase.CLEANUP),
            lambda run: then(held, cleaned(ctx, held, run, recycles=True)),
            later=(held.plan(Phase.SETUP), held.plan(Phase.CHECKS)) if ctx.dry_run else (),
        )

    def then(held: Claimed, reset_outcome: Outcome) -> Job:
        held.refresh()
        return to_available(ctx, held, {}, so_far=reset_outcome, recycles=True)

    phases = (Phase.CLEANUP, Phase.SETUP, Phase.CHECKS, *((Phase.RETIRE,) if any(map(_retires, hosts)) else ()))
    return BulkOperation("recycle", early, prepare, ctx.store.policy().of(*phases), State.AVAILABLE)


def _goes_on(host: Host) -> bool:
    return host.state is State.INITIAL and host.failed_recycles is not None and not host.undeclared


def _retires(host: Host) -> bool:
    return host.cordon is not None and host.cordon.retires


def end_step(ctx: Context, choice: Choice) -> Outcomes:
    """End the processes that still run a step on the named hosts after their bmhctl has died; return the outcomes.

    Each end is recorded as an event. The outcome of a host is a :class:`StateRefusedError` if the bmhctl of the step is
    alive, or if this user can't see or end the step's process. Raises :class:`UsageError` without names.
    """
    from bmhctl.stores.claims import host_claim

    if not choice.names:
        raise UsageError("--end-step needs the names of hosts", hint="bmhctl recycle --end-step node01")
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)

    def one(host: Host) -> Outcome:
        claim = host_claim(host.id)
        if not ctx.store.claims.claimed_hosts([host.id]):
            return already(host, "no step is running on it")
        holders = ctx.store.claims.holders(claim)
        for holder in holders:
            if holder.is_runner:
                raise StateRefusedError(
                    f"its step is run by bmhctl: {holder}",
                    host=host.name,
                    hint=f"end bmhctl instead: kill {holder.id}" if holder.id else "end bmhctl instead, on its machine",
                )
            if holder.ends_by_itself:
                raise StateRefusedError(
                    f"{holder}: {holder.ends_by_itself}", host=host.name, hint="try again after that"
                )
        if not holders:
            raise StateRefusedError(
                "a step is running on it, in a process that is not seen from here",
                host=host.name,
                hint="try again as the user that started it, or as root",
            )
        words = "; ".join(map(str, holders))
        if not ctx.dry_run:
            try:
                ctx.store.claims.end_holders(claim)
            except PermissionError:
                raise StateRefusedError(
                    f"its step belongs to another user: {words}", host=host.name, hint="try again as that user, or root"
                ) from None
            record_alone(ctx, host, EventKind.STEP_FAILED, f"ended: {words}")
        return stayed(host, f"ended: {words}")

    return Outcomes("end-step", (*(attempt(host, one) for host in hosts), *(failed(error) for error in missing)))


def check(ctx: Context, choice: Choice, *, only: Sequence[str] = (), jobs: int = JOBS, force: bool = False) -> Outcomes:
    """Run readiness checks without moving a host, and record their results; return the outcomes.

    ``only`` names the checks to run; empty for all. A host that another owner has reserved needs ``force``.
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
        plan = held.plan(Phase.CHECKS)
        if only:
            plan = replace(plan, steps=tuple(step for step in plan.steps if step.name in only))
        return Job(held, plan, lambda run: record_checks(ctx, held, run, not only))

    refresh_and_reap(ctx)
    return each(
        ctx, BulkOperation("check", early, prepare, ctx.store.policy().of(Phase.CHECKS)), *choose(ctx, choice), jobs
    )


def _overridden(ctx: Context, override: Sequence[str], reason: str | None) -> Mapping[str, str]:
    if override and not (reason and reason.strip()):
        raise UsageError("--override needs --reason, which is recorded in the history")
    _known_steps(ctx, override, Phase.SETUP, Phase.CHECKS)
    return dict.fromkeys(override, reason or "")


def _known_steps(ctx: Context, names: Sequence[str], *phases: Phase) -> None:
    if not names:
        return
    refresh(ctx)
    policy = ctx.store.policy()
    known = [step.name for step in policy.of(*phases)]
    words = [PHASES[each].short_noun for each in reversed(phases) if policy.of(each) or each is Phase.CHECKS]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no {' or '.join(words)} {name!r}", hint=f"declared: {', '.join(known) or 'none'}"
            )
