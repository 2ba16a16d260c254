"""The inventory script for Ansible, read by ansible-core itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = str(EXAMPLES / "ansible" / "bmh_inventory")
INVENTORY = """\
[hosts.gpu-01]
address = "192.0.2.1"
labels = { gpu = "true", rack = "r-1", "example.org/zone" = "a" }
hardware = { cpus = 64 }
note = "{{ lookup('pipe', 'touch run-by-a-note') }}"

[hosts.gpu-02]
address = "192.0.2.2"
labels = { gpu = "true", rack = "r-2" }

[hosts."plain.lab"]
labels = { rack = "r-2" }
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab.toml").write_text(INVENTORY)
    return tmp_path


def call(lab: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = environment(
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        HOME=str(lab),
        BMHCTL_INVENTORY=str(lab / "lab.toml"),
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS="always",
        **extra,
    )
    return subprocess.run(command, cwd=lab, env=env, capture_output=True, text=True, check=False)


def test_ansible_reads_groups_by_label_state_and_owner_without_a_warning(lab: Path) -> None:
    done = call(lab, "ansible-inventory", "-i", SCRIPT, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {name: group["hosts"] for name, group in found.items() if "hosts" in group} == {
        "example_org_zone_a": ["gpu-01"],
        "gpu": ["gpu-01", "gpu-02"],
        "rack_r_1": ["gpu-01"],
        "rack_r_2": ["gpu-02", "plain.lab"],
        "state_initial": ["gpu-01", "gpu-02", "plain.lab"],
    }
    variables = found["_meta"]["hostvars"]
    assert variables["gpu-01"]["ansible_host"] == "192.0.2.1"
    assert variables["gpu-01"]["bmh_hardware"] == {"cpus": 64}
    assert "bmh_note" not in variables["gpu-01"]
    assert "ansible_host" not in variables.get("plain.lab", {})


def test_a_playbook_under_run_finds_its_reserved_hosts_in_the_group_mine(lab: Path) -> None:
    call(lab, "bmhctl", "ready", "gpu-01", "gpu-02")
    playbook = ["ansible-playbook", "-i", SCRIPT, "-l", "mine", str(EXAMPLES / "ansible" / "site.yml")]
    done = call(lab, "bmhctl", "--as", "alice@lab", "run", "-l", "rack=r-1", "--", *playbook)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gpu-01 at 192.0.2.1 has 64 CPUs" in done.stdout
    assert "gpu-02" not in done.stdout
    assert "WARNING" not in done.stderr
    assert not (lab / "run-by-a-note").exists()


def test_the_group_mine_is_empty_without_a_reservation(lab: Path) -> None:
    done = call(lab, "ansible-playbook", "-i", SCRIPT, str(EXAMPLES / "ansible" / "site.yml"))
    assert done.returncode == 0
    assert "no hosts matched" in done.stdout
    assert json.loads(call(lab, SCRIPT, "--host", "gpu-01").stdout) == {}
    assert call(lab, SCRIPT, "--what").returncode == 2


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ('labels = { rack = "r.1" }', "rack=r.1 and rack=r-1 would both be the Ansible group rack_r_1"),
        ('labels = { all = "true" }', "all=true and all would both be the Ansible group all"),
        ('labels = { mine = "" }', "mine= and the hosts of $BMH_RESERVATION would both be the Ansible group mine"),
        (
            'labels = { plain = "true" }\n[hosts.plain]',
            "plain is the name of a host, and of the Ansible group for plain=true",
        ),
    ],
)
def test_a_group_with_the_name_of_a_host_or_of_another_group_is_refused(lab: Path, host: str, said: str) -> None:
    with (lab / "lab.toml").open("a") as file:
        file.write(f"\n[hosts.other]\n{host}\n")
    done = call(lab, "bmhctl", "export", "-o", "ansible")
    assert (done.returncode, done.stdout) == (10, "")
    assert done.stderr.splitlines()[1].removeprefix("bmhctl: ") == said or said in done.stderr
