"""Host, reservation, event, step result and other terms of bmhctl, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bmhctl.domain.units import local_time
from bmhctl.support.values import Frozen, Words, field, replace

NEVER = datetime.max.replace(tzinfo=UTC)
"""A time later than every other: the end of a lease that has no end."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""A time earlier than every other: the last use of a host that was never used."""


class State(Words):
    """The states of a host; ``lifecycle.table`` says what holds in each."""

    INITIAL = "initial"
    AVAILABLE = "available"
    RESERVED = "reserved"
    TAINTED = "tainted"
    MAINTENANCE = "maintenance"


class StateName(StrEnum):
    """The words by which hosts are selected: the states, and ``free`` for available hosts that can be reserved."""

    INITIAL = State.INITIAL.value
    AVAILABLE = State.AVAILABLE.value
    RESERVED = State.RESERVED.value
    TAINTED = State.TAINTED.value
    MAINTENANCE = State.MAINTENANCE.value
    FREE = "free"


class Verb(Words):
    """The verbs that change the state of a host, add a host to the inventory, or remove it."""

    ENTER = "enter"
    READY = "ready"
    RESERVE = "reserve"
    TAINT = "taint"
    RESET = "reset"
    MAINTAIN = "maintain"
    RESUME = "resume"
    REMOVE = "remove"
    RETIRE = "retire"


class Guard(Words):
    """A condition on an edge of the lifecycle."""

    SETUP_COMPLETE = "setup_complete"
    CHECKS_PASSED = "checks_passed"
    NOT_UNDECLARED = "not_undeclared"
    NOT_CORDONED = "not_cordoned"
    NOT_CLAIMED = "not_claimed"
    ITS_TURN = "its_turn"
    NOT_BOOKED = "not_booked"
    MAY_BE_TAINTED = "may_be_tainted"
    CLEANUP_SUCCEEDED = "cleanup_succeeded"
    REASON_GIVEN = "reason_given"
    RESERVATION_VALID = "reservation_valid"
    CAME_FROM_AVAILABLE = "came_from_available"
    CLEAN = "clean"
    CLEAN_OR_CLEANED = "clean_or_cleaned"
    RETIREMENT_SUCCEEDED = "retirement_succeeded"


class Edge(Frozen):
    """One way from one state to another; a ``source`` or ``dest`` of None is outside the inventory (``[*]``).

    ``label`` is the edge's label in the diagram, ``why`` one sentence on why it exists. Several edges of one verb from
    one state are tried in the order of the table. ``drawn`` is False for edges that the diagram leaves out.
    """

    verb: Verb
    source: State | None
    dest: State | None
    guards: tuple[Guard, ...]
    label: str
    why: str
    drawn: bool = True


class EventKind(Words):
    """What is recorded without a change of state: the source and the destination of such an event are the same."""

    CORDON = "cordon"
    UNCORDON = "uncordon"
    SET = "set"
    RENAME = "rename"
    UNDECLARE = "undeclare"
    DECLARE = "declare"
    FAULT = "fault"
    STEP_FAILED = "step-failed"
    REASON_ADDED = "reason-added"
    REASON_CLOSED = "reason-closed"
    RESERVATION_LOST = "reservation-lost"
    EXTEND = "extend"
    HANDOVER = "handover"
    SHARE = "share"
    UNSHARE = "unshare"
    PREPARE = "prepare"
    RETIRING = "retiring"
    RETIRE_UNDONE = "retire-undone"
    PLANNED = "planned"
    PLAN_ENDED = "plan-ended"


PropertyValue = str | int
"""The value of a hardware property: a text, a number, or a size such as ``256GiB``."""


TLS_VERSIONS = ("1.0", "1.1", "1.2", "1.3")
"""The values that ``tls_min_version`` of a BMC may have."""


class Bmc(Frozen):
    """How to reach a host's baseboard management controller.

    ``credentials`` is a reference (``env:NAME``, ``file:PATH``, ``command:…``), never a secret itself.
    ``tls_min_version`` is the oldest TLS version to accept, such as ``1.0``; None for the default of this machine.
    """

    address: str
    type: str | None = None
    system_id: str | None = None
    credentials: str | None = None
    verify_tls: bool = True
    tls_min_version: str | None = None


class Power(Words):
    """The commands for a host's power and its indicator light."""

    ON = "on"
    OFF = "off"
    SOFT_OFF = "soft-off"
    CYCLE = "cycle"
    STATUS = "status"
    IDENTIFY = "identify"
    IDENTIFY_OFF = "identify-off"

    @property
    def switches(self) -> bool:
        """Whether this command changes the power, not only the indicator light or nothing."""
        return self in (Power.ON, Power.OFF, Power.SOFT_OFF, Power.CYCLE)


class BootTarget(Words):
    """What a host can boot from at its next start; ``NONE`` cancels an earlier choice."""

    PXE = "pxe"
    HDD = "hdd"
    CD = "cd"
    USB = "usb"
    BIOS = "bios"
    HTTP = "http"
    DIAGNOSTICS = "diagnostics"
    NONE = "none"


class HostSpec(Frozen):
    """What is declared about a host; the lifecycle never changes it.

    ``observed`` are hardware properties that steps reported; they are never written into a declaration.
    """

    name: str
    address: str | None = None
    mac: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    bmc: Bmc | None = None
    hardware: Mapping[str, PropertyValue] = field(default_factory=dict)
    note: str | None = None
    observed: Mapping[str, PropertyValue] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        """The host's hardware properties: the declared ones, and the observed ones whose keys are not declared."""
        return {**self.observed, **self.hardware} if self.observed else self.hardware


WHEN_FREE = "maintenance when it is free: "
"""The beginning of the reason of an event that gives a host a cordon that ``maintains``."""

NO_LONGER_WHEN_FREE = "no longer goes to maintenance when it is free"
"""The beginning of the reason of an event that removes such a cordon by ``resume``."""


class Note(Frozen):
    """A cordon, or one reason for maintenance: who made it, when and why.

    ``until`` is when it should end; this is only information, nothing ends it then. ``quarantine`` marks a reason that
    bmhctl itself gave, which any actor may close. ``retires`` marks a cordon under which the host leaves the inventory
    once it is free, ``maintains`` a cordon under which the host goes to maintenance when it is given back. ``under``
    are the actor and the reason of an ordinary cordon that this one replaced and that returns after it.
    """

    actor: str
    reason: str
    since: datetime
    until: datetime | None = None
    quarantine: bool = False
    retires: bool = False
    under: tuple[str, str] | None = None
    maintains: bool = False

    @property
    def flag(self) -> str:
        """The word that listings show for a host under this cordon."""
        return "retiring" if self.retires else "draining" if self.maintains else "cordoned"

    @property
    def cordon_words(self) -> str:
        """Who made this cordon and why: ``is cordoned by alice: fan``."""
        if self.retires:
            return f"is being retired by {self.actor}: {self.reason}"
        if self.maintains:
            return f"goes to maintenance when it is free, by {self.actor}: {self.reason}"
        return f"is cordoned by {self.actor}" + (f": {self.reason}" if self.reason else "")

    @property
    def before(self) -> Note | None:
        """The ordinary cordon that this one replaced; None if there was none."""
        return None if self.under is None else Note(*self.under, self.since)

    def over(self, before: Note | None) -> Note:
        """Return this cordon, with ``before`` as the ordinary cordon that it replaced."""
        if before is None:
            return self
        is_special = before.retires or before.maintains
        return replace(self, under=before.under if is_special else (before.actor, before.reason))


class End(Words):
    """How a reservation ended: its holder gave the hosts back, or lost them in one of the other ways."""

    RETURNED = "returned"
    EXPIRED = "expired"
    FORCED = "forced"
    REMOVED = "removed"
    HANDED_OVER = "handed-over"


class TaskResult(Words):
    """How a task on a host ended, as far as it was reported."""

    COMPLETED = "completed"
    FAILED = "failed"


class FailedTask(Frozen):
    """A task that failed on a host: its owner and its purpose."""

    owner: str
    purpose: str | None = None


class Reservation(Frozen):
    """One owner's right to some hosts; its id is the fencing token.

    A reservation is open while ``ended_at`` is None, and valid while it is open and the time is before ``expires_at``
    (None: it never expires). ``requirements`` is what was asked for. ``request_id`` is the caller's id of the request,
    unique for an owner. ``renewed_at`` is when the lease was last extended (None: never). ``params`` are the values
    with which the hosts are prepared (None: no prepare step runs on them), ``prepared_at`` is when the last host was
    prepared. ``asked_at`` is when the owner first requested the hosts (None: not known, or they were handed over).
    ``tags`` are the tags that the owner set. ``shared_with`` are other owners who may extend and release it.
    """

    id: str
    owner: str
    purpose: str | None
    created_at: datetime
    expires_at: datetime | None
    ttl: timedelta | None
    ended_at: datetime | None = None
    end_reason: str | None = None
    end: End | None = None
    requirements: str | None = None
    request_id: str | None = None
    renewed_at: datetime | None = None
    params: Mapping[str, str] | None = None
    prepared_at: datetime | None = None
    asked_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    shared_with: tuple[str, ...] = ()

    @property
    def is_unprepared(self) -> bool:
        """Whether prepare steps still have to run before the holder gets the hosts."""
        return self.params is not None and self.prepared_at is None

    @property
    def counted_from(self) -> datetime:
        """When the lease was last granted or extended; its length counts from there."""
        return self.renewed_at or self.created_at

    def is_held_by(self, actor: str) -> bool:
        """Return whether an actor may act for the reservation by name: its owner, and those with whom it is shared."""
        return actor == self.owner or actor in self.shared_with

    def is_open(self) -> bool:
        """Return whether the reservation has not ended."""
        return self.ended_at is None

    def was_lost(self) -> bool:
        """Return whether the reservation ended in another way than by its holder giving it back."""
        return self.ended_at is not None and self.end is not End.RETURNED

    def is_valid(self, now: datetime) -> bool:
        """Return whether the holder may act on the hosts at the time ``now``."""
        return self.ended_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def words(self) -> str:
        """The holder, the purpose and the end: ``alice (r-7k3m9q2x, nightly) until 2026-01-01 12:00 UTC``."""
        purpose = f", {self.purpose}" if self.purpose else ""
        shared = f", shared with {', '.join(self.shared_with)}" if self.shared_with else ""
        until = f" until {local_time(self.expires_at)}" if self.expires_at else " without end"
        return f"{self.owner} ({self.id}{purpose}{shared}){until}"

    def refusal(self, actor: str, token: str | None, now: datetime) -> str | None:
        """Return why an actor may not act for the reservation on its hosts; None if that is allowed.

        With a ``token``, it must be the id of the reservation; without one, the actor must hold the reservation.
        """
        if not self.is_valid(now):
            return f"the lease of reservation {self.id} has expired"
        if token == self.id or (token is None and self.is_held_by(actor)):
            return None
        other = actor if token is None else f"reservation {token or repr(token)}"
        return f"is held by {self.words}, not by {other}"


class Planned(Frozen):
    """A time that is set aside on a host, for a booking or a planned maintenance.

    ``id`` is that of the booking (``b-…``) or the maintenance (``m-…``).
    """

    id: str
    owner: str
    starts_at: datetime
    ends_at: datetime

    @property
    def is_booking(self) -> bool:
        """Whether the time is for a booking, not for a planned maintenance."""
        return self.id.startswith("b-")

    @property
    def words(self) -> str:
        """What the time is set aside for: ``booked by alice from … to … (b-7k3m9q2x)``."""
        what = "booked by" if self.is_booking else "planned for a maintenance by"
        times = f"from {local_time(self.starts_at)} to {local_time(self.ends_at)}"
        return f"{what} {self.owner} {times} ({self.id})"


class SetupProgress(Frozen):
    """How many setup steps of a host are done, how many it has, and the name of the one that failed last, if any."""

    done: int
    total: int
    failed: str | None = None

    def __str__(self) -> str:
        """The progress in words, such as ``2 of 4 done, firmware failed``."""
        return f"{self.done} of {self.total} done" + (f", {self.failed} failed" if self.failed else "")


class Host(Frozen):
    """One host: what is declared about it, and its state.

    ``since`` is when the present state began; ``came_from`` is the state before maintenance. ``used_at`` is when the
    host was last reserved or given back. ``proven_at`` is when the readiness checks of an available host last passed,
    None if that is not known. ``planned`` are the times that are set aside on the host, the earliest first.

    ``setup`` is how far the setup of an initial host is, None before its first step ran; ``failed_setups`` is how many
    setups failed in a row. ``failed_tasks`` are the tasks that failed on the host in a row, one for each owner and
    purpose. ``failed_recycles`` is how often in a row ``recycle``, which tries again, failed to make an initial host
    available; None for a host that ``recycle`` leaves to a person. ``id`` and ``last_event`` are assigned by the store.
    """

    spec: HostSpec
    state: State
    since: datetime
    dirty: bool = False
    undeclared: bool = False
    came_from: State | None = None
    cordon: Note | None = None
    maintenance: tuple[Note, ...] = ()
    fault: str | None = None
    failed_cleanups: int = 0
    reservation: Reservation | None = None
    used_at: datetime | None = None
    proven_at: datetime | None = None
    failed_setups: int = 0
    setup: SetupProgress | None = None
    failed_tasks: tuple[FailedTask, ...] = ()
    planned: tuple[Planned, ...] = ()
    failed_recycles: int | None = None
    id: int = 0
    last_event: int = 0

    @property
    def name(self) -> str:
        """The host's name: a DNS name in lower case, unique in its inventory."""
        return self.spec.name


class Verdict(Words):
    """How a step ended; ``unknown`` never counts as passed."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Phase(Words):
    """When a step runs; the value is the name of the phase's table in a policy.

    ``SETUP`` and ``CHECKS`` come before a host is available, ``PREPARE`` before it is handed to a holder, ``CLEANUP``
    after its use, ``RETIRE`` before it is removed.
    """

    SETUP = "setup"
    CHECKS = "checks"
    PREPARE = "prepare"
    CLEANUP = "cleanup"
    RETIRE = "retire"


class StepTiming(Frozen):
    """How one step ended and how many seconds it took, as kept in the event that followed."""

    phase: Phase | None
    step: str
    verdict: Verdict
    seconds: float


class Event(Frozen):
    """One entry of a host's history; ``source`` is the ``dest`` of the entry before (None: outside the inventory).

    ``steps`` are the steps that ran before the event, in their order (None: not known, or this kind of event has no
    steps). ``before`` is what was declared before the event (None: not known, or the event did not change the
    declaration), in the form of ``usecases/shared/former.py``.
    """

    host: str
    at: datetime
    actor: str
    verb: Verb | EventKind
    source: State | None
    dest: State | None
    reason: str | None = None
    reservation: str | None = None
    id: int = 0
    steps: tuple[StepTiming, ...] | None = None
    before: Mapping[str, object] | None = None


class CheckResult(Frozen):
    """The result of one step on one host; ``seconds`` is how long the step took, ``at`` when it ended.

    ``phase`` is None when an older bmhctl did not record it. ``digest`` identifies the step and the host for which it
    ran: it changes when either is declared differently. ``observed`` are the hardware properties that the step
    reported; the value None means that the host no longer has the property.
    """

    step: str
    verdict: Verdict
    detail: str
    seconds: float
    at: datetime | None = None
    phase: Phase | None = None
    digest: str | None = None
    observed: Mapping[str, PropertyValue | None] = field(default_factory=dict)

    @property
    def failure(self) -> str:
        """The step's name and what it reported, for a step that failed."""
        return f"{self.step}: {self.detail or self.verdict}"


HOLDS_BACK: dict[State, tuple[Phase, ...]] = {
    State.INITIAL: (Phase.SETUP, Phase.CHECKS),
    State.TAINTED: (Phase.CLEANUP,),
}
"""For a state, the phases whose failed steps keep a host in it."""


def holding_back(host: Host, results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Return the failed results that keep a host in its state, of steps that ran since this state began.

    For a host in quarantine, these are the results that led to the quarantine.
    """
    phases, since = HOLDS_BACK.get(host.state, ()), host.since
    if host.state is State.MAINTENANCE and any(note.quarantine for note in host.maintenance):
        phases, since = HOLDS_BACK.get(host.came_from or State.TAINTED, ()), LONG_AGO
    return tuple(
        result
        for result in results
        if result.verdict is not Verdict.PASS
        and (result.phase in phases or (phases and result.phase is None))
        and result.at is not None
        and result.at >= since
    )
