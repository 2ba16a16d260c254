"""The units for systemd: systemd accepts them, and their commands do what the units say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.programs import needs
from tests.runner.conftest import Fleet

FOLDER = Path(__file__).parents[2] / "examples" / "systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
TIMERS = sorted(path.name for path in FOLDER.glob("*.timer"))


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units with an existing command, because systemd searches only folders of the system."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "units"))
    for name in SERVICES:
        text = (folder / name).read_text()
        assert text.count("\nExecStart=bmhctl ") == 1
        (folder / name).write_text(text.replace("ExecStart=bmhctl ", "ExecStart=/bin/true "))
    return folder


def command(name: str) -> list[str]:
    """The arguments of bmhctl in a service."""
    [line] = re.findall(r"^ExecStart=bmhctl (.*)$", (FOLDER / name).read_text(), re.M)
    return str(line).split()


@needs("systemd-analyze")
def test_systemd_accepts_every_unit(units: Path) -> None:
    paths = [str(units / name) for name in SERVICES + TIMERS]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (units / SERVICES[0]).write_text("[Service]\nExecStart=/bin/true\nRestrat=always\n")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", paths[0]], capture_output=True, text=True)
    assert "Restrat" in done.stderr, "it would have said so"


@needs("systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_the_common_sandbox(name: str, units: Path) -> None:
    line = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(units / name)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # an exposure of 2.0 of 10 at most; without, 9.6
    assert re.search(r"✓ User=/DynamicUser=", done.stdout)


@needs("systemd-sysusers", "systemd-tmpfiles")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_units_create_their_user_and_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, kind in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        line = [program, f"--root={tmp_path}", str(FOLDER / kind / "bmhctl.conf")]
        line[1:1] = ["--create"] if kind == "tmpfiles.d" else []
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    _, _, user, group, _, home, shell = (tmp_path / "etc" / "passwd").read_text().splitlines()[-1].split(":")
    made = (tmp_path / "var" / "lib" / "bmhctl").stat()
    assert (made.st_mode & 0o7777, made.st_uid, made.st_gid) == (0o2770, int(user), int(group))
    assert (home, shell.rpartition("/")[2]) == ("/var/lib/bmhctl", "nologin")


def test_every_timer_has_a_service() -> None:
    assert {name.replace(".timer", ".service") for name in TIMERS} == {*SERVICES} - {"bmhctl-recycle.service"}
    text = (FOLDER / "bmhctl-.service.d" / "common.conf").read_text()
    assert re.search(r"^StateDirectory=bmhctl$", text, re.M)
    assert re.search(r"^Environment=BMHCTL_INVENTORY=/var/lib/bmhctl/lab.toml$", text, re.M)


def test_the_commands_of_the_services_work(lab_of_two: Fleet, tmp_path: Path) -> None:
    assert lab_of_two.bmhctl(*command("bmhctl-reap.service")).status == 0
    metrics = [arg.replace("${RUNTIME_DIRECTORY}", str(tmp_path)) for arg in command("bmhctl-metrics.service")]
    assert lab_of_two.bmhctl(*metrics).status == 0
    assert 'bmhctl_hosts{state="available"} 2' in (tmp_path / "bmhctl.prom").read_text()

    assert lab_of_two.bmhctl("reserve", "node1").status == 0
    assert lab_of_two.bmhctl("release", "node1").status == 0
    watch = subprocess.Popen(
        [lab_of_two.folder / "bin" / "bmhctl", *command("bmhctl-recycle.service")],
        env=environment(BMHCTL_INVENTORY=lab_of_two.lab.location),
        stdout=subprocess.PIPE,
        text=True,
    )
    lab_of_two.started.append(watch)
    assert watch.stdout is not None
    assert watch.stdout.readline().startswith("node1 ")
    watch.terminate()
    assert watch.wait(30) == 143  # SuccessExitStatus
    assert lab_of_two.states()["node1"] == "available"
