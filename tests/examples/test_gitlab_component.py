"""The GitLab component: its inputs filled in, and its scripts run by bash as a shell runner runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Run, environment
from tests.examples.conftest import end
from tests.runner.conftest import Fleet

FILE = Path(__file__).parents[2] / "examples" / "ci" / "gitlab-component.yml"
VARIABLES = {
    "CI_PROJECT_PATH": "acme/firmware",
    "CI_JOB_NAME": "hardware-test",
    "CI_JOB_URL": "https://gitlab.example.com/acme/firmware/-/jobs/42",
    "CI_JOB_ID": "42",
}


def included(**inputs: object) -> dict[str, Any]:
    """The jobs of the component with these inputs, or the default of each."""
    header, text = FILE.read_text().split("\n---\n")
    spec = yaml.safe_load(header)["spec"]["inputs"]
    missing = [name for name, about in spec.items() if "default" not in about and name not in inputs]
    assert missing == [], "inputs without a default have to be given"
    values = {name: about.get("default") for name, about in spec.items()} | inputs

    def value(match: re.Match[str]) -> str:
        found = values[match[1]]  # a KeyError: the body names an input that the spec lacks
        return found if isinstance(found, str) else json.dumps(found)

    return yaml.safe_load(re.sub(r"\$\[\[ inputs\.(\w+) \]\]", value, text))


def shell(fleet: Fleet, job: dict[str, Any], *parts: str, **more: str) -> Run:
    """Run parts of a job in one shell, as the runner does: it ends at the first command that fails."""
    script = "set -eo pipefail\n" + "\n".join(line for part in parts for line in job[part])
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=fleet.folder,
        env=environment(CI="true", **VARIABLES)
        | {name: str(value) for name, value in job["variables"].items()}
        | {"PATH": f"{fleet.folder / 'bin'}:{os.environ['PATH']}"}
        | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    fleet.started.append(process)
    return end(process)


def test_a_job_of_the_component_holds_hosts_for_its_script_and_gives_them_back(lab_of_two: Fleet) -> None:
    script = ['echo "on $BMH_HOSTS"', "exit 3"]
    jobs = included(inventory=lab_of_two.lab.location, selector="arch=arm64", count=2, script=script)
    (job,) = jobs.values()
    assert jobs.keys() == {"hardware-test"}
    assert job["tags"] == ["lab"]
    assert shell(lab_of_two, job, "before_script", "script") == Run(3, "on node1 node2\n", "")
    (held,) = lab_of_two.lab.context().store.reservations.open()
    assert (held.owner, held.tags) == ("gitlab/acme/firmware", {"job": "42"})
    assert shell(lab_of_two, job, "after_script", CI_JOB_STATUS="failed").status == 0
    assert lab_of_two.open_reservations() == []
    assert lab_of_two.history()[-1] == ("node2", "taint", "job 42 ended: failed")


def test_a_script_with_the_status_of_a_wait_that_timed_out_is_not_retried(lab_of_two: Fleet) -> None:
    (job,) = included(inventory=lab_of_two.lab.location, selector="arch=arm64", script=["exit 7"]).values()
    assert shell(lab_of_two, job, "before_script", "script").status not in job["retry"]["exit_codes"]


def test_an_impossible_request_of_the_component_keeps_its_status(lab_of_two: Fleet) -> None:
    (job,) = included(inventory=lab_of_two.lab.location, selector="arch=none", script=["true"]).values()
    assert shell(lab_of_two, job, "before_script", "script").status == 6


def test_a_job_of_the_component_without_hosts_ends_before_its_script(lab_of_two: Fleet) -> None:
    assert lab_of_two.bmhctl("reserve", "-n", "2", "--as", "bob").status == 0
    (job,) = included(
        inventory=lab_of_two.lab.location, selector="arch=arm64", wait="1s", script=["echo never"]
    ).values()
    done = shell(lab_of_two, job, "before_script", "script")
    assert (done.status, done.stdout) == (75, "")
    assert job["retry"]["exit_codes"] == [75]
    assert shell(lab_of_two, job, "after_script", CI_JOB_STATUS="failed").status == 0
    assert len(lab_of_two.open_reservations()) == 1


def test_a_job_that_was_ended_before_it_read_its_answer_gives_the_hosts_back(lab_of_two: Fleet) -> None:
    (job,) = included(inventory=lab_of_two.lab.location, selector="arch=arm64", script=["true"]).values()
    cut = {**job, "before_script": job["before_script"][:2]}
    assert shell(lab_of_two, cut, "before_script").status == 0
    assert len(lab_of_two.open_reservations()) == 1
    assert shell(lab_of_two, job, "after_script", CI_JOB_STATUS="canceled").status == 0
    assert lab_of_two.open_reservations() == []


def test_the_include_of_the_manual_makes_a_job() -> None:
    manual = (FILE.parents[2] / "bmhctl" / "docs" / "ci.md").read_text()
    [text] = [text for text in re.findall(r"```yaml\n(.*?)```", manual, re.S) if "include:" in text]
    [include] = yaml.safe_load(text)["include"]
    assert (FILE.parents[2] / include["local"]) == FILE
    spec = yaml.safe_load(FILE.read_text().split("\n---\n")[0])["spec"]["inputs"]
    assert include["inputs"].keys() <= spec.keys()
    assert included(**include["inputs"])["hardware-test"]["script"] == include["inputs"]["script"]
