"""Waiting for hosts without a server: durable tickets, granted in the order of their age by whoever waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bmhctl.errors import (
    BusyError,
    InvalidError,
    NotFoundError,
    NotYoursError,
    StateRefusedError,
    WaitTimeoutError,
)
from bmhctl.model import Host, Mark, State, Ticket, Verb
from bmhctl.results import Done, Grant, Queue, Queued
from bmhctl.stores.claims import of_ticket
from bmhctl.stores.engine import HostQuery
from bmhctl.units import format_age, format_duration
from bmhctl.usecases.context import Context
from bmhctl.usecases.entry import begin, look
from bmhctl.usecases.leases import forced_reason, reap
from bmhctl.usecases.matching import match
from bmhctl.usecases.moving import SELF, facts_of, move
from bmhctl.usecases.naming import new_reservation_id
from bmhctl.usecases.reservations import (
    Wish,
    check_same,
    choose_hosts,
    give_up,
    grant,
    granted_before,
    lease_of,
)
from bmhctl.usecases.steps import claimed
from bmhctl.usecases.turns import REFRESH, candidates, comes_back, is_live, live_tickets
from bmhctl.wants import Wants, describe, dump_wants, load_wants

POLL = 0.1
"""Seconds between two looks of a waiter; each costs microseconds unless something was committed."""

_LOOK_AT_FILE = 0.5  # seconds between two looks at a TOML file that a person may be editing


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where a waiter stands: its place, who is ahead, what it waits for, and for how long it will."""

    position: int
    wants: str
    why: str
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait: for how long (None: for ever), how to pass seconds, whom to tell when the place changes.

    ``pause`` may raise to end the wait, as when a signal came or the reader of the answer is gone.
    """

    pause: Callable[[float], None]
    timeout: timedelta | None = None
    progress: Callable[[Waiting], None] = lambda _: None


def reserve_or_wait(ctx: Context, wish: Wish, patience: Patience | None, *, check: bool = False) -> Grant:
    """As ``reserve``; with ``patience``, waits in a fair queue for what is busy.

    With ``check``, the readiness checks of each host run before it is granted; a host that fails goes to
    maintenance, and the next is tried. Raises :class:`WaitTimeoutError` when the time is over; a grant that would
    come after it is undone. However the wait ends, its ticket is gone then.
    """
    begin(ctx)
    wish = replace(wish, token=new_reservation_id(ctx.store))
    try:
        return _reserve_or_wait(ctx, wish, patience, check)
    except BaseException:
        # A signal may come between the commit and the return: then nobody would know of what was granted.
        if wish.request_id is None and wish.token is not None:
            give_up(ctx, wish.token, "interrupted before the answer")
        raise


def _reserve_or_wait(ctx: Context, wish: Wish, patience: Patience | None, check: bool) -> Grant:
    lease_of(ctx.policy(), wish)
    ticket: Ticket | None = None
    with ctx.store.transaction():
        before = granted_before(ctx, wish)
        if before is not None:
            return before
        ticket = _ticket_of_request(ctx, wish)
    if ticket is None:
        try:
            return _grant(ctx, wish, None, None, check)
        except BusyError:
            if patience is None:
                raise
    if patience is None:
        raise BusyError(f"request {wish.request_id} is waiting already", hint="wait with it: --wait")
    return _wait(ctx, wish, patience, check)


def _wait(ctx: Context, wish: Wish, patience: Patience, check: bool) -> Grant:
    now = ctx.clock()
    deadline = None if patience.timeout is None else now + patience.timeout
    with _queued(ctx, wish, deadline) as ticket:
        seen: object = None
        said: tuple[int, str] | None = None
        version = -1
        next_refresh = next_look = now
        while True:
            now = ctx.clock()
            if now >= next_look:
                next_look = now + timedelta(seconds=_LOOK_AT_FILE)
                _look(ctx)
            if now >= next_refresh:
                next_refresh = now + REFRESH
                with ctx.store.transaction():
                    ctx.store.refresh_ticket(ticket.id, now)
                if ctx.store.expired_reservations(now):
                    reap(ctx)
            looked, version = version, ctx.store.version()
            generation = ctx.store.generation() if version != looked or next_refresh == now + REFRESH else seen
            if generation != seen or next_refresh == now + REFRESH:
                seen = generation
                granted, why = _try(ctx, wish, ticket, deadline, check)
                if granted is not None:
                    return granted
                position = len(live_tickets(ctx, ticket.id)) + 1
                if said != (position, why):
                    said = (position, why)
                    patience.progress(Waiting(position, describe(wish.wants), why, deadline))
            if deadline is not None and ctx.clock() >= deadline:
                raise _timed_out(wish, patience.timeout)
            patience.pause(POLL)


def _try(ctx: Context, wish: Wish, ticket: Ticket, deadline: datetime | None, check: bool) -> tuple[Grant | None, str]:
    """A grant if it is this ticket's turn, else why not."""
    with ctx.store.snapshot():
        before = granted_before(ctx, wish)
        if before is not None:
            return before, ""
        if ctx.store.ticket(ticket.id) is None:
            raise StateRefusedError("the ticket was cancelled", details={"ticket": ticket.id})
        try:
            choose_hosts(ctx, wish, ticket.id)
        except BusyError as error:
            return None, error.message
    try:
        return _grant(ctx, wish, ticket, deadline, check), ""
    except BusyError as error:
        return None, error.message


def _grant(ctx: Context, wish: Wish, ticket: Ticket | None, deadline: datetime | None, check: bool) -> Grant:
    if check:
        return _grant_checked(ctx, wish, ticket, deadline)
    with ctx.store.transaction():
        before = granted_before(ctx, wish)
        if before is not None:
            return before
        hosts = choose_hosts(ctx, wish, ticket.id if ticket else None)
        return _settle(ctx, wish, ticket, deadline, hosts)


def _settle(
    ctx: Context,
    wish: Wish,
    ticket: Ticket | None,
    deadline: datetime | None,
    hosts: tuple[Host, ...],
    *,
    claims_are_mine: bool = False,
) -> Grant:
    """Takes the hosts and leaves the queue, in the caller's transaction; past the deadline, neither happens."""
    if ticket is not None:
        if ctx.store.ticket(ticket.id) is None:
            raise StateRefusedError("the ticket was cancelled", details={"ticket": ticket.id})
        ctx.store.drop_ticket(ticket.id)
    granted = grant(ctx, wish, lease_of(ctx.policy(), wish), hosts, claims_are_mine=claims_are_mine)
    if deadline is not None and ctx.clock() >= deadline:
        raise _timed_out(wish, None)
    return granted


def _grant_checked(ctx: Context, wish: Wish, ticket: Ticket | None, deadline: datetime | None) -> Grant:
    """Proves each host before it is granted; each round that fails takes a host out, so it ends."""
    from contextlib import ExitStack

    while True:
        with ctx.store.snapshot():
            hosts = choose_hosts(ctx, wish, ticket.id if ticket else None)
        with ExitStack() as stack:
            try:
                held = [stack.enter_context(claimed(ctx, host)) for host in hosts]
            except StateRefusedError:
                continue  # somebody else's step was faster
            if any(one.host.last_event != host.last_event for one, host in zip(held, hosts, strict=True)):
                continue
            bad = [(one, run) for one in held if (run := one.run_checks()).refusal is not None]
            with ctx.store.transaction():
                now = ctx.clock()
                if not bad:
                    proven = tuple(one.unchanged() for one in held)
                    return _settle(ctx, wish, ticket, deadline, proven, claims_are_mine=True)
                for one, run in bad:
                    host = one.unchanged()
                    reason = f"failed when it was to be reserved: {run.refusal}"
                    mark = Mark(SELF, reason, now, quarantine=True)
                    facts = facts_of(ctx, host, now, reason=reason, claim_is_mine=True)
                    move(ctx, replace(host, maintenance=(mark,)), Verb.MAINTAIN, facts, now, reason=reason, actor=SELF)
                    ctx.tell(f"{host.name}: {reason}; it is in maintenance now, the next is tried")


def _timed_out(wish: Wish, timeout: timedelta | None) -> WaitTimeoutError:
    waited = f" after {format_duration(timeout)}" if timeout is not None else ""
    return WaitTimeoutError(
        f"waited in vain for {describe(wish.wants)}{waited}", hint="bmhctl reservations shows who holds what"
    )


def _look(ctx: Context) -> None:
    try:
        look(ctx)
    except InvalidError as error:  # somebody is editing: what is known goes on to hold
        ctx.tell(f"{error.message}; waiting goes on with what was declared before")


@contextmanager
def _queued(ctx: Context, wish: Wish, deadline: datetime | None) -> Iterator[Ticket]:
    """A ticket for the block: that of the same request, if it waits already, else a new one at the end."""
    ticket: Ticket | None = None
    try:
        with ctx.store.transaction():
            _drop_dead(ctx)
            ticket = _ticket_of_request(ctx, wish)
            if ticket is None:
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
                        deadline=deadline,
                        request_id=wish.request_id,
                    )
                )
            # Before the commit, or others would take it for a dead process's.
            share = ctx.store.claims.share(of_ticket(ticket.id))
            share.__enter__()
        try:
            yield ticket
        finally:
            share.__exit__(None, None, None)
    finally:
        if ticket is not None and not ctx.store.claims.is_claimed(of_ticket(ticket.id)):
            with ctx.store.transaction():
                ctx.store.drop_ticket(ticket.id)


def _ticket_of_request(ctx: Context, wish: Wish) -> Ticket | None:
    if wish.request_id is None:
        return None
    for ticket in ctx.store.tickets():
        if (ticket.owner, ticket.request_id) == (ctx.actor, wish.request_id):
            check_same(wish, ticket.wants)
            if is_live(ctx, ticket):
                return ticket
            ctx.store.drop_ticket(ticket.id)
    return None


def _drop_dead(ctx: Context) -> None:
    for ticket in ctx.store.tickets():
        if not ctx.store.claims.is_claimed(of_ticket(ticket.id)):
            ctx.store.drop_ticket(ticket.id)


# looking at the queue, and leaving it


def queue(ctx: Context) -> Queue:
    """Who waits, in which order, for what, and what each one still misses."""
    now = look(ctx)
    with ctx.store.snapshot():
        tickets = live_tickets(ctx)
        items = []
        for position, ticket in enumerate(tickets, 1):
            wants = load_wants(ticket.wants)
            items.append(Queued(ticket, position, describe(wants), _missing(ctx, wants, ticket.id)))
    return Queue(tuple(items), now)


def _missing(ctx: Context, wants: Wants, ticket_id: int) -> str:
    from bmhctl.usecases.turns import free_for

    found = match(wants, free_for(ctx, wants, ticket_id))
    if not found.missing:
        return "nothing: it is about to be granted"
    words = f"{found.missing} more host{'s' if found.missing > 1 else ''}"
    if not comes_back(ctx, wants):
        return f"{words}: that needs an operator; {_who_needs_help(ctx, wants)}"
    return words


def _who_needs_help(ctx: Context, wants: Wants) -> str:
    words = []
    for host in candidates(ctx, [wants], HostQuery(declared=True), more=20):
        if host.state is State.MAINTENANCE:
            words.append(f"{host.name} is in maintenance")
        elif host.cordon is not None:
            words.append(f"{host.name} is cordoned")
        elif host.fault is not None:
            words.append(f"{host.name} has a fault")
    shown = ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
    return shown or "too few hosts are in use"


def cancel(ctx: Context, ticket_id: int, *, force: bool = False, reason: str | None = None) -> Done:
    """Takes a ticket out of the queue; whoever waits with it is told. Another's only by force with a reason."""
    forced_reason(force, reason)
    look(ctx)
    with ctx.store.transaction():
        ticket = ctx.store.ticket(ticket_id)
        if ticket is None:
            raise NotFoundError(f"there is no ticket {ticket_id}", hint="bmhctl queue lists them")
        if ticket.owner != ctx.actor and not force:
            raise NotYoursError(f"ticket {ticket_id} is {ticket.owner}'s", hint="--force --reason WHY overrides")
        ctx.store.drop_ticket(ticket_id)
    age = format_age(ctx.clock() - ticket.created_at)
    return Done(
        "queue cancel",
        f"cancelled ticket {ticket_id} of {ticket.owner}, {age} old, for {describe(load_wants(ticket.wants))}",
        {"ticket": ticket_id, "owner": ticket.owner},
    )
