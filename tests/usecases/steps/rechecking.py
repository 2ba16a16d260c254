"""Recheck stale hosts, as ``recycle --watch`` does, until none is due."""

from __future__ import annotations

from contextlib import suppress

from bmhctl.results import Outcome, Outcomes
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps.execution import ClaimedError
from bmhctl.usecases.steps.parallel import Runner
from bmhctl.usecases.steps.recheck import Rechecks
from bmhctl.usecases.steps.step_verbs import JOBS


class _NoneIsDueError(Exception):
    """Every stale host has an outcome."""


def recheck(ctx: Context, *, jobs: int = JOBS) -> Outcomes:
    """Return the outcomes of the stale hosts, each at most once; hosts that another process has claimed are skipped."""
    refresh_and_reap(ctx)
    rechecks = Rechecks(ctx, jobs)
    found: dict[str, Outcome] = {}
    begun: set[str] = set()
    runner = Runner(ctx, jobs, lambda host, outcome: found.update({host.name: outcome}))

    def more() -> None:
        for host in rechecks.due():
            if host.name not in begun:
                begun.add(host.name)
                runner.begin(rechecks.operation(), host)
        rechecks.step_aside()
        if not runner.running:
            raise _NoneIsDueError

    try:
        with suppress(_NoneIsDueError):
            runner.run_for_ever(more)
    except BaseException:
        runner.cancel()
        raise
    finally:
        runner.close()
    return Outcomes("recheck", tuple(item for item in found.values() if not isinstance(item.error, ClaimedError)))
