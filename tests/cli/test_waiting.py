"""Waiting with the real command on every backend: processes that queue, and what ends their wait."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.usecases import hosts
from bmhctl.usecases.policy import apply_policy
from bmhctl.usecases.shared.host_selection import Choice
from tests.conftest import BACKENDS, Bmhctl, Lab, Run, environment, made_in
from tests.forked import Process
from tests.processes import until

pytestmark = pytest.mark.slow


@pytest.fixture(params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend."""
    yield from made_in(request.param, tmp_path)


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Inventory]:
    """Two hosts that the operator holds, in two racks."""
    with open_inventory(lab.location, actor="operator") as inventory:
        inventory.add("node1", labels={"rack": "r1"})
        inventory.add("node2", labels={"rack": "r2"})
        inventory.ready("node*")
        inventory.reserve("node1", "node2", purpose="set-up")
        yield inventory


class Waiter:
    """A process of ``bmhctl reserve … --wait`` that is in the queue."""

    def __init__(self, lab: Lab, actor: str, *args: str) -> None:
        self.actor = actor
        self._stderr = lab.path.with_name(f"{actor}.{time.monotonic_ns()}.err")
        with self._stderr.open("w") as stderr:
            line = ("-i", lab.location, "reserve", "-o", "name", *args)
            self.process = Process(line, Path.cwd(), environment(BMHCTL_ACTOR=actor), stderr=stderr.fileno())
        self.process.stdin.close()

    def ended(self) -> Run:
        """Wait for the end of the process, and return how it ended."""
        out, _ = self.process.communicate(timeout=30)
        return Run(self.process.returncode, out, self.said)

    @property
    def said(self) -> str:
        return self._stderr.read_text()


Queue = Callable[..., Waiter]


@pytest.fixture
def waiting(lab: Lab, fleet: Inventory) -> Iterator[Queue]:
    """Starts a waiter and returns when it has its ticket and has printed its position."""
    started: list[Waiter] = []

    def start(actor: str, *args: str) -> Waiter:
        waiter = Waiter(lab, actor, *args)
        started.append(waiter)
        until(lambda: "waiting for" in waiter.said or waiter.process.poll() is not None)
        assert waiter.process.poll() is None, waiter.said
        return waiter

    yield start
    for waiter in started:
        with waiter.process:
            waiter.process.kill()


def queue_of(inventory: Inventory) -> list[str]:
    """Return the owners of the tickets, the oldest first."""
    return [ticket.owner for ticket in inventory._context.store.tickets.all()]


def give_back(inventory: Inventory, *names: str) -> None:
    inventory.taint(*names)
    inventory.reset(*names)
    inventory.ready(*names)


def of(lab: Lab, bmhctl: Bmhctl) -> Callable[..., Run]:
    """The command on this inventory."""
    return lambda *args, **env: bmhctl("-i", lab.location, *args, **env)


# tests: the order of the queue


def test_a_returned_host_goes_to_the_first_waiter_that_is_alive(
    lab: Lab, fleet: Inventory, waiting: Queue, bmhctl: Bmhctl
) -> None:
    first, second = waiting("first", "-n1", "--wait"), waiting("second", "-n1", "--wait")
    first.process.send_signal(signal.SIGSTOP)
    give_back(fleet, "node1")

    done = of(lab, bmhctl)("reserve", "-n1")
    assert (done.status, "set aside for 2 earlier tickets: the first is that of first, from " in done.stderr) == (
        5,
        True,
    )
    assert (second.process.poll(), queue_of(fleet)) == (None, ["first", "second"])
    first.process.kill()
    done = second.ended()
    assert (done.status, done.stdout) == (0, "node1\n")
    assert of(lab, bmhctl)("queue", "-o", "name").stdout == ""


def test_a_waiter_that_times_out_does_not_change_the_order_of_the_queue(fleet: Inventory, waiting: Queue) -> None:
    first = waiting("first", "-n1", "--wait")
    middle = waiting("middle", "-n1", "--wait", "1s")
    last = waiting("last", "-n1", "--wait", "10m")

    done = middle.ended()
    assert (done.status, done.stdout) == (7, "")
    assert "timed out after 1s waiting for 1 host" in done.stderr
    assert queue_of(fleet) == ["first", "last"]
    give_back(fleet, "node2")
    assert first.ended().stdout == "node2\n"
    assert queue_of(fleet) == ["last"]
    give_back(fleet, "node1")
    assert last.ended().stdout == "node1\n"


def test_a_request_for_two_hosts_gets_both_or_none(fleet: Inventory, waiting: Queue) -> None:
    pair = waiting("pair", "-n2", "--wait")

    give_back(fleet, "node1")
    until(lambda: "1 free now" in pair.said)
    assert fleet.host("node1").state == "available"
    give_back(fleet, "node2")

    assert pair.ended().stdout == "node1\nnode2\n"


def test_a_new_host_or_label_wakes_the_waiters_that_it_fits(fleet: Inventory, waiting: Queue) -> None:
    any_host, in_rack = waiting("any", "-n1", "--wait"), waiting("rack", "-l", "rack=r1", "--wait")

    fleet.add("node3")
    fleet.ready("node3")
    assert any_host.ended().stdout == "node3\n"
    fleet.add("node4")
    fleet.ready("node4")
    hosts.set_attributes(fleet._context, Choice(("node4",)), hosts.AttributeChanges(labels={"rack": "r1"}))
    assert in_rack.ended().stdout == "node4\n"


def test_an_unsatisfiable_request_is_refused_at_once_even_with_wait(lab: Lab, fleet: Inventory, bmhctl: Bmhctl) -> None:
    run = of(lab, bmhctl)
    many = run("reserve", "-n3", "--wait")
    assert (many.status, many.stdout) == (6, "")
    assert "not possible in this inventory: 3 hosts; of 2 declared hosts 2 would fit" in many.stderr
    none = run("reserve", "-l", "rack=r9", "--wait", "-o", "json")
    error = json.loads(none.stderr)["error"]
    assert (none.status, error["details"]["excluded"]) == (6, {"rack=r9": 2})
    assert error["hint"] == "without rack=r9 there are 2; rack is r1, r2"
    assert queue_of(fleet) == []


# tests: ends of a wait


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_the_wait_and_leaves_no_ticket(
    number: signal.Signals, fleet: Inventory, waiting: Queue, lab: Lab
) -> None:
    waiter = waiting("first", "-n1", "--wait")
    waiter.process.send_signal(number)
    done = waiter.ended()

    assert (done.status, done.stdout, len(done.stderr.splitlines())) == (128 + number, "", 1)
    assert queue_of(fleet) == []
    assert not list(lab.path.parent.glob("*.claims"))


def test_a_closed_pipe_ends_the_wait(fleet: Inventory, waiting: Queue) -> None:
    waiter = waiting("first", "-n1", "--wait")
    assert waiter.process.stdout is not None
    waiter.process.stdout.close()

    assert waiter.process.wait(30) == 128 + signal.SIGPIPE
    assert (queue_of(fleet), len(waiter.said.splitlines())) == ([], 1)


def test_a_ticket_is_cancelled_by_its_owner_or_by_force(
    lab: Lab, fleet: Inventory, waiting: Queue, bmhctl: Bmhctl
) -> None:
    run = of(lab, bmhctl)
    first, second = waiting("first", "-n1", "--wait"), waiting("second", "-n1", "--wait")

    assert run("queue", "cancel", "1", BMHCTL_ACTOR="other").status == 8
    assert run("queue", "cancel", "9").status == 3
    mine = run("queue", "cancel", "1", BMHCTL_ACTOR="first")
    theirs = run("queue", "cancel", "2", "--force", "--reason", "shutdown")

    assert (mine.status, theirs.status) == (0, 0)
    assert re.fullmatch(r"cancelled ticket 1 of first, \d+s old, for 1 host\n", mine.stdout)
    for done in (first.ended(), second.ended()):
        assert (done.status, done.stdout, "the ticket was cancelled" in done.stderr) == (4, "", True)
    assert queue_of(fleet) == []


def test_a_lease_that_is_shortened_at_the_grant_is_reported(fleet: Inventory, waiting: Queue, lab: Lab) -> None:
    waiter = waiting("first", "-n1", "--ttl", "9h", "--wait")
    policy = '[defaults]\nttl = "1h"\nmax_ttl = "2h"\n'
    if lab.is_toml:
        with lab.path.open("a") as file:
            file.write(policy)
    else:
        apply_policy(fleet._context, policy, "policy.toml")
    give_back(fleet, "node1")

    done = waiter.ended()
    assert (done.status, done.stdout) == (0, "node1\n")
    assert "the lease is 2h, the longest that this inventory allows" in done.stderr


# tests: repeated requests


def test_a_repeated_request_id_gets_the_same_reservation_whatever_became_of_the_first_process(
    lab: Lab, fleet: Inventory, waiting: Queue, bmhctl: Bmhctl
) -> None:
    asked = ("-n1", "--request-id", "job-1")
    first, again = waiting("ci", *asked, "--wait"), waiting("ci", *asked, "--wait")
    assert queue_of(fleet) == ["ci"]
    first.process.kill()
    behind = waiting("behind", "-n1", "--wait")
    assert "number 2 in the queue" in behind.said
    give_back(fleet, "node1")
    assert again.ended().stdout == "node1\n"

    def ask(*args: str) -> Run:
        return of(lab, bmhctl)("reserve", *args, "--request-id", "job-1", "-o", "json", BMHCTL_ACTOR="ci")

    once, twice = (json.loads(ask("-n1").stdout)["reservation"]["id"] for _ in range(2))
    assert once == twice
    assert ask("-n2").status == 2
    fleet.taint("node1", force=True, reason="shutdown")
    assert ask("-n1").status == 8


# tests: showing the queue


def test_the_queue_shows_position_request_and_what_is_missing(
    lab: Lab, fleet: Inventory, waiting: Queue, bmhctl: Bmhctl
) -> None:
    run = of(lab, bmhctl)
    waiting("first", "-n2", "--for", "nightly", "--wait")
    waiting("second", "-l", "rack=r2", "--request-id", "job-2", "--wait", "10m")
    fleet.maintain("node1", reason="dead fan")

    listed = json.loads(run("queue", "-o", "json").stdout)["tickets"]
    assert [
        {key: one[key] for key in ("ticket", "position", "owner", "purpose", "wants", "missing", "request_id")}
        for one in listed
    ] == [
        {
            "ticket": 1,
            "position": 1,
            "owner": "first",
            "purpose": "nightly",
            "wants": "2 hosts",
            "missing": "2 more hosts: that needs an operator; node1 is in maintenance",
            "request_id": None,
        },
        {
            "ticket": 2,
            "position": 2,
            "owner": "second",
            "purpose": None,
            "wants": "1 host with rack=r2",
            "missing": "1 more host",
            "request_id": "job-2",
        },
    ]
    assert [one["deadline"] is None for one in listed] == [True, False]
    give_back(fleet, "node2")  # no host is set aside for a request for two that needs an operator
    until(lambda: queue_of(fleet) == ["first"])
    assert run("queue", "-o", "name").stdout == "1\n"


def test_a_waiter_in_a_pipe_prints_a_line_when_its_position_changes(fleet: Inventory, waiting: Queue) -> None:
    first = waiting("first", "-n1", "--wait", "1d")
    second = waiting("second", "-l", "rack!=r9,!gone", "--wait", "10m")
    first.process.terminate()
    until(lambda: len(second.said.splitlines()) == 2)
    second.process.terminate()

    before, after = second.ended().stderr.splitlines()
    assert re.fullmatch(
        r"waiting for 1 host with rack!=r9,!gone, number 2 in the queue, until \d\d:\d\d:\d\d UTC: none free now: "
        r"2 reserved, held by operator \(r-\w+\); the first lease ends at .{16} UTC; set aside for the earlier "
        r"ticket of first, from \d\d:\d\d:\d\d UTC; it fits by .{16} UTC at the latest, if no lease is extended: "
        r"after the end of --wait",
        before,
    )
    assert re.search("it fits by .{16} UTC at the latest, if no lease is extended\n", first.ended().stderr)
    assert after.partition("; it fits")[0] == re.sub(r"; set aside for .*", "", before).replace("number 2", "first")


def test_a_task_that_waits_for_its_own_hosts_is_told_so(lab: Lab, fleet: Inventory, bmhctl: Bmhctl) -> None:
    run = of(lab, bmhctl)
    own = fleet.reservations()[0].reservation.id
    for wanted in ("node1",), ("-n1",):
        waited = run("reserve", *wanted, "--wait", "1s", BMH_RESERVATION=own)
        assert f"; {own} is in $BMH_RESERVATION: a task that waits for its own hosts waits for ever\n" in waited.stderr
        assert "$BMH_RESERVATION" not in run("reserve", *wanted, "--wait", "1s", BMH_RESERVATION="r-00000000").stderr


# what waiting costs: bounds for a busy machine; python -m tests.benchmarks 'waiting/*' measures it


def test_an_idle_waiter_uses_next_to_nothing(waiting: Queue) -> None:
    waiter = waiting("first", "-n1", "--wait")
    before, began = cpu_seconds(waiter.process.pid), time.monotonic()
    time.sleep(3)
    share = (cpu_seconds(waiter.process.pid) - before) / (time.monotonic() - began)

    print(f"an idle waiter uses {share:.2%} of a core")
    assert share < 0.03


def test_a_host_that_becomes_free_is_granted_soon(fleet: Inventory, waiting: Queue) -> None:
    waiter = waiting("first", "-n1", "--wait")
    fleet.taint("node1")
    fleet.reset("node1")
    fleet.ready("node1")
    freed = fleet.history("node1")[-1].at
    assert waiter.ended().stdout == "node1\n"
    granted = fleet.history("node1")[-1]

    took = (granted.at - freed).total_seconds()
    print(f"handed over in {took:.3f} s")
    assert (granted.verb, granted.actor) == ("reserve", "first")
    assert took < 3


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, which it reports itself."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_waiter_whose_stderr_is_full_and_not_read_keeps_its_place(lab: Lab, fleet: Inventory) -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with suppress(BlockingIOError):
        while os.write(writes, bytes(4096)):
            pass
    os.set_blocking(writes, True)
    with Process(
        ("-i", lab.location, "reserve", "-o", "name", "node1", "--wait"),
        Path.cwd(),
        environment(BMHCTL_ACTOR="first"),
        stderr=writes,
    ) as process:
        try:
            until(lambda: queue_of(fleet) == ["first"])
            give_back(fleet, "node1")
            assert process.communicate(timeout=5) == ("node1\n", "")
        finally:
            process.kill()
            os.close(reads)
            os.close(writes)
