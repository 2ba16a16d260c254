"""The tour runs unchanged from any folder, in a pipe and on a terminal, and leaves no files behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pexpect
import pytest
from pages import ROOT, environment

pytestmark = pytest.mark.slow

TOUR = ROOT / "examples" / "tour.sh"


@pytest.fixture
def setting(tmp_path: Path, forking: Path) -> dict[str, str]:
    """The environment of a tour with the bmhctl that is under test, so that nothing is installed."""
    (tmp_path / "tmp").mkdir()
    binary = str(forking / "bmhctl")
    return {**environment(tmp_path), "TMPDIR": str(tmp_path / "tmp"), "BMHCTL_TOUR_BIN": binary, "CI": "true"}


def checkout() -> list[str]:
    return sorted(str(path) for path in (ROOT / "examples").rglob("*"))


def test_the_tour_plays_the_whole_life_of_a_host(tmp_path: Path, setting: dict[str, str]) -> None:
    before = checkout()
    done = subprocess.run(
        ["sh", TOUR], cwd=tmp_path, env=setting, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for verb in (
        "ready",
        "reserve",
        "taint",
        "reset",
        "run",
        "maintain",
        "resume",
        "history",
        "graph",
        "status",
        "import",
    ):
        assert f"\n$ bmhctl {verb} " in done.stdout or f"\n$ bmhctl {verb}\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert checkout() == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_tour_needs_an_empty_folder_and_keeps_it(tmp_path: Path, setting: dict[str, str]) -> None:
    def tour() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", TOUR, "my tour"], cwd=tmp_path, env=setting, capture_output=True, text=True)

    assert tour().returncode == 0
    assert (tmp_path / "my tour" / "lab" / "lab.state.db").exists()
    again = tour()
    assert again.returncode == 1
    assert again.stderr == f"tour: {tmp_path}/my tour is not empty\n"


def test_the_tour_shows_tables_on_a_terminal(tmp_path: Path, setting: dict[str, str]) -> None:
    del setting["NO_COLOR"]
    setting["BMHCTL_TOUR_BIN"] = os.path.join(sysconfig.get_path("scripts"), "bmhctl")  # on that terminal
    child = pexpect.spawn(
        "sh", [str(TOUR)], cwd=tmp_path, env=setting, dimensions=(40, 100), encoding="utf-8", timeout=60
    )  # type: ignore[arg-type]
    seen = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "\x1b[1m$ bmhctl list" in seen
    assert "○ initial" in seen


def test_the_tour_names_the_python_version_that_it_needs(tmp_path: Path, setting: dict[str, str]) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "mktemp", "rm", "cp", "mkdir", "ls", "sed"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    del setting["BMHCTL_TOUR_BIN"]
    done = subprocess.run(
        [tools / "sh", TOUR], env={**setting, "PATH": str(tools), "PYTHON": "no-python"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"tour: bmhctl needs Python 3.11 or newer; name one: PYTHON=/path/to/python {TOUR}\n"
