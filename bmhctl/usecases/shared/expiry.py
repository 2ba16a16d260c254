"""End what has expired: leases, and the claims that killed processes left behind."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import End, EventKind, Reservation
from bmhctl.domain.units import format_age
from bmhctl.errors import AwayError
from bmhctl.stores.claims import run_claim, ticket_claim
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import EXPIRED, give_back
from bmhctl.usecases.shared.transitions import SELF, record_event

if TYPE_CHECKING:
    from bmhctl.support.left_tasks import LeftTask

_PATIENCE = 2.0  # seconds to wait for the end of a killed process
_PAUSE = 0.02


def reap(ctx: Context) -> list[Reservation]:
    """End every reservation whose lease has expired, in one commit, and return them; do what is due for bookings.

    The caller has to retry after a conflict. The hosts of these reservations are tainted; hosts in maintenance stay
    there without the reservation. A lease that was granted before the clock was set back gets a new end. A task that
    still runs, because its ``run`` and its watchdog were killed or stopped, is ended first. If this process belongs to
    such a task, another command has to end the lease.
    """
    ctx.store.meta.check_in_use(ctx.store.location)
    with ctx.store.transaction():
        now = ctx.clock()
        expired = []
        for reservation in ctx.store.reservations.due(now):
            if reservation.is_valid(now):
                _shorten(ctx, reservation, now)
                continue
            reason = EXPIRED
            task = left_task(ctx, reservation.id)
            if task is not None and task.has_this_process():
                continue
            if task is not None and (ended := task.end()):
                reason = f"{EXPIRED}; its task still ran, and {ended.outcome}"
                # Report it at once: if a conflict undoes this transaction, the next one finds no task.
                ctx.report(f"{reservation.id}: its lease has expired, but its run was killed or stopped; {ended}")
            expired.append(reservation)
            hosts = ctx.store.hosts.held_by(reservation.id)
            for host in hosts:
                is_last = host is hosts[-1]
                give_back(ctx, host, now, reason=reason, end=End.EXPIRED, actor=SELF, is_last=is_last)
        if due := ctx.store.bookings.due(now):
            from bmhctl.usecases.shared.due_bookings import settle_due

            settle_due(ctx, due, now)
    for reservation in expired:
        ctx.store.claims.forget(run_claim(reservation.id))
    return expired


def left_task(ctx: Context, reservation_id: str) -> LeftTask | None:
    """Return the task under a reservation if it runs on this machine, and no watchdog will end it."""
    if not ctx.store.claims.is_there(run_claim(reservation_id)):
        return None
    from bmhctl.support.left_tasks import left_tasks

    return left_tasks().get(reservation_id)


def forget_left_claims(ctx: Context) -> None:
    """Remove the claims that killed processes left behind, and end the tasks that are left under ended reservations.

    Every command that cleans hosts does this first; a dry run does nothing. Claims of ``run`` under open reservations
    stay, because they tell :func:`reap` to look for a task that still runs.
    """
    if ctx.dry_run:
        return
    with suppress(AwayError):  # a later command may be able to remove the claims
        kept = _end_left_tasks(ctx)
        for claim in ctx.store.claims.left_behind():
            known = reservation_of(ctx, claim.name)
            if claim.name not in kept and (known is None or not known.is_open()):
                ctx.store.claims.forget(claim.name, shared=claim.name.startswith(ticket_claim(0)[:-1]))


def _end_left_tasks(ctx: Context) -> set[str]:
    """End the tasks that are left under ended reservations; return the claims of the ``run`` of the others.

    A task may go on after its holder has given the hosts back, but only as long as its ``run`` lives.
    """
    runs = {name for name in ctx.store.claims.names() if name.startswith(run_claim(""))}
    if not runs:
        return set()
    from bmhctl.support.left_tasks import left_tasks

    kept = set()
    for token, task in left_tasks().items():
        claim = run_claim(token)
        known = reservation_of(ctx, claim) if claim in runs else None
        if known is None or known.is_open():
            continue
        if task.has_this_process() or not (known.was_lost() or _is_abandoned(ctx, claim)):
            kept.add(claim)
        elif ended := task.end():
            ctx.report(f"{known.id}: has ended ({known.end_reason}), but its run was killed; {ended}")
    return kept


def _is_abandoned(ctx: Context, claim: str) -> bool:
    """Return whether the bmhctl that made a claim was killed, even if a process that it has started has the claim.

    A process that was killed keeps its locks until the last of its threads has ended, but has no open files any more.
    """
    until = time.monotonic() + _PATIENCE
    while ctx.store.claims.claimed([claim]):
        holders = ctx.store.claims.holders(claim)
        if holders or time.monotonic() > until:
            return bool(holders) and not any(each.is_runner for each in holders)
        time.sleep(_PAUSE)
    return ctx.store.claims.is_there(claim)  # else its bmhctl has just ended by itself


def reservation_of(ctx: Context, claim: str) -> Reservation | None:
    """Return the reservation, open or ended, to which a claim of ``run`` belongs; None for any other claim."""
    token = claim.removeprefix(run_claim(""))
    return ctx.store.reservations.get(token) if token != claim else None


def _shorten(ctx: Context, reservation: Reservation, now: datetime) -> None:
    """Move a lease's end back by as much as the clock was set back, so that the lease does not become longer."""
    if reservation.expires_at is None:
        return
    back = reservation.counted_from - now
    held = replace(reservation, expires_at=reservation.expires_at - back, renewed_at=now)
    ctx.store.reservations.save(held)
    words = f"until {held.expires_at:%Y-%m-%d %H:%M:%S} UTC: the clock was set back by at least {format_age(back)}"
    for host in ctx.store.hosts.held_by(reservation.id):
        record_event(ctx, replace(host, reservation=held), EventKind.EXTEND, now, reason=words, actor=SELF)
