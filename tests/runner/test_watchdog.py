"""kill -9 of ``run`` ends all processes that it started; kill -9 of its watchdog ends no other process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmhctl.stores.claims import run_claim
from bmhctl.stores.sqlite.claims import folder_beside
from bmhctl.support.left_tasks import LeftTask, left_tasks
from bmhctl.support.watchdog import MARK
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, Run, environment
from tests.processes import lives, until
from tests.runner.conftest import Fleet, children
from tests.runner.test_signals import command, descendants, ended, on_terminal

FAMILY = """
sh -c 'sleep 1000 & echo $!; wait' &
setsid sh -c 'sleep 1000 & echo $!; wait' &
(sleep 1000 & echo $!)
(setsid sleep 1000 & echo $!)
trap '' TERM
echo ready
while :; do sleep 0.1; done
"""
"""A task that ignores TERM, with a grandchild, a child in another session, an orphan in its group, and a daemon."""


def watchdog_of(pid: int) -> int:
    (found,) = [child for child in children(pid) if any("watchdog" in word for word in command(child))]
    return found


def test_kill_9_of_run_ends_the_task_and_its_children_and_taints_the_host(toml_fleet: Fleet) -> None:
    turn = toml_fleet.start("run", "-n", "3", "--ttl", "2s", "--", "sh", "-c", FAMILY)
    printed = {int(line) for line in (turn.line() for _ in range(5)) if line != "ready"}
    watchdog = watchdog_of(turn.pid)
    family = {*printed, *descendants(turn.pid)} - {watchdog}
    assert len(family) >= 7  # and, most of the time, a sleep
    (held,) = toml_fleet.lab.context().store.reservations.open()
    toml_fleet.lab.close()

    turn.send(signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in family), "a process of the family survived")
    until(lambda: not lives(watchdog))
    assert turn.end().status == 137
    until(lambda: datetime.now(UTC) > (held.expires_at or held.created_at) and reaped(toml_fleet))
    names = ("node1", "node2", "node3")
    assert toml_fleet.history()[3:] == [(name, "taint", "lease expired") for name in names]
    assert toml_fleet.states() == dict.fromkeys(names, "tainted")


def test_a_daemon_of_a_task_is_ended_unless_it_hides(toml_fleet: Fleet, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    start = "setsid sleep 1000 > /dev/null 2>&1 & echo $!"
    task = f"({start}); (env -u BMHCTL_RUN {start}); read line < {go}"
    turn = toml_fleet.start("run", "--host", "node1", "--", "sh", "-c", task)
    daemon, hidden = int(turn.line()), int(turn.line())
    try:
        until(lambda: os.getsid(hidden) == hidden, "it never left the group of its task")
        go.write_text("go\n")
        assert turn.end().status == 0
        assert (lives(daemon), lives(hidden)) == (False, True)
    finally:
        os.kill(hidden, signal.SIGKILL)


@pytest.mark.parametrize("by", ["reap", "recycle"])
def test_the_claim_of_a_killed_run_is_removed_by_the_next_reap_or_recycle(by: str, fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", "echo on; exec sleep 1000")
    assert turn.line() == "on"
    turn.send(signal.SIGKILL)
    turn.end()
    left = fleet.lab.context().store.claims.left_behind
    until(lambda: left() or fleet.lab.path.suffix == ".schema")
    (held,) = fleet.lab.context().store.reservations.open()
    until(lambda: datetime.now(UTC) > (held.expires_at or held.created_at))
    until(lambda: fleet.bmhctl(by).status == 0 and not left())


DAEMON = "(setsid sleep 1000 >/dev/null 2>&1 & echo $!)"
"""Prints the id of a process that leaves the task's group and has no parent."""

HIDDEN = f"(unset BMHCTL_RUN; {DAEMON})"
"""Prints the id of such a process that also lacks the mark of its task, as a person's shell does."""


@contextmanager
def left_by_kills(
    fleet: Fleet, task: str, *options: str, lines: int = 1, stopped: bool = False
) -> Iterator[tuple[list[str], str]]:
    """Kill ``run`` and its watchdog, or stop the watchdog; return the task's output and the reservation's id.

    At the end, remaining processes are ended.
    """
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", *options, "--", "sh", "-c", task)
    printed = [turn.line() for _ in range(lines)]
    (token,) = fleet.open_reservations()
    fleet.lab.close()
    watchdog = watchdog_of(turn.pid)
    turn.send(signal.SIGSTOP)  # run must not end by itself, or renew the lease, in the meantime
    os.kill(watchdog, signal.SIGSTOP if stopped else signal.SIGKILL)
    until(lambda: stopped or not lives(watchdog))
    turn.send(signal.SIGKILL)
    until(lambda: not lives(turn.pid))
    try:
        yield printed, token
    finally:
        if stopped:
            os.kill(watchdog, signal.SIGCONT)
        if left := left_tasks().get(token):
            left.end()


def until_over(fleet: Fleet, token: str) -> None:
    held = fleet.lab.context().store.reservations.get(token)
    fleet.lab.close()
    assert held is not None
    assert held.expires_at is not None
    ends = held.expires_at
    until(lambda: datetime.now(UTC) > ends)


def test_a_task_whose_run_and_watchdog_were_killed_is_ended_with_its_lease(fleet: Fleet) -> None:
    task = f"{HIDDEN}; {DAEMON}; echo $$; trap '' TERM; while :; do sleep 0.1; done"
    with left_by_kills(fleet, task, lines=3) as (printed, token):
        hidden, *family = map(int, printed)
        assert not reaped(fleet)
        assert all(map(lives, family))
        until_over(fleet, token)
        ended = fleet.bmhctl("cordon", "node2")
        assert (
            f"{token}: its lease has expired, but its run was killed or stopped; its task was ended: " in ended.stderr
        )
        assert all(f"process {each} (" in ended.stderr for each in family)
        left = [lives(each) for each in (*family, hidden)]
        os.kill(hidden, signal.SIGKILL)
    assert left == [False, False, True]
    assert fleet.history()[1] == ("node1", "taint", "lease expired; its task still ran, and was ended")


def test_a_task_is_ended_with_its_lease_where_run_is_stopped_and_the_watchdog_was_killed(fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", "echo $$; exec sleep 1000")
    task = int(turn.line())
    (token,) = fleet.open_reservations()
    watchdog = watchdog_of(turn.pid)
    os.kill(watchdog, signal.SIGKILL)
    until(lambda: not lives(watchdog))
    assert json.loads(fleet.bmhctl("doctor", "-o", "json").stdout)["findings"] == []
    turn.send(signal.SIGSTOP)
    until_over(fleet, token)
    assert reaped(fleet)
    was_ended = not lives(task)
    turn.send(signal.SIGCONT)
    done = turn.end()
    assert (was_ended, done.status) == (True, 125)
    assert f"the lease was lost while the task ran: reservation {token} has ended: lease expired" in done.stderr


TAKEN = ("taint", "node1", "--force", "--reason", "fire")


@pytest.mark.parametrize("verb", ["reset", "recycle", "recycle --watch", "retire"])
def test_a_task_that_was_left_is_ended_before_hosts_that_were_taken_from_it_are_cleaned(
    verb: str, fleet: Fleet
) -> None:
    watch = verb == "recycle --watch"
    watching = fleet.start(*verb.split()) if watch else None
    with left_by_kills(fleet, "echo $$; exec sleep 1000") as (printed, token):
        fleet.bmhctl(*TAKEN)
        if watching is not None:
            until(lambda: fleet.states()["node1"] == "available")
            fleet.lab.close()
            was_ended = not lives(int(printed[0]))
            watching.send(signal.SIGTERM)
            cleaned = watching.end()
        else:
            cleaned = fleet.bmhctl(verb, "node1", *(["--reason", "old"] if verb == "retire" else []))
            was_ended = not lives(int(printed[0]))
    ended = f"its task was ended: process {printed[0]} (sleep 1000)"
    assert f"{token}: has ended (forced: fire), but its run was killed; {ended}\n" in cleaned.stderr
    assert was_ended


def test_a_task_that_was_left_is_ended_before_a_host_in_maintenance_is_cleaned(fleet: Fleet) -> None:
    with left_by_kills(fleet, "echo $$; exec sleep 1000") as (printed, _):
        fleet.bmhctl("maintain", "node1", "--reason", "smoke")
        fleet.bmhctl(*TAKEN)
        assert fleet.bmhctl("resume", "node1").status == 0
        assert (fleet.states()["node1"], lives(int(printed[0]))) == ("initial", False)


def test_a_task_that_was_left_is_ended_when_its_hosts_are_handed_over(fleet: Fleet) -> None:
    with left_by_kills(fleet, "echo $$; exec sleep 1000") as (printed, token):
        assert fleet.bmhctl("handover", token, "--to", "bob").status == 0
        assert not lives(int(printed[0]))


@pytest.mark.parametrize("stopped", [False, True], ids=["watchdog killed", "watchdog stopped"])
def test_a_task_that_was_left_is_ended_before_hosts_that_its_owner_gave_back_are_cleaned(
    stopped: bool, fleet: Fleet
) -> None:
    with left_by_kills(fleet, "echo $$; exec sleep 1000", stopped=stopped) as (printed, token):
        fleet.bmhctl("release", "-R", token)
        was_alive = lives(int(printed[0]))
        cleaned = fleet.bmhctl("recycle", "node1")
        assert (was_alive, lives(int(printed[0]))) == (True, False)
    assert f"{token}: has ended (released), but its run was killed; its task was ended: " in cleaned.stderr


DYING = """
import ctypes, os, sys, threading, time
from bmhctl.stores import open_store
from bmhctl.stores.claims import run_claim

def end():
    sys.stdin.readline()
    time.sleep(0.5)
    os._exit(0)

with open_store(sys.argv[1]).claims.claim(run_claim(sys.argv[2])):
    threading.Thread(target=end).start()
    print("claimed", flush=True)
    ctypes.CDLL(None).pthread_exit(None)
"""
"""A process whose first thread has ended, which keeps a claim for a moment."""


def test_a_task_is_ended_even_if_a_thread_of_the_killed_run_is_still_ending(toml_fleet: Fleet) -> None:
    fleet = toml_fleet
    fleet.bmhctl("reserve", "node1")
    (token,) = fleet.open_reservations()
    fleet.lab.close()
    dying = subprocess.Popen(
        [sys.executable, "-c", DYING, fleet.lab.location, token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with dying, subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: f"{token}.1"}) as task:
        assert dying.stdout is not None
        assert dying.stdin is not None
        dying.stdout.readline()
        until(lambda: not lives(dying.pid))
        fleet.bmhctl("release", "-R", token)
        dying.stdin.write("\n")
        dying.stdin.flush()
        cleaned = fleet.bmhctl("recycle", "node1")
        was_ended = not lives(task.pid)
        task.kill()
    assert (was_ended, "its task was ended" in cleaned.stderr) == (True, True)


def test_a_task_whose_watchdog_was_killed_goes_on_after_its_hosts_were_given_back(fleet: Fleet) -> None:
    """Its ``run`` lives, and ends it if it has to end."""
    turn = fleet.start("run", "--host", "node1", "--", "sh", "-c", "echo on; read line", pipe_in=True)
    assert turn.line() == "on"
    (token,) = fleet.open_reservations()
    fleet.lab.close()
    watchdog = watchdog_of(turn.pid)
    os.kill(watchdog, signal.SIGKILL)
    until(lambda: not lives(watchdog))
    fleet.bmhctl("release", "-R", token)
    assert fleet.bmhctl("recycle", "node1").stderr == ""
    assert turn.process.stdin is not None
    turn.process.stdin.write("go\n")
    assert turn.end().status == 0


def test_a_command_inside_such_a_task_leaves_its_lease_to_a_command_outside(toml_fleet: Fleet, tmp_path: Path) -> None:
    go, told = tmp_path / "go", tmp_path / "told"
    os.mkfifo(go)
    reap = f"{sys.executable} -m bmhctl reap -o name >{told} 2>&1; echo $? >>{told}"
    with left_by_kills(toml_fleet, f"echo $$; read line <{go}; {reap}; exec sleep 1000") as (printed, token):
        task = int(printed[0])
        until_over(toml_fleet, token)
        go.write_text("go\n")
        until(lambda: told.exists() and told.read_text() == "0\n", "it ended its lease, or itself")
        assert (toml_fleet.open_reservations(), lives(task)) == ([token], True)
        assert reaped(toml_fleet)
        assert not lives(task)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["run stopped", "run killed"])
def test_a_task_is_ended_with_its_lease_where_its_watchdog_is_stopped(number: int, fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", "echo $$; exec sleep 1000")
    task, watchdog = int(turn.line()), watchdog_of(turn.pid)
    (token,) = fleet.open_reservations()
    os.kill(watchdog, signal.SIGSTOP)
    turn.send(number)
    until_over(fleet, token)
    until(lambda: reaped(fleet))
    was_ended = not lives(task)
    os.kill(watchdog, signal.SIGCONT)
    turn.send(signal.SIGCONT)
    assert (was_ended, turn.end().status) == (True, 125 if number == signal.SIGSTOP else 137)


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_task_goes_on_when_its_lease_ends_in_a_copy_of_the_inventory(fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "sh", "-c", "echo; read line", pipe_in=True)
    assert turn.line() == ""
    (token,) = fleet.open_reservations()
    copy = fleet.folder / "copy.db"
    fleet.bmhctl("backup", str(copy))
    shutil.copytree(f"{fleet.lab.path}.claims", f"{copy}.claims")
    copied = Fleet(Lab(copy))
    until_over(copied, token)
    until(lambda: reaped(copied))
    assert turn.process.stdin is not None
    turn.process.stdin.write("go\n")
    assert turn.end() == Run(0, "", "")


def test_a_retry_ends_the_task_of_a_run_that_was_killed_with_its_watchdog(toml_fleet: Fleet) -> None:
    again = ("--request-id", "job-1")
    with left_by_kills(toml_fleet, "echo $$; exec sleep 1000", *again) as (printed, token):
        done = toml_fleet.bmhctl("run", "--host", "node1", *again, "--", "echo", "second")
        assert (done.status, done.stdout, lives(int(printed[0]))) == (0, "second\n", False)
    words = f"its earlier run was killed; its task was ended: process {printed[0]} (sleep 1000)"
    assert f"{token}: {words}\n" in done.stderr


@contextmanager
def sleeping(**env: str | bytes) -> Iterator[int]:
    """Start a process with these variables; return its id, and end it."""
    variables = {name: os.fsdecode(value) for name, value in env.items()}
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **variables}) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_shell_that_outlived_its_task_is_not_the_task_of_its_new_reservation(toml_fleet: Fleet) -> None:
    """``tmux`` on a terminal keeps BMHCTL_RUN; ``reserve --shell`` in it changes only BMH_RESERVATION."""
    mark = toml_fleet.bmhctl("run", "--host", "node2", "--", "printenv", "BMHCTL_RUN").stdout.rstrip()
    again = ("--host", "node1", "--request-id", "job-1")
    toml_fleet.bmhctl("reserve", "node1", "--request-id", "job-1")
    (token,) = toml_fleet.open_reservations()
    with sleeping(BMHCTL_RUN=mark, BMH_RESERVATION=token) as shell:
        claims = folder_beside(toml_fleet.lab.path.with_name("lab.state.db"))
        claims.mkdir()
        (claims / run_claim(token)).touch()  # as a killed run leaves it
        findings = json.loads(toml_fleet.bmhctl("doctor", "-o", "json").stdout)["findings"]
        done = toml_fleet.bmhctl("run", *again, "--", "echo", "second")
        assert (done, lives(shell)) == (Run(0, "second\n", "request job-1 was granted before\n"), True)
    assert token not in [word for each in findings if each["kind"] == "task" for word in each["message"].split()]


def test_doctor_does_not_advise_to_end_the_shell_in_which_it_runs(toml_fleet: Fleet) -> None:
    mark = toml_fleet.bmhctl("run", "--host", "node1", "--", "printenv", "BMHCTL_RUN").stdout.rstrip()
    doctor = [sys.executable, "-m", "bmhctl", "doctor", "-o", "json"]
    shell = subprocess.run(
        doctor, env=environment(**toml_fleet.environ, BMHCTL_RUN=mark), check=False, capture_output=True
    )
    findings = json.loads(shell.stdout)["findings"]
    assert [each["message"] for each in findings if each["kind"] == "task"] == []


def test_a_retry_ends_no_background_process_of_a_run_that_ended_by_itself(toml_fleet: Fleet) -> None:
    again = ("--host", "node1", "--request-id", "job-1")
    program = (sys.executable, "-m", "bmhctl", "run", *again, "--keep-on-fail", "1h", "--")
    terminal = on_terminal(toml_fleet, *program, "sh", "-c", f"{DAEMON}; exit 3")
    terminal.expect(r"(\d+)")
    daemon = int(terminal.match[1])
    assert ended(terminal) == 3
    try:
        done = toml_fleet.bmhctl("run", *again, "--", "echo", "second")
        assert (done, lives(daemon)) == (Run(0, "second\n", "request job-1 was granted before\n"), True)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_mark_that_is_not_text_prevents_no_command(toml_fleet: Fleet) -> None:
    with sleeping(BMHCTL_RUN=b"\xff", BMH_RESERVATION="r-00000000"):
        assert toml_fleet.bmhctl("doctor").status == 0


def test_a_background_process_goes_on_if_its_run_ends_while_another_command_looks_for_tasks(
    toml_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml_fleet.bmhctl("reserve", "node1")
    (token,) = toml_fleet.open_reservations()
    toml_fleet.bmhctl("release", "-R", token)
    claims = folder_beside(toml_fleet.lab.path.with_name("lab.state.db"))
    claims.mkdir()
    claim = claims / run_claim(token)
    claim.touch()

    def late() -> dict[str, LeftTask]:
        claim.unlink(missing_ok=True)  # as the run does after it gave its hosts back
        return left_tasks()

    monkeypatch.setattr("bmhctl.support.left_tasks.left_tasks", late)
    with sleeping(BMHCTL_RUN=f"{token}.00") as background:
        step_verbs.recycle(toml_fleet.lab.context(), Choice(("node1",)))
        assert lives(background)


def test_doctor_names_a_task_whose_run_and_watchdog_were_killed(toml_fleet: Fleet) -> None:
    def found() -> list[tuple[str, str, str]]:
        findings = json.loads(toml_fleet.bmhctl("doctor", "-o", "json").stdout)["findings"]
        return [(each["severity"], each["message"], each["remedy"]) for each in findings if each["kind"] == "task"]

    with left_by_kills(toml_fleet, "echo $$; exec sleep 1000") as (printed, token):
        before = found()
        toml_fleet.bmhctl("release", "-R", token)
        after = found()
    runs = f"the task of reservation {token} runs without bmhctl run: process {printed[0]} (sleep 1000)"
    kill = f"end it now: kill -KILL {printed[0]}"
    assert before == [("note", runs, f"it will be ended when its lease expires; to {kill}")]
    assert after == [("warning", f"{runs}; its lease has ended", f"bmhctl recycle or reset will end it; to {kill}")]


def reaped(fleet: Fleet) -> bool:
    return fleet.bmhctl("reap", "-o", "name").stdout != ""


def test_kill_9_of_run_on_a_terminal_ends_the_task(toml_fleet: Fleet) -> None:
    task = "echo ready; sh -c 'sleep 1000; true'; true"
    program = (sys.executable, "-m", "bmhctl", "run", "--host", "node1", "--", "sh", "-c", task)
    terminal = on_terminal(toml_fleet, *program)
    terminal.expect("ready")
    until(lambda: any(command(pid)[:1] == ["sleep"] for pid in descendants(terminal.pid)))
    family = descendants(terminal.pid)
    terminal.kill(signal.SIGKILL)
    assert ended(terminal) == 137
    until(lambda: not any(lives(pid) for pid in family))


def test_kill_9_of_the_watchdog_does_not_end_run_or_the_task(fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--", "sh", "-c", "echo ready; read line; exit 3", pipe_in=True)
    assert turn.line() == "ready"
    watchdog = watchdog_of(turn.pid)
    os.kill(watchdog, signal.SIGKILL)
    until(lambda: not lives(watchdog))
    assert turn.process.stdin is not None
    turn.process.stdin.write("go\n")
    assert turn.end() == Run(3, "", "")
    assert fleet.history()[-1] == ("node1", "taint", "task failed: exit 3")


@pytest.mark.parametrize(
    "patch",
    [
        "task.Child = killed_by_itself(task.Child, 9, after=True)",
        "child.signal.pthread_sigmask = killed_by_itself(signal.pthread_sigmask, 9, before=True)",
    ],
    ids=["just started", "just before"],
)
def test_kill_9_as_the_task_starts_leaves_nothing_running(patch: str, toml_fleet: Fleet) -> None:
    turn = toml_fleet.start("run", "--host", "node1", "--", "sh", "-c", "exec sleep 1003", patch=patch)
    assert turn.end().status == 137  # the streams have ended, so all processes that had them open have ended


def test_a_retry_of_a_killed_run_starts_no_second_task_beside_the_first(fleet: Fleet) -> None:
    again = ("run", "--host", "node1", "--request-id", "job-1", "--")
    first = fleet.start(*again, "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done")
    task, watchdog = int(first.line()), watchdog_of(first.pid)
    os.kill(watchdog, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    second = fleet.start(*again, "true").end()
    was_alive = lives(task)
    os.kill(watchdog, signal.SIGCONT)
    until(lambda: not lives(watchdog))
    assert (second, was_alive, lives(task)) == (
        Run(
            125,
            "",
            "request job-1 was granted before\n"
            "bmhctl: request job-1 is running already: nothing was started\n"
            "hint: wait until it ends, or use another request id\n",
        ),
        True,
        False,
    )


WATCHDOG_ENDS_FIRST = """
child.watchdog.__file__ = "/dev/null"
block = signal.pthread_sigmask

def wait_and_block(how, numbers):
    if how == signal.SIG_BLOCK:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    return block(how, numbers)

child.signal.pthread_sigmask = wait_and_block
"""


def test_a_task_runs_when_its_watchdog_was_killed_before_the_start(toml_fleet: Fleet) -> None:
    task = ("sh", "-c", "sh -c 'kill -PIPE $$; echo ignored'; exit 3")
    turn = toml_fleet.start("run", "--host", "node1", "--", *task, patch=WATCHDOG_ENDS_FIRST)
    assert turn.end() == Run(3, "", "")
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 3")


def test_a_task_is_not_started_when_run_was_stopped_until_its_lease_expired(toml_fleet: Fleet) -> None:
    """``run`` is stopped between its last check of the lease and the start of the task."""
    patch = (
        "import time; from bmhctl.runner.child import Child; tell = Child.tell_deadline; "
        "Child.tell_deadline = lambda self, deadline: (tell(self, deadline), time.sleep(2.5))[0]"
    )
    done = toml_fleet.start("run", "--host", "node1", "--ttl", "2s", "--", "echo", "started", patch=patch).end()
    assert done == Run(
        125, "", "the lease is lost: it ended before the task could be started; the task was not started\n"
    )
