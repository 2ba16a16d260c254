"""Match requirements to free hosts in the order of the tickets; no I/O.

One host may fit several requirements, so hosts are assigned along augmenting paths, as in bipartite matching: a host is
assigned to a requirement that has room, or one of that requirement's hosts moves on to another that it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bmhctl.domain.model import Host
from bmhctl.domain.requirements import Requirements
from bmhctl.domain.selector import Selector
from bmhctl.support.values import Frozen


class Cap(Frozen):
    """At most ``number`` of the hosts of a match may fit ``selector``."""

    selector: Selector
    number: int


class Match(Frozen):
    """The hosts that requirements would get; ``missing`` is how many more it takes."""

    hosts: tuple[Host, ...]
    missing: int


def match(requirements: Requirements, free: Sequence[Host], caps: Sequence[Cap] = ()) -> Match:
    """Return the largest match; of several, the one that uses the first hosts in ``free``.

    The hosts come in the order of the requirements. With ``caps``, hosts under few of them are preferred where the
    match would exceed one otherwise: under one cap, or under caps of which each host is in one, no larger match exists.
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

    return _match(requirements, sorted(free, key=lambda host: len(under[host.id])), is_allowed, takes)


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


def left_over(
    earlier: Iterable[tuple[Requirements, Sequence[Cap]]],
    free: Sequence[Host],
    comes_back: Callable[[Requirements], bool],
) -> list[Host]:
    """Return the free hosts to which no earlier ticket has a right.

    A full match is set aside for its ticket; a partial one holds just the matched hosts, so that a request for four is
    not starved by a stream of ones; a ticket whose missing hosts need an operator holds nothing: ``comes_back`` returns
    whether requirements can be met without one. ``earlier`` are the requirements of each ticket, with the caps of its
    owner.
    """
    left = list(free)
    for requirements, caps in earlier:
        if not left:
            break
        found = match(requirements, left, caps)
        if found.missing and not comes_back(requirements):
            continue
        taken = {host.id for host in found.hosts}
        left = [host for host in left if host.id not in taken]
    return left
