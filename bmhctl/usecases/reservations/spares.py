"""Choose a host that replaces another one in a reservation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from bmhctl.domain.matching import Match, match
from bmhctl.domain.model import NEVER, Host, Reservation, Verb
from bmhctl.domain.requirements import Requirement, Requirements, load_requirements
from bmhctl.domain.room import Demand
from bmhctl.lifecycle.machine import GuardInput
from bmhctl.usecases.reservations.fairness import free_for, hosts_for_tickets
from bmhctl.usecases.reservations.limits import exceeds_none
from bmhctl.usecases.shared.booking_hosts import apply_room, find_room
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import move


def requirements_of(held: Reservation) -> Requirements:
    """Return what the hosts of a reservation have to meet; any host meets them if that was not recorded."""
    return load_requirements(held.requirements) if held.requirements else (Requirement(),)


def spare_host(
    ctx: Context,
    held: Reservation,
    kept: Sequence[Host],
    bad: Collection[int],
    fits: Callable[[Host], bool] = lambda _: True,
) -> Match:
    """Return a match with a free host that can replace the bad hosts; without hosts if there is none.

    The host meets a requirement of ``held`` that ``kept`` does not meet, and fits within the limits of the owner, who
    gives back the hosts with the ids ``bad``. Nothing is planned on it before the end of the lease and the turnaround
    after that. If there is no such host, bookings move to other hosts to free one, in the caller's transaction.
    """
    policy, requirements = ctx.store.policy(), requirements_of(held)
    before, known = match(requirements, kept).missing, {host.id for host in kept}
    may_take = exceeds_none(ctx, held, policy.limits, kept, bad)

    def is_spare(host: Host) -> bool:
        if host.id in known or not fits(host) or not may_take(host):
            return False
        return match(requirements, [*kept, host]).missing < before

    def spares(until: datetime | None, more: int = 0) -> list[Host]:
        return [host for host in free_for(ctx, requirements, None, policy.limits, more, until) if is_spare(host)]

    is_booked, ends = ctx.store.bookings.is_any_open(), held.expires_at or NEVER
    until = None if not is_booked else ends if ends == NEVER else ends + policy.turnaround
    free = spares(until)[:1]
    if free or not is_booked:
        return Match(tuple(free), 1 - len(free))
    now = ctx.clock()
    demand = Demand((Requirement(),), now, ends, policy.turnaround)
    # ``kept``: no booking may move to a host that a ticket or this reservation needs.
    room = find_room(ctx, demand, lambda more: spares(now, more), kept={*hosts_for_tickets(ctx, policy.limits), *known})
    return Match((), 1) if room is None else apply_room(ctx, room, now, f"to make room for a lease of {held.owner}")


def take_spare(ctx: Context, spare: Host, bad: Host, held: Reservation, now: datetime) -> Host:
    """Reserve a host in the place of a bad one, in the caller's transaction; return it."""
    is_claimed = bool(ctx.store.claims.claimed_hosts([spare.id]))
    inputs = GuardInput.of(spare, now, is_claimed=is_claimed, lease_end=held.expires_at or NEVER)
    return move(ctx, spare, Verb.RESERVE, inputs, now, reason=f"replaces {bad.name}", reservation=held)
