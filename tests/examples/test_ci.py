"""The examples for CI run unchanged; however they end, no host stays reserved."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run, environment
from tests.examples.conftest import end, task
from tests.processes import until
from tests.runner.conftest import Fleet

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"

VARIABLES = {
    "github-actions.sh": {
        "GITHUB_REPOSITORY": "acme/firmware",
        "GITHUB_WORKFLOW": "Nightly",
        "GITHUB_JOB": "hardware",
        "GITHUB_RUN_ID": "1658821493",
    },
    "gitlab-job.sh": {
        "CI_PROJECT_PATH": "acme/firmware",
        "CI_JOB_NAME": "hardware-test: [a, b]",
        "CI_JOB_URL": "https://gitlab.example.com/acme/firmware/-/jobs/42",
    },
    "jenkins-stage.sh": {"BUILD_TAG": "jenkins-firmware-7", "STAGE_NAME": "Hardware"},
    "flock-replacement.sh": {},
}

BEFORE = {name: ["node1"] if name.startswith("flock") else [] for name in VARIABLES}
"""The arguments of each example before the command that it runs."""

OWNERS = {
    "github-actions.sh": "github/acme/firmware",
    "gitlab-job.sh": "gitlab/acme/firmware",
    "jenkins-stage.sh": "jenkins",
    "flock-replacement.sh": "alice",
}


def environ(fleet: Fleet, example: str) -> dict[str, str]:
    path = f"{fleet.folder / 'bin'}:{os.environ['PATH']}"
    return environment(BMHCTL_INVENTORY=fleet.lab.location, CI="true", **VARIABLES[example]) | {"PATH": path}


def start(fleet: Fleet, example: str, *args: str, **more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [EXAMPLES / example, *args],
        cwd=fleet.folder,
        env=environ(fleet, example) | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    fleet.started.append(process)
    return process


def call(fleet: Fleet, example: str, *args: str, **more: str) -> Run:
    return end(start(fleet, example, *args, **more))


def owners(fleet: Fleet) -> list[str]:
    store = fleet.lab.context().store
    return [reservation.owner for reservation in store.reservations.all()]


@pytest.mark.parametrize("example", VARIABLES)
def test_an_example_passes_the_status_on_and_gives_the_host_back(example: str, lab_of_two: Fleet) -> None:
    fine = task(lab_of_two, "fine", 'echo "on $BMH_HOST"')
    bad = task(lab_of_two, "bad", "exit 3")
    assert call(lab_of_two, example, *BEFORE[example], fine) == Run(0, "on node1\n", "")
    assert call(lab_of_two, example, *BEFORE[example], bad) == Run(3, "", "")  # a second call in the same job
    assert lab_of_two.open_reservations() == []
    assert "reserved" not in lab_of_two.states().values()
    assert owners(lab_of_two) == [OWNERS[example]] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("example", VARIABLES)
def test_an_example_that_is_cancelled_gives_the_host_back(
    example: str, number: signal.Signals, lab_of_two: Fleet
) -> None:
    endless = task(lab_of_two, "endless", "echo ready; exec sleep 1000")
    process = start(lab_of_two, example, *BEFORE[example], endless)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert end(process).status == 128 + number
    assert lab_of_two.open_reservations() == []
    assert lab_of_two.states()["node1"] in ("tainted", "available")


@pytest.mark.parametrize("example", VARIABLES)
def test_an_example_that_is_cancelled_while_it_waits_leaves_no_ticket(example: str, lab_of_two: Fleet) -> None:
    assert lab_of_two.bmhctl("reserve", "-n", "2", "--as", "bob").status == 0
    process = start(lab_of_two, example, *BEFORE[example], "true")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for ")
    os.killpg(process.pid, signal.SIGTERM)  # CI systems signal the whole group
    assert end(process).status == 143
    assert lab_of_two.lab.context().store.tickets.all() == []
    assert owners(lab_of_two) == ["bob"]


def test_a_jenkins_stage_runs_its_steps_on_one_reservation_until_one_fails(
    lab_of_two: Fleet,
) -> None:
    steps = [
        task(lab_of_two, name, f'echo "{name} $BMH_HOSTS"; exit {status}')
        for name, status in (("flash", 0), ("smoke", 4), ("never", 0))
    ]
    done = call(lab_of_two, "jenkins-stage.sh", *steps, LAB_COUNT="2")
    assert done == Run(4, "flash node1 node2\nsmoke node1 node2\n", "")
    assert lab_of_two.history()[-1] == ("node2", "taint", "task failed: exit 4")


def test_a_gitlab_job_with_keep_on_fail_keeps_its_hosts_after_a_failure(lab_of_two: Fleet) -> None:
    done = call(lab_of_two, "gitlab-job.sh", "false", KEEP_ON_FAIL="2h")
    (held,) = lab_of_two.open_reservations()
    assert done.status == 1
    assert done.stderr.endswith(f"give back: bmhctl release -R {held}\n")


def test_the_flock_replacement_names_the_holder_of_the_host(lab_of_two: Fleet) -> None:
    assert lab_of_two.bmhctl("reserve", "node1", "--as", "bob").status == 0
    for options, status in ((["-n"], 125), (["-w", "1"], 124)):
        done = call(lab_of_two, "flock-replacement.sh", *options, "node1", "true")
        assert (done.status, done.stdout) == (status, "")
        assert "bob" in done.stderr
    assert call(lab_of_two, "flock-replacement.sh", "-x").status == 2
    assert call(lab_of_two, "flock-replacement.sh", "node2", "true") == Run(0, "", "")
    assert lab_of_two.states()["node2"] == "available"


# tests: the fixture


def pytest_in(fleet: Fleet, *args: str) -> subprocess.Popen[str]:
    shutil.copy(EXAMPLES / "conftest_example.py", fleet.folder / "conftest.py")
    shutil.copy(EXAMPLES / "test_on_a_host.py", fleet.folder / "test_on_a_host.py")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--lab-selector", "arch=arm64", *args],
        cwd=fleet.folder,
        # No plugins: loading those of this environment takes longer than the session.
        env=environment(BMHCTL_INVENTORY=fleet.lab.location, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    fleet.started.append(process)
    return process


def test_the_fixture_holds_a_host_for_the_session(lab_of_two: Fleet) -> None:
    assert lab_of_two.bmhctl("set", "node1", "--address", "10.0.0.11").status == 0
    process = pytest_in(lab_of_two)
    assert end(process).status == 0
    assert lab_of_two.history()[-2:] == [("node1", "reserve", "pytest"), ("node1", "taint", "tests passed")]


def test_the_fixture_gives_the_host_back_when_tests_fail(lab_of_two: Fleet) -> None:
    assert end(pytest_in(lab_of_two)).status == 1  # no address
    assert lab_of_two.history() == [("node1", "reserve", "pytest"), ("node1", "taint", "tests failed: 1")]


LONG = """
def test_long(host):
    import pathlib, time
    pathlib.Path("begun").touch()
    time.sleep(1000)
"""

RENEWS = """
import conftest, time

conftest.TTL = 1.0

def test_first(host): time.sleep(0.6)
def test_second(host): time.sleep(0.6)
def test_third(host): pass
"""

LOSES = """
import subprocess, sys

def test_first(host, bench):
    taint = ["taint", host.name, "--force", "--reason", "fire", "-q"]
    subprocess.run([sys.executable, "-m", "bmhctl", *taint], check=True)
    bench._renewed = float("-inf")

def test_second(host):
    raise AssertionError("it must not run")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_fixture_gives_the_host_back_when_the_session_is_ended(number: signal.Signals, lab_of_two: Fleet) -> None:
    (lab_of_two.folder / "test_long.py").write_text(LONG)
    process = pytest_in(lab_of_two, "test_long.py")
    until((lab_of_two.folder / "begun").exists)
    process.send_signal(number)
    assert end(process).status == 2
    assert lab_of_two.open_reservations() == []


def test_the_fixture_renews_the_lease_between_tests(lab_of_two: Fleet) -> None:
    (lab_of_two.folder / "test_renews.py").write_text(RENEWS)
    assert end(pytest_in(lab_of_two, "test_renews.py")).status == 0
    assert lab_of_two.history()[-1] == ("node1", "taint", "tests passed")
    assert [verb for _, verb, _ in lab_of_two.history()].count("extend") >= 1


def test_the_fixture_ends_a_session_that_has_lost_its_host(lab_of_two: Fleet) -> None:
    (lab_of_two.folder / "test_loses.py").write_text(LOSES)
    done = end(pytest_in(lab_of_two, "test_loses.py"))
    assert done.status == 3
    assert "the host is lost: " in done.stdout
    assert lab_of_two.history()[-1] == ("node1", "taint", "forced: fire")
