"""Run a verb's steps on many hosts at once, each host under its own claim.

Hosts on which no step has to run need no claim and no thread; many of them are moved in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from threading import Event
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Host, State
from bmhctl.domain.policy import Step
from bmhctl.errors import BmhctlError
from bmhctl.results import Outcome, Outcomes, attempt, failed
from bmhctl.support.values import Frozen
from bmhctl.usecases.shared.bulk import report_interrupted
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import FEW
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.steps.execution import Claimed, ClaimedError, StepPlan, StepsRun, Unclaimed, claimed

if TYPE_CHECKING:
    from bmhctl.support.worker_pool import WorkerPool

NO_STEPS = StepsRun((), None, "maintenance complete")
"""The results of a job without steps."""

_IN_ONE_COMMIT = 10_000


class Job(Frozen):
    """A claimed host, the steps to run on it (None: none), and what to do with their results.

    ``finish`` returns the outcome or the next job. ``so_far`` is the outcome if an interruption ends the work here.
    ``later`` are the plans of the jobs that follow. ``note`` saves the result of a step as soon as the step ends;
    without it, ``finish`` saves all results.
    """

    held: Claimed
    program: StepPlan | None
    finish: Callable[[StepsRun], Outcome | Job]
    so_far: Outcome | None = None
    later: tuple[StepPlan, ...] = ()
    note: Callable[[CheckResult], None] | None = None

    @property
    def takes_time(self) -> bool:
        """Whether the job has a step to run."""
        return self.program is not None and bool(self.program.steps)

    def steps_to_run(self) -> list[str]:
        """Return the names of the steps that run if all pass, including those of the jobs that follow."""
        plans = (*((self.program,) if self.program else ()), *self.later)
        return [step.name for plan in plans for step in plan.steps if step.name not in plan.overridden]

    def run(
        self,
        cancelled: Event | None,
        report: Callable[[CheckResult], None] | None = None,
        active: dict[str, float] | None = None,
    ) -> StepsRun:
        """Run the steps, in any thread, and call ``report`` with each result; return the results.

        ``active`` receives the running steps, each with its start time.
        """
        return NO_STEPS if self.program is None else self.program.run(cancelled, report, active)

    def proceed(self, run: StepsRun) -> Outcome | Job:
        """Finish, and return the outcome or the next job; raise :class:`UnreachableError` if the claim was lost."""
        self.held.check()
        return self.finish(run)

    def settle(self, run: StepsRun) -> Outcome | Job:
        """Return the outcome that was committed before an interruption; if there is none, do as :meth:`proceed`."""
        return self.held.committed_outcome() or self.proceed(run)


class BulkOperation(Frozen):
    """What a verb does with each host.

    ``early`` returns the outcome of a host on which no step has to run; None if steps have to run. ``prepare`` makes
    the job of a claimed host. ``steps`` are the steps of the policy that may have to run; None means that ``early``
    commits by itself, so that hosts can't share a commit. ``dest`` is the state of a host whose steps passed; None if
    it is not moved. ``tick`` is called now and then while steps run.
    """

    verb: str
    early: Callable[[Host], Outcome | None]
    prepare: Callable[[Claimed], Job]
    steps: tuple[Step, ...] | None
    dest: State | None = None
    tick: Callable[[], None] | None = None

    def has_steps(self, host: Host) -> bool:
        """Return whether any of the steps may have to run on this host."""
        return self.steps is None or any(step.applies_to(host.spec) for step in self.steps)


def _without_pause(found: Outcome | Job) -> Outcome | Job:
    """Finish a job and those that follow, up to one with steps to run; return that job, or the outcome."""
    while isinstance(found, Job) and not found.takes_time:
        found = found.finish(found.run(None))
    return found


class Runner:
    """Processes hosts, each under its own claim: steps run in threads, everything else in the caller's thread.

    ``ended`` is called with each host and its outcome, and again with the same outcome if a signal interrupts it.
    ``tick`` is called now and then while steps run.
    """

    def __init__(
        self, ctx: Context, jobs: int, ended: Callable[[Host, Outcome], None], tick: Callable[[], None] | None = None
    ) -> None:
        self.running: dict[int, Job] = {}
        self.active: dict[int, dict[str, float]] = {}
        """By host id, the names of the steps that run now, each with its start time (monotonic)."""
        self._ctx = ctx
        self._ended = ended
        self._claims: dict[int, ExitStack] = {}
        self._last: tuple[Host, Outcome] | None = None
        self._jobs = jobs
        self._tick = tick

    @cached_property
    def _pool(self) -> WorkerPool[Job, StepsRun]:
        from bmhctl.support.worker_pool import WorkerPool  # imported here, since hosts without steps need no threads

        return WorkerPool(self._work, self._jobs, self._tick)

    def run_all(self, operation: BulkOperation, hosts: Sequence[Host], first: int, total: int) -> None:
        """Process the hosts, several at once; the progress counts them from ``first`` up to ``total``."""

        def begin(item: tuple[int, Host]) -> None:
            position, host = item
            self._ctx.progress(f"{operation.verb} {host.name}", f"{position} of {total}")
            self.begin(operation, host)

        self._pool.run_all(enumerate(hosts, first), begin, self._handle)

    def run_for_ever(self, more: Callable[[], None]) -> None:
        """Process hosts until ``more`` or a signal raises; ``more`` is called regularly and may :meth:`begin` hosts."""
        self._pool.run_for_ever(more, self._handle)

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

    def close(self) -> None:
        """Release all claims."""
        for stack in self._claims.values():
            stack.close()

    def _work(self, job: Job, cancelled: Event) -> StepsRun:
        note, active = job.note, self.active.setdefault(job.held.host.id, {})
        report = None if note is None else lambda result: self._pool.post(partial(_note, note, result))
        return job.run(cancelled, report, active)

    def _start(self, operation: BulkOperation, host: Host) -> Outcome | Job:
        self._claims[host.id] = ExitStack()
        outcome = operation.early(host)
        if outcome is not None:
            return outcome
        held = self._claims[host.id].enter_context(claimed(self._ctx, host))
        return operation.early(held.host) or operation.prepare(held)  # the host may have changed since it was chosen

    def _handle(self, job: Job, run: StepsRun) -> None:
        self._advance(job.held.host, partial(job.proceed, run))

    def _advance(self, host: Host, act: Callable[[], Outcome | Job]) -> None:
        """Go on with a host until it waits for steps, or its outcome is known."""

        def one(_: Host) -> Outcome | None:
            found = act()
            while isinstance(found, Job):
                if found.takes_time:
                    self.running[host.id] = found
                    self._pool.start(found)
                    return None
                found = found.finish(found.run(None))
            return found

        outcome = attempt(host, one)
        if outcome is not None:
            self._last = host, outcome  # a signal may come before the outcome is reported
            self._claims.pop(host.id).close()
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

    ``missing`` are errors for names without a host; they become failed outcomes. After an interruption, the steps that
    have ended keep their effect and are reported.
    """
    if ctx.dry_run:
        return _planned(ctx, operation, hosts, missing)
    outcomes: dict[int, Outcome] = {}

    def ended(host: Host, outcome: Outcome) -> None:
        outcomes[host.id] = outcome

    runner = Runner(ctx, jobs, ended, operation.tick)
    try:
        _without_steps(ctx, operation, [host for host in hosts if not operation.has_steps(host)], outcomes)
        rest = [host for host in hosts if host.id not in outcomes]
        if rest:
            runner.run_all(operation, rest, len(outcomes) + 1, len(hosts))
    except BaseException:
        runner.cancel()
        halfway = [job.so_far for job in runner.running.values() if job.so_far]
        report_interrupted(ctx, operation.verb, (*outcomes.values(), *halfway), len(hosts))
        raise
    finally:
        runner.close()
    found = (*(outcomes[host.id] for host in hosts), *(failed(error) for error in missing))
    return Outcomes(operation.verb, found)


def _planned(ctx: Context, operation: BulkOperation, hosts: Sequence[Host], missing: Iterable[BmhctlError]) -> Outcomes:
    """Return what the operation would do with each host: the steps that would run, and the state if they passed."""
    with ctx.transaction():
        now, policy = ctx.clock(), ctx.store.policy()
        busy = ctx.store.claims.claimed_hosts([host.id for host in hosts])

        def one(host: Host) -> Outcome:
            found: Outcome | Job | None = operation.early(host)
            if found is None and host.id in busy:
                raise ClaimedError(host)
            found = found or _without_pause(operation.prepare(Unclaimed(ctx, host, policy, now)))
            if isinstance(found, Job):
                steps = ", ".join(found.steps_to_run())
                return Outcome(host.name, True, f"if these pass: {steps}", host.state, operation.dest or host.state)
            return found

        outcomes = [attempt(host, one) for host in hosts]
    return Outcomes(operation.verb, (*outcomes, *(failed(error) for error in missing)))


def _note(note: Callable[[CheckResult], None], result: CheckResult) -> None:
    with suppress(BmhctlError):  # the job ends with the same error, and reports it
        note(result)


def _without_steps(ctx: Context, operation: BulkOperation, hosts: Sequence[Host], outcomes: dict[int, Outcome]) -> None:
    """Process the hosts on which no step has to run, and add their outcomes; skip the other hosts."""
    for start in range(0, len(hosts), _IN_ONE_COMMIT):
        some = hosts[start : start + _IN_ONE_COMMIT]
        ctx.progress(f"{operation.verb} {some[0].name}", f"{start + 1} of {len(hosts)}")
        outcomes |= _in_one_commit(ctx, operation, some)


@retried
def _in_one_commit(ctx: Context, operation: BulkOperation, hosts: Sequence[Host]) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    are_few = len(hosts) <= FEW
    with ctx.store.transaction(shared=are_few):
        now, policy = ctx.clock(), ctx.store.policy()
        fresh = ctx.store.hosts.fresh(hosts, lock=are_few)
        busy = ctx.store.claims.claimed_hosts([host.id for host in hosts])

        def one(host: Host) -> Outcome:
            host = fresh[host.id]
            with ctx.store.savepoint():
                found: Outcome | Job | None = operation.early(host)
                if found is None and host.id in busy:
                    raise ClaimedError(host)
                found = found or _without_pause(operation.prepare(Unclaimed(ctx, host, policy, now)))
                if isinstance(found, Job):  # the policy has changed meanwhile
                    raise _HasStepsError
                return found

        for host in hosts:
            if host.id in fresh:  # a missing host was removed meanwhile
                with suppress(_HasStepsError):
                    outcomes[host.id] = attempt(host, one)
    return outcomes
