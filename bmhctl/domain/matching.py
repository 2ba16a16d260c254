"""Match requirements to free hosts in the order of the tickets; no I/O.

One host may fit several requirements, so hosts are assigned along augmenting paths, as in bipartite matching. A host
goes to a requirement that has room. If it has none, one of its hosts moves to another requirement that the host fits.
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
    """The hosts that requirements would get; ``missing`` is how many more it takes.

    ``notes`` say what was moved to other hosts for it.
    """

    hosts: tuple[Host, ...]
    missing: int
    notes: tuple[str, ...] = ()


class Until(Frozen):
    """Until when hosts have to be free of what is planned: for the ``whole`` lease, and for the ``least`` of it."""

    whole: datetime
    least: datetime


def until_of(length: timedelta | None, now: datetime, turnaround: timedelta, *, may_be_short: bool) -> Until:
    """Return until when hosts have to be free for a lease from ``now`` on of a length, None for one without end.

    One that ``may_be_short`` ends early where something is planned.
    """
    whole = NEVER if length is None else now + length + turnaround
    return Until(whole, min(whole, now + SHORTEST_LEASE + turnaround) if may_be_short else whole)


class Claimant(Frozen):
    """What a ticket asks for, with the caps of its owner; ``until`` is None where nothing is planned on any host."""

    requirements: Requirements
    caps: Sequence[Cap] = ()
    until: Until | None = None

    def match(self, free: Sequence[Host]) -> Match:
        """Return the largest match of hosts that are free for the whole lease, else for its shortest allowed length.

        For the whole lease, the hosts with the nearest plans come first: the others stay free for longer leases. For
        the shortest length, the hosts that stay free the longest come first.
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
    """Return the largest match; of several, the one that uses the first hosts in ``free``.

    The hosts come in the order of the requirements. With ``caps``, hosts under few of them are preferred where the
    match would exceed one otherwise.
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
    """Return the largest match of hosts that are allowed when it is their turn; ``takes`` is told each that is used.

    A host that is used stays so, and only its requirement may change.
    """
    fits = [[number for number, requirement in enumerate(requirements) if requirement.fits(host.spec)] for host in free]
    room = [requirement.count for requirement in requirements]
    got: list[set[int]] = [set() for _ in requirements]  # for each requirement, the indices in ``free`` of its hosts

    def find_room(host: int) -> bool:
        """Assign a host to a requirement; where all that it fits are full, move one of their hosts on to another."""
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
"""The hosts that fit the same requirements and are under the same caps, by their numbers."""

_Room = Mapping[tuple[int, ...], int]
"""How many hosts may be used that are under the same caps."""

_MOST_FLOWS = 2000  # before the search for the largest match within caps that overlap ends with the best so far


def _largest(requirements: Requirements, free: Sequence[Host], caps: Sequence[Cap]) -> Match:
    """Return the largest match that exceeds no cap; the best one found after :data:`_MOST_FLOWS` flows.

    The order of ``free`` does not matter. Hosts under the same caps form a group, and a maximum flow with a limit for
    each group is the largest match for these limits. If the flow exceeds a cap, one of the groups under this cap gets
    fewer hosts in every allowed match. So the limit of each such group is lowered in turn (branch and bound).
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
            mine = [under for under in used if number in under and used[under]]
            excess = sum(used[under] for under in mine) - cap.number
            if excess > 0:
                fewer = -(-excess // len(mine))
                todo += [{**room, under: used[under] - fewer} for under in mine if used[under] >= fewer]
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

    A full match is set aside for its ticket; a partial one holds just the matched hosts, so that a request for four is
    not starved by a stream of ones; a ticket whose missing hosts need an operator holds nothing: ``comes_back`` returns
    whether requirements can be met without one.
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
