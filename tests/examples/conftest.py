"""Fixtures for the tests of examples: a lab of two hosts, with a ``bmhctl`` on the path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lab, Run
from tests.runner.conftest import Fleet, make_fleet


@pytest.fixture
def lab_of_two(toml_lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """node1 and node2, and a ``bmhctl`` on the path."""
    fleet = make_fleet(toml_lab, "node[1-2]")
    tool = tmp_path / "bin" / "bmhctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m bmhctl "$@"\n')
    tool.chmod(0o755)
    yield fleet
    for process in fleet.started:
        with process:  # close its pipes, which a task that outlived it may hold open for long
            process.kill()


def task(fleet: Fleet, name: str, text: str) -> str:
    path = fleet.folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def end(process: subprocess.Popen[str]) -> Run:
    stdout, stderr = process.communicate(timeout=60)
    return Run(process.returncode, stdout, stderr)
