"""A request for hosts: its requirements, purpose, lease and request id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import MOST_HOSTS, Requirement, Requirements, total
from bmhctl.domain.selector import Selector
from bmhctl.domain.units import format_duration
from bmhctl.errors import UsageError
from bmhctl.support.values import Frozen
from bmhctl.usecases.shared.host_selection import unfold


class ReservationRequest(Frozen):
    """What a reservation is asked for.

    ``ttl`` is how long the lease shall last (None: as the policy says); ``endless`` asks for a lease without end,
    where the policy allows it. ``request_id`` makes asking again safe: the same id gives the same reservation.
    ``token`` is the id that the reservation shall have, if the caller needs to know it before.
    """

    requirements: Requirements
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    request_id: str | None = None
    token: str | None = None


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
) -> ReservationRequest:
    """A request from what a person says: these very hosts; or ``count`` that fit a selector; or several requirements.

    Raises :class:`UsageError` for one that makes no sense.
    """
    ways = [bool(names), selector is not None or count is not None, bool(requirements)]
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
    found: Requirements
    if names:
        for name in (unfolded := unfold(names)):
            if "*" in name or "?" in name:
                raise UsageError(f"{name!r} names no host", hint="reserve takes exact names, or -l SELECTOR -n N")
        found = tuple(Requirement(name=name) for name in unfolded)
    elif requirements:
        found = tuple(requirements)
    else:
        found = (Requirement(selector or Selector(), count or 1),)
    if total(found) > MOST_HOSTS:
        raise UsageError(f"{total(found)} hosts are too many for one reservation", hint=f"at most {MOST_HOSTS}")
    return ReservationRequest(found, purpose, ttl, endless, request_id)


class LeaseTerms(Frozen):
    """The lease that a request gets under the policy: None is without end; ``notes`` say where it differs."""

    ttl: timedelta | None
    notes: tuple[str, ...] = ()


def lease_of(policy: Policy, request: ReservationRequest) -> LeaseTerms:
    """How long the lease will be; raises :class:`UsageError` for one without end where there is a maximum."""
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
