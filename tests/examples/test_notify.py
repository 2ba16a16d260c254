"""``examples/notify.sh`` runs its command once for each event, even after kills and failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bmhctl.usecases import hosts
from tests.conftest import Lab, environment
from tests.processes import ended, until

NOTIFY = Path(__file__).parents[2] / "examples" / "notify.sh"

COMMAND = """\
#!/bin/bash
read -r event
[ ! -e fail ] || exit 3
[ ! -e hold ] || { touch held; while [ -e hold ]; do sleep 0.02; done; }
printf '%s\\n' "$event" >>told
"""


@pytest.fixture
def start(toml_lab: Lab, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the script with a command that records each event in ``told``, waits while ``hold`` exists, or fails."""
    tool = tmp_path / "bin" / "bmhctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m bmhctl "$@"\n')
    command = tmp_path / "command"
    command.write_text(COMMAND)
    for path in (tool, command):
        path.chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        environ = environment(BMHCTL_INVENTORY=toml_lab.location) | {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
        process = subprocess.Popen(
            [NOTIFY, "place", "./command"], cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def told(folder: Path) -> list[int]:
    path = folder / "told"
    return [int(json.loads(line)["id"]) for line in path.read_text().splitlines()] if path.exists() else []


def add(lab: Lab, *names: str) -> None:
    with lab.visit() as ctx:
        hosts.add(ctx, names, hosts.AttributeChanges())


@pytest.mark.slow
def test_no_event_is_lost_or_sent_twice(
    toml_lab: Lab, tmp_path: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    add(toml_lab, "node1")
    first, place = start(), tmp_path / "place"
    until(lambda: place.exists())
    assert place.read_text() == "1\n"  # earlier events are not passed to the command
    add(toml_lab, "node2", "node3")
    until(lambda: told(tmp_path) == [2, 3])

    (tmp_path / "hold").touch()
    add(toml_lab, "node4", "node5")
    until(lambda: (tmp_path / "held").exists())
    first.kill()
    assert ended(first.pid)
    second = start()  # the second script waits for the command of the first
    (tmp_path / "hold").unlink()
    until(lambda: told(tmp_path) == [2, 3, 4, 5])

    second.terminate()
    assert second.wait(10) == -signal.SIGTERM
    add(toml_lab, "node6")
    (tmp_path / "fail").touch()
    third = start()
    assert third.wait(20) == 3
    assert third.stderr is not None
    assert "the command failed with status 3" in third.stderr.read()
    until(lambda: place.read_text() == "5\n")
    (tmp_path / "fail").unlink()
    start()
    until(lambda: told(tmp_path) == [2, 3, 4, 5, 6])
    until(lambda: place.read_text() == "6\n")
