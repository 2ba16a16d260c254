"""Recheck stale hosts, as ``recycle --watch`` does, until none is due."""

from __future__ import annotations

from bmhctl.results import Outcome, Outcomes
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps.execution import ClaimedError
from bmhctl.usecases.steps.parallel import each
from bmhctl.usecases.steps.recheck import Rechecks
from bmhctl.usecases.steps.step_verbs import JOBS


def recheck(ctx: Context, *, jobs: int = JOBS) -> Outcomes:
    """Return the outcomes of the stale hosts, each at most once; hosts that another process has claimed are skipped."""
    refresh_and_reap(ctx)
    rechecks = Rechecks(ctx, jobs)
    found: dict[str, Outcome] = {}
    while hosts := [host for host in rechecks.due() if host.name not in found]:
        for outcome in each(ctx, rechecks.operation(), hosts, (), jobs).items:
            found[outcome.host] = outcome
    return Outcomes("recheck", tuple(item for item in found.values() if not isinstance(item.error, ClaimedError)))
