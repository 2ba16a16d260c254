"""A request for hosts: its requirements, purpose, lease and request id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.domain.model import Host, State
from bmhctl.domain.requirements import MOST_HOSTS, Requirement, Requirements, total
from bmhctl.domain.selector import EVERY_HOST, LABEL_VALUE, Selector, is_label_key
from bmhctl.domain.units import format_duration
from bmhctl.errors import UsageError
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import Frozen, field, replace

if TYPE_CHECKING:
    from bmhctl.domain.policy import Policy
    from bmhctl.usecases.shared.context import Context

MOST_TAGS = 100
"""The most tags of a reservation."""

FREE = HostQuery(states=frozenset({State.AVAILABLE}), reservable=True)
"""The query for hosts that can be reserved."""


EVERY_FIT = 10**6
"""More hosts than any inventory has, as the limit of queries for all hosts that fit."""

_NEVER = datetime.min.replace(tzinfo=UTC)


class ReservationRequest(Frozen):
    """A request for a reservation.

    ``ttl`` is the length of the lease (None: the policy's). ``endless`` requests a lease without end, if the policy
    allows it. ``request_id`` makes a retry safe: the same id returns the same reservation. ``token`` is the id for the
    reservation, if the caller needs to know it before. ``params`` are values for the prepare steps. ``tags`` are kept
    with the reservation. ``booking`` is the id of the booking to take, whose requirements then replace those of the
    request.
    """

    requirements: Requirements
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    request_id: str | None = None
    token: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    booking: str | None = None


def reservation_request(
    names: Sequence[str] = (),
    selector: Selector | None = None,
    count: int | None = None,
    requirements: Sequence[Requirement] = (),
    *,
    purpose: str | None = None,
    ttl: timedelta | None = None,
    endless: bool = False,
    request_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    booking: str | None = None,
) -> ReservationRequest:
    """Return a request for the named hosts, for ``count`` hosts that fit a selector, or for several requirements.

    Raises :class:`UsageError` for parameters that can't be combined, and for values that are not valid.
    """
    ways = [bool(names), selector is not None or count is not None, bool(requirements)]
    if sum(ways) > 1:
        raise UsageError("name hosts, or choose them with -l and -n, or with --want: not several of these")
    if any(ways) and booking is not None:
        raise UsageError(f"booking {booking} says which hosts: name none", hint=f"--booking {booking} alone")
    if not any(ways) and booking is None:
        raise UsageError(
            "no host is requested", hint="name hosts, or give a number: -n 1; or a selector: -l arch=arm64"
        )
    if count is not None and count < 1:
        raise UsageError(f"can't reserve {count} hosts", hint="-n takes a number from 1")
    if ttl is not None and not ttl:
        raise UsageError("a lease can't have the length 0", hint="such as --ttl 20m")
    if request_id == "":
        raise UsageError("the request id is empty", hint='such as --request-id "$CI_JOB_ID"')
    found: Requirements
    if names:
        from bmhctl.usecases.shared.host_selection import unfold

        for name in (unfolded := unfold(names)):
            if "*" in name or "?" in name:
                raise UsageError(f"{name!r} is not a host name", hint="reserve takes exact names, or -l SELECTOR -n N")
        found = tuple(Requirement(name=name) for name in unfolded)
    elif requirements:
        found = tuple(requirements)
    elif booking is not None:
        found = ()
    else:
        found = (Requirement(EVERY_HOST if selector is None else selector, count or 1),)
    if total(found) > MOST_HOSTS:
        raise UsageError(f"{total(found)} hosts are too many for one reservation", hint=f"at most {MOST_HOSTS}")
    if tags:
        check_tags(tags)
    return ReservationRequest(
        found, purpose, ttl, endless, request_id, params=params or {}, tags=dict(tags or {}), booking=booking
    )


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise :class:`UsageError` unless the tags have the syntax of labels, and there are not too many."""
    for key, value in tags.items():
        if not is_label_key(key) or not LABEL_VALUE.fullmatch(value):
            what = "value" if is_label_key(key) else "key"
            raise UsageError(
                f"{f'{key}={value}'!r} has no valid {what} of a tag",
                hint="such as job=4711; a value has at most 63 letters, digits, '-', '_' and '.'",
            )
    if len(tags) > MOST_TAGS:
        raise UsageError(f"{len(tags)} tags are too many for one reservation", hint=f"at most {MOST_TAGS}")


class LeaseTerms(Frozen):
    """The length of a request's lease under the policy (None: without end); ``notes`` say where the policy changed it.

    ``until`` is when the lease must end at the latest, because something is planned on its hosts; None: no plan.
    """

    ttl: timedelta | None
    notes: tuple[str, ...] = ()
    until: datetime | None = None

    def end(self, now: datetime) -> datetime | None:
        """Return when a lease that begins now ends; None for a lease without end."""
        if self.ttl is None or self.until is None:
            return self.until if self.ttl is None else now + self.ttl
        return min(now + self.ttl, self.until)


def lease_of(policy: Policy, request: ReservationRequest) -> LeaseTerms:
    """Return the terms of the lease; raise :class:`UsageError` for a lease without end under a ``max_ttl``."""
    if request.endless:
        if policy.max_ttl is not None:
            raise UsageError(
                "this inventory allows no lease without end",
                hint=f'its max_ttl is {format_duration(policy.max_ttl)}; max_ttl = "none" in its policy lifts it',
            )
        return LeaseTerms(None)
    ttl = request.ttl or policy.ttl
    if policy.max_ttl is not None and (ttl is None or ttl > policy.max_ttl):
        most = format_duration(policy.max_ttl)
        return LeaseTerms(policy.max_ttl, (f"the lease is {most}, the longest that this inventory allows",))
    return LeaseTerms(ttl)


def queries_for(everyone: Sequence[Requirements], query: HostQuery, more: int = 0) -> list[HostQuery]:
    """Return a query for each of the requirements, for hosts of ``query`` that fit it.

    Each query finds at most as many hosts as all requirements ask for together, plus ``more``: no match can need
    others.
    """
    wanted = [requirement for requirements in everyone for requirement in requirements]
    most = sum(requirement.count for requirement in wanted) + more
    return [replace(query_for(requirement, query), limit=most) for requirement in dict.fromkeys(wanted)]


def candidates(ctx: Context, everyone: Sequence[Requirements], query: HostQuery, more: int = 0) -> list[Host]:
    """Return as many hosts of a query that fit any of the requirements as a match can need, least recently used first.

    For a query for all states the order is arbitrary, because no index has it.
    """
    queries = queries_for(everyone, query, more)
    if query.free_until is not None:
        queries += [replace(each, planned=True) for each in queries]
    found = {host.id: host for each in queries for host in ctx.store.hosts.find(each)}
    return sorted(found.values(), key=lambda host: (*_nearness(host, query), host.used_at or _NEVER, host.id))


def _nearness(host: Host, query: HostQuery) -> tuple[bool, datetime]:
    if query.free_until is None or not host.planned:
        return True, _NEVER
    return False, host.planned[0].starts_at


def query_for(requirement: Requirement, query: HostQuery) -> HostQuery:
    """Return the query for hosts of ``query`` that fit a requirement; with states, least recently used hosts first."""
    if requirement.name is not None:  # find a named host even if it is undeclared, so that the refusal can say why
        return replace(query, names=(requirement.name,), declared=False)
    return replace(query, selector=requirement.selector, by_turn=bool(query.states))
