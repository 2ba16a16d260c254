"""A power cut at any moment of a command: acknowledged changes survive, any other change is whole or absent.

A command runs once, and each of its writes and syncs is recorded. For every prefix of this record, the test makes the
disks that a power cut may leave, and opens the inventory on them. ``BMHCTL_TEST_SCALE=1`` opens all of these disks; by
default only some are opened.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import SCALE
from tests.faults.disks import cuts
from tests.faults.figures import Figures
from tests.faults.forked_commands import ForkedCommands, record
from tests.faults.scenarios import CASES, FILES, SCENARIOS, start_of
from tests.faults.snapshots import Folder, Snapshot, snapshot_of, write_folder

SHARE = 1 if SCALE >= 1 else SCALE / 2

DAY = (
    ("reserve", "-n", "2", "--for", "one"),
    ("maintain", "node3", "--reason", "disk"),
    ("release", "node1", "node2"),
    ("reset", "node1"),
    ("ready", "node1"),
    ("reserve", "node1", "--for", "two"),
    ("resume", "node3"),
    ("release", "node1"),
)
"""A day of an inventory: command lines that follow one another."""


def opened(found: Folder, folder: Path, backend: str, dice: random.Random) -> Snapshot | str:
    """Return the contents of an inventory after a power cut, or the reason why it can't be opened."""
    rubbish = {name.removesuffix("-wal") + "-shm": dice.randbytes(32768) for name in found if name.endswith("-wal")}
    write_folder({**found, **rubbish}, folder)
    try:
        return snapshot_of(folder / FILES[backend])
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize("is_kept_open", [False, True], ids=["alone", "kept open"])
@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    name: str, backend: str, is_kept_open: bool, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    scenario, start = SCENARIOS[name], start_of(name, backend)
    before = opened(start, folder, backend, random.Random(0))
    between = []
    if scenario.between:
        write_folder(start, folder)
        forked.run(folder, ("-i", FILES[backend], *scenario.between))
        between = [snapshot_of(folder / FILES[backend])]
    write_folder(start, folder)
    held = {"keep_open": FILES[backend]} if is_kept_open else {}
    end = forked.run(folder, ("-i", FILES[backend], *scenario.line), record=tmp_path / "changes", **held)
    assert end.status == 0, end
    whole = snapshot_of(folder / FILES[backend])

    dice, tries, seen, lost = random.Random(name), 0, set(), []
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), name, SHARE):
        tries += 1
        snapshot = opened(found, folder, backend, dice)
        seen.add(snapshot)
        if snapshot not in ([whole] if said else [before, *between, whole]):
            lost.append((number, mode, snapshot if isinstance(snapshot, str) else "neither before nor after"))

    figures("power cuts", backend, tries=tries, faults=tries, losses=len(lost))
    assert lost == []
    assert seen >= {before, whole}, "cuts before and after the commit were both seen"


@pytest.mark.parametrize("backend", FILES)
def test_a_power_cut_during_many_commands_loses_none_that_had_ended(
    backend: str, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    start, path = start_of("reserve", backend), folder / FILES[backend]
    lines = [("-i", FILES[backend], *line) for line in DAY]
    write_folder(start, folder)
    snapshots: list[Snapshot | str] = [snapshot_of(path)]
    for line in lines:
        assert forked.run(folder, line).status == 0
        snapshots.append(snapshot_of(path))
    write_folder(start, folder)
    # others keep it open, so that the WAL outlives the commands; it is checkpointed in the middle of them
    forked.run(folder, *lines, record=tmp_path / "changes", keep_open=FILES[backend], checkpoint=20)

    dice, tries, lost, seen = random.Random(backend), 0, [], set()
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), backend, SHARE):
        tries += 1
        snapshot = opened(found, folder, backend, dice)
        if snapshot not in snapshots[said : said + 2]:
            lost.append((number, mode, said, snapshot if isinstance(snapshot, str) else "neither before nor after"))
        else:
            seen.add(said + snapshots[said : said + 2].index(snapshot))

    figures("power cuts", backend, tries=tries, faults=tries, losses=len(lost))
    assert (lost, len(seen)) == ([], len(snapshots))


@pytest.mark.parametrize("backend", FILES)
def test_a_power_cut_while_an_inventory_is_created_leaves_none_or_a_whole_one(
    backend: str, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    assert forked.run(folder, ("-i", FILES[backend], "init"), record=tmp_path / "changes").status == 0
    whole, tries, lost = snapshot_of(folder / FILES[backend]), 0, []

    dice = random.Random(backend)
    for number, mode, said, found in cuts({}, record(tmp_path / "changes"), backend, SHARE):
        tries += 1
        snapshot = opened(found, folder, backend, dice) if FILES[backend] in found else "none"
        if snapshot not in ([whole] if said else [whole, "none"]):
            lost.append((number, mode, snapshot))

    figures("power cuts", backend, tries=tries, faults=tries, losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("destination", FILES)
@pytest.mark.parametrize("backend", FILES)
def test_a_power_cut_while_an_inventory_is_copied_leaves_no_copy_or_a_whole_one(
    backend: str, destination: str, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    start, copy = start_of("release", backend), f"copy-{FILES[destination]}"
    before = opened(start, folder, backend, random.Random(0))
    write_folder(start, folder)
    assert forked.run(folder, ("copy", FILES[backend], copy), record=tmp_path / "changes").status == 0
    whole, tries, lost = snapshot_of(folder / copy), 0, []

    dice = random.Random(backend)
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), backend, SHARE):
        tries += 1
        original = opened(found, folder, backend, dice)
        try:
            copied: Snapshot | str = snapshot_of(folder / copy) if copy in found else "none"
        except AssertionError as error:
            copied = str(error)
        if original != before or copied not in ([whole] if said else [whole, "none"]):
            lost.append((number, mode, copied if isinstance(copied, str) else "not whole"))

    figures("power cuts", backend, tries=tries, faults=tries, losses=len(lost))
    assert lost == []
