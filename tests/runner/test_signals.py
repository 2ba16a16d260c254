"""Signals to ``run`` reach the task, in a pipe and on a terminal; whenever they come, no host is leaked."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.conftest import Run, environment
from tests.processes import lives, until
from tests.runner.conftest import Fleet, children, processes

pytestmark = pytest.mark.slow

# Tasks that trap signals use bash, because dash loses signals that come while it starts a process.

FORWARDED = ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM"]


@pytest.mark.parametrize("name", FORWARDED)
def test_run_passes_signals_to_the_task_and_exits_with_its_status(name: str, toml_fleet: Fleet) -> None:
    number = signal.Signals[f"SIG{name}"]
    turn = toml_fleet.start("run", "--host", "node1", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000")
    assert turn.line() == "ready"
    turn.send(number)
    assert turn.end() == Run(128 + number, "", "")
    assert toml_fleet.history() == [("node1", "reserve", None), ("node1", "taint", f"task failed: SIG{name}")]


def test_a_task_may_trap_a_signal_and_choose_its_status(fleet: Fleet) -> None:
    script = "trap 'echo cleaning; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    turn = fleet.start("run", "--host", "node1", "--", "bash", "-c", script)
    assert turn.line() == "ready"
    turn.send(signal.SIGTERM)
    done = turn.end()
    assert (done.status, done.stdout) == (7, "cleaning\n")
    assert fleet.history()[-1] == ("node1", "taint", "task failed: exit 7")


def test_a_task_may_ignore_a_signal(toml_fleet: Fleet) -> None:
    script = "trap 'echo got it' USR1; echo ready; read line; read line; exit 0"
    turn = toml_fleet.start("run", "-n", "1", "--", "bash", "-c", script, pipe_in=True)
    assert turn.line() == "ready"
    for _ in range(2):
        turn.send(signal.SIGUSR1)
    assert turn.line() == "got it"
    assert turn.process.stdin is not None
    turn.process.stdin.write("\n\n")
    assert turn.end().status == 0


def test_a_stopped_task_is_continued_to_handle_a_signal_that_ends_it(toml_fleet: Fleet) -> None:
    script = "trap 'echo cleaning; exit 7' TERM; echo ready; kill -STOP $$; exit 3"
    turn = toml_fleet.start("run", "--host", "node1", "--", "bash", "-c", script)
    assert turn.line() == "ready"
    until(lambda: "T" in [state(pid) for pid in children(turn.pid)])
    turn.send(signal.SIGTERM)
    assert turn.end() == Run(7, "cleaning\n", "")


def test_background_processes_of_a_task_are_ended_with_it(toml_fleet: Fleet) -> None:
    script = "sleep 1000 & echo $!; (trap '' TERM; while :; do sleep 0.1; done) & echo $!; exit 4"
    turn = toml_fleet.start("run", "--host", "node1", "--", "bash", "-c", script)
    left = [int(turn.line()), int(turn.line())]
    assert turn.end() == Run(4, "", "")
    assert [lives(pid) for pid in left] == [False, False]
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 4")


def test_processes_of_a_task_that_cannot_be_ended_are_reported(toml_fleet: Fleet) -> None:
    """They may belong to another user, as those of sudo do."""
    patch = """
import bmhctl.support.watchdog as watchdog

def refuse(*_):
    raise PermissionError

child._LEFTOVER_GRACE = watchdog.GRACE = 0.1
os.kill = os.killpg = refuse
"""
    script = "sleep 1000 >/dev/null 2>&1 & echo $!"
    turn = toml_fleet.start("run", "--host", "node1", "--", "sh", "-c", script, patch=patch)
    left = int(turn.line())
    done = turn.end()
    os.kill(left, signal.SIGKILL)
    said = f"the task could not be ended, and may still use its hosts: process {left} (sleep 1000); end it as root\n"
    assert done == Run(0, "", said)


WHEN = {
    "granted": "running.reserve_or_wait = killed_by_itself(running.reserve_or_wait, {}, after=True)",
    "before the task": "running.task_environment = killed_by_itself(running.task_environment, {}, before=True)",
    "as it starts": "task.Child = killed_by_itself(task.Child, {}, before=True)",
    "in its process": "child._in_foreground = killed_by_itself(child._in_foreground, {}, before=True)",
    "started": "task.Child = killed_by_itself(task.Child, {}, after=True)",
}


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
@pytest.mark.parametrize("when", WHEN)
def test_a_signal_between_grant_and_start_of_the_task_leaks_no_host(when: str, name: str, toml_fleet: Fleet) -> None:
    number = signal.Signals[f"SIG{name}"]
    patch = WHEN[when].format(int(number))
    turn = toml_fleet.start("run", "-n", "3", "--request-id", "7", "--", "sleep", "1000", patch=patch)
    assert turn.end() == Run(128 + number, "", "")
    assert toml_fleet.open_reservations() == []
    assert set(toml_fleet.states().values()) == {"tainted"}
    reason = "interrupted before the task" if when == "granted" else f"task failed: SIG{name}"
    assert toml_fleet.history()[-1] == ("node3", "taint", reason)


def test_a_signal_while_run_waits_for_hosts_ends_run_and_leaves_no_ticket(fleet: Fleet) -> None:
    held = fleet.bmhctl("reserve", "node1", "--as", "bob", "-o", "name")
    assert held.status == 0
    for name in ("TERM", "INT", "HUP", "USR2"):
        turn = fleet.start("run", "--host", "node1", "--wait", "--", "true")
        assert turn.process.stderr is not None
        assert turn.process.stderr.readline().startswith("waiting for node1, first in the queue")
        turn.send(signal.Signals[f"SIG{name}"])
        assert turn.end() == Run(128 + signal.Signals[f"SIG{name}"], "", "")
        assert fleet.lab.context().store.tickets.all() == []
    assert len(fleet.open_reservations()) == 1


def test_a_signal_during_release_does_not_keep_the_hosts_reserved(fleet: Fleet) -> None:
    patch = "task.lifecycle_verbs.release = killed_by_itself(task.lifecycle_verbs.release, 15, before=True)"
    turn = fleet.start("run", "-n", "3", "--", "sh", "-c", "exit 3", patch=patch)
    assert turn.end() == Run(3, "", "")
    assert set(fleet.states().values()) == {"tainted"}


def test_a_signal_reaches_the_task_while_the_inventory_is_locked(fleet: Fleet) -> None:
    """The renewal is due after a second, and then waits for the lock; the task must not wait with it."""
    script = "trap 'echo cleaning; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    turn = fleet.start("run", "--host", "node1", "--ttl", "3s", "--", "bash", "-c", script)
    assert turn.line() == "ready"
    with fleet.lab.context().store.transaction():
        due = time.monotonic() + 1.2
        until(lambda: time.monotonic() > due)
        turn.send(signal.SIGTERM)
        assert turn.line() == "cleaning"  # the inventory is still locked
    assert turn.end().status == 7
    assert fleet.history()[-1] == ("node1", "taint", "task failed: exit 7")


# tests: on a terminal


def on_terminal(fleet: Fleet, *command: str, **env: str) -> Any:
    return pexpect.spawn(
        command[0],
        list(command[1:]),
        cwd=str(fleet.folder),
        env=environment(TERM="dumb", PS1="prompt> ", **fleet.environ, **env),
        encoding="utf-8",
        timeout=20,
    )


def ended(terminal: Any) -> int:
    terminal.expect(pexpect.EOF)
    terminal.close()
    status: int = terminal.exitstatus if terminal.signalstatus is None else 128 + terminal.signalstatus
    return status


RUN = (sys.executable, "-W", "error", "-m", "bmhctl", "run", "--host", "node1", "--")


COUNTING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
print("ready", flush=True)
interrupts = 0
while signal.sigwait({signal.SIGINT, signal.SIGTERM}) == signal.SIGINT:
    interrupts += 1
    print("interrupted", interrupts, flush=True)
sys.exit(5)
"""
"""A task that counts Ctrl-C and ends with TERM; a shell may lose a Ctrl-C that comes while its trap runs."""


def test_ctrl_c_reaches_the_task_once_and_run_ends_with_the_task(toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, *RUN, sys.executable, "-c", COUNTING)
    terminal.expect("ready")
    terminal.sendintr()
    terminal.expect("interrupted 1")
    terminal.sendintr()
    terminal.expect("interrupted 2")
    terminal.kill(signal.SIGTERM)  # sent to run, which passes it on
    assert ended(terminal) == 5
    assert "interrupted" not in terminal.before
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 5")


def test_ctrl_c_ends_a_task_that_does_not_trap_it(toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, *RUN, "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect("ready")
    terminal.sendintr()
    assert ended(terminal) == 130
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: SIGINT")


def test_a_terminal_that_is_closed_ends_the_task(toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, *RUN, "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect("ready")
    terminal.close(force=False)
    until(lambda: toml_fleet.history()[-1] == ("node1", "taint", "task failed: SIGHUP"))


@pytest.mark.parametrize("shell", [["bash", "--norc", "-i"], ["sh", "-i"]], ids=lambda shell: shell[0])
def test_an_interactive_shell_works_under_run(shell: list[str], toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, *RUN, *shell)
    terminal.expect("prompt> ")
    terminal.sendline("echo on $BMH_HOST")
    terminal.expect("on node1\r\n.*prompt> ")
    terminal.sendintr()  # bash is at its prompt
    terminal.expect("prompt> ")
    terminal.sendline("sleep 1001")
    until(lambda: running(1001))
    terminal.sendintr()
    terminal.expect("prompt> ")
    until(lambda: not running(1001))
    terminal.sendline("sleep 1002")
    until(lambda: running(1002))
    terminal.send("\x1a")
    terminal.expect("[Ss]topped.*prompt> ")
    terminal.sendline("bg; jobs")
    terminal.expect("[Rr]unning.*prompt> ")
    terminal.sendline("fg")
    terminal.expect("sleep 1002")
    terminal.sendintr()
    terminal.expect("prompt> ")
    terminal.sendline("exit 4")
    assert ended(terminal) == 4
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 4")


def test_ctrl_z_stops_run_and_task_and_fg_continues_both(toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, "bash", "--norc", "-i")
    terminal.expect("prompt> ")
    terminal.sendline(f"'{sys.executable}' -W error -m bmhctl run --host node1 -- sh -c 'cat; exit 6'")
    until(lambda: running_name("cat", terminal.pid))
    terminal.sendline("one")
    terminal.expect("one\r\none")
    terminal.send("\x1a")
    terminal.expect("Stopped.*prompt> ")
    stopped = descendants(terminal.pid)
    assert {state(pid) for pid in stopped if group(pid) == group(stopped[0])} == {"T"}
    terminal.sendline("fg")
    terminal.expect("exit 6'\r\n")
    terminal.sendline("two")
    terminal.expect("two\r\ntwo")
    terminal.sendeof()
    terminal.expect("prompt> ")
    terminal.sendline("exit $?")
    assert ended(terminal) == 6
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 6")


def test_a_task_that_began_in_the_background_reads_from_the_terminal_after_fg(toml_fleet: Fleet) -> None:
    terminal = on_terminal(toml_fleet, "bash", "--norc", "-i")
    terminal.expect("prompt> ")
    task = "sh -c 'read line; echo got $line; exit 6'"
    terminal.sendline(f"'{sys.executable}' -W error -m bmhctl run --host node1 -- {task} &")
    until(lambda: [state(pid) for pid in children(terminal.pid)] == ["T"])  # the task tried to read
    terminal.sendline("fg")
    terminal.expect("exit 6'\r\n")
    terminal.sendline("one")
    terminal.expect("got one\r\n.*prompt> ")
    terminal.sendline("exit $?")
    assert ended(terminal) == 6
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: exit 6")


def running(seconds: int) -> bool:
    return any(command(pid) == ["sleep", str(seconds)] for pid in processes() or ())


def running_name(name: str, root: int) -> bool:
    return any(command(pid)[:1] == [name] for pid in descendants(root))


def command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    found = []
    for child in children(root):
        found += [child, *descendants(child)]
    return found


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def group(pid: int) -> int:
    return os.getpgid(pid)
