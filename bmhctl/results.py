"""The values that use cases return; ``output`` renders them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from bmhctl.domain.model import CheckResult, Event, Host, Reservation, State, Ticket, Verb
from bmhctl.errors import BmhctlError, ExitStatus, InvalidError, combine
from bmhctl.support.values import Frozen, field


class Outcome(Frozen):
    """What became of one host under one command.

    ``changed`` is False when there was nothing to do; ``source`` and ``state`` are where it was and is (None:
    outside the inventory). A failure carries its ``error``, and the host is as it was.
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
    """What became of every host that a command was asked to treat, in the order of the request."""

    verb: str
    items: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> BmhctlError | None:
        """The one error that stands for all failures; None when every host is where it was wanted."""
        failed = [item.error for item in self.items if item.error]
        return combine(failed) if failed else None

    @property
    def status(self) -> ExitStatus:
        """The command's exit status."""
        error = self.error
        return error.status if error else ExitStatus.DONE


class Held(Frozen):
    """A reservation and the hosts it holds now: a grant's in the order of what was asked for, else by name."""

    reservation: Reservation
    hosts: tuple[Host, ...]


class Grant(Frozen):
    """What ``reserve`` took."""

    held: Held
    notes: tuple[str, ...] = ()


class Hosts(Frozen):
    """Hosts to show, with the time at which they were looked at; ``missing`` for each name that found none."""

    hosts: Iterable[Host]
    now: datetime
    missing: tuple[BmhctlError, ...] = ()


class Everything(Frozen):
    """A whole inventory as it is at one moment, to be read once: open reservations, then hosts, and the policy."""

    reservations: Iterable[Reservation]
    hosts: Iterable[Host]
    policy: str | None
    now: datetime


class Names(Frozen):
    """The names of hosts, where nothing else of them is to be shown."""

    names: Iterable[str]


class HostDetail(Frozen):
    """One host with its latest events, oldest first, and what each step said of it last."""

    host: Host
    events: tuple[Event, ...]
    now: datetime
    results: tuple[CheckResult, ...] = ()


class Reservations(Frozen):
    """Reservations to show, and when they were looked at."""

    items: tuple[Held, ...]
    now: datetime


class History(Frozen):
    """Events, oldest first; ``host`` is the host they are about, None for the whole inventory."""

    events: Iterable[Event]
    host: str | None
    now: datetime


class Ending(Frozen):
    """Something that ends by itself or should: a lease, or a maintenance's ``until``."""

    at: datetime
    what: str
    hosts: tuple[str, ...]


class Status(Frozen):
    """The fleet at a glance.

    ``free`` counts hosts that can be reserved now, ``waiting`` whoever is in the queue. ``expired`` are reservations
    whose lease is over but that no command has reaped yet. Each list holds the first of its kind, and ``totals`` says
    by the list's name how many there are: of one that is not named there, no more.
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

    def total(self, name: str) -> int:
        """How many there are of what the list with this name begins with."""
        return self.totals.get(name, len(getattr(self, name)))


class VerbAnswer(Frozen):
    """Whether one verb is open to a host now.

    ``dest`` is where it would lead. ``open`` is None when it depends on steps that would run first. ``words``
    say which guards refuse, or what would happen; ``command`` is what to type.
    """

    verb: Verb
    open: bool | None
    dest: State | None
    words: tuple[str, ...]
    command: str


class Why(Frozen):
    """Why a host is where it is, and what is open to it now.

    ``summary`` is one sentence, ``facts`` what matters beside the state, ``results`` what each step said last,
    ``next`` the command that leads towards available (None: it is there, or others have to act first).
    """

    host: Host
    summary: str
    facts: tuple[str, ...]
    answers: tuple[VerbAnswer, ...]
    next: str | None
    now: datetime
    results: tuple[CheckResult, ...] = ()


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
    """What an import did, or with ``dry_run`` would do, to each host it brought; and what it passed over."""

    items: tuple[Outcome, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]
    dry_run: bool


class Done(Frozen):
    """A command that has one thing to say: ``init``, ``copy``, ``policy apply``."""

    command: str
    message: str
    details: Mapping[str, object]
    notes: tuple[str, ...] = ()


class Document(Frozen):
    """A text that is ready to print as it is, at once or part after part: an inventory or a policy as TOML."""

    text: str | Iterable[str]


class Script(Frozen):
    """A text for another program to run, which has no other form."""

    text: str


class Topics(Frozen):
    """The pages of the manual: the title of each by its name, in the order in which they are listed."""

    titles: Mapping[str, str]


class ManualPage(Frozen):
    """A page of the manual, in Markdown."""

    name: str
    text: str


class Queued(Frozen):
    """One ticket: its place, what it asks for, and what it still misses, in words."""

    ticket: Ticket
    position: int
    wants: str
    missing: str


class Queue(Frozen):
    """Who waits, the oldest first."""

    items: tuple[Queued, ...]
    now: datetime


class Severity(StrEnum):
    """How bad a finding is: an invariant does not hold, something may go wrong, or it is good to know."""

    BROKEN = "broken"
    WARNING = "warning"
    NOTE = "note"


class Finding(Frozen):
    """One thing that ``doctor`` found: what is wrong, with which host if with one, and what to do.

    ``kind`` is a stable word. ``fixable``: ``doctor --fix`` fixes it; ``fixed``: it just did. ``number`` is how
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

    ``counts`` is how many hosts, events and reservations it looked at, empty if it could look at none; ``backup``
    the copy that was made before anything was fixed.
    """

    inventory: str
    findings: tuple[Finding, ...]
    now: datetime
    counts: Mapping[str, int]
    backup: str | None = None

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What is broken still."""
        return tuple(each for each in self.findings if each.severity is Severity.BROKEN and not each.fixed)

    @property
    def error(self) -> BmhctlError | None:
        """The error that stands for all that is broken still; None when there is nothing."""
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
