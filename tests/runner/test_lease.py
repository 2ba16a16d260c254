"""A lease lasts as long as its task, and the task never longer than the lease."""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bmhctl.domain.model import Reservation
from bmhctl.domain.requirements import reservation_request
from bmhctl.results import Grant
from bmhctl.runner import lease as runner_lease
from bmhctl.runner.lease import Lease
from bmhctl.stores.store import Store
from bmhctl.support.watchdog import Deadline, steady
from bmhctl.usecases import lifecycle_verbs
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, reserve
from bmhctl.usecases.shared.host_selection import Choice
from tests.conftest import Run
from tests.processes import lives, until
from tests.runner.conftest import Fleet, Turn

WAITS = ["sh", "-c", "echo ready; read line; exit 3"]
"""A task that ends at SIGTERM."""


def waiting(fleet: Fleet, *options: str) -> Turn:
    turn = fleet.start("run", *options, "--", *WAITS, pipe_in=True)
    assert turn.line() == "ready"
    return turn


def go(turn: Turn) -> Run:
    assert turn.process.stdin is not None
    turn.process.stdin.write("go\n")
    return turn.end()


def lease(fleet: Fleet) -> Reservation:
    (held,) = fleet.lab.context().store.reservations.open()
    fleet.lab.close()
    return held


def past(moment: datetime | None) -> None:
    assert moment is not None
    until(lambda: datetime.now(UTC) > moment)


def now_in(fleet: Fleet) -> None:
    fleet.lab.clock.now = datetime.now(UTC)


def test_a_lease_is_renewed_as_long_as_the_task_runs(fleet: Fleet) -> None:
    turn = waiting(fleet, "--host", "node1", "--ttl", "2s")
    past(lease(fleet).created_at + timedelta(seconds=3.5))
    assert fleet.bmhctl("reap", "-o", "name") == Run(0, "", "")
    assert go(turn) == Run(3, "", "")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "task failed: exit 3")]


def test_a_lock_that_ends_before_the_lease_does_not_end_the_task(fleet: Fleet) -> None:
    turn = waiting(fleet, "--host", "node1", "--ttl", "4s")
    held = lease(fleet)
    with fleet.lab.context().store.transaction():
        past(held.created_at + timedelta(seconds=2.2))  # the first renewal was due after 1.3 s
    past(held.expires_at)
    assert go(turn) == Run(3, "", "")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "task failed: exit 3")]


def test_an_inventory_that_is_moved_away_and_back_does_not_end_the_task(fleet: Fleet, tmp_path: Path) -> None:
    turn = waiting(fleet, "--host", "node1", "--ttl", "4s")
    held = lease(fleet)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    away = tmp_path / "away"
    away.mkdir()
    for path in files:
        path.rename(away / path.name)
    past(held.created_at + timedelta(seconds=1.5))
    for path in files:
        (away / path.name).rename(path)
    past(held.expires_at)
    assert go(turn) == Run(3, "", "")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "task failed: exit 3")]


def test_a_declaration_that_is_broken_for_a_while_does_not_end_the_task(toml_fleet: Fleet) -> None:
    turn = waiting(toml_fleet, "--host", "node1", "--ttl", "2s")
    held = lease(toml_fleet)
    whole = toml_fleet.lab.path.read_text()
    toml_fleet.lab.path.write_text(whole + "[hosts.node")
    past(held.created_at + timedelta(seconds=2))
    assert go(turn) == Run(3, "", "")  # the hosts were given back, too
    toml_fleet.lab.path.write_text(whole)
    assert toml_fleet.history() == [("node1", "reserve", None), ("node1", "taint", "task failed: exit 3")]


STUBBORN = "trap '' TERM HUP INT; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_a_lease_that_is_taken_away_ends_even_a_task_that_ignores_sigterm(
    options: tuple[str, ...], fleet: Fleet
) -> None:
    turn = fleet.start(
        "run",
        *options,
        "--host",
        "node1",
        "--",
        "sh",
        "-c",
        f"echo $$; {STUBBORN}",
        patch="child.GRACE, child.LOST_GRACE = 60, 0.5",
    )
    task = int(turn.line())
    assert turn.line() == "ready"
    held = lease(fleet)
    now_in(fleet)
    lifecycle_verbs.taint(fleet.lab.context("olivia"), Choice(("node1",)), reason="fire", force=True)
    fleet.recycle()
    reserve.reserve_or_wait(fleet.lab.context("bob"), reservation_request(("node1",)))

    done = turn.end()
    reason = f"the lease is lost: reservation {held.id} has ended: forced: fire; the task was ended\n"
    assert done == Run(125, "", reason)
    assert not lives(task)
    assert fleet.history() == [("node1", "reserve", None)]  # this is the reservation of bob
    assert lease(fleet).owner == "bob"


def test_a_lease_that_is_taken_away_shortens_the_grace_of_a_task_that_timed_out(fleet: Fleet) -> None:
    task = f"trap 'echo asked' TERM; {STUBBORN.partition('; ')[2]}"
    turn = fleet.start(
        *("run", "--host", "node1", "--timeout", "1s", "--", "sh", "-c", task),
        patch="child.GRACE, child.LOST_GRACE = 600, 0.5",
    )
    assert (turn.line(), turn.line()) == ("ready", "asked")
    held = lease(fleet)
    now_in(fleet)
    lifecycle_verbs.taint(fleet.lab.context("olivia"), Choice(("node1",)), reason="fire", force=True)
    done = turn.end()
    assert done.status == 125
    assert f"reservation {held.id} has ended: forced: fire" in done.stderr


def test_a_lost_lease_found_by_one_thread_is_not_forgotten_by_another(
    toml_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise ``run`` goes on for ever: one thread finds that the lease was taken away, and another one discards
    that."""
    now_in(toml_fleet)
    ctx = toml_fleet.lab.context()
    held = reserve.reserve_or_wait(ctx, reservation_request(("node1",))).held
    lifecycle_verbs.taint(ctx, Choice(("node1",)), reason="fire", force=True)
    kept = Lease(ctx, held, lambda: None)
    monkeypatch.setattr(Store, "check_in_place", lambda _: kept.keep(threading.Event()))
    loss = kept.lost()
    assert loss is not None
    assert "forced: fire" in loss.reason


def kept_lease(fleet: Fleet, length: float) -> Lease:
    """A lease that counts from now, kept in this process."""
    now_in(fleet)
    asked = reservation_request(("node1",), ttl=timedelta(seconds=length))
    ctx = fleet.lab.context()
    return Lease(ctx, reserve.reserve_or_wait(ctx, asked).held, lambda: None)


def test_setting_the_clock_back_during_a_renewal_lengthens_no_task(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the watchdog lets the task of a stopped ``run`` continue for an hour, while another job gets the
    host."""
    over = threading.Event()
    renew = runner_lease.extend

    def then_set_back(*args: Any, **more: Any) -> Grant:
        grant = renew(*args, **more)
        fleet.lab.clock.now -= timedelta(hours=1)
        over.set()
        return grant

    monkeypatch.setattr(runner_lease, "extend", then_set_back)
    kept = kept_lease(fleet, 2)
    kept.keep(over)
    assert kept.deadline is not None
    assert kept.deadline.ends <= steady() + 2


def test_setting_the_clock_back_a_little_loses_no_lease(fleet: Fleet) -> None:
    """By the clock that was set back, the lease lasts longer. It must be renewed all the same, before its real end."""
    kept = kept_lease(fleet, 2)
    granted = steady()
    fleet.lab.clock.now -= timedelta(seconds=30)
    over = threading.Event()
    found = []

    def look() -> None:
        until(lambda: steady() > granted + 2.2 or kept.lost())
        found.append(kept.lost())
        over.set()

    looker = threading.Thread(target=look)
    looker.start()
    kept.keep(over)
    looker.join()
    assert found == [None]


def test_setting_the_clock_ahead_moves_the_deadline_of_task_and_watchdog(fleet: Fleet) -> None:
    kept = kept_lease(fleet, 60)
    told: list[Deadline | None] = []
    kept.tell_deadline = told.append
    assert kept.lost() is None
    assert told == []
    fleet.lab.clock.now += timedelta(seconds=30)
    assert kept.lost() is None
    assert told == [kept.deadline]
    assert kept.deadline is not None
    assert kept.deadline.ends <= steady() + 30


def test_a_task_is_not_started_after_its_lease_expired(toml_fleet: Fleet) -> None:
    patch = """
class Late(task.Lease):
    def __init__(self, *args):
        time.sleep(2)
        super().__init__(*args)

task.Lease = Late
"""
    done = toml_fleet.start("run", "--host", "node1", "--ttl", "2s", "--", "touch", "started", patch=patch).end()
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith("the lease is lost: it ends at ")
    assert done.stderr.endswith("; the task was not started\n")
    assert not (toml_fleet.folder / "started").exists()


def test_a_reservation_of_an_earlier_command_is_renewed_before_its_task_starts(fleet: Fleet) -> None:
    """The reservation may have little time left, even too little to end the task in time."""
    asked = ("--ttl", "1m", "--request-id", "job-1")
    assert fleet.bmhctl("reserve", "node1", *asked).status == 0
    patch = "task.Lease.keep = lambda self, over: over.wait()"
    assert fleet.start("run", "--host", "node1", *asked, "--", "true", patch=patch).end().status == 0
    store = fleet.lab.context().store
    (granted, *_) = [event for event in store.events.read() if event.verb == "reserve"]
    ended = store.reservations.get(granted.reservation or "")
    assert ended is not None
    assert ended.renewed_at is not None


def test_a_run_that_was_stopped_for_too_long_ends_its_task(fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "2s", "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert turn.line() == "ready"
    held = lease(fleet)
    turn.send(signal.SIGSTOP)
    past(held.created_at + timedelta(seconds=3))
    assert fleet.bmhctl("reap", "-o", "name") == Run(0, f"{held.id}\n", "")
    turn.send(signal.SIGCONT)
    done = turn.end()
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith("the lease is lost: ")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "lease expired")]


def test_an_inventory_locked_for_longer_than_the_lease_loses_the_lease(toml_fleet: Fleet) -> None:
    turn = waiting(toml_fleet, "--host", "node1", "--ttl", "2s")
    pid = turn.pid
    with toml_fleet.lab.context().store.transaction():
        until(lambda: len(tasks_of(pid)) == 0)  # the task ended while the inventory is still locked
    done = turn.end()
    assert done.status == 125
    assert "was not renewed in time" in done.stderr
    assert toml_fleet.bmhctl("reap").status == 0
    (_, (name, verb, reason)) = toml_fleet.history()  # the renewal may have come after the end of the task
    assert (name, verb) == ("node1", "taint")
    assert reason in ("lease expired", "task ended: lease lost")


def tasks_of(pid: int) -> list[int]:
    from tests.runner.conftest import children
    from tests.runner.test_signals import command

    return [child for child in children(pid) if command(child)[:1] == ["sh"]]


def test_a_task_that_ended_in_time_keeps_its_status_even_if_run_notices_late(toml_fleet: Fleet) -> None:
    turn = toml_fleet.start(
        "run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", "echo $$; read line; exit 3", pipe_in=True
    )
    task = int(turn.line())
    held = lease(toml_fleet)
    turn.send(signal.SIGSTOP)
    assert turn.process.stdin is not None
    turn.process.stdin.write("go\n")
    turn.process.stdin.flush()
    until(lambda: not lives(task))
    past(held.created_at + timedelta(seconds=3.5))
    assert toml_fleet.bmhctl("reap").status == 0
    turn.send(signal.SIGCONT)
    done = turn.end()
    assert done.status == 3
    assert done.stderr == (
        f"the task ended in time, but its hosts were not given back in time: {over(toml_fleet, held)}\n"
    )


def test_a_task_that_ended_in_time_keeps_its_status_when_release_waits_for_a_lock(fleet: Fleet) -> None:
    turn = waiting(fleet, "--host", "node1", "--ttl", "3s")
    held = lease(fleet)
    with fleet.lab.context().store.transaction():
        assert turn.process.stdin is not None
        turn.process.stdin.write("go\n")
        turn.process.stdin.flush()
        until(lambda: not tasks_of(turn.pid))
        past(held.expires_at)
    done = turn.end()
    assert (done.status, done.stdout) == (3, "")
    assert done.stderr.startswith("the task ended in time, but its hosts were not given back in time: ")
    assert fleet.bmhctl("reap").status == 0
    assert fleet.history()[-1] == ("node1", "taint", "lease expired")


BEATING = "trap '' TERM; echo $$; while :; do date +%s.%N >> beats; sleep 0.05; done"
"""A task that ignores TERM and writes down when it was alive."""


def last_beat(fleet: Fleet) -> datetime:
    beats = (fleet.folder / "beats").read_text().split()
    return datetime.fromtimestamp(float(beats[-1]), UTC)


@pytest.mark.parametrize("trouble", ["locked", "stopped"])
def test_two_tasks_never_run_on_one_host(trouble: str, fleet: Fleet) -> None:
    """The task ignores TERM while the inventory is locked or ``run`` is stopped; it must have ended with the lease."""
    turn = fleet.start("run", "--host", "node1", "--ttl", "4s", "--", "sh", "-c", BEATING)
    task = int(turn.line())
    if trouble == "stopped":
        turn.send(signal.SIGSTOP)
        held = lease(fleet)
        past(held.expires_at)
        assert not lives(task)
        turn.send(signal.SIGCONT)
    else:
        with (store := fleet.lab.context().store).transaction():
            (held,) = store.reservations.open()
            past(held.expires_at)
            assert not lives(task)
    done = turn.end()
    assert held.expires_at is not None
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith("the lease is lost: ")
    assert held.expires_at - timedelta(seconds=1.5) < last_beat(fleet) < held.expires_at
    fleet.bmhctl("reap")
    assert fleet.states()["node1"] == "tainted"


def test_run_ends_the_task_with_its_lease_when_the_watchdog_was_killed(toml_fleet: Fleet) -> None:
    from tests.runner.test_watchdog import watchdog_of

    turn = toml_fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", BEATING)
    task = int(turn.line())
    os.kill(watchdog_of(turn.pid), signal.SIGKILL)
    with (store := toml_fleet.lab.context().store).transaction():
        (held,) = store.reservations.open()
        past(held.expires_at)
        assert not lives(task)
    assert turn.end().status == 125


@pytest.mark.parametrize("by", ["option", "policy"])
def test_a_lease_that_is_too_short_for_a_task_is_refused_with_the_shortest_that_works(
    by: str, toml_fleet: Fleet
) -> None:
    if by == "policy":
        toml_fleet.lab.policy('[defaults]\nttl = "1s"\n')
    options = ["--ttl", "1s"] if by == "option" else []
    done = toml_fleet.bmhctl("run", "--host", "node1", *options, "--", "true")
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith("bmhctl: a lease of 1 s is too short: a task could not be ended before it expires\n")
    assert ("--ttl 2s" if by == "option" else "in the policy") in done.stderr
    assert toml_fleet.open_reservations() == []


def over(fleet: Fleet, held: Reservation) -> str:
    ended = fleet.lab.context().store.reservations.get(held.id)
    assert ended is not None
    assert ended.ended_at is not None
    return f"reservation {held.id} has ended: lease expired at {ended.ended_at:%Y-%m-%d %H:%M:%S} UTC"


def test_a_host_that_leaves_the_reservation_is_reported_and_the_task_goes_on(fleet: Fleet) -> None:
    turn = waiting(fleet, "-n", "3")
    held = lease(fleet)
    now_in(fleet)
    lifecycle_verbs.taint(fleet.lab.context("olivia"), Choice(("node2",)), reason="fire", force=True)
    fleet.lab.close()
    assert turn.process.stderr is not None
    said = turn.process.stderr.readline()
    assert said == f"node2 is no longer in reservation {held.id}; the task goes on with 2 hosts\n"
    assert go(turn) == Run(3, "", "")
    assert fleet.history()[3:] == [
        ("node2", "taint", "forced: fire"),
        ("node1", "taint", "task failed: exit 3"),
        ("node3", "taint", "task failed: exit 3"),
    ]


@pytest.mark.parametrize(
    ("options", "command", "said"),
    [([], "true", ""), (["--keep-on-fail", "6h"], "false", "the hosts can't be kept: the disk is gone\n")],
    ids=["given back", "kept"],
)
def test_hosts_that_cannot_be_given_back_are_reported_and_a_signal_ends_the_retries(
    options: list[str], command: str, said: str, toml_fleet: Fleet
) -> None:
    patch = """
from bmhctl.errors import UnreachableError

def unreachable(*args, **kwargs):
    raise UnreachableError("the disk is gone")

task.lifecycle_verbs.release = task.extend = unreachable
"""
    turn = toml_fleet.start("run", "--host", "node1", *options, "--", command, patch=patch)
    assert turn.process.stderr is not None
    assert turn.process.stderr.readline() == "the disk is gone; trying again\n"
    turn.send(signal.SIGTERM)
    said += "the hosts could not be given back: the disk is gone; their lease expires by itself\n"
    assert turn.end() == Run(125 if command == "true" else 1, "", said)


class Looks(threading.Event):
    """An event that is set once the lease has looked at its reservation."""

    def wait(self, timeout: float | None = None) -> bool:
        seen, _ = self.is_set(), self.set()
        return seen


def test_run_warns_in_time_when_a_plan_ends_the_lease(toml_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "_plan", lambda _: 0.0)  # renew at each look
    lab, start = toml_fleet.lab, datetime(2026, 1, 1, 12, tzinfo=UTC)
    lab.clock.now = start
    bob = bookings.book(
        lab.context("bob"), reservation_request(("node1",)), start + timedelta(hours=3),
        start + timedelta(hours=5),
    ).items[0].booking  # fmt: skip
    held = reserve.reserve_or_wait(lab.context(), reservation_request(("node1",), ttl=timedelta(hours=2))).held
    ctx = lab.context()
    kept = Lease(ctx, held, lambda: None)
    what = f"node1 is booked by bob from 2026-01-01 15:00 UTC to 2026-01-01 17:00 UTC ({bob.id})"
    reported = []
    for minutes in (0, 100, 101, 119, 121, 169, 171, 172):
        lab.clock.now = start + timedelta(minutes=minutes)
        lab.said.clear()
        kept.keep(Looks())
        reported += [(minutes, words) for words in lab.said]
    assert reported == [
        (100, f"the lease ends at 2026-01-01 15:00 UTC, in 1h19m: {what}; it is not renewed any more"),
        (121, f"the lease ends at 2026-01-01 15:00 UTC, in 58m: {what}; it is not renewed any more"),
        (171, f"the lease ends at 2026-01-01 15:00 UTC, in 8m59s: {what}; it is not renewed any more"),
    ]
    lab.clock.now = start + timedelta(hours=3)
    loss = kept.lost()
    assert loss is not None
    assert loss.reason == f"it ends at 2026-01-01 15:00:00 UTC: {what}"


def test_a_lease_is_renewed_again_after_the_plan_in_its_way_is_cancelled(
    toml_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmhctl.runner.lease._LOOK", 0.0)
    lab, start = toml_fleet.lab, datetime(2026, 1, 1, 12, tzinfo=UTC)
    lab.clock.now = start
    wanted = reservation_request(("node1",))
    bob = bookings.book(lab.context("bob"), wanted, start + timedelta(hours=1), start + timedelta(hours=2)).items[0]
    held = reserve.reserve_or_wait(lab.context(), wanted).held
    ctx = lab.context()
    kept = Lease(ctx, held, lambda: None)
    kept.keep(Looks())
    assert held.reservation.expires_at == start + timedelta(hours=1)
    bookings.cancel(lab.context("bob"), bob.booking.id)
    kept.keep(Looks())
    kept.keep(Looks())
    assert lease(toml_fleet).expires_at > start + timedelta(hours=3)  # type: ignore[operator]


def test_a_task_ends_before_a_planned_maintenance_or_booking_begins(toml_fleet: Fleet) -> None:
    now_in(toml_fleet)
    lab = toml_fleet.lab
    line = datetime.now(UTC) + timedelta(seconds=6)
    plan_maintenance(lab.context("carl"), Choice(("node1",)), line, line + timedelta(hours=1), reason="power work")
    lab.close()
    turn = toml_fleet.start("run", "--host", "node1", "--ttl", "2s", "--", "sleep", "1000")
    done = turn.end()
    assert datetime.now(UTC) < line
    assert (done.status, done.stdout) == (125, "")
    first, *others, lost = done.stderr.splitlines()
    assert "node1 is planned for a maintenance by carl from" in first
    assert lost.startswith("the lease is lost: it ends at ")
    assert "node1 is planned for a maintenance by carl" in lost
    assert lost.endswith("; the task was ended")
    assert len(others) <= 1
