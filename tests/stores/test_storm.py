"""Many processes wait for few hosts, and many are killed: no host is shared or lost, no ticket overtaken or starved.

``BMHCTL_TEST_SCALE=1`` runs the whole race: 32 processes, 8 hosts, 1,000 grants; on PostgreSQL twice as many processes
and grants. The default is a tenth of it, with 12 processes.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmhctl.domain.booking import Booking
from bmhctl.domain.model import Event, EventKind, State
from bmhctl.domain.requirements import reservation_request
from bmhctl.stores.claims import host_claim, ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.sqlite.claims import FileClaims
from bmhctl.usecases import hosts
from bmhctl.usecases.reservations import holder, queue, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SCALE, SUFFIX, Lab, environment
from tests.faults.figures import Figures
from tests.forked import Process
from tests.processes import until

pytestmark = pytest.mark.slow

HOSTS = 8
PATIENCE = 120 + 1200 * SCALE
"""Seconds after which a race is given up."""


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Eight available hosts, and the clock of the other processes."""
    lab.clock.now = datetime.now(UTC)
    hosts.add(lab.context(), [f"node[1-{HOSTS}]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.close()
    return lab


def is_on_server(lab: Lab) -> bool:
    return lab.path.name == SUFFIX["postgres"]


def spawn(code: str, *args: object, actor: str) -> Process:
    return Process([str(arg) for arg in args], Path.cwd(), environment(BMHCTL_ACTOR=actor), code=code)


RACER = """
import json, os, sys, time
from bmhctl import open_inventory
from bmhctl.domain.model import State
from bmhctl.stores.host_query import HostQuery
from bmhctl.domain.requirements import load_requirements, total
from bmhctl.usecases.reservations import contended, grants

inventory, marks, size, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
overtaken, waits, at_once, in_turn = [], [], grants.settle, contended._settle

def look(attempt, ticket, hosts):
    # in the granting transaction: all who came before must find enough left
    store = attempt.ctx.store
    left = store.hosts.count(HostQuery(states=frozenset({State.AVAILABLE}))) - len(hosts)
    for other in store.tickets.all():
        if ticket is None or other.id < ticket.id:
            left -= total(load_requirements(other.requirements))
            if left < 0:
                overtaken.append((ticket and ticket.id, other.id))

def settled(attempt, policy, hosts, token):
    look(attempt, None, hosts)
    return at_once(attempt, policy, hosts, token)

def settled_in_turn(attempt, policy, ticket, hosts, checks):
    look(attempt, ticket, hosts)
    return in_turn(attempt, policy, ticket, hosts, checks)

grants.settle, contended._settle = settled, settled_in_turn
with open_inventory(inventory) as lab:
    for _ in range(rounds):
        began = time.monotonic()
        held = lab.reserve(count=size, wait=True)
        waits.append(time.monotonic() - began)
        names = [host.name for host in held.hosts]
        for name in names:
            os.close(os.open(os.path.join(marks, name), os.O_CREAT | os.O_EXCL))  # fails if another holds it
        assert len(set(names)) == size
        for name in names:
            os.unlink(os.path.join(marks, name))
        lab.release(held.reservation.id)
        lab.reset(*names)
        lab.ready(*names)
json.dump({"overtaken": overtaken, "longest": max(waits)}, sys.stdout)
"""


def test_waiters_for_one_and_for_four_hosts_are_served_in_order(fleet: Lab, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    processes, grants = (12, 1000 * SCALE) if SCALE < 1 else (64, 2000) if is_on_server(fleet) else (32, 1000)
    rounds = max(1, math.ceil(grants / processes))
    sizes = [4 if number % 6 == 0 else 1 for number in range(processes)]
    began = time.monotonic()
    racers = [
        spawn(RACER, fleet.location, marks, size, rounds, actor=f"racer{number}") for number, size in enumerate(sizes)
    ]

    ends = []
    for racer in racers:
        out, err = racer.communicate(timeout=PATIENCE)
        ends.append((racer.returncode, err, json.loads(out)["overtaken"] if out else None))
        print(racer.pid, out)

    print(f"{processes * rounds} grants by {processes} processes in {time.monotonic() - began:.1f} s")
    assert ends == [(0, "", [])] * processes
    ctx = fleet.context()
    reserves = [event for event in ctx.store.events.read() if event.verb == "reserve"]
    assert len(reserves) == rounds * sum(sizes)
    assert {event.actor for event in reserves} == {f"racer{number}" for number in range(processes)}
    assert [host.state for host in ctx.store.hosts.find(HostQuery())] == [State.AVAILABLE] * HOSTS
    assert (ctx.store.reservations.open(), ctx.store.tickets.all(), list(marks.iterdir())) == ([], [], [])
    assert not list(tmp_path.glob("*.claims")), "no claim is left, nor the folder they were in"


VICTIM = """
import sys
from bmhctl import open_inventory

with open_inventory(sys.argv[1]) as lab:
    while True:
        held = lab.reserve(count=int(sys.argv[2]), wait=True, ttl="1s")
        print("held", flush=True)
        names = [host.name for host in held.hosts]
        lab.release(held.reservation.id)
        lab.reset(*names)
        lab.ready(*names)
"""


def test_after_many_kills_every_host_comes_back_when_its_lease_expires(fleet: Lab) -> None:
    dice = random.Random(8)
    victims: list[Process] = []
    kills = max(6, round(40 * SCALE))
    for number in range(kills):
        while len(victims) < (12 if SCALE >= 1 else 6):
            victims.append(spawn(VICTIM, fleet.location, dice.choice([1, 1, 1, 4]), actor=f"victim{number}"))
        beaten = victims.pop(dice.randrange(len(victims)))
        time.sleep(dice.uniform(0, 0.5))  # a kill at any time: at the start, in a wait, with hosts, at the end
        beaten.kill()
        beaten.communicate()
    for victim in victims:
        victim.kill()
        victim.communicate()

    lab = fleet.context("operator")
    names = [host_claim(host.id) for host in lab.store.hosts.find(HostQuery())]
    until(lambda: not lab.store.claims.claimed(names) and queue.queue(lab).items == ())
    fleet.clock.now = datetime.now(UTC)
    held = {host.name for host in lab.store.hosts.find(HostQuery(states=frozenset({State.RESERVED})))}
    fleet.clock.move(seconds=2)
    reaped = holder.reap_expired(lab)

    assert {host.name for one in reaped.items for host in one.hosts} == held
    assert lab.store.reservations.open() == []
    assert {h.name for h in lab.store.hosts.find(HostQuery(states=frozenset({State.TAINTED})))} >= held
    assert queue.queue(lab).items == ()
    step_verbs.reset(lab, Choice(states=frozenset({State.TAINTED})))
    step_verbs.ready(lab, Choice(states=frozenset({State.INITIAL})))
    everything = reserve.reserve_or_wait(lab, reservation_request(count=HOSTS))
    assert len(everything.held.hosts) == HOSTS, "nothing that the dead left behind keeps a host"


BOOKER = """
import json, os, sys, time
from contextlib import suppress
from datetime import datetime, UTC
from bmhctl import BmhctlError, open_inventory
from bmhctl.errors import BusyError, UsageError

inventory, marks, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
counts = dict.fromkeys(("booked", "taken", "given up", "broken"), 0)
with open_inventory(inventory) as lab:
    for number in range(rounds):
        try:
            made = lab.book(begins="2s", ttl="10s", count=1 + number % 2)[0].booking
        except (BusyError, UsageError):  # or the two seconds are over before it is its turn
            time.sleep(0.1)
            continue
        counts["booked"] += 1
        if number % 5 == 4:
            lab.cancel_booking(made.id)
            counts["given up"] += 1
            continue
        time.sleep(max(0, (made.starts_at - datetime.now(UTC)).total_seconds()))
        try:
            held = lab.reserve(booking=made.id)
        except BmhctlError:  # its host is not clean in time, or the time is over
            counts["broken"] += 1
            with suppress(BmhctlError):
                lab.cancel_booking(made.id)
            continue
        names = [host.name for host in held.hosts]
        for name in names:
            os.close(os.open(os.path.join(marks, name), os.O_CREAT | os.O_EXCL))  # fails if another holds it
        for name in names:
            os.unlink(os.path.join(marks, name))
        counts["taken"] += 1
        with suppress(BmhctlError):  # the planner recycles it, or its maintenance begins
            lab.release(held.reservation.id)
            lab.reset(*names)
            lab.ready(*names)
json.dump(counts, sys.stdout)
"""

PASSER = """
import os, sys, time
from contextlib import suppress
from bmhctl import BmhctlError, open_inventory
from bmhctl.errors import BusyError

inventory, marks, until = sys.argv[1], sys.argv[2], time.monotonic() + float(sys.argv[3])
with open_inventory(inventory) as lab:
    while time.monotonic() < until:
        try:
            held = lab.reserve(count=1)
        except BusyError:
            time.sleep(0.05)
            continue
        [name] = [host.name for host in held.hosts]
        os.close(os.open(os.path.join(marks, name), os.O_CREAT | os.O_EXCL))
        os.unlink(os.path.join(marks, name))
        with suppress(BmhctlError):  # the planner recycles it, or its maintenance begins
            lab.release(held.reservation.id)
            lab.reset(name)
            lab.ready(name)
        time.sleep(0.02)
"""

PLANNER = """
import sys, time
from contextlib import redirect_stderr
from io import StringIO
from bmhctl.cli.main import run

inventory, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < until:
    number += 1
    plan = ("maintain", f"node{1 + number % 8}", "--from", "2s", "--until", "+1s", "--reason", "power", "--resume")
    for line in (plan, ("recycle",)):
        with redirect_stderr(StringIO()) as said:
            status = run(["-i", inventory, "-q", *line])
        assert status in (0, 4, 5, 12), said.getvalue()
    time.sleep(0.05)
"""


def overlaps(chain: list[Event], known: dict[str, Booking]) -> int:
    """Return how many times on a host overlapped, by the events that set them aside."""
    found, current = 0, set[str]()
    for event in chain:
        current = {each for each in current if (ended := known[each].ended_at) is None or ended > event.at}
        ids = [each for each in known if each in (event.reason or "")]
        if event.verb is EventKind.PLANNED:
            new = known[ids[0]]
            others = [known[each] for each in current]
            found += sum(new.starts_at < each.ends_at and each.starts_at < new.ends_at for each in others)
            current.add(new.id)
        elif event.verb is EventKind.PLAN_ENDED:
            current -= {*ids}
    return found


@pytest.mark.slow(seconds=8)
def test_reservations_bookings_and_maintenances_in_a_race_share_no_host(
    fleet: Lab, tmp_path: Path, figures: Figures
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    seconds, rounds = (3, 4) if SCALE < 1 else (60, 100)
    bookers = [spawn(BOOKER, fleet.location, marks, rounds, actor=f"booker{number}") for number in range(3)]
    others = [spawn(PASSER, fleet.location, marks, seconds, actor=f"passer{number}") for number in range(3)]
    others.append(spawn(PLANNER, fleet.location, seconds, actor="planner"))
    ends = [(each, *each.communicate(timeout=PATIENCE)) for each in (*bookers, *others)]
    assert [(each.returncode, err) for each, _, err in ends] == [(0, "")] * len(ends)

    ctx = fleet.context()
    known = {each.id: each for each in ctx.store.bookings.all()}
    shared = sum(overlaps(list(ctx.store.events.read(host)), known) for host in ctx.store.hosts.find(HostQuery()))
    counts: Counter[str] = Counter()
    for _, out, _ in ends[: len(bookers)]:
        counts.update(json.loads(out))
    backend = next(name for name, suffix in SUFFIX.items() if fleet.path.name == suffix)
    lost = counts["booked"] - counts["taken"] - counts["given up"] - counts["broken"]
    figures("bookings in a race", backend, tries=counts["booked"], taken=counts["taken"], losses=lost, shared=shared)
    assert (lost, shared, list(marks.iterdir())) == (0, 0, [])
    assert counts["taken"]


def test_after_all_holders_and_waiters_are_killed_every_host_is_tainted_in_time(fleet: Lab) -> None:
    holders = [spawn(HOLDER, fleet.location, actor=f"holder{number}") for number in range(4)]
    for process in holders:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
    waiters = [spawn(HOLDER, fleet.location, actor=f"waiter{number}") for number in range(4)]
    lab = fleet.context("operator")
    until(lambda: len(queue.queue(lab).items) == len(waiters))

    for process in (*holders, *waiters):
        process.kill()
        process.communicate()

    until(lambda: queue.queue(lab).items == ())  # as soon as the server notices that they have ended
    fleet.clock.now = datetime.now(UTC)
    fleet.clock.move(minutes=2)
    assert len(holder.reap_expired(lab).items) == len(holders)
    assert [host.state for host in lab.store.hosts.find(HostQuery())] == [State.TAINTED] * HOSTS


HOLDER = """
import sys
from bmhctl import open_inventory

with open_inventory(sys.argv[1]) as lab:
    lab.reserve(count=2, wait=True, ttl="1m")
    print("held", flush=True)
    sys.stdin.close()
    while True:
        __import__("time").sleep(60)
"""


ASKER = """
import sys
from pathlib import Path
from bmhctl.stores.claims import host_claim, ticket_claim\nfrom bmhctl.stores.sqlite.claims import FileClaims

claims = FileClaims(Path(sys.argv[1]))
print("asking", flush=True)
while True:
    claims.claimed([host_claim(1)])
    claims.shared([ticket_claim(1)])
"""


def test_a_process_that_only_reads_claims_blocks_none(tmp_path: Path) -> None:
    claims = FileClaims(tmp_path / "lab.db")
    askers = [spawn(ASKER, tmp_path / "lab.db", actor="asker") for _ in range(3)]
    for asker in askers:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "asking\n"

    for _ in range(100):
        with claims.claim(host_claim(1)) as handle, claims.share(ticket_claim(1)) as is_last:
            assert handle is not None
            assert claims.claimed([host_claim(1)])
            assert claims.shared([ticket_claim(1)])
            assert is_last()
    assert not claims.claimed([host_claim(1)])

    for asker in askers:
        asker.kill()
        asker.communicate()
    assert list(tmp_path.iterdir()) == [], "no file is left of a claim that is not held"
