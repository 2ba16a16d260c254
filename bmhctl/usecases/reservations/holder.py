"""Extend, hand over and give up a reservation, replace a bad host, reap expired leases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from bmhctl.domain.model import End, EventKind, Host, Reservation, Verb
from bmhctl.domain.requirements import Requirement, Requirements, describe_requirements, load_requirements
from bmhctl.domain.units import format_duration
from bmhctl.errors import BusyError, NotYoursError, UsageError
from bmhctl.results import Grant, Held, Reservations
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.fairness import free_for
from bmhctl.usecases.reservations.matching import match
from bmhctl.usecases.shared.context import CLOCK_SLACK, Context, retried
from bmhctl.usecases.shared.leases import (
    check_token,
    forced_reason,
    forget_left_claims,
    give_back,
    held_reservation,
    reap,
)
from bmhctl.usecases.shared.named_host import not_found
from bmhctl.usecases.shared.refresh import refresh, refresh_and_reap
from bmhctl.usecases.shared.transitions import guard_input, move, record_event


@retried
def give_up(ctx: Context, reservation_id: str, reason: str) -> None:
    """Give back a grant whose answer was not delivered; nothing happens if there is none."""
    ctx.store.abandon()
    with ctx.store.transaction():
        now = ctx.clock()
        known = ctx.store.reservations.get(reservation_id)
        for host in ctx.store.hosts.held_by(known.id) if known is not None and known.is_open() else ():
            give_back(ctx, host, now, reason=reason)


def reap_expired(ctx: Context, *, dry_run: bool = False) -> Reservations:
    """End every reservation whose lease has expired; return them with their hosts. ``dry_run`` changes nothing."""
    now = refresh(ctx)
    over = [r for r in ctx.store.reservations.due(now, now + CLOCK_SLACK) if not r.is_valid(now)]
    held = [Held(r, tuple(ctx.store.hosts.held_by(r.id))) for r in over]
    if dry_run:
        return Reservations(tuple(held), now)
    ended = {reservation.id for reservation in reap(ctx)}
    forget_left_claims(ctx)
    return Reservations(tuple(item for item in held if item.reservation.id in ended), now)


@retried
def extend(ctx: Context, reservation: str, ttl: timedelta | None = None, *, silent: bool = False) -> Grant:
    """Make a lease end ``ttl`` from now (None: its own length), never sooner than it would, capped by the policy.

    Raises :class:`NotYoursError` when the lease has ended, :class:`bmhctl.errors.NotFoundError` when there is none.
    ``silent`` writes no event: for renewals by the clock.
    """
    refresh_and_reap(ctx)
    policy = ctx.policy()
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
        if now + length <= held.expires_at:
            return Grant(Held(held, tuple(hosts)), ("the lease lasts longer already",))
        longer = replace(held, expires_at=now + length, renewed_at=now)
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
    """Give a reservation to another owner under a new id; the old one ends, and the lease ends when it would have.

    The caller must be the owner or give the reservation's id as ``token``; ``force`` with a ``reason`` overrides.
    """
    forced_reason(force, reason)
    if not to.strip():
        raise UsageError("to whom?", hint="bmhctl handover RESERVATION --to OWNER")
    refresh_and_reap(ctx)
    with ctx.store.transaction():
        now = ctx.clock()
        old = held_reservation(ctx, reservation, now)
        _check_holder(ctx, old, token, force)
        new = replace(
            old,
            id=ctx.store.reservations.new_id(),
            owner=to,
            created_at=now,
            request_id=None,
            renewed_at=old.counted_from,  # it ends when the old one would have: this is no new count
        )
        ctx.store.reservations.add(new)
        words = f"from {old.owner} to {to}" + (f", forced: {reason}" if force else "")
        hosts = [
            record_event(ctx, replace(host, reservation=new), EventKind.HANDOVER, now, reason=words)
            for host in ctx.store.hosts.held_by(old.id)
        ]
        ctx.store.reservations.save(replace(old, ended_at=now, end_reason=f"handed over to {to}", end=End.HANDED_OVER))
    return Grant(Held(new, tuple(hosts)), (f"{old.id} has ended; {to} acts with {new.id}",))


@retried
def replace_host(ctx: Context, name: str, reservation: str, reason: str) -> Grant:
    """Replace a bad host of a reservation by another that fits the request, in one commit.

    The bad one is tainted with a fault. Raises :class:`BusyError` when no other is free; then nothing changed.
    """
    if not reason.strip():
        raise UsageError(
            "replace needs a reason: it is the bad host's fault in the history", hint="--reason 'dead fan'"
        )
    refresh_and_reap(ctx)
    with ctx.store.transaction():
        now = ctx.clock()
        held = held_reservation(ctx, reservation, now)
        hosts = ctx.store.hosts.held_by(held.id)
        bad = next((host for host in hosts if host.name == name), None)
        if bad is None:
            known = ctx.store.hosts.named(name)
            if known is None:
                raise not_found(ctx, name)
            check_token(ctx, known, reservation, now)
            raise NotYoursError(f"is not held by {reservation}", host=name)
        kept = [host for host in hosts if host.name != name]
        requirements = load_requirements(held.wants) if held.wants else (Requirement(),)
        spare = _spare(ctx, requirements, kept)
        if spare is None:
            raise BusyError(
                f"no host that fits {describe_requirements(requirements)} is free to take its place: "
                "nothing was changed",
                host=name,
                hint="bmhctl status; or give it back: bmhctl taint " + name + f" --fault WHY -R {reservation}",
            )
        taken = move(
            ctx, spare, Verb.RESERVE, guard_input(ctx, spare, now), now, reason=f"replaces {name}", reservation=held
        )
        left = give_back(ctx, bad, now, reason=f"replaced by {spare.name}: {reason}")
        record_event(ctx, replace(left, fault=reason), EventKind.FAULT, now, reason=reason)
    everyone = tuple(sorted((*kept, taken), key=lambda host: host.name))
    return Grant(Held(held, everyone), (f"{name} is replaced by {spare.name}",))


def _spare(ctx: Context, requirements: Requirements, kept: Sequence[Host]) -> Host | None:
    """Return a free host that with the kept ones meets the requirements as the bad one did; None if there is none."""
    before = match(requirements, kept).missing
    for host in free_for(ctx, requirements, None):
        if host.id not in {h.id for h in kept} and match(requirements, [*kept, host]).missing < before:
            return host
    return None


def _check_holder(ctx: Context, held: Reservation, token: str | None, force: bool) -> None:
    if force or token == held.id or (token is None and held.owner == ctx.actor):
        return
    raise NotYoursError(
        f"reservation {held.id} is {held.owner}'s, not {ctx.actor}'s",
        hint=f"its holder gives -R {held.id}; --force --reason WHY overrides and is recorded",
        details={"holder": held.owner, "reservation": held.id},
    )
