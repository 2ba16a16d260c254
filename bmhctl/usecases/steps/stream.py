"""Recycle hosts as soon as they are tainted, and recheck free hosts, until a signal or an error ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from bmhctl.domain.model import Host, Phase, State
from bmhctl.errors import BmhctlError, InvalidError, MovedError, RetiredError, UnreachableError
from bmhctl.results import Outcome
from bmhctl.results.recycling import Activity, Backlog
from bmhctl.support.values import replace
from bmhctl.usecases.shared.absence import Absence
from bmhctl.usecases.shared.context import Context, once
from bmhctl.usecases.shared.expiry import forget_left_claims
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps.execution import ClaimedError
from bmhctl.usecases.steps.parallel import BulkOperation, Job, Runner
from bmhctl.usecases.steps.recheck import Rechecks
from bmhctl.usecases.steps.step_verbs import recycling, to_recycle

_LOOK_AROUND = 5.0
"""Seconds after which the inventory is read again without a commit, because leases expire and steps end."""

_UNLIMITED = 1_000_000


class Stream:
    """Recycles the hosts of a choice until a signal or an error ends it.

    ``ended`` is called with the verb and the outcome of each host, ``trouble`` once with each error of the inventory or
    of a name, and ``show`` with the backlog from time to time. Hosts that failed are tried again after ``interval``, or
    when they have changed. At most ``jobs`` hosts are recycled at once; checks of free hosts do not count.
    """

    def __init__(
        self,
        ctx: Context,
        choice: Choice,
        *,
        jobs: int,
        interval: timedelta,
        absence: Absence,
        ended: Callable[[str, Outcome], None],
        trouble: Callable[[BmhctlError], None],
        show: Callable[[Backlog], None] | None = None,
    ) -> None:
        self._ctx = ctx
        self._choice = choice
        self._choosing = replace(ctx, report=once(ctx.report))  # report only once that the selector fits no host
        self._jobs = jobs
        self._interval = interval.total_seconds()
        self._ended = ended
        self._report_trouble = trouble
        self._show = show
        self._absence = absence
        self._rechecks = Rechecks(ctx, jobs)
        self._runner = Runner(ctx, _UNLIMITED, self._end)
        self._began: dict[int, tuple[BulkOperation, float]] = {}
        self._failed: dict[int, tuple[Host, float]] = {}
        """By id of each host that failed: the host after the failure, and the time of the failure."""
        self._seen: object = None
        self._finished = 0
        self._looked = self._tidied = float("-inf")
        self._has_looked = False
        self._waiting: tuple[str, ...] = ()
        self._elsewhere: tuple[str, ...] = ()
        self._trouble: set[str] = set()

    def run(self) -> None:
        """Run until a signal or an error ends it; then end all steps. Hosts whose steps have ended keep the result.

        Raises :class:`InvalidError` when the inventory is invalid at the beginning or for too long, and
        :class:`UnreachableError` when it can't be reached while no step runs.
        """
        try:
            self._runner.run_for_ever(self._more)
        except BaseException:
            self._runner.cancel()
            for job in self._runner.running.values():
                if job.so_far is not None:
                    self._ended(self._began[job.held.host.id][0].verb, job.so_far)
            if self._runner.running:
                names = ", ".join(sorted(job.held.host.name for job in self._runner.running.values()))
                self._ctx.report(f"interrupted: recycle was not finished on {names}")
            raise
        finally:
            self._runner.close()

    def _more(self) -> None:
        try:
            if self._is_due():
                self._start()
                self._absence.ends()
                self._has_looked = True
            self._rechecks.step_aside()
        except InvalidError as error:
            if not (self._has_looked or self._absence.reason):
                raise
            self._seen = None  # so that the inventory is read again soon
            self._absence.record(error, is_busy=bool(self._runner.running))
        except UnreachableError as error:
            # Running steps may outlast a short absence; in a long one, they end with their claims.
            if isinstance(error, MovedError | RetiredError) or not self._runner.running:
                raise
            self._seen = None
            self._absence.record(error)
        if self._show is not None:
            self._show(self._backlog())

    def _is_due(self) -> bool:
        """Return whether the inventory changed, or was last read long ago."""
        seen = self._ctx.store.events.newest(), self._finished
        now = time.monotonic()
        if seen == self._seen and now - self._looked < min(_LOOK_AROUND, self._interval):
            return False
        self._seen, self._looked = seen, now
        return True

    def _note(self, errors: Sequence[BmhctlError]) -> None:
        """Report new errors, and forget errors that no longer occur."""
        for error in errors:
            if error.message not in self._trouble:
                self._report_trouble(error)
        self._trouble = {error.message for error in errors}

    def _start(self) -> None:
        """Begin with the hosts that need work now."""
        ctx = self._ctx
        refresh_and_reap(ctx)
        hosts, missing = to_recycle(self._choosing, self._choice)
        self._note(missing)
        hosts = [host for host in hosts if self._may_try(host)]
        if hosts or self._looked - self._tidied >= self._interval:
            self._tidied = self._looked
            forget_left_claims(ctx)
        self._start_recycling(hosts)
        for host in self._rechecks.due():
            if self._may_try(host):
                self._begin(self._rechecks.operation(), host)

    def _start_recycling(self, hosts: list[Host]) -> None:
        busy = self._ctx.store.claims.claimed_hosts([host.id for host in hosts])
        self._elsewhere = tuple(host.name for host in hosts if host.id in busy)
        free = [host for host in hosts if host.id not in busy]
        operation = recycling(self._ctx, self._choice, free)
        room = max(0, self._jobs - sum(op.verb == "recycle" for op, _ in self._began.values()))
        self._waiting = tuple(host.name for host in free[room:])
        for host in free[:room]:
            self._begin(operation, host)

    def _begin(self, operation: BulkOperation, host: Host) -> None:
        self._began[host.id] = operation, time.monotonic()
        self._runner.begin(operation, host)

    def _may_try(self, host: Host) -> bool:
        if host.id in self._began:
            return False
        if host.id not in self._failed:
            return True
        left, at = self._failed[host.id]
        return left.last_event != host.last_event or time.monotonic() - at >= self._interval

    def _end(self, host: Host, outcome: Outcome) -> None:
        if host.id not in self._began:
            return  # the outcome was reported before a signal came
        operation, _ = self._began[host.id]
        self._finished += 1
        self._failed.pop(host.id, None)
        if outcome.error is not None:
            left = self._ctx.store.hosts.with_id(host.id)
            if left is not None:
                self._failed[host.id] = left, time.monotonic()
        if not isinstance(outcome.error, ClaimedError):  # after a ClaimedError, another recycler was faster
            self._ended(operation.verb, outcome)
        del self._began[host.id]

    def _backlog(self) -> Backlog:
        now = time.monotonic()
        found = [self._activity(job, now) for job in self._runner.running.values()]
        again = [
            (host.name, max(0.0, at + self._interval - now))
            for host_id, (host, at) in self._failed.items()
            if host_id not in self._began and host.state in (State.TAINTED, State.INITIAL)
        ]
        found.sort(key=lambda each: -each.seconds)
        return Backlog(tuple(found), self._waiting, tuple(sorted(again, key=lambda one: one[1])), self._elsewhere)

    def _activity(self, job: Job, now: float) -> Activity:
        host = job.held.host
        operation, began = self._began[host.id]
        steps = sorted(dict(self._runner.active.get(host.id, {})).items(), key=lambda one: one[1])
        names = [step.name for step in job.plan.steps]
        last = max((names.index(name) for name, _ in steps if name in names), default=-1)
        later = names[last + 1 :]
        if job.plan.phase in (Phase.CLEANUP, Phase.SETUP) and operation.verb == "recycle":
            phases = (Phase.SETUP, Phase.CHECKS) if job.plan.phase is Phase.CLEANUP else (Phase.CHECKS,)
            later += [step.name for phase in phases for step in job.held.policy.applying(phase, host.spec)]
        ages = tuple((name, now - at) for name, at in steps)
        return Activity(host.name, operation.verb, now - began, ages, tuple(later))
