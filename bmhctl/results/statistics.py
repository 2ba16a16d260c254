"""What the history says of the fleet: results of ``stats``, ``timeline``, ``report`` and ``metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.domain.model import Host, Planned, State
from bmhctl.results import Held
from bmhctl.results.queue import Queue
from bmhctl.results.status import Reasons, Status
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.results.bookings import Booked


class Waits(Frozen):
    """How long reservations were waited for: how many waits are known, their median, 95th percentile and longest."""

    known: int
    median: timedelta
    p95: timedelta
    longest: timedelta


class BookingFigures(Frozen):
    """Bookings that were made, taken, not taken in time, and given up; and the time of hosts in seconds.

    ``booked`` is the time that hosts were set aside, ``used`` the part of it in which they were reserved.
    """

    made: int = 0
    taken: int = 0
    lapsed: int = 0
    cancelled: int = 0
    booked: float = 0.0
    used: float = 0.0

    @property
    def share(self) -> float | None:
        """The share of the booked time that was used; None where there is none."""
        return self.used / self.booked if self.booked else None


class Figures(Frozen):
    """What the history says of a group of hosts, or of those who held them (``hosts`` and what follows it is None).

    ``seconds`` is how long hosts were in each state. A failure is a maintenance that began. ``bookings`` is None for
    groups of hosts: a booking is an owner's.
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

    ``sort`` is what the groups were asked to be sorted by, without its sign.
    """

    since: datetime
    until: datetime
    now: datetime
    by: str | None
    groups: tuple[Figures, ...]
    total: Figures
    sort: str | None = None


class Stay(Frozen):
    """A time that a host spent in one state; ``owner`` is who held it, where that is known."""

    start: datetime
    end: datetime
    state: State
    owner: str | None = None


class HostTimeline(Frozen):
    """Where one host was, the earliest stay first, and until when the lease on it lasts (None: there is none).

    ``planned`` are the times that are set aside on it for bookings and maintenances, the next one first.
    """

    host: str
    stays: tuple[Stay, ...]
    owner: str | None = None
    lease_end: datetime | None = None
    planned: tuple[Planned, ...] = ()


class Timeline(Frozen):
    """Where hosts were between two moments, and the leases that reach beyond now.

    ``leases`` are all open ones, ``planned`` all open bookings and planned maintenances.
    """

    since: datetime
    until: datetime
    now: datetime
    hosts: tuple[HostTimeline, ...]
    leases: tuple[Held, ...]
    inventory: str
    planned: tuple[Booked, ...] = ()


class HourlyUse(Frozen):
    """How much of the fleet was reserved in each hour of the week, in the local zone.

    ``cells`` are by weekday (0 is Monday) and hour: the seconds that hosts were reserved, and the seconds that they
    were in the inventory, each summed over all hosts.
    """

    since: datetime
    until: datetime
    now: datetime
    cells: Mapping[tuple[int, int], tuple[float, float]]

    def share(self, day: int, hour: int) -> float | None:
        """Return the share of the hosts that was reserved in one hour of the week; None where there were none."""
        reserved, present = self.cells.get((day, hour), (0.0, 0.0))
        return min(1.0, max(0.0, reserved / present)) if present > 0 else None


class PastEvent(Frozen):
    """An event as a report shows it."""

    at: datetime
    actor: str
    verb: str
    reason: str | None


class DayUse(Frozen):
    """How many seconds hosts were reserved, and were in the inventory, on one local day."""

    day: date
    reserved: float
    present: float


class WeekWaits(Frozen):
    """How many reservations were made in the week that began then, and how long they were waited for."""

    start: datetime
    reservations: int
    waits: Waits | None


class Report(Frozen):
    """All that a report shows; ``events`` are the latest of each host, by its name, the oldest first."""

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
    """What a monitoring system reads: the fleet now, and what has happened since the inventory was made.

    ``events`` counts by verb, ``failures`` by kind (task, check, cleanup, fault); both only grow. ``waits`` has, for
    each bound in seconds, how many reservations were waited for that long at most (None: all whose wait is known);
    ``waited`` is the sum of their waits in seconds. ``oldest_ticket`` is its age in seconds. ``hosts`` are there only
    where they were asked for.
    """

    status: Status
    oldest_ticket: float | None
    events: Mapping[str, int]
    failures: Mapping[str, int]
    waits: Mapping[float | None, int]
    waited: float
    hosts: Iterable[Host] = ()
