"""Reserve the chosen hosts in one commit, after their checks if the request asks for that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta

from bmhctl.domain.model import Host, Note, Reservation, Ticket, Verb
from bmhctl.domain.requirements import describe_requirements, dump_requirements, load_requirements
from bmhctl.domain.units import format_duration
from bmhctl.errors import (
    StateRefusedError,
    UncertainError,
    UnreachableError,
    UsageError,
    WaitTimeoutError,
)
from bmhctl.results import Grant, Held
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.allocation import choose_hosts
from bmhctl.usecases.reservations.fairness import (
    LAPSE,
    only_free_query,
    taken_at_once,
)
from bmhctl.usecases.reservations.matching import match
from bmhctl.usecases.reservations.request import LeaseTerms, ReservationRequest, lease_of
from bmhctl.usecases.shared.context import CLOCK_SLACK, Context, retried
from bmhctl.usecases.shared.leases import held_reservation, hosts_of
from bmhctl.usecases.shared.reservation_ids import any_reservation_id, new_reservation_id
from bmhctl.usecases.shared.transitions import SELF, guard_input, move

_FIND_OUT = 15.0  # seconds to look for a server again that was lost in the middle of a commit
RECONNECT_PAUSE = 0.3


def find_lost_grant(attempt: Attempt, lost: UncertainError) -> Grant | None:
    """What became of a grant whose answer was lost with the connection: the reservation's id tells.

    None: nothing was reserved. Raises :class:`UnreachableError` when that can't be found out.
    """
    ctx, request = attempt.ctx, attempt.request
    if attempt.token is None:  # it was not a grant that was about to be committed
        return None
    until = time.monotonic() + _FIND_OUT
    while True:
        try:
            with ctx.store.transaction():  # in which whoever is still at work for us has ended
                known = ctx.store.reservation(attempt.token)
                if known is None:
                    return None
                return Grant(Held(known, tuple(hosts_of(ctx, known))), ("the connection was lost meanwhile",))
        except UnreachableError:
            if time.monotonic() > until:
                if request.request_id is not None:
                    hint = f"ask again under the same request id, {request.request_id}: it tells which"
                else:
                    hint = f"bmhctl reservations tells: the id would be {attempt.token}"
                raise UnreachableError(lost.message, hint=hint) from lost
            time.sleep(RECONNECT_PAUSE)


class Attempt:
    """One process's attempt to get what it requests, in so much time.

    ``token`` is the id of the reservation that was made, or is about to be committed: None as long as none was begun.
    """

    def __init__(
        self,
        ctx: Context,
        request: ReservationRequest,
        check: bool,
        timeout: timedelta | None,
        deadline: datetime | None,
    ) -> None:
        self.ctx = ctx
        self.request = request
        self.check = check
        self.timeout = timeout
        self.deadline = deadline
        self.token: str | None = None

    def check_time(self) -> None:
        """Raises :class:`WaitTimeoutError` when the time is over."""
        if self.deadline is not None and self.ctx.clock() >= self.deadline:
            raise WaitTimeoutError(
                f"timed out after {format_duration(self.timeout or timedelta())} "
                f"waiting for {describe_requirements(self.request.requirements)}",
                hint="bmhctl reservations shows who holds what",
            )


def try_grant(attempt: Attempt, ticket: Ticket | None) -> Grant:
    """Grant the request if its hosts are free and no earlier ticket has a right to them, or raise `BusyError`."""
    return _grant_checked(attempt, ticket) if attempt.check else _grant_in_turn(attempt.ctx, attempt, ticket)


@retried
def _grant_in_turn(ctx: Context, attempt: Attempt, ticket: Ticket | None) -> Grant:
    attempt.token = None  # what another transaction undid came to nothing
    with ctx.store.transaction():
        before = granted_before(ctx, attempt.request)
        if before is not None:
            return before
        return _settle(attempt, ticket, choose_hosts(ctx, attempt.request, ticket.id if ticket else None))


@retried
def grant_uncontended(ctx: Context, attempt: Attempt, now: datetime) -> Grant | None:
    """The common case, in which several grant at the same time: what is wished for is free.

    None when it is not, or when anything hinders.
    """
    request = attempt.request
    attempt.token = None
    token = request.token or any_reservation_id()
    with ctx.store.granting(token, now, now + CLOCK_SLACK, only_free_query(request.requirements)):
        if ctx.store.anything_hinders(token, now, now + CLOCK_SLACK):
            return None
        before = granted_before(ctx, request)
        if before is not None:
            return before
        hosts = taken_at_once(ctx, request.requirements)
        return None if hosts is None else _settle(attempt, None, hosts, token)


def _settle(attempt: Attempt, ticket: Ticket | None, hosts: Sequence[Host], token: str | None = None) -> Grant:
    """Takes the hosts and leaves the queue, in the caller's transaction; past the deadline, neither happens.

    ``token`` is the reservation's id, if it is known already.
    """
    ctx, request = attempt.ctx, attempt.request
    if ticket is not None:
        check_ticket(ctx, ticket)
        ctx.store.drop_ticket(ticket.id)
    terms = lease_of(ctx.policy(), request)
    if token is None and request.token is not None and ctx.store.reservation(request.token) is not None:
        raise UsageError(f"a reservation has the id {request.token} already", hint="give none: one is made")
    attempt.token = token or request.token or new_reservation_id(ctx.store)
    granted = grant(ctx, request, terms, hosts, attempt.token)
    attempt.check_time()
    return granted


def check_ticket(ctx: Context, ticket: Ticket) -> None:
    """Raise :class:`StateRefusedError` if the ticket was cancelled."""
    if ctx.store.ticket(ticket.id) is None:
        raise StateRefusedError("the ticket was cancelled", details={"ticket": ticket.id})


def _grant_checked(attempt: Attempt, ticket: Ticket | None) -> Grant:
    """Proves each host before it is granted; each round that fails takes a host out, so it ends."""
    from bmhctl.usecases.steps.execution import claimed

    ctx, request = attempt.ctx, attempt.request
    while True:
        attempt.check_time()
        _step_aside(ctx, ticket, timedelta())
        with ctx.store.snapshot():
            hosts = choose_hosts(ctx, request, ticket.id if ticket else None)
        with ExitStack() as stack:
            try:
                held = [stack.enter_context(claimed(ctx, host)) for host in hosts]
            except StateRefusedError:
                continue  # somebody else's step was faster
            if any(one.host.last_event != host.last_event for one, host in zip(held, hosts, strict=True)):
                continue
            _step_aside(ctx, ticket, LAPSE)
            refusals = [(one.host, refusal) for one in held if (refusal := one.run_checks().refusal) is not None]
            with ctx.store.transaction():
                before = granted_before(ctx, request)
                if before is not None:
                    return before
                if any(_is_changed(ctx, one.host) for one in held):
                    continue  # it may have been cordoned meanwhile
                if not refusals:
                    return _settle(attempt, ticket, hosts)
                for host, refusal in refusals:
                    _set_aside(ctx, host, f"failed when it was to be reserved: {refusal}")


def _step_aside(ctx: Context, ticket: Ticket | None, lapse: timedelta) -> None:
    """While a ticket's hosts are checked, which may take hours, it does not keep others from the rest."""
    if ticket is not None:
        with ctx.store.transaction(shared=True):
            ctx.store.refresh_ticket(ticket.id, ctx.clock() - lapse)


def _is_changed(ctx: Context, host: Host) -> bool:
    now = ctx.store.host_with_id(host.id)
    return now is None or now.last_event != host.last_event


def _set_aside(ctx: Context, host: Host, reason: str) -> None:
    """Moves a host that failed its checks to maintenance, in the caller's transaction."""
    now = ctx.clock()
    mark = Note(SELF, reason, now, quarantine=True)
    facts = guard_input(ctx, host, now, reason=reason, claim_is_mine=True)
    move(ctx, replace(host, maintenance=(mark,)), Verb.MAINTAIN, facts, now, reason=reason, actor=SELF)
    ctx.tell(f"{host.name}: {reason}; it is in maintenance now, the next is tried")


def granted_before(ctx: Context, request: ReservationRequest) -> Grant | None:
    """What the request's request id was granted before, if it was; see :func:`reserve` for what is raised."""
    if request.request_id is None:
        return None
    known = ctx.store.reservation_of_request(ctx.actor, request.request_id)
    if known is None:
        return None
    check_same(request, known.wants)
    held_reservation(ctx, known.id, ctx.clock())
    hosts = hosts_of(ctx, known)
    as_asked = match(
        request.requirements, hosts
    ).hosts  # in the order of the requirements, as the first answer had them
    rest = [host for host in hosts if host.id not in {other.id for other in as_asked}]
    return Grant(Held(known, (*as_asked, *rest)), (f"request {request.request_id} was granted before",))


def check_same(request: ReservationRequest, requirements: str | None) -> None:
    """Raises :class:`UsageError` when the request's request id was used for other requirements."""
    if requirements is not None and requirements != dump_requirements(request.requirements):
        raise UsageError(
            f"request id {request.request_id!r} was used for {describe_requirements(load_requirements(requirements))}, "
            f"not {describe_requirements(request.requirements)}",
            hint="use another request id for another request",
        )


def grant(ctx: Context, request: ReservationRequest, terms: LeaseTerms, hosts: Sequence[Host], token: str) -> Grant:
    """Reserves the chosen hosts in the caller's transaction, in which nobody else was found to claim them.

    ``token`` becomes the reservation's id.
    """
    now = ctx.clock()
    reservation = Reservation(
        id=token,
        owner=ctx.actor,
        purpose=request.purpose,
        created_at=now,
        expires_at=None if terms.ttl is None else now + terms.ttl,
        ttl=terms.ttl,
        wants=dump_requirements(request.requirements),
        request_id=request.request_id,
    )
    ctx.store.add_reservation(reservation)
    taken = []
    for host in hosts:
        facts = guard_input(ctx, host, now, claim_is_mine=True)
        taken.append(move(ctx, host, Verb.RESERVE, facts, now, reason=request.purpose, reservation=reservation))
    return Grant(Held(reservation, tuple(taken)), terms.notes)
