"""Apply a verb to many hosts, each independently; the result has an outcome for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime

from bmhctl.domain.model import Host
from bmhctl.errors import BmhctlError
from bmhctl.results import Outcome, Outcomes, attempt, failed
from bmhctl.stores.database import UNRECORDED
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose, exact_names
from bmhctl.usecases.shared.refresh import refresh_and_reap, retried

Pending = list[tuple[Mapping[int, Host], Mapping[int, Outcome]]]
"""The hosts as they were before the latest commit, and the outcomes of that commit, both by host id.

The commit's transaction sets them, because a signal may come between the commit and its end.
"""


def committed(ctx: Context, pending: Pending) -> dict[int, Outcome]:
    """Return the outcomes of the hosts that the latest commit has changed; none if it failed."""
    found: dict[int, Outcome] = {}
    for hosts, outcomes in pending:
        with suppress(BmhctlError):  # the first error was reported already
            for host in ctx.store.hosts.fresh([hosts[each] for each in outcomes if each in hosts]).values():
                if outcomes[host.id].changed and host.last_event != hosts[host.id].last_event:
                    found[host.id] = outcomes[host.id]
    return found


@retried
def each_in_one_commit(
    ctx: Context, verb: str, choice: Choice, one: Callable[[Host, datetime], Outcome], *, force: bool = False
) -> Outcomes:
    """Apply ``one`` to each chosen host in a savepoint; commit together those that succeeded.

    Asks for confirmation as ``confirmed`` does, for many hosts and for ``force``. If a signal interrupts the
    commit, the hosts that it has changed are reported.
    """
    if ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirmed

        def run(ctx: Context, choice: Choice) -> Outcomes:
            return each_in_one_commit(ctx, verb, choice, one)

        return confirmed(ctx, verb, choice, run, force=force)
    refresh_and_reap(ctx)

    def guarded(host: Host) -> Outcome:
        with ctx.store.savepoint():
            return one(host, now)

    names, pending = exact_names(choice), Pending()
    try:
        with ctx.transaction(shared=bool(names)):
            now = ctx.clock()
            if names:
                ctx.store.hosts.lock_named(names)
            hosts, missing = choose(ctx, choice)
            items = tuple(attempt(host, guarded) for host in hosts)
            known = {host.id: host for host in hosts}
            pending[:] = [(known, dict(zip(known, items, strict=True)))]
    except KeyboardInterrupt:
        ctx.store.abandon()
        report_interrupted(ctx, verb, committed(ctx, pending).values(), len(pending and pending[0][0]))
        raise
    return Outcomes(verb, (*items, *(failed(error) for error in missing)))


def report_saved(ctx: Context, command: str) -> None:
    """After an interruption, report what this process has saved in the actor's name and not shown.

    Changes without an event are reported as the ``command`` that made them.
    """
    from bmhctl.stores.events import EventQuery
    from bmhctl.support.folding import folded

    ctx.store.abandon()
    ids = {*ctx.store.database.unreported}
    is_changed = UNRECORDED in ids
    ids.discard(UNRECORDED)
    saved: dict[tuple[str, str | None], list[str]] = {}
    with suppress(BmhctlError):
        for event in ctx.store.events.find(EventQuery(after=min(ids) - 1, upto=max(ids))) if ids else ():
            if event.id in ids and event.actor == ctx.actor:
                saved.setdefault((event.verb, event.reservation), []).append(event.host)
    for (verb, reservation), hosts in saved.items():
        under = f" ({reservation})" if reservation else ""
        ctx.report(f"interrupted, but saved before: {verb} {' '.join(folded(hosts))}{under}")
    if is_changed and not saved:
        ctx.report(f"interrupted, but saved before: {command}")


def report_interrupted(ctx: Context, verb: str, outcomes: Iterable[Outcome], total: int) -> None:
    """Report the outcomes so far of an interrupted verb, and how many of the ``total`` hosts have no outcome."""
    done = tuple(outcomes)
    if ctx.show_part is None:
        for outcome in done:
            ctx.report(f"{outcome.host}: {outcome.message}")
        return
    if done:
        ctx.show_part(Outcomes(verb, done))
        ctx.store.database.unreported.clear()
    if total > 1:
        ctx.report(f"interrupted: {verb} was not finished on {total - len(done)} of {total} hosts")
