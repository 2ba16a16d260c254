"""Reserving hosts, all or none, and looking at who holds what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bmhctl.errors import BusyError, UnsatisfiableError, UsageError
from bmhctl.model import Host, Reservation, State, Verb
from bmhctl.policy import Policy
from bmhctl.results import Grant, Held, Reservations
from bmhctl.selector import EVERY_HOST, Selector
from bmhctl.stores.engine import HostQuery
from bmhctl.units import format_duration
from bmhctl.usecases.choosing import not_found, unfold
from bmhctl.usecases.context import Context, begin, look
from bmhctl.usecases.leases import describe, give_back, hosts_of, reap
from bmhctl.usecases.moving import decide, facts_of, move
from bmhctl.usecases.naming import new_reservation_id


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reservation is asked for: these very hosts, or ``count`` hosts that fit the selector.

    ``ttl`` is how long the lease shall last (None: as the policy says); ``endless`` asks for a lease without
    end, where the policy allows it.
    """

    names: tuple[str, ...] = ()
    selector: Selector = EVERY_HOST
    count: int | None = None
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False


def reserve(ctx: Context, wish: Wish) -> Grant:
    """Takes all the hosts of a wish in one commit, or none of them.

    Raises :class:`bmhctl.errors.NotFoundError` for unknown names, :class:`BusyError` when hosts fit but are not free,
    :class:`UnsatisfiableError` when no set of hosts could ever fit, :class:`UsageError` for a senseless wish.
    """
    _check(wish)
    begin(ctx)
    ttl, notes = _ttl(ctx.policy(), wish)
    with ctx.store.transaction():
        now = ctx.clock()
        wanted = _named(ctx, wish) if wish.names else _fitting(ctx, wish)
        reservation = Reservation(
            id=new_reservation_id(ctx.store),
            owner=ctx.actor,
            purpose=wish.purpose,
            created_at=now,
            expires_at=None if ttl is None else now + ttl,
            ttl=ttl,
        )
        ctx.store.add_reservation(reservation)
        hosts = [
            move(ctx, host, Verb.RESERVE, facts_of(ctx, host, now), now, reason=wish.purpose, reservation=reservation)
            for host in wanted
        ]
    return Grant(Held(reservation, tuple(hosts)), notes)


def reservations(ctx: Context, *, ended: bool = False) -> Reservations:
    """The open reservations with their hosts, the oldest first; with ``ended``, all that ever were."""
    now = look(ctx)
    with ctx.store.snapshot():
        known = list(ctx.store.all_reservations()) if ended else ctx.store.open_reservations()
        return Reservations(tuple(Held(r, tuple(hosts_of(ctx, r)) if r.is_open() else ()) for r in known), now)


def give_up(ctx: Context, grant: Grant) -> None:
    """Gives back a grant whose answer never reached anyone."""
    with ctx.store.transaction():
        now = ctx.clock()
        for host in hosts_of(ctx, grant.held.reservation):
            give_back(ctx, host, now, reason="the answer could not be written")


def reap_expired(ctx: Context) -> Reservations:
    """Ends every reservation whose lease is over, with the hosts it held."""
    now = look(ctx)
    held = [Held(r, tuple(hosts_of(ctx, r))) for r in ctx.store.expired_reservations(now)]
    ended = {reservation.id for reservation in reap(ctx)}
    return Reservations(tuple(item for item in held if item.reservation.id in ended), now)


def _check(wish: Wish) -> None:
    if wish.names and (wish.selector.terms or wish.count is not None):
        raise UsageError("name hosts, or choose them with -l and -n: not both")
    if not wish.names and not wish.selector.terms and wish.count is None:
        raise UsageError(
            "what shall be reserved?", hint="name hosts, or say how many: -n 1; or what they must be: -l arch=arm64"
        )
    if wish.count is not None and wish.count < 1:
        raise UsageError(f"can't reserve {wish.count} hosts", hint="-n takes a number from 1")
    if wish.ttl is not None and not wish.ttl:
        raise UsageError("a lease of no length makes no sense", hint="such as --ttl 20m")


def _ttl(policy: Policy, wish: Wish) -> tuple[timedelta | None, tuple[str, ...]]:
    if wish.endless:
        if policy.max_ttl is not None:
            raise UsageError(
                "this inventory allows no lease without end",
                hint=f'its max_ttl is {format_duration(policy.max_ttl)}; max_ttl = "none" in its policy lifts it',
            )
        return None, ()
    ttl = wish.ttl or policy.ttl
    if policy.max_ttl is not None and (ttl is None or ttl > policy.max_ttl):
        most = format_duration(policy.max_ttl)
        return policy.max_ttl, (f"the lease is {most}, the longest that this inventory allows",)
    return ttl, ()


def _named(ctx: Context, wish: Wish) -> Sequence[Host]:
    names = unfold(wish.names)
    for name in names:
        if "*" in name or "?" in name:
            raise UsageError(f"{name!r} names no host", hint="reserve takes exact names, or -l SELECTOR -n N")
    found = {host.name: host for host in ctx.store.hosts(HostQuery(names=tuple(names)))}
    for name in names:
        if name not in found:
            raise not_found(ctx, name)
    now = ctx.clock()
    for host in found.values():
        if host.state is not State.AVAILABLE:
            raise _not_free(host)
        decide(Verb.RESERVE, host, facts_of(ctx, host, now))
    return [found[name] for name in names]


def _not_free(host: Host) -> BusyError:
    held = f" by {describe(host.reservation)}" if host.reservation else ""
    return BusyError(f"is {host.state}{held}: nothing was reserved", host=host.name, hint=f"bmhctl why {host.name}")


def _fitting(ctx: Context, wish: Wish) -> Sequence[Host]:
    count = wish.count or 1
    free = HostQuery(
        selector=wish.selector, states=frozenset({State.AVAILABLE}), reservable=True, by_turn=True, limit=count
    )
    hosts = [host for host in ctx.store.hosts(free) if not ctx.store.claims.is_claimed(host.id)]
    if len(hosts) < count:
        # A claimed one among the first few hides a free one behind it: look at all.
        everyone = ctx.store.hosts(replace(free, limit=None))
        hosts = [host for host in everyone if not ctx.store.claims.is_claimed(host.id)][:count]
    if len(hosts) < count:
        raise _too_few(ctx, wish, count, len(hosts))
    return hosts


def _too_few(ctx: Context, wish: Wish, count: int, free: int) -> BusyError | UnsatisfiableError:
    every = HostQuery(selector=wish.selector)
    fitting = ctx.store.count(replace(every, declared=True))
    what = f"{count} host{'s' if count > 1 else ''}" + (f" with {wish.selector}" if wish.selector.terms else "")
    if fitting < count:
        total = ctx.store.count(HostQuery(declared=True))
        excluded = {
            str(term): total - ctx.store.count(HostQuery(selector=Selector((term,)), declared=True))
            for term in wish.selector.terms
        }
        why = "; ".join(f"{term} excludes {number}" for term, number in excluded.items())
        return UnsatisfiableError(
            f"no {what} will ever be here: {fitting} of {total} fit" + (f" ({why})" if why else ""),
            hint="ask for fewer or for others; bmhctl list -l SELECTOR shows what fits",
            details={"fitting": fitting, "hosts": total, "excluded": excluded},
        )
    states: dict[str, int] = {}
    first_end: datetime | None = None
    for host in ctx.store.hosts(every):
        word = "cordoned" if host.cordon and host.state is State.AVAILABLE else str(host.state)
        states[word] = states.get(word, 0) + 1
        end = host.reservation.expires_at if host.reservation else None
        first_end = min(filter(None, (first_end, end)), default=None)
    spread = ", ".join(f"{number} {word}" for word, number in sorted(states.items()))
    ends = f"; the first lease ends at {first_end:%Y-%m-%d %H:%M} UTC" if first_end else ""
    return BusyError(
        f"{free} of {what} are free now, nothing was reserved: {spread}{ends}",
        hint="bmhctl reservations shows who holds what",
        details={"fitting": fitting, "free": free, "states": states},
    )
