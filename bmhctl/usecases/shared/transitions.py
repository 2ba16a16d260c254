"""Move a host through the lifecycle: the machine decides, and the host is saved with one event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.domain.model import (
    CheckResult,
    Event,
    EventKind,
    Guard,
    Host,
    Note,
    Reservation,
    State,
    StepTiming,
    Verb,
)
from bmhctl.errors import BmhctlError, BusyError, NotYoursError, StateRefusedError, StepFailedError, UsageError
from bmhctl.lifecycle.machine import GuardInput, ask
from bmhctl.lifecycle.table import where
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context

SELF = "bmhctl"
"""The actor of changes that bmhctl makes by itself, such as the end of an expired lease or a quarantine."""

_BREAKS = frozenset(
    {EventKind.CORDON, EventKind.RETIRING, EventKind.FAULT, EventKind.UNDECLARE, EventKind.REASON_ADDED}
)
"""Events, other than a move to maintenance, after which a host may be unusable for its bookings."""

_ERRORS: dict[Guard, type[BmhctlError]] = {
    Guard.SETUP_COMPLETE: StepFailedError,
    Guard.CHECKS_PASSED: StepFailedError,
    Guard.CLEANUP_SUCCEEDED: StepFailedError,
    Guard.CLEAN_OR_CLEANED: StepFailedError,
    Guard.RETIREMENT_SUCCEEDED: StepFailedError,
    Guard.MAY_BE_TAINTED: NotYoursError,
    Guard.REASON_GIVEN: UsageError,
    Guard.NOT_UNDECLARED: BusyError,
    Guard.NOT_CORDONED: BusyError,
    Guard.ITS_TURN: BusyError,
    Guard.NOT_BOOKED: BusyError,
}
"""The error class for a refusal, by guard; for other guards it is :class:`StateRefusedError`."""


def decide(verb: Verb, host: Host, inputs: GuardInput) -> State:
    """Return the state to which a verb leads a host; raise the error of the guard that refuses."""
    answer = ask(verb, host.state, inputs)
    if answer.dest is not None:
        return answer.dest
    # If there are several edges, the last one requires the least, so report its guard.
    guard, words = answer.refusals[-1]
    raise _ERRORS.get(guard, StateRefusedError)(
        f"can't {verb}: {words}", host=host.name, hint=f"bmhctl why {host.name}"
    )


def changed_meanwhile(host: Host) -> StateRefusedError:
    """Return the error for a host that changed while its steps ran."""
    return StateRefusedError(
        f"changed while its steps ran: it is {where(host.state)} now",
        host=host.name,
        hint=f"see bmhctl history {host.name}, then try again",
    )


def move(
    ctx: Context,
    host: Host,
    verb: Verb,
    inputs: GuardInput,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str | None = None,
    reservation: Reservation | None = None,
    steps: tuple[CheckResult, ...] | None = None,
    recycles: bool = False,
) -> Host:
    """Move a host with a verb, save it with its event, and return it; sets all fields that depend on the state.

    ``reservation`` is the new reservation for ``reserve``. ``steps`` are the results of the steps that ran before. With
    ``recycles``, ``recycle`` makes a host that becomes initial available later. Raises the errors of :func:`decide`.
    """
    held = reservation or host.reservation
    event = event_of(ctx, host, verb, now, reason, actor, held.id if held else None, steps)
    dest = decide(verb, host, inputs)
    moved = replace(
        host,
        state=dest,
        since=now,
        reservation=held if dest in (State.RESERVED, State.MAINTENANCE) else None,
        dirty=dest not in (State.INITIAL, State.AVAILABLE) and (host.dirty or dest is State.RESERVED),
        came_from=host.state if dest is State.MAINTENANCE else None,
        proven_at=now if dest is State.AVAILABLE else None,  # every edge to available requires passed checks
        setup=None,
        failed_setups=0 if dest in (State.INITIAL, State.AVAILABLE) else host.failed_setups,
        failed_recycles=0 if recycles and dest is State.INITIAL else None,
    )
    if (dest is State.RESERVED and host.state is State.AVAILABLE) or dest is State.TAINTED:
        moved = replace(moved, used_at=now)
    elif dest is State.INITIAL and host.dirty:
        repaired = host.fault is not None  # ``reset`` cleans a host with a fault only if a person names it
        tasks = () if repaired else moved.failed_tasks
        moved = replace(moved, fault=None, failed_cleanups=0, failed_tasks=tasks)
    if dest is State.MAINTENANCE:
        exchange(ctx, host, now)
    if verb is Verb.RESUME:
        moved = replace(moved, maintenance=(), failed_tasks=())
    return ctx.store.hosts.save(moved, replace(event, dest=dest))


def add_reason(
    ctx: Context,
    host: Host,
    note: Note,
    now: datetime,
    *,
    reason: str | None = None,
    has_claim: bool = True,
    steps: tuple[CheckResult, ...] | None = None,
) -> Host:
    """Add a reason for maintenance to a host, and move the host there unless it is there already; return the host.

    ``reason`` is what the event records (None: the reason of the note). ``has_claim`` is whether the caller holds the
    claim on the host. ``steps`` are as in :func:`move`.
    """
    words = reason or note.reason
    noted = replace(host, maintenance=(*host.maintenance, note))
    if host.state is State.MAINTENANCE:
        return record_event(ctx, noted, EventKind.REASON_ADDED, now, reason=words, actor=note.actor)
    is_claimed = not has_claim and bool(ctx.store.claims.claimed_hosts([host.id]))
    inputs = GuardInput.of(host, now, is_claimed=is_claimed, reason=words)
    return move(ctx, noted, Verb.MAINTAIN, inputs, now, reason=words, actor=note.actor, steps=steps)


def quarantine(
    ctx: Context, host: Host, reason: str, now: datetime, steps: tuple[CheckResult, ...] | None = None
) -> Host:
    """Move a claimed host to maintenance for a reason that bmhctl itself found; return the host."""
    return add_reason(ctx, host, Note(SELF, reason, now, quarantine=True), now, steps=steps)


def record_event(
    ctx: Context,
    host: Host,
    kind: EventKind,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str | None = None,
    reservation: str | None = None,
    steps: tuple[CheckResult, ...] | None = None,
    before: Mapping[str, object] | None = None,
) -> Host:
    """Save a host that changed but keeps its state, with its event; return the saved host.

    ``host`` has the new values. ``before`` is the former declaration, for ``undo``.
    """
    if kind in _BREAKS:
        exchange(ctx, host, now)
    return ctx.store.hosts.save(host, event_of(ctx, host, kind, now, reason, actor, reservation, steps, before))


def change_cordon(
    ctx: Context, host: Host, cordon: Note | None, now: datetime, reason: str | None, command: str | None = None
) -> Host:
    """Save a host with another cordon, or with none, so that ``undo`` can restore the former one; return the host.

    ``command`` is the command that does it, if it is not ``cordon`` or ``uncordon``.
    """
    from bmhctl.usecases.shared.former import Former

    kind = EventKind.UNCORDON if cordon is None else EventKind.CORDON
    before = Former(command=command).of(host, whole=True)
    return record_event(ctx, replace(host, cordon=cordon), kind, now, reason=reason, before=before)


def exchange(ctx: Context, host: Host, now: datetime) -> None:
    """Make the bookings of a host due now, so that after this commit another host replaces it if it is unusable."""
    ids = [each.id for each in host.planned if each.is_booking]
    if ids:
        ctx.store.make_due(ids, now)


def event_of(
    ctx: Context,
    host: Host,
    verb: Verb | EventKind,
    now: datetime,
    reason: str | None,
    actor: str | None = None,
    reservation: str | None = None,
    steps: tuple[CheckResult, ...] | None = None,
    before: Mapping[str, object] | None = None,
) -> Event:
    """Return an event that moves no host: its source and destination are the same."""
    return Event(
        host=host.spec.name,
        at=now,
        actor=actor or ctx.actor,
        verb=verb,
        source=host.state,
        dest=host.state,
        reason=reason,
        reservation=reservation or (host.reservation.id if host.reservation else None),
        steps=None if steps is None else tuple(StepTiming(s.phase, s.step, s.verdict, s.seconds) for s in steps),
        before=before,
    )
