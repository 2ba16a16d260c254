"""When a waiting command tries again, how it keeps its ticket alive, and what it reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from bmhctl.domain.requirements import describe_requirements
from bmhctl.domain.ticket import Ticket
from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.support.values import Frozen, replace
from bmhctl.usecases.reservations.fairness import REFRESH, is_gone, live_tickets, remove_dead
from bmhctl.usecases.reservations.grants import Attempt
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import reap_due, refresh

_FRONT = 4  # the number of tickets at the front of the queue that try at every change
_LONGEST_PAUSE = 1.0
_LOOK_AROUND = timedelta(seconds=0.5)  # between checks for changes that no commit announces


_SETTLED = timedelta(seconds=1)  # how long a change must last before it is reported

IS_NEXT = "it is next in the queue"
"""Why a request whose hosts are free still waits: it is about to be granted."""


class Waiting(Frozen):
    """A waiting process: its position in the queue, what it waits for and why, and its deadline.

    ``eta`` is by when it gets its hosts if every lease ends as recorded; None where that is not known.
    """

    position: int
    requirements: str
    why: str
    deadline: datetime | None
    eta: datetime | None = None


class Watch:
    """Decides when a waiting process tries again, and refreshes its ticket.

    The process tries again when a host or the TOML file has changed, and when an earlier ticket has left the queue or
    its process was killed. It also tries every few seconds, because some events change nothing in the inventory: a
    lease expires, a process is stopped, a step ends.
    """

    def __init__(self, ctx: Context, ticket: int) -> None:
        self.has_news = True
        self.trouble: BmhctlError | None = None  # why the TOML file can't be used; meanwhile, nothing is granted
        self._ctx = ctx
        self._ticket = ticket
        self._ahead: list[int] = []
        self._refreshed: datetime | None = None
        self._looked: datetime | None = None
        self._version: int | None = None
        self._generation: tuple[int, ...] | None = None
        self._state: object = None
        self._began = self._paused_until = 0.0

    def must_try(self) -> bool:
        """Return whether to try now."""
        self._began = time.monotonic()
        now = self._ctx.clock()
        is_due = _is_over(REFRESH, self._refreshed, now)
        if is_due:
            self._refreshed = now
            self._refresh(now)
        if _is_over(_LOOK_AROUND * (1 + self._behind_front / 8), self._looked, now):
            self._looked = now
            self._ctx.store.claims.restore()
            self._look_at_file()
            if self._ahead and is_gone(self._ctx, self._ahead[-1]):
                self._remove_dead()
        is_changed = self._is_changed()
        self.has_news |= is_changed
        return (is_due or is_changed) and self.trouble is None

    def slow_down(self) -> None:
        """After a failed attempt, pause the longer the more tickets are ahead.

        Otherwise the many tickets at the back would delay the few at the front at every change.
        """
        now = time.monotonic()
        self._paused_until = now + min(_LONGEST_PAUSE, 4 * self._behind_front * (now - self._began))

    @property
    def _behind_front(self) -> int:
        return max(0, len(self._ahead) - _FRONT)

    @property
    def pause_left(self) -> float:
        """The seconds for which the process does not try again, whatever changes."""
        return max(0.0, self._paused_until - time.monotonic())

    def is_quiet(self) -> bool:
        """Return whether the inventory is unchanged since the last check."""
        return self._version == self._ctx.store.version()

    def _refresh(self, now: datetime) -> None:
        with self._ctx.store.transaction(shared=True):
            self._ctx.store.tickets.refresh(self._ticket, now)
        reap_due(self._ctx, now)

    def _look_at_file(self) -> None:
        if self._ctx.store.declaration is None:
            return
        before, self.trouble = self.trouble, None
        try:
            refresh(self._ctx)
        except (InvalidError, UnreachableError) as error:  # for example, while a user is editing the file
            self.trouble = error
        if (before is None) != (self.trouble is None):
            self._generation, self._state = None, None
        self._version = None  # a sync by this connection does not change the version

    def _remove_dead(self) -> None:
        """Remove the tickets of killed processes, because a killed process notifies no other."""
        with self._ctx.store.transaction():
            remove_dead(self._ctx)
        self._version = None

    def _is_changed(self) -> bool:
        """Return whether a host, this ticket or a ticket ahead has changed; tickets behind do not matter."""
        if self.pause_left:
            return False
        version = self._ctx.store.version()
        if version == self._version:
            return False
        self._version = version
        generation = self._ctx.store.generation()
        if generation == self._generation:
            return False
        self._generation = generation
        tickets = self._ctx.store.tickets.ids(self._ticket)
        self._ahead = [ticket for ticket in tickets if ticket != self._ticket]
        before, self._state = self._state, (generation[0], tickets)
        return self._state != before


class ProgressReporter:
    """Reports the position of a waiting process when it changes; uses at most a hundredth of the time for this.

    At the back of a long queue it uses less, because all waiting processes do the same.
    """

    def __init__(
        self,
        attempt: Attempt,
        ticket: Ticket,
        why_not: Callable[[], tuple[str, datetime | None]],
        progress: Callable[[Waiting], None],
    ) -> None:
        self._attempt = attempt
        self._ticket = ticket
        self._requirements = describe_requirements(attempt.request.requirements)
        self._why_not = why_not
        self._progress = progress
        self._told: Waiting | None = None
        self._silent_until: datetime | None = None
        self._is_settling = False

    def report_change(self) -> bool:
        """Report the position if it has changed; return False when it is too early to look.

        After the first report, a change is looked at a moment later: a host that is given back and recycled passes
        through states that are over at once. Raises errors that waiting can't resolve.
        """
        ctx = self._attempt.ctx
        began = ctx.clock()
        if self._told is not None and not self._is_settling:
            self._is_settling = True
            self._silent_until = max(self._silent_until or began, began + _SETTLED)
        if self._silent_until is not None and began < self._silent_until:
            return False
        self._is_settling = False
        with ctx.store.snapshot():
            why, eta = self._why_not()
            position = len(live_tickets(ctx, self._ticket.id)) + 1
        waiting = Waiting(position, self._requirements, why, self._attempt.deadline, eta)
        if self._told is None or _differ(waiting, self._told):
            self._told = waiting
            self._progress(waiting)
        now = ctx.clock()
        self._silent_until = now + max(timedelta(seconds=1 + waiting.position // 8), 100 * (now - began))
        return True


def _differ(one: Waiting, other: Waiting) -> bool:
    """Return whether two states differ for the user; the estimated time may differ by up to a minute."""
    if one.eta is None or other.eta is None:
        return one != other
    return abs(one.eta - other.eta) > timedelta(minutes=1) or replace(one, eta=other.eta) != other


def _is_over(interval: timedelta, last: datetime | None, now: datetime) -> bool:
    return last is None or abs(now - last) >= interval  # abs, because a clock may be set back
