"""Host, reservation, event, step result and other nouns, as frozen values without rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bmhctl.support.values import Frozen, Words, field, replace

NEVER = datetime.max.replace(tzinfo=UTC)
"""Later than every other time: when a lease without an end ends."""


class State(Words):
    """The states of a host; ``lifecycle.table`` says what holds in each."""

    INITIAL = "initial"
    AVAILABLE = "available"
    RESERVED = "reserved"
    TAINTED = "tainted"
    MAINTENANCE = "maintenance"


class StateName(StrEnum):
    """What a choice of hosts takes for a state: the states, and ``free`` for available hosts that can be reserved."""

    INITIAL = State.INITIAL.value
    AVAILABLE = State.AVAILABLE.value
    RESERVED = State.RESERVED.value
    TAINTED = State.TAINTED.value
    MAINTENANCE = State.MAINTENANCE.value
    FREE = "free"


class Verb(Words):
    """What changes the state of a host, or adds it to the inventory or removes it."""

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
    """A condition on an edge of the lifecycle, by the name of the method that the machine asks."""

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
    """One way from one state to another; a ``source`` or a ``dest`` of None is outside the inventory (``[*]``).

    ``label`` is its label in the diagram, ``why`` one sentence why the edge exists. Edges of one verb from one state
    are tried in the order of the table. ``drawn`` is False for edges that the diagram leaves out.
    """

    verb: Verb
    source: State | None
    dest: State | None
    guards: tuple[Guard, ...]
    label: str
    why: str
    drawn: bool = True


class EventKind(Words):
    """What is recorded without a change of state: an event whose source is its destination."""

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


class Bmc(Frozen):
    """How to reach a host's baseboard management controller.

    ``credentials`` is a reference (``env:NAME``, ``file:PATH``, ``command:…``), never a secret itself.
    ``tls_min_version`` is the oldest TLS version to accept, such as ``1.0``; None for this machine's default.
    """

    address: str
    type: str | None = None
    system_id: str | None = None
    credentials: str | None = None
    verify_tls: bool = True
    tls_min_version: str | None = None


class HostSpec(Frozen):
    """What is declared about a host; the lifecycle never changes it.

    ``observed`` are hardware properties that steps reported: state, never written into a declaration.
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
        """Its hardware properties: those that are declared, and the observed ones under other keys."""
        return {**self.observed, **self.hardware} if self.observed else self.hardware


class Note(Frozen):
    """A cordon, or one reason for maintenance: who made it, when and why.

    ``until`` is when it should end, for information: nothing ends it. ``quarantine`` is a reason that bmhctl itself
    gave, which any actor may close. ``retires``: a cordon under which the host leaves the inventory once it is free;
    ``maintains``: one under which it goes to maintenance when it is given back. ``under`` are the actor and the reason
    of an ordinary cordon from before.
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
        """The flag of a host under this cordon."""
        return "retiring" if self.retires else "draining" if self.maintains else "cordoned"

    @property
    def before(self) -> Note | None:
        """The ordinary cordon from before this one."""
        return None if self.under is None else Note(*self.under, self.since)

    def over(self, before: Note | None) -> Note:
        """Return this cordon, which remembers an ordinary one from before."""
        if before is None:
            return self
        is_special = before.retires or before.maintains
        return replace(self, under=before.under if is_special else (before.actor, before.reason))


class End(Words):
    """How a reservation ended: its holder gave it back, or it was lost in one of the other ways."""

    RETURNED = "returned"
    EXPIRED = "expired"
    FORCED = "forced"
    REMOVED = "removed"
    HANDED_OVER = "handed-over"


class TaskResult(Words):
    """How a task on a host ended, as far as it is known."""

    COMPLETED = "completed"
    FAILED = "failed"


class FailedTask(Frozen):
    """A task that failed on a host: who ran it, and what for."""

    owner: str
    purpose: str | None = None


class Reservation(Frozen):
    """One owner's right to some hosts; its id is the fencing token.

    Open while ``ended_at`` is None; valid while open and before ``expires_at`` (None: it never expires).
    ``requirements`` is what was asked for, ``request_id`` the caller's id of the request, unique for an owner.
    ``renewed_at`` is when the lease was last extended (None: never). ``params`` are the values with which its hosts
    are prepared (None: no prepare step runs on them), ``prepared_at`` is when all of them were. ``asked_at`` is when
    its owner first requested it (None: not known, or it was handed over). ``tags`` are what the owner noted with it.
    ``shared_with`` are other owners who may extend and release it.
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
        """Whether its hosts still have to be prepared before their holder gets them."""
        return self.params is not None and self.prepared_at is None

    @property
    def counted_from(self) -> datetime:
        """When the lease was last granted or extended: its length counts from there."""
        return self.renewed_at or self.created_at

    def is_held_by(self, actor: str) -> bool:
        """Return whether an actor may act for it by name: its owner, and those with whom it is shared."""
        return actor == self.owner or actor in self.shared_with

    def is_open(self) -> bool:
        """Return whether it has not ended."""
        return self.ended_at is None

    def was_lost(self) -> bool:
        """Return whether it ended, and not because its holder gave it back."""
        return self.ended_at is not None and self.end is not End.RETURNED

    def is_valid(self, now: datetime) -> bool:
        """Return whether its holder may act on its hosts at ``now``."""
        return self.ended_at is None and (self.expires_at is None or now < self.expires_at)


class Planned(Frozen):
    """A time that is set aside on a host: for a booking (``b-…``) or a planned maintenance (``m-…``), by its id."""

    id: str
    owner: str
    starts_at: datetime
    ends_at: datetime

    @property
    def is_booking(self) -> bool:
        """Whether it is for a booking, else for a planned maintenance."""
        return self.id.startswith("b-")


class SetupProgress(Frozen):
    """How many setup steps of a host are done, of how many, and the one that failed last, if any."""

    done: int
    total: int
    failed: str | None = None

    def __str__(self) -> str:
        """In words, such as ``2 of 4 done, firmware failed``."""
        return f"{self.done} of {self.total} done" + (f", {self.failed} failed" if self.failed else "")


class Host(Frozen):
    """One host: what is declared about it, and its state.

    ``came_from`` is the state before maintenance; ``since`` is when the present state began; ``used_at`` is
    when it was last reserved or given back. ``proven_at`` is when the readiness checks of an available host last
    passed, None if that is not known. ``setup`` is how far the setup of an initial host is, None before its first step
    ran; ``failed_setups`` counts those that failed in a row. ``failed_tasks`` are the tasks that failed on it in a
    row, one for each owner and purpose. ``planned`` are the times that are set aside, the next one first.
    ``failed_recycles`` counts in a row how often an initial host could not be made available by ``recycle``, which
    tries again; it is None for a host that is left to a person. ``id`` and ``last_event`` are the store's.
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
    """How one step ended, and how many seconds it took, as the event that it led to keeps it."""

    phase: Phase | None
    step: str
    verdict: Verdict
    seconds: float


class Event(Frozen):
    """One entry of a host's history; ``source`` is the ``dest`` of the one before (None: outside the inventory).

    ``steps`` are those that ran before it, in their order (None: not known, or it is of a kind that runs none).
    ``before`` is what was declared before it (None: not known, or it changed nothing of that), as ``former`` writes it.
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
    """The result of one step on one host; ``seconds`` is how long it took, ``at`` when it ended.

    ``phase`` is None when an older bmhctl did not record it. ``digest`` identifies what was run, and for what.
    ``observed`` are the hardware properties that it reported, None for one that the host does not have any more.
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
        """What the step reported, with its name: for one that failed."""
        return f"{self.step}: {self.detail or self.verdict}"


HOLDS_BACK: dict[State, tuple[Phase, ...]] = {
    State.INITIAL: (Phase.SETUP, Phase.CHECKS),
    State.TAINTED: (Phase.CLEANUP,),
}
"""The phases whose failed steps hold a host back in a state."""


def holding_back(host: Host, results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Return those of a host's results that hold it back: failed steps of its state, since that state began.

    In a quarantine they are the steps that led to it.
    """
    phases, since = HOLDS_BACK.get(host.state, ()), host.since
    if host.state is State.MAINTENANCE and any(note.quarantine for note in host.maintenance):
        phases, since = HOLDS_BACK.get(host.came_from or State.TAINTED, ()), datetime.min.replace(tzinfo=UTC)
    return tuple(
        result
        for result in results
        if result.verdict is not Verdict.PASS
        and (result.phase in phases or (phases and result.phase is None))
        and result.at is not None
        and result.at >= since
    )
