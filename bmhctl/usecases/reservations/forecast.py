"""Compute when requests get their hosts, event by event, from leases and the tickets before them; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from bmhctl.domain.booking import free_until
from bmhctl.domain.limits import Limit, Use
from bmhctl.domain.matching import Cap, Claimant, match, until_of
from bmhctl.domain.model import Host, Planned
from bmhctl.domain.requirements import Requirements
from bmhctl.support.values import Frozen, replace

MOST_LOOKS = 200_000
"""The most checks of what is planned on a host, before the search ends."""


class Freeing(Frozen):
    """A host, the time from which it is free, and when it was last used by then; least recently used hosts go first.

    A booking or maintenance that is planned on the host takes it for its whole time, whether it is taken or not.
    """

    host: Host
    free_at: datetime
    used_at: datetime


class Claim(Frozen):
    """A request with its place in the order; ``ttl`` is the length of its lease, None for a lease without end.

    A claim that ``may_be_short`` gets a shorter lease if something is planned. A claim leaves the queue at its
    ``deadline``. A claim that does not ``hold`` hosts, because other hosts that it needs require an operator, gets all
    hosts at once or none.
    """

    owner: str
    requirements: Requirements
    ttl: timedelta | None
    deadline: datetime | None = None
    holds: bool = True
    may_be_short: bool = False


def forecast(
    now: datetime,
    hosts: Sequence[Freeing],
    claims: Sequence[Claim],
    *,
    limits: Sequence[Limit] = (),
    uses: Sequence[Use] = (),
    turnaround: timedelta = timedelta(),
) -> list[datetime | None]:
    """Return when each claim gets its hosts; None for a claim that gets none, or if that is not known.

    All leases are assumed to end on time, and no requests to follow. ``uses`` are the hosts that owners hold or have
    booked, as far as ``limits`` count them. A host is free ``turnaround`` after a lease, and a lease ends
    ``turnaround`` before anything planned on its hosts. The search ends after :data:`MOST_LOOKS` checks.
    """
    state = {each.host.id: each for each in hosts}
    everyone = [each.host for each in hosts]
    held = list(uses)
    waiting = dict(enumerate(claims))
    found: list[datetime | None] = [None] * len(claims)
    moments = [now, *(each.free_at for each in hosts)]
    moments += [moment for moment in (*(use.end for use in uses), *(claim.deadline for claim in claims)) if moment]
    moments += [_over(span, turnaround) for each in hosts for span in each.host.planned]
    heapify(moments)
    last: datetime | None = None
    looks = 0
    while moments and waiting and looks < MOST_LOOKS:
        at = max(now, heappop(moments))
        if at == last:
            continue
        last = at
        free = sorted((each for each in state.values() if each.free_at <= at), key=lambda e: (e.used_at, e.host.id))
        left = [host for each in free if (host := _free_host(each.host, at, turnaround))]
        looks += sum(bool(each.host.planned) for each in free)
        for number, claim in [*waiting.items()]:
            if not left:
                break
            if claim.deadline is not None and claim.deadline <= at:
                del waiting[number]
                continue
            caps = _caps(claim.owner, limits, held, at)
            until = until_of(claim.ttl, at, turnaround, may_be_short=claim.may_be_short)
            match_now = Claimant(claim.requirements, caps, until).match(left)
            if match_now.missing:
                if not claim.holds or (caps and match(claim.requirements, everyone, caps).missing):
                    continue
            else:
                found[number] = at
                del waiting[number]
                end = _end(claim, limits, match_now.hosts, at, turnaround)
                held.append(Use(claim.owner, match_now.hosts, at, end))
                for host in match_now.hosts:
                    if end is None:
                        del state[host.id]
                    else:
                        state[host.id] = Freeing(host, end + turnaround, end)
                for moment in () if end is None else (end, end + turnaround):
                    heappush(moments, moment)
            taken = {host.id for host in match_now.hosts}
            left = [host for host in left if host.id not in taken]
    return found


def _over(span: Planned, turnaround: timedelta) -> datetime:
    """Return when a host is free after something planned; a booking is followed by a turnaround, as a lease is."""
    return span.ends_at + turnaround if span.is_booking else span.ends_at


def _free_host(host: Host, at: datetime, turnaround: timedelta) -> Host | None:
    """Return a host with the plans that remain after a time; None if one of its plans has the host at this time."""
    if not host.planned:
        return host
    if _over(host.planned[0], turnaround) > at:
        return None if host.planned[0].starts_at <= at else host
    ahead = tuple(span for span in host.planned if _over(span, turnaround) > at)
    return None if ahead and ahead[0].starts_at <= at else replace(host, planned=ahead)


def _caps(owner: str, limits: Sequence[Limit], held: Sequence[Use], at: datetime) -> tuple[Cap, ...]:
    """Return the caps of an owner at a time: how many more hosts each limit allows."""
    caps = []
    for limit in limits:
        if limit.max_hosts is not None and limit.concerns(owner):
            mine = (use for use in held if use.is_at(at) and limit.counts_together(use.owner, owner))
            number = sum(len(limit.of(use.hosts)) for use in mine)
            caps.append(Cap(limit.selector, max(0, limit.max_hosts - number)))
    return tuple(caps)


def _end(
    claim: Claim, limits: Sequence[Limit], hosts: Sequence[Host], at: datetime, turnaround: timedelta
) -> datetime | None:
    """Return when a lease that begins at ``at`` ends; None for a lease without end."""
    lengths = [limit.max_ttl for limit in limits if limit.concerns(claim.owner) and limit.of(hosts)]
    ends = [at + length for length in (claim.ttl, *lengths) if length is not None]
    ends += [free_until(host, turnaround) for host in hosts if host.planned]
    return min(ends, default=None)
