"""Fleets and results to draw. None of them is random, so that drawings can be compared."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bmhctl.domain.booking import Booking
from bmhctl.domain.model import (
    Bmc,
    CheckResult,
    Event,
    EventKind,
    Host,
    HostSpec,
    Note,
    Reservation,
    State,
    Verb,
    Verdict,
)
from bmhctl.domain.ticket import QueueEvent, QueueVerb, Ticket
from bmhctl.errors import BusyError, NotYoursError, StateRefusedError
from bmhctl.output import Display, Format
from bmhctl.results import (
    Done,
    Grant,
    Held,
    History,
    HostDetail,
    Hosts,
    Imported,
    Outcome,
    Outcomes,
    Plan,
    Reservations,
)
from bmhctl.results.bookings import Booked, Bookings
from bmhctl.results.diagnosis import Diagnosis, Finding, Severity
from bmhctl.results.queue import Queue, Queued, QueueHistory, TicketChange
from bmhctl.results.status import Ending, Status
from bmhctl.results.why import Graph, VerbAnswer, Why

NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
LONG = "a" + "-very-long-name" * 4 + "-x"  # 63 characters, as long as a name may be

assert len(LONG) == 63

NIGHTLY = Reservation(
    "r-7k3m", "alice", "nightly tests", NOW - timedelta(hours=2), NOW + timedelta(minutes=35), timedelta(hours=4)
)
DEBUG = Reservation("r-2xq9", "bob", None, NOW - timedelta(days=3), None, None)
OVER = Reservation("r-9ab1", "ci-bot", "job 4711", NOW - timedelta(hours=5), NOW - timedelta(minutes=5), None)

LABELS = {"arch": "arm64", "rack": "r1", "zone": "b"}


def host(name: str = "node01", state: State = State.AVAILABLE, **changes: object) -> Host:
    spec = HostSpec(name, address="10.0.0.11", mac="bc:55:85:92:de:b7", labels=LABELS)
    return replace(Host(spec, state, NOW - timedelta(hours=2)), **changes)  # type: ignore[arg-type]


def spec(name: str, **changes: object) -> HostSpec:
    return replace(HostSpec(name), **changes)  # type: ignore[arg-type]


FLEET = (
    host("node01", State.RESERVED, reservation=NIGHTLY, dirty=True),
    host("node02", State.RESERVED, reservation=NIGHTLY, dirty=True, since=NOW - timedelta(minutes=12)),
    host("node03", cordon=Note("carol", "kernel upgrade next", NOW - timedelta(hours=1))),
    host(
        "node04", State.INITIAL, since=NOW - timedelta(seconds=8), spec=spec("node04", note="große Kiste, linkes Fach")
    ),
    host("node05", State.TAINTED, dirty=True, fault="fan 3 stopped", since=NOW - timedelta(days=3, hours=4)),
    host(
        "node06",
        State.MAINTENANCE,
        came_from=State.AVAILABLE,
        maintenance=(
            Note("dave", "replace the PSU", NOW - timedelta(days=1), until=NOW + timedelta(hours=6)),
            Note("carol", "firmware 2.1", NOW - timedelta(hours=3)),
        ),
    ),
    host("node07", State.AVAILABLE, undeclared=True),
)


def fleet(count: int) -> tuple[Host, ...]:
    return tuple(
        replace(
            each, spec=replace(each.spec, name=f"rack{i // 20:02}-node{i:04}", address=f"10.0.{i // 250}.{i % 250 + 1}")
        )
        for i in range(count)
        for each in (FLEET[i * 5 % 7],)
    )


def wide_fleet() -> tuple[Host, ...]:
    labels = {f"key{i}": f"value-{i}" for i in range(20)}
    return (
        *FLEET,
        host(LONG, State.MAINTENANCE, spec=spec(LONG, address="a-long-name.of.a.host.example.org", labels=labels)),
        host("node09", spec=spec("node09", labels=labels, note="右側の棚、上から二番目のサーバー" * 4)),
    )


EVENTS = (
    Event("node01", NOW - timedelta(days=3), "ops@lab", Verb.ENTER, None, State.INITIAL, None, None, 1),
    Event(
        "node01",
        NOW - timedelta(days=3, minutes=-9),
        "ops@lab",
        Verb.READY,
        State.INITIAL,
        State.AVAILABLE,
        None,
        None,
        2,
    ),
    Event(
        "node01",
        NOW - timedelta(hours=8),
        "carol",
        EventKind.CORDON,
        State.AVAILABLE,
        State.AVAILABLE,
        "kernel upgrade",
        None,
        3,
    ),
    Event(
        "node01", NOW - timedelta(hours=7), "carol", EventKind.UNCORDON, State.AVAILABLE, State.AVAILABLE, None, None, 4
    ),
    Event(
        "node01",
        NOW - timedelta(hours=2),
        "alice",
        Verb.RESERVE,
        State.AVAILABLE,
        State.RESERVED,
        "nightly tests",
        "r-7k3m",
        5,
    ),
)

ANSWERS = (
    VerbAnswer(Verb.READY, False, None, ("is reserved: ready is only possible from initial",), "bmhctl ready node01"),
    VerbAnswer(Verb.RESERVE, False, None, ("is held by alice (r-7k3m) until 08:35",), "bmhctl reserve node01"),
    VerbAnswer(Verb.TAINT, True, State.TAINTED, (), "bmhctl taint node01 -R r-7k3m"),
    VerbAnswer(Verb.RESET, False, None, ("is reserved: reset is only possible from tainted",), "bmhctl reset node01"),
    VerbAnswer(
        Verb.MAINTAIN, True, State.MAINTENANCE, ("the reservation is kept",), "bmhctl maintain node01 --reason …"
    ),
    VerbAnswer(
        Verb.RESUME, False, None, ("is reserved: resume is only possible from maintenance",), "bmhctl resume node01"
    ),
)

WHY = Why(
    FLEET[0],
    "It is reserved by alice (r-7k3m) for nightly tests, for another 35m.",
    ("it was last clean 2h ago", "2 tickets wait for a host like this"),
    ANSWERS,
    "bmhctl taint node01 -R r-7k3m",
    NOW,
)

TAINTED_ANSWERS = (
    VerbAnswer(Verb.RESET, None, State.INITIAL, ("runs its cleanup first: wipe",), "bmhctl recycle node05"),
    VerbAnswer(Verb.MAINTAIN, True, State.MAINTENANCE, (), "bmhctl maintain node05 --reason …"),
    VerbAnswer(
        Verb.RESERVE, False, None, ("is tainted: reserve is only possible from available",), "bmhctl reserve node05"
    ),
)

WHY_MAINTENANCE = Why(
    FLEET[5],
    "It is in maintenance: replace the PSU (dave), firmware 2.1 (carol).",
    (),
    (
        VerbAnswer(
            Verb.RESUME, None, State.AVAILABLE, ("its readiness checks run first",), "bmhctl resume node06 --all"
        ),
    ),
    "bmhctl resume node06 --all",
    NOW,
)
MAINTENANCE_EVENTS = (
    Event("node06", NOW - timedelta(days=2), "ops", Verb.ENTER, None, State.INITIAL, None, None, 1),
    Event("node06", NOW - timedelta(days=2), "ops", Verb.READY, State.INITIAL, State.AVAILABLE, None, None, 2),
    Event(
        "node06",
        NOW - timedelta(days=1),
        "dave",
        Verb.MAINTAIN,
        State.AVAILABLE,
        State.MAINTENANCE,
        "replace the PSU",
        None,
        3,
    ),
)

COUNTS = {State.INITIAL: 4, State.AVAILABLE: 12, State.RESERVED: 20, State.TAINTED: 2, State.MAINTENANCE: 2}

STATUS = Status(
    "lab.toml",
    COUNTS,
    11,
    ("node03",),
    ("node07",),
    ("node05",),
    (Held(NIGHTLY, FLEET[:2]), Held(DEBUG, (host("node12", State.RESERVED),))),
    ("r-9ab1",),
    (
        Ending(NOW + timedelta(minutes=35), "alice's lease r-7k3m", ("node01", "node02")),
        Ending(NOW + timedelta(hours=6), "maintenance: replace the PSU", ("node06",)),
    ),
    NOW,
)

STEPS = (
    CheckResult("ssh", Verdict.PASS, "10.0.0.11:22 answers", 0.21),
    CheckResult("bmc", Verdict.UNKNOWN, "no health reported", 1.5),
)

OUTCOMES = Outcomes(
    "taint",
    (
        Outcome("node01", True, "task completed", State.RESERVED, State.TAINTED, "r-7k3m"),
        Outcome("node05", False, "already tainted", State.TAINTED, State.TAINTED),
        Outcome(
            "node02",
            False,
            "is reserved by alice",
            State.RESERVED,
            State.RESERVED,
            error=NotYoursError("is reserved by alice (r-7k3m)", host="node02", hint="give -R ID"),
        ),
        Outcome(
            "node04",
            False,
            "is initial",
            State.INITIAL,
            State.INITIAL,
            error=StateRefusedError("is initial: taint is only possible from reserved", host="node04"),
        ),
    ),
    notes=("2 reservations had expired and were reaped",),
)

READY = Outcomes("ready", (Outcome("node04", True, "all checks passed", State.INITIAL, State.AVAILABLE, None, STEPS),))
PLAN = Plan("ready", (Outcome("node04", True, "would run ssh, bmc", State.INITIAL, State.AVAILABLE),))
GRANT = Grant(Held(NIGHTLY, FLEET[:2]), ("the ttl was cut to 3d by the policy",))
RESERVATIONS = Reservations(
    (
        Held(NIGHTLY, FLEET[:2]),
        Held(DEBUG, (FLEET[5],)),
        Held(replace(OVER, ended_at=NOW - timedelta(minutes=1), end_reason="expired"), ()),
    ),
    NOW,
)
_BOOKING = Booking(
    id="b-7k3m9q2x",
    owner="alice",
    purpose="demo",
    starts_at=NOW + timedelta(hours=2),
    ends_at=NOW + timedelta(hours=5),
    created_at=NOW - timedelta(days=1),
    requirements='[["rack=r1",2]]',
    hosts=(1, 2),
    due_at=NOW + timedelta(hours=2),
)
BOOKINGS = Bookings(
    (
        Booked(_BOOKING, ("node01", "node02"), "2 hosts with rack=r1", ("node02",)),
        Booked(
            replace(_BOOKING, id="m-2c5x8w1n", purpose="power work", hosts=(1,), starts_at=NOW - timedelta(hours=1)),
            ("node01",),
            "node01",
        ),
    ),
    NOW,
)
QUEUE_HISTORY = QueueHistory(
    (
        TicketChange(
            QueueEvent(7, NOW, "ci-bot", QueueVerb.ASKED, "ci-bot", '[["arch=arm64",4]]', id=1),
            "4 hosts with arch=arm64",
        ),
        TicketChange(
            QueueEvent(
                7, NOW, "olga", QueueVerb.MOVED, "ci-bot", '[["arch=arm64",4]]', "to the front: release", None, 2
            ),
            "4 hosts with arch=arm64",
        ),
    ),
    NOW,
)
QUEUE = Queue(
    (
        Queued(
            Ticket(
                "ci-bot",
                '[["arch=arm64",4]]',
                NOW - timedelta(minutes=3, seconds=20),
                NOW,
                purpose="nightly tests of the release branch",
                deadline=NOW + timedelta(minutes=26, seconds=40),
                request_id="job-4711-1",
                id=12,
            ),
            1,
            "4 hosts with arch=arm64",
            "2 more hosts",
        ),
        Queued(
            Ticket("bob@lab", '[["arch=arm64",2],["role=switch",1]]', NOW - timedelta(seconds=8), NOW, id=13),
            2,
            "2 hosts with arch=arm64 and 1 with role=switch",
            "1 more host: that needs an operator; switch01 is in maintenance, node06 is cordoned",
        ),
    ),
    NOW,
)
HISTORY = History(EVENTS, "node01", NOW)
DETAIL = HostDetail(
    replace(
        FLEET[0],
        spec=replace(
            FLEET[0].spec,
            bmc=Bmc("redfish+https://10.0.1.11/redfish/v1/Systems/1", credentials="env:LAB_BMC"),
            hardware={"cpus": 64, "memory": "256GiB"},
            note="left slot, top",
        ),
        used_at=NOW - timedelta(hours=2),
    ),
    EVENTS,
    NOW,
)
IMPORTED = Imported(
    (
        Outcome("node08", True, "provisioned there", None, State.RESERVED),
        Outcome("node09", False, "known already", State.INITIAL, State.INITIAL),
    ),
    ("Secret bmc-1: secrets are never stored",),
    ("node08 and node09 have the same MAC",),
    False,
)
_LET_GO = "restore a backup; or remove it and add it again: bmhctl remove node02 --force"
DIAGNOSIS = Diagnosis(
    "lab.db",
    (
        Finding("history", Severity.BROKEN, "a gap in its history: event 12 begins at available", _LET_GO, "node02"),
        Finding("history", Severity.BROKEN, "is available, but its history ends at tainted", _LET_GO, "node02"),
        Finding("facts", Severity.BROKEN, "selectors see other values", "bmhctl doctor --fix", "node01", True),
        Finding("lease", Severity.WARNING, "reservation r-2xq9 of bob has no end", "ask bob whether it is still used"),
        Finding("claim", Severity.NOTE, "and 7 more like these", "", fixable=True, number=7),
    ),
    NOW,
    {"hosts": 12, "events": 1, "reservations": 3},
)
REPAIRED = Diagnosis(
    "lab.db",
    (
        replace(DIAGNOSIS.findings[3]),
        replace(DIAGNOSIS.findings[2], fixed=True),
        replace(DIAGNOSIS.findings[4], fixed=True),
    ),
    NOW,
    DIAGNOSIS.counts,
    "lab.db.before-doctor-20261123T080000Z.db",
)
DONE = Done(
    "init", "lab.toml is a new inventory", {"path": "lab.toml", "hosts": 0}, ("add a host with: bmhctl add NAME",)
)
BUSY = BusyError("3 hosts match and none is free", hint="wait for one with --wait 30m", details={"matching": 3})
GRAPH = Graph(COUNTS)
HOST_GRAPH = Graph(COUNTS, WHY, EVENTS)
MAINTENANCE_GRAPH = Graph(COUNTS, WHY_MAINTENANCE, MAINTENANCE_EVENTS)

HOSTILE = "[red]x[/red]\x1b[31m\u202eevil\u2066\n\x9b1m\t\udc80</text>\"'&;\\-->"
"""Rich markup, escape sequences, bidi overrides, line breaks, and the characters that end a text in each drawing."""


def display(
    format: Format | None = None, *, width: int = 80, tty: bool = False, colour: bool = False, **options: bool
) -> Display:
    return Display(
        io.StringIO(), io.StringIO(), tty, tty, width, colour, colour, format=format, error_width=width, **options
    )


def hosts(items: tuple[Host, ...] = FLEET) -> Hosts:
    return Hosts(items, NOW)
