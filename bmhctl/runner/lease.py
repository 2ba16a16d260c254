"""Renew a lease while a task runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from bmhctl.domain.units import plural
from bmhctl.errors import BmhctlError, NotFoundError, NotYoursError
from bmhctl.results import Held
from bmhctl.usecases.reservations.holder import extend
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import hosts_of

_LOOK = 1.0  # seconds between two looks at whether the reservation is still there
_RETRY = 1.0  # seconds between two tries to reach an inventory
_SHORTEST = 0.05  # seconds between two renewals of a lease that the policy lets grow no more


class Lease:
    """A lease that is renewed whenever a third of what is left of it has passed, as long as that is possible.

    An inventory may keep :meth:`keep` waiting, as when another command writes for long: then another thread still
    learns from :meth:`lost` when the lease is over. ``wake`` is called when there is something to learn.
    """

    def __init__(self, ctx: Context, held: Held, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._id = held.reservation.id
        self._names = {host.name for host in held.hosts}
        self._ends: datetime | None = held.reservation.expires_at
        self._next_renewal = self._plan()
        self._lost: str | None = None
        self._trouble: str | None = None
        self._wake = wake

    def lost(self) -> str | None:
        """Why the lease is lost; None while it holds, and when its holder gave it back."""
        if self._lost is None and self._ends is not None and self._ctx.clock() >= self._ends:
            trouble = f": {self._trouble}" if self._trouble else ""
            return f"it ended at {self._ends:%Y-%m-%d %H:%M:%S} UTC and was not renewed in time{trouble}"
        return self._lost

    def keep(self, over: threading.Event) -> None:
        """Keeps the lease until somebody says that it is over, or there is none to keep."""
        next_look = 0.0
        while not over.wait(min(next_look, self._next_renewal) - time.monotonic()):
            try:
                if not self._look():
                    return
                self._trouble = None
            except (NotYoursError, NotFoundError) as error:
                self._lost = error.message
                self._wake()
                return
            except BmhctlError as error:  # until the lease is over there is hope
                self._trouble = error.message
                self._next_renewal = min(self._plan(), time.monotonic() + _RETRY)
            next_look = time.monotonic() + _LOOK

    def _look(self) -> bool:
        """Does what is due; whether there is a lease to keep any more."""
        if time.monotonic() >= self._next_renewal:
            held = extend(self._ctx, self._id, silent=True).held
            self._ends = held.reservation.expires_at
            self._next_renewal = self._plan()
            self._warn(host.name for host in held.hosts)
            return True
        with self._ctx.store.snapshot():  # the reservation and its hosts as they are at one moment
            known = self._ctx.store.reservation(self._id)
            hosts = [] if known is None else hosts_of(self._ctx, known)
        if known is not None and known.ended_at is not None and not known.was_lost():
            self._ends = None
            self._ctx.tell(f"reservation {self._id} was given back; the task goes on without hosts")
            return False
        if known is None or not known.is_valid(self._ctx.clock()):
            why = known.end_reason if known is not None else None
            raise NotYoursError(f"reservation {self._id} is over: {why or 'lease expired'}")
        self._ends = known.expires_at
        self._warn(host.name for host in hosts)
        return True

    def _warn(self, names: Iterable[str]) -> None:
        here = set(names)
        for name in sorted(self._names - here):
            left = plural(len(here), "host")
            self._ctx.tell(f"{name} is no longer in reservation {self._id}; the task goes on with {left}")
        self._names = here

    def _plan(self) -> float:
        left = float("inf") if self._ends is None else (self._ends - self._ctx.clock()).total_seconds()
        return time.monotonic() + max(_SHORTEST, left / 3)
