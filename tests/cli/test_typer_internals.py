"""The internals of Typer that bmhctl uses, with the lowest and the highest version that pyproject.toml allows."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def _bounds() -> tuple[str, str]:
    """The requirement of the lowest and of the highest Typer, as pip reads them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(text for text in project["dependencies"] if text.startswith("typer"))
    lowest = re.search(r">=\s*([\d.]+)", wanted)
    assert lowest is not None, wanted
    return f"typer=={lowest[1]}", wanted


@cache
def _installed(requirement: str) -> Path:
    """Return a folder with only that Typer, which is kept between runs."""
    name = re.sub(r"[^\w.]+", "-", requirement)
    folder = Path(tempfile.gettempdir()) / f"bmhctl-typer-{os.getuid()}-{name}"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # else each worker installs it
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                new = Path(scratch) / "new"
                pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(new), requirement]
                done = subprocess.run(pip, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                new.rename(folder)
    return folder


@pytest.fixture(params=["lowest", "highest"])
def typer_folder(request: pytest.FixtureRequest) -> Path:
    lowest, highest = _bounds()
    return _installed(lowest if request.param == "lowest" else highest)


def _run(folder: Path, cwd: Path, *args: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = environment(PYTHONPATH=str(folder), **extra)
    command = [sys.executable, "-c", "import sys, typer; from bmhctl.cli.main import run; sys.exit(run(sys.argv[1:]))"]
    return subprocess.run([*command, *args], cwd=cwd, env=env, capture_output=True, text=True)


def test_the_imported_typer_is_the_one_of_the_folder_under_test(typer_folder: Path, tmp_path: Path) -> None:
    code = "import typer; print(typer.__file__)"
    env = environment(PYTHONPATH=str(typer_folder))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(typer_folder / "typer" / "__init__.py"), done.stderr


def test_help_of_the_root_and_of_a_command_is_shown(typer_folder: Path, tmp_path: Path) -> None:
    root = _run(typer_folder, tmp_path, "--help")
    assert (root.returncode, root.stderr) == (0, "")
    assert re.search(r"(?m)^Lifecycle:\n  ready +Check hosts", root.stdout)
    command = _run(typer_folder, tmp_path, "reserve", "--help")
    assert (command.returncode, command.stderr) == (0, "")
    assert "--wait" in command.stdout
    assert "--inventory" in command.stdout


def test_commands_run_with_global_options_before_and_after_their_names(typer_folder: Path, tmp_path: Path) -> None:
    for args in (["-i", "lab.db", "init"], ["add", "node01", "-qi", "lab.db"], ["-o", "name", "list", "-i", "lab.db"]):
        done = _run(typer_folder, tmp_path, *args)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "node01\n"


def test_usage_errors_suggest_what_was_meant(typer_folder: Path, tmp_path: Path) -> None:
    command = _run(typer_folder, tmp_path, "lst")
    assert command.returncode == 2
    assert command.stderr.startswith("bmhctl: no such command 'lst'\nhint: did you mean bmhctl list?")
    option = _run(typer_folder, tmp_path, "list", "--json")
    assert option.returncode == 2
    assert option.stderr.startswith("bmhctl: no such option: --json\nhint: did you mean -o json?")
    missing = _run(typer_folder, tmp_path, "show")
    assert (missing.returncode, missing.stderr) == (
        2,
        "bmhctl: missing argument 'HOST'\nhint: bmhctl show [OPTIONS] HOST; see bmhctl show --help\n",
    )


def test_completion_finds_its_candidates(typer_folder: Path, tmp_path: Path) -> None:
    for line, offered in (
        ("bmhctl tai", "taint\tGive hosts back"),
        ("bmhctl -o js", "json\n"),
        ("bmhctl 'ru", "run\t"),
    ):
        done = _run(typer_folder, tmp_path, _BMHCTL_COMPLETE=line)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(offered)
