"""The methods of an inventory for reservations, bookings and the queue."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime, timedelta

from bmhctl.api.opened import Opened, done
from bmhctl.domain.model import Reservation, TaskResult
from bmhctl.domain.requirements import ReservationRequest, parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.times import in_utc, parse_moment
from bmhctl.domain.units import parse_duration
from bmhctl.errors import BmhctlError, NotFoundError, NotYoursError, UsageError
from bmhctl.results import Held, Outcomes
from bmhctl.results.bookings import Booked
from bmhctl.stores import open_store
from bmhctl.usecases import lifecycle_verbs
from bmhctl.usecases.reservations import bookings, holder, queue, replacement, reserve, waiting
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, unfold


class Reserving(Opened):
    """Reserve hosts and give them back, book them for later, and order the queue."""

    def reserve(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        purpose: str | None = None,
        ttl: timedelta | str | None = None,
        wait: timedelta | str | bool | None = None,
        request_id: str | None = None,
        check: bool = False,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        booking: str | None = None,
    ) -> Held:
        """Reserve hosts, all or none: those named, ``count`` that fit ``selector``, or those that ``wants`` requires.

        Each of ``wants`` is a selector and a count, such as ``"arch=arm64*2"``. ``ttl`` is how long the lease lasts
        (``"none"``: without end; default: the policy's). ``wait`` is how long to wait in the queue while hosts are busy
        (True: without limit; None: not at all). A call with the ``request_id`` of an earlier call returns the same
        reservation. ``check`` runs the readiness checks first, and takes only hosts that pass. ``params`` are values
        for the prepare steps of the policy, which run before this returns. ``tags`` are kept with the reservation.
        ``booking`` is the id of a booking to take, in place of names and selectors. ``purpose`` is shown to others.

        Returns the reservation and its hosts. Raises :class:`~bmhctl.errors.BusyError` if too few hosts are free,
        :class:`~bmhctl.errors.UnsatisfiableError` if no hosts of this inventory can ever fit,
        :class:`~bmhctl.errors.WaitTimeoutError` if hosts were not free before the end of ``wait``,
        :class:`~bmhctl.errors.StepFailedError` if hosts can't be prepared, and :class:`~bmhctl.errors.NotFoundError`
        for an unknown host or booking.
        """
        request = _request(names, selector, count, wants, ttl, purpose, request_id, params, tags, booking)
        patience = None
        if wait is not None and wait is not False:
            patience = waiting.WaitOptions(_pause, None if wait is True else _length(wait))
        return reserve.reserve_or_wait(self._context, request, patience, check=check).held

    def plan_reserve(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        ttl: timedelta | str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Outcomes:
        """Return which hosts :meth:`reserve` would reserve now, and raise its errors; nothing changes.

        The parameters are those of :meth:`reserve`.
        """
        plan = reserve.plan_reserve(self._context, _request(names, selector, count, wants, ttl, params=params))
        return Outcomes("reserve", plan.items, plan.notes)

    @contextmanager
    def reserved(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        purpose: str | None = None,
        ttl: timedelta | str | None = None,
        wait: timedelta | str | bool | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        renew: bool = False,
    ) -> Iterator[Held]:
        """Reserve hosts for a ``with`` block, and give them back when the block ends or raises.

        The parameters are those of :meth:`reserve`. With ``renew``, a thread extends the lease at a third of its length
        while the block runs; without it, choose a ``ttl`` that is longer than the block takes. If the lease is lost,
        :class:`~bmhctl.errors.NotYoursError` is raised at the end of the block.
        """
        held = self.reserve(
            *names,
            selector=selector,
            count=count,
            wants=wants,
            purpose=purpose,
            ttl=ttl,
            wait=wait,
            params=params,
            tags=tags,
        )
        try:
            with _renewed(self._context, held.reservation) if renew else nullcontext():
                yield held
        except BaseException as error:
            try:
                self._end_task(held, f"task failed: {type(error).__name__}", TaskResult.FAILED)
            except BmhctlError as lost:
                error.add_note(f"and its hosts could not be given back: {lost.message}")
            raise
        self._end_task(held, "task completed", TaskResult.COMPLETED)

    def _end_task(self, held: Held, reason: str, task: TaskResult) -> None:
        done(
            lifecycle_verbs.release(self._context, Choice(), reservation=held.reservation.id, reason=reason, task=task)
        )

    def extend(self, reservation: str, ttl: timedelta | str | None = None) -> Held:
        """Extend a lease until ``ttl`` from now (default: its own length); return the reservation with its hosts.

        The lease never gets shorter. It ends earlier than asked for if the policy's ``max_ttl``, a limit, or a booking
        or planned maintenance of its hosts requires that. Raises :class:`~bmhctl.errors.NotYoursError` if the lease has
        ended, and :class:`~bmhctl.errors.NotFoundError` for an unknown id.
        """
        return holder.extend(self._context, reservation, _length(ttl)).held

    def handover(self, reservation: str, to: str) -> Held:
        """Give this actor's reservation to the owner ``to``; return it with its new id and its hosts.

        The old id is no longer valid. Raises :class:`~bmhctl.errors.NotYoursError` if another owner has the reservation
        or its lease has ended, :class:`~bmhctl.errors.NotFoundError` for an unknown id, and
        :class:`~bmhctl.errors.UsageError` for an empty owner. A limit of the new owner raises
        :class:`~bmhctl.errors.BusyError` or :class:`~bmhctl.errors.UnsatisfiableError`.
        """
        return holder.handover(self._context, reservation, to).held

    def share(self, reservation: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Held:
        """Let the owners in ``add`` extend and release a reservation, and forbid it to those in ``remove``; return it.

        Raises :class:`~bmhctl.errors.NotYoursError` if the lease has ended, :class:`~bmhctl.errors.NotFoundError` for
        an unknown id, and :class:`~bmhctl.errors.UsageError` if no owner is given, or one in ``remove`` does not share
        the reservation.
        """
        return holder.share(self._context, reservation, add=(*add,), remove=(*remove,), token=reservation).held

    def replace(self, name: str, reservation: str, *, reason: str) -> Held:
        """Replace the host ``name`` of a reservation by a free host that fits; return the reservation with its hosts.

        The replaced host is tainted, with ``reason`` as its fault. Raises :class:`~bmhctl.errors.BusyError` if no other
        host is free, :class:`~bmhctl.errors.NotYoursError` if the lease has ended or does not hold the host,
        :class:`~bmhctl.errors.StepFailedError` if the new host can't be prepared, and
        :class:`~bmhctl.errors.NotFoundError` for an unknown host or reservation.
        """
        return replacement.replace_host(self._context, name, reservation, reason).held

    def release(self, reservation: str, *, reason: str | None = None, dry_run: bool = False) -> Outcomes:
        """Give back all hosts that a reservation still holds; return the outcome of each.

        Raises :class:`~bmhctl.errors.NotYoursError` if its lease has ended.
        """
        return done(lifecycle_verbs.release(self._with(dry_run), Choice(), reservation=reservation, reason=reason))

    def reap(self, *, dry_run: bool = False) -> tuple[Held, ...]:
        """End the leases that have expired; return these reservations with the hosts that they held."""
        return holder.reap_expired(self._with(dry_run)).items

    def book(
        self,
        *names: str,
        begins: datetime | str,
        ends: datetime | str | None = None,
        ttl: timedelta | str | None = None,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        purpose: str | None = None,
        request_id: str | None = None,
        weekly: int = 1,
    ) -> tuple[Booked, ...]:
        """Book hosts, all or none, from ``begins`` until ``ends`` or for ``ttl``; return the bookings.

        ``names``, ``selector``, ``count`` and ``wants`` are as in :meth:`reserve`. Times are datetimes with a zone, or
        texts as for ``reserve --from``. ``weekly`` is for how many weeks in a row the same time is booked. A call with
        the ``request_id`` of an earlier call returns the same bookings.

        Raises :class:`~bmhctl.errors.BusyError` if too few hosts are free at that time,
        :class:`~bmhctl.errors.UnsatisfiableError` if too few hosts could ever fit, and
        :class:`~bmhctl.errors.UsageError` for a beginning in the past or an end that is not after it.
        """
        request = _request(names, selector, count, wants, purpose=purpose, request_id=request_id)
        now = self._context.clock()
        starts = _moment(begins, now)
        length = _length(ttl)
        if (ends is None) == (length is None):
            raise UsageError("give one end of the booking: ends or ttl")
        until = _moment(ends, starts, now) if ends is not None else starts + (length or timedelta())
        return bookings.book(self._context, request, starts, until, weekly=weekly).items

    def cancel_booking(self, booking: str) -> None:
        """Cancel a booking of this actor, or a planned maintenance, by its id.

        Raises :class:`~bmhctl.errors.NotYoursError` for another owner's booking,
        :class:`~bmhctl.errors.StateRefusedError` if it has ended, and :class:`~bmhctl.errors.NotFoundError` for an
        unknown id.
        """
        bookings.cancel(self._context, booking)

    def move_ticket(self, ticket: int, *, before: int | None = None, reason: str) -> None:
        """Move a ticket to the front of the queue, or to just before the ticket ``before``; record the ``reason``.

        Raises :class:`~bmhctl.errors.NotFoundError` for a ticket that is not in the queue, and
        :class:`~bmhctl.errors.UsageError` for an empty reason.
        """
        queue.move(self._context, ticket, reason, before=before)


@contextmanager
def _renewed(context: Context, reservation: Reservation) -> Iterator[None]:
    """Extend a lease while the block runs, in a thread with its own connection."""
    length = reservation.ttl
    if length is None:
        yield
        return
    over = threading.Event()

    def renew() -> None:
        pause = length.total_seconds() / 3
        while not over.wait(pause):
            try:
                with closing(open_store(context.store.address)) as store:
                    mine = Context(store=store, actor=context.actor, clock=store.now, environ=context.environ)
                    holder.extend(mine, reservation.id, silent=True)
                pause = length.total_seconds() / 3
            except (NotFoundError, NotYoursError):
                return  # the lease is lost, which the end of the block reports
            except BmhctlError:
                pause = min(1.0, length.total_seconds() / 10)  # the inventory can't be reached: try again soon

    thread = threading.Thread(target=renew, name="bmhctl renews the lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _request(
    names: Sequence[str],
    selector: str | None,
    count: int | None,
    wants: Sequence[str],
    ttl: timedelta | str | None = None,
    purpose: str | None = None,
    request_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    booking: str | None = None,
) -> ReservationRequest:
    return reservation_request(
        unfold(names),
        None if selector is None else parse_selector(selector),
        count,
        [parse_requirement(text) for text in wants],
        purpose=purpose,
        ttl=None if ttl == "none" else _length(ttl),
        endless=ttl == "none",
        request_id=request_id,
        params=params,
        tags=tags,
        booking=booking,
    )


def _pause(seconds: float, wakes: int | None) -> None:
    if wakes is None:
        time.sleep(seconds)
    else:
        select.select([wakes], [], [], seconds)


def _moment(value: datetime | str, after: datetime, said: datetime | None = None) -> datetime:
    return parse_moment(value, after, said=said) if isinstance(value, str) else in_utc(value)


def _length(value: timedelta | str | bool | None) -> timedelta | None:
    if isinstance(value, bool):
        return None
    return parse_duration(value) if isinstance(value, str) else value
