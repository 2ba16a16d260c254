"""What the policy's limits leave to an owner, and the refusal of requests that exceed them.

A grant under a limit is decided in a transaction without others beside it, so that two grants at once can't exceed the
limit together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

from bmhctl.domain.limits import Limit, Use
from bmhctl.domain.matching import Cap, match
from bmhctl.domain.model import Host, Reservation
from bmhctl.domain.policy import LeaseTerms
from bmhctl.domain.requirements import Requirements, describe_requirements, load_requirements, total
from bmhctl.domain.ticket import Ticket
from bmhctl.domain.units import format_duration, local_time, plural
from bmhctl.errors import BmhctlError, BusyError, NotYoursError, UnsatisfiableError, UsageError
from bmhctl.stores.host_query import EVERY_FIT, HostQuery
from bmhctl.support.folding import folded
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.reservations.candidates import candidates
from bmhctl.usecases.shared.context import Context

Limits = Sequence[Limit]


class Allowance(Frozen):
    """A limit, and those hosts of an owner that it counts (``held``)."""

    limit: Limit
    owner: str
    held: tuple[Host, ...]

    def cap(self, *, always: bool = False) -> Cap:
        """Return how many more hosts the owner may get now, or with ``always``, if the owner held none."""
        held = 0 if always else len(self.held)
        return Cap(self.limit.selector, max(0, (self.limit.max_hosts or 0) - held))

    @property
    def words(self) -> str:
        """The limit, what it allows, and the hosts that the owner holds, with their reservations."""
        by_reservation: dict[str, list[str]] = {}
        for host in self.held:
            if host.reservation is not None:
                by_reservation.setdefault(host.reservation.id, []).append(host.name)
        holds = ", ".join(f"{' '.join(folded(names))} ({token})" for token, names in by_reservation.items())
        return f"limit {self.limit.name}: {self.limit.most} for {self.owner}, who holds {holds or 'none'}"

    @property
    def details(self) -> dict[str, object]:
        """The content of :attr:`words` as fields of a JSON error."""
        return {
            "limit": self.limit.name,
            "max_hosts": self.limit.max_hosts,
            "owner": self.owner,
            "held": [host.name for host in self.held],
            "reservations": sorted({host.reservation.id for host in self.held if host.reservation}),
        }


def check_role(ctx: Context, limits: Limits) -> None:
    """Raise :class:`NotYoursError` if a limit counts by role and the actor's name is not that of the role."""
    limit = next((limit for limit in limits if limit.is_by_role), None)
    role = None if limit is None else ctx.store.database.role
    if limit is None or role is None or ctx.actor == role or ctx.actor.startswith(f"{role}@"):
        return
    raise NotYoursError(
        f"limit {limit.name} counts by role: {ctx.actor} is connected as {role}",
        hint=f"reserve as {role}, or as {role}@WORD: --as {role}@{ctx.actor.rpartition('@')[2]}",
        details={"limit": limit.name, "role": role},
    )


def allowances(ctx: Context, owner: str, limits: Limits, without: Collection[int] = ()) -> tuple[Allowance, ...]:
    """Return what the limits on the number of hosts leave to an owner; hosts with the ids ``without`` do not count."""
    found: dict[bool, list[Host]] = {}
    mine = []
    for limit in as_counted(ctx, limits):
        if limit.max_hosts is None or not limit.concerns(owner):
            continue
        if limit.is_by_role not in found:
            held = ctx.store.hosts.held_by_owner(owner, owner.partition("@")[0] if limit.is_by_role else None)
            found[limit.is_by_role] = [host for host in held if host.id not in without]
        mine.append(Allowance(limit, owner, tuple(limit.of(found[limit.is_by_role]))))
    return tuple(mine)


def caps_of(ctx: Context, owner: str, limits: Limits) -> tuple[Cap, ...]:
    """Return the caps of an owner: for the selector of each limit, how many more hosts the owner may get now."""
    return tuple(each.cap() for each in allowances(ctx, owner, limits))


def is_within(ctx: Context, requirements: Requirements, caps: Sequence[Cap]) -> bool:
    """Return whether the requirements could be met within the caps if all declared hosts were free."""
    if any(not cap.selector.terms and total(requirements) > cap.number for cap in caps):
        return False
    declared = HostQuery(declared=True)
    return any(
        not match(requirements, candidates(ctx, [requirements], declared, more), caps).missing
        for more in (0, EVERY_FIT)
    )


def _exceeded(
    ctx: Context, owner: str, requirements: Requirements, limits: Limits
) -> tuple[Allowance, bool] | tuple[None, None]:
    """Return the limit that refuses requirements which the inventory could meet, and whether it always would.

    It is the first limit that refuses them alone. If only several limits together refuse them, it is the first limit of
    the owner. A limit that does not always refuse them does so because of what the owner holds.
    """
    mine = allowances(ctx, owner, limits)
    for always in (True, False):
        caps = [each.cap(always=always) for each in mine]
        if mine and not is_within(ctx, requirements, caps):
            alone = (each for each, cap in zip(mine, caps, strict=True) if not is_within(ctx, requirements, [cap]))
            return next(alone, mine[0]), always
    return None, None


def waits_for(ctx: Context, ticket: Ticket, limits: Limits) -> str | None:
    """Return in words the limit of its owner that a ticket waits for; None if it waits for none."""
    exceeded, _ = _exceeded(ctx, ticket.owner, load_requirements(ticket.requirements), limits)
    return None if exceeded is None else exceeded.words


def refusal(ctx: Context, owner: str, requirements: Requirements, limits: Limits) -> BmhctlError | None:
    """Return the error of a limit that refuses requirements; None if no limit does.

    It is :class:`UnsatisfiableError` if the limit refuses them to an owner who holds nothing, else :class:`BusyError`.
    """
    exceeded, always = _exceeded(ctx, owner, requirements, limits)
    if exceeded is None:
        return None
    asked = describe_requirements(requirements)
    if always:
        return UnsatisfiableError(
            f"{asked}: more than limit {exceeded.limit.name} allows: {exceeded.limit.most} for {owner}",
            hint="ask for fewer; bmhctl policy show has the limits",
            details=exceeded.details,
        )
    return BusyError(
        f"{asked}: nothing was reserved: {exceeded.words}",
        hint="give hosts back with bmhctl release -R ID, or wait with --wait 30m",
        details=exceeded.details,
    )


def check_hosts(ctx: Context, owner: str, hosts: Iterable[Host], limits: Limits) -> None:
    """Check that an owner may hold these hosts, in addition to those that the owner holds already.

    Raises :class:`UnsatisfiableError` if these alone exceed a limit, :class:`BusyError` if they do with the others.
    """
    added = tuple(hosts)
    for each in allowances(ctx, owner, limits):
        number = len(each.limit.of(added))
        if number > each.cap(always=True).number:
            raise UnsatisfiableError(
                f"{number} hosts are more than limit {each.limit.name} allows: {each.limit.most} for {owner}",
                hint="bmhctl policy show has the limits",
                details=each.details,
            )
        if number > each.cap().number:
            raise BusyError(
                f"nothing was changed: {each.words}",
                hint="give hosts back first: bmhctl release -R ID",
                details=each.details,
            )


def exceeds_none(
    ctx: Context,
    reservation: Reservation,
    limits: Limits,
    kept: Sequence[Host],
    bad: Collection[int],
) -> Callable[[Host], bool]:
    """Return a test whether a host may replace a bad host of a reservation under the owner's limits.

    ``kept`` are the hosts that stay, ``bad`` the ids of those that are replaced.
    """
    owner, now = reservation.owner, ctx.clock()
    mine = allowances(ctx, owner, limits, {*bad, *(host.id for host in kept)})
    left = [(each.limit, each.cap().number - len(each.limit.of(kept))) for each in mine]

    def is_within(host: Host) -> bool:
        longest = longest_lease(limits, owner, [host])
        is_short = longest is None or (
            reservation.expires_at is not None and reservation.expires_at <= now + longest[0]
        )
        return is_short and all(number > 0 for limit, number in left if limit.counts(host.spec))

    return is_within


def capped(limits: Limits, owner: str, terms: LeaseTerms, hosts: Iterable[Host]) -> LeaseTerms:
    """Return the terms of a lease of some hosts, shortened to what the limits of their owner allow.

    Raises :class:`UsageError` for a lease without end under a limit with ``max_ttl``.
    """
    longest = longest_lease(limits, owner, hosts)
    if longest is None or (terms.ttl is not None and terms.ttl <= longest[0]):
        return terms
    length, name = format_duration(longest[0]), longest[1]
    if terms.ttl is None:
        raise UsageError(
            f"limit {name} allows {owner} no lease without end",
            hint=f"its max_ttl is {length}: --ttl {length}",
            details={"limit": name},
        )
    return LeaseTerms(longest[0], (f"the lease is {length}, the longest that limit {name} allows {owner}",))


def longest_lease(limits: Limits, owner: str, hosts: Iterable[Host]) -> tuple[timedelta, str] | None:
    """Return the longest lease from now that the limits allow on these hosts, and the limit's name; None: no limit."""
    held = tuple(hosts)
    mine = [
        (limit.max_ttl, limit.name)
        for limit in limits
        if limit.max_ttl is not None and limit.concerns(owner) and limit.of(held)
    ]
    return min(mine, key=lambda found: found[0], default=None)


def as_counted(ctx: Context, limits: Limits) -> Limits:
    """Return the limits as this inventory counts them: without roles, every limit counts by owner."""
    if ctx.store.database.role is not None:
        return limits
    return [replace(limit, owner="*") if limit.is_by_role else limit for limit in limits]


def check_booking(limits: Limits, booking: Use, others: Sequence[Use], now: datetime) -> None:
    """Raise the error of a limit that a booking would exceed, together with the owner's other bookings and leases.

    Raises :class:`UnsatisfiableError` if the booking alone exceeds the limit, and :class:`BusyError` if it does
    together with the ``others`` at the same time.
    """
    owner = booking.owner
    for limit in limits:
        number = len(limit.of(booking.hosts))
        if not number or not limit.concerns(owner):
            continue
        details: dict[str, object] = {"limit": limit.name, "owner": owner}
        refused = f"limit {limit.name} allows {owner} {limit.allows}"
        if limit.max_ahead is not None and booking.begin - now > limit.max_ahead:
            raise UnsatisfiableError(
                f"{local_time(booking.begin)} is too far ahead: {refused}",
                hint="book an earlier time, or try again when that time is nearer",
                details=details,
            )
        if _is_too_long(limit, booking):
            raise UnsatisfiableError(f"it is too long: {refused}", hint="book a shorter time", details=details)
        if limit.max_hosts is None:
            continue
        if number > limit.max_hosts:
            raise UnsatisfiableError(f"{number} hosts are too many: {refused}", hint="book fewer", details=details)
        most, at = _most_at_once(limit, booking, others)
        if number + most > limit.max_hosts:
            raise BusyError(
                f"{refused}; {owner} has {plural(most, 'host')} from {local_time(at)}: nothing was booked",
                hint="book another time, or cancel a booking of that time",
                details={**details, "held": most},
            )


def caps_of_booking(limits: Limits, booking: Use, others: Sequence[Use], now: datetime) -> tuple[Cap, ...]:
    """Return the caps of a booking without hosts yet, reduced by the owner's other bookings and leases at that time."""
    caps = []
    for limit in limits:
        if not limit.concerns(booking.owner):
            continue
        is_too_far = limit.max_ahead is not None and booking.begin - now > limit.max_ahead
        if is_too_far or _is_too_long(limit, booking):
            caps.append(Cap(limit.selector, 0))
        elif limit.max_hosts is not None:
            caps.append(Cap(limit.selector, max(0, limit.max_hosts - _most_at_once(limit, booking, others)[0])))
    return tuple(caps)


def _is_too_long(limit: Limit, booking: Use) -> bool:
    return limit.max_ttl is not None and (booking.end is None or booking.end - booking.begin > limit.max_ttl)


def _most_at_once(limit: Limit, booking: Use, others: Sequence[Use]) -> tuple[int, datetime]:
    """Return the most hosts counted by a limit that the others have at once during a booking, and since when."""
    mine = [each for each in others if limit.counts_together(each.owner, booking.owner) and _overlap(each, booking)]
    moments = sorted({booking.begin, *(each.begin for each in mine if each.begin > booking.begin)})

    def number(moment: datetime) -> int:
        ids = {host.id for each in mine if each.is_at(moment) for host in limit.of(each.hosts)}
        return len(ids - {host.id for host in booking.hosts})

    return max(((number(moment), moment) for moment in moments), key=lambda found: found[0])


def _overlap(one: Use, other: Use) -> bool:
    return (one.end is None or other.begin < one.end) and (other.end is None or one.begin < other.end)
