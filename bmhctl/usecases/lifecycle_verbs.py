"""Taint, release, maintain, cordon and uncordon: the verbs that run no steps."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.model import WHEN_FREE, End, EventKind, Host, Note, State, TaskResult, Verb
from bmhctl.domain.units import local_time
from bmhctl.errors import BmhctlError, NotYoursError, StateRefusedError, UsageError
from bmhctl.lifecycle.machine import refuse_impossible
from bmhctl.results import Outcome, Outcomes, already, moved, stayed
from bmhctl.support.values import replace
from bmhctl.usecases.shared.bulk import each_in_one_commit
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, unfold
from bmhctl.usecases.shared.leases import (
    check_token,
    check_valid,
    describe_tasks,
    forced_reason,
    give_back,
    held_reservation,
    known_reservation,
    reservation_missing,
)
from bmhctl.usecases.shared.refresh import refresh_and_reap, retried
from bmhctl.usecases.shared.transitions import add_reason, change_cordon, quarantine, record_event


def taint(
    ctx: Context,
    choice: Choice,
    *,
    reason: str | None = None,
    fault: str | None = None,
    reservation: str | None = None,
    force: bool = False,
    word: str = "taint",
) -> Outcomes:
    """Taint the chosen hosts and take them out of their reservations; return the outcome of each.

    ``reservation`` is the id of their reservation; without it, the actor must be the owner. ``force`` with a ``reason``
    overrides this. ``fault`` records what is broken. A host without a reservation is skipped; it is refused if its
    exact name or a ``fault`` is given. ``word`` is the name of the command in messages.
    """
    forced_reason(force, reason or fault)
    named = frozenset(unfold(choice.names))

    def one(host: Host, now: datetime) -> Outcome:
        if host.state is State.TAINTED:
            return _taint_again(ctx, host, now, reason, fault, reservation)
        if host.reservation is None and fault is None and host.name not in named:
            lost = None if reservation is None or force else known_reservation(ctx, reservation)
            if lost is not None and (lost.is_open() or lost.was_lost()):  # its holder did not give it back
                check_valid(lost, now)
            return already(host, "skipped: no reservation holds it")
        if not force and (reservation is not None or host.reservation is not None):
            check_token(ctx, host, reservation, now)
        if host.reservation is None:
            _refuse_free(host, word, fault)
        words = reason or (f"fault: {fault}" if fault else _REASONS[word])
        task = None if reason or fault or force or word != "taint" else TaskResult.COMPLETED
        return _give_back(ctx, host, now, words, force, fault, task)

    return each_in_one_commit(ctx, word, choice, one, force=force)


_REASONS = {"taint": "task completed", "release": "released"}
"""For each command, the reason that is recorded if none is given."""


def _refuse_free(host: Host, word: str, fault: str | None) -> None:
    """Raise the error for a host that is not reserved; for a ``fault``, its hint names ``maintain``."""
    try:
        refuse_impossible(Verb.TAINT, host, word)
    except BmhctlError as error:
        if fault:
            error.hint = f"for a host that is not reserved: bmhctl maintain {host.name} --reason TEXT"
        raise


def _taint_again(
    ctx: Context, host: Host, now: datetime, reason: str | None, fault: str | None, token: str | None
) -> Outcome:
    if token is not None:
        last = ctx.store.reservations.get(token)
        if last is None or last.is_open() or ctx.store.events.last_reservation(host) != token or last.was_lost():
            held_reservation(ctx, token, now)  # raises if the reservation has ended or does not exist
            raise NotYoursError(f"is tainted: reservation {token} does not hold it", host=host.name)
    if fault and fault != host.fault:
        record_event(ctx, replace(host, fault=fault), EventKind.FAULT, now, reason=fault)
        return stayed(host, f"fault recorded: {fault}{_not_recorded(ctx, host, reason)}")
    return already(host, f"already tainted{_not_recorded(ctx, host, reason)}")


def _not_recorded(ctx: Context, host: Host, reason: str | None) -> str:
    """Return in words that the reason is not recorded, unless the same command was called before."""
    latest = [event.reason for event in ctx.store.events.read(host, last=2)] if reason else []
    return "" if reason is None or reason in latest else "; the reason is not recorded"


def _give_back(
    ctx: Context,
    host: Host,
    now: datetime,
    words: str,
    force: bool,
    fault: str | None = None,
    task: TaskResult | None = None,
    *,
    is_last: bool | None = None,
) -> Outcome:
    if force:
        left = give_back(ctx, host, now, reason=f"forced: {words}", end=End.FORCED, is_last=is_last)
    else:
        left = give_back(ctx, host, now, reason=words, task=task, is_last=is_last)
    if fault:
        left = record_event(ctx, replace(left, fault=fault), EventKind.FAULT, now, reason=fault)
    elif task is TaskResult.FAILED and left.state is State.TAINTED and len(left.failed_tasks) > 1:
        limit, tasks = ctx.store.policy().quarantine_after_task_failures, left.failed_tasks
        if limit is not None and len(tasks) >= limit:  # the host or the tasks may be the cause: a person finds out
            why = f"quarantined after {len(tasks)} tasks failed in a row: {describe_tasks(tasks)}"
            return moved(host, quarantine(ctx, left, why, now), f"{words}; {why}")
    return moved(host, left, words)


@retried
def release(
    ctx: Context,
    choice: Choice,
    *,
    reservation: str | None = None,
    reason: str | None = None,
    force: bool = False,
    fault: str | None = None,
    task: TaskResult | None = None,
) -> Outcomes:
    """Give back the chosen hosts as ``taint`` does; if none are named, all that the reservation still holds.

    A selector sees the tags of a host's reservation before the host's labels. ``fault`` (what is broken) and ``task``
    (how the task ended) apply when all hosts are given back. Asks before all hosts of another owner are given back,
    unless the environment names the reservation.

    A reservation that its holder has given back already is a success without hosts. Raises :class:`NotYoursError` if
    its lease was lost, and :class:`bmhctl.errors.NotFoundError` for an unknown one.
    """
    forced_reason(force, reason)
    words = reason or "released"
    if choice.names or choice.selector or choice.states:
        choice = replace(choice, with_tags=True)
        return taint(ctx, choice, reason=reason, reservation=reservation, force=force, word="release")
    if reservation is None:
        raise reservation_missing(ctx, "release", "no host and no reservation is named")
    refresh_and_reap(ctx)
    if ctx.confirm is not None and ctx.environ.get("BMH_RESERVATION") != reservation:
        from bmhctl.usecases.shared.confirmation import confirm_owner

        known = ctx.store.reservations.get(reservation)
        if known is not None and known.is_open():
            confirm_owner(ctx, known, "release gives back {hosts}")
    with ctx.transaction() if ctx.dry_run else ctx.store.transaction(shared=True):
        now = ctx.clock()
        ctx.store.hosts.lock_held_by(reservation)
        held = known_reservation(ctx, reservation)
        if not held.is_open() and not held.was_lost():
            return Outcomes("release", (), (f"reservation {reservation} was given back already",))
        check_valid(held, now)
        hosts = ctx.store.hosts.held_by(reservation)
        outcomes = [_give_back(ctx, host, now, words, force, fault, task, is_last=host is hosts[-1]) for host in hosts]
    return Outcomes("release", tuple(outcomes))


def maintain(
    ctx: Context, choice: Choice, *, reason: str, until: datetime | None = None, when_free: bool = False
) -> Outcomes:
    """Put hosts into maintenance with a reason; if they are in maintenance, add the reason. Return the outcomes.

    With ``when_free``, a reserved host is cordoned instead, and goes to maintenance when it is given back, in the same
    commit. ``until`` is when the host should be back, for information. Raises :class:`UsageError` for an empty reason.
    """
    if not reason.strip():
        raise UsageError("maintain needs a reason", hint="bmhctl maintain HOST --reason 'new disk'")

    def one(host: Host, now: datetime) -> Outcome:
        mark = Note(ctx.actor, reason, now, until)
        if when_free and host.reservation is not None:
            return _drain(ctx, host, mark)
        if host.state is not State.MAINTENANCE:
            left = add_reason(ctx, host, mark, now, has_claim=False)
            return moved(host, left, f"{reason}{_ending(until)}{_held(host)}")
        same = [m for m in host.maintenance if (m.actor, m.reason) == (mark.actor, mark.reason)]
        if same and same[0].until == until:
            return already(host, f"already in maintenance: {reason}")
        others = tuple(m for m in host.maintenance if m not in same)
        mark = replace(mark, since=same[0].since) if same else mark
        add_reason(ctx, replace(host, maintenance=others), mark, now)
        words = f"{'end changed' if same else 'reason added'}: {reason}{_ending(until)}"
        return stayed(host, words)

    return each_in_one_commit(ctx, "maintain", choice, one)


def _ending(until: datetime | None) -> str:
    return f" (until {local_time(until)})" if until else ""


def _held(host: Host) -> str:
    return "" if host.reservation is None else f"; held by {host.reservation.words}"


def _drain(ctx: Context, host: Host, mark: Note) -> Outcome:
    """Cordon a held host so that it goes to maintenance when it is given back; return its outcome."""
    before = host.cordon
    if before is not None and before.retires:
        return already(host, f"is being retired by {before.actor}: no reservation is made on it")
    words = f"goes to maintenance when it is free: {mark.reason}"
    if before is not None and before.maintains and (before.reason, before.until) == (mark.reason, mark.until):
        return already(host, f"already {words}")
    cordon = replace(mark, maintains=True).over(before)
    change_cordon(ctx, host, cordon, mark.since, f"{WHEN_FREE}{mark.reason}", "maintain --when-free")
    return stayed(host, words + _held(host))


def cordon(ctx: Context, choice: Choice, *, reason: str | None = None) -> Outcomes:
    """Keep hosts from being reserved from now on; reserved hosts stay with their holders. Return the outcomes."""

    def one(host: Host, now: datetime) -> Outcome:
        if host.cordon is not None and host.cordon.retires:
            return already(host, f"is being retired by {host.cordon.actor}: no reservation is made on it")
        if host.cordon is not None and host.cordon.maintains:
            return already(host, f"already goes to maintenance when it is free: {host.cordon.reason}")
        if host.cordon is not None and reason in (None, host.cordon.reason):
            return already(host, f"already cordoned by {host.cordon.actor}")
        change_cordon(ctx, host, Note(ctx.actor, reason or "", now), now, reason)
        return stayed(host, "cordoned" + (f": {reason}" if reason else ""))

    return each_in_one_commit(ctx, "cordon", choice, one)


def uncordon(ctx: Context, choice: Choice) -> Outcomes:
    """Allow hosts to be reserved again; return the outcome of each.

    The outcome of a host that is being retired is a :class:`StateRefusedError`.
    """

    def one(host: Host, now: datetime) -> Outcome:
        if host.cordon is None:
            return already(host, "is not cordoned")
        if host.cordon.retires:
            raise StateRefusedError(
                f"is being retired by {host.cordon.actor}: {host.cordon.reason}",
                host=host.name,
                hint=f"to keep it: bmhctl retire {host.name} --undo",
            )
        change_cordon(ctx, host, None, now, None)
        return stayed(host, "uncordoned")

    return each_in_one_commit(ctx, "uncordon", choice, one)
