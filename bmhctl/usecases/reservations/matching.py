"""Match requirements to free hosts in the order of the tickets; no I/O.

One host may fit several requirements, so hosts are assigned along augmenting paths, as in bipartite matching: a host is
assigned to a requirement that has room, or one of that requirement's hosts moves on to another that it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bmhctl.domain.model import Host
from bmhctl.domain.requirements import Requirements
from bmhctl.support.values import Frozen


class Match(Frozen):
    """The hosts that requirements would get; ``missing`` is how many more it takes."""

    hosts: tuple[Host, ...]
    missing: int


def match(requirements: Requirements, free: Sequence[Host]) -> Match:
    """Return the largest match; of several, the one that uses the first hosts in ``free``.

    The hosts come in the order of the requirements.
    """
    fits = [[number for number, requirement in enumerate(requirements) if requirement.fits(host.spec)] for host in free]
    room = [requirement.count for requirement in requirements]
    got: list[set[int]] = [set() for _ in requirements]  # for each requirement, the indices in ``free`` of its hosts

    def find_room(host: int) -> None:
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
                return
            for held in got[requirement]:
                for other in fits[held]:
                    if other not in ways:
                        ways[other] = held, requirement
                        reached.append(other)

    for host in range(len(free)):
        if not any(room):
            break
        find_room(host)
    hosts = tuple(free[host] for places in got for host in sorted(places))
    return Match(hosts, sum(room))


def left_over(
    earlier: Iterable[Requirements], free: Sequence[Host], comes_back: Callable[[Requirements], bool]
) -> list[Host]:
    """Return the free hosts to which no earlier ticket has a right.

    A full match is set aside for its ticket; a partial one holds just the matched hosts, so that a request for four is
    not starved by a stream of ones; a ticket whose missing hosts need an operator holds nothing: ``comes_back`` returns
    whether requirements can be met without one.
    """
    left = list(free)
    for requirements in earlier:
        if not left:
            break
        found = match(requirements, left)
        if found.missing and not comes_back(requirements):
            continue
        taken = {host.id for host in found.hosts}
        left = [host for host in left if host.id not in taken]
    return left
