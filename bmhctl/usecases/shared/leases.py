"""End reservations: a host leaves one, a lease expires; who may act for one."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from bmhctl.domain.model import End, EventKind, Host, Reservation, State, Verb
from bmhctl.domain.units import format_age
from bmhctl.errors import AwayError, NotFoundError, NotYoursError, UsageError
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import CLOCK_SLACK, Context, retried
from bmhctl.usecases.shared.transitions import SELF, guard_input, move, record_event

EXPIRED = "lease expired"
"""The reason of a taint that no holder asked for."""


@retried
def reap(ctx: Context) -> list[Reservation]:
    """End every reservation whose lease has expired, in one commit; return them.

    Their hosts are tainted; those in maintenance stay there and lose the reservation. A lease that was granted by a
    clock that has been set back since gets a new end.
    """
    from bmhctl.stores.claims import run_claim

    with ctx.store.transaction():
        now = ctx.clock()
        expired = []
        for reservation in ctx.store.reservations.due(now, now + CLOCK_SLACK):
            if reservation.is_valid(now):
                _put_right(ctx, reservation, now)
                continue
            expired.append(reservation)
            for host in ctx.store.hosts.held_by(reservation.id):
                give_back(ctx, host, now, reason=EXPIRED, end=End.EXPIRED, actor=SELF)
    for reservation in expired:
        ctx.store.claims.forget(run_claim(reservation.id))
    return expired


def forget_left_claims(ctx: Context) -> None:
    """Remove what killed processes have left of their claims, as ``reap`` and ``recycle`` do."""
    from bmhctl.stores.claims import ticket_claim

    with suppress(AwayError):  # the next one may be able to
        for claim in ctx.store.claims.left_behind():
            ctx.store.claims.forget(claim.name, shared=claim.name.startswith(ticket_claim(0)[:-1]))


def _put_right(ctx: Context, reservation: Reservation, now: datetime) -> None:
    """Move a lease's end back by as much as the clock was set back, so that it lasts no longer than it was granted."""
    if reservation.expires_at is None:
        return
    back = reservation.counted_from - now
    held = replace(reservation, expires_at=reservation.expires_at - back, renewed_at=now)
    ctx.store.reservations.save(held)
    words = f"until {held.expires_at:%Y-%m-%d %H:%M:%S} UTC: the clock was set back by at least {format_age(back)}"
    for host in ctx.store.hosts.held_by(reservation.id):
        record_event(ctx, replace(host, reservation=held), EventKind.EXTEND, now, reason=words, actor=SELF)


def give_back(
    ctx: Context, host: Host, now: datetime, *, reason: str, end: End = End.RETURNED, actor: str | None = None
) -> Host:
    """Take a host out of its reservation, and return it; the reservation ends with its last host, recorded as ``end``.

    A reserved host is tainted; one in maintenance stays there, dirty, without the reservation. The caller has checked
    that the actor may do this.
    """
    reservation = host.reservation
    if reservation is None:
        return host
    if host.state is State.RESERVED:
        left = move(ctx, host, Verb.TAINT, guard_input(ctx, host, now), now, reason=reason, actor=actor)
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
    if not ctx.store.hosts.count_held_by(reservation.id):
        ctx.store.reservations.save(replace(reservation, ended_at=now, end_reason=reason, end=end))
    return left


def held_reservation(ctx: Context, token: str, now: datetime) -> Reservation:
    """Return the valid reservation with the id ``token``.

    Raises :class:`NotFoundError` when there is none, :class:`NotYoursError` when it has ended.
    """
    reservation = ctx.store.reservations.get(token)
    if reservation is None:
        raise NotFoundError(f"there is no reservation {token}", hint="bmhctl reservations lists the open ones")
    if not reservation.is_valid(now):
        ended = reservation.ended_at or reservation.expires_at
        why = reservation.end_reason or EXPIRED
        raise NotYoursError(
            f"reservation {token} has ended: {why}" + (f" at {ended:%Y-%m-%d %H:%M:%S} UTC" if ended else ""),
            hint="reserve again (under another request id); bmhctl history HOST shows what became of its hosts",
            details={"reservation": token},
        )
    return reservation


def check_token(ctx: Context, host: Host, token: str | None, now: datetime) -> None:
    """Raise :class:`NotYoursError` unless the token, or the actor's name without one, holds the host."""
    reservation = host.reservation
    if reservation is None:
        if token is not None:
            held_reservation(ctx, token, now)
            raise NotYoursError(f"is {host.state}: reservation {token} does not hold it", host=host.name)
        return
    if not reservation.is_valid(now):
        raise NotYoursError(f"the lease of reservation {reservation.id} has expired", host=host.name)
    if token == reservation.id or (token is None and reservation.owner == ctx.actor):
        return
    given = f", not by reservation {token}" if token else f", not by {ctx.actor}"
    raise NotYoursError(
        f"is held by {describe_reservation(reservation)}{given}",
        host=host.name,
        hint=f"its holder gives -R {reservation.id}; --force --reason WHY overrides and is recorded",
        details={"holder": reservation.owner, "reservation": reservation.id},
    )


def describe_reservation(reservation: Reservation) -> str:
    """Return the holder, the purpose and the end: ``alice (r-7k3m9q2x, nightly) until 2026-01-01 12:00 UTC``."""
    purpose = f", {reservation.purpose}" if reservation.purpose else ""
    until = f" until {reservation.expires_at:%Y-%m-%d %H:%M} UTC" if reservation.expires_at else " without end"
    return f"{reservation.owner} ({reservation.id}{purpose}){until}"


def forced_reason(force: bool, reason: str | None) -> None:
    """Raise :class:`UsageError` when force is used without a reason."""
    if force and not (reason and reason.strip()):
        raise UsageError("--force needs --reason: it is in the history for those whom it overrides")
