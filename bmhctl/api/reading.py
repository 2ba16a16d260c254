"""The methods of an inventory that change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bmhctl.api.opened import Opened
from bmhctl.domain.model import Event, Host, State
from bmhctl.results import Held
from bmhctl.usecases.shared.host_selection import choice

if TYPE_CHECKING:
    from bmhctl.results.bookings import Booked
    from bmhctl.results.queue import Queued, TicketChange
    from bmhctl.results.status import Status
    from bmhctl.results.why import Why


class Reading(Opened):
    """The hosts, reservations, bookings, queue and history of an inventory."""

    def hosts(self, *names: str, selector: str | None = None, states: Iterable[State] = ()) -> list[Host]:
        """Return the chosen hosts, by name; all hosts if neither names, nor a selector, nor states are given.

        Raises :class:`~bmhctl.errors.NotFoundError` for a name or a glob that matches no host.
        """
        from bmhctl.usecases.queries import chosen

        return list(chosen(self._context, choice(names, selector, states)).hosts)

    def host(self, name: str) -> Host:
        """Return one host; raise :class:`~bmhctl.errors.NotFoundError` if no host has this name."""
        from bmhctl.usecases.queries import show

        return show(self._context, name).host

    def reservations(self) -> tuple[Held, ...]:
        """Return the open reservations with their hosts, the oldest first."""
        from bmhctl.usecases.queries import reservations

        return reservations(self._context).items

    def bookings(self) -> tuple[Booked, ...]:
        """Return the open bookings and planned maintenances, by their start."""
        from bmhctl.usecases.reservations.bookings import bookings

        return bookings(self._context).items

    def status(self) -> Status:
        """Return the fleet in short: counts by state, open reservations, what ends next, what needs attention."""
        from bmhctl.usecases.status import status

        return status(self._context)

    def why(self, name: str) -> Why:
        """Return why a host is in its state, and which verbs are possible.

        Raises :class:`~bmhctl.errors.NotFoundError` if no host has this name.
        """
        from bmhctl.usecases.explain import why

        return why(self._context, name)

    def history(self, name: str | None = None, last: int | None = None) -> list[Event]:
        """Return the events of a host, or of all hosts, oldest first; with ``last``, only the newest ``last`` events.

        ``name`` may also be that of a removed host. Raises :class:`~bmhctl.errors.NotFoundError` for a name that no
        host ever had.
        """
        from bmhctl.usecases.queries import history

        return list(history(self._context, name, last).events)

    def queue(self) -> tuple[Queued, ...]:
        """Return the tickets of waiting commands in queue order, each with what it still lacks."""
        from bmhctl.usecases.reservations.queue import queue

        return queue(self._context).items

    def queue_history(self, last: int | None = None) -> tuple[TicketChange, ...]:
        """Return the recorded changes of tickets, oldest first; with ``last``, only the newest ``last`` changes."""
        from bmhctl.usecases.reservations.queue import queue_history

        return queue_history(self._context, last).items
