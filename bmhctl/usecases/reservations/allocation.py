"""Choose the hosts for a request, or find out why too few hosts are free."""

from __future__ import annotations

from collections.abc import Iterable

from bmhctl.domain.limits import Limit
from bmhctl.domain.matching import Match, match
from bmhctl.domain.model import State, Verb
from bmhctl.domain.requirements import Requirements, describe_requirements, total
from bmhctl.domain.selector import Selector
from bmhctl.domain.units import local_time
from bmhctl.errors import BmhctlError, BusyError, UnsatisfiableError
from bmhctl.lifecycle.machine import GuardInput
from bmhctl.lifecycle.table import where
from bmhctl.stores import availability_queries
from bmhctl.stores.availability_queries import CORDONED
from bmhctl.stores.host_query import HostQuery, query_for
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.candidates import candidates
from bmhctl.usecases.reservations.fairness import ticket_ahead
from bmhctl.usecases.reservations.limits import refusal as refusal_of_limits
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import decide

_HOLDERS = 100  # the most holders that the message for a busy request names

_NEXT_COMMAND = {State.INITIAL: "bmhctl ready", State.TAINTED: "bmhctl recycle"}
_REMEDIES = {
    **dict.fromkeys((State.MAINTENANCE, CORDONED), "bmhctl status --reasons shows which hosts wait for an operator"),
    State.RESERVED: "bmhctl reservations shows who holds what",
    State.TAINTED: "bmhctl recycle brings tainted hosts back",
    State.INITIAL: "bmhctl ready HOST makes initial hosts available",
}
"""What to do about hosts that are not free, by their state."""
_BY_HAND = frozenset((State.INITIAL, CORDONED))
"""The states that a host leaves only by a command of an operator."""


def refusal(
    ctx: Context, requirements: Requirements, found: Match, before: int | None, limits: tuple[Limit, ...]
) -> BmhctlError:
    """Return the error for a request that gets only ``found`` now: the error of a limit, or that hosts are busy.

    ``before`` is the id of the request's own ticket, if it has one. Raises :class:`UnsatisfiableError` when no hosts of
    the inventory can ever fit.
    """
    check_satisfiable(ctx, requirements)
    return refusal_of_limits(ctx, ctx.actor, requirements, limits) or _busy(ctx, requirements, found, before)


def check_satisfiable(ctx: Context, requirements: Requirements) -> None:
    """Raise :class:`UnsatisfiableError` when no set of the declared hosts fits, whatever their states are.

    The error reports how many hosts each term of a selector excludes, and the nearest request that is possible.
    """
    possible = match(requirements, candidates(ctx, [requirements], HostQuery(declared=True)))
    if not possible.missing:
        return
    everyone = availability_queries.declared(ctx.store)
    terms = dict.fromkeys(term for requirement in requirements for term in requirement.selector.terms)
    excluded = {str(term): everyone - availability_queries.fitting(ctx.store, Selector((term,))) for term in terms}
    words = [f"{term} excludes {number}" for term, number in excluded.items()]
    nearest = len(possible.hosts)
    raise UnsatisfiableError(
        f"not possible in this inventory: {describe_requirements(requirements)}; "
        f"of {everyone} declared hosts {nearest or 'none'} would fit" + (f" ({'; '.join(words)})" if words else ""),
        hint=_alternative(ctx, requirements, nearest),
        details={"fitting": nearest, "hosts": everyone, "excluded": excluded},
    )


def _alternative(ctx: Context, requirements: Requirements, nearest: int) -> str:
    if nearest:
        return f"{nearest} at once would be possible; bmhctl list -l SELECTOR shows what fits"
    from bmhctl.usecases.shared.unmatched import known_values

    terms = [(requirement, term) for requirement in requirements for term in requirement.selector.terms]
    for requirement, term in terms:
        rest = Selector(tuple(t for t in requirement.selector.terms if t is not term))
        number = availability_queries.fitting(ctx.store, rest)
        if number >= requirement.count:
            words = (
                f"more than {availability_queries.MOST}"
                if rest.terms[1:] and number > availability_queries.MOST
                else str(number)
            )
            instead = f": -l '{rest}'" if rest.terms else ""
            return f"without {term} there are {words}{instead}{known_values(ctx, term)}"
    return "bmhctl list shows all hosts and their labels"


def check_names(ctx: Context, requirements: Requirements) -> None:
    """Raise :class:`NotFoundError` for a name that no host has."""
    for requirement in requirements:
        if requirement.name is not None:
            ctx.host(requirement.name)


def _busy(ctx: Context, requirements: Requirements, found: Match, before: int | None) -> BmhctlError:
    now = ctx.clock()
    named = [ctx.store.hosts.named(requirement.name) for requirement in requirements if requirement.name is not None]
    for host in named:
        if host is not None and host.state is not State.AVAILABLE:
            held = f" by {host.reservation.words}" if host.reservation else ""
            is_left_alone = not ctx.store.claims.claimed_hosts([host.id])
            if host.cordon is not None and host.cordon.retires:
                held += f", and is being retired by {host.cordon.actor}"
                is_left_alone = False
            following = _NEXT_COMMAND.get(host.state) if is_left_alone else None
            if host.state is State.RESERVED and host.cordon is None:
                following = "wait with --wait 30m; bmhctl why"
            mine = host.reservation if host.reservation and host.reservation.owner == ctx.actor else None
            return BusyError(
                f"is {where(host.state)}{held}: nothing was reserved",
                host=host.name,
                hint=f"you hold it: bmhctl extend -R {mine.id} keeps it"
                if mine
                else f"{following or 'bmhctl why'} {host.name}",
            )
        if host is not None:
            ahead = ticket_ahead(ctx, before)
            is_claimed = bool(ctx.store.claims.claimed_hosts([host.id]))
            inputs = replace(GuardInput.of(host, now, is_claimed=is_claimed), earlier_ticket=ahead)
            try:
                decide(Verb.RESERVE, host, inputs)
            except BmhctlError as error:
                return error
    fitting = [query_for(requirement, HostQuery(declared=True)) for requirement in dict.fromkeys(requirements)]
    spread, holders, first_end = availability_queries.occupation(ctx.store, fitting, _HOLDERS)
    ends = f"; the first lease ends at {local_time(first_end)}" if first_end else ""
    held_by = f", held by {_by_owner(holders[:3])}" + (" …" if len(holders) > 3 else "") if holders else ""
    queued = ticket_ahead(ctx, before)
    words = remedies(spread)  # includes what to do about hosts that do not become free by waiting
    return BusyError(
        f"{describe_requirements(requirements)}: {len(found.hosts) or 'none'} free now, nothing was reserved: "
        + ", ".join(f"{number} {word}" for word, number in sorted(spread.items()))
        + held_by
        + ends
        + (f"; {queued}" if queued else ""),
        hint="; ".join(words if spread.keys() <= _BY_HAND else ["wait for them with --wait 30m", *words]),
        details={
            "free": len(found.hosts),
            "wanted": total(requirements),
            "states": spread,
            "holders": [_by_owner([each]) for each in holders],
        },
    )


def _by_owner(holders: Iterable[tuple[str, str]]) -> str:
    """Return each owner once, with the ids of its reservations: ``alice (r-1, r-2), bob (r-3)``."""
    found: dict[str, list[str]] = {}
    for owner, reservation in holders:
        found.setdefault(owner, []).append(reservation)
    return ", ".join(f"{owner} ({', '.join(ids)})" for owner, ids in found.items())


def remedies(spread: Iterable[str]) -> list[str]:
    """Return what a person can do about hosts in these states."""
    return list(dict.fromkeys(words for state, words in _REMEDIES.items() if state in spread))
