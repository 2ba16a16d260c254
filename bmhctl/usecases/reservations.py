"""What is asked for, which hosts a wish gets now, and why it gets none; waiting for them is in ``queue``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from bmhctl.errors import BmhctlError, BusyError, UnsatisfiableError, UsageError
from bmhctl.frozen import Frozen, replace
from bmhctl.lifecycle.table import where
from bmhctl.model import Host, Reservation, State, Verb
from bmhctl.policy import Policy
from bmhctl.results import Grant, Held, Outcome, Plan, Reservations
from bmhctl.selector import Selector
from bmhctl.stores.queries import HostQuery
from bmhctl.units import format_duration
from bmhctl.usecases.choosing import not_found, unfold
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import look
from bmhctl.usecases.leases import (
    describe,
    held_reservation,
    hosts_of,
)
from bmhctl.usecases.looking import with_hosts
from bmhctl.usecases.matching import Match, match
from bmhctl.usecases.moving import decide, facts_of, move
from bmhctl.usecases.turns import candidates, due_before, free_for, query_for
from bmhctl.wants import MOST_HOSTS, Want, Wants, dump_wants, load_wants, total
from bmhctl.wants import describe as in_words

_HOLDERS = 100  # are named to whoever finds all hosts busy


class Wish(Frozen):
    """What a reservation is asked for.

    ``ttl`` is how long the lease shall last (None: as the policy says); ``endless`` asks for a lease without end,
    where the policy allows it. ``request_id`` makes asking again safe: the same id gives the same reservation.
    ``token`` is the id that the reservation shall have, if the caller needs to know it before.
    """

    wants: Wants
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    request_id: str | None = None
    token: str | None = None


def wish_for(
    names: Sequence[str] = (),
    selector: Selector | None = None,
    count: int | None = None,
    wants: Sequence[Want] = (),
    *,
    purpose: str | None = None,
    ttl: timedelta | None = None,
    endless: bool = False,
    request_id: str | None = None,
) -> Wish:
    """A wish from what a person says: these very hosts; or ``count`` that fit a selector; or several wants.

    Raises :class:`UsageError` for one that makes no sense.
    """
    ways = [bool(names), selector is not None or count is not None, bool(wants)]
    if sum(ways) > 1:
        raise UsageError("name hosts, or choose them with -l and -n, or with --want: not several of these")
    if not any(ways):
        raise UsageError(
            "what shall be reserved?", hint="name hosts, or say how many: -n 1; or what they must be: -l arch=arm64"
        )
    if count is not None and count < 1:
        raise UsageError(f"can't reserve {count} hosts", hint="-n takes a number from 1")
    if ttl is not None and not ttl:
        raise UsageError("a lease of no length makes no sense", hint="such as --ttl 20m")
    if request_id == "":
        raise UsageError("the request id is empty", hint='such as --request-id "$CI_JOB_ID"')
    found: Wants
    if names:
        for name in (unfolded := unfold(names)):
            if "*" in name or "?" in name:
                raise UsageError(f"{name!r} names no host", hint="reserve takes exact names, or -l SELECTOR -n N")
        found = tuple(Want(name=name) for name in unfolded)
    elif wants:
        found = tuple(wants)
    else:
        found = (Want(selector or Selector(), count or 1),)
    if total(found) > MOST_HOSTS:
        raise UsageError(f"{total(found)} hosts are too many for one reservation", hint=f"at most {MOST_HOSTS}")
    return Wish(found, purpose, ttl, endless, request_id)


class Terms(Frozen):
    """The lease that a wish gets under the policy: None is without end; ``notes`` say where it differs."""

    ttl: timedelta | None
    notes: tuple[str, ...] = ()


def plan_reserve(ctx: Context, wish: Wish) -> Plan:
    """What ``reserve`` would take now; raises what it would raise. Nothing changes."""
    look(ctx)
    terms = lease_of(ctx.policy(), wish)
    with ctx.store.snapshot():
        hosts = choose_hosts(ctx, wish)
    items = [Outcome(host.name, True, "would be taken", host.state, State.RESERVED) for host in hosts]
    return Plan("reserve", tuple(items), terms.notes)


def lease_of(policy: Policy, wish: Wish) -> Terms:
    """How long the lease will be; raises :class:`UsageError` for one without end where there is a maximum."""
    if wish.endless:
        if policy.max_ttl is not None:
            raise UsageError(
                "this inventory allows no lease without end",
                hint=f'its max_ttl is {format_duration(policy.max_ttl)}; max_ttl = "none" in its policy lifts it',
            )
        return Terms(None)
    ttl = wish.ttl or policy.ttl
    if policy.max_ttl is not None and (ttl is None or ttl > policy.max_ttl):
        most = format_duration(policy.max_ttl)
        return Terms(policy.max_ttl, (f"the lease is {most}, the longest that this inventory allows",))
    return Terms(ttl)


def granted_before(ctx: Context, wish: Wish) -> Grant | None:
    """What the wish's request id was granted before, if it was; see :func:`reserve` for what is raised."""
    if wish.request_id is None:
        return None
    known = ctx.store.reservation_of_request(ctx.actor, wish.request_id)
    if known is None:
        return None
    check_same(wish, known.wants)
    held_reservation(ctx, known.id, ctx.clock())
    hosts = hosts_of(ctx, known)
    as_asked = match(wish.wants, hosts).hosts  # in the order of the wants, as the first answer had them
    rest = [host for host in hosts if host.id not in {other.id for other in as_asked}]
    return Grant(Held(known, (*as_asked, *rest)), (f"request {wish.request_id} was granted before",))


def check_same(wish: Wish, wants: str | None) -> None:
    """Raises :class:`UsageError` when the wish's request id was used for other wants."""
    if wants is not None and wants != dump_wants(wish.wants):
        raise UsageError(
            f"request id {wish.request_id!r} was used for {in_words(load_wants(wants))}, not {in_words(wish.wants)}",
            hint="use another request id for another wish",
        )


def grant(ctx: Context, wish: Wish, terms: Terms, hosts: Sequence[Host], token: str) -> Grant:
    """Reserves the chosen hosts in the caller's transaction, in which nobody else was found to claim them.

    ``token`` becomes the reservation's id.
    """
    now = ctx.clock()
    reservation = Reservation(
        id=token,
        owner=ctx.actor,
        purpose=wish.purpose,
        created_at=now,
        expires_at=None if terms.ttl is None else now + terms.ttl,
        ttl=terms.ttl,
        wants=dump_wants(wish.wants),
        request_id=wish.request_id,
    )
    ctx.store.add_reservation(reservation)
    taken = []
    for host in hosts:
        facts = facts_of(ctx, host, now, claim_is_mine=True)
        taken.append(move(ctx, host, Verb.RESERVE, facts, now, reason=wish.purpose, reservation=reservation))
    return Grant(Held(reservation, tuple(taken)), terms.notes)


def choose_hosts(ctx: Context, wish: Wish, before: int | None = None) -> tuple[Host, ...]:
    """The hosts that a wish gets now, in the caller's transaction; raises why it gets none.

    ``before`` is the ticket it waits with: only older ones go first.
    """
    _check_names(ctx, wish.wants)
    free = free_for(ctx, wish.wants, before)
    found = match(wish.wants, free)
    if not found.missing:
        return found.hosts
    check_satisfiable(ctx, wish.wants)
    raise _busy(ctx, wish.wants, found, before)


def check_satisfiable(ctx: Context, wants: Wants) -> None:
    """Raises :class:`UnsatisfiableError` when no set of the declared hosts could ever fit, whatever their states.

    Says how many hosts each term of a selector excludes, and the nearest wish that could be met.
    """
    possible = match(wants, candidates(ctx, [wants], HostQuery(declared=True)))
    if not possible.missing:
        return
    from bmhctl.stores import survey

    everyone = survey.declared(ctx.store)
    terms = dict.fromkeys(term for want in wants for term in want.selector.terms)
    excluded = {str(term): everyone - survey.fitting(ctx.store, Selector((term,))) for term in terms}
    words = [f"{term} excludes {number}" for term, number in excluded.items()]
    nearest = len(possible.hosts)
    raise UnsatisfiableError(
        f"{in_words(wants)} can never be had here: of {everyone} declared hosts {nearest or 'none'} would fit"
        + (f" ({'; '.join(words)})" if words else ""),
        hint=_alternative(ctx, wants, nearest),
        details={"fitting": nearest, "hosts": everyone, "excluded": excluded},
    )


def _alternative(ctx: Context, wants: Wants, nearest: int) -> str:
    if nearest:
        return f"{nearest} at once would be possible; bmhctl list -l SELECTOR shows what fits"
    from bmhctl.stores import survey

    terms = [(want, term) for want in wants for term in want.selector.terms]
    for want, term in terms:
        rest = Selector(tuple(t for t in want.selector.terms if t is not term))
        number = survey.fitting(ctx.store, rest)
        if number >= want.count:
            words = f"more than {survey.MOST}" if rest.terms[1:] and number > survey.MOST else str(number)
            return f"without {term} there are {words}" + (f": -l '{rest}'" if rest.terms else "")
    return "bmhctl list shows all hosts and their labels"


def _check_names(ctx: Context, wants: Wants) -> None:
    for want in wants:
        if want.name is not None and ctx.store.host(want.name) is None:
            raise not_found(ctx, want.name)


def _busy(ctx: Context, wants: Wants, found: Match, before: int | None) -> BmhctlError:
    now = ctx.clock()
    named = [ctx.store.host(want.name) for want in wants if want.name is not None]
    for host in named:
        if host is not None and host.state is not State.AVAILABLE:
            held = f" by {describe(host.reservation)}" if host.reservation else ""
            return BusyError(
                f"is {where(host.state)}{held}: nothing was reserved", host=host.name, hint=f"bmhctl why {host.name}"
            )
        if host is not None:
            due = due_before(ctx, before)
            facts = replace(facts_of(ctx, host, now), earlier_ticket=due)
            try:
                decide(Verb.RESERVE, host, facts)
            except BmhctlError as error:
                return error
    from bmhctl.stores import survey

    fitting = [query_for(want, HostQuery(declared=True)) for want in dict.fromkeys(wants)]
    seen = survey.doings(ctx.store, fitting, _HOLDERS)
    spread, holders = seen.states, seen.holders
    ends = f"; the first lease ends at {seen.first_end:%Y-%m-%d %H:%M} UTC" if seen.first_end else ""
    held_by = f", held by {', '.join(holders[:3])}" + (" …" if len(holders) > 3 else "") if holders else ""
    queued = due_before(ctx, before)
    return BusyError(
        f"{in_words(wants)}: {len(found.hosts) or 'none'} free now, nothing was reserved: "
        + ", ".join(f"{number} {word}" for word, number in sorted(spread.items()))
        + held_by
        + ends
        + (f"; {queued}" if queued else ""),
        hint="wait for them with --wait 30m" + ("; bmhctl reservations shows who holds what" if holders else ""),
        details={"free": len(found.hosts), "wanted": total(wants), "states": spread, "holders": holders},
    )


# looking


def reservations(ctx: Context, *, ended: bool = False) -> Reservations:
    """The open reservations with their hosts, the oldest first; with ``ended``, all that ever were."""
    now = look(ctx)
    with ctx.store.snapshot():
        known = ctx.store.all_reservations() if ended else ctx.store.open_reservations()
        return Reservations(tuple(with_hosts(ctx, known)), now)
