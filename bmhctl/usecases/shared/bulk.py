"""Apply a verb to many hosts, each on its own; the result names every one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from bmhctl.domain.model import CheckResult, Host, Verb
from bmhctl.errors import BmhctlError, InvalidError, StateRefusedError, StepFailedError, UnreachableError
from bmhctl.lifecycle.table import edges, sources, where
from bmhctl.results import Outcome, Outcomes
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases.shared.context import Context, retried
from bmhctl.usecases.shared.host_selection import Choice, choose, exact_names
from bmhctl.usecases.shared.refresh import refresh_and_reap

_Outcome = TypeVar("_Outcome", Outcome, Outcome | None)


@retried
def each_in_one_commit(ctx: Context, verb: str, choice: Choice, one: Callable[[Host, datetime], Outcome]) -> Outcomes:
    """Treats each host on its own, behind a savepoint; what succeeded is committed at once."""
    refresh_and_reap(ctx)

    def guarded(host: Host) -> Outcome:
        with ctx.store.savepoint():
            return one(host, now)

    names = exact_names(choice)
    with ctx.store.transaction(shared=bool(names)):
        now = ctx.clock()
        if names:
            ctx.store.lock_hosts(HostQuery(names=names))
        hosts, missing = choose(ctx, choice)
        items = tuple(attempt(host, guarded) for host in hosts)
    return Outcomes(verb, (*items, *(failed(error) for error in missing)))


def attempt(host: Host, one: Callable[[Host], _Outcome]) -> _Outcome | Outcome:
    """The outcome of one host; what refuses or fails it is an outcome too."""
    try:
        return one(host)
    except (UnreachableError, InvalidError):
        raise  # the inventory itself is in trouble, not this host
    except BmhctlError as error:
        error.host = error.host or host.name
        return failed(error, host)


def failed(error: BmhctlError, host: Host | None = None) -> Outcome:
    """The outcome of a host that something stood against; it is as it was."""
    state = host.state if host else None
    steps = error.results if isinstance(error, StepFailedError) else ()
    return Outcome(error.host or "", False, error.message, state, state, steps=steps, error=error)


def already(host: Host, words: str | None = None) -> Outcome:
    """The outcome of a host that is where it was wanted."""
    return Outcome(host.name, False, words or f"already {host.state}", host.state, host.state)


def moved(before: Host, after: Host, words: str, steps: tuple[CheckResult, ...] = ()) -> Outcome:
    """The outcome of a host that changed."""
    held = after.reservation or before.reservation
    return Outcome(
        host=before.name,
        changed=True,
        message=words,
        source=before.state,
        state=after.state,
        reservation=held.id if held else None,
        steps=steps,
    )


def refuse_early(verb: Verb, host: Host, word: str | None = None) -> None:
    """Refuses, before any step runs, what the table refuses anyway."""
    if not edges(verb, host.state):
        raise StateRefusedError(
            f"is {where(host.state)}: {word or verb} is only possible from {', '.join(sources(verb))}",
            host=host.name,
            hint=f"bmhctl why {host.name}",
        )
