"""``why`` and ``graph``: the reason for a host's state, the events that led there, and the verbs that are possible."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from bmhctl.domain.model import (
    CheckResult,
    Event,
    EventKind,
    Guard,
    Host,
    Note,
    Phase,
    Planned,
    State,
    Verb,
    holding_back,
)
from bmhctl.domain.units import format_age, local_time, plural
from bmhctl.lifecycle.machine import GuardInput, ask, possible
from bmhctl.lifecycle.table import ASKS, MEANING, POSSIBLE
from bmhctl.results.why import Graph, VerbAnswer, Why
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import describe_tasks
from bmhctl.usecases.shared.maintenance import remaining_reasons, where_resume_leads
from bmhctl.usecases.shared.refresh import refresh

if TYPE_CHECKING:
    from bmhctl.domain.policy import Policy

_FEW_EVENTS = 20  # this many of the latest events usually include the one that explains the state

_EXPLAIN_NOTHING = {
    *(EventKind.RETIRING, EventKind.RETIRE_UNDONE),
    *(EventKind.PLANNED, EventKind.PLAN_ENDED),
    *(EventKind.CORDON, EventKind.UNCORDON, EventKind.SET, EventKind.RENAME),
    *(EventKind.DECLARE, EventKind.UNDECLARE, EventKind.REASON_ADDED, EventKind.REASON_CLOSED),
}
"""Events that do not change the reason for a host's state."""

_DEPENDS = {
    Guard.SETUP_COMPLETE: Phase.SETUP,
    Guard.CHECKS_PASSED: Phase.CHECKS,
    Guard.CLEANUP_SUCCEEDED: Phase.CLEANUP,
}
"""Guards that depend on steps which have to run, each with the phase of these steps."""


def why(ctx: Context, name: str) -> Why:
    """Return why a host is in its state, which verbs are possible now, and which guards refuse, in words.

    Raises :class:`~bmhctl.errors.NotFoundError` for a name that no host has.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        return _why(ctx, _host(ctx, name), now)


def graph(ctx: Context, name: str | None = None) -> Graph:
    """Return the lifecycle with the number of hosts in each state; with ``name``, also that host's state and events.

    Raises :class:`~bmhctl.errors.NotFoundError` for a name that no host has.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        if name is None:
            return Graph(ctx.store.hosts.counts())
        host = _host(ctx, name)
        events: tuple[Event, ...] = tuple(ctx.store.events.read(host))
        return Graph(ctx.store.hosts.counts(), _why(ctx, host, now), events)


def _host(ctx: Context, name: str) -> Host:
    host = ctx.store.hosts.named(name)
    if host is None:
        from bmhctl.usecases.shared.unmatched import not_found

        raise not_found(ctx, name)
    return host


def _why(ctx: Context, host: Host, now: datetime) -> Why:
    held = host.reservation
    inputs = replace(
        GuardInput.of(host, now, is_claimed=bool(ctx.store.claims.claimed_hosts([host.id])), reason="(asked)"),
        holder=None if held is None else held.refusal(ctx.actor, None, now),
    )
    is_awaited = host.state is State.AVAILABLE and ctx.store.tickets.are_any()
    if is_awaited:
        inputs = replace(inputs, earlier_ticket=_earlier_ticket(ctx, host))
    policy = cache(ctx.store.policy)  # read at most once
    results = ctx.store.step_results.of(host)
    results = results and policy().declared(results)
    return Why(
        host,
        _summary(host, inputs),
        (
            *(_claim(ctx, host) if inputs.claim else ()),
            *_details(ctx, host, results, policy, now),
            *(_limited(ctx, host, policy) if is_awaited else ()),
        ),
        (
            *(_answer(ctx, host, verb, inputs, policy, now) for verb in possible(host.state)),
            *_retire_answer(host, inputs, policy),
        ),
        None if inputs.claim else _next(ctx, host, inputs, now),
        now,
        results,
        _first(host, results),
    )


def _first(host: Host, results: tuple[CheckResult, ...]) -> str | None:
    """Return what has to be repaired before the next command can succeed; None if nothing is known to be broken."""
    failed = [each.failure for each in holding_back(host, results)]
    broken = [host.fault] if host.fault and host.state in (State.TAINTED, State.MAINTENANCE) else []
    return f"repair this: {'; '.join((*broken, *failed))}" if broken or failed else None


def _earlier_ticket(ctx: Context, host: Host) -> str | None:
    """Return in words the ticket that has a right to an available host; None if no ticket has."""
    from bmhctl.domain.requirements import Requirement
    from bmhctl.usecases.reservations.fairness import free_for, ticket_ahead

    return (
        None
        if free_for(ctx, (Requirement(name=host.name),), None, ctx.store.policy().limits)
        else ticket_ahead(ctx, None)
    )


def _summary(host: Host, inputs: GuardInput) -> str:
    held = host.reservation
    match host.state:
        case State.RESERVED if held is not None and not inputs.reservation_valid:
            return f"{host.name} is reserved, but the lease has expired: {held.words}; the next command taints it"
        case State.RESERVED if held is not None:
            return f"{host.name} is reserved: held by {held.words}"
        case State.MAINTENANCE:
            reasons = "; ".join(f"{mark.reason} ({mark.actor})" for mark in host.maintenance) or "no reason is left"
            return f"{host.name} is in maintenance: {reasons}"
        case State.AVAILABLE if host.cordon or host.undeclared:
            return f"{host.name} is available, but can't be reserved: " + (
                f"{_set_aside(host.cordon)} by {host.cordon.actor}" if host.cordon else "it is no longer declared"
            )
        case State.AVAILABLE if inputs.earlier_ticket or inputs.claim or inputs.booked:
            return f"{host.name} is available, but {inputs.earlier_ticket or inputs.claim or inputs.booked}"
        case State.AVAILABLE:
            return f"{host.name} is free: available to be reserved"
        case _:
            return f"{host.name} is {host.state}: {MEANING[host.state]}"


def _set_aside(cordon: Note) -> str:
    if cordon.maintains:
        return "being drained for maintenance"
    return "being retired" if cordon.retires else "cordoned"


def _claim(ctx: Context, host: Host) -> Iterable[str]:
    """Yield in words the processes that run a step on a claimed host."""
    from bmhctl.stores.claims import host_claim

    holders = ctx.store.claims.holders(host_claim(host.id))
    is_run = any(holder.is_runner for holder in holders)
    for holder in holders:
        if holder.is_runner:
            yield f"its steps are run by bmhctl: {holder}"
        elif is_run:
            yield f"its step is {holder}"
        elif holder.ends_by_itself:
            yield f"its steps were run by {holder}, which has ended: {holder.ends_by_itself}"
        else:
            yield f"its step outlived bmhctl: {holder}; bmhctl recycle --end-step {host.name} ends it"


def _details(
    ctx: Context, host: Host, results: tuple[CheckResult, ...], policy: Callable[[], Policy], now: datetime
) -> Iterable[str]:
    """Yield what explains the state of a host, without what the summary and the step results say already."""
    if host.dirty:
        yield "dirty: it was used since its last cleanup"
    if host.cordon:
        why = f": {host.cordon.reason}" if host.cordon.reason else ""
        yield f"{_set_aside(host.cordon)} by {host.cordon.actor}{why}"
    if host.undeclared:
        yield "undeclared: no longer in the TOML file; bmhctl remove removes it here, too"
    if host.fault:
        yield f"fault: {host.fault}"
    if host.failed_cleanups:
        yield f"its cleanup failed {plural(host.failed_cleanups, 'time')} in a row"
    if host.failed_tasks:
        yield f"{plural(len(host.failed_tasks), 'task')} failed in a row: {describe_tasks(host.failed_tasks)}"
    if host.state is State.MAINTENANCE:
        for mark in host.maintenance:
            until = f", until {local_time(mark.until)}" if mark.until else ""
            yield f"maintenance since {local_time(mark.since)} by {mark.actor}{until}"
        if host.reservation:
            yield f"keeps the reservation of {host.reservation.words}"
    yield from (_planned(ctx, host, each) for each in host.planned)
    last = _last_attempt(ctx, host) if host.state in (State.TAINTED, State.INITIAL) else None
    if last is not None and last.reason:
        known = (host.fault, *(each.failure for each in holding_back(host, results)))
        is_known = any(text in last.reason for text in known if text)
        yield f"last event: {last.verb} by {last.actor}" + ("" if is_known else f": {last.reason}")
    if host.state is State.AVAILABLE and host.proven_at:
        if _names(policy(), host, Phase.CHECKS):
            yield f"its checks last passed {format_age(now - host.proven_at)} ago"
        else:
            yield "no readiness check applies to it"
    if host.state is State.INITIAL:
        yield from _setup(ctx, host, policy(), now)
        if host.failed_recycles is not None and host.fault is None and not host.undeclared:
            failed = f"; {plural(host.failed_recycles, 'failure')} in a row so far" if host.failed_recycles else ""
            yield f"recycle tries to make it available{failed}"


def _planned(ctx: Context, host: Host, planned: Planned) -> str:
    """Return in words what a time is set aside for, and why the host keeps a booking that it can't serve."""
    booking = ctx.store.bookings.get(planned.id) if planned.is_booking else None
    if booking is not None:
        from bmhctl.domain.booking import is_broken
        from bmhctl.domain.room import unusable
        from bmhctl.usecases.shared.planned import hosts_of

        if is_broken(host, planned.starts_at):
            return f"{planned.words}; it will not be usable then, and no other host fits"
        if any(each.id == host.id for each in unusable(booking, hosts_of(ctx, booking))):
            return f"{planned.words}; it does not fit the booking any more, and no other host does"
    return planned.words


def _limited(ctx: Context, host: Host, policy: Callable[[], Policy]) -> Iterable[str]:
    """Yield in words the tickets that a free host fits but that wait for a limit of their owner."""
    if not policy().limits:
        return
    from bmhctl.domain.requirements import load_requirements
    from bmhctl.usecases.reservations.fairness import waiting_tickets
    from bmhctl.usecases.reservations.limits import waits_for

    for ticket in waiting_tickets(ctx):
        if any(requirement.fits(host.spec) for requirement in load_requirements(ticket.requirements)):
            limit = waits_for(ctx, ticket, policy().limits)
            if limit is not None:
                yield f"ticket {ticket.id} waits for {limit}"


def _setup(ctx: Context, host: Host, policy: Policy, now: datetime) -> Iterable[str]:
    """Yield how far the setup of an initial host is, and what failed."""
    if Phase.SETUP not in policy.steps:
        return
    from bmhctl.usecases.shared.setup_progress import setup_state

    state = setup_state(policy, host, ctx.store.step_results.of(host))
    if not state.steps:
        return
    counts = f"{len(state.done)} of {len(state.steps)} done"
    if state.failed is not None:
        at = f" {format_age(now - state.failed.at)} ago" if state.failed.at else ""
        yield f"setup: {state.failed.step} failed{at}, {state.failed.detail or state.failed.verdict}; {counts}"
    else:
        left = ", ".join(step.name for step in state.left)
        yield f"setup: {counts}" + (f"; next: {left}" if left else "")
    if host.failed_setups:
        yield f"its setup failed {plural(host.failed_setups, 'time')} in a row"


def _last_attempt(ctx: Context, host: Host) -> Event | None:
    """Return the newest event that moved the host or failed to; changes of the declaration don't explain a state."""
    for looked_at in (_FEW_EVENTS, None):
        events = [event for event in ctx.store.events.read(host, last=looked_at) if event.verb not in _EXPLAIN_NOTHING]
        if events:
            return events[-1]
    return None


def _answer(
    ctx: Context, host: Host, verb: Verb, inputs: GuardInput, policy: Callable[[], Policy], now: datetime
) -> VerbAnswer:
    answer = ask(verb, host.state, inputs)
    command = _COMMANDS.get(verb, f"bmhctl {verb} {{}}").format(host.name)
    if verb is Verb.RESUME and not inputs.claim:
        others = remaining_reasons(ctx, host, everyones=False)
        if others:
            actors = ", ".join(dict.fromkeys(mark.actor for mark in others))
            those = "those reasons" if len(others) > 1 else "that reason"
            words = f"stays in maintenance for {actors}; --all closes {those}, too"
            return VerbAnswer(verb, False, None, (words,), command)
        dest, words = where_resume_leads(ctx, host, now)
        return VerbAnswer(verb, None if "if its" in words else True, dest, (words,), command)
    if answer.dest is not None:
        return VerbAnswer(verb, True, answer.dest, (), command)
    guards = {guard for guard, _ in answer.refusals}
    if guards <= _DEPENDS.keys():
        dest = State.AVAILABLE if verb is Verb.READY else State.INITIAL
        asked = [
            f"if {ASKS[guard].removesuffix(' just now')}: {steps}"
            for guard in POSSIBLE[verb, host.state][0].guards
            if (phase := _DEPENDS.get(guard)) and (steps := _names(policy(), host, phase))
        ]
        if not asked:
            return VerbAnswer(verb, True, dest, ("no step applies to it",), command)
        return VerbAnswer(verb, None, dest, tuple(asked), command)
    return VerbAnswer(verb, False, None, tuple(words for _, words in answer.refusals), command)


def _retire_answer(host: Host, inputs: GuardInput, policy: Callable[[], Policy]) -> Iterable[VerbAnswer]:
    """Yield whether a host may be retired, if it is being retired or the policy has retire steps for it."""
    is_retiring = host.cordon is not None and host.cordon.retires
    if not is_retiring and Phase.RETIRE not in policy().steps:
        return
    command = f"bmhctl retire {host.name} --reason TEXT"
    if inputs.claim:
        yield VerbAnswer(Verb.RETIRE, False, None, (inputs.claim,), command)
    elif host.reservation is not None and is_retiring:
        yield VerbAnswer(Verb.RETIRE, False, None, ("it leaves once it is given back: recycle retires it",), command)
    elif host.reservation is not None:
        yield VerbAnswer(Verb.RETIRE, False, None, ("it is held: --when-free retires it later",), command)
    else:
        phases = (Phase.CLEANUP, Phase.RETIRE) if host.dirty else (Phase.RETIRE,)
        steps = ", ".join(filter(None, (_names(policy(), host, phase) for phase in phases)))
        words = f"it leaves the inventory if these pass: {steps}" if steps else "it leaves the inventory"
        yield VerbAnswer(Verb.RETIRE, None if steps else True, None, (words,), command)


def _names(policy: Policy, host: Host, phase: Phase) -> str:
    return ", ".join(step.name for step in policy.applying(phase, host.spec))


_COMMANDS = {
    Verb.MAINTAIN: "bmhctl maintain {} --reason TEXT",
    Verb.RESERVE: "bmhctl reserve {} --for PURPOSE",
}


def _take(ctx: Context, host: Host, now: datetime) -> str | None:
    """Return the command that takes the booking of a host, if it is the actor's and has begun; else None."""
    first = host.planned[0]
    is_mine = first.is_booking and first.owner == ctx.actor and first.starts_at <= now < first.ends_at
    return f"bmhctl reserve --booking {first.id}" if is_mine else None


def _next(ctx: Context, host: Host, inputs: GuardInput, now: datetime) -> str | None:
    match host.state:
        case _ if host.cordon is not None and host.cordon.retires and host.reservation is None:
            return f"bmhctl retire {host.name} --reason {shlex.quote(host.cordon.reason)}"
        case State.INITIAL:
            return f"bmhctl ready {host.name}"
        case _ if host.undeclared:
            return f"bmhctl remove {host.name}" if not host.dirty else None
        case State.AVAILABLE if host.cordon is not None:
            return f"bmhctl uncordon {host.name}"
        case State.AVAILABLE:
            return _take(ctx, host, now) if host.planned else None
        case State.RESERVED if not inputs.reservation_valid:
            return "bmhctl reap"
        case State.RESERVED:
            mine = host.reservation is not None and host.reservation.owner == ctx.actor
            return f"bmhctl release {host.name}" if mine else None
        case State.TAINTED:
            return f"bmhctl reset {host.name}"
        case State.MAINTENANCE:
            return f"bmhctl resume {host.name}" if not remaining_reasons(ctx, host, everyones=False) else None
