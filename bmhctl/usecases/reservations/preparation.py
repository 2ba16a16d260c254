"""Prepare the hosts of a reservation before their holder gets them; replace hosts on which that fails.

The steps run under the reservation and under claims on its hosts, outside every transaction. They end before the lease
does. So if the process is killed, the reservation ends by itself, and no step runs on its hosts by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from threading import Event

from bmhctl.domain.model import EventKind, Host, Phase, Reservation
from bmhctl.domain.parameters import parameter_variables, with_values
from bmhctl.domain.policy import Step
from bmhctl.domain.units import format_duration, plural
from bmhctl.errors import BmhctlError, NotYoursError, StepFailedError
from bmhctl.probes.cancellation import Due
from bmhctl.results import Grant, Held
from bmhctl.support.values import replace
from bmhctl.support.watchdog import Deadline
from bmhctl.support.worker_pool import WorkerPool
from bmhctl.usecases.reservations.holder import give_up
from bmhctl.usecases.reservations.spares import spare_host, take_spare
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import give_back, held_reservation
from bmhctl.usecases.shared.refresh import retried
from bmhctl.usecases.shared.transitions import record_event
from bmhctl.usecases.steps.execution import Claimed, ClaimedError, StepPlan, StepsRun, claimed, in_transaction

_JOBS = 16
_GRACE = 2.0  # seconds between TERM and KILL for a step that must end with the lease
PAUSE = 0.2
"""Seconds between two checks whether another process has prepared the hosts."""


class NoSpareError(StepFailedError):
    """The preparation failed, and no other host that fits is free, so all hosts were given back."""


@retried
def forget_request(ctx: Context, reservation_id: str) -> None:
    """Allow the request of an ended reservation to be granted again under the same request id."""
    with ctx.store.transaction(shared=True):
        known = ctx.store.reservations.get(reservation_id)
        if known is not None and not known.is_open():
            ctx.store.reservations.save(replace(known, request_id=None))


class _NoneFreeError(Exception):
    """Too few hosts are free to replace those that could not be prepared."""


class Preparation:
    """The preparation of a reservation by this process; ``failed`` are the names of the hosts on which it failed.

    With ``is_new``, the holder has none of the hosts yet, and a failure gives all of them back. Otherwise a host joins
    the reservation, and only this host is prepared and given back after a failure. ``pause`` waits between two checks.
    ``is_late`` returns whether it is too late to try another host.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        is_new: bool = True,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE),
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ctx = ctx
        self._is_new = is_new
        self._pause = pause
        self._is_late = is_late
        self.failed: list[str] = []

    def run(self, granted: Grant, waiting: Sequence[Host], *, is_safe: bool = False) -> Grant:
        """Prepare the ``waiting`` hosts of a grant, and return the grant with the prepared hosts.

        A host on which a step fails is replaced by another that fits. Raises :class:`StepFailedError` after
        ``prepare_failures`` failures or when it is too late for another host, :class:`NoSpareError` when no other host
        is free, and :class:`NotYoursError` when the lease is lost. An interruption gives the hosts back, unless
        ``is_safe``: then a repeated request gets the same grant.
        """
        reservation = granted.held.reservation
        try:
            return self._run(granted, list(waiting))
        except BmhctlError:
            raise
        except BaseException:
            if not is_safe:
                with suppress(BmhctlError):  # if this fails, the lease ends by itself
                    self._give_back(reservation, waiting, "interrupted while it was prepared")
            raise

    def _run(self, granted: Grant, waiting: list[Host]) -> Grant:
        ctx, notes = self._ctx, list(granted.notes)
        reservation = granted.held.reservation
        order = [host.id for host in granted.held.hosts]
        while waiting:
            with ExitStack() as stack:
                try:
                    claims = [stack.enter_context(claimed(ctx, host)) for host in waiting]
                except ClaimedError:  # another process is preparing the hosts for the same request
                    self._pause()
                    reservation = held_reservation(ctx, reservation.id, ctx.clock())
                    if self._is_new and not reservation.is_unprepared:
                        break
                    continue
                left = [held.host for held in claims if not _is_held(held.host, reservation)]
                if left:
                    waiting = self._held_instead(reservation, left, waiting, len(order))
                    order = [host.id for host in waiting]
                    continue
                reservation = claims[0].host.reservation or reservation  # the reservation as it is now
                if self._is_new and not reservation.is_unprepared:
                    break
                ended = self._prepare(reservation, claims)
                reservation, waiting = self._settle(reservation, ended, notes, order)
        places = {host_id: place for place, host_id in enumerate(order)}
        hosts = sorted(ctx.store.hosts.held_by(reservation.id), key=lambda host: places.get(host.id, len(places)))
        return Grant(Held(reservation, tuple(hosts)), tuple(notes))

    def _held_instead(
        self, reservation: Reservation, left: Sequence[Host], waiting: Sequence[Host], number: int
    ) -> list[Host]:
        """Return the hosts that the reservation has after another process for the same request replaced some of them.

        Raises :class:`NotYoursError` when hosts were taken out of it, and gives the others back.
        """
        now = self._ctx.store.hosts.held_by(reservation.id)
        if self._is_new and len(now) == number:
            return now
        self._give_back(reservation, waiting, f"{left[0].name} was taken out of the reservation")
        raise NotYoursError(
            f"was taken out of reservation {reservation.id} before it was prepared",
            host=left[0].name,
            hint=f"bmhctl history {left[0].name}",
        )

    def _give_back(self, reservation: Reservation, waiting: Sequence[Host], reason: str) -> None:
        give_up(self._ctx, reservation.id, reason, None if self._is_new else [host.id for host in waiting])

    def _prepare(self, reservation: Reservation, claims: Sequence[Claimed]) -> list[tuple[Claimed, StepsRun]]:
        """Run the prepare steps on several hosts at once; return their results, in the order of the claims."""
        deadline = None
        if reservation.expires_at is not None:
            deadline = Deadline.of((reservation.expires_at - self._ctx.clock()).total_seconds(), _GRACE)
        plans = [(held, _plan(held, reservation, deadline)) for held in claims]
        ended: dict[int, StepsRun] = {}

        def work(task: tuple[Claimed, StepPlan], cancelled: Event) -> StepsRun:
            return task[1].run(cancelled)

        pool: WorkerPool[tuple[Claimed, StepPlan], StepsRun] = WorkerPool(work, _JOBS)

        def begin(task: tuple[Claimed, StepPlan]) -> None:
            host = task[0].host
            self._ctx.progress(f"prepare {host.name}", f"{len(ended) + 1} of {len(plans)}")
            pool.start(task)

        try:
            pool.run_all(plans, begin, lambda task, run: ended.update({task[0].host.id: run}))
        except BaseException:
            pool.cancel()
            raise
        if deadline is not None and Due(deadline.term).is_set():
            self._give_back(reservation, [held.host for held in claims], "its lease ended while it was prepared")
            length = format_duration(reservation.ttl) if reservation.ttl else "granted"
            raise StepFailedError(
                f"the lease of {length} ended while {plural(len(claims), 'host')} of {reservation.id} "
                f"{'was' if len(claims) == 1 else 'were'} prepared: all were given back",
                hint="ask for a longer lease with --ttl",
                details={"reservation": reservation.id},
            )
        for held in claims:
            held.check()
        return [(held, ended[held.host.id]) for held in claims]

    def _settle(
        self, reservation: Reservation, ended: list[tuple[Claimed, StepsRun]], notes: list[str], order: list[int]
    ) -> tuple[Reservation, list[Host]]:
        """Record the results of the steps; return the reservation, and the hosts that still have to be prepared."""
        failures = [(held.host, run.refusal) for held, run in ended if run.refusal is not None]
        if not failures:
            return _finish(self._ctx, reservation, ended, self._is_new), []
        self.failed += [host.name for host, _ in failures]
        enough = self._enough()
        spares = None if enough else _replace(self._ctx, reservation, ended, failures, notes)
        if spares is None:
            words = "; ".join(f"{host.name}: {why}" for host, why in failures)
            in_transaction(self._ctx, partial(_record, self._ctx, ended, reservation))
            self._give_back(reservation, [host for host, _ in failures], words)
            raise (StepFailedError if enough else NoSpareError)(
                f"{words}; {enough or 'no other host that fits is free'}",
                hint="bmhctl history HOST; check the parameters, and the prepare steps in bmhctl policy show",
                details={"reservation": reservation.id, "failed": list(self.failed)},
            )
        for (host, why), spare in zip(failures, spares, strict=True):
            notes.append(f"{host.name} could not be prepared: replaced by {spare.name}")
            self._ctx.report(f"{host.name}: {why}; trying {spare.name}")
            order[order.index(host.id)] = spare.id
        return reservation, spares

    def _enough(self) -> str | None:
        """Return in words why no other host is tried; None if one may be."""
        if self._is_late():
            return "the wait has timed out"
        number = len(self.failed)
        if number < self._ctx.store.policy().prepare_failures:
            return None
        return f"no other host is tried after {plural(number, 'failure')}: see prepare_failures in the policy"


def _is_held(host: Host, reservation: Reservation) -> bool:
    return host.reservation is not None and host.reservation.id == reservation.id


def _plan(held: Claimed, reservation: Reservation, deadline: Deadline | None) -> StepPlan:
    """Return the prepare steps of a host, with the values of the reservation; they are ended at the deadline."""
    values = reservation.params or {}
    plan = held.plan(Phase.PREPARE)
    if plan.environment is None:
        return plan
    environment = replace(
        plan.environment,
        params=values,
        variables={"BMH_RESERVATION": reservation.id, **parameter_variables(values)},
        is_guarded=True,
        deadline=deadline,
    )
    plan = replace(plan, steps=with_values(plan.steps, values), environment=environment)
    return plan if deadline is None else plan.ended_by(Due(deadline.term))


@retried
def _finish(
    ctx: Context, reservation: Reservation, ended: Sequence[tuple[Claimed, StepsRun]], is_new: bool
) -> Reservation:
    """Record that hosts are prepared, and return the reservation; a new reservation's lease counts from now.

    Raises :class:`bmhctl.errors.NotYoursError` when the lease was lost meanwhile.
    """
    with ctx.store.transaction():
        now = ctx.clock()
        held = held_reservation(ctx, reservation.id, now)
        if not is_new:
            _record(ctx, ended, held, now)
            return held
        expires = None if held.ttl is None or held.expires_at is None else max(held.expires_at, now + held.ttl)
        if held.expires_at and held.ttl and held.expires_at < held.created_at + held.ttl:
            expires = held.expires_at  # the booking's end limited the lease, and still does
        planned = [host for host in ctx.store.hosts.held_by(held.id) if host.planned]
        if planned and expires is not None:
            from bmhctl.usecases.reservations.booked import latest_end

            expires = max(held.expires_at or now, min(expires, latest_end(planned, ctx.store.policy())[0]))
        done = replace(held, prepared_at=now, expires_at=expires, renewed_at=now)
        ctx.store.reservations.save(done)
        _record(ctx, ended, done, now)
    return done


def _record(ctx: Context, ended: Sequence[tuple[Claimed, StepsRun]], reservation: Reservation, now: datetime) -> None:
    """Record the results for those hosts that the reservation still holds, in the caller's transaction."""
    values = ", ".join(f"{name}={value}" for name, value in (reservation.params or {}).items())
    for claim, run in ended:
        host = ctx.store.hosts.with_id(claim.host.id, lock=True)
        if host is None or not _is_held(host, reservation):
            continue
        if run.results and run.refusal is None:
            words = run.summary + (f" with {values}" if values else "")
            held = replace(host, reservation=reservation)
            host = record_event(ctx, held, EventKind.PREPARE, now, reason=words, steps=run.results)
        ctx.store.step_results.save(host, run.results, now)


@retried
def _replace(
    ctx: Context,
    reservation: Reservation,
    ended: Sequence[tuple[Claimed, StepsRun]],
    failures: Sequence[tuple[Host, str]],
    notes: list[str],
) -> list[Host] | None:
    """Replace each host on which the preparation failed, in one commit; return the new hosts.

    Adds notes on bookings that moved for this to ``notes``. Returns None, and changes nothing, if too few are free.
    """
    moved: list[str] = []
    with suppress(_NoneFreeError), ctx.store.transaction():
        now = ctx.clock()
        held = held_reservation(ctx, reservation.id, now)
        bad = {host.id for host, _ in failures}
        kept = [host for host in ctx.store.hosts.held_by(held.id) if host.id not in bad]
        spares: list[Host] = []
        steps = ctx.store.policy().of(Phase.PREPARE)
        for host, _ in failures:
            wanted = _parameters(steps, held, host)
            fits = partial(_takes, steps, held, wanted)
            found = spare_host(ctx, held, kept, bad, fits)
            if found.missing:
                raise _NoneFreeError  # undoes the moves of bookings for other hosts
            kept += found.hosts
            spares += found.hosts
            moved += found.notes
        _record(ctx, ended, held, now)
        taken = []
        for (failed, why), chosen in zip(failures, spares, strict=True):
            spare = ctx.store.hosts.with_id(chosen.id) or chosen  # a later move of a booking may have changed the host
            taken.append(take_spare(ctx, spare, failed, held, now))
            left = ctx.store.hosts.with_id(failed.id, lock=True)
            if left is not None and _is_held(left, held):
                give_back(ctx, left, now, reason=why)
        notes += moved
        return taken
    return None


def _takes(steps: Sequence[Step], reservation: Reservation, wanted: frozenset[str], host: Host) -> bool:
    """Return whether the steps of a host use all of the ``wanted`` values."""
    return wanted <= _parameters(steps, reservation, host)


def _parameters(steps: Sequence[Step], reservation: Reservation, host: Host) -> frozenset[str]:
    """Return the names of the values that the steps of a host use."""
    mine = with_values((step for step in steps if step.applies_to(host.spec)), reservation.params or {})
    return frozenset(param.name for step in mine for param in step.params)
