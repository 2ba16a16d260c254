"""Figures from the history of the fleet: results of ``stats``, ``timeline``, ``report`` and ``metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

from bmhctl.domain.model import Host, Planned, State
from bmhctl.results import Held
from bmhctl.results.bookings import Booked
from bmhctl.results.queue import Queue
from bmhctl.results.status import Reasons, Status
from bmhctl.support.values import Frozen


class Waits(Frozen):
    """How long requests waited for their reservations.

    ``known`` is how many waits are known; the others are their median, 95th percentile and maximum.
    """

    known: int
    median: timedelta
    p95: timedelta
    longest: timedelta


class BookingFigures(Frozen):
    """How many bookings were made, taken, lapsed and cancelled, and the time of their hosts in seconds.

    ``booked`` is the time for which hosts were set aside, ``used`` the part of it in which they were reserved.
    """

    made: int = 0
    taken: int = 0
    lapsed: int = 0
    cancelled: int = 0
    booked: float = 0.0
    used: float = 0.0

    @property
    def share(self) -> float | None:
        """The share of the booked time that was used; None if nothing was booked."""
        return self.used / self.booked if self.booked else None


class Figures(Frozen):
    """The figures of a group of hosts, or of a group of reservations such as those of one owner.

    For a group of reservations, ``hosts`` and the fields from ``failed_checks`` to ``mean_repair`` are None.
    ``seconds`` is how long hosts were in each state. A failure is the beginning of a maintenance. ``bookings`` is None
    for groups of hosts, because a booking belongs to an owner.
    """

    name: str
    hosts: int | None
    seconds: Mapping[State, float]
    reservations: int
    failed_tasks: int
    waits: Waits | None = None
    failed_checks: int | None = None
    failed_cleanups: int | None = None
    faults: int | None = None
    failures: int | None = None
    mean_between_failures: timedelta | None = None
    mean_repair: timedelta | None = None
    bookings: BookingFigures | None = None

    @property
    def utilisation(self) -> float | None:
        """Return the share of the hosts' time in the inventory in which they were reserved; None without hosts."""
        return self.share(State.RESERVED)

    def share(self, state: State) -> float | None:
        """Return the share of the hosts' time in the inventory that they spent in a state; None without hosts."""
        total = sum(self.seconds.values())
        return self.seconds.get(state, 0.0) / total if total and self.hosts is not None else None


class Statistics(Frozen):
    """The figures of an inventory between two moments: of all hosts, and of each group if there are any.

    ``sort`` is the key by which the groups were to be sorted, without its sign.
    """

    since: datetime
    until: datetime
    now: datetime
    by: str | None
    groups: tuple[Figures, ...]
    total: Figures
    sort: str | None = None


class Stay(Frozen):
    """The time that a host spent in one state; ``owner`` is the owner who held it, where that is known."""

    start: datetime
    end: datetime
    state: State
    owner: str | None = None


class HostTimeline(Frozen):
    """The states of one host over time, the earliest first.

    ``lease_end`` is when its present lease ends (None: it has none), and ``owner`` the holder. ``planned`` are the
    times that are set aside for bookings and maintenances, the earliest first.
    """

    host: str
    stays: tuple[Stay, ...]
    owner: str | None = None
    lease_end: datetime | None = None
    planned: tuple[Planned, ...] = ()


class Timeline(Frozen):
    """The states of hosts between two moments, and what lies ahead.

    ``leases`` are all open leases, ``planned`` all open bookings and planned maintenances.
    """

    since: datetime
    until: datetime
    now: datetime
    hosts: tuple[HostTimeline, ...]
    leases: tuple[Held, ...]
    inventory: str
    planned: tuple[Booked, ...] = ()

    @property
    def content(self) -> object:
        """What does not change as time passes: the present state of each host, and what lies ahead."""
        present = [
            [(stay.state, stay.owner, stay.start if stay.start > self.since else None) for stay in row.stays[-1:]]
            for row in self.hosts
        ]
        ahead = [(row.host, row.owner, row.lease_end, row.planned) for row in self.hosts]
        return present, ahead, [held.reservation for held in self.leases], self.planned


class HourlyUse(Frozen):
    """How much of the fleet was reserved in each hour of the week, in the local zone.

    The keys of ``cells`` are the weekday (0 is Monday) and the hour. The values are the seconds for which hosts were
    reserved, and the seconds for which they were in the inventory, each summed over all hosts.
    """

    since: datetime
    until: datetime
    now: datetime
    cells: Mapping[tuple[int, int], tuple[float, float]]

    def share(self, day: int, hour: int) -> float | None:
        """Return the share of the hosts that was reserved in one hour of the week; None if there were no hosts."""
        reserved, present = self.cells.get((day, hour), (0.0, 0.0))
        return min(1.0, max(0.0, reserved / present)) if present > 0 else None


class PastEvent(Frozen):
    """An event as a report shows it."""

    at: datetime
    actor: str
    verb: str
    reason: str | None


class DayUse(Frozen):
    """How many seconds hosts were reserved, and how many they were in the inventory, on one local day."""

    day: date
    reserved: float
    present: float


class WeekWaits(Frozen):
    """How many reservations were made in the week from ``start`` on, and how long their requests waited."""

    start: datetime
    reservations: int
    waits: Waits | None


class Report(Frozen):
    """All that a report shows; ``events`` are the latest events of each host, by its name, the oldest first."""

    status: Status
    reasons: Reasons
    statistics: Statistics
    timeline: Timeline
    hourly: HourlyUse
    days: tuple[DayUse, ...]
    weeks: tuple[WeekWaits, ...]
    queue: Queue
    hosts: tuple[Host, ...]
    events: Mapping[str, tuple[PastEvent, ...]]


class Metrics(Frozen):
    """The values for a monitoring system: the fleet now, and counters since the inventory was made.

    ``events`` counts events by verb, and ``failures`` failures by kind (task, check, cleanup, fault); both only grow.
    The keys of ``waits`` are bounds in seconds; the values are how many reservations were waited for no longer than
    that (None: all whose wait is known). ``waited`` is the sum of these waits in seconds. ``oldest_ticket`` is the age
    of the oldest ticket in seconds. ``hosts`` is empty unless the caller asked for it.
    """

    status: Status
    oldest_ticket: float | None
    events: Mapping[str, int]
    failures: Mapping[str, int]
    waits: Mapping[float | None, int]
    waited: float
    hosts: Iterable[Host] = ()
