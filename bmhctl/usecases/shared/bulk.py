"""Apply a verb to many hosts, each independently; the result has an outcome for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from bmhctl.domain.model import Host
from bmhctl.results import Outcome, Outcomes, attempt, failed
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose, confirmed, exact_names
from bmhctl.usecases.shared.refresh import refresh_and_reap, retried


@retried
def each_in_one_commit(
    ctx: Context, verb: str, choice: Choice, one: Callable[[Host, datetime], Outcome], *, force: bool = False
) -> Outcomes:
    """Apply ``one`` to each chosen host in a savepoint; commit together those that succeeded.

    Asks for confirmation as :func:`confirmed` does, for many hosts and for ``force``.
    """
    refresh_and_reap(ctx)
    choice = confirmed(ctx, verb, choice, force=force)

    def guarded(host: Host) -> Outcome:
        with ctx.store.savepoint():
            return one(host, now)

    names = exact_names(choice)
    with ctx.transaction(shared=bool(names)):
        now = ctx.clock()
        if names:
            from bmhctl.stores.host_query import HostQuery

            ctx.store.hosts.lock(HostQuery(names=names))
        hosts, missing = choose(ctx, choice)
        items = tuple(attempt(host, guarded) for host in hosts)
    return Outcomes(verb, (*items, *(failed(error) for error in missing)))


def report_interrupted(ctx: Context, verb: str, outcomes: Iterable[Outcome], total: int) -> None:
    """Report the outcomes so far of an interrupted verb, and how many of the ``total`` hosts have no outcome."""
    done = tuple(outcomes)
    if ctx.show_part is None:
        for outcome in done:
            ctx.report(f"{outcome.host}: {outcome.message}")
        return
    if done:
        ctx.show_part(Outcomes(verb, done))
    if total > 1:
        ctx.report(f"interrupted: {verb} was not finished on {total - len(done)} of {total} hosts")
