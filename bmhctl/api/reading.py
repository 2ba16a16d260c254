"""The methods of an inventory that change nothing."""

from __future__ import annotations

from collections.abc import Iterable

from bmhctl.api.opened import Opened
from bmhctl.domain.model import Event, Host, State
from bmhctl.results import Held
from bmhctl.results.bookings import Booked
from bmhctl.results.queue import Queued, TicketChange
from bmhctl.results.status import Status
from bmhctl.results.why import Why
from bmhctl.usecases import explain, queries, status
from bmhctl.usecases.reservations import bookings, queue
from bmhctl.usecases.shared.host_selection import choice


class Reading(Opened):
    """The hosts, reservations, bookings, queue and history of an inventory."""

    def hosts(self, *names: str, selector: str | None = None, states: Iterable[State] = ()) -> list[Host]:
        """Return the chosen hosts, by name; all hosts if neither names, nor a selector, nor states are given.

        Raises :class:`~bmhctl.errors.NotFoundError` for a name or a glob that matches no host.
        """
        return list(queries.chosen(self._context, choice(names, selector, states)).hosts)

    def host(self, name: str) -> Host:
        """Return one host; raise :class:`~bmhctl.errors.NotFoundError` if no host has this name."""
        return queries.show(self._context, name).host

    def reservations(self) -> tuple[Held, ...]:
        """Return the open reservations with their hosts, the oldest first."""
        return queries.reservations(self._context).items

    def bookings(self) -> tuple[Booked, ...]:
        """Return the open bookings and planned maintenances, by their start."""
        return bookings.bookings(self._context).items

    def status(self) -> Status:
        """Return the fleet in short: counts by state, open reservations, what ends next, what needs attention."""
        return status.status(self._context)

    def why(self, name: str) -> Why:
        """Return why a host is in its state, and which verbs are possible.

        Raises :class:`~bmhctl.errors.NotFoundError` if no host has this name.
        """
        return explain.why(self._context, name)

    def history(self, name: str | None = None, last: int | None = None) -> list[Event]:
        """Return the events of a host, or of all hosts, oldest first; with ``last``, only the newest ``last`` events.

        ``name`` may also be that of a removed host. Raises :class:`~bmhctl.errors.NotFoundError` for a name that no
        host ever had.
        """
        return list(queries.history(self._context, name, last).events)

    def queue(self) -> tuple[Queued, ...]:
        """Return the tickets of waiting commands in queue order, each with what it still lacks."""
        return queue.queue(self._context).items

    def queue_history(self, last: int | None = None) -> tuple[TicketChange, ...]:
        """Return the recorded changes of tickets, oldest first; with ``last``, only the newest ``last`` changes."""
        return queue.queue_history(self._context, last).items
