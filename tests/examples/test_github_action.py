"""The GitHub action, run by node with the variables and files that the runner gives its steps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run, environment
from tests.examples.conftest import end
from tests.programs import needs
from tests.runner.conftest import Fleet

pytestmark = needs("node")

FOLDER = Path(__file__).parents[2] / "examples" / "ci"
ACTION: dict[str, Any] = yaml.safe_load((FOLDER / "action.yml").read_text())
CONTEXT = {
    "github.workflow": "Nightly",
    "github.job": "hardware",
    "github.run_id": "1658821493",
    "github.run_attempt": "1",
    "github.repository": "acme/firmware",
    "strategy.job-index": "0",
}


@dataclass
class Job:
    """A job whose first step is the action: its inputs, and what the runner has read from the files of its steps."""

    fleet: Fleet
    inputs: dict[str, str]
    context: dict[str, str] = field(default_factory=lambda: dict(CONTEXT))
    state: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def start(self, step: str) -> subprocess.Popen[str]:
        """Start the script of a step, ``main`` or ``post``."""
        given = {name: self._evaluated(about.get("default", "")) for name, about in ACTION["inputs"].items()}
        files = {f"GITHUB_{name}": str(self._file(name)) for name in ("STATE", "ENV", "OUTPUT")}
        for path in files.values():
            Path(path).write_text("")
        process = subprocess.Popen(
            ["node", FOLDER / ACTION["runs"][step]],
            cwd=self.fleet.folder,
            env=environment(CI="true")
            | {"PATH": f"{self.fleet.folder / 'bin'}:{os.environ['PATH']}", "BMHCTL_INVENTORY": self.fleet.lab.location}
            | {f"GITHUB_{name}": self.context[f"github.{name.lower()}"] for name in ("JOB", "RUN_ID", "RUN_ATTEMPT")}
            | {"GITHUB_ACTION": "lab"}
            | {f"INPUT_{name.upper()}": value for name, value in (given | self.inputs).items()}
            | {f"STATE_{name}": value for name, value in self.state.items()}
            | self.env
            | files,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.fleet.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Run:
        """Wait for a step, and read its files as the runner does."""
        done = end(process)
        self.read_files()
        return done

    def read_files(self) -> None:
        for name, values in (("STATE", self.state), ("ENV", self.env), ("OUTPUT", self.outputs)):
            values.update(read(self._file(name)))

    def run(self, step: str) -> Run:
        return self.end(self.start(step))

    def _file(self, name: str) -> Path:
        return self.fleet.folder / f"runner-{name.lower()}"

    def _evaluated(self, text: str) -> str:
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: self.context[match[1]], text)


def read(path: Path) -> dict[str, str]:
    """The values in a file of a step: a name, ``<<`` and a delimiter, then lines up to the delimiter."""
    text, found = path.read_text(), {}
    while text:
        head, _, text = text.partition("\n")
        name, delimiter = head.split("<<")
        value, delimited, text = text.partition(f"\n{delimiter}\n")
        assert delimited
        found[name] = value
    return found


def owners(fleet: Fleet) -> list[str]:
    return [reservation.owner for reservation in fleet.lab.context().store.reservations.all()]


def annotations(stdout: str) -> list[str]:
    """Return the lines that the runner reads as workflow commands, except stop-commands and its resume line."""
    kept, stopped = [], ""
    for line in stdout.splitlines():
        if line.startswith("::stop-commands::"):
            stopped = line.removeprefix("::stop-commands::")
        elif stopped and line == f"::{stopped}::":
            stopped = ""
        elif not stopped and line.startswith("::"):
            kept.append(line)
    assert not stopped
    return kept


@pytest.fixture
def job(lab_of_two: Fleet) -> Job:
    return Job(lab_of_two, {"selector": "arch=arm64"})


def test_the_action_reserves_hosts_for_the_steps_after_it_and_gives_them_back(job: Job) -> None:
    assert job.fleet.bmhctl("set", "node1", "--address", "192.0.2.11").status == 0
    job.inputs |= {"count": "2", "inventory": job.fleet.lab.location}
    done = job.run("main")
    (held,) = job.fleet.open_reservations()
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{held}: node1 node2\n")
    assert job.outputs == {"reservation": held, "hosts": "node1 node2", "host": "node1", "address": "192.0.2.11"}
    assert job.outputs.keys() == ACTION["outputs"].keys()
    assert job.env["BMH_ADDRESS"] == "192.0.2.11"
    assert job.env["BMHCTL_INVENTORY"] == job.fleet.lab.location
    assert job.env["BMHCTL_ACTOR"] == "github/acme/firmware"
    done = job.run("post")
    assert (done.status, done.stderr, annotations(done.stdout)) == (0, "", [])
    assert job.fleet.open_reservations() == []
    assert job.fleet.history()[-1] == ("node2", "taint", "job hardware of run 1658821493, attempt 1, ended")


def test_a_repeated_step_gets_the_same_hosts_and_each_job_of_a_matrix_gets_others(job: Job) -> None:
    assert job.run("main").status == 0
    again = Job(job.fleet, job.inputs)
    assert again.run("main").status == 0
    assert again.outputs == job.outputs
    other = Job(job.fleet, job.inputs, CONTEXT | {"strategy.job-index": "1"})
    assert other.run("main").status == 0
    assert other.outputs["hosts"] == "node2"
    assert other.run("post").status == 0
    assert job.fleet.open_reservations() == [job.outputs["reservation"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_job_that_is_cancelled_while_it_waits_leaves_no_ticket(number: signal.Signals, job: Job) -> None:
    assert job.fleet.bmhctl("reserve", "-n", "2", "--as", "bob").status == 0
    process = job.start("main")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for ")
    process.send_signal(number)  # the runner signals only the step's own process
    assert job.end(process).status == 128 + number
    assert job.fleet.lab.context().store.tickets.all() == []
    assert job.run("post").status == 0
    assert len(job.fleet.open_reservations()) == 1


def test_the_post_step_finds_a_reservation_whose_answer_was_never_read(job: Job) -> None:
    assert job.run("main").status == 0
    job.state.pop("reservation")
    job.env.clear()
    assert job.run("post").status == 0
    assert job.fleet.open_reservations() == []
    job.state.clear()
    assert job.run("post") == Run(0, "", "")  # the main step did not begin


def test_after_a_killed_main_step_no_bmhctl_waits_for_hosts(job: Job) -> None:
    assert job.fleet.bmhctl("reserve", "-n", "2", "--as", "bob").status == 0
    process = job.start("main")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for ")
    process.kill()
    process.wait()
    job.read_files()
    assert job.run("post").status == 0
    assert process.stderr.read() == ""  # read to the end: bmhctl has ended as well, because its answer has no reader
    assert job.fleet.lab.context().store.tickets.all() == []
    assert owners(job.fleet) == ["bob"]


def test_a_job_that_gets_no_hosts_fails_with_a_message(job: Job) -> None:
    job.inputs["selector"] = "arch=vax"
    done = job.run("main")
    assert done.status == 6
    assert "not possible in this inventory" in done.stderr
    assert annotations(done.stdout)[0].startswith("::error title=bmhctl::no hosts were reserved")
    assert job.run("post").status == 0
    job.inputs |= {"selector": "", "want": "arch=arm64\narch=arm64*2\n"}
    assert job.run("main").status == 6
    job.inputs |= {"want": "", "hosts": "--force\nnode1"}  # a name, not an option
    assert job.run("main").status == 3


def test_a_job_whose_reservation_had_ended_is_warned(job: Job) -> None:
    assert job.run("main").status == 0
    assert job.fleet.bmhctl("taint", "node1", "--force", "--reason", "fire").status == 0
    assert job.fleet.bmhctl("recycle", "node1", "-q").status == 0
    assert job.fleet.bmhctl("reserve", "node1", "--as", "github/acme/firmware").status == 0
    done = job.run("post")
    assert done.status == 0
    assert annotations(done.stdout)[0].startswith("::warning title=bmhctl::the reservation ")
    assert len(job.fleet.open_reservations()) == 1  # a reservation of the same owner, by another job


def test_no_output_of_bmhctl_is_read_as_a_workflow_command(job: Job) -> None:
    job.inputs["hosts"] = "::error::no"
    job.inputs["selector"] = ""
    assert [line.partition("::no")[0] for line in annotations(job.run("main").stdout)] == ["::error title=bmhctl"]


def test_a_missing_bmhctl_is_reported(job: Job) -> None:
    (job.fleet.folder / "bin" / "bmhctl").rename(job.fleet.folder / "bin" / "other")
    job.env["PATH"] = f"{job.fleet.folder / 'bin'}:/usr/bin:/bin"
    done = job.run("main")
    assert (done.status, done.stderr) == (127, "can't run bmhctl: spawn bmhctl ENOENT\n")


def test_the_manual_uses_only_existing_inputs_of_the_action() -> None:
    manual = (FOLDER.parents[1] / "bmhctl" / "docs" / "ci.md").read_text()
    [workflow] = [text for text in re.findall(r"```yaml\n(.*?)```", manual, re.S) if "jobs:" in text]
    [step] = [
        step for step in yaml.safe_load(workflow)["jobs"]["hardware"]["steps"] if step.get("uses") == "./examples/ci"
    ]
    assert step["with"].keys() <= ACTION["inputs"].keys()
