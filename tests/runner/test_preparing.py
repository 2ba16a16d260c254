"""Prepare steps as processes: no host is leaked or granted unprepared, whatever the step or its runner does."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.processes import lives, until
from tests.runner.conftest import Fleet

STUBBORN = """
trap '' TERM
sleep 0.5
echo $$ > pid.new
mv pid.new pid
sleep 60
sleep 60
"""
"""A step that ignores TERM. It reports that after a moment, so that its runner can first inform the watchdog of it."""


def preparing(fleet: Fleet, script: str, more: str = "") -> None:
    words = json.dumps(["sh", "-c", f"cd {fleet.folder}\n{script}"])
    fleet.lab.policy(f"[prepare.image]\ncommand = {words}\ntimeout = '30s'\n{more}")
    fleet.lab.close()


def step_process(fleet: Fleet) -> int:
    file = fleet.folder / "pid"
    until(file.exists)
    return int(file.read_text())


def test_run_and_reserve_shell_export_what_was_prepared(fleet: Fleet) -> None:
    preparing(fleet, "echo $BMH_HOST with $BMH_PARAM_IMAGE >> done", 'params = { image = "[a-z ]+" }')
    asked = ("--param", "image=noble numbat")
    done = fleet.bmhctl("run", "-n", "2", *asked, "--", "sh", "-c", 'echo "$BMH_PARAM_IMAGE|$BMH_PREPARED"')
    assert done == Run(0, "noble numbat|image=noble numbat\n", "")
    assert sorted(Path(fleet.folder / "done").read_text().splitlines()) == [
        "node1 with noble numbat",
        "node2 with noble numbat",
    ]
    shell = fleet.bmhctl("reserve", "node3", *asked, "--shell").stdout
    assert shell.endswith("BMH_PREPARED='image=noble numbat'\n")
    (shown,) = json.loads(fleet.bmhctl("reservations", "-o", "json").stdout)["reservations"]
    assert shown["params"] == {"image": "noble numbat"}
    assert shown["prepared_at"] is not None
    assert "prepared" in fleet.bmhctl("show", "node3", "-o", "table").stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exec ./not-there", "not-there"),
        ("head -c 100000000 /dev/zero | tr '\\\\0' x; echo; echo end; exit 3", "exit 3"),
        ("printf '\\\\033[2J\\\\033]0;title\\\\007gone'; exit 3", "exit 3"),
        ("kill -9 $$", "ended by SIGKILL"),
    ],
)
def test_a_failed_prepare_step_taints_the_host(toml_fleet: Fleet, script: str, words: str) -> None:
    preparing(toml_fleet, script.replace("\\\\", "\\"))
    done = toml_fleet.bmhctl("run", "--host", "node1", "--", "true")
    assert done.status == 125
    assert words in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 3000
    assert toml_fleet.states() == {"node1": "tainted", "node2": "available", "node3": "available"}
    assert toml_fleet.open_reservations() == []


def test_a_killed_reserve_leaves_no_step_and_a_lease_that_expires(fleet: Fleet) -> None:
    preparing(fleet, STUBBORN)
    killed = fleet.start("reserve", "node1", "--ttl", "8s")
    step = step_process(fleet)
    killed.send(signal.SIGKILL)
    assert killed.end().status == 137
    until(lambda: not lives(step), "the step outlived its runner")
    (lease,) = fleet.lab.context().store.reservations.open()
    assert lease.expires_at is not None
    assert datetime.now(UTC) < lease.expires_at
    assert fleet.bmhctl("reserve", "node1").status == 5
    until(lambda: fleet.bmhctl("reap").status == 0 and fleet.states()["node1"] == "tainted")
    assert fleet.open_reservations() == []


AS_IT_STARTS = """
import bmhctl.probes.command as command

class Patched(command.subprocess.Popen):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        if "cwd" in more:  # the step, not its guard
            while not os.path.exists("pid"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.{number})
            time.sleep(1)  # another thread may be the one that the signal is delivered to

command.subprocess.Popen = Patched
"""


def test_a_bmhctl_killed_as_its_step_starts_leaves_no_step(fleet: Fleet) -> None:
    preparing(fleet, STUBBORN)
    killed = fleet.start("reserve", "node1", "--ttl", "20s", patch=AS_IT_STARTS.format(number="SIGKILL"))
    step = step_process(fleet)
    assert killed.end().status == 137
    until(lambda: not lives(step), "the step outlived its runner")


def test_a_bmhctl_stopped_as_its_step_starts_leaves_no_step_to_the_next_holder(fleet: Fleet) -> None:
    preparing(fleet, STUBBORN)
    stopped = fleet.start("reserve", "node1", "--ttl", "9s", patch=AS_IT_STARTS.format(number="SIGSTOP"))
    step = step_process(fleet)
    (lease,) = fleet.lab.context().store.reservations.open()
    until(lambda: not lives(step), "the step outlived its lease")
    assert lease.expires_at is not None
    assert datetime.now(UTC) < lease.expires_at
    stopped.send(signal.SIGCONT)
    assert stopped.end().status in (8, 9)
    assert fleet.open_reservations() == []


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_step_goes_on_when_its_guard_process_is_killed_or_stopped(
    toml_fleet: Fleet, number: str, moment: str
) -> None:
    """This may be before or after the guard has received the step's process id."""
    preparing(toml_fleet, "echo $BMH_HOST >> done")
    patch = f"""
import bmhctl.probes.command as command

class Patched(command.subprocess.Popen):
    def __init__(self, arguments, **more):
        super().__init__(arguments, **more)
        if "group" in arguments:
            guards.append(self)
            if "{moment}" == "before":
                self.send_signal(signal.{number})

guards = []
watch = command._watch

def watched(*args):
    for guard in guards:
        guard.send_signal(signal.{number})
    return watch(*args)

command._PATIENCE = 0.1
command._watch = watched
command.subprocess.Popen = Patched
"""
    assert toml_fleet.start("reserve", "node1", "-o", "name", patch=patch).end() == Run(0, "node1\n", "")
    assert (toml_fleet.folder / "done").read_text() == "node1\n"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_step_is_ended_before_its_lease_expires(fleet: Fleet, stopped: bool) -> None:
    preparing(fleet, STUBBORN)
    command = fleet.start("reserve", "node1", "--ttl", "9s")  # far more than a busy machine needs to start the step
    step = step_process(fleet)
    (lease,) = fleet.lab.context().store.reservations.open()
    assert lease.expires_at is not None
    if stopped:
        command.send(signal.SIGSTOP)
    until(lambda: not lives(step), "the step outlived its lease")
    assert datetime.now(UTC) < lease.expires_at
    if stopped:
        command.send(signal.SIGCONT)
    done = command.end()
    assert done.status in (8, 9), done.stderr
    assert fleet.states()["node1"] == "tainted"
    assert fleet.open_reservations() == []


def test_an_interrupted_reserve_gives_the_hosts_back(fleet: Fleet) -> None:
    preparing(fleet, STUBBORN)
    for number in (signal.SIGINT, signal.SIGTERM):
        command = fleet.start("run", "--host", "node1", "--", "true")
        step = step_process(fleet)
        command.send(number)
        assert command.end().status == 128 + number
        assert not lives(step)
        assert fleet.states()["node1"] == "tainted"
        assert fleet.open_reservations() == []
        (fleet.folder / "pid").unlink()
        fleet.recycle()


def test_two_commands_with_one_request_id_prepare_the_hosts_once(fleet: Fleet) -> None:
    preparing(fleet, "echo $BMH_HOST >> done; sleep 1")
    both = [fleet.start("reserve", "node1", "--request-id", "job-1", "-o", "json") for _ in range(2)]
    answers = [command.end() for command in both]
    assert [answer.status for answer in answers] == [0, 0], answers
    assert len({json.loads(answer.stdout)["reservation"]["id"] for answer in answers}) == 1
    assert (fleet.folder / "done").read_text() == "node1\n"
