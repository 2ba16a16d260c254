"""Who may act for a reservation, and how a host leaves a reservation, which ends with its last host."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.model import End, EventKind, FailedTask, Host, Note, Reservation, State, TaskResult, Verb
from bmhctl.domain.units import SECONDS, local_time
from bmhctl.errors import NotFoundError, NotYoursError, UsageError
from bmhctl.lifecycle.machine import GuardInput
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import add_reason, move, record_event

_MOST_NAMED = 3  # reservations in a hint

EXPIRED = "lease expired"
"""The reason for a taint after the lease has expired."""


def give_back(
    ctx: Context,
    host: Host,
    now: datetime,
    *,
    reason: str,
    end: End = End.RETURNED,
    actor: str | None = None,
    task: TaskResult | None = None,
    is_last: bool | None = None,
) -> Host:
    """Take a host out of its reservation, and return it; with its last host, the reservation ends as ``end`` says.

    A reserved host is tainted; a host in maintenance stays there, dirty, without the reservation. ``task`` is how the
    task on it ended; None if that is not known. ``is_last`` is whether the reservation holds no other host; None: this
    function reads it. The caller has checked that the actor may do this.
    """
    reservation = host.reservation
    if reservation is None:
        return host
    host = replace(host, failed_tasks=_failed_tasks(host, reservation, task))
    if host.state is State.RESERVED:
        inputs = GuardInput.of(host, now, is_claimed=False)  # no guard of ``taint`` asks about claims
        left = move(ctx, host, Verb.TAINT, inputs, now, reason=reason, actor=actor)
    else:
        left = record_event(
            ctx,
            replace(host, reservation=None, dirty=True),
            EventKind.RESERVATION_LOST,
            now,
            reason=reason,
            actor=actor,
            reservation=reservation.id,
        )
    left = _drained(ctx, left, now)
    if is_last is None:
        is_last = not ctx.store.hosts.is_any_held_by(reservation.id)
    if is_last:
        ctx.store.reservations.save(replace(reservation, ended_at=now, end_reason=reason, end=end))
    return left


def _drained(ctx: Context, host: Host, now: datetime) -> Host:
    """Move a host that was given back to maintenance if its cordon says so, in the caller's transaction; return it."""
    cordon = host.cordon
    if cordon is None or not cordon.maintains:
        return host
    note = Note(cordon.actor, cordon.reason, now, cordon.until)
    return add_reason(ctx, replace(host, cordon=cordon.before), note, now)


_MOST_FAILED_TASKS = 20  # the most failed tasks that a host keeps: more than any policy needs


def _failed_tasks(host: Host, reservation: Reservation, task: TaskResult | None) -> tuple[FailedTask, ...]:
    """Return the tasks that failed in a row, after one more; tasks of the same owner and purpose count once."""
    if task is None:
        return host.failed_tasks
    if task is TaskResult.COMPLETED:
        return ()
    others = tuple(t for t in host.failed_tasks if (t.owner, t.purpose) != (reservation.owner, reservation.purpose))
    return (*others, FailedTask(reservation.owner, reservation.purpose))[-_MOST_FAILED_TASKS:]


def reservation_missing(ctx: Context, command: str, message: str) -> UsageError:
    """Return the error of a command that was given no reservation; its hint has the command for those of the actor."""
    mine = [each for each in ctx.store.reservations.open() if each.is_held_by(ctx.actor)][:_MOST_NAMED]
    if not mine:
        return UsageError(message, hint="give -R ID, or set BMH_RESERVATION; bmhctl reservations lists them")
    from bmhctl.support.folding import folded

    hosts = {each.id: " ".join(folded(host.name for host in ctx.store.hosts.held_by(each.id))) for each in mine}
    return UsageError(message, hint="; ".join(f"bmhctl {command} -R {key} ({names})" for key, names in hosts.items()))


def known_reservation(ctx: Context, token: str) -> Reservation:
    """Return the reservation with the id ``token``, open or ended; raise :class:`NotFoundError` for an unknown id."""
    reservation = ctx.store.reservations.get(token)
    if reservation is None:
        host = ctx.store.hosts.named(token)
        held = host.reservation if host is not None else None
        hint = f"did you mean {held.id}, which holds {token}?" if held else "bmhctl reservations lists the open ones"
        raise NotFoundError(f"there is no reservation {token or repr(token)}", hint=hint)
    return reservation


def held_reservation(ctx: Context, token: str, now: datetime) -> Reservation:
    """Return the valid reservation with the id ``token``.

    Raises :class:`NotFoundError` for an unknown id, :class:`NotYoursError` when the reservation has ended.
    """
    reservation = known_reservation(ctx, token)
    check_valid(reservation, now)
    return reservation


def check_valid(reservation: Reservation, now: datetime) -> None:
    """Raise :class:`NotYoursError` when a reservation has ended."""
    if not reservation.is_valid(now):
        ended = reservation.ended_at or reservation.expires_at
        why = reservation.end_reason or EXPIRED
        raise NotYoursError(
            f"reservation {reservation.id} has ended: {why}" + (f" at {local_time(ended, SECONDS)}" if ended else ""),
            hint="reserve again (under another request id); bmhctl history HOST shows what became of its hosts",
            details={"reservation": reservation.id},
        )


def check_token(ctx: Context, host: Host, token: str | None, now: datetime, *, may_force: bool = True) -> None:
    """Raise :class:`NotYoursError` unless the reservation ``token`` holds the host; without a token, the actor must.

    ``may_force`` is whether the hint names ``--force``.
    """
    reservation = host.reservation
    if reservation is None:
        if token is not None:
            held_reservation(ctx, token, now)
            raise NotYoursError(f"is {host.state}: reservation {token} does not hold it", host=host.name)
        return
    refusal = reservation.refusal(ctx.actor, token, now)
    if refusal is not None:
        others = "; others need --force --reason TEXT, which is recorded" if may_force else ""
        raise NotYoursError(
            refusal,
            host=host.name,
            hint=f"its holder acts with -R {reservation.id}{others}" if reservation.is_valid(now) else None,
            details={"holder": reservation.owner, "reservation": reservation.id},
        )


def describe_tasks(tasks: Iterable[FailedTask]) -> str:
    """Return the owner and the purpose of each task: ``alice (nightly), bob``."""
    return ", ".join(f"{task.owner} ({task.purpose})" if task.purpose else task.owner for task in tasks)


def forced_reason(force: bool, reason: str | None) -> None:
    """Raise :class:`UsageError` when ``force`` is used without a reason."""
    if force and not (reason and reason.strip()):
        raise UsageError("--force needs --reason, which is recorded in the history")
