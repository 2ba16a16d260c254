"""Who gets which hosts: wants matched to free hosts in the order of the tickets. No I/O, no judgement of states.

Wants overlap (one host fits several), so hosts are assigned along augmenting paths, as in bipartite matching: each
host in its turn finds room with a want, or makes one of that want's hosts move on to another that it fits, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bmhctl.frozen import Frozen
from bmhctl.model import Host
from bmhctl.wants import Wants


class Match(Frozen):
    """The hosts that wants would get; ``missing`` is how many more it takes."""

    hosts: tuple[Host, ...]
    missing: int


def match(wants: Wants, free: Sequence[Host]) -> Match:
    """As many hosts for the wants as there can be; of the ways to do so, the one that uses the first in ``free``.

    The hosts come in the order of the wants.
    """
    fits = [[number for number, want in enumerate(wants) if want.fits(host.spec)] for host in free]
    room = [want.count for want in wants]
    got: list[set[int]] = [set() for _ in wants]  # the places in ``free`` of each want's hosts

    def find_room(host: int) -> None:
        """Gives a host to a want that it fits; when these are full, one of theirs moves on to another, and so on."""
        ways: dict[int, tuple[int, int | None]] = dict.fromkeys(fits[host], (host, None))
        for want in (reached := list(ways)):
            if room[want]:
                room[want] -= 1
                at: int | None = want
                while at is not None:
                    moved, before = ways[at]
                    got[at].add(moved)
                    if before is not None:
                        got[before].remove(moved)
                    at = before
                return
            for held in got[want]:
                for other in fits[held]:
                    if other not in ways:
                        ways[other] = held, want
                        reached.append(other)

    for host in range(len(free)):
        if not any(room):
            break
        find_room(host)
    hosts = tuple(free[host] for places in got for host in sorted(places))
    return Match(hosts, sum(room))


def left_over(earlier: Iterable[Wants], free: Sequence[Host], comes_back: Callable[[Wants], bool]) -> list[Host]:
    """The free hosts that no earlier ticket has a right to.

    A full match is set aside for its ticket; a partial one holds just the matched hosts, so that a request for
    four is not starved by a stream of ones; a ticket whose missing hosts need an operator holds nothing:
    ``comes_back`` is asked whether the hosts that such wants miss will be free without one.
    """
    left = list(free)
    for wants in earlier:
        if not left:
            break
        found = match(wants, left)
        if found.missing and not comes_back(wants):
            continue
        taken = {host.id for host in found.hosts}
        left = [host for host in left if host.id not in taken]
    return left
