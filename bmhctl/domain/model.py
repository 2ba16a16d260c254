"""Host, reservation, ticket, event and the other nouns, as frozen values without rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from bmhctl.support.values import Frozen, field


class State(StrEnum):
    """Where a host is in its life; ``lifecycle.table`` says what holds in each."""

    INITIAL = "initial"
    AVAILABLE = "available"
    RESERVED = "reserved"
    TAINTED = "tainted"
    MAINTENANCE = "maintenance"


class Verb(StrEnum):
    """What moves a host, or lets it in and out of the inventory."""

    ENTER = "enter"
    READY = "ready"
    RESERVE = "reserve"
    TAINT = "taint"
    RESET = "reset"
    MAINTAIN = "maintain"
    RESUME = "resume"
    REMOVE = "remove"


class EventKind(StrEnum):
    """What matters but moves no host: an event whose source is its destination."""

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


Fact = str | int
"""The value of a hardware fact: a text, a number, or a size such as ``256GiB``."""


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
    """What a person declares about a host; the lifecycle never changes it."""

    name: str
    address: str | None = None
    mac: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    bmc: Bmc | None = None
    hardware: Mapping[str, Fact] = field(default_factory=dict)
    note: str | None = None


class Note(Frozen):
    """Who set something aside, when and why: a cordon, or one reason for a maintenance.

    ``until`` is when it should be over (a note, not a timer). ``quarantine`` marks a reason that bmhctl gave
    by itself, which anyone may close.
    """

    actor: str
    reason: str
    since: datetime
    until: datetime | None = None
    quarantine: bool = False


class End(StrEnum):
    """How a reservation ended: its holder gave it back, or it was lost in one of the other ways."""

    RETURNED = "returned"
    EXPIRED = "expired"
    FORCED = "forced"
    REMOVED = "removed"
    HANDED_OVER = "handed-over"


class Reservation(Frozen):
    """One owner's right to some hosts; its id is the fencing token.

    Open while ``ended_at`` is None; valid while open and before ``expires_at`` (None: it never expires).
    ``wants`` is what was asked for, ``request_id`` the caller's own name for the request, unique for an owner.
    ``renewed_at`` is when the lease was last counted anew (None: never since it was made).
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
    wants: str | None = None
    request_id: str | None = None
    renewed_at: datetime | None = None

    @property
    def counted_from(self) -> datetime:
        """The moment from which the lease was granted to its end."""
        return self.renewed_at or self.created_at

    def is_open(self) -> bool:
        """Return whether it has not been ended."""
        return self.ended_at is None

    def was_lost(self) -> bool:
        """Whether it ended otherwise than by its holder, who did not give it back."""
        return self.ended_at is not None and self.end is not End.RETURNED

    def is_valid(self, now: datetime) -> bool:
        """Whether its holder may act on its hosts at ``now``."""
        return self.ended_at is None and (self.expires_at is None or now < self.expires_at)


class Ticket(Frozen):
    """A place in the queue for hosts; a smaller ``id`` is older and goes first.

    ``wants`` is what is asked for. ``deadline`` is when its owner stops waiting (None: never), ``refreshed_at``
    when the waiting process last said that it lives. ``ttl`` and ``endless`` are the lease that is asked for.
    """

    owner: str
    wants: str
    created_at: datetime
    refreshed_at: datetime
    purpose: str | None = None
    ttl: timedelta | None = None
    endless: bool = False
    deadline: datetime | None = None
    request_id: str | None = None
    id: int = 0


class Host(Frozen):
    """One host: what is declared about it, and where it is in its life.

    ``came_from`` is the state before maintenance; ``since`` is when the present state began; ``used_at`` is
    when it was last reserved or given back. ``proven_at`` is when the readiness checks of an available host last
    passed, None if that is not known. ``failed_setups`` counts those that failed in a row. ``id`` and ``last_event``
    are the store's.
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
    id: int = 0
    last_event: int = 0

    @property
    def name(self) -> str:
        """The host's name: a DNS name in lower case, unique in its inventory."""
        return self.spec.name


class Event(Frozen):
    """One line of a host's history; ``source`` is the previous event's ``dest`` (None: outside the inventory)."""

    host: str
    at: datetime
    actor: str
    verb: Verb | EventKind
    source: State | None
    dest: State | None
    reason: str | None = None
    reservation: str | None = None
    id: int = 0


class Phase(StrEnum):
    """When in a host's life a step runs; the value is the table of its steps in a policy.

    ``SETUP`` and ``CHECKS`` come before a host is available, ``PREPARE`` before it is handed to a holder, ``CLEANUP``
    after its use, ``RETIRE`` before it leaves.
    """

    SETUP = "setup"
    CHECKS = "checks"
    PREPARE = "prepare"
    CLEANUP = "cleanup"
    RETIRE = "retire"


class Verdict(StrEnum):
    """How a step ended; unknown is never a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Power(StrEnum):
    """What can be asked of a host's power, and of its indicator light."""

    ON = "on"
    OFF = "off"
    SOFT_OFF = "soft-off"
    CYCLE = "cycle"
    STATUS = "status"
    IDENTIFY = "identify"
    IDENTIFY_OFF = "identify-off"

    @property
    def switches(self) -> bool:
        """Whether it changes the power."""
        return self in (Power.ON, Power.OFF, Power.SOFT_OFF, Power.CYCLE)


class BootTarget(StrEnum):
    """What a host can be told to boot from at its next start; ``NONE`` takes that back."""

    PXE = "pxe"
    HDD = "hdd"
    CD = "cd"
    USB = "usb"
    BIOS = "bios"
    HTTP = "http"
    DIAGNOSTICS = "diagnostics"
    NONE = "none"


class CheckResult(Frozen):
    """What one step said of one host; ``seconds`` is how long it took, ``at`` when it ended.

    ``phase`` is None when an older bmhctl did not record it. ``digest`` is a word for what was run, and for what.
    """

    step: str
    verdict: Verdict
    detail: str
    seconds: float
    at: datetime | None = None
    phase: Phase | None = None
    digest: str | None = None


class ImportedHost(Frozen):
    """A host that a file brings, with the state it has there.

    ``host.reservation`` with an empty id is a claim made elsewhere (its owner is the consumer there).
    ``source_state`` is the file's own word for the state; ``origin`` says where it stands (file, document).
    """

    host: Host
    source_state: str | None
    origin: str


class ImportBatch(Frozen):
    """What the files of one import brought: hosts, what was passed over and why, what looks odd, a policy."""

    arrivals: tuple[ImportedHost, ...]
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    policy: str | None = None
