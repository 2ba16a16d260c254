"""What a task knows of its hosts, and that all else around it is as it would be without ``run``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bmhctl.docs import page
from tests.conftest import Bmhctl, Run, environment
from tests.runner.conftest import BMHCTL, Fleet

HOSTS = """
[hosts.big]
address = "10.0.0.11"
mac = "bc:55:85:92:de:01"
labels = { arch = "x86_64", "kernel.org/page-size" = "64KiB" }
hardware = { cpus = 64, memory = "256GiB" }
bmc = { type = "redfish", address = "redfish+https://10.0.1.11/redfish/v1/Systems/1", system_id = "1" }

[hosts.small]
labels = { arch = "arm64" }
"""

SHOW = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


@pytest.fixture
def two(tmp_path: Path, bmhctl: Bmhctl) -> Path:
    """A host with all facts, and one with none but its name and a label."""
    path = tmp_path / "lab.toml"
    path.write_text(HOSTS)
    assert bmhctl("-i", "lab.toml", "ready", "*", "-q").status == 0
    return path


def test_exactly_the_documented_variables_are_set(two: Path, bmhctl: Bmhctl) -> None:
    done = bmhctl(
        "-i", "lab.toml", "run", "--want", "arch=x86_64", "--want", "arch=arm64", "--tag", "ci.org/job=4711", *SHOW
    )
    assert (done.status, done.stderr) == (0, "")
    known = json.loads(done.stdout)
    ours = {name: value for name, value in known.items() if name.startswith("BMH")}
    big = {
        "HOST": "big",
        "ADDRESS": "10.0.0.11",
        "MAC": "bc:55:85:92:de:01",
        "BMC_ADDRESS": "redfish+https://10.0.1.11/redfish/v1/Systems/1",
        "BMC_TYPE": "redfish",
        "BMC_SYSTEM_ID": "1",
        "LABEL_ARCH": "x86_64",
        "LABEL_KERNEL_ORG_PAGE_SIZE": "64KiB",
        "HARDWARE_CPUS": "64",
        "HARDWARE_MEMORY": "256GiB",
    }
    small = {"HOST": "small", "LABEL_ARCH": "arm64"}
    assert ours == {
        "BMH_RESERVATION": ours["BMH_RESERVATION"],
        "BMH_HOSTS": "big small",
        "BMH_COUNT": "2",
        "BMH_TAG_CI_ORG_JOB": "4711",
        **{f"BMH_{name}": value for name, value in big.items()},
        **{f"BMH_1_{name}": value for name, value in big.items()},
        **{f"BMH_2_{name}": value for name, value in small.items()},
        "BMHCTL_INVENTORY": str(two),
        "BMHCTL_ACTOR": "alice",
        "BMHCTL_RUN": ours["BMHCTL_RUN"],
    }
    documented = re.findall(r"(?m)^\| `(BMH\w+)(<KEY>|<NAME>)?` \|", page("ci"))
    pattern = "|".join(name + (".+" if key else "") for name, key in documented)
    undocumented = {name for name in ours if not name[4].isdigit() and not re.fullmatch(pattern, name)}
    assert undocumented == {"BMH_BMC_TYPE", "BMH_BMC_SYSTEM_ID"}  # the row of BMH_BMC_ADDRESS names them
    others = {name: value for name, value in known.items() if name not in ours}
    assert others == {k: v for k, v in environment().items() if k != "BMHCTL_ACTOR"} | {
        key: known[key] for key in ("LC_CTYPE",) if key in known
    }


def test_a_run_inside_a_run_has_only_the_variables_of_its_own_hosts(two: Path, bmhctl: Bmhctl) -> None:
    inner = [sys.executable, "-m", "bmhctl", "run", "--host", "small", *SHOW]
    done = bmhctl("-i", "lab.toml", "run", "--host", "big", "--", *inner, BMH_FLAVOUR="mine", BMH_2_HOST="stale")
    assert (done.status, done.stderr) == (0, "")
    known = json.loads(done.stdout)
    assert {name: value for name, value in known.items() if name.startswith("BMH_")} == {
        "BMH_RESERVATION": known["BMH_RESERVATION"],
        "BMH_HOSTS": "small",
        "BMH_COUNT": "1",
        "BMH_HOST": "small",
        "BMH_1_HOST": "small",
        "BMH_LABEL_ARCH": "arm64",
        "BMH_1_LABEL_ARCH": "arm64",
        "BMH_FLAVOUR": "mine",
    }


def test_bmhctl_inside_the_task_uses_the_same_inventory_and_reservation(fleet: Fleet) -> None:
    script = """
        cd / &&
        bmhctl reservations -o name &&
        bmhctl extend --ttl 1d -o name &&
        bmhctl taint node2 --fault 'dead fan' -q &&
        bmhctl list --state reserved -o name
    """
    done = fleet.bmhctl("-i", fleet.lab.location, "run", "-n", "3", "--as", "carol", "--", "sh", "-c", script)
    assert done.status == 0
    reservation, *names = done.stdout.split()
    assert names == ["node1", "node2", "node3", "node1", "node3"]
    known = fleet.lab.context().store.reservations.get(reservation)
    assert known is not None
    assert (known.owner, known.end_reason) == ("carol", "task completed")
    assert [event for event in fleet.history() if event[1] in ("taint", "fault")][:2] == [
        ("node2", "taint", "fault: dead fan"),
        ("node2", "fault", "dead fan"),
    ]


def test_a_task_that_gives_its_hosts_back_itself_may_go_on(fleet: Fleet) -> None:
    script = 'bmhctl release --reason "all measured" -q; read line; echo "$line"; exit 3'
    turn = fleet.start("run", "--host", "node1", "--", "sh", "-c", script, pipe_in=True)
    assert turn.process.stderr is not None
    assert "was given back; the task goes on without hosts" in turn.process.stderr.readline()
    assert turn.process.stdin is not None
    turn.process.stdin.write("still here\n")
    assert turn.end() == Run(3, "still here\n", "")
    assert fleet.history() == [("node1", "reserve", None), ("node1", "taint", "all measured")]


def test_stdin_and_stdout_of_the_task_pass_bytes_unchanged(toml_fleet: Fleet) -> None:
    data = bytes(range(256)) * 4096
    done = subprocess.run(
        [*BMHCTL, "run", "-n", "1", "--", "cat"],
        cwd=toml_fleet.folder,
        env=environment(**toml_fleet.environ),
        input=data,
        capture_output=True,
    )
    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, b"")


PROCESS = """
import json, os, re
status = open("/proc/self/status").read()
print(json.dumps({
    "descriptors": [n for n in range(300) if os.path.exists(f"/proc/self/fd/{n}")],
    "signals": re.findall(r"^(?:SigBlk|SigIgn):.*", status, re.M),
    "umask": re.findall(r"^Umask:.*", status, re.M),
    "folder": os.getcwd(),
}))
"""


def test_the_process_of_the_task_has_the_same_settings_as_without_run(toml_fleet: Fleet) -> None:
    """Descriptors, signals, umask, folder: also an open descriptor of the caller's, and a signal that it ignores."""
    shell = ["sh", "-c", "umask 027; trap '' USR1; exec 7</dev/null; exec \"$@\"", "-"]
    # PROCESS ignores SIGPIPE and SIGXFSZ with and without `run`, because Python ignores them at its start.
    task = ["sh", "-c", 'exec "$@"', "-", sys.executable, "-I", "-S", "-c", PROCESS]
    ends = [
        subprocess.run(
            [*shell, *command, *task],
            cwd=toml_fleet.folder,
            env=environment(**toml_fleet.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        for command in ([], [*BMHCTL, "run", "-n", "1", "--"])
    ]
    alone, under_run = (json.loads(end.stdout) for end in ends)
    assert alone["descriptors"] == [0, 1, 2, 7]
    assert under_run == alone


def test_a_task_whose_reader_is_gone_ends_by_sigpipe(toml_fleet: Fleet) -> None:
    command = " ".join([*BMHCTL, "run", "-n", "1", "--", "yes"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        cwd=toml_fleet.folder,
        env=environment(**toml_fleet.environ),
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("y\n141\n", "")
    assert toml_fleet.history()[-1] == ("node1", "taint", "task failed: SIGPIPE")


def test_a_signal_that_was_ignored_stays_ignored(toml_fleet: Fleet) -> None:
    task = ["sh", "-c", "kill -INT $PPID; kill -USR1 $$ $PPID; echo alive"]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT USR1; exec \"$@\"", "-", *BMHCTL, "run", "-n", "1", "--", *task],
        cwd=toml_fleet.folder,
        env=environment(**toml_fleet.environ),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def test_no_descriptor_of_the_inventory_reaches_the_task(fleet: Fleet) -> None:
    done = fleet.bmhctl("run", "-n", "1", "--", "sh", "-c", "ls /proc/$$/fd")
    assert done == Run(0, "0\n1\n2\n", "")
