"""Wait in the queue with a ticket until the request is granted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from operator import attrgetter

from bmhctl.domain.model import State
from bmhctl.domain.requirements import ReservationRequest, dump_requirements
from bmhctl.domain.ticket import QueueVerb, Ticket
from bmhctl.domain.units import format_duration
from bmhctl.errors import (
    AwayError,
    BmhctlError,
    BusyError,
    MovedError,
    RetiredError,
    UncertainError,
    UnreachableError,
    WaitTimeoutError,
)
from bmhctl.results import Grant
from bmhctl.stores.claims import ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.folding import in_short
from bmhctl.support.values import Frozen, field
from bmhctl.usecases.reservations.allocation import remedies
from bmhctl.usecases.reservations.candidates import candidates
from bmhctl.usecases.reservations.contended import check_ticket, choose, find_lost_grant, try_grant
from bmhctl.usecases.reservations.eta import eta_of_request
from bmhctl.usecases.reservations.fairness import match_free, note_excused, note_ticket, remove_dead, unclaimed
from bmhctl.usecases.reservations.grants import Attempt, check_same, granted_before
from bmhctl.usecases.reservations.queue_watch import IS_NEXT, ProgressReporter, Waiting, Watch
from bmhctl.usecases.shared.absence import PAUSE, Absence
from bmhctl.usecases.shared.context import Context

POLL = 0.15
"""Seconds between two checks of a waiting process; a check takes microseconds unless something was committed."""

_SOME = 20  # this many more hosts are read to find those on which steps run
_identity = attrgetter("owner", "requirements", "created_at")  # ids are given again in another inventory
_POLL_WOKEN = 0.5  # seconds between two checks with a server, which also wakes the process at every change


class WaitOptions(Frozen):
    """How to wait: for how long (None: without limit), how to pause, and what to call when the position changes.

    ``pause`` is called with seconds, and with a descriptor or None; when the descriptor becomes readable, the pause
    ends early. ``pause`` may raise to end the wait, for example after a signal or when the reader of the output has
    ended. The time counts from ``began``, by ``time.monotonic``.
    """

    pause: Callable[[float, int | None], None]
    timeout: timedelta | None = None
    progress: Callable[[Waiting], None] = lambda _: None
    began: float = field(default_factory=time.monotonic)

    @property
    def waited(self) -> timedelta:
        """How long the wait has lasted."""
        return timedelta(seconds=time.monotonic() - self.began)

    def left(self) -> timedelta | None:
        """Return how long the wait may still last, not less than zero; None without a limit."""
        return None if self.timeout is None else max(timedelta(), self.timeout - self.waited)

    def is_over(self) -> bool:
        """Return whether the wait has timed out, by a clock that is never set back."""
        return self.timeout is not None and self.waited >= self.timeout

    def timed_out(self, what: str, hint: str) -> WaitTimeoutError:
        """Return the error for a wait for ``what`` that has timed out."""
        length = format_duration(self.timeout or timedelta())
        return WaitTimeoutError(f"timed out after {length} waiting for {what}", hint=hint)


def wait(attempt: Attempt, patience: WaitOptions) -> Grant:
    """Wait in the queue, even while the inventory is unavailable, locked, full, invalid or replaced; return the grant.

    The ticket keeps its position. Raises the error of an inventory that can't be used for longer than :data:`LONGEST`.
    """
    ctx = attempt.ctx
    ticket: Ticket | None = None
    with Absence(ctx.report, ctx.store.location, ctx.store) as absence:
        while True:
            try:
                if absence.is_open():
                    with _queued(attempt, ticket) as ticket:
                        return _wait_in_queue(attempt, patience, ticket, absence)
            except UnreachableError as error:
                if isinstance(error, RetiredError) or (
                    ticket is None and not isinstance(error, AwayError | UncertainError)
                ):
                    raise
                granted = find_lost_grant(attempt, error) if isinstance(error, UncertainError) else None
                if granted is not None:
                    return granted
                absence.record(error)
            patience.pause(PAUSE, None)
            attempt.check_time()


def _wait_in_queue(attempt: Attempt, patience: WaitOptions, ticket: Ticket, absence: Absence) -> Grant:
    """Wait with a ticket, which is kept while the inventory is locked, full or read-only; raise for other failures."""
    while True:
        try:
            return _wait_for_turn(attempt, patience, ticket, absence)
        except UnreachableError as error:
            is_over = isinstance(error, MovedError | RetiredError | UncertainError)
            if is_over or not attempt.ctx.store.database.is_connected:
                raise
            absence.record(error)
        patience.pause(PAUSE, None)
        attempt.check_time()


def _wait_for_turn(attempt: Attempt, patience: WaitOptions, ticket: Ticket, absence: Absence) -> Grant:
    watch = Watch(attempt.ctx, ticket.id)
    reporter = ProgressReporter(attempt, ticket, lambda: _why_not(attempt, ticket), patience.progress)
    while True:
        if watch.must_try() and _is_worth_trying(attempt, ticket):
            granted = _try(attempt, ticket)
            if granted is not None:
                absence.ends()
                return granted
            watch.slow_down()
        if watch.trouble is not None:
            absence.record(watch.trouble)
        else:
            absence.ends()
            if watch.has_news and reporter.report_change():
                watch.has_news = False
        attempt.check_time()
        if watch.pause_left:
            patience.pause(watch.pause_left, None)
        elif watch.is_quiet():
            wakes = attempt.ctx.store.wakes()
            patience.pause(POLL if wakes is None else _POLL_WOKEN, wakes)


def _is_worth_trying(attempt: Attempt, ticket: Ticket) -> bool:
    """Return whether to try: a fitting host is free, another process got the same request, or the ticket is gone."""
    ctx, request = attempt.ctx, attempt.request
    return (
        ctx.store.tickets.get(ticket.id) is None
        or granted_before(ctx, request) is not None
        or bool(unclaimed(ctx, [request.requirements]))
    )


def _try(attempt: Attempt, ticket: Ticket) -> Grant | None:
    """Return a grant if this ticket is next in the queue and its hosts are free; else None."""
    ctx, request = attempt.ctx, attempt.request
    with ctx.store.snapshot():  # most attempts stop here, before taking the write lock
        before = granted_before(ctx, request)
        if before is not None:
            return before
        check_ticket(ctx, ticket)
        found = match_free(ctx, ctx.actor, request.requirements, ticket.id, ctx.store.policy().limits)
        if found.missing and not ctx.store.bookings.is_any_open():
            return None
    try:
        return try_grant(attempt, ticket)
    except BusyError:
        return None


def _why_not(attempt: Attempt, ticket: Ticket) -> tuple[str, datetime | None]:
    """Return why the request is not granted yet, and by when it will be; None if that is not known."""
    ctx = attempt.ctx
    try:
        choose(attempt, ticket, ctx.store.policy().limits)
    except BusyError as error:
        why = f"{error.host} {error.message}" if error.host else error.message
        states = (error.details or {}).get("states")
        if error.host is not None:
            why = "; ".join([why, *_steps_running(attempt)])
        elif isinstance(states, dict) and State.RESERVED not in states:  # no host will be given back
            why = "; ".join([why, *(_steps_running(attempt) or remedies(states))])
        return why, eta_of_request(ctx, attempt.request, ticket.id)
    return IS_NEXT, ctx.clock()


def _steps_running(attempt: Attempt) -> list[str]:
    """Return in words on which hosts that the request could use steps run, as recycle runs them; empty if on none."""
    ctx = attempt.ctx
    unready = HostQuery(states=frozenset((State.TAINTED, State.INITIAL)))
    hosts = candidates(ctx, [attempt.request.requirements], unready, more=_SOME)
    claimed = ctx.store.claims.claimed_hosts([host.id for host in hosts])
    names = [host.name for host in hosts if host.id in claimed]
    return [f"steps run on {' '.join(in_short(names))}"] if names else []


@contextmanager
def _queued(attempt: Attempt, before: Ticket | None) -> Iterator[Ticket]:
    """Yield a ticket: ``before``, or the ticket of the same request, or a new one at the end of the queue.

    If the server was lost meanwhile, the ticket may have been removed, because its process was taken for dead.
    """
    ctx, request = attempt.ctx, attempt.request
    with ExitStack() as stack:
        with ctx.store.transaction():
            ticket = None if before is None else ctx.store.tickets.get(before.id)
            if before is not None:
                note_excused(ctx)
            if before is not None and ticket is not None and _identity(ticket) != _identity(before):
                ticket = None  # the inventory was replaced by one without the ticket
            if ticket is None:
                ticket = ticket_of_request(ctx, request, remove_dead(ctx))
            if ticket is None:
                if before is not None:
                    ctx.report("lost its place in the queue; queued again at the end")
                now = ctx.clock()
                ticket = ctx.store.tickets.add(
                    Ticket(
                        owner=ctx.actor,
                        requirements=dump_requirements(request.requirements),
                        created_at=now,
                        refreshed_at=now,
                        purpose=request.purpose,
                        ttl=request.ttl,
                        endless=request.endless,
                        deadline=attempt.deadline,
                        request_id=request.request_id,
                        tags=request.tags,
                    )
                )
                note_ticket(ctx, ticket, QueueVerb.ASKED)
            # Claim the ticket before the commit, so that no process takes it for the ticket of a dead process.
            is_last = stack.enter_context(ctx.store.claims.share(ticket_claim(ticket.id)))
            stack.callback(_leave, attempt, ticket, is_last)
        yield ticket


def _leave(attempt: Attempt, ticket: Ticket, is_last: Callable[[], bool]) -> None:
    """Remove a ticket from the queue, unless other processes wait with it; a grant has removed it already."""
    ctx = attempt.ctx
    with suppress(BmhctlError):  # if the store can't be written now, the ticket becomes invalid when this process ends
        if ctx.store.tickets.get(ticket.id) is not None:
            with ctx.store.transaction():  # a writing transaction, so that no other process joins meanwhile
                if is_last() and ctx.store.tickets.get(ticket.id) is not None:
                    note_ticket(ctx, ticket, QueueVerb.TIMED_OUT if attempt.is_late() else QueueVerb.LEFT)
                    ctx.store.tickets.remove(ticket.id)


def ticket_of_request(ctx: Context, request: ReservationRequest, waiting: Sequence[Ticket]) -> Ticket | None:
    """Return the ticket with which the same request is waiting; None if there is none."""
    for ticket in waiting:
        if request.request_id is not None and (ticket.owner, ticket.request_id) == (ctx.actor, request.request_id):
            check_same(request, ticket.requirements)
            return ticket
    return None
