"""The Python API: an inventory as an object whose methods are the commands.

Methods raise the errors of :mod:`bmhctl.errors` that the commands report, and return the results of
:mod:`bmhctl.results`. Durations are :class:`~datetime.timedelta` or text such as ``"20m"``.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bmhctl.domain.model import Event, Host, Reservation, State, TaskResult
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.units import parse_duration
from bmhctl.errors import BmhctlError, StateRefusedError, UsageError
from bmhctl.results import Held, Outcomes
from bmhctl.support.actor import default_actor
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choice

if TYPE_CHECKING:
    from typing import Self

    from bmhctl.results.bookings import Booked
    from bmhctl.results.queue import Queued, TicketChange
    from bmhctl.results.status import Status
    from bmhctl.results.why import Why
    from bmhctl.usecases.reservations.request import ReservationRequest


def open_inventory(
    location: str | Path,
    *,
    actor: str | None = None,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[str], None] | None = None,
    create: bool = False,
) -> Inventory:
    """Open an inventory: a ``.toml`` or a ``.db`` file, or ``postgresql://…``. Use it as a context manager.

    An inventory may be used in one thread only. ``actor`` is who acts (default: ``$BMHCTL_ACTOR``, or user@hostname).
    ``clock`` returns the time by which leases are judged (default: the store's clock). ``tell`` is called with each
    warning, a line of text. ``create`` makes an empty inventory if there is none.

    Raises :class:`~bmhctl.errors.UnreachableError` if it can't be opened, and
    :class:`~bmhctl.errors.InvalidError` if it is damaged or written by a newer bmhctl.

    >>> import tempfile
    >>> from bmhctl import open_inventory
    >>> folder = tempfile.TemporaryDirectory()
    >>> with open_inventory(f"{folder.name}/lab.db", actor="ci", create=True) as lab:
    ...     added = lab.add("node01", "node02", labels={"arch": "arm64"})
    ...     checked = lab.ready("node01", "node02")
    ...     with lab.reserved(selector="arch=arm64", count=2, purpose="nightly", ttl="20m") as held:
    ...         names = [host.name for host in held.hosts]
    ...     print(names, [str(host.state) for host in lab.hosts()])
    ['node01', 'node02'] ['tainted', 'tainted']
    >>> folder.cleanup()
    """
    from bmhctl.stores import open_store, state_files

    state_files.shared_folder = os.environ.get(state_files.VARIABLE)
    if create:
        from bmhctl.usecases.inventories import init

        with suppress(StateRefusedError):  # it exists already
            init(str(location))
    actor = actor or default_actor(os.environ)  # before the store is open: a failure here would leave it open
    store = open_store(str(location))
    context = Context(
        store=store,
        actor=actor,
        clock=clock or store.now,
        environ=dict(os.environ),
        report=tell or (lambda _: None),
    )
    return Inventory(context)


class Inventory:
    """An open inventory; see :func:`open_inventory`.

    Methods that take ``names`` and ``selector`` choose hosts as the command line does: exact names, globs and folded
    ranges, narrowed by the selector. If the verb fails for one host, the others are still processed; then the error is
    raised, as one :class:`~bmhctl.errors.BmhctlError` for all failures. Every method that writes first ends expired
    leases. With ``dry_run=True`` a method changes nothing: it returns what would become of each host, and raises what
    would fail.

    Any method may raise :class:`~bmhctl.errors.UnreachableError` if the inventory can't be read or written.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def _with(self, dry_run: bool) -> Context:
        return replace(self._context, dry_run=dry_run) if dry_run else self._context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the inventory."""
        self._context.store.close()

    # reading

    def hosts(self, *names: str, selector: str | None = None, states: Iterable[State] = ()) -> list[Host]:
        """Return the chosen hosts, by name; all hosts if neither names, nor a selector, nor states are given.

        Raises :class:`~bmhctl.errors.NotFoundError` for a name or a glob that matches no host.
        """
        from bmhctl.errors import combine
        from bmhctl.usecases.queries import list_hosts

        found = list_hosts(self._context, choice(names, selector, states))
        error = combine(found.missing)
        if error is not None:
            raise error
        return list(found.hosts)

    def host(self, name: str) -> Host:
        """Return one host; raise :class:`~bmhctl.errors.NotFoundError` if there is none of this name."""
        from bmhctl.usecases.queries import show

        return show(self._context, name).host

    def reservations(self) -> tuple[Held, ...]:
        """Return the open reservations with their hosts, the oldest first."""
        from bmhctl.usecases.queries import reservations

        return reservations(self._context).items

    def status(self) -> Status:
        """Return the fleet in short: counts by state, open reservations, what ends next, what needs attention."""
        from bmhctl.usecases.status import status

        return status(self._context)

    def why(self, name: str) -> Why:
        """Return why a host is in its state, and which verbs are possible.

        Raises :class:`~bmhctl.errors.NotFoundError`.
        """
        from bmhctl.usecases.explain import why

        return why(self._context, name)

    def history(self, name: str | None = None, last: int | None = None) -> list[Event]:
        """Return the events of a host, or of all hosts, oldest first; with ``last``, only so many of the newest.

        Also for a host that was removed. Raises :class:`~bmhctl.errors.NotFoundError` for a name that never was one.
        """
        from bmhctl.usecases.queries import history

        return list(history(self._context, name, last).events)

    def queue(self) -> tuple[Queued, ...]:
        """Return the tickets of waiting commands in their order, each with what it still lacks."""
        from bmhctl.usecases.reservations.queue import queue

        return queue(self._context).items

    def move_ticket(self, ticket: int, *, before: int | None = None, reason: str) -> None:
        """Move a ticket to the front of the queue, or just before another one; recorded with the reason.

        Raises :class:`~bmhctl.errors.NotFoundError` for a ticket that is not in the queue.
        """
        from bmhctl.usecases.reservations.queue import move

        move(self._context, ticket, reason, before=before)

    def queue_history(self, last: int | None = None) -> tuple[TicketChange, ...]:
        """Return what became of the tickets, oldest event first; with ``last``, only so many of the newest."""
        from bmhctl.usecases.reservations.queue import queue_history

        return queue_history(self._context, last).items

    # the hosts themselves

    def add(
        self,
        *names: str,
        address: str | None = None,
        mac: str | None = None,
        labels: dict[str, str] | None = None,
        hardware: dict[str, str | int] | None = None,
        bmc: str | None = None,
        credentials: str | None = None,
        note: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Add hosts, all or none, in the state ``initial``; return the outcome of each.

        A machine that was removed while it was used enters as ``tainted``. Raises
        :class:`~bmhctl.errors.StateRefusedError` for a name that is taken, :class:`~bmhctl.errors.InvalidError` for a
        MAC that another host has, and :class:`~bmhctl.errors.UsageError` for an attribute that is not valid.
        """
        from bmhctl.usecases.hosts import AttributeChanges, add

        changes = AttributeChanges(
            address=address,
            mac=mac,
            note=note,
            bmc=bmc,
            credentials=credentials,
            labels=labels or {},
            hardware=hardware or {},
        )
        return _done(add(self._with(dry_run), names, changes))

    def remove(
        self,
        *names: str,
        selector: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Outcomes:
        """Remove hosts; their history stays. Return the outcome of each.

        A reserved or dirty host is refused (:class:`~bmhctl.errors.StateRefusedError`) unless ``force`` is given with a
        ``reason``.
        """
        from bmhctl.usecases.hosts import remove

        return _done(remove(self._with(dry_run), choice(names, selector), force=force, reason=reason))

    def undo(self, *, dry_run: bool = False) -> Outcomes:
        """Take back the last change of what is declared; return the outcome of each host. Twice restores it.

        Raises :class:`~bmhctl.errors.StateRefusedError` when there is none, or something happened to its hosts since.
        """
        from bmhctl.usecases.undo import undo

        return _done(undo(self._with(dry_run)))

    # the lifecycle

    def ready(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Run the steps that initial hosts need, and make those that pass available; return the outcomes.

        Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        from bmhctl.usecases.steps.step_verbs import ready

        return _done(ready(self._with(dry_run), choice(names, selector)))

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
        """Reserve hosts, all or none: the named ones, ``count`` that fit ``selector``, or what ``wants`` requires.

        Each of ``wants`` is a selector and a count, such as ``"arch=arm64*2"``. ``ttl`` is how long the lease lasts
        (``"none"``: without end; default: the policy's). ``wait`` is how long to wait in the queue while hosts are busy
        (True: without limit; None: not at all). A call with the ``request_id`` of an earlier one returns the same
        reservation. ``check`` runs the readiness checks first, and takes only hosts that pass. ``params`` are values
        for the prepare steps of the policy, which run before this returns; ``tags`` are kept with the reservation.
        ``booking`` is the id of a booking to take: it says which hosts.

        Returns the reservation and its hosts. Raises :class:`~bmhctl.errors.BusyError` if none is free,
        :class:`~bmhctl.errors.UnsatisfiableError` if no hosts of this inventory can ever fit,
        :class:`~bmhctl.errors.WaitTimeoutError` if the wait was too long, :class:`~bmhctl.errors.StepFailedError` if
        hosts can't be prepared, and :class:`~bmhctl.errors.NotFoundError`.
        """
        from bmhctl.usecases.reservations.reserve import reserve_or_wait
        from bmhctl.usecases.reservations.waiting import WaitOptions

        request = _request(names, selector, count, wants, ttl, purpose, request_id, params, tags, booking)
        patience = None
        if wait is not None and wait is not False:
            patience = WaitOptions(_pause, None if wait is True else _length(wait))
        return reserve_or_wait(self._context, request, patience, check=check).held

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

        Times are aware datetimes, or texts as ``reserve --from`` takes them. ``weekly`` books the same time of so many
        weeks. Raises :class:`~bmhctl.errors.BusyError` if hosts are missing then, and
        :class:`~bmhctl.errors.UnsatisfiableError` if they always would be.
        """
        from bmhctl.usecases.reservations.bookings import book

        request = _request(names, selector, count, wants, purpose=purpose, request_id=request_id)
        now = self._context.clock()
        starts = _moment(begins, now)
        length = _length(ttl)
        if (ends is None) == (length is None):
            raise UsageError("give one end of the booking: ends or ttl")
        until = _moment(ends, starts, now) if ends is not None else starts + (length or timedelta())
        return book(self._context, request, starts, until, weekly=weekly).items

    def bookings(self) -> tuple[Booked, ...]:
        """Return the open bookings and planned maintenances, the first to start first."""
        from bmhctl.usecases.reservations.bookings import bookings

        return bookings(self._context).items

    def cancel_booking(self, booking: str) -> None:
        """Cancel a booking or a planned maintenance of this actor. Raises :class:`~bmhctl.errors.NotYoursError`."""
        from bmhctl.usecases.reservations.bookings import cancel

        cancel(self._context, booking)

    def plan_reserve(
        self,
        *names: str,
        selector: str | None = None,
        count: int | None = None,
        wants: Sequence[str] = (),
        ttl: timedelta | str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Outcomes:
        """Return which hosts :meth:`reserve` would reserve now, and raise what it would raise; nothing changes."""
        from bmhctl.usecases.reservations.reserve import plan_reserve

        plan = plan_reserve(self._context, _request(names, selector, count, wants, ttl, params=params))
        return Outcomes("reserve", plan.items, plan.notes)

    def extend(self, reservation: str, ttl: timedelta | str | None = None) -> Held:
        """Let a lease end ``ttl`` from now (default: its own length); return the reservation.

        It never gets shorter, nor longer than the policy's ``max_ttl`` allows. Raises
        :class:`~bmhctl.errors.NotYoursError` if it has expired.
        """
        from bmhctl.usecases.reservations.holder import extend

        return extend(self._context, reservation, _length(ttl)).held

    def handover(self, reservation: str, to: str) -> Held:
        """Give a reservation to another owner under a new id, and return it; the old id is no longer valid.

        Raises :class:`~bmhctl.errors.NotYoursError`.
        """
        from bmhctl.usecases.reservations.holder import handover

        return handover(self._context, reservation, to).held

    def share(self, reservation: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Held:
        """Share a reservation with other owners, who may extend and release it; ``remove`` ends that for owners.

        Raises :class:`~bmhctl.errors.NotYoursError` when the lease has ended.
        """
        from bmhctl.usecases.reservations.holder import share

        return share(self._context, reservation, add=(*add,), remove=(*remove,), token=reservation).held

    def replace(self, name: str, reservation: str, *, reason: str) -> Held:
        """Replace a bad host of a reservation by a free one that fits; the bad one is tainted.

        ``reason`` says what is wrong, and is recorded as its fault. Returns the reservation with its hosts. Raises
        :class:`~bmhctl.errors.BusyError` if no host is free.
        """
        from bmhctl.usecases.reservations.replacement import replace_host

        return replace_host(self._context, name, reservation, reason).held

    def reap(self, *, dry_run: bool = False) -> tuple[Held, ...]:
        """End the leases that have expired; return them with the hosts that they held."""
        from bmhctl.usecases.reservations.holder import reap_expired

        return reap_expired(self._context, dry_run=dry_run).items

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
        """Reserve hosts for a ``with`` block, and give them back when it ends, also when it raises.

        The parameters are those of :meth:`reserve`. With ``renew``, a thread extends the lease at a third of its length
        while the block runs; else choose ``ttl`` longer than the block takes. A lease that is lost all the same raises
        :class:`~bmhctl.errors.NotYoursError` at the end of the block.
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
        from bmhctl.usecases.lifecycle_verbs import release

        _done(release(self._context, Choice(), reservation=held.reservation.id, reason=reason, task=task))

    def taint(
        self,
        *names: str,
        selector: str | None = None,
        reason: str | None = None,
        fault: str | None = None,
        reservation: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Give hosts back as used; ``reservation`` is the id of their reservation, ``fault`` says what is broken.

        Returns the outcomes. Raises :class:`~bmhctl.errors.NotYoursError` if another owner holds a host, unless
        ``force`` is given with a ``reason``.
        """
        from bmhctl.usecases.lifecycle_verbs import taint

        chosen = choice(names, selector)
        return _done(
            taint(self._with(dry_run), chosen, reason=reason, fault=fault, reservation=reservation, force=force)
        )

    def release(self, reservation: str, *, reason: str | None = None, dry_run: bool = False) -> Outcomes:
        """Give back all hosts that a reservation still holds; return the outcomes.

        Raises :class:`~bmhctl.errors.NotYoursError` if its lease has ended.
        """
        from bmhctl.usecases.lifecycle_verbs import release

        return _done(release(self._with(dry_run), Choice(), reservation=reservation, reason=reason))

    def reset(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Run the cleanup steps of tainted hosts, and make those that it cleaned initial; return the outcomes.

        Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        from bmhctl.usecases.steps.step_verbs import reset

        return _done(reset(self._with(dry_run), choice(names, selector)))

    def retire(
        self, *names: str, selector: str | None = None, reason: str, when_free: bool = False, dry_run: bool = False
    ) -> Outcomes:
        """Clean hosts, run their retire steps and let them leave; none of them is reserved from now on.

        With ``when_free`` a held host leaves after it was given back, by ``recycle``. Raises
        :class:`~bmhctl.errors.StepFailedError` when a step fails: then the host is in maintenance.
        """
        from bmhctl.usecases.steps.retire import retire

        return _done(retire(self._with(dry_run), choice(names, selector), reason=reason, when_free=when_free))

    def undo_retire(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Keep hosts that were to be retired and have not left yet."""
        from bmhctl.usecases.steps.retire import undo_retire

        return _done(undo_retire(self._with(dry_run), choice(names, selector)))

    def maintain(
        self,
        *names: str,
        reason: str,
        selector: str | None = None,
        until: datetime | str | None = None,
        when_free: bool = False,
        dry_run: bool = False,
    ) -> Outcomes:
        """Put hosts into maintenance with a reason; return the outcomes.

        ``until`` is when they are expected back; local time if it has no offset. With ``when_free`` a held host goes
        once it is given back, and is not reserved before.
        """
        from bmhctl.domain.times import in_utc, parse_moment
        from bmhctl.usecases.lifecycle_verbs import maintain

        if isinstance(until, str):
            until = parse_moment(until, self._context.clock())
        elif until is not None:
            until = in_utc(until)
        return _done(
            maintain(self._with(dry_run), choice(names, selector), reason=reason, until=until, when_free=when_free)
        )

    def resume(
        self, *names: str, selector: str | None = None, everyones: bool = False, dry_run: bool = False
    ) -> Outcomes:
        """Close the actor's reasons for maintenance (``everyones``: all), and move hosts that have none left.

        Returns the outcomes. Raises :class:`~bmhctl.errors.StepFailedError` if a step failed.
        """
        from bmhctl.usecases.steps.resume import plan_resume, resume

        if dry_run:
            plan = plan_resume(self._context, choice(names, selector), everyones=everyones)
            return _done(Outcomes("resume", plan.items, plan.notes))
        return _done(resume(self._context, choice(names, selector), everyones=everyones))

    def cordon(
        self, *names: str, selector: str | None = None, reason: str | None = None, dry_run: bool = False
    ) -> Outcomes:
        """Keep hosts from being reserved; return the outcomes."""
        from bmhctl.usecases.lifecycle_verbs import cordon

        return _done(cordon(self._with(dry_run), choice(names, selector), reason=reason))

    def uncordon(self, *names: str, selector: str | None = None, dry_run: bool = False) -> Outcomes:
        """Allow hosts to be reserved again; return the outcomes."""
        from bmhctl.usecases.lifecycle_verbs import uncordon

        return _done(uncordon(self._with(dry_run), choice(names, selector)))


@contextmanager
def _renewed(context: Context, reservation: Reservation) -> Iterator[None]:
    """Extend a lease for the block, in a thread with a connection of its own."""
    length = reservation.ttl
    if length is None:
        yield
        return
    import threading

    over = threading.Event()

    def renew() -> None:
        from bmhctl.errors import NotFoundError, NotYoursError
        from bmhctl.stores import open_store
        from bmhctl.usecases.reservations.holder import extend

        pause = length.total_seconds() / 3
        while not over.wait(pause):
            try:
                with closing(open_store(context.store.address)) as store:
                    mine = Context(store=store, actor=context.actor, clock=store.now, environ=context.environ)
                    extend(mine, reservation.id, silent=True)
                pause = length.total_seconds() / 3
            except (NotFoundError, NotYoursError):
                return  # it is lost: the end of the block reports it
            except BmhctlError:
                pause = min(1.0, length.total_seconds() / 10)  # the inventory is away: try again soon

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
    from bmhctl.domain.requirements import parse_requirement
    from bmhctl.usecases.reservations.request import reservation_request

    return reservation_request(
        names,
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
    from bmhctl.domain.times import in_utc, parse_moment

    return parse_moment(value, after, said=said) if isinstance(value, str) else in_utc(value)


def _length(value: timedelta | str | bool | None) -> timedelta | None:
    if isinstance(value, bool):
        return None
    return parse_duration(value) if isinstance(value, str) else value


def _done(outcomes: Outcomes) -> Outcomes:
    if outcomes.error is not None:
        raise outcomes.error
    return outcomes
