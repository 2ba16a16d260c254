"""Run a verb's steps on many hosts at once, each host under its own claim.

Hosts on which no step has to run need no claim and no thread; many of them are moved in one commit. Hosts that leave
the inventory are removed together, because each edit of a TOML file has its price.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import cached_property, partial
from threading import Event
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Host, State
from bmhctl.domain.policy import Policy, Step
from bmhctl.errors import BmhctlError, StateRefusedError
from bmhctl.results import Outcome, Outcomes, attempt, failed
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.shared.bulk import Pending, committed, report_interrupted
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import FEW
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.steps.execution import Claimed, ClaimedError, StepPlan, StepsRun, Unclaimed, claimed

if TYPE_CHECKING:
    from bmhctl.support.worker_pool import WorkerPool
    from bmhctl.usecases.shared.host_changes import Removal

_IN_ONE_COMMIT = 10_000


class Leaving(Frozen):
    """A host whose steps have passed and which is to be removed, with the results of the steps."""

    host: Host
    removal: Removal
    steps: tuple[CheckResult, ...]


class Job(Frozen):
    """A claimed host, the steps to run on it, if any, and what to do with their results.

    ``finish`` returns the outcome, the next job, or that the host leaves. ``so_far`` is the outcome if an interruption
    ends the work here. ``later`` are the plans of the jobs that follow. ``note`` saves the result of a step as soon as
    the step ends; without it, ``finish`` saves all results.
    """

    held: Claimed
    plan: StepPlan
    finish: Callable[[StepsRun], Outcome | Job | Leaving]
    so_far: Outcome | None = None
    later: tuple[StepPlan, ...] = ()
    note: Callable[[CheckResult], None] | None = None

    def proceed(self, run: StepsRun) -> Outcome | Job | Leaving:
        """Finish, and return what ``finish`` returns; raise :class:`UnreachableError` if the claim was lost."""
        self.held.check()
        return self.finish(run)

    def settle(self, run: StepsRun) -> Outcome | Job | Leaving:
        """Return the outcome that was committed before an interruption; if there is none, do as :meth:`proceed`."""
        return self.held.committed_outcome() or self.proceed(run)


class BulkOperation(Frozen):
    """What a verb does with each host.

    ``early`` returns the outcome of a host on which no step has to run; None if steps have to run. ``prepare`` makes
    the job of a claimed host. ``steps`` are the steps of the policy that may have to run. ``dest`` is the state of a
    host whose steps passed; None if it is not moved. ``first`` writes what has to be written before any step runs, for
    all hosts in one commit; it returns the changed host, or the outcome if that is all. ``unfinished`` returns what to
    report about the hosts with these names if an interruption leaves them as ``first`` has written them.
    """

    verb: str
    early: Callable[[Host], Outcome | None]
    prepare: Callable[[Claimed], Job]
    steps: tuple[Step, ...]
    dest: State | None = None
    first: Callable[[Host, datetime], Outcome | Host] | None = None
    unfinished: Callable[[Sequence[str]], str] | None = None


def _without_pause(found: Outcome | Job | Leaving) -> Outcome | Job | Leaving:
    """Finish a job and those that follow, up to one with steps to run; return that job, or what the last returns."""
    while isinstance(found, Job) and not found.plan.steps:
        found = found.finish(found.plan.run())
    return found


def _begin_unclaimed(
    ctx: Context, operation: BulkOperation, host: Host, busy: Collection[int], policy: Policy, now: datetime
) -> Outcome | Job | Leaving:
    """Process a host in the caller's transaction, up to the first job with steps to run; return it, or the outcome.

    ``busy`` are the ids of the hosts on which a step of another command runs.
    """
    found = operation.early(host)
    if found is None and host.id in busy:
        raise ClaimedError(host)
    return found or _without_pause(operation.prepare(Unclaimed(ctx, host, policy, now)))


class Runner:
    """Processes hosts, each under its own claim: steps run in threads, everything else in the caller's thread.

    ``ended`` is called with each host and its outcome, and again with the same outcome if a signal interrupts it.
    """

    def __init__(self, ctx: Context, jobs: int, ended: Callable[[Host, Outcome], None]) -> None:
        self.running: dict[int, Job] = {}
        self.active: dict[int, dict[str, float]] = {}
        """By host id, the names of the steps that run now, each with its start time (monotonic)."""
        self._ctx = ctx
        self._ended = ended
        self._claims: dict[int, ExitStack] = {}
        self._last: tuple[Host, Outcome] | None = None
        self._leaving: dict[int, Leaving] = {}
        self._removed: list[tuple[Host, Outcome]] = []
        self._jobs = jobs

    @cached_property
    def _pool(self) -> WorkerPool[Job, StepsRun]:
        from bmhctl.support.worker_pool import WorkerPool  # imported here, since hosts without steps need no threads

        return WorkerPool(self._work, self._jobs)

    def run_all(self, operation: BulkOperation, hosts: Sequence[Host], first: int, total: int) -> None:
        """Process the hosts, several at once; the progress counts them from ``first`` up to ``total``."""

        def begin(item: tuple[int, Host]) -> None:
            position, host = item
            self._ctx.progress(f"{operation.verb} {host.name}", f"{position} of {total}")
            self.begin(operation, host)

        self._pool.run_all(enumerate(hosts, first), begin, self._handle)
        self._remove_leaving()

    def run_for_ever(self, more: Callable[[], None]) -> None:
        """Process hosts until ``more`` or a signal raises; ``more`` is called regularly and may :meth:`begin` hosts."""

        def go_on() -> None:
            more()
            self._remove_leaving()

        self._pool.run_for_ever(go_on, self._handle)

    def begin(self, operation: BulkOperation, host: Host) -> None:
        """Begin to process a host."""
        self._advance(host, partial(self._start, operation, host))

    def cancel(self) -> None:
        """End all steps; steps that ended by themselves before keep their effect."""
        ended = self._pool.cancel()
        self._end_last()
        self._ctx.store.abandon()
        with suppress(BmhctlError):  # the first error was reported already
            for job, run in ended:
                if self.running.get(job.held.host.id) is job:
                    self._advance(job.held.host, partial(job.settle, run))
            self._remove_leaving()

    def close(self) -> None:
        """Release all claims."""
        for stack in self._claims.values():
            stack.close()

    def _work(self, job: Job, cancelled: Event) -> StepsRun:
        note, active = job.note, self.active.setdefault(job.held.host.id, {})
        report = None if note is None else lambda result: self._pool.post(partial(_note, note, result))
        return job.plan.run(cancelled, report, active)

    def _start(self, operation: BulkOperation, host: Host) -> Outcome | Job:
        self._claims[host.id] = ExitStack()
        outcome = operation.early(host)
        if outcome is not None:
            return outcome
        held = self._claims[host.id].enter_context(claimed(self._ctx, host))
        return operation.early(held.host) or operation.prepare(held)  # the host may have changed since it was chosen

    def _handle(self, job: Job, run: StepsRun) -> None:
        self._advance(job.held.host, partial(job.proceed, run))

    def _advance(self, host: Host, act: Callable[[], Outcome | Job | Leaving]) -> None:
        """Go on with a host until it waits for steps or for its removal, or its outcome is known."""

        def one(_: Host) -> Outcome | None:
            found = _without_pause(act())
            if isinstance(found, Job):
                self.running[host.id] = found
                self._pool.start(found)
                return None
            if isinstance(found, Leaving):
                self._leaving[host.id] = found
                self._pool.idle = self._remove_leaving
                return None
            return found

        outcome = attempt(host, one)
        if outcome is not None:
            self._end(host, outcome)

    def remove(self, leaving: Iterable[Leaving]) -> None:
        """Remove hosts on which no step had to run; if a signal interrupts this, :meth:`cancel` completes it."""
        self._leaving |= {each.host.id: each for each in leaving}
        self._remove_leaving()

    def _remove_leaving(self) -> None:
        """Remove the hosts that wait for it, all together."""
        if self._leaving:
            self._removed += _removed(self._ctx, list(self._leaving.values()))
            self._leaving.clear()
        while self._removed:
            self._end(*self._removed[0])
            del self._removed[0]

    def _end(self, host: Host, outcome: Outcome) -> None:
        self._last = host, outcome  # a signal may come before the outcome is reported
        self._claims.pop(host.id, ExitStack()).close()
        self._end_last()

    def _end_last(self) -> None:
        """Report the last outcome unless it was reported already."""
        if self._last is not None:
            host, outcome = self._last
            self.running.pop(host.id, None)
            self.active.pop(host.id, None)
            self._ended(host, outcome)
            self._last = None


class _HasStepsError(Exception):
    """A step has to run on the host after all."""


def each(
    ctx: Context, operation: BulkOperation, hosts: Sequence[Host], missing: Iterable[BmhctlError], jobs: int
) -> Outcomes:
    """Process each host independently with ``operation``, ``jobs`` at once, and return the outcomes.

    ``missing`` are errors for names without a host. After an interruption, the steps that have ended keep their effect.
    """
    if ctx.dry_run:
        return _planned(ctx, operation, hosts, missing)
    outcomes: dict[int, Outcome] = {}
    pending = Pending()

    def ended(host: Host, outcome: Outcome) -> None:
        outcomes[host.id] = outcome

    runner = Runner(ctx, jobs, ended)
    begun: Sequence[Host] = ()
    try:
        begun = hosts if operation.first is None else _first(ctx, operation.first, hosts, outcomes, pending)
        without = [host for host in begun if not any(step.applies_to(host.spec) for step in operation.steps)]
        for start in range(0, len(without), _IN_ONE_COMMIT):
            some = without[start : start + _IN_ONE_COMMIT]
            ctx.progress(f"{operation.verb} {some[0].spec.name}", f"{start + 1} of {len(without)}")
            done, leaving = _in_one_commit(ctx, operation, some, pending)
            outcomes |= done
            runner.remove(leaving)
        rest = [host for host in begun if host.id not in outcomes]
        if rest:
            runner.run_all(operation, rest, len(outcomes) + 1, len(hosts))
    except BaseException:
        runner.cancel()
        outcomes |= committed(ctx, pending)
        halfway = [job.so_far for job in runner.running.values() if job.so_far]
        report_interrupted(ctx, operation.verb, (*outcomes.values(), *halfway), len(hosts))
        left = [host.name for host in begun if host.id not in outcomes]
        if left and operation.unfinished is not None:
            ctx.report(operation.unfinished(left))
        raise
    finally:
        runner.close()
    found = (*(outcomes[host.id] for host in hosts), *(failed(error) for error in missing))
    return Outcomes(operation.verb, found)


def _planned(ctx: Context, operation: BulkOperation, hosts: Sequence[Host], missing: Iterable[BmhctlError]) -> Outcomes:
    """Return what the operation would do with each host: the steps that would run, and the state if they passed."""
    with ctx.transaction():
        ctx.store.hosts.fresh(hosts, lock=True)  # raises if they may not be changed
        now, policy = ctx.clock(), ctx.store.policy()
        busy = ctx.store.claims.claimed_hosts([host.id for host in hosts])

        def one(host: Host) -> Outcome:
            begun = host if operation.first is None else operation.first(host, now)
            if isinstance(begun, Outcome):
                return begun
            found = _begin_unclaimed(ctx, operation, begun, busy, policy, now)
            if isinstance(found, Leaving):
                return _retired(found)
            if isinstance(found, Job):
                plans = (found.plan, *found.later)
                steps = [step.name for plan in plans for step in plan.steps if step.name not in plan.overridden]
                words = f"if these pass: {', '.join(steps)}"
                return Outcome(host.name, True, words, host.state, operation.dest or host.state)
            return found

        outcomes = [attempt(host, one) for host in hosts]
    return Outcomes(operation.verb, (*outcomes, *(failed(error) for error in missing)))


def _note(note: Callable[[CheckResult], None], result: CheckResult) -> None:
    with suppress(BmhctlError):  # the job ends with the same error, and reports it
        note(result)


def _retired(leaving: Leaving) -> Outcome:
    words = f"retired: {leaving.removal.reason}"
    return Outcome(leaving.host.name, True, words, leaving.host.state, None, steps=leaving.steps)


def _removed(ctx: Context, leaving: Sequence[Leaving]) -> list[tuple[Host, Outcome]]:
    """Remove hosts from the inventory, all in one change; return each with its outcome."""
    from bmhctl.usecases.shared.declare import change_each
    from bmhctl.usecases.shared.host_changes import Changes

    outcomes = change_each(ctx, Changes(removals=tuple(each.removal for each in leaving)))
    found = {outcome.host: outcome for outcome in outcomes}

    def one(each: Leaving) -> Outcome:
        outcome = found[each.removal.name]
        # A host that is gone was removed by a change that a signal interrupted after its commit.
        kept = None if outcome.error is None else ctx.store.hosts.with_id(each.host.id)
        return _retired(each) if kept is None else replace(outcome, state=kept.state)

    return [(each.host, one(each)) for each in leaving]


@retried
def _first(
    ctx: Context,
    first: Callable[[Host, datetime], Outcome | Host],
    hosts: Sequence[Host],
    outcomes: dict[int, Outcome],
    pending: Pending,
) -> list[Host]:
    """Call ``first`` for each host in one commit; add the outcomes, and return the other hosts as they are then.

    A host on which a step of another command runs is refused.
    """
    begun: list[Host] = []
    found: dict[int, Outcome] = {}
    are_few = len(hosts) <= FEW
    with ctx.store.transaction(shared=are_few):
        now = ctx.clock()
        fresh = ctx.store.hosts.fresh(hosts, lock=are_few)
        busy = ctx.store.claims.claimed_hosts([host.id for host in hosts])

        def one(host: Host) -> Outcome | Host:
            if host.id not in fresh:
                raise StateRefusedError("was removed meanwhile", host=host.name)
            with ctx.store.savepoint():
                left = first(fresh[host.id], now)
                if isinstance(left, Host) and host.id in busy:
                    raise ClaimedError(host)
                return left

        for host in hosts:
            left = attempt(host, one)
            if isinstance(left, Host):
                begun.append(left)
            else:
                found[host.id] = left
        pending[:] = [(fresh, found)]
    outcomes |= found
    return begun


@retried
def _in_one_commit(
    ctx: Context, operation: BulkOperation, hosts: Sequence[Host], pending: Pending
) -> tuple[dict[int, Outcome], list[Leaving]]:
    """Process hosts without steps; return the outcomes, and the hosts that are to be removed."""
    outcomes: dict[int, Outcome] = {}
    leaving: list[Leaving] = []
    are_few = len(hosts) <= FEW
    with ctx.store.transaction(shared=are_few):
        now, policy = ctx.clock(), ctx.store.policy()
        fresh = ctx.store.hosts.fresh(hosts, lock=are_few)
        busy = ctx.store.claims.claimed_hosts([host.id for host in hosts])

        def one(host: Host) -> Outcome | None:
            with ctx.store.savepoint():
                found = _begin_unclaimed(ctx, operation, fresh[host.id], busy, policy, now)
                if isinstance(found, Job):  # the policy has changed meanwhile
                    raise _HasStepsError
                if isinstance(found, Leaving):
                    leaving.append(found)
                    return None
                return found

        for host in hosts:
            if host.id in fresh:  # a missing host was removed meanwhile
                with suppress(_HasStepsError):
                    outcome = attempt(host, one)
                    if outcome is not None:
                        outcomes[host.id] = outcome
        pending[:] = [(fresh, outcomes)]
    return outcomes, leaving
