"""A power cut at any moment of a command: what was acknowledged is there, all else is wholly there or wholly not.

A command runs once, and each of its writes and syncs is recorded. For every prefix of them the disk is put together as
a power cut may leave it, and opened. ``BMHCTL_TEST_SCALE=1`` opens all of these disks, else some.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.conftest import SCALE
from tests.faults.disks import cuts
from tests.faults.figures import Figures
from tests.faults.pictures import Folder, Picture, lay_out, look_at
from tests.faults.scenarios import CASES, FILES, SCENARIOS, start_of
from tests.faults.victims import Victims, record

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


def opened(found: Folder, folder: Path, home: str, dice: random.Random) -> Picture | str:
    """What is in an inventory after a power cut, or why it can't be said."""
    rubbish = {name.removesuffix("-wal") + "-shm": dice.randbytes(32768) for name in found if name.endswith("-wal")}
    lay_out({**found, **rubbish}, folder)
    try:
        return look_at(folder / FILES[home])
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize("is_kept_open", [False, True], ids=["alone", "kept open"])
@pytest.mark.parametrize(("name", "home"), CASES)
def test_a_power_cut_at_any_moment_costs_nothing_that_was_acknowledged(
    name: str, home: str, is_kept_open: bool, victims: Victims, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    scenario, start = SCENARIOS[name], start_of(name, home)
    before = opened(start, folder, home, random.Random(0))
    between = []
    if scenario.between:
        lay_out(start, folder)
        victims.run(folder, ("-i", FILES[home], *scenario.between))
        between = [look_at(folder / FILES[home])]
    lay_out(start, folder)
    held = {"keep_open": FILES[home]} if is_kept_open else {}
    end = victims.run(folder, ("-i", FILES[home], *scenario.line), record=tmp_path / "changes", **held)
    assert end.status == 0, end
    whole = look_at(folder / FILES[home])

    dice, tries, seen, lost = random.Random(name), 0, set(), []
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), name, SHARE):
        tries += 1
        picture = opened(found, folder, home, dice)
        seen.add(picture)
        if picture not in ([whole] if said else [before, *between, whole]):
            lost.append((number, mode, picture if isinstance(picture, str) else "neither before nor after"))

    figures("power cuts", home, tries=tries, faults=tries, losses=len(lost))
    assert lost == []
    assert seen >= {before, whole}, "cuts before and after the commit were both seen"


@pytest.mark.parametrize("home", FILES)
def test_a_power_cut_in_a_day_of_commands_costs_none_of_those_before(
    home: str, victims: Victims, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    start, path = start_of("reserve", home), folder / FILES[home]
    lines = [("-i", FILES[home], *line) for line in DAY]
    lay_out(start, folder)
    pictures: list[Picture | str] = [look_at(path)]
    for line in lines:
        assert victims.run(folder, line).status == 0
        pictures.append(look_at(path))
    lay_out(start, folder)
    # others keep it open, so that the WAL outlives the commands; it is checkpointed in the middle of them
    victims.run(folder, *lines, record=tmp_path / "changes", keep_open=FILES[home], checkpoint=20)

    dice, tries, lost, seen = random.Random(home), 0, [], set()
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), home, SHARE):
        tries += 1
        picture = opened(found, folder, home, dice)
        if picture not in pictures[said : said + 2]:
            lost.append((number, mode, said, picture if isinstance(picture, str) else "neither before nor after"))
        else:
            seen.add(said + pictures[said : said + 2].index(picture))

    figures("power cuts", home, tries=tries, faults=tries, losses=len(lost))
    assert (lost, len(seen)) == ([], len(pictures))


@pytest.mark.parametrize("home", FILES)
def test_a_power_cut_while_an_inventory_is_made_leaves_none_or_a_whole_one(
    home: str, victims: Victims, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    assert victims.run(folder, ("-i", FILES[home], "init"), record=tmp_path / "changes").status == 0
    whole, tries, lost = look_at(folder / FILES[home]), 0, []

    dice = random.Random(home)
    for number, mode, said, found in cuts({}, record(tmp_path / "changes"), home, SHARE):
        tries += 1
        picture = opened(found, folder, home, dice) if FILES[home] in found else "none"
        if picture not in ([whole] if said else [whole, "none"]):
            lost.append((number, mode, picture))

    figures("power cuts", home, tries=tries, faults=tries, losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("destination", FILES)
@pytest.mark.parametrize("home", FILES)
def test_a_power_cut_while_an_inventory_is_copied_leaves_no_copy_or_a_whole_one(
    home: str, destination: str, victims: Victims, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    start, copy = start_of("release", home), f"copy-{FILES[destination]}"
    before = opened(start, folder, home, random.Random(0))
    lay_out(start, folder)
    assert victims.run(folder, ("copy", FILES[home], copy), record=tmp_path / "changes").status == 0
    whole, tries, lost = look_at(folder / copy), 0, []

    dice = random.Random(home)
    for number, mode, said, found in cuts(start, record(tmp_path / "changes"), home, SHARE):
        tries += 1
        original = opened(found, folder, home, dice)
        try:
            copied: Picture | str = look_at(folder / copy) if copy in found else "none"
        except AssertionError as error:
            copied = str(error)
        if original != before or copied not in ([whole] if said else [whole, "none"]):
            lost.append((number, mode, copied if isinstance(copied, str) else "not whole"))

    figures("power cuts", home, tries=tries, faults=tries, losses=len(lost))
    assert lost == []
