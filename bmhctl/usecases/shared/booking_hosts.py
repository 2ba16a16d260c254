"""Choose the hosts for a booking, if necessary by moving other bookings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

from bmhctl.domain.booking import Booking, free_starts
from bmhctl.domain.matching import Cap, Match, match
from bmhctl.domain.model import Host, State
from bmhctl.domain.requirements import Requirements, load_requirements, total
from bmhctl.domain.room import Demand, Room, make_room
from bmhctl.stores.host_query import EVERY_FIT, FREE, HostQuery, query_for
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.planned import due_of, hosts_of, leave, set_aside
from bmhctl.usecases.shared.transitions import SELF

_CLEAN_AND_FREE = frozenset({State.INITIAL, State.AVAILABLE, State.TAINTED})
_MOST_LOOKS = 500_000  # the most checks of a free host in the search for the earliest possible time
_SOME = 10  # hosts that are read for each requested host, before all are read
_NEAR = 20  # hosts beyond the requested number that are tried first


def choose_for(
    ctx: Context,
    demand: Demand,
    *,
    preferred: Sequence[Host] = (),
    avoided: Collection[int] = (),
    caps: Sequence[Cap] = (),
) -> Match:
    """Return a match of hosts for a booking, in a writing transaction; ``missing`` is how many hosts it lacks.

    ``preferred`` hosts come first; pass them without the booking that is being replaced. If too few hosts are free,
    other bookings move if that makes room. Hosts with ids in ``avoided`` are not chosen. For each cap in ``caps``, at
    most as many hosts are chosen as it allows.
    """
    preferred = [host for host in preferred if host.id not in avoided]
    known = {*avoided, *(host.id for host in preferred)}
    requirements = demand.requirements
    first = [host for host in preferred if demand.is_met_by(host)]
    if preferred and not (found := match(requirements, first, caps)).missing:
        return found
    most = demand.total + len(known)
    free = replace(FREE, limit=most)
    # Read in growing batches: the first few hosts usually suffice, however many are booked.
    some, then = replace(free, limit=_SOME * most), replace(free, free_until=demand.ends_at + demand.turnaround)
    for query in (free, some, then, HostQuery(declared=True)):
        others = [
            host for host in candidates(ctx, requirements, query) if host.id not in known and demand.is_met_by(host)
        ]
        found = match(requirements, [*first, *others], caps)
        if not found.missing:
            return found

    def open_hosts(more: int) -> list[Host]:
        near = replace(free, states=_CLEAN_AND_FREE, limit=most + more)
        query = near if more == _NEAR else HostQuery(declared=True)
        others = candidates(ctx, requirements, query)
        wanted = (*preferred, *(each for each in others if each.id not in known))
        return [host for host in wanted if demand.could_be_met_by(host)]

    room = find_room(ctx, demand, open_hosts, preferred=preferred, caps=caps)
    return found if room is None else apply_room(ctx, room, ctx.clock(), "to make room for a booking")


def find_room(
    ctx: Context,
    demand: Demand,
    open_hosts: Callable[[int], Sequence[Host]],
    *,
    preferred: Sequence[Host] = (),
    kept: Collection[int] = (),
    caps: Sequence[Cap] = (),
) -> Room | None:
    """Return the hosts of a request and the bookings that have to move for it; None if no way is found.

    ``open_hosts(more)`` returns hosts that the request could take if nothing were planned on them: as many as it asks
    for, plus ``more``. ``preferred``, ``kept`` and ``caps`` are as in :func:`choose_for` and :func:`make_room`. Only
    bookings that have not begun move. A few hosts and their bookings are tried first, then all.
    """
    now, turnaround = ctx.clock(), demand.turnaround

    def movable(bookings: Iterable[Booking | None]) -> list[Booking]:
        return [each for each in bookings if each is not None and not each.is_maintenance and each.starts_at > now]

    def nearby() -> tuple[Sequence[Host], list[Booking], Iterable[Host]]:
        wanted = open_hosts(_NEAR)
        ids = dict.fromkeys(each.id for host in wanted for each in demand.in_way(host) if each.is_booking)
        bookings = movable(ctx.store.bookings.get(each) for each in ids)
        return wanted, bookings, _room_nearby(ctx, bookings, turnaround)

    def everywhere() -> tuple[Sequence[Host], list[Booking], Iterable[Host]]:
        bookings = movable(ctx.store.bookings.open())
        if not bookings:
            return (), bookings, ()
        return open_hosts(EVERY_FIT), bookings, ctx.store.hosts.find(HostQuery(declared=True))

    for look in (nearby, everywhere):
        wanted, bookings, others = look()
        if not bookings or len(wanted) < demand.total:
            continue
        hosts = {host.id: host for host in wanted}
        for host in (*preferred, *others):
            hosts.setdefault(host.id, host)
        room = make_room(
            demand,
            [*hosts.values()],
            bookings,
            able={host.id for host in wanted},
            kept=kept,
            caps=caps,
            limits=ctx.store.policy().limits,
        )
        if room is not None:
            return room
    return None


def _room_nearby(ctx: Context, bookings: Sequence[Booking], turnaround: timedelta) -> Iterable[Host]:
    """Return the hosts of some bookings, and a few hosts for each of their requirements that are free at that time."""
    latest: dict[str, Booking] = {}
    found = {host.id: host for booking in bookings for host in hosts_of(ctx, booking)}
    for booking in bookings:
        known = latest.setdefault(booking.requirements, booking)
        if booking.ends_at > known.ends_at:
            latest[booking.requirements] = booking
    for text, booking in latest.items():
        requirements = load_requirements(text)
        query = HostQuery(
            states=_CLEAN_AND_FREE,
            reservable=True,
            free_until=booking.ends_at + turnaround,
            limit=total(requirements) + _NEAR,
        )
        found |= {host.id: host for host in candidates(ctx, requirements, query)}
    return found.values()


def apply_room(ctx: Context, room: Room, now: datetime, why: str) -> Match:
    """Move the bookings that make room, in the caller's transaction; return a match with the request's hosts.

    Each host that a booking leaves or joins gets an event, with ``why``. The match has notes on the moves.
    """
    moves = [(booking, hosts) for each, hosts in room.moves.items() if (booking := ctx.store.bookings.get(each))]
    notes = []
    for booking, hosts in moves:
        names = ", ".join(host.name for host in hosts if host.id not in booking.hosts)
        for host in hosts_of(ctx, booking):
            if all(host.id != each.id for each in hosts):
                leave(ctx, host, booking, now, f"moved to {names}, {why}", SELF)
        was = "would be" if ctx.dry_run else "was"
        notes.append(f"booking {booking.id} of {booking.owner} {was} moved to {names} to make room")
    for booking, hosts in moves:
        moved = replace(booking, hosts=tuple(host.id for host in hosts))
        for host in hosts_of(ctx, moved):
            if host.id not in booking.hosts:
                set_aside(ctx, host, booking, now, f"{booking.id}: moved here, {why}", SELF)
        ctx.store.bookings.save(moved)
    fresh = {host.id: ctx.store.hosts.with_id(host.id) for host in room.hosts}
    return Match(tuple(fresh[host.id] or host for host in room.hosts), 0, tuple(notes))


def candidates(ctx: Context, requirements: Requirements, query: HostQuery) -> Iterable[Host]:
    """Return the hosts of ``query`` that fit one of the requirements, and named hosts in any state."""
    found: dict[int, Host] = {}
    for requirement in dict.fromkeys(requirements):
        each = query_for(requirement, query if requirement.name is None else HostQuery())
        found |= {host.id: host for host in ctx.store.hosts.find(each)}
    return found.values()


def earliest_start(ctx: Context, demand: Demand) -> datetime | None:
    """Return the first time from the demand's start on at which enough hosts are free for its length; None if never."""
    requirements, after = demand.requirements, demand.starts_at
    begins = sorted(
        (
            (first, last, host)
            for host in candidates(ctx, requirements, HostQuery(declared=True))
            for first, last in free_starts(host, after, demand.ends_at - after, demand.turnaround)
        ),
        key=lambda each: each[0],
    )
    free: dict[int, tuple[datetime, Host]] = {}
    looks = 0
    for number, (first, last, host) in enumerate(begins):
        free[host.id] = last, host
        is_same = number + 1 < len(begins) and begins[number + 1][0] == first
        if is_same or len(free) < demand.total:
            continue
        free = {each: known for each, known in free.items() if known[0] >= first}
        looks += len(free)
        if looks > _MOST_LOOKS:
            return None
        if len(free) >= demand.total and not match(requirements, [known for _, known in free.values()]).missing:
            return first
    return None


def reopen(ctx: Context, booking: Booking, now: datetime) -> None:
    """Book hosts for the rest of a booking whose taker did not get its hosts, in the caller's transaction.

    The least recently used hosts come first. The owner again has the full ``no_show`` time to take the booking.
    """
    policy = ctx.store.policy()
    rest = replace(booking, starts_at=now, ended_at=None, end_reason=None, reservation=None)
    hosts = choose_for(ctx, Demand.of(rest, policy.turnaround)).hosts
    for host in hosts:
        set_aside(ctx, host, rest, now, f"{booking.id}: booked again until {booking.ends_at:%Y-%m-%d %H:%M} UTC")
    ctx.store.bookings.save(replace(rest, hosts=tuple(host.id for host in hosts), due_at=due_of(rest, policy)))
