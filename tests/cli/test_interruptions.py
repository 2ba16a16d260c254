"""Broken pipes, full disks, and signals: no host stays reserved without its holder's knowledge."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from bmhctl.cli import session
from tests.cli.conftest import Cli, Run, json_of, spawn
from tests.cli.test_steps import ended
from tests.conftest import environment

pytestmark = pytest.mark.slow

BMHCTL = [sys.executable, "-W", "error", "-m", "bmhctl"]
FULL = Path("/dev/full")


def run_into(stdout: int | IO[str] | None, *args: str, cwd: Path, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    done = subprocess.run(
        [*BMHCTL, *args], cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True
    )
    return done.returncode, done.stderr


@contextmanager
def full() -> Iterator[IO[str]]:
    with FULL.open("w") as file:
        yield file


@contextmanager
def broken_pipe() -> Iterator[int]:
    """The writing end of a pipe without a reader."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


LOUD = [[], ["--help"], ["--version"], ["list"], ["list", "-o", "json"], ["status"], ["graph"], ["completion", "bash"]]


@pytest.mark.parametrize("args", LOUD, ids=" ".join)
def test_a_broken_pipe_ends_a_command_in_silence(args: list[str], lab: Path) -> None:
    with broken_pipe() as pipe:
        assert run_into(pipe, *args, cwd=lab.parent) == (128 + signal.SIGPIPE, "")


def test_head_ends_a_list_of_many_hosts_in_silence(cli: Cli, lab: Path) -> None:
    assert cli("add", "many[0001-3000]", "-q").status == 0
    for args in (["list"], ["list", "-o", "json"], ["history"], ["list", "-o", "csv"]):
        with subprocess.Popen(
            [*BMHCTL, *args], cwd=lab.parent, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as command:
            assert command.stdout
            assert command.stderr
            assert command.stdout.readline()
            command.stdout.close()
            assert (command.stderr.read(), command.wait()) == (b"", 128 + signal.SIGPIPE)


@pytest.mark.parametrize("args", LOUD, ids=" ".join)
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_with_its_status(args: list[str], lab: Path) -> None:
    with full() as file:
        status, said = run_into(file, *args, cwd=lab.parent)
    assert status == 11
    assert "can't write the output: No space left on device" in said
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("output", ["plain", "json", "name"])
def test_a_reserve_that_cannot_print_its_answer_gives_the_hosts_back(output: str, cli: Cli, lab: Path) -> None:
    cli("ready", "node01", "node02")
    with full() as file:
        status, said = run_into(file, "reserve", "-n", "2", "-o", output, cwd=lab.parent)
    assert status == 11
    assert "can't write the answer (No space left on device): the reserved hosts are given back" in said
    assert cli("ready", "node03").status == 0
    with broken_pipe() as pipe:
        status, said = run_into(pipe, "reserve", "node03", "-o", output, cwd=lab.parent)
    assert (status, "can't write the answer (Broken pipe)" in said) == (11, True)
    assert cli("reservations", "-o", "name").stdout == ""
    events = json_of(cli("history", "node01", "-o", "json"))["events"]
    assert (events[-1]["verb"], events[-1]["dest"], events[-1]["reason"]) == (
        "taint",
        "tainted",
        "the answer could not be written",
    )


def test_reserve_with_a_closed_stdout_is_refused_and_reserves_nothing(cli: Cli, lab: Path) -> None:
    cli("ready", "node01")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *BMHCTL, "reserve", "node01"],
        cwd=lab.parent,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        11,
        "bmhctl: stdout is closed: nothing was done\nhint: to discard the output: > /dev/null\n",
    )
    assert cli("reserve", "node01").status == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_a_command_needs_neither_stdin_nor_stderr(closed: str, lab: Path) -> None:
    for args, status in ((["list", "-o", "name"], 0), (["show", "nowhere"], 3), (["ready", "node01"], 0)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *BMHCTL, *args], cwd=lab.parent, env=environment(), text=True
        )
        assert done.returncode == status


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_stderr_does_not_change_the_exit_status(lab: Path) -> None:
    with full() as file:
        assert run_into(subprocess.DEVNULL, "show", "nowhere", cwd=lab.parent, stderr=file.fileno())[0] == 3


@pytest.fixture
def slow(lab: Path) -> Path:
    """The inventory with a slow check, which reports its process id through a FIFO."""
    os.mkfifo(lab.parent / "begun")
    step = '[checks.slow]\ncommand = ["sh", "-c", "sleep 60 & echo $$ $! > begun; wait"]\n'
    lab.write_text(step + lab.read_text())
    return lab


def wait_for_step(lab: Path) -> list[int]:
    handle = os.open(lab.parent / "begun", os.O_RDWR | os.O_NONBLOCK)
    try:
        assert select.select([handle], [], [], 20)[0], "the step never began"
        return [int(pid) for pid in os.read(handle, 100).split()]
    finally:
        os.close(handle)


def is_untouched(cli: Cli) -> bool:
    """Return whether node01 is still initial, without a claim and without a new event."""
    events = json_of(cli("history", "node01", "-o", "json"))["events"]
    why = json_of(cli("why", "node01", "-o", "json"))
    return (
        [event["verb"] for event in events] == ["enter", "set"][: len(events)]
        and why["host"]["state"] == "initial"
        and all(answer["open"] is not False for answer in why["verbs"])
        and cli("maintain", "node01", "--reason", "free to be claimed").status == 0
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_during_a_check_ends_the_check_and_changes_nothing(
    number: signal.Signals, cli: Cli, slow: Path
) -> None:
    command = subprocess.Popen(
        [*BMHCTL, "ready", "node01"],
        cwd=slow.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pids = wait_for_step(slow)
    claimed = cli("maintain", "node01", "--reason", "x")
    command.send_signal(number)
    assert (command.communicate(timeout=20), command.returncode) == (("", ""), 128 + number)
    assert (claimed.status, claimed.stdout) == (4, "")
    assert all(ended(pid) for pid in pids)
    assert is_untouched(cli)


def test_ctrl_c_during_a_check_ends_the_check_and_changes_nothing(cli: Cli, slow: Path) -> None:
    child = spawn("ready", "node01", cwd=slow.parent)
    pids = wait_for_step(slow)
    child.sendintr()
    text = child.read()
    child.close()
    assert (child.exitstatus, text.replace("^C", "").strip()) == (130, "")
    assert all(ended(pid) for pid in pids)
    assert is_untouched(cli)


def test_the_claim_of_a_killed_bmhctl_lasts_until_its_step_ends(cli: Cli, slow: Path) -> None:
    command = subprocess.Popen([*BMHCTL, "ready", "node01"], cwd=slow.parent, env=environment())
    pids = wait_for_step(slow)
    command.kill()
    assert command.wait() == -signal.SIGKILL
    done = cli("ready", "node01")
    assert (done.status, done.stdout) == (4, "")
    assert done.stderr == "bmhctl: node01: a step is running on it\nhint: wait until it ends\n"
    assert cli("maintain", "node01", "--reason", "x").status == 4
    os.killpg(pids[0], signal.SIGKILL)
    assert all(ended(pid) for pid in pids)
    assert is_untouched(cli)


def test_ctrl_c_while_a_callback_runs_ends_the_command(lab: Path) -> None:
    """Python ignores an exception in a callback of a weak reference, such as that of the lock of an import."""
    script = """
import os, signal, time, weakref
from bmhctl import __main__
from bmhctl.cli import main

class Lock:
    pass

def run(arguments):
    lock = Lock()
    noticed = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del lock
    time.sleep(60)
    return 0

main.run = run
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (130, b"")


def test_ctrl_c_at_any_moment_of_the_start_is_silent(lab: Path) -> None:
    """From the first line of ours on: what comes before is the interpreter's own."""
    script = """
import os, sys, threading, time
import _signal
def interrupt():
    while not any(name.startswith("bmhctl") for name in sys.modules):
        time.sleep(0.0001)
    time.sleep(float(sys.argv.pop()))
    os.kill(os.getpid(), _signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
sys.setswitchinterval(0.0005)
from bmhctl.__main__ import main
main()
"""
    for delay in [number / 200 for number in range(2, 20)]:
        done = subprocess.run(
            [sys.executable, "-c", script, "list", str(delay)], cwd=lab.parent, env=environment(), capture_output=True
        )
        assert (done.returncode, done.stderr) in ((130, b""), (0, b"")), delay


@pytest.mark.parametrize(
    ("line", "saved"),
    [
        ("add new[1-3]", "enter new[1-3]"),
        ("cordon node02", "cordon node02"),
        ("undo", "set node02"),
        ("reserve node02 --request-id job-1", "reserve node02 (r-…)"),
        ("reserve node02 --request-id job-1 --wait 5s", "reserve node02 (r-…)"),
        ("reserve node02 --from 2h --ttl 1h", "planned node02"),
        ("extend -R {held} --ttl 5h", "extend node01 (r-…)"),
        ("share {held} --with bob", "share node01 (r-…)"),
        ("handover {held} --to bob", "handover node01 (r-…)"),
        ("release -R {held}", "taint node01 (r-…)"),
        ("taint -R {held} node01", "taint node01 (r-…)"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_signal_before_the_output_leaves_a_report_of_what_was_saved(
    form: str, line: str, saved: str, cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("ready", "node01", "node02").status == 0
    assert cli("set", "node02", "--note", "top").status == 0
    held = json_of(cli("reserve", "node01", "-o", "json"))["reservation"]["id"]
    monkeypatch.setattr(session, "render", lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    done = cli(*line.format(held=held).split(), "-o", form)

    said = json.loads(done.stderr)["note"] if form == "json" else done.stderr.rstrip("\n")
    assert (done.status, done.stdout) == (143, "")
    assert re.sub(r"\br-\w+", "r-…", said) == f"interrupted, but saved before: {saved}"


def test_an_interrupted_dry_run_claims_no_change_of_another_command_with_the_same_actor(
    cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("ready", "node01", "node02").status == 0

    def act(*_: object) -> None:  # the event of the other command has the id that the dry run took
        assert run_into(subprocess.PIPE, "--as", "ci", "cordon", "node02", cwd=lab.parent) == (0, "")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session, "render", act)

    assert cli("--as", "ci", "reserve", "node01", "--dry-run") == Run(143, "", "")


def test_a_signal_before_the_output_of_a_dry_run_reports_nothing(
    cli: Cli, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("ready", "node01").status == 0
    monkeypatch.setattr(session, "render", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    for command in ("reserve", "cordon", "set"):
        more = ["--note", "top"] if command == "set" else []
        assert cli(command, "node01", *more, "--dry-run") == Run(143, "", "")
