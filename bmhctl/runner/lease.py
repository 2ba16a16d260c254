"""Renew a lease while a task runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from bmhctl.domain.model import Host, Reservation
from bmhctl.domain.units import SECONDS, format_age, format_duration, local_time, plural
from bmhctl.errors import BmhctlError, GoneError, MovedError, NotFoundError, NotYoursError, RetiredError, UsageError
from bmhctl.results import Held
from bmhctl.runner import child
from bmhctl.support.values import Frozen, replace
from bmhctl.support.watchdog import Deadline, steady
from bmhctl.usecases.reservations.holder import extend
from bmhctl.usecases.shared.context import Context

SHORTEST = timedelta(seconds=2)
"""The shortest lease for a task: it is renewed after one third, and the task is ended at two thirds."""

_LOOK = 1.0  # seconds between two checks whether the reservation still exists
_RETRY = 1.0  # seconds between two tries to reach an inventory
_SHORTEST = 0.05  # seconds between two renewals once the lease is as long as the policy allows
_BACK = 2.0  # seconds in which a missing inventory file may come back
_STEP = 0.05  # seconds; if the clock is off by more, in either direction, the deadline is moved to an earlier time
_WARNINGS = (timedelta(hours=1), timedelta(minutes=10))  # how long before a planned end it is reported


def check_length(ttl: timedelta | None) -> None:
    """Raise :class:`UsageError` for a lease that is too short to run a task and end it in time."""
    if ttl is not None and ttl < SHORTEST:
        shortest = format_duration(SHORTEST)
        raise UsageError(
            f"a lease of {ttl.total_seconds():g} s is too short: a task could not be ended before it expires",
            hint=f"the shortest that works is --ttl {shortest}",
        )


class Loss(Frozen):
    """Why a task has to end. ``is_free`` is true if another job may already have its hosts, before the lease ends."""

    reason: str
    is_free: bool


class Lease:
    """A lease that is renewed after a third of its remaining time, again and again, as long as that is possible.

    :meth:`keep` may be delayed, for example while another command writes for long. Another thread can still ask
    :meth:`lost` whether the task has to end. ``wake`` is called when the answer may have changed, and
    ``tell_deadline``, if it is set, when the deadline has changed.

    A lease is not renewed beyond a booking or planned maintenance of its hosts. That is reported when it is first seen,
    and again one hour and ten minutes before the lease ends.
    """

    def __init__(self, ctx: Context, held: Held, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._id = held.reservation.id
        self._names = {host.name for host in held.hosts}
        self._loss: Loss | None = None
        self._trouble: str | None = None
        self._gone_since: float | None = None
        self._wake = wake
        self.tell_deadline: Callable[[Deadline | None], None] = lambda _: None
        self._ends: datetime | None = None
        self._deadline: Deadline | None = None
        self._setting = threading.Lock()  # held while the deadline is set
        self._next_renewal = float("inf")
        self._line: datetime | None = None
        self._planned = ""
        self._reported: set[timedelta] = set()
        self._ends_with(held.reservation, self._now())

    @property
    def deadline(self) -> Deadline | None:
        """The times at which the task has to be ended; None for a lease without an end."""
        return self._deadline

    def lost(self) -> Loss | None:
        """Return why the task has to end now: the lease is lost, or ends too soon; None while it is valid.

        Return None also after the holder gave the reservation back. This reads no database, so a locked one does not
        delay it.
        """
        # The thread of `keep` may set a loss at any moment: never overwrite it with None.
        if self._loss is None and (why := self._why_moved()) is not None:
            self._loss = Loss(why, is_free=True)
        if self._loss is None and (why := self._why_over()) is not None:
            self._loss = Loss(why, is_free=self._ctx.clock() >= (self._ends or datetime.max.replace(tzinfo=UTC)))
        return self._loss

    def grace(self) -> float:
        """Return how many seconds a task that has to end now may take: few if another job may have its hosts."""
        loss = self.lost()
        most = child.GRACE if loss is None or not loss.is_free else child.LOST_GRACE
        return most if self._deadline is None else min(most, self._deadline.kill - steady())

    def _why_over(self) -> str | None:
        with self._setting:
            ends, deadline = self._ends, self._deadline
            if ends is None or deadline is None:
                return None
            left = (ends - self._ctx.clock()).total_seconds()
            sooner = deadline.ends - (steady() + left)
            if sooner > _STEP:  # the clock was set ahead
                self._deadline = deadline = deadline.sooner(sooner)
                self._next_renewal = 0.0
        if sooner > _STEP:
            self.tell_deadline(deadline)
        if steady() < deadline.term:
            return None
        if self._is_at_line():
            return f"it ends at {local_time(ends, SECONDS)}: {self._planned}"
        trouble = f": {self._trouble}" if self._trouble else ""
        return f"it ends at {local_time(ends, SECONDS)} and was not renewed in time{trouble}"

    def _why_moved(self) -> str | None:
        try:
            self._ctx.store.check_in_place()
        except MovedError as error:
            return self._is_lost_by(error)
        except BmhctlError:
            return None  # unknown while the inventory is unavailable; the lease can't be renewed then either
        self._gone_since = None
        return None

    def _is_lost_by(self, error: MovedError) -> str | None:
        """Return why the lease is lost with its inventory; None while a missing file may still come back."""
        if not isinstance(error, GoneError):
            return error.message
        self._gone_since = steady() if self._gone_since is None else self._gone_since
        return error.message if steady() - self._gone_since > _BACK else None

    def keep(self, over: threading.Event) -> None:
        """Renew the lease until the event is set, or the reservation has ended."""
        next_look = 0.0
        while not over.wait(min(next_look, self._next_renewal) - time.monotonic()):
            try:
                if not self._look():
                    return
                self._trouble = None
            except (NotYoursError, NotFoundError) as error:
                self._lose(error.message)
                return
            except BmhctlError as error:  # the inventory may be back before the lease ends
                if isinstance(error, MovedError) and (why := self._is_lost_by(error)) is not None:
                    self._lose(why)
                    return
                if isinstance(error, RetiredError) and self._trouble is None:
                    self._ctx.report(
                        f"the lease is not renewed any more: {error.message}; the task ends with the lease"
                    )
                self._trouble = error.message
                self._next_renewal = min(self._plan(), time.monotonic() + _RETRY)
            next_look = time.monotonic() + _LOOK

    def _lose(self, why: str) -> None:
        self._loss = Loss(why, is_free=True)
        self._wake()

    def _now(self) -> tuple[float, datetime]:
        """Return the time of the steady clock, in seconds, and of the clock of the leases, which may be set."""
        return steady(), self._ctx.clock()

    def _ends_with(self, held: Reservation, before: tuple[float, datetime]) -> None:
        """Store the end of a reservation that was read after the moment ``before``, and plan the next renewal."""
        with self._setting:
            self._ends, self._deadline = held.expires_at, None
            if held.expires_at is not None:
                now, clock = self._now()
                granted = held.expires_at - held.counted_from
                left = min(held.expires_at - clock, granted).total_seconds()
                elapsed = now - before[0]
                back = elapsed - (clock - before[1]).total_seconds()
                if back > _STEP:  # the clock was set back, perhaps after a renewal that used the wrong time
                    left = min(left, max(left - back, granted.total_seconds() - elapsed))
                self._deadline = Deadline.of(left, child.GRACE, now)
            self._next_renewal = self._plan()
        self.tell_deadline(self._deadline)

    def _look(self) -> bool:
        """Look at the reservation, and renew it if that is due; return whether it is still open."""
        self._ctx.store.claims.restore()
        before = self._now()
        if time.monotonic() >= self._next_renewal:
            held = extend(self._ctx, self._id, silent=True).held
            self._ends_with(held.reservation, before)
            self._regard(held.hosts)
            return True
        with self._ctx.store.snapshot():  # one transaction, so that reservation and hosts agree
            known = self._ctx.store.reservations.get(self._id)
            hosts = [] if known is None else self._ctx.store.hosts.held_by(known.id)
        if known is not None and known.ended_at is not None and not known.was_lost():
            self._ends_with(replace(known, expires_at=None), before)
            self._ctx.report(f"reservation {self._id} was given back; the task goes on without hosts")
            return False
        if known is None or not known.is_valid(self._ctx.clock()):
            why = known.end_reason if known is not None else None
            raise NotYoursError(f"reservation {self._id} has ended: {why or 'lease expired'}")
        if known.expires_at != self._ends:
            self._ends_with(known, before)
        self._regard(hosts)
        return True

    def _regard(self, hosts: Sequence[Host]) -> None:
        """Report hosts that have left the lease, and bookings and maintenances that are planned on the others."""
        self._warn(host.name for host in hosts)
        line, words = None, ""
        if any(host.planned for host in hosts):
            from bmhctl.usecases.reservations.booked import latest_end

            line, words = latest_end(hosts, self._ctx.store.policy())
        if line != self._line:
            self._line, self._planned, self._reported = line, words, set()
            self._next_renewal = min(self._next_renewal, time.monotonic() + _LOOK)
        if line is None or self._ends is None:
            return
        if self._is_at_line():
            self._next_renewal = float("inf")
        ends = max(line, self._ends)  # a lease may last into a maintenance that was planned after it was granted
        left = ends - self._ctx.clock()
        due = {each for each in _WARNINGS if left <= each} | ({timedelta()} if self._is_at_line() else set())
        if due - self._reported:
            stopped = "; it is not renewed any more" if self._is_at_line() else ""
            self._ctx.report(f"the lease ends at {local_time(ends)}, in {format_age(left)}: {words}{stopped}")
            self._reported |= due

    def _is_at_line(self) -> bool:
        """Return whether the lease can't be renewed, because something is planned on its hosts."""
        return self._line is not None and self._ends is not None and self._ends >= self._line

    def _warn(self, names: Iterable[str]) -> None:
        here = set(names)
        for name in sorted(self._names - here):
            left = plural(len(here), "host")
            self._ctx.report(f"{name} is no longer in reservation {self._id}; the task goes on with {left}")
        self._names = here

    def _plan(self) -> float:
        left = float("inf") if self._deadline is None else self._deadline.ends - steady()
        return time.monotonic() + max(_SHORTEST, left / 3)
