"""How far a command travels through the code: the files that it enters, and its moves between them.

Both are counted work, the same on every machine. A command that enters few files, and seldom moves on from one to
another and back, is read from the command line to its answer without losing the thread.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bmhctl.domain.requirements import Requirement
from bmhctl.usecases import hosts, inventories
from bmhctl.usecases.reservations.request import ReservationRequest
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, environment

WALKER = """
import inspect, os, sys
import bmhctl
from bmhctl.cli.main import run

package = os.path.dirname(bmhctl.__file__) + os.sep
everywhere = {package + "support/values.py", package + "support/lazy_regex.py"}  # values and patterns, used everywhere
entered = []

def note(frame, event, _):
    code = frame.f_code
    is_function = code.co_flags & inspect.CO_OPTIMIZED  # not the body of a class, which runs when its module is loaded
    if event == "call" and code.co_filename.startswith(package) and is_function and not code.co_name.startswith("<"):
        if code.co_filename not in everywhere and entered[-1:] != [code.co_filename]:
            entered.append(code.co_filename)

sys.setprofile(note)
status = run(sys.argv[1:])
sys.setprofile(None)
print(f"status {status}: {len(set(entered))} files, {len(entered) - 1} moves", file=sys.stderr)
"""

MOST: dict[str, tuple[int, int]] = {
    "reserve -l arch=arm64 -n 2": (29, 93),
    "list": (21, 69),
    "show n1": (23, 62),
    "status": (25, 113),
    "why n1": (31, 103),
    "ready n8": (35, 118),
    "reservations": (18, 54),
    "history n1": (20, 52),
    "extend -R r-one": (24, 80),
    "release -R r-one": (28, 120),
}
"""For each command how many files it enters at most, and how often it moves from one to another."""


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight hosts in a SQLite file: two are reserved as r-one, one is initial."""
    lab = Lab(tmp_path_factory.mktemp("walks") / "lab.db")
    lab.clock.now = datetime.now(UTC) - timedelta(minutes=1)  # so that every age has a number
    inventories.init(lab.location)
    hosts.add(lab.context(), ["n[1-8]"], hosts.AttributeChanges(address="{name}.lab", labels={"arch": "arm64"}))
    step_verbs.ready(lab.context(), Choice(("n[1-7]",)))
    wanted = (Requirement(name="n1"), Requirement(name="n2"))
    reserve_or_wait(lab.context(), ReservationRequest(wanted, token="r-one"))
    lab.close()
    return lab.path


@pytest.mark.parametrize("command", MOST)
def test_a_command_enters_no_more_files_and_moves_no_more_often_than_it_must(
    command: str, inventory: Path, tmp_path: Path
) -> None:
    shutil.copy(inventory, tmp_path / "lab.db")
    done = subprocess.run(
        [sys.executable, "-c", WALKER, *command.split()],
        env=environment(BMHCTL_INVENTORY=str(tmp_path / "lab.db"), BMHCTL_ACTOR="alice"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    counted = re.search(r"^status 0: (\d+) files, (\d+) moves$", done.stderr, re.MULTILINE)
    assert counted is not None, done.stderr
    files, moves = MOST[command]
    assert int(counted[1]) <= files
    assert int(counted[2]) <= moves
