"""Grant a request: reserve its hosts in one commit. This module is enough for the common case, without competition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.model import NEVER, CheckResult, Host, Phase, Reservation, Verb
from bmhctl.domain.policy import CheckOnReserve, Policy
from bmhctl.domain.requirements import (
    Requirements,
    ReservationRequest,
    describe_requirements,
    dump_requirements,
    load_requirements,
)
from bmhctl.errors import UsageError
from bmhctl.lifecycle.machine import GuardInput
from bmhctl.results import Grant, Held
from bmhctl.stores.host_query import FREE, queries_for
from bmhctl.stores.reservations import random_id
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.shared.transitions import move

if TYPE_CHECKING:
    from bmhctl.errors import WaitTimeoutError
    from bmhctl.usecases.reservations.waiting import WaitOptions

NO_CHECKS: Mapping[int, tuple[CheckResult, ...]] = {}
"""The check results of hosts that are granted without checks."""


class Attempt:
    """The attempt of one process to get hosts, until a deadline.

    ``asked`` is the request as it was made, and ``request`` the one that is granted, which may take a booking.
    ``token`` is the id of the reservation that was made or is about to be committed; None before that. ``asked_at`` is
    when the process first requested the hosts.
    """

    def __init__(
        self,
        ctx: Context,
        request: ReservationRequest,
        check: bool,
        patience: WaitOptions | None,
        deadline: datetime | None,
        asked_at: datetime,
    ) -> None:
        self.ctx = ctx
        self.request = request
        self.asked = request
        self.check = check
        self.deadline = deadline
        self.asked_at = asked_at
        self._patience = patience
        self.token: str | None = None

    def is_late(self) -> bool:
        """Return whether the deadline has passed, by the inventory's clock or by one that is never set back."""
        if self._patience is not None and self._patience.is_over():
            return True
        return self.deadline is not None and self.ctx.clock() >= self.deadline

    def check_time(self) -> None:
        """Raise :class:`WaitTimeoutError` when the deadline has passed."""
        if self._patience is not None and self.is_late():
            raise timed_out(self._patience, self.request)


def timed_out(patience: WaitOptions, request: ReservationRequest) -> WaitTimeoutError:
    """Return the error for a request that was not granted in its time to wait."""
    hint = "bmhctl status shows who holds what, and which hosts are not available"
    return patience.timed_out(describe_requirements(request.requirements), hint)


@retried
def grant_uncontended(ctx: Context, attempt: Attempt, now: datetime) -> Grant | None:
    """Grant the request in a shared transaction, so that other grants can run at the same time.

    Returns None when too few hosts are free, and when the grant has to exclude other transactions or to wait. This is
    so if there is a ticket, a booking or a due lease, if the inventory is retired, if the id of the reservation is
    taken, or if the policy requires checks first or limits how many hosts the owner may hold. For a request that was
    granted before, raises the errors of :func:`granted_as`.
    """
    request = attempt.request
    attempt.token = None
    token = request.token or random_id()
    queries = queries_for([request.requirements], FREE)
    asked = None if request.request_id is None else (ctx.actor, request.request_id)
    with ctx.store.grant_view(queries, token=token, now=now, request=asked) as view:
        if view.is_hindered:
            return None
        if view.granted is not None:
            return granted_as(ctx, request, view.granted)
        hosts = _enough(request.requirements, view.free)
        if hosts is None:
            return None
        policy = view.policy
        if needs_checks(policy, hosts, now) or any(each.needs_order(ctx.actor) for each in policy.limits):
            return None
        return settle(attempt, policy, hosts, token)


def needs_checks(policy: Policy, hosts: Sequence[Host], now: datetime) -> bool:
    """Return whether the policy requires checks of one of the hosts before they are granted."""
    return policy.check_on_reserve is not CheckOnReserve.NEVER and any(policy.must_check(host, now) for host in hosts)


def _enough(requirements: Requirements, free: tuple[Host, ...]) -> tuple[Host, ...] | None:
    """Return hosts that meet all requirements, out of hosts that fit any of them; None if there are too few."""
    if len(requirements) == 1:
        count = requirements[0].count
        return free[:count] if len(free) >= count else None
    from bmhctl.domain.matching import match

    found = match(requirements, free)
    return None if found.missing else found.hosts


def settle(
    attempt: Attempt,
    policy: Policy,
    hosts: Sequence[Host],
    token: str,
    *,
    asked_at: datetime | None = None,
    checks: Mapping[int, tuple[CheckResult, ...]] = NO_CHECKS,
) -> Grant:
    """Grant the chosen hosts, on which no step runs, in the caller's transaction, under the id ``token``.

    ``asked_at`` is when another process first made the same request, if one did. ``checks`` are the results of checks
    that just passed, by host id. Raises :class:`WaitTimeoutError` past the attempt's deadline, and :class:`UsageError`
    for parameters that the prepare steps do not accept. After an error, the caller has to undo the transaction.
    """
    ctx, request = attempt.ctx, attempt.request
    attempt.token = token
    params, steps = None, policy.steps.get(Phase.PREPARE, ())
    if steps or request.params:
        from bmhctl.domain.parameters import values_for

        params = values_for(steps, request.params, (host.spec for host in hosts))
    lease = policy.lease_of(request)
    if policy.limits:
        from bmhctl.usecases.reservations.limits import capped

        lease = capped(policy.limits, ctx.actor, lease, hosts)
    if request.booking is not None or any(host.planned for host in hosts):
        from bmhctl.usecases.reservations.booked import take

        hosts, lease = take(ctx, request, hosts, lease, policy, token, attempt.asked)
    now = ctx.clock()
    reservation = Reservation(
        id=token,
        owner=ctx.actor,
        purpose=request.purpose,
        created_at=now,
        expires_at=lease.end(now),
        ttl=lease.ttl,
        requirements=dump_requirements(request.requirements),
        request_id=request.request_id,
        params=params,
        asked_at=min(asked_at or now, attempt.asked_at, now),  # the clock may have been set back
        tags=request.tags,
    )
    ctx.store.reservations.add(reservation)
    taken = []
    for host in hosts:
        inputs = GuardInput.of(host, now, is_claimed=False, lease_end=reservation.expires_at or NEVER)
        ran, why = checks.get(host.id), request.purpose
        taken.append(move(ctx, host, Verb.RESERVE, inputs, now, reason=why, reservation=reservation, steps=ran))
    attempt.check_time()
    return Grant(Held(reservation, tuple(taken)), lease.notes)


def granted_before(ctx: Context, request: ReservationRequest) -> Grant | None:
    """Return the earlier grant under the request's id; None if there is none. Raises as :func:`granted_as`."""
    if request.request_id is None:
        return None
    known = ctx.store.reservations.of_request(ctx.actor, request.request_id)
    return None if known is None else granted_as(ctx, request, known)


def granted_as(ctx: Context, request: ReservationRequest, known: Reservation) -> Grant:
    """Return the grant of a reservation that the same request got before, with its hosts in the order of the request.

    Raises :class:`UsageError` when it asked for something else, :class:`NotYoursError` when its lease has ended.
    """
    from bmhctl.domain.matching import match
    from bmhctl.usecases.shared.leases import held_reservation

    check_same(request, known.requirements)
    for name, value in request.params.items():
        before = (known.params or {}).get(name)
        if before != value:
            raise UsageError(
                f"request id {request.request_id!r} was used for {name}={before or '(none)'}, not {name}={value}",
                hint="use another request id for another request",
            )
    held_reservation(ctx, known.id, ctx.clock())
    hosts = ctx.store.hosts.held_by(known.id)
    as_asked = match(request.requirements, hosts).hosts
    rest = [host for host in hosts if host.id not in {other.id for other in as_asked}]
    return Grant(Held(known, (*as_asked, *rest)), (f"request {request.request_id} was granted before",))


def check_same(request: ReservationRequest, requirements: str | None) -> None:
    """Raise :class:`UsageError` when the request's id was used with other requirements."""
    if request.booking is not None and not request.requirements:
        return  # the hosts are those of the booking, whatever the request names
    if requirements is not None and requirements != dump_requirements(request.requirements):
        raise UsageError(
            f"request id {request.request_id!r} was used for {describe_requirements(load_requirements(requirements))}, "
            f"not {describe_requirements(request.requirements)}",
            hint="use another request id for another request",
        )
