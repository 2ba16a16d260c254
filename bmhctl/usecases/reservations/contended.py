"""Grant a request in the order of the queue, and after the checks of its hosts if the policy requires them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta

from bmhctl.domain.limits import Limit
from bmhctl.domain.model import CheckResult, Host, Phase
from bmhctl.domain.policy import Policy
from bmhctl.domain.ticket import QueueVerb, Ticket
from bmhctl.errors import StateRefusedError, UncertainError, UnreachableError, UsageError
from bmhctl.results import Grant, Held
from bmhctl.usecases.reservations.allocation import check_names, refusal
from bmhctl.usecases.reservations.fairness import LAPSE, match_free, note_ticket
from bmhctl.usecases.reservations.grants import NO_CHECKS, Attempt, granted_before, needs_checks, settle
from bmhctl.usecases.reservations.limits import check_hosts, check_role
from bmhctl.usecases.shared.context import Context, undone
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.shared.transitions import quarantine

_NEWEST = 100  # the newest events of the queue, searched for the cancellation
_FIND_OUT = 15.0  # seconds for which a server that was lost during a commit is tried again
_RECONNECT_PAUSE = 0.3  # seconds between two attempts to reach a server after its connection was lost


class _UncheckedError(Exception):
    """Hosts were chosen whose checks have to pass before they are granted."""


def try_grant(attempt: Attempt, ticket: Ticket | None) -> Grant:
    """Grant the request if enough hosts are free that no earlier ticket needs; else raise :class:`BusyError`."""
    if not attempt.check:
        with suppress(_UncheckedError):
            return _grant_in_turn(attempt.ctx, attempt, ticket)
    return _grant_checked(attempt, ticket)


def rehearse(attempt: Attempt) -> Grant:
    """Grant the request as :func:`try_grant` does, but without the checks of its hosts, and undo that."""
    ctx = attempt.ctx
    with undone(ctx.store.transaction()):
        granted = _granted_in_turn(attempt, None, NO_CHECKS)
        ctx.store.reservations.get(granted.held.reservation.id)  # a read, before which the delayed writes run
    return granted


@retried
def _grant_in_turn(ctx: Context, attempt: Attempt, ticket: Ticket | None) -> Grant:
    attempt.token = None  # the attempt before was undone, and made no reservation
    with ctx.store.transaction():
        return _granted_in_turn(attempt, ticket, None)


def _granted_in_turn(
    attempt: Attempt, ticket: Ticket | None, checks: Mapping[int, tuple[CheckResult, ...]] | None
) -> Grant:
    """Grant the request in the caller's transaction; parameters and errors are as in :func:`_settle`."""
    ctx = attempt.ctx
    before = granted_before(ctx, attempt.asked)
    if before is not None:
        return before
    policy = ctx.store.policy()
    hosts = choose(attempt, ticket, policy.limits)
    return _settle(attempt, policy, ticket, hosts, checks)


def choose(attempt: Attempt, ticket: Ticket | None, limits: tuple[Limit, ...]) -> tuple[Host, ...]:
    """Return the hosts that an attempt gets now, in the caller's transaction, with regard to what is planned on hosts.

    If the request takes a booking now, the attempt's ``request`` becomes that for the hosts of the booking. The errors
    are those of :func:`~bmhctl.usecases.reservations.allocation.refusal`, and :class:`NotFoundError` for a name that no
    host has.
    """
    ctx, before = attempt.ctx, ticket.id if ticket else None
    attempt.request = attempt.asked
    is_planned = attempt.asked.booking is not None or ctx.store.bookings.is_any_open()
    if is_planned:
        from bmhctl.usecases.reservations.booked import choose_around, resolve

        attempt.request = resolve(ctx, attempt.asked)
    check_names(ctx, attempt.request.requirements)
    check_role(ctx, limits)
    if is_planned:
        return choose_around(ctx, attempt.request, before)
    found = match_free(ctx, ctx.actor, attempt.request.requirements, before, limits)
    if found.missing:
        raise refusal(ctx, attempt.request.requirements, found, before, limits)
    return found.hosts


def _settle(
    attempt: Attempt,
    policy: Policy,
    ticket: Ticket | None,
    hosts: Sequence[Host],
    checks: Mapping[int, tuple[CheckResult, ...]] | None,
) -> Grant:
    """Grant the hosts and remove the ticket, in the caller's transaction; past the deadline, do neither.

    ``checks`` are the results of checks that just passed, by host id. Without them, this raises
    :class:`_UncheckedError` when the policy requires checks first.
    """
    ctx, request = attempt.ctx, attempt.request
    if ticket is not None:
        check_ticket(ctx, ticket)
        ctx.store.tickets.remove(ticket.id)
    if checks is None and needs_checks(policy, hosts, ctx.clock()):
        raise _UncheckedError
    if request.token is not None and ctx.store.reservations.get(request.token) is not None:
        raise UsageError(f"a reservation has the id {request.token} already", hint="leave it out: bmhctl makes one")
    token = request.token or ctx.store.reservations.new_id()
    if ticket is not None:
        note_ticket(ctx, ticket, QueueVerb.GRANTED, reservation=token)
    return settle(
        attempt,
        policy,
        hosts,
        token,
        asked_at=None if ticket is None else ticket.created_at,
        checks=NO_CHECKS if checks is None else checks,
    )


def check_ticket(ctx: Context, ticket: Ticket) -> None:
    """Raise :class:`StateRefusedError` if the ticket was cancelled."""
    if ctx.store.tickets.get(ticket.id) is None:
        events = reversed(ctx.store.queue_events.read(_NEWEST))
        event = next((each for each in events if (each.ticket, each.verb) == (ticket.id, QueueVerb.CANCELLED)), None)
        by = f" by {event.actor}" if event and event.actor != ticket.owner else ""
        why = f": {event.reason}" if event and event.reason else ""
        raise StateRefusedError(f"the ticket was cancelled{by}{why}", details={"ticket": ticket.id})


def _grant_checked(attempt: Attempt, ticket: Ticket | None) -> Grant:
    """Check each host before the grant; a round in which a host fails removes it from the choice, so the rounds end."""
    from bmhctl.usecases.steps.execution import claimed

    ctx, request = attempt.ctx, attempt.request
    while True:
        attempt.check_time()
        _step_aside(ctx, ticket, timedelta())
        with ctx.store.snapshot():
            hosts = choose(attempt, ticket, ctx.store.policy().limits)
        with ExitStack() as stack:
            try:
                held = [stack.enter_context(claimed(ctx, host)) for host in hosts]
            except StateRefusedError:
                continue  # another process began a step on the host first
            if any(one.host.last_event != host.last_event for one, host in zip(held, hosts, strict=True)):
                continue
            _step_aside(ctx, ticket, LAPSE)
            now = ctx.clock()
            to_check = [one for one in held if attempt.check or one.policy.must_check(one.host, now)]
            runs = [(one.host, one.plan(Phase.CHECKS).run()) for one in to_check]
            refused = [(host, run) for host, run in runs if run.refusal is not None]
            with ctx.store.transaction():
                before = granted_before(ctx, request)
                if before is not None:
                    return before
                if any(_is_changed(ctx, one.host) for one in held):
                    continue  # the host may have been cordoned meanwhile
                if not refused:
                    policy = ctx.store.policy()
                    check_hosts(ctx, ctx.actor, hosts, policy.limits)  # the owner may hold more hosts by now
                    return _settle(attempt, policy, ticket, hosts, {host.id: run.results for host, run in runs})
                for host, run in refused:
                    reason = f"failed its checks before a reservation: {run.refusal}"
                    quarantine(ctx, host, reason, ctx.clock(), run.results)
                    ctx.report(f"{host.name}: {reason}; it is in maintenance now")


def _step_aside(ctx: Context, ticket: Ticket | None, lapse: timedelta) -> None:
    """Let the ticket lapse while its hosts are checked, because that may take hours and would delay other tickets."""
    if ticket is not None:
        with ctx.store.transaction(shared=True):
            ctx.store.tickets.refresh(ticket.id, ctx.clock() - lapse)


def _is_changed(ctx: Context, host: Host) -> bool:
    now = ctx.store.hosts.with_id(host.id)
    return now is None or now.last_event != host.last_event


def find_lost_grant(attempt: Attempt, lost: UncertainError) -> Grant | None:
    """Return the grant whose answer was lost with the connection, by the reservation's id; None if there is none.

    Raises :class:`UnreachableError` when that can't be found out.
    """
    ctx, request = attempt.ctx, attempt.request
    if attempt.token is None:  # the attempt had not come to a commit
        return None
    until = time.monotonic() + _FIND_OUT
    while True:
        try:
            with ctx.store.transaction():  # begins only after the interrupted transaction has ended
                known = ctx.store.reservations.get(attempt.token)
                if known is None:
                    return None
                return Grant(
                    Held(known, tuple(ctx.store.hosts.held_by(known.id))),
                    ("the connection to the server was lost meanwhile",),
                )
        except UnreachableError:
            if time.monotonic() > until:
                hint = f"bmhctl reservations shows whether {attempt.token} was made"
                if request.request_id is not None:
                    again = f"repeat the command with the same request id, {request.request_id}"
                    hint = f"{again}: it gets the same reservation, if one was made"
                raise UnreachableError(lost.message, hint=hint) from lost
            time.sleep(_RECONNECT_PAUSE)
