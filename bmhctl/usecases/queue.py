"""Waiting for hosts without a server: durable tickets, granted in the order of their age by whoever waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta

from bmhctl.errors import (
    BmhctlError,
    BusyError,
    NotFoundError,
    NotYoursError,
    StateRefusedError,
    UnreachableError,
    UsageError,
    WaitTimeoutError,
)
from bmhctl.frozen import Frozen, replace
from bmhctl.model import Host, Mark, State, Ticket, Verb
from bmhctl.results import Done, Grant, Held, Queue, Queued
from bmhctl.stores.claims import of_ticket
from bmhctl.stores.faults import UncertainError
from bmhctl.stores.queries import HostQuery
from bmhctl.units import format_age, format_duration
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import CLOCK_SLACK, begin, look, reap_due
from bmhctl.usecases.leases import forced_reason, hosts_of
from bmhctl.usecases.matching import match
from bmhctl.usecases.moving import SELF, facts_of, move
from bmhctl.usecases.naming import any_reservation_id, new_reservation_id
from bmhctl.usecases.reservations import (
    Wish,
    check_same,
    choose_hosts,
    grant,
    granted_before,
    lease_of,
)
from bmhctl.usecases.retrying import retried
from bmhctl.usecases.turns import (
    LAPSE,
    any_free,
    candidates,
    comes_back,
    drop_dead,
    free_for,
    is_live,
    may_come_back,
    only_free_query,
    taken_at_once,
    waiting_tickets,
)
from bmhctl.usecases.watching import Teller, Waiting, Watch
from bmhctl.wants import Wants, describe, dump_wants, load_wants

POLL = 0.15
"""Seconds between two looks of a waiter; each costs microseconds unless something was committed."""

_POLL_WOKEN = 0.5  # the same where whatever changes wakes who waits

_FIND_OUT = 15.0  # seconds to look for a server again that was lost in the middle of a commit
_RECONNECT = 0.3
_LONGEST_AWAY = 600.0  # seconds for which a waiter waits for its server


class Patience(Frozen):
    """How to wait: for how long (None: for ever), how to pass seconds, whom to tell when the place changes.

    ``pause`` is given seconds, and a descriptor at which to end sooner when it can be read, if there is one. It may
    raise to end the wait, as when a signal came or the reader of the answer is gone.
    """

    pause: Callable[[float, int | None], None]
    timeout: timedelta | None = None
    progress: Callable[[Waiting], None] = lambda _: None


def reserve_or_wait(ctx: Context, wish: Wish, patience: Patience | None = None, *, check: bool = False) -> Grant:
    """As ``reserve``; with ``patience``, waits in a fair queue for what is busy.

    With ``check``, the readiness checks of each host run before it is granted; a host that fails goes to
    maintenance, and the next is tried. Raises :class:`WaitTimeoutError` when the time is over; a grant that would
    come after it is undone. However the wait ends, its ticket is gone then.
    """
    now = look(ctx)
    timeout = patience.timeout if patience else None
    attempt = _Attempt(ctx, wish, check, timeout, None if timeout is None else now + timeout)
    try:
        granted = None if check else _grant_at_once(ctx, attempt, now)
        if granted is None:
            reap_due(ctx, now)
            granted = _reserve_or_wait(attempt, patience)
    except UncertainError as error:
        found = _found_out(attempt, error)
        if found is None:
            raise UnreachableError(
                f"lost the connection to {ctx.store.location}: nothing was reserved", hint="try again"
            ) from error
        return found
    except BmhctlError:
        raise  # where any other is raised, nothing was committed
    except BaseException:
        # A signal may come between the commit and the return: then nobody would know of what was granted.
        if wish.request_id is None and attempt.token is not None:
            from bmhctl.usecases.holding import give_up

            with suppress(BmhctlError):  # else their lease ends by itself
                give_up(ctx, attempt.token, "interrupted before the answer")
        raise
    return granted


def _found_out(attempt: _Attempt, lost: UncertainError) -> Grant | None:
    """What became of a grant whose answer was lost with the connection: the reservation's id tells.

    None: nothing was reserved. Raises :class:`UnreachableError` when that can't be found out.
    """
    ctx, wish = attempt.ctx, attempt.wish
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
                if wish.request_id is not None:
                    hint = f"ask again under the same request id, {wish.request_id}: it tells which"
                else:
                    hint = f"bmhctl reservations tells: the id would be {attempt.token}"
                raise UnreachableError(lost.message, hint=hint) from lost
            time.sleep(_RECONNECT)


class _Attempt:
    """One process's attempt to get what it wishes, in so much time.

    ``token`` is the id of the reservation that was made, or is about to be committed: None as long as none was begun.
    """

    def __init__(
        self, ctx: Context, wish: Wish, check: bool, timeout: timedelta | None, deadline: datetime | None
    ) -> None:
        self.ctx = ctx
        self.wish = wish
        self.check = check
        self.timeout = timeout
        self.deadline = deadline
        self.token: str | None = None

    def check_time(self) -> None:
        """Raises :class:`WaitTimeoutError` when the time is over."""
        if self.deadline is not None and self.ctx.clock() >= self.deadline:
            raise WaitTimeoutError(
                f"waited in vain for {describe(self.wish.wants)} for {format_duration(self.timeout or timedelta())}",
                hint="bmhctl reservations shows who holds what",
            )


def _reserve_or_wait(attempt: _Attempt, patience: Patience | None) -> Grant:
    ctx, wish = attempt.ctx, attempt.wish
    if wish.endless:
        lease_of(ctx.policy(), wish)  # raises where that is not allowed, before there is a wait
    ticket = None
    if wish.request_id is not None:
        with ctx.store.snapshot():
            before = granted_before(ctx, wish)
            if before is not None:
                return before
            ticket = _ticket_of_request(ctx, wish, waiting_tickets(ctx))
    if ticket is None:
        try:
            return _grant(attempt, None)
        except BusyError:
            if patience is None:
                raise
    if patience is None:
        raise BusyError(f"request {wish.request_id} is waiting already", hint="wait with it: --wait")
    return _wait(attempt, patience)


def _wait(attempt: _Attempt, patience: Patience) -> Grant:
    """Waits, also for a server that is restarted meanwhile."""
    ctx = attempt.ctx
    ticket: Ticket | None = None
    absence = _Absence(ctx)
    while True:
        try:
            with _queued(attempt, ticket) as ticket:
                absence.ends()
                return _wait_in_queue(attempt, patience, ticket)
        except UnreachableError as error:
            if ticket is None or ctx.store.is_connected:
                raise
            granted = _found_out(attempt, error) if isinstance(error, UncertainError) else None
            if granted is not None:
                return granted
            absence.goes_on(error)
        patience.pause(_RECONNECT, None)
        attempt.check_time()


class _Absence:
    """A server that a waiter lost: the person who waits is told why, and when it is back."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._began: float | None = None
        self._reason = ""

    def goes_on(self, reason: UnreachableError) -> None:
        """Waits for it; raises the reason when that has taken too long."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began > _LONGEST_AWAY:
            raise reason
        if reason.message != self._reason:
            self._ctx.tell(f"{reason.message}; waits until it is back")
        self._reason = reason.message

    def ends(self) -> None:
        """It is back, if it was away."""
        if self._began is not None:
            self._ctx.tell(f"{self._ctx.store.location} is back: waits on")
        self._began, self._reason = None, ""


def _wait_in_queue(attempt: _Attempt, patience: Patience, ticket: Ticket) -> Grant:
    watch = Watch(attempt.ctx, ticket.id)
    teller = Teller(attempt.ctx, ticket, lambda: _why_not(attempt, ticket), attempt.deadline, patience.progress)
    while True:
        if watch.stirs() and _is_worth_trying(attempt, ticket):
            granted = _try(attempt, ticket)
            if granted is not None:
                return granted
            watch.pace()
        if watch.has_news and teller.tells(watch.trouble):
            watch.has_news = False
        attempt.check_time()
        if watch.rests:
            patience.pause(watch.rests, None)
        elif watch.is_quiet():
            wakes = attempt.ctx.store.wakes()
            patience.pause(POLL if wakes is None else _POLL_WOKEN, wakes)


def _is_worth_trying(attempt: _Attempt, ticket: Ticket) -> bool:
    """Whether any host is free that would do; or another process got it for the same request, or the ticket is gone."""
    ctx, wish = attempt.ctx, attempt.wish
    return ctx.store.ticket(ticket.id) is None or granted_before(ctx, wish) is not None or any_free(ctx, wish.wants)


def _try(attempt: _Attempt, ticket: Ticket) -> Grant | None:
    """A grant if it is this ticket's turn."""
    ctx, wish = attempt.ctx, attempt.wish
    with ctx.store.snapshot():  # most tries end here, in nobody's way
        before = granted_before(ctx, wish)
        if before is not None:
            return before
        _check_ticket(ctx, ticket)
        if match(wish.wants, free_for(ctx, wish.wants, ticket.id)).missing:
            return None
    try:
        return _grant(attempt, ticket)
    except BusyError:
        return None


def _why_not(attempt: _Attempt, ticket: Ticket) -> str:
    try:
        choose_hosts(attempt.ctx, attempt.wish, ticket.id)
    except BusyError as error:
        return f"{error.host} {error.message}" if error.host else error.message
    return "it is its turn"


def _grant(attempt: _Attempt, ticket: Ticket | None) -> Grant:
    return _grant_checked(attempt, ticket) if attempt.check else _grant_in_turn(attempt.ctx, attempt, ticket)


@retried
def _grant_in_turn(ctx: Context, attempt: _Attempt, ticket: Ticket | None) -> Grant:
    attempt.token = None  # what another transaction undid came to nothing
    with ctx.store.transaction():
        before = granted_before(ctx, attempt.wish)
        if before is not None:
            return before
        return _settle(attempt, ticket, choose_hosts(ctx, attempt.wish, ticket.id if ticket else None))


@retried
def _grant_at_once(ctx: Context, attempt: _Attempt, now: datetime) -> Grant | None:
    """The common case, in which several grant at the same time: what is wished for is free.

    None when it is not, or when anything hinders.
    """
    wish = attempt.wish
    attempt.token = None
    token = wish.token or any_reservation_id()
    with ctx.store.granting(token, now, now + CLOCK_SLACK, only_free_query(wish.wants)):
        if ctx.store.anything_hinders(token, now, now + CLOCK_SLACK):
            return None
        before = granted_before(ctx, wish)
        if before is not None:
            return before
        hosts = taken_at_once(ctx, wish.wants)
        return None if hosts is None else _settle(attempt, None, hosts, token)


def _settle(attempt: _Attempt, ticket: Ticket | None, hosts: Sequence[Host], token: str | None = None) -> Grant:
    """Takes the hosts and leaves the queue, in the caller's transaction; past the deadline, neither happens.

    ``token`` is the reservation's id, if it is known already.
    """
    ctx, wish = attempt.ctx, attempt.wish
    if ticket is not None:
        _check_ticket(ctx, ticket)
        ctx.store.drop_ticket(ticket.id)
    terms = lease_of(ctx.policy(), wish)
    if token is None and wish.token is not None and ctx.store.reservation(wish.token) is not None:
        raise UsageError(f"a reservation has the id {wish.token} already", hint="give none: one is made")
    attempt.token = token or wish.token or new_reservation_id(ctx.store)
    granted = grant(ctx, wish, terms, hosts, attempt.token)
    attempt.check_time()
    return granted


def _check_ticket(ctx: Context, ticket: Ticket) -> None:
    if ctx.store.ticket(ticket.id) is None:
        raise StateRefusedError("the ticket was cancelled", details={"ticket": ticket.id})


def _grant_checked(attempt: _Attempt, ticket: Ticket | None) -> Grant:
    """Proves each host before it is granted; each round that fails takes a host out, so it ends."""
    from bmhctl.usecases.steps import claimed

    ctx, wish = attempt.ctx, attempt.wish
    while True:
        attempt.check_time()
        _step_aside(ctx, ticket, timedelta())
        with ctx.store.snapshot():
            hosts = choose_hosts(ctx, wish, ticket.id if ticket else None)
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
                before = granted_before(ctx, wish)
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
    mark = Mark(SELF, reason, now, quarantine=True)
    facts = facts_of(ctx, host, now, reason=reason, claim_is_mine=True)
    move(ctx, replace(host, maintenance=(mark,)), Verb.MAINTAIN, facts, now, reason=reason, actor=SELF)
    ctx.tell(f"{host.name}: {reason}; it is in maintenance now, the next is tried")


@contextmanager
def _queued(attempt: _Attempt, before: Ticket | None) -> Iterator[Ticket]:
    """A ticket for the block: that of ``before``, that with which the same request waits, or a new one at the end.

    A ticket from before the server was lost may be gone: others may have taken its process for dead.
    """
    ctx, wish = attempt.ctx, attempt.wish
    with ExitStack() as stack:
        with ctx.store.transaction():
            ticket = None if before is None else ctx.store.ticket(before.id)
            if ticket is None:
                ticket = _ticket_of_request(ctx, wish, drop_dead(ctx))
            if ticket is None:
                if before is not None:
                    ctx.tell("its place in the queue is gone: it goes to the end")
                now = ctx.clock()
                ticket = ctx.store.add_ticket(
                    Ticket(
                        owner=ctx.actor,
                        wants=dump_wants(wish.wants),
                        created_at=now,
                        refreshed_at=now,
                        purpose=wish.purpose,
                        ttl=wish.ttl,
                        endless=wish.endless,
                        deadline=attempt.deadline,
                        request_id=wish.request_id,
                    )
                )
            # Before the commit, or others would take it for a dead process's.
            is_last = stack.enter_context(ctx.store.claims.share(of_ticket(ticket.id)))
            stack.callback(_leave, ctx, ticket.id, is_last)
        yield ticket


def _leave(ctx: Context, ticket_id: int, is_last: Callable[[], bool]) -> None:
    """Takes a ticket out of the queue, unless others wait with it; a grant has done so already."""
    with suppress(BmhctlError):  # if the store can't be written now: a ticket whose process is gone does not count
        if ctx.store.ticket(ticket_id) is not None:
            with ctx.store.transaction():  # nobody joins meanwhile
                if is_last():
                    ctx.store.drop_ticket(ticket_id)


def _ticket_of_request(ctx: Context, wish: Wish, waiting: Sequence[Ticket]) -> Ticket | None:
    """The ticket with which the same request waits."""
    for ticket in waiting:
        if wish.request_id is not None and (ticket.owner, ticket.request_id) == (ctx.actor, wish.request_id):
            check_same(wish, ticket.wants)
            return ticket
    return None


# looking at the queue, and leaving it


def queue(ctx: Context) -> Queue:
    """Who waits, in which order, for what, and what each one still misses."""
    now = look(ctx)
    with ctx.store.snapshot():
        items = []
        for position, ticket in enumerate(waiting_tickets(ctx), 1):
            wants = load_wants(ticket.wants)
            items.append(Queued(ticket, position, describe(wants), _missing(ctx, wants, ticket)))
    return Queue(tuple(items), now)


def _missing(ctx: Context, wants: Wants, ticket: Ticket) -> str:
    if not is_live(ctx, ticket):
        return "its process checks hosts, or is stopped: others may go first"
    found = match(wants, free_for(ctx, wants, ticket.id))
    if not found.missing:
        return "nothing: it is about to be granted"
    words = f"{found.missing} more host{'s' if found.missing > 1 else ''}"
    if not comes_back(ctx, wants):
        return f"{words}: that needs an operator; {_who_needs_help(ctx, wants)}"
    return words


def _who_needs_help(ctx: Context, wants: Wants) -> str:
    words = [f"{host.name} {what}" for host in candidates(ctx, [wants], HostQuery(), more=20) if (what := _ails(host))]
    shown = ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
    return shown or "too few hosts fit"


def _ails(host: Host) -> str | None:
    if host.undeclared:
        return "is not declared any more"
    if host.state is State.MAINTENANCE:
        return "is in maintenance"
    if host.cordon is not None:
        return "is cordoned"
    return None if host.fault is None else "has a fault"


@retried
def cancel(ctx: Context, ticket_id: int, *, force: bool = False, reason: str | None = None) -> Done:
    """Takes a ticket out of the queue; whoever waits with it is told. Another's only by force with a reason."""
    forced_reason(force, reason)
    begin(ctx)
    with ctx.store.transaction():
        ticket = ctx.store.ticket(ticket_id)
        if ticket is None:
            raise NotFoundError(f"there is no ticket {ticket_id}", hint="bmhctl queue lists them")
        if ticket.owner != ctx.actor and not force:
            raise NotYoursError(f"ticket {ticket_id} is {ticket.owner}'s", hint="--force --reason WHY overrides")
        if may_come_back(ctx, ticket):  # and would queue up again, since nobody told it
            raise BusyError(
                f"ticket {ticket_id}: its process lost the server with all others, and is not back yet",
                hint=f"try again: it is back, or out of the queue, within {format_duration(LAPSE)}",
            )
        ctx.store.drop_ticket(ticket_id)
    age = format_age(ctx.clock() - ticket.created_at)
    return Done(
        "queue cancel",
        f"cancelled ticket {ticket_id} of {ticket.owner}, {age} old, for {describe(load_wants(ticket.wants))}",
        {"ticket": ticket_id, "owner": ticket.owner},
    )
