"""Reserve hosts, at once or after waiting; show what a reservation would get now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from bmhctl.domain.model import Phase, State
from bmhctl.domain.requirements import ReservationRequest
from bmhctl.domain.selector import Selector
from bmhctl.errors import AwayError, BmhctlError, BusyError, UncertainError, UnreachableError, UnsatisfiableError
from bmhctl.results import Grant, Outcome, Plan, already
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.grants import Attempt, grant_uncontended, granted_before, timed_out
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import reap_due, refresh

if TYPE_CHECKING:
    from bmhctl.usecases.reservations.waiting import WaitOptions


def reserve_or_wait(
    ctx: Context, request: ReservationRequest, patience: WaitOptions | None = None, *, check: bool = False
) -> Grant:
    """Reserve hosts and prepare them, if the policy has prepare steps; with ``patience``, wait in the queue if needed.

    With ``check``, the readiness checks of each host run before it is granted. A host that fails goes to maintenance,
    and the next one is tried. Raises :class:`BusyError` or :class:`UnsatisfiableError` when too few hosts are free or
    fit, :class:`WaitTimeoutError` when the wait has timed out (a later grant is undone), and :class:`StepFailedError`
    when hosts can't be prepared. The ticket is removed however the wait ends.
    """
    attempt, granted = _reserve(ctx, request, patience, check, None)
    reservation = granted.held.reservation
    if reservation.params is None or reservation.prepared_at is not None:
        return granted
    from bmhctl.usecases.reservations.preparation import PAUSE, NoSpareError, Preparation, forget_request

    pause = partial(patience.pause, PAUSE, None) if patience else partial(time.sleep, PAUSE)
    preparation = Preparation(ctx, pause=pause, is_late=attempt.is_late)
    while granted.held.reservation.is_unprepared:
        try:
            return preparation.run(granted, granted.held.hosts, is_safe=bool(request.request_id))
        except NoSpareError as error:
            if patience is None:
                raise
            ctx.report(f"{error.message}; waiting for another")
            forget_request(ctx, granted.held.reservation.id)
            attempt.check_time()
            _, granted = _reserve(ctx, replace(request, token=None), patience, check, attempt.deadline)
    return granted


def _reserve(
    ctx: Context, request: ReservationRequest, patience: WaitOptions | None, check: bool, deadline: datetime | None
) -> tuple[Attempt, Grant]:
    """Reserve hosts that are prepared later; ``deadline`` is the deadline of an earlier attempt, if there was one."""
    if patience is None:
        now = refresh(ctx)
    else:
        now, deadline = _await_beginning(ctx, request, patience, deadline)
    with _with_parameters(ctx, request) as request:
        attempt = Attempt(ctx, request, check, patience, deadline, now)
        try:
            granted = None if attempt.check else grant_uncontended(ctx, attempt, now)
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
            granted = found
        except AwayError:
            if patience is None:
                raise
            from bmhctl.usecases.reservations.waiting import wait

            granted = wait(attempt, patience)  # the wait lasts until the inventory is back, too
        except BmhctlError:
            raise  # after any other error, nothing was committed
        except BaseException:
            # A signal may come after the commit and before the return; then the caller would not know of the grant.
            if request.request_id is None and attempt.token is not None:
                from bmhctl.usecases.reservations.holder import give_up

                with suppress(BmhctlError):  # if this fails, the lease expires
                    give_up(ctx, attempt.token, "interrupted before the answer")
            raise
    return attempt, granted


def _await_beginning(
    ctx: Context, request: ReservationRequest, patience: WaitOptions, deadline: datetime | None
) -> tuple[datetime, datetime | None]:
    """Wait until the inventory can be used, and until the booking that a request names begins, if it names one.

    Returns the time at that moment, and the deadline for the hosts: ``deadline`` if there is one already. Raises
    :class:`WaitTimeoutError` when the whole wait has timed out before.
    """
    from bmhctl.usecases.shared.absence import PAUSE, Absence, outlast

    absence = Absence(ctx.report, ctx.store.location, ctx.store)

    def pause(seconds: float = PAUSE) -> None:
        patience.pause(seconds, None)
        if patience.is_over():
            raise timed_out(patience, request)

    now = outlast(absence, pause, lambda: refresh(ctx))
    if deadline is None and patience.timeout is not None:
        deadline = now + patience.timeout - patience.waited
    if (booking := request.booking) is not None:
        from bmhctl.usecases.reservations.booked import await_beginning

        outlast(absence, pause, lambda: await_beginning(ctx, booking, pause, deadline))
        now = outlast(absence, pause, lambda: refresh(ctx))
    return now, deadline


@contextmanager
def _with_parameters(ctx: Context, request: ReservationRequest) -> Iterator[ReservationRequest]:
    """Yield the request for hosts that can be prepared with its values; raise :class:`UsageError` for bad values.

    If no hosts fit it, the hint of the error names the terms that the values added to its selectors.
    """
    if not request.params:
        yield request
        return
    from bmhctl.domain.parameters import complete, narrow

    steps = ctx.store.policy().of(Phase.PREPARE)
    complete(steps, request.params)
    narrowed = narrow(steps, request.params, request.requirements)
    try:
        yield replace(request, requirements=narrowed)
    except UnsatisfiableError as error:
        pairs = zip(request.requirements, narrowed, strict=True)
        added = dict.fromkeys(t for old, new in pairs for t in new.selector.terms if t not in old.selector.terms)
        if added:
            params = " ".join(f"--param {name}" for name in request.params)
            error.hint = f"{params} needs hosts with {Selector(tuple(added))}, to which its prepare step applies"
        raise


def _reserve_or_wait(attempt: Attempt, patience: WaitOptions | None) -> Grant:
    from bmhctl.usecases.reservations.contended import try_grant
    from bmhctl.usecases.reservations.fairness import waiting_tickets
    from bmhctl.usecases.reservations.waiting import ticket_of_request, wait

    ctx, request = attempt.ctx, attempt.request
    if request.endless:
        ctx.store.policy().lease_of(request)  # raises before any wait if the lease is not allowed
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
        except BusyError as error:
            if patience is None:
                if "from" not in error.details:  # a message with "from" already says when the whole lease is possible
                    from bmhctl.usecases.reservations.eta import add_eta

                    add_eta(ctx, request, error)
                raise
    if patience is None:
        raise BusyError(f"request {request.request_id} is waiting already", hint="wait with it: --wait")
    return wait(attempt, patience)


def plan_reserve(ctx: Context, request: ReservationRequest) -> Plan:
    """Return what ``reserve`` would reserve now, and raise its errors; nothing changes."""
    from bmhctl.usecases.reservations.contended import rehearse

    now = refresh(ctx)
    with _with_parameters(ctx, request) as request:
        attempt = Attempt(ctx, request, False, None, None, now)
        granted = rehearse(attempt)
    hosts = granted.held.hosts
    items = [Outcome(host.name, True, "would be reserved", State.AVAILABLE, host.state) for host in hosts]
    if attempt.token is None:
        items = [already(host, f"already reserved by {granted.held.reservation.words}") for host in hosts]
    return Plan("reserve", tuple(items), granted.notes)
