"""Who gets which hosts: wants matched to free hosts in the order of the tickets. No I/O, no judgement of states.

Wants overlap (one host fits several), so hosts are assigned along augmenting paths, as in bipartite matching: a
host that an earlier want could do without moves on when a later want needs just that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bmhctl.model import Host
from bmhctl.wants import Wants


@dataclass(frozen=True, slots=True)
class Match:
    """The hosts that wants would get; ``missing`` is how many more it takes."""

    hosts: tuple[Host, ...]
    missing: int


def match(wants: Wants, free: Sequence[Host]) -> Match:
    """As many hosts for the wants as there can be; of those that fit, the first in ``free`` are preferred.

    The hosts come in the order of the wants.
    """
    slots = [want for want in wants for _ in range(want.count)]
    fits: dict[int, list[int]] = {}
    for want in wants:
        fits[id(want)] = [number for number, host in enumerate(free) if want.fits(host.spec)]
    holder: dict[int, int] = {}  # host number -> slot number

    def place(slot: int, tried: set[int]) -> bool:
        # Depth is bounded by the number of slots; wants are few hosts in practice, MOST_HOSTS at the worst.
        stack: list[tuple[int, int]] = [(slot, 0)]
        path: list[int] = []
        while stack:
            at, position = stack[-1]
            candidates = fits[id(slots[at])]
            while position < len(candidates) and candidates[position] in tried:
                position += 1
            if position == len(candidates):
                stack.pop()
                if path:
                    path.pop()
                continue
            number = candidates[position]
            tried.add(number)
            stack[-1] = (at, position + 1)
            path.append(number)
            if number not in holder:
                for (owner, _), taken in zip(stack, path, strict=True):
                    holder[taken] = owner
                return True
            stack.append((holder[number], 0))
        return False

    untried = {key: iter(numbers) for key, numbers in fits.items()}

    def take(slot: int) -> bool:
        for number in untried[id(slots[slot])]:  # a host that is held stays held: none has to be looked at twice
            if number not in holder:
                holder[number] = slot
                return True
        return place(slot, set())

    placed = sum(take(slot) for slot in range(len(slots)))
    by_slot = sorted((slot, number) for number, slot in holder.items())
    return Match(tuple(free[number] for _, number in by_slot), len(slots) - placed)


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
