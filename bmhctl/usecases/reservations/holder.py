"""Extend, hand over, share and give up a reservation; reap expired leases."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

from bmhctl.domain.model import End, EventKind, Reservation
from bmhctl.domain.units import format_duration
from bmhctl.errors import BmhctlError, NotYoursError, StateRefusedError, UsageError
from bmhctl.results import Grant, Held, Reservations
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import check_token, forced_reason, give_back, held_reservation
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap, retried
from bmhctl.usecases.shared.transitions import record_event


def reservation_holding(ctx: Context, name: str, token: str | None) -> str:
    """Return the id of the reservation that holds a host: ``token``, or without one a reservation of the actor.

    Raises :class:`StateRefusedError` when no reservation holds it, and the errors of :func:`check_token`.
    """
    refresh(ctx)
    host = ctx.host(name)
    if host.reservation is None:
        hint = f"bmhctl history {name} shows what became of its reservations"
        raise StateRefusedError(f"is {host.state}: no reservation holds it", host=name, hint=hint)
    check_token(ctx, host, token, ctx.clock(), may_force=False)
    return host.reservation.id


@retried
def give_up(ctx: Context, reservation_id: str, reason: str, hosts: Collection[int] | None = None) -> None:
    """Give back a grant that the requester did not receive; with ``hosts``, only the hosts with these ids.

    Does nothing if there is no such reservation, or if it has ended. A booking that the grant took is opened again.
    """
    ctx.store.abandon()
    with ctx.store.transaction():
        now = ctx.clock()
        known = ctx.store.reservations.get(reservation_id)
        if known is None or not known.is_open():
            return
        for host in ctx.store.hosts.held_by(known.id):
            if hosts is None or host.id in hosts:
                give_back(ctx, host, now, reason=reason)
        taken = ctx.store.bookings.taken_as(known.id) if hosts is None else None
        if taken is not None and now < taken.ends_at:
            from bmhctl.usecases.shared.booking_hosts import reopen

            reopen(ctx, taken, now)
            ctx.report(f"booking {taken.id} can be taken again: bmhctl reserve --booking {taken.id}")


_NONE_EXPIRED = "no lease has expired: bmhctl reservations shows when each ends"


def reap_expired(ctx: Context) -> Reservations:
    """End every reservation whose lease has expired; return them with their hosts. A dry run changes nothing."""
    from bmhctl.usecases.shared.expiry import forget_left_claims, reap

    now = refresh(ctx)
    over = [r for r in ctx.store.reservations.due(now) if not r.is_valid(now)]
    held = [Held(r, tuple(ctx.store.hosts.held_by(r.id))) for r in over]
    if ctx.dry_run:
        with ctx.transaction():
            for reservation in over:
                ctx.store.hosts.lock_held_by(reservation.id)  # raises if it may not be ended
        return Reservations(tuple(held), now, _NONE_EXPIRED)
    ended = {reservation.id for reservation in retried(reap)(ctx)}
    forget_left_claims(ctx)
    return Reservations(tuple(item for item in held if item.reservation.id in ended), now, _NONE_EXPIRED)


@retried
def extend(ctx: Context, reservation: str, ttl: timedelta | None = None, *, silent: bool = False) -> Grant:
    """Make a lease end ``ttl`` from now (None: its own length), but not earlier than before, and within the policy.

    Raises :class:`NotYoursError` when the lease has ended, :class:`bmhctl.errors.NotFoundError` for an unknown id. With
    ``silent``, no event is written, as for the regular renewals of ``run``.
    """
    refresh_and_reap(ctx)
    policy = ctx.store.policy()
    notes: tuple[str, ...] = ()
    with ctx.store.transaction(shared=True):
        now = ctx.clock()
        ctx.store.hosts.lock_held_by(reservation)
        held = held_reservation(ctx, reservation, now)
        hosts = ctx.store.hosts.held_by(held.id)
        length = ttl or held.ttl or policy.ttl
        if held.expires_at is None or length is None:
            return Grant(Held(held, tuple(hosts)), ("the lease has no end: there is nothing to extend",))
        if policy.max_ttl is not None and length > policy.max_ttl:
            length = policy.max_ttl
            notes = (f"capped at {format_duration(length)} from now, the longest that this inventory allows",)
        if policy.limits:
            from bmhctl.usecases.reservations.limits import longest_lease

            longest = longest_lease(policy.limits, held.owner, hosts)
            if longest is not None and length > longest[0]:
                length = longest[0]
                words = f"the longest that limit {longest[1]} allows {held.owner}"
                notes = (f"capped at {format_duration(length)} from now, {words}",)
        ends = now + length
        if any(host.planned for host in hosts):
            from bmhctl.usecases.reservations.booked import latest_end, note_of_end

            latest, words = latest_end(hosts, policy)
            if latest < ends:
                ends, notes = latest, (note_of_end(latest, words),)
        if ends <= held.expires_at:
            return Grant(Held(held, tuple(hosts)), notes or ("the lease lasts longer already",))
        longer = replace(held, expires_at=ends, renewed_at=now)
        ctx.store.reservations.save(longer)
        if not silent:
            words = f"until {longer.expires_at:%Y-%m-%d %H:%M:%S} UTC"
            hosts = [
                record_event(ctx, replace(h, reservation=longer), EventKind.EXTEND, now, reason=words) for h in hosts
            ]
    return Grant(Held(longer, tuple(replace(h, reservation=longer) for h in hosts)), notes)


@retried
def handover(
    ctx: Context, reservation: str, to: str, *, token: str | None = None, force: bool = False, reason: str | None = None
) -> Grant:
    """Give a reservation to another owner under a new id, with the same end of the lease; return the new reservation.

    The old reservation ends. Raises :class:`NotYoursError` unless the caller is the owner or gives the reservation's id
    as ``token``; ``force`` with a ``reason`` overrides this. The error is also raised when the lease has ended. Raises
    :class:`UsageError` for an empty owner, and the error of a limit that the new owner would exceed.
    """
    from bmhctl.usecases.shared.expiry import forget_left_claims

    forced_reason(force, reason)
    if not to.strip():
        raise UsageError("no new owner is given", hint="bmhctl handover RESERVATION --to OWNER")
    refresh_and_reap(ctx)
    if force and ctx.confirm is not None:
        from bmhctl.usecases.shared.confirmation import confirm_owner

        confirm_owner(ctx, held_reservation(ctx, reservation, ctx.clock()), "handover gives {hosts} to " + to)
    with ctx.store.transaction():
        now = ctx.clock()
        old = held_reservation(ctx, reservation, now)
        _check_holder(ctx, old, token, force)
        hosts = ctx.store.hosts.held_by(old.id)
        limits, expires_at, notes = ctx.store.policy().limits, old.expires_at, tuple[str, ...]()
        if limits and to != old.owner:
            from bmhctl.usecases.reservations.limits import check_hosts, longest_lease

            check_hosts(ctx, to, hosts, limits)
            longest = longest_lease(limits, to, hosts)
            if longest is not None and (expires_at is None or expires_at > now + longest[0]):
                expires_at = now + longest[0]
                length = format_duration(longest[0])
                notes = (f"the lease is {length}, the longest that limit {longest[1]} allows {to}",)
        new = replace(
            old,
            id=ctx.store.reservations.new_id(),
            owner=to,
            created_at=now,
            expires_at=expires_at,
            request_id=None,
            asked_at=None,  # the new owner did not wait for the hosts
            shared_with=(),
            renewed_at=old.counted_from,  # so that the new lease ends when the old one would have ended
        )
        ctx.store.reservations.add(new)
        words = f"from {old.owner} to {to}" + (f", forced: {reason}" if force else "")
        hosts = [
            record_event(ctx, replace(host, reservation=new), EventKind.HANDOVER, now, reason=words) for host in hosts
        ]
        ctx.store.reservations.save(replace(old, ended_at=now, end_reason=f"handed over to {to}", end=End.HANDED_OVER))
    with suppress(BmhctlError):  # the reservation is handed over, whether or not this is possible
        forget_left_claims(ctx)  # ends a task that a killed run has left on the hosts
    return Grant(Held(new, tuple(hosts)), (f"{old.id} has ended; {to} acts with {new.id}", *notes))


@retried
def share(
    ctx: Context,
    reservation: str,
    *,
    add: Collection[str] = (),
    remove: Collection[str] = (),
    token: str | None = None,
    force: bool = False,
    reason: str | None = None,
) -> Grant:
    """Let the owners in ``add`` extend and release a reservation by name, and those in ``remove`` no longer; return it.

    The id and the owner stay. ``token``, ``force``, ``reason`` and :class:`NotYoursError` are as in :func:`handover`.
    Raises :class:`UsageError` if no owner is given, and if one in ``remove`` does not share the reservation.
    """
    forced_reason(force, reason)
    if not (add or remove) or not all(each.strip() for each in (*add, *remove)):
        raise UsageError("no owner is given", hint="bmhctl share RESERVATION --with OWNER, or --without OWNER")
    refresh_and_reap(ctx)
    with ctx.store.transaction():
        now = ctx.clock()
        old = held_reservation(ctx, reservation, now)
        _check_holder(ctx, old, token, force)
        strangers = [each for each in remove if each not in old.shared_with]
        if strangers:
            raise UsageError(
                f"{old.id} is not shared with {', '.join(strangers)}", hint=f"bmhctl reservations {old.id}"
            )
        added = tuple(dict.fromkeys(each for each in add if not old.is_held_by(each)))
        hosts = ctx.store.hosts.held_by(old.id)
        new = replace(old, shared_with=(*(each for each in old.shared_with if each not in remove), *added))
        if new == old:
            return Grant(Held(old, tuple(hosts)), ("they hold it already",))
        ctx.store.reservations.save(new)
        why = f", forced: {reason}" if force else ""
        for kind, names in ((EventKind.SHARE, added), (EventKind.UNSHARE, tuple(remove))):
            if names:
                words = f"{'with' if kind is EventKind.SHARE else 'without'} {', '.join(names)}{why}"
                hosts = [record_event(ctx, replace(host, reservation=new), kind, now, reason=words) for host in hosts]
    shared = f"shared with {', '.join(new.shared_with)}" if new.shared_with else "no longer shared"
    return Grant(Held(new, tuple(hosts)), (f"{new.id} is {shared}",))


def _check_holder(ctx: Context, held: Reservation, token: str | None, force: bool) -> None:
    if force or token == held.id or (token is None and held.owner == ctx.actor):
        return
    raise NotYoursError(
        f"reservation {held.id} is {held.owner}'s, not {ctx.actor}'s",
        hint=f"its holder acts with -R {held.id}; others need --force --reason TEXT, which is recorded",
        details={"holder": held.owner, "reservation": held.id},
    )
