"""The disk is full, or fails: each refusal has status 11 and the reason, and no change is partial.

The faults are injected into the writes of SQLite and the calls of Python; others come from a limit on the size of files
and from a disk that is full. ``BMHCTL_TEST_SCALE=1`` tries each fault at every change; by default only some changes are
tried.
"""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SCALE, environment
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.forked_commands import End, ForkedCommands, record
from tests.faults.scenarios import CASES, FILES, SCENARIOS, start_of
from tests.faults.snapshots import Snapshot, read_folder, snapshot_of, write_folder

SHARE = 1 if SCALE >= 1 else SCALE / 8
TROUBLES = {
    "full": {"error": errno.ENOSPC},
    "full for a moment": {"error": errno.ENOSPC, "once": True},
    "failing": {"error": errno.EIO},
    "failing once": {"error": errno.EIO, "once": True},
}
WORDS = ("is full", "No space left", "can't be written", "can't be read or written", "Input/output error")


def wrong_with(end: End) -> str | None:
    """Return what is wrong with the end of a command on a full or failing disk; the command may have succeeded."""
    if end.status not in (0, 11) or "Traceback" in end.stderr:
        return f"ended with {end.status}: {end.stderr}"
    if end.status and not any(word in end.stderr for word in WORDS):
        return f"does not say what is wrong: {end.stderr}"
    return None


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_disk_error_at_any_change_loses_nothing_that_was_acknowledged(
    name: str, backend: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    scenario, start, path = SCENARIOS[name], start_of(name, backend), folder / FILES[backend]
    line = ("-i", FILES[backend], *scenario.line)

    def after(*lines: tuple[str, ...]) -> tuple[Snapshot, int]:
        write_folder(start, folder)
        changes = [forked.run(folder, one).changes for one in lines]
        return snapshot_of(path), sum(changes)

    (before, _), (whole, total) = after(), after(line)
    allowed = [before, *([after(("-i", FILES[backend], *scenario.between))[0]] if scenario.between else []), whole]

    def tried(trouble: str, refuse_at: int) -> str | None:
        write_folder(start, folder)
        end = forked.run(folder, line, refuse_at=refuse_at, **TROUBLES[trouble])
        found = snapshot_of(path)
        if found not in allowed or (end.status == 0 and found != whole):
            return f"half there after {end}"
        again = forked.run(folder, line)
        is_done = found == whole or scenario.line == ("list",)  # list has already synced the files
        if not is_done and (again.status, snapshot_of(path)) != (0, whole):
            return f"does not go on when all is well again: {again}"
        if again.status in (1, 11):
            return f"is stuck: {again}"
        return wrong_with(end)

    everything = list(itertools.product(TROUBLES, range(total)))
    lost, chosen = [], some(everything, (name, backend), SHARE)
    for trouble, refuse_at in chosen:
        try:
            wrong = tried(trouble, refuse_at)
        except AssertionError as error:
            wrong = str(error)
        if wrong is not None:
            lost.append((trouble, refuse_at, wrong))

    figures("disks in trouble", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("backend", FILES)
@pytest.mark.parametrize("what", ["init", "copy"])
def test_a_disk_error_while_an_inventory_is_made_leaves_none_or_a_whole_one(
    what: str, backend: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    start = {"from.db": start_of("release", "sqlite")["lab.db"]} if what == "copy" else {}
    line = ("copy", "from.db", FILES[backend]) if what == "copy" else ("-i", FILES[backend], "init")
    write_folder(start, folder)
    total = forked.run(folder, line).changes
    whole = snapshot_of(folder / FILES[backend])

    lost, chosen = [], some(list(itertools.product(TROUBLES, range(total))), (what, backend), SHARE)
    for trouble, refuse_at in chosen:
        write_folder(start, folder)
        end = forked.run(folder, line, refuse_at=refuse_at, **TROUBLES[trouble])
        wrong = wrong_with(end)
        is_there = (folder / FILES[backend]).exists()
        try:
            if (is_there and snapshot_of(folder / FILES[backend]) != whole) or (end.status == 0 and not is_there):
                wrong = f"half there after {end}"
        except AssertionError as error:
            wrong = f"{error} after {end}"
        if wrong is not None:
            lost.append((trouble, refuse_at, wrong))

    figures("disks in trouble", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("backend", FILES)
@pytest.mark.parametrize("what", ["init", "copy"])
def test_a_new_inventory_whose_wal_cannot_be_checkpointed_is_absent_or_whole(
    what: str, backend: str, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    # Closing a SQLite database moves the log into it, and reports no error when it can't.
    start = {"from.db": start_of("release", "sqlite")["lab.db"]} if what == "copy" else {}
    line = ("copy", "from.db", FILES[backend]) if what == "copy" else ("-i", FILES[backend], "init")
    write_folder(start, folder)
    assert forked.run(folder, line, record=tmp_path / "changes").status == 0
    whole = snapshot_of(folder / FILES[backend])
    changes = [change for change, _, _ in record(tmp_path / "changes")]
    wals = [number for number, change in enumerate(changes) if change.path.endswith(".partial-wal")]
    moving = [
        number
        for number, change in enumerate(changes)
        if wals[2] < number < wals[-1] and change.path.endswith(".partial") and change.kind in ("write", "sync")
    ]
    assert len(moving) > 10

    database = {"toml": "lab.state.db", "sqlite": "lab.db"}[backend]
    lost, chosen = [], some(list(itertools.product(TROUBLES, moving)), backend, SHARE)
    for trouble, refuse_at in chosen:
        write_folder(start, folder)
        end = forked.run(folder, line, refuse_at=refuse_at, **TROUBLES[trouble])
        if end.status == 0 and snapshot_of(folder / FILES[backend]) != whole:
            lost.append((trouble, refuse_at))
        if end.status and (end.status != 11 or (folder / database).exists()):
            lost.append((trouble, refuse_at))
    figures("disks in trouble", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert lost == []


EDITS = [
    ("add", "node5", "--mac", "52:54:00:00:00:05"),
    ("set", "node1", "--note", "moved"),
    ("rename", "node1", "spare"),
    ("remove", "node4"),
    ("import", "metal.yaml"),
]


@pytest.mark.parametrize("line", EDITS, ids=lambda line: line[0])
def test_a_toml_file_that_cannot_be_written_completely_is_left_unchanged(
    line: tuple[str, ...], forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    start = start_of("reserve", "toml")
    text = start["lab.toml"] + b"# more than SQLite's files need\n" * 10_000
    lost, limits = [], (250_000, len(text) - 100)
    for limit in limits:
        write_folder({**start, "lab.toml": text}, folder)
        before = snapshot_of(folder / "lab.toml")
        end = forked.run(folder, ("-i", "lab.toml", *line), size=limit)
        if end.status != 11 or "can't replace lab.toml: File too large" not in end.stderr:
            lost.append((limit, end))
        if snapshot_of(folder / "lab.toml") != before or ".lab.toml.new" in read_folder(folder):
            lost.append((limit, end))
    figures("disks in trouble", "toml", tries=len(limits), faults=len(limits), losses=len(lost))
    assert lost == []


FULL = """
import json, os, subprocess, sys
from pathlib import Path
from tests import forked
from tests.faults.forked_commands import ForkedCommands

start, lines = sys.argv[1], json.loads(sys.argv[2])
disk = start + ".disk"
os.mkdir(disk)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", disk], check=True)
subprocess.run(f"cp {start}/* {disk}/", shell=True, check=True)
commands = ForkedCommands(dict(os.environ))

def bmhctl(*line):
    end = commands.run(Path(disk), line)
    return [end.status, end.stderr]

with open(disk + "/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(512))
    except OSError:
        pass
full = [bmhctl(*line) for line in lines]
left = sorted(name for name in os.listdir(disk) if name != "filler")
os.unlink(disk + "/filler")
print(json.dumps([full, left, [bmhctl(*line) for line in lines]]))
forked.close()
"""


@pytest.mark.parametrize("backend", FILES)
def test_every_command_reports_a_full_disk_and_works_when_there_is_room_again(
    backend: str, folder: Path, figures: Figures
) -> None:
    unshare = shutil.which("unshare")
    own = [str(unshare), "--map-root-user", "--mount"]
    if unshare is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here: there is no small disk to fill")
    start = folder / "start"
    start.mkdir()
    write_folder(start_of("reserve", backend), start)
    lines = [
        *(["-i", FILES[backend], *line] for line in (["list"], ["reserve", "-n", "1"], ["ready", "node4"], *EDITS)),
        ["-i", "new.toml", "init"],
        ["copy", FILES[backend], "copy.db"],
    ]
    done = subprocess.run(
        [*own, sys.executable, "-c", FULL, str(start), json.dumps(lines)],
        cwd=Path(__file__).parents[2],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    full, left, again = json.loads(done.stdout)

    refused = [(line, end) for line, end in zip(lines, full, strict=True) if end[0] != 0]
    wrong = [end for end in refused if end[1][0] != 11 or not any(w in end[1][1] for w in ("is full", "No space left"))]
    lost = [*wrong, *(end for end in again if end[0] != 0)]
    figures("disks in trouble", backend, tries=len(lines), faults=len(refused), losses=len(lost))
    assert lost == []
    assert len(refused) >= len(lines) - 1, "at most the list was to be had"
    assert [name for name in left if "new" in name or "copy" in name or "partial" in name] == []
