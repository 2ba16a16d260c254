"""Match requirements to free hosts in the order of the tickets; no I/O.

One host may fit several requirements, so hosts are assigned along augmenting paths, as in bipartite matching. A host
goes to a requirement that lacks hosts. If it fits only requirements that have enough, one of their hosts moves to
another requirement that this host fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from bmhctl.domain.booking import SHORTEST_LEASE, free_until
from bmhctl.domain.model import NEVER, Host
from bmhctl.domain.requirements import Requirements
from bmhctl.domain.selector import Selector
from bmhctl.support.values import Frozen


class Cap(Frozen):
    """At most ``number`` of the hosts of a match may fit ``selector``."""

    selector: Selector
    number: int


class Match(Frozen):
    """The hosts that some requirements would get; ``missing`` is how many hosts they would still lack.

    ``notes`` name, in words, the bookings that moved to other hosts to make room.
    """

    hosts: tuple[Host, ...]
    missing: int
    notes: tuple[str, ...] = ()


class Until(Frozen):
    """Until when hosts must be free of plans: ``whole`` for the whole lease, ``least`` for the shortest one allowed."""

    whole: datetime
    least: datetime


def until_of(length: timedelta | None, now: datetime, turnaround: timedelta, *, may_be_short: bool) -> Until:
    """Return until when hosts must be free for a lease of ``length`` from ``now`` on; None for one without end.

    A lease that ``may_be_short`` may end earlier, before a booking or a planned maintenance. ``turnaround`` is the time
    that must be left before these.
    """
    whole = NEVER if length is None else now + length + turnaround
    return Until(whole, min(whole, now + SHORTEST_LEASE + turnaround) if may_be_short else whole)


class Claimant(Frozen):
    """The requirements of a ticket, and the caps of its owner; ``until`` is None where nothing is planned."""

    requirements: Requirements
    caps: Sequence[Cap] = ()
    until: Until | None = None

    def match(self, free: Sequence[Host]) -> Match:
        """Return the largest match of hosts that are free for the whole lease, else for the shortest allowed length.

        For the whole lease, hosts whose next plan is near come first, so that the others stay free for longer leases.
        For the shortest allowed length, the hosts that stay free the longest come first.
        """
        until = self.until
        if until is None or not any(host.planned for host in free):
            return match(self.requirements, free, self.caps)
        whole = [host for host in free if free_until(host) >= until.whole]
        found = match(self.requirements, sorted(whole, key=free_until), self.caps)
        if not found.missing or until.least == until.whole:
            return found
        some = [host for host in free if free_until(host) >= until.least]
        return match(self.requirements, sorted(some, key=free_until, reverse=True), self.caps)


def match(requirements: Requirements, free: Sequence[Host], caps: Sequence[Cap] = ()) -> Match:
    """Return the largest match; if there are several, the one that uses the first hosts in ``free``.

    The hosts come in the order of the requirements. Under ``caps``, hosts that few of them count are preferred.
    """
    found = _match(requirements, free)
    if all(sum(cap.selector.fits(host.spec) for host in found.hosts) <= cap.number for cap in caps):
        return found
    under = {host.id: [number for number, cap in enumerate(caps) if cap.selector.fits(host.spec)] for host in free}
    room = [cap.number for cap in caps]

    def is_allowed(host: Host) -> bool:
        return all(room[number] > 0 for number in under[host.id])

    def takes(host: Host) -> None:
        for number in under[host.id]:
            room[number] -= 1

    found = _match(requirements, sorted(free, key=lambda host: len(under[host.id])), is_allowed, takes)
    if not found.missing:
        return found
    larger = _largest(requirements, free, caps)
    return larger if larger.missing < found.missing else found


def _match(
    requirements: Requirements,
    free: Sequence[Host],
    is_allowed: Callable[[Host], bool] = lambda _: True,
    takes: Callable[[Host], None] = lambda _: None,
) -> Match:
    """Return the largest match of requirements and hosts; ``is_allowed`` is called when the search reaches a host.

    ``takes`` is called with each host that enters the match. Such a host stays in it; its requirement may change.
    """
    fits = [[number for number, requirement in enumerate(requirements) if requirement.fits(host.spec)] for host in free]
    room = [requirement.count for requirement in requirements]
    got: list[set[int]] = [set() for _ in requirements]  # for each requirement, the indices in ``free`` of its hosts

    def find_room(host: int) -> bool:
        """Assign a host to a requirement that it fits; if all these have enough hosts, move one of their hosts."""
        ways: dict[int, tuple[int, int | None]] = dict.fromkeys(fits[host], (host, None))
        for requirement in (reached := list(ways)):
            if room[requirement]:
                room[requirement] -= 1
                at: int | None = requirement
                while at is not None:
                    moved, before = ways[at]
                    got[at].add(moved)
                    if before is not None:
                        got[before].remove(moved)
                    at = before
                return True
            for held in got[requirement]:
                for other in fits[held]:
                    if other not in ways:
                        ways[other] = held, requirement
                        reached.append(other)
        return False

    for host in range(len(free)):
        if not any(room):
            break
        if is_allowed(free[host]) and find_room(host):
            takes(free[host])
    hosts = tuple(free[host] for places in got for host in sorted(places))
    return Match(hosts, sum(room))


_Kind = tuple[tuple[int, ...], tuple[int, ...]]
"""A kind of host: the numbers of the requirements that it fits, and the numbers of the caps that count it."""

_Room = Mapping[tuple[int, ...], int]
"""For a group of hosts that the same caps count: how many of them may be used."""

_MOST_FLOWS = 2000  # flows after which the search under overlapping caps ends, with the best match found


def _largest(requirements: Requirements, free: Sequence[Host], caps: Sequence[Cap]) -> Match:
    """Return the largest match that exceeds no cap; the best one found after :data:`_MOST_FLOWS` flows.

    The order of ``free`` does not matter. Hosts that the same caps count form a group, and a maximum flow with a limit
    for each group is the largest match for these limits. If the flow exceeds a cap, every allowed match gives fewer
    hosts to a group that the cap counts, so the limit of each such group is lowered in turn (branch and bound).
    """
    kinds: dict[_Kind, list[Host]] = {}
    for host in free:
        fits = tuple(number for number, requirement in enumerate(requirements) if requirement.fits(host.spec))
        under = tuple(number for number, cap in enumerate(caps) if cap.selector.fits(host.spec))
        if fits:
            kinds.setdefault((fits, under), []).append(host)
    wanted = sum(requirement.count for requirement in requirements)
    todo: list[_Room] = [
        {under: min([wanted, *(caps[number].number for number in under)]) for _, under in kinds},
    ]
    best: dict[tuple[int, _Kind], int] = {}
    for _ in range(_MOST_FLOWS):
        if not todo or sum(best.values()) == wanted:
            break
        room = todo.pop()
        flow = _flow(requirements, kinds, room)
        if sum(flow.values()) <= sum(best.values()):
            continue
        used = dict.fromkeys(room, 0)
        for (_, (_, under)), number in flow.items():
            used[under] += number
        for number, cap in enumerate(caps):
            counted = [under for under in used if number in under and used[under]]
            excess = sum(used[under] for under in counted) - cap.number
            if excess > 0:
                fewer = -(-excess // len(counted))
                todo += [{**room, under: used[under] - fewer} for under in counted if used[under] >= fewer]
                break
        else:
            best = flow
    left = {kind: iter(hosts) for kind, hosts in kinds.items()}
    hosts = tuple(next(left[kind]) for (_, kind), number in sorted(best.items()) for _ in range(number))
    return Match(hosts, wanted - len(hosts))


def _flow(
    requirements: Requirements, kinds: Mapping[_Kind, Sequence[Host]], room: _Room
) -> dict[tuple[int, _Kind], int]:
    """Return how many hosts of each kind each requirement gets in a maximum flow; ``room`` limits each group."""
    source, sink = object(), object()
    left: dict[object, dict[object, int]] = {source: {}, sink: {}}

    def connect(start: object, end: object, capacity: int) -> None:
        left.setdefault(start, {})[end] = capacity
        left.setdefault(end, {}).setdefault(start, 0)

    for number, requirement in enumerate(requirements):
        connect(source, number, requirement.count)
    for kind, hosts in kinds.items():
        for number in kind[0]:
            connect(number, kind, len(hosts))
        connect(kind, ("under", kind[1]), len(hosts))
        connect(("under", kind[1]), sink, room[kind[1]])
    while True:
        came: dict[object, object] = {source: source}
        reached = [source]
        for node in reached:
            for other, capacity in left[node].items():
                if capacity and other not in came:
                    came[other] = node
                    reached.append(other)
        if sink not in came:
            break
        path = [sink]
        while path[-1] is not source:
            path.append(came[path[-1]])
        steps = [*pairwise(reversed(path))]
        amount = min(left[start][end] for start, end in steps)
        for start, end in steps:
            left[start][end] -= amount
            left[end][start] += amount
    return {(number, kind): left[kind][number] for kind in kinds for number in kind[0] if left[kind][number]}


def left_over(
    earlier: Iterable[Claimant],
    free: Sequence[Host],
    comes_back: Callable[[Requirements], bool],
) -> list[Host]:
    """Return the free hosts to which no earlier ticket has a right.

    If all requirements of a ticket are met, its hosts are set aside. If some hosts are missing, the matched ones are
    still set aside, so that many small requests do not starve a request for four hosts. The exception is a ticket whose
    missing hosts need an operator: nothing is set aside for it. ``comes_back`` returns whether requirements can be met
    without an operator.
    """
    left = list(free)
    for claimant in earlier:
        if not left:
            break
        found = claimant.match(left)
        if found.missing and not comes_back(claimant.requirements):
            continue
        taken = {host.id for host in found.hosts}
        left = [host for host in left if host.id not in taken]
    return left
