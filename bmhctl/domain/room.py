"""Make room for a request: find the bookings that can move to other hosts that fit them; no I/O.

A *place* is one host for a time, needed by a booking or by the request. The request's places are assigned along
augmenting paths: a place takes a host, the place that was there moves to another host, and so on, up to a free host. If
the places on the paths all overlap at one moment, a host has at most one of them, and a path is found if one exists.
Otherwise several places may be in the way on one host. Then the problem is NP-hard, and all ways are searched, up to
:data:`MOST_STEPS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from bmhctl.domain.booking import Booking, all_in_the_way, is_broken, is_leased_past
from bmhctl.domain.limits import Limit
from bmhctl.domain.matching import Cap, match
from bmhctl.domain.model import Host, Planned
from bmhctl.domain.requirements import Requirement, Requirements, load_requirements, total
from bmhctl.support.values import Frozen

MOST_STEPS = 200_000
"""How often the search may check whether a place can take a host, before it gives up."""

_DEEPEST = 200  # the most places to which one search may give hosts


class Demand(Frozen):
    """What a booking or a lease asks for: hosts for a time.

    ``turnaround`` is how long the hosts must be free before and after it.
    """

    requirements: Requirements
    starts_at: datetime
    ends_at: datetime
    turnaround: timedelta = timedelta()

    @classmethod
    def of(cls, booking: Booking, turnaround: timedelta) -> Demand:
        """Return the demand of a booking."""
        return cls(load_requirements(booking.requirements), booking.starts_at, booking.ends_at, turnaround)

    @property
    def total(self) -> int:
        """How many hosts the demand is for."""
        return total(self.requirements)

    def in_way(self, host: Host) -> Iterator[Planned]:
        """Yield what is planned on a host at this time, or less than the turnaround before or after it."""
        return all_in_the_way(host, self.starts_at, self.ends_at, self.turnaround)

    def could_be_met_by(self, host: Host) -> bool:
        """Return whether a host could be booked for this time if nothing were planned: it is usable and not leased."""
        return not (is_leased_past(host, self.starts_at - self.turnaround) or is_broken(host, self.starts_at))

    def is_met_by(self, host: Host) -> bool:
        """Return whether a host may be booked for this time."""
        return self.could_be_met_by(host) and not any(self.in_way(host))


def unusable(booking: Booking, hosts: Sequence[Host]) -> list[Host]:
    """Return the hosts of a booking that will be unusable at its start, or no longer fit it."""
    usable = [host for host in hosts if not is_broken(host, booking.starts_at)]
    good = {host.id for host in match(load_requirements(booking.requirements), usable).hosts}
    return [host for host in hosts if host.id not in good]


class Room(Frozen):
    """A way to make room: the ``hosts`` of the request, in the order of its requirements, and the bookings that move.

    ``moves`` has, by the id of each booking that moves, its hosts after the move in the order of its requirements.
    """

    hosts: tuple[Host, ...]
    moves: Mapping[str, tuple[Host, ...]]


class _Place(Frozen):
    """One host for a time.

    For a booking: its id, its owner, and ``origin``, the host that it has before any move. For the request, ``booking``
    is None.
    """

    booking: str | None
    requirement: Requirement
    starts_at: datetime
    ends_at: datetime
    owner: str = ""
    origin: Host | None = None


def make_room(
    demand: Demand,
    hosts: Sequence[Host],
    bookings: Iterable[Booking],
    *,
    able: Collection[int],
    kept: Collection[int] = (),
    caps: Sequence[Cap] = (),
    limits: Sequence[Limit] = (),
) -> Room | None:
    """Return the hosts for a request and the bookings that move to make room for it; None if no way is found.

    ``demand`` is the request. ``hosts`` are all known hosts with what is planned on them; those that the request
    prefers come first. ``able`` are the ids of the hosts that the request could take if nothing were planned on them.
    For each cap in ``caps``, the request gets no more hosts that this cap counts than it allows.

    ``bookings`` are bookings that have not begun. A booking moves only to hosts that fit it and whose ids are not in
    ``kept``. It never moves to a host that counts for a limit of its owner (``limits``) for which its present host does
    not count. A booking does not move at all unless all its hosts are in ``hosts``, fit it, and are set aside for it.
    """
    board = _Board(hosts, demand.turnaround, able, kept, caps, limits)
    for booking in bookings:
        board.add(booking)
    wanted = [
        board.new_place(_Place(None, requirement, demand.starts_at, demand.ends_at))
        for requirement in demand.requirements
        for _ in range(requirement.count)
    ]
    before = dict(board.where)
    if not all(board.augment(place) for place in wanted) or not board.is_within_caps(wanted):
        board.put_back(before)
        if not board.search(wanted):
            return None
    return board.room(wanted, before)


def _fit(hosts: Sequence[Host], wanted: Sequence[Requirement]) -> bool:
    """Return whether there is a host for each requirement, and each host fits its requirement."""
    return len(hosts) == len(wanted) and all(one.fits(host.spec) for one, host in zip(wanted, hosts, strict=True))


class _Board:
    """A mutable record of which place is on which host; places and hosts are numbers in it."""

    def __init__(
        self,
        hosts: Sequence[Host],
        turnaround: timedelta,
        able: Collection[int],
        kept: Collection[int],
        caps: Sequence[Cap],
        limits: Sequence[Limit],
    ) -> None:
        self.hosts = hosts
        self.number = {host.id: number for number, host in enumerate(hosts)}
        self.turnaround = turnaround
        self.able = able
        self.kept = kept
        self.caps = caps
        self.limits = limits
        self.steps = MOST_STEPS
        self.places: list[_Place] = []
        self.where: dict[int, int] = {}
        self.on: list[set[int]] = [set() for _ in hosts]
        self.fixed: list[tuple[Planned, ...]] = [host.planned for host in hosts]
        self._fitting: dict[Requirement, list[int]] = {}

    def new_place(self, place: _Place) -> int:
        self.places.append(place)
        return len(self.places) - 1

    def add(self, booking: Booking) -> None:
        """Make each host of a booking a place that may move, if the booking has all the hosts that it asks for."""
        here = [self.hosts[self.number[each]] for each in booking.hosts if each in self.number]
        requirements = load_requirements(booking.requirements)
        wanted = [requirement for requirement in requirements for _ in range(requirement.count)]
        if not _fit(here, wanted):
            here = [*match(requirements, here).hosts]
        is_there = all(any(each.id == booking.id for each in host.planned) for host in here)
        if len(here) != len(booking.hosts) or not _fit(here, wanted) or not is_there:
            return
        for host, requirement in zip(here, wanted, strict=True):
            number = self.number[host.id]
            self.fixed[number] = tuple(each for each in self.fixed[number] if each.id != booking.id)
            self.move(
                self.new_place(
                    _Place(booking.id, requirement, booking.starts_at, booking.ends_at, booking.owner, host)
                ),
                number,
            )

    def move(self, place: int, host: int | None) -> None:
        """Put a place on a host; None takes it off its host."""
        before = self.where.pop(place, None)
        if before is not None:
            self.on[before].remove(place)
        if host is not None:
            self.where[place] = host
            self.on[host].add(place)

    def put_back(self, where: Mapping[int, int]) -> None:
        for place in [*self.where]:
            self.move(place, None)
        for place, host in where.items():
            self.move(place, host)

    def fitting(self, place: int) -> list[int]:
        """Return the hosts that fit a place."""
        requirement = self.places[place].requirement
        if requirement not in self._fitting:
            self._fitting[requirement] = [n for n, host in enumerate(self.hosts) if requirement.fits(host.spec)]
        return self._fitting[requirement]

    def may_take(self, place: int, number: int) -> bool:
        """Return whether a place could have a host if the places that can move made way for it."""
        self.steps -= 1
        one, host = self.places[place], self.hosts[number]
        if one.booking is None:
            if host.id not in self.able:
                return False
        else:
            if host.id in self.kept or is_broken(host, one.starts_at) or self._is_limited(one, host):
                return False
            if is_leased_past(host, one.starts_at - self.turnaround):
                return False
        return not any(self._overlap(one, each) for each in self.fixed[number])

    def _is_limited(self, place: _Place, host: Host) -> bool:
        """Return whether this host would count for a limit of the booking's owner, unlike the host it has now."""
        return any(
            each.concerns(place.owner)
            and each.counts(host.spec)
            and (place.origin is None or not each.counts(place.origin.spec))
            for each in self.limits
        )

    def in_way(self, place: int, number: int) -> list[int]:
        """Return the places on a host that would have to move."""
        one = self.places[place]
        return [other for other in self.on[number] if self._overlap(one, self.places[other])]

    def _overlap(self, one: _Place, other: _Place | Planned) -> bool:
        # Times are only subtracted from: adding to NEVER, the end of a lease without end, would overflow.
        return other.starts_at - self.turnaround < one.ends_at and one.starts_at - self.turnaround < other.ends_at

    def augment(self, place: int) -> bool:
        """Assign a place along the shortest augmenting path; return whether there is a path.

        On each host of the path, at most one place is in the way.
        """
        came: dict[int, tuple[int, int | None]] = {}  # for each host, the place that takes it, and this place's host
        left: dict[Requirement, list[int]] = {}  # for each requirement, its hosts that no path has reached
        reached: list[tuple[int, int | None]] = [(place, None)]
        known = {place}
        for each, before in reached:
            requirement = self.places[each].requirement
            left[requirement] = [n for n in left.get(requirement, self.fitting(each)) if n not in came]
            for number in left[requirement]:
                if self.steps <= 0:
                    return False
                if not self.may_take(each, number):
                    continue
                ways = self.in_way(each, number)
                if len(ways) > 1 or known.intersection(ways):
                    continue
                came[number] = each, before
                if not ways:
                    self._shift(number, came)
                    return True
                known.add(ways[0])
                reached.append((ways[0], number))
        return False

    def _shift(self, host: int, came: Mapping[int, tuple[int, int | None]]) -> None:
        at: int | None = host
        while at is not None:
            place, before = came[at]
            self.move(place, at)
            at = before

    def search(self, todo: Sequence[int], settled: frozenset[int] = frozenset()) -> bool:
        """Assign the places ``todo``, moving others that are not in ``settled``; return whether each got a host."""
        if not todo:
            return True
        if len(settled) >= _DEEPEST:
            return False
        place, rest = todo[0], todo[1:]
        ways = []
        for number in self.fitting(place):
            if self.steps <= 0:
                return False
            if self.may_take(place, number):
                others = self.in_way(place, number)
                if not settled.intersection(others):
                    ways.append((len(others), number, others))
        for _, number, others in sorted(ways):
            for other in others:
                self.move(other, None)
            self.move(place, number)
            if self.is_within_caps(settled | {place}) and self.search([*rest, *others], settled | {place}):
                return True
            self.move(place, None)
            for other in others:
                self.move(other, number)
        return False

    def is_within_caps(self, places: Iterable[int]) -> bool:
        """Return whether the request has no more hosts than each cap allows."""
        if not self.caps:
            return True
        taken = [self.hosts[self.where[each]].spec for each in places if self.places[each].booking is None]
        return all(sum(cap.selector.fits(spec) for spec in taken) <= cap.number for cap in self.caps)

    def room(self, wanted: Iterable[int], before: Mapping[int, int]) -> Room:
        """Return the hosts of the request, and the hosts of each booking that moved."""
        moved = {self.places[place].booking for place, host in before.items() if self.where[place] != host}
        moves: dict[str, list[Host]] = {}
        for place in before:
            booking = self.places[place].booking
            if booking is not None and booking in moved:
                moves.setdefault(booking, []).append(self.hosts[self.where[place]])
        hosts = tuple(self.hosts[self.where[each]] for each in wanted)
        return Room(hosts, {booking: tuple(places) for booking, places in moves.items()})
