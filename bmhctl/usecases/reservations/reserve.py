"""Reserve hosts, at once or after waiting; show what a reservation would get now."""

from __future__ import annotations

from contextlib import suppress

from bmhctl.domain.model import State
from bmhctl.errors import (
    AwayError,
    BmhctlError,
    BusyError,
    UncertainError,
    UnreachableError,
)
from bmhctl.results import Grant, Outcome, Plan
from bmhctl.usecases.reservations.allocation import choose_hosts
from bmhctl.usecases.reservations.fairness import (
    waiting_tickets,
)
from bmhctl.usecases.reservations.grants import (
    Attempt,
    find_lost_grant,
    grant_uncontended,
    granted_before,
    try_grant,
)
from bmhctl.usecases.reservations.request import ReservationRequest, lease_of
from bmhctl.usecases.reservations.waiting import WaitOptions, ticket_of_request, wait
from bmhctl.usecases.shared.absence import PAUSE, Absence, outlast
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import reap_due, refresh


def reserve_or_wait(
    ctx: Context, request: ReservationRequest, patience: WaitOptions | None = None, *, check: bool = False
) -> Grant:
    """As ``reserve``; with ``patience``, waits in a fair queue for what is busy.

    With ``check``, the readiness checks of each host run before it is granted; a host that fails goes to
    maintenance, and the next is tried. Raises :class:`WaitTimeoutError` when the time is over; a grant that would
    come after it is undone. However the wait ends, its ticket is gone then.
    """
    if patience is None:
        now = refresh(ctx)
    else:
        pause = patience.pause
        now = outlast(Absence(ctx.tell, ctx.store.location), lambda: pause(PAUSE, None), lambda: refresh(ctx))
    timeout = patience.timeout if patience else None
    attempt = Attempt(ctx, request, check, timeout, None if timeout is None else now + timeout)
    try:
        granted = None if check else grant_uncontended(ctx, attempt, now)
        if granted is None:
            reap_due(ctx, now)
            granted = _reserve_or_wait(attempt, patience)
    except UncertainError as error:
        found = find_lost_grant(attempt, error)
        if found is None:
            raise UnreachableError(
                f"lost the connection to {ctx.store.location}: nothing was reserved", hint="try again"
            ) from error
        return found
    except AwayError:
        if patience is None:
            raise
        return wait(attempt, patience)  # it waits for the inventory as well
    except BmhctlError:
        raise  # where any other is raised, nothing was committed
    except BaseException:
        # A signal may come between the commit and the return: then nobody would know of what was granted.
        if request.request_id is None and attempt.token is not None:
            from bmhctl.usecases.reservations.holder import give_up

            with suppress(BmhctlError):  # else their lease ends by itself
                give_up(ctx, attempt.token, "interrupted before the answer")
        raise
    return granted


def _reserve_or_wait(attempt: Attempt, patience: WaitOptions | None) -> Grant:
    ctx, request = attempt.ctx, attempt.request
    if request.endless:
        lease_of(ctx.policy(), request)  # raises where that is not allowed, before there is a wait
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
    """What ``reserve`` would take now; raises what it would raise. Nothing changes."""
    refresh(ctx)
    terms = lease_of(ctx.policy(), request)
    with ctx.store.snapshot():
        hosts = choose_hosts(ctx, request)
    items = [Outcome(host.name, True, "would be taken", host.state, State.RESERVED) for host in hosts]
    return Plan("reserve", tuple(items), terms.notes)
