"""Move a host through the lifecycle: the machine decides, and one event is saved with the host."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.model import Event, EventKind, Host, Note, Reservation, State, Verb
from bmhctl.errors import BmhctlError, BusyError, NotYoursError, StateRefusedError, StepFailedError, UsageError
from bmhctl.lifecycle.machine import NOT_CHECKED, NOT_CLEANED, GuardInput, ask
from bmhctl.lifecycle.table import Guard
from bmhctl.stores.claims import host_claim
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context

SELF = "bmhctl"
"""The actor of what bmhctl does by itself: a lease that ends, a quarantine."""

CLAIMED = "a check or cleanup is running on it"
"""Why a claimed host refuses."""

_ERRORS: dict[Guard, type[BmhctlError]] = {
    Guard.CHECKS_PASSED: StepFailedError,
    Guard.CLEANUP_SUCCEEDED: StepFailedError,
    Guard.CLEAN_OR_CLEANED: StepFailedError,
    Guard.MAY_BE_TAINTED: NotYoursError,
    Guard.REASON_GIVEN: UsageError,
    Guard.NOT_UNDECLARED: BusyError,
    Guard.NOT_CORDONED: BusyError,
    Guard.ITS_TURN: BusyError,
}
"""The error of each guard that says no; any other is a :class:`StateRefusedError`."""


def guard_input(
    ctx: Context,
    host: Host,
    now: datetime,
    *,
    checks: str | None = NOT_CHECKED,
    cleanup: str | None = NOT_CLEANED,
    holder: str | None = None,
    reason: str | None = None,
    claim_is_mine: bool = False,
) -> GuardInput:
    """What the guards may ask of a host; ``checks``, ``cleanup`` and ``holder`` as :class:`GuardInput` has them."""
    claimed = not claim_is_mine and bool(ctx.store.claims.claimed([host_claim(host.id)]))
    return GuardInput(
        undeclared="it is not declared any more" if host.undeclared else None,
        cordon=None if host.cordon is None else _cordoned(host.cordon),
        claim=CLAIMED if claimed else None,
        holder=holder,
        checks=checks,
        cleanup=cleanup,
        reason=reason,
        reservation_valid=host.reservation is not None and host.reservation.is_valid(now),
        came_from=host.came_from,
        dirty=host.dirty,
    )


def _cordoned(cordon: Note) -> str:
    return f"it is cordoned by {cordon.actor}" + (f": {cordon.reason}" if cordon.reason else "")


def decide(verb: Verb, host: Host, facts: GuardInput) -> State:
    """Where a verb leads a host; raises the error of the guard that says no, in its words."""
    answer = ask(verb, host.state, facts)
    if answer.dest is not None:
        return answer.dest
    # Of several ways out, the last one asks for least: its guard is what stands in the way.
    guard, words = answer.refusals[-1]
    raise _ERRORS.get(guard, StateRefusedError)(
        f"can't {verb}: {words}", host=host.name, hint=f"bmhctl why {host.name}"
    )


def move(
    ctx: Context,
    host: Host,
    verb: Verb,
    facts: GuardInput,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str | None = None,
    reservation: Reservation | None = None,
) -> Host:
    """Drives a host through one verb and saves it with its event; what each state implies is set here.

    ``reservation`` is the new one for ``reserve``. Raises as :func:`decide` does; then nothing was saved.
    """
    dest = decide(verb, host, facts)
    held = reservation or host.reservation
    moved = replace(
        host,
        state=dest,
        since=now,
        reservation=held if dest in (State.RESERVED, State.MAINTENANCE) else None,
        dirty=dest not in (State.INITIAL, State.AVAILABLE) and (host.dirty or dest is State.RESERVED),
        came_from=host.state if dest is State.MAINTENANCE else None,
    )
    if (dest is State.RESERVED and host.state is State.AVAILABLE) or dest is State.TAINTED:
        moved = replace(moved, used_at=now)
    elif dest is State.INITIAL and host.dirty:
        moved = replace(moved, fault=None, failed_cleanups=0)
    if verb is Verb.RESUME:
        moved = replace(moved, maintenance=())
    return ctx.store.save_host(
        moved,
        Event(
            host=host.name,
            at=now,
            actor=actor or ctx.actor,
            verb=verb,
            source=host.state,
            dest=dest,
            reason=reason,
            reservation=held.id if held else None,
        ),
    )


def record_event(
    ctx: Context,
    host: Host,
    kind: EventKind,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str | None = None,
    reservation: str | None = None,
) -> Host:
    """Saves what changed about a host without moving it (``host`` is as it shall be), with its event."""
    return ctx.store.save_host(host, event_of(ctx, host, kind, now, reason, actor, reservation))


def event_of(
    ctx: Context,
    host: Host,
    kind: EventKind,
    now: datetime,
    reason: str | None,
    actor: str | None = None,
    reservation: str | None = None,
) -> Event:
    """The event of a remark: its source is its destination."""
    return Event(
        host=host.name,
        at=now,
        actor=actor or ctx.actor,
        verb=kind,
        source=host.state,
        dest=host.state,
        reason=reason,
        reservation=reservation or (host.reservation.id if host.reservation else None),
    )
