"""Reserve hosts, at once or after waiting; show what a reservation would get now."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from bmhctl.domain.model import State
from bmhctl.errors import (
    AwayError,
    BmhctlError,
    BusyError,
    UncertainError,
    UnreachableError,
)
from bmhctl.results import Grant, Outcome, Plan
from bmhctl.usecases.reservations.grants import Attempt, grant_uncontended, granted_before
from bmhctl.usecases.reservations.request import ReservationRequest, lease_of
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import reap_due, refresh

if TYPE_CHECKING:
    from bmhctl.usecases.reservations.waiting import WaitOptions


def reserve_or_wait(
    ctx: Context, request: ReservationRequest, patience: WaitOptions | None = None, *, check: bool = False
) -> Grant:
    """Reserve hosts; with ``patience``, wait in a fair queue for busy ones.

    With ``check``, the readiness checks of each host run before it is granted; a host that fails goes to maintenance,
    and the next is tried. Raises :class:`BusyError` or :class:`UnsatisfiableError` when hosts are missing, and
    :class:`WaitTimeoutError` when the time is over: a later grant is undone. The ticket is removed however the wait
    ends.
    """
    if patience is None:
        now = refresh(ctx)
    else:
        from bmhctl.usecases.shared.absence import PAUSE, Absence, outlast

        pause = patience.pause
        now = outlast(Absence(ctx.report, ctx.store.location), lambda: pause(PAUSE, None), lambda: refresh(ctx))
    timeout = patience.timeout if patience else None
    attempt = Attempt(ctx, request, check, timeout, None if timeout is None else now + timeout)
    try:
        granted = None if check else grant_uncontended(ctx, attempt, now)
        if granted is None:
            reap_due(ctx, now)
            granted = _reserve_or_wait(attempt, patience)
    except UncertainError as error:
        from bmhctl.usecases.reservations.contended import find_lost_grant

        found = find_lost_grant(attempt, error)
        if found is None:
            raise UnreachableError(
                f"lost the connection to {ctx.store.location}: nothing was reserved", hint="try again"
            ) from error
        return found
    except AwayError:
        if patience is None:
            raise
        from bmhctl.usecases.reservations.waiting import wait

        return wait(attempt, patience)  # it waits for the inventory as well
    except BmhctlError:
        raise  # any other error means that nothing was committed
    except BaseException:
        # A signal may come between the commit and the return: then the grant would be unknown.
        if request.request_id is None and attempt.token is not None:
            from bmhctl.usecases.reservations.holder import give_up

            with suppress(BmhctlError):  # else their lease ends by itself
                give_up(ctx, attempt.token, "interrupted before the answer")
        raise
    return granted


def _reserve_or_wait(attempt: Attempt, patience: WaitOptions | None) -> Grant:
    from bmhctl.usecases.reservations.contended import try_grant
    from bmhctl.usecases.reservations.fairness import waiting_tickets
    from bmhctl.usecases.reservations.waiting import ticket_of_request, wait

    ctx, request = attempt.ctx, attempt.request
    if request.endless:
        lease_of(ctx.policy(), request)  # raises where that is not allowed, before any wait
    ticket = None
    if request.request_id is not None:
        with ctx.store.snapshot():
            before = granted_before(ctx, request)
            if before is not None:
                return before
            ticket = ticket_of_request(ctx, request, waiting_tickets(ctx))
    if ticket is None:
        try:
            return try_grant(attempt, None)
        except BusyError:
            if patience is None:
                raise
    if patience is None:
        raise BusyError(f"request {request.request_id} is waiting already", hint="wait with it: --wait")
    return wait(attempt, patience)


def plan_reserve(ctx: Context, request: ReservationRequest) -> Plan:
    """Return what ``reserve`` would take now, and raise what it would raise. Nothing changes."""
    from bmhctl.usecases.reservations.allocation import choose_hosts

    refresh(ctx)
    terms = lease_of(ctx.policy(), request)
    with ctx.store.snapshot():
        hosts = choose_hosts(ctx, request)
    items = [Outcome(host.name, True, "would be taken", host.state, State.RESERVED) for host in hosts]
    return Plan("reserve", tuple(items), terms.notes)
