"""Repeat the checks of free hosts when their last pass is too old; bring back hosts that failed and pass again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from threading import Event

from bmhctl.domain.model import Host, Phase, State, Verb
from bmhctl.domain.policy import AHEAD, Policy, is_within
from bmhctl.domain.requirements import Requirement, load_requirements
from bmhctl.results import Outcome, already, failed
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import quarantine
from bmhctl.usecases.steps.execution import Claimed, StepsRun
from bmhctl.usecases.steps.parallel import BulkOperation, Job
from bmhctl.usecases.steps.step_outcomes import failure_of, finish, note_failure

_FRESH = timedelta(seconds=15)
"""How recently a ticket must have been refreshed; its process does so every five seconds."""

_STEPS_ASIDE = "a request waits for it"


class Rechecks:
    """The checks of free hosts: which are due, which are running, and which must end early; at most ``jobs`` at once.

    At most the policy's share of the free hosts is checked at once. A host that a waiting request could take is not
    checked, and its running checks are ended. A host that fails goes to maintenance. With ``recover_after`` it is tried
    again after this time, and becomes available when its checks pass twice. Without ``recheck_after`` nothing is due.
    """

    def __init__(self, ctx: Context, jobs: int) -> None:
        self.policy = ctx.store.policy()
        self._ctx = ctx
        self._jobs = jobs
        self._running: dict[int, tuple[Host, Event]] = {}
        self._wanted: list[Requirement] = []

    def due(self) -> list[Host]:
        """Return the hosts to check now, those with the oldest pass first; no more than the policy allows at a time."""
        policy = self.policy = self._ctx.store.policy()
        if policy.recheck_after is None:
            return []
        self._wanted = [*_waiting_requirements(self._ctx)]
        now = self._ctx.clock()
        stale = self._ctx.store.hosts.stale(now - policy.recheck_after, now + AHEAD)
        fit = [host for host in stale if host.id not in self._running and not self._is_wanted(host)]
        if fit:
            free = self._ctx.store.hosts.counts()[State.AVAILABLE]
            at_once = max(1, min(self._jobs, int(free * policy.recheck_share)))
            fit = fit[: max(0, at_once - len(self._running))]
        return [*fit, *_recovering(self._ctx, policy, now)[: self._jobs]]

    def operation(self) -> BulkOperation:
        """Return the operation for a host that is free or failed a recheck."""
        return BulkOperation("recheck", self._early, self._prepare, self.policy.of(Phase.CHECKS), State.AVAILABLE)

    def _early(self, host: Host) -> Outcome | None:
        if host.state is State.MAINTENANCE:
            return None if _may_recover(host) else already(host, "changed meanwhile")
        if host.state is not State.AVAILABLE or not self.policy.is_stale(host, self._ctx.clock()):
            return already(host, "changed meanwhile")
        return already(host, _STEPS_ASIDE) if self._is_wanted(host) else None

    def _prepare(self, held: Claimed) -> Job:
        plan = held.plan(Phase.CHECKS)
        if held.host.state is State.MAINTENANCE:
            return Job(held, plan, lambda run: self._passed(held, run))
        ends = Event()
        self._running[held.host.id] = held.host, ends
        return Job(held, plan.ended_by(ends), lambda run: self._checked(held, run, ends))

    def _checked(self, held: Claimed, run: StepsRun, ends: Event) -> Outcome:
        self._running.pop(held.host.id, None)
        if ends.is_set() and run.refusal is not None:
            return already(held.host, _STEPS_ASIDE)
        ctx = self._ctx

        def note(now: datetime) -> Outcome:
            host = held.save_observed(held.unchanged(), run.results, now)
            ctx.store.step_results.save(host, run.results, now)
            if run.refusal is None:
                ctx.store.hosts.save_checks_passed(host, now)
                return already(host, f"checked again: {run.summary}", run.results)
            words = f"failed a repeated check: {run.refusal}"
            moved = quarantine(ctx, host, words, now, run.results)
            error = failure_of(
                moved, run, f"{words}; it is in maintenance now", f"fix it, then: bmhctl resume {host.name}"
            )
            return held.keep_outcome(moved, failed(error, moved))

        return held.settle(note)

    def _passed(self, held: Claimed, run: StepsRun, *, twice: bool = False) -> Job | Outcome:
        if run.refusal is not None:
            raise note_failure(self._ctx, held, run)
        if not twice:
            return Job(held, held.plan(Phase.CHECKS), lambda again: self._passed(held, again, twice=True))
        return finish(self._ctx, held, Verb.RESUME, checks=replace(run, summary=f"passed twice: {run.summary}"))

    def step_aside(self) -> None:
        """End the checks of hosts that a waiting request could take."""
        self._wanted = [*_waiting_requirements(self._ctx)] if self._running else []
        for host, ends in self._running.values():
            if self._is_wanted(host):
                ends.set()

    def _is_wanted(self, host: Host) -> bool:
        return host.cordon is None and any(wanted.fits(host.spec) for wanted in self._wanted)


def _waiting_requirements(ctx: Context) -> Iterable[Requirement]:
    now = ctx.clock()
    for ticket in ctx.store.tickets.all():
        if abs(now - ticket.refreshed_at) < _FRESH:
            yield from load_requirements(ticket.requirements)


def _may_recover(host: Host) -> bool:
    """Return whether a host in maintenance was available and clean before, and only bmhctl itself moved it there."""
    return (
        host.state is State.MAINTENANCE
        and host.came_from is State.AVAILABLE
        and not host.dirty
        and host.reservation is None
        and bool(host.maintenance)
        and all(note.quarantine for note in host.maintenance)
    )


def _recovering(ctx: Context, policy: Policy, now: datetime) -> list[Host]:
    """Return the hosts in maintenance that may come back by themselves, if their last checks are long enough ago."""
    if policy.recover_after is None:
        return []
    results = ctx.store.step_results.of_hosts_in(State.MAINTENANCE, Phase.CHECKS)
    due = []
    for host in ctx.store.hosts.find(HostQuery(states=frozenset({State.MAINTENANCE}))):
        times = [host.since, *(result.at for result in results.get(host.id, ()) if result.at)]
        if _may_recover(host) and not any(is_within(at, policy.recover_after, now) for at in times):
            due.append(host)
    return due
