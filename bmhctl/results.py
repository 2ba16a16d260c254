"""The values that use cases return; ``output`` renders them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.domain.model import CheckResult, Event, Host, Planned, QueueEvent, Reservation, State, Ticket, Verb
from bmhctl.errors import BmhctlError, ExitStatus, InvalidError, combine
from bmhctl.support.values import Frozen, field
from bmhctl.support.words import Words

if TYPE_CHECKING:
    from bmhctl.domain.booking import Booking


class Outcome(Frozen):
    """What a command did to one host.

    ``changed`` is False when nothing had to be done; ``source`` and ``state`` are the host's state before and after
    (None: not in the inventory). A failure carries its ``error``, and the host is unchanged.
    """

    host: str
    changed: bool
    message: str
    source: State | None = None
    state: State | None = None
    reservation: str | None = None
    steps: tuple[CheckResult, ...] = ()
    error: BmhctlError | None = None


class Outcomes(Frozen):
    """The outcome of every host that a command was called with, in the order of the request."""

    verb: str
    items: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> BmhctlError | None:
        """The one error that stands for all failures; None when every host succeeded."""
        failed = [item.error for item in self.items if item.error]
        return combine(failed) if failed else None

    @property
    def status(self) -> ExitStatus:
        """The command's exit status."""
        error = self.error
        return error.status if error else ExitStatus.DONE


class Activity(Frozen):
    """A host on which steps run: the verb, the steps that run now with the seconds since each began, those after."""

    host: str
    verb: str
    seconds: float
    steps: tuple[tuple[str, float], ...]
    later: tuple[str, ...]


class Backlog(Frozen):
    """What happens now, the longest first, and what is due.

    ``waiting`` are hosts for which no job is free, ``again`` are those that failed, with the seconds until they are
    tried again, ``elsewhere`` those on which a step runs that another process started.
    """

    activities: tuple[Activity, ...]
    waiting: tuple[str, ...]
    again: tuple[tuple[str, float], ...]
    elsewhere: tuple[str, ...]


class Held(Frozen):
    """A reservation and the hosts that it holds now: after a grant in the order of the request, else by name.

    ``had`` are the names of all hosts that it ever held, where that was asked for.
    """

    reservation: Reservation
    hosts: tuple[Host, ...]
    had: tuple[str, ...] = ()


class Grant(Frozen):
    """What ``reserve`` reserved."""

    held: Held
    notes: tuple[str, ...] = ()


class Hosts(Frozen):
    """Hosts to show, and when they were read; ``missing`` has an error for each name that matched none.

    ``failed`` are the results of steps that hold hosts back, by the host's id.
    """

    hosts: Iterable[Host]
    now: datetime
    missing: tuple[BmhctlError, ...] = ()
    failed: Mapping[int, Sequence[CheckResult]] = field(default_factory=dict)


class Everything(Frozen):
    """A whole inventory as of one moment, to be iterated once: open reservations, then hosts, and the policy.

    ``bookings`` is how many bookings and planned maintenances are open, which it does not have.
    """

    reservations: Iterable[Reservation]
    hosts: Iterable[Host]
    policy: str | None
    now: datetime
    bookings: int = 0


class Names(Frozen):
    """Only the names of hosts."""

    names: Iterable[str]


class HostDetail(Frozen):
    """One host with its latest events, oldest first, and the last result of each step."""

    host: Host
    events: tuple[Event, ...]
    now: datetime
    results: tuple[CheckResult, ...] = ()


class Reservations(Frozen):
    """Reservations to show, and when they were read."""

    items: tuple[Held, ...]
    now: datetime


class History(Frozen):
    """Events, oldest first; ``host`` is the host that they are about, None for all; ``inventory`` is where they are."""

    events: Iterable[Event]
    host: str | None
    now: datetime
    inventory: str = ""


class Ending(Frozen):
    """Something with an end: a lease, or a maintenance with ``until``."""

    at: datetime
    what: str
    hosts: tuple[str, ...]


class Obstacle(Frozen):
    """Why some hosts are not free: ``kind`` is cordoned, fault, maintenance or failed, ``reason`` a person's words."""

    kind: str
    reason: str
    hosts: tuple[str, ...]


class Status(Frozen):
    """The fleet in short.

    ``free`` counts hosts that can be reserved now, ``waiting`` the tickets in the queue. ``expired`` are reservations
    whose lease has ended but that no command has reaped yet. Each list holds the first few of its kind, and ``totals``
    says by the list's name how many there are; a list that it does not name is complete. ``limited`` are the tickets
    that wait for a limit of their owner, in words. ``planned`` are the open bookings and planned maintenances, the
    first to start first.
    """

    inventory: str
    counts: Mapping[State, int]
    free: int
    cordoned: tuple[str, ...]
    undeclared: tuple[str, ...]
    faults: tuple[str, ...]
    held: tuple[Held, ...]
    expired: tuple[str, ...]
    endings: tuple[Ending, ...]
    now: datetime
    waiting: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()
    limited: tuple[str, ...] = ()
    planned: tuple[Booked, ...] = ()

    def total(self, name: str) -> int:
        """Return the whole number of entries of which the list with this name has the first few."""
        return self.totals.get(name, len(getattr(self, name)))


class Reason(Frozen):
    """Why some hosts are not free.

    ``kind`` is maintenance, cordoned, retiring, draining, booked, planned, fault, undeclared or a failed phase.
    ``actor`` is who gave the reason (None: not known), ``since`` when the oldest of the hosts got it.
    """

    kind: str
    reason: str
    actor: str | None
    since: datetime
    hosts: tuple[str, ...]


class Reasons(Frozen):
    """Why hosts are not free, the oldest reason first."""

    items: tuple[Reason, ...]
    inventory: str
    now: datetime


class HostGroup(Frozen):
    """The hosts that have one value of a label, by name; None: those without that label."""

    value: str | None
    hosts: tuple[Host, ...]


class Fleet(Frozen):
    """All hosts by the values of the label ``by``."""

    by: str
    groups: tuple[HostGroup, ...]
    inventory: str
    now: datetime


class VerbAnswer(Frozen):
    """Whether one verb is possible for a host now.

    ``dest`` is the state that it leads to. ``open`` is None when it depends on steps that have to run first. ``words``
    say which guards refuse, or what would happen; ``command`` is what to type.
    """

    verb: Verb
    open: bool | None
    dest: State | None
    words: tuple[str, ...]
    command: str


class Why(Frozen):
    """Why a host is in its state, and what is possible now.

    ``summary`` is one sentence, ``facts`` what matters beside the state, ``results`` the last result of each step,
    ``next`` the command that leads towards available (None: it is available, or others have to act first), ``first``
    what has to be repaired before that, as the command would fail again (None: nothing that is known).
    """

    host: Host
    summary: str
    facts: tuple[str, ...]
    answers: tuple[VerbAnswer, ...]
    next: str | None
    now: datetime
    results: tuple[CheckResult, ...] = ()
    first: str | None = None


class Graph(Frozen):
    """The lifecycle to draw: with the count of hosts in each state, or where one host is (``why``).

    ``events`` are the host's, oldest first: how it got there.
    """

    counts: Mapping[State, int]
    why: Why | None = None
    events: tuple[Event, ...] = ()


class Plan(Outcomes):
    """What a verb would do (``--dry-run``): one line a host, nothing was changed."""


class Imported(Frozen):
    """What an import did, or with ``dry_run`` would do, to each host in it; and what it skipped."""

    items: tuple[Outcome, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    dry_run: bool


class Done(Frozen):
    """A command whose result is one message: ``init``, ``copy``, ``policy apply``."""

    command: str
    message: str
    details: Mapping[str, object]
    notes: tuple[str, ...] = ()


class Document(Frozen):
    """A text that is printed unchanged, at once or in parts: an inventory or a policy as TOML."""

    text: str | Iterable[str]
    notes: tuple[str, ...] = ()


class Script(Frozen):
    """A text for another program to run; there is no other format of it."""

    text: str


class Topics(Frozen):
    """The pages of the manual: the title of each by its name, in the order of the list."""

    titles: Mapping[str, str]


class ManualPage(Frozen):
    """A page of the manual, in Markdown."""

    name: str
    text: str


class Queued(Frozen):
    """One ticket: its position, what it asks for, and what it still misses, in words.

    ``eta`` is when at the latest it fits if every lease ends as written, None where that is not known.
    """

    ticket: Ticket
    position: int
    requirements: str
    missing: str
    eta: datetime | None = None


class Queue(Frozen):
    """The tickets in the queue, the oldest first."""

    items: tuple[Queued, ...]
    now: datetime


class Reminder(Frozen):
    """Something that ends soon: ``kind`` is lease or maintenance, ``id`` that of a lease.

    ``about`` is its purpose or reason, ``waiting`` are the owners of tickets that could use one of the hosts.
    """

    kind: str
    id: str | None
    owner: str
    hosts: tuple[str, ...]
    at: datetime
    about: str | None
    waiting: tuple[str, ...] = ()


class Reminders(Frozen):
    """What ends soon and was not told before, the first end first."""

    items: tuple[Reminder, ...]
    now: datetime


class TicketChange(Frozen):
    """An event of the queue, with what the ticket asked for in words."""

    event: QueueEvent
    requirements: str


class QueueHistory(Frozen):
    """The events of the queue, the oldest first."""

    items: tuple[TicketChange, ...]
    now: datetime


class Booked(Frozen):
    """A booking or a planned maintenance, and the names of its hosts; ``trouble`` are those that will not be usable.

    ``requirements`` is what it asks for, in words. ``is_short``: fewer hosts will be usable than it asks for.
    """

    booking: Booking
    hosts: tuple[str, ...]
    requirements: str
    trouble: tuple[str, ...] = ()
    is_short: bool = False


class Bookings(Frozen):
    """Bookings and planned maintenances, the first to start first."""

    items: tuple[Booked, ...]
    now: datetime
    notes: tuple[str, ...] = ()
    inventory: str = ""


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
    """The figures of an inventory between two moments: of all hosts, and of each group if there are any."""

    since: datetime
    until: datetime
    now: datetime
    by: str | None
    groups: tuple[Figures, ...]
    total: Figures


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

    ``cells`` has, for a weekday (0 is Monday) and an hour, the seconds that hosts were reserved and that they were in
    the inventory.
    """

    since: datetime
    until: datetime
    now: datetime
    cells: Mapping[tuple[int, int], tuple[float, float]]


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


class Severity(Words):
    """How bad a finding is: an invariant is broken, something may go wrong, or it is for information."""

    BROKEN = "broken"
    WARNING = "warning"
    NOTE = "note"


class Finding(Frozen):
    """One thing that ``doctor`` found: what is wrong, with which host if with one, and what to do.

    ``kind`` is a stable word. ``fixable``: ``doctor --fix`` can fix it; ``fixed``: it has fixed it. ``number`` is how
    many findings it stands for.
    """

    kind: str
    severity: Severity
    message: str
    remedy: str
    host: str | None = None
    fixable: bool = False
    fixed: bool = False
    number: int = 1


class Diagnosis(Frozen):
    """What ``doctor`` found in an inventory, the worst first.

    ``counts`` is how many hosts, events and reservations it checked, empty if it could check none; ``backup`` is the
    copy that was made before anything was fixed.
    """

    inventory: str
    findings: tuple[Finding, ...]
    now: datetime
    counts: Mapping[str, int]
    backup: str | None = None

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that are still broken."""
        return tuple(each for each in self.findings if each.severity is Severity.BROKEN and not each.fixed)

    @property
    def error(self) -> BmhctlError | None:
        """The error that stands for all that is still broken; None when nothing is."""
        number = sum(each.number for each in self.broken)
        fixable = sum(each.number for each in self.broken if each.fixable)
        if not number:
            return None
        words = "1 thing is" if number == 1 else f"{number} things are"
        those = f"{fixable} of them" if fixable < number else "it" if number == 1 else "them"
        return InvalidError(
            f"{self.inventory}: {words} broken",
            hint=f"bmhctl doctor --fix repairs {those}, after a backup" if fixable else None,
            details={"broken": number, "fixable": fixable},
        )
