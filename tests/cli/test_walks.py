"""How many files a command enters, and how often it moves between them.

Both numbers are the same on every machine. A command that enters few files, and seldom moves between them, can be read
from the command line to its answer without losing the thread. A file also counts if only the bodies of its classes run,
because the command loads it; a reader can skip only files that are never loaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bmhctl.domain.requirements import Requirement, ReservationRequest
from bmhctl.usecases import hosts, inventories, policy
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, environment

WALKER = """
import os, sys
import bmhctl
from bmhctl.cli.main import run

package = os.path.dirname(bmhctl.__file__) + os.sep
everywhere = {package + "support/values.py", package + "support/lazy_regex.py"}  # values and patterns, used everywhere
entered = []

def note(frame, event, _):
    code = frame.f_code
    is_function = not code.co_name.startswith("<") and code.co_name != "__annotate__"  # of Python 3.14
    if event == "call" and code.co_filename.startswith(package) and is_function:
        if code.co_filename not in everywhere and entered[-1:] != [code.co_filename]:
            entered.append(code.co_filename)

sys.setprofile(note)
status = run(sys.argv[1:])
sys.setprofile(None)
print(f"status {status}: {len(set(entered))} files, {len(entered) - 1} moves", file=sys.stderr)
"""

MOST: dict[str, tuple[int, int]] = {
    "reserve -l arch=arm64 -n 2": (24, 103),
    "list": (19, 69),
    "show n1": (19, 58),
    "status": (21, 101),
    "why n1": (24, 97),
    "ready n8": (24, 115),
    "reservations": (16, 53),
    "history n1": (16, 46),
    "extend -R r-one": (21, 81),
    "release -R r-one": (22, 104),
    "release n1 -R r-one": (24, 102),
}
"""For each command, the largest allowed number of files that it enters, and of moves between them."""


WITH_POLICY: dict[str, tuple[int, int]] = {
    "reserve -l arch=arm64 -n 2": (27, 117),
    "show n1": (25, 81),
    "why n1": (28, 120),
    "ready n8": (34, 175),
    "extend -R r-one": (25, 96),
}
"""The largest numbers with a policy that has a check, a cleanup step and defaults: it is parsed, and its steps run."""

POLICY = """
[defaults]
ttl = "4h"
max_ttl = "3d"
quarantine_after = 3

[checks.ssh]
command = ["true"]
timeout = "5s"

[cleanup.wipe]
command = ["true"]
timeout = "2h"
"""


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight hosts in a SQLite file: two are reserved as r-one, one is initial."""
    return made(tmp_path_factory.mktemp("walks") / "lab.db")


@pytest.fixture(scope="module")
def inventory_with_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hosts of ``inventory``, with a policy."""
    return made(tmp_path_factory.mktemp("walks") / "lab.db", POLICY)


def made(path: Path, policy_text: str | None = None) -> Path:
    lab = Lab(path)
    lab.clock.now = datetime.now(UTC) - timedelta(minutes=1)  # so that every age has a number
    inventories.init(lab.location)
    if policy_text is not None:
        policy.apply_policy(lab.context(), policy_text, "policy.toml")
    hosts.add(lab.context(), ["n[1-8]"], hosts.AttributeChanges(address="{name}.lab", labels={"arch": "arm64"}))
    step_verbs.ready(lab.context(), Choice(("n[1-7]",)))
    wanted = (Requirement(name="n1"), Requirement(name="n2"))
    reserve_or_wait(lab.context(), ReservationRequest(wanted, token="r-one"))
    lab.close()
    return lab.path


@pytest.mark.parametrize("command", MOST)
def test_a_command_does_not_enter_more_files_or_switch_between_them_more_often_than_counted(
    command: str, inventory: Path, tmp_path: Path
) -> None:
    files, moves = walked(command, inventory, tmp_path)
    assert files <= MOST[command][0]
    assert moves <= MOST[command][1]


@pytest.mark.parametrize("command", WITH_POLICY)
def test_a_policy_adds_few_files_and_switches_to_a_command(
    command: str, inventory_with_policy: Path, tmp_path: Path
) -> None:
    files, moves = walked(command, inventory_with_policy, tmp_path)
    assert files <= WITH_POLICY[command][0]
    assert moves <= WITH_POLICY[command][1]


def walked(command: str, inventory: Path, folder: Path) -> tuple[int, int]:
    """Run a command on a copy of the inventory; return the number of files that it enters and of moves between them."""
    shutil.copy(inventory, folder / "lab.db")
    done = subprocess.run(
        [sys.executable, "-c", WALKER, *command.split()],
        env=environment(BMHCTL_INVENTORY=str(folder / "lab.db"), BMHCTL_ACTOR=""),  # who acts is found, too
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    counted = re.search(r"^status 0: (\d+) files, (\d+) moves$", done.stderr, re.MULTILINE)
    assert counted is not None, done.stderr
    return int(counted[1]), int(counted[2])
