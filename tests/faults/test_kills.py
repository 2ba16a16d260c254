"""SIGKILL at every write, sync, rename and removal of a command's commit: it took effect as a whole or not at all.

``BMHCTL_TEST_SCALE=1`` kills at every one of them; by default only some are tried.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SCALE
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.forked_commands import ForkedCommands, record
from tests.faults.scenarios import CASES, FILES, SCENARIOS, start_of
from tests.faults.snapshots import Snapshot, snapshot_of, write_folder


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_command_killed_at_any_change_took_effect_as_a_whole_or_not_at_all(
    name: str, backend: str, forked: ForkedCommands, folder: Path, tmp_path: Path, figures: Figures
) -> None:
    scenario, start, path = SCENARIOS[name], start_of(name, backend), folder / FILES[backend]
    line = ("-i", FILES[backend], *scenario.line)

    def after(*lines: tuple[str, ...], **fault: object) -> Snapshot:
        write_folder(start, folder)
        for one in lines:
            end = forked.run(folder, one, **fault)
            assert (end.status, "Traceback" in end.stderr) == (0, False), end
        return snapshot_of(path)

    before, whole = after(), after(line, record=tmp_path / "changes")
    allowed = [before, *([after(("-i", FILES[backend], *scenario.between))] if scenario.between else []), whole]
    changes = [change.kind for change, _, _ in record(tmp_path / "changes")[:-1]]
    writes = [number for number, kind in enumerate(changes) if kind == "write"]
    others = [number for number, kind in enumerate(changes) if kind != "write"]

    seen, lost = set(), []
    chosen = sorted([*some(others, (name, backend), SCALE), *some(writes, (name, backend))])
    for kill_at in chosen:
        write_folder(start, folder)
        end = forked.run(folder, line, kill_at=kill_at, halfway=True)
        assert end.is_killed, (kill_at, end)
        try:
            found = snapshot_of(path, writes=True)
        except AssertionError as error:
            lost.append((kill_at, changes[kill_at], str(error)))
            continue
        seen.add(allowed.index(found) if found in allowed else -1)
        if found not in allowed or (end.stdout and found != whole):
            lost.append((kill_at, changes[kill_at], end.stdout))

    figures("killed in a commit", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert lost == []
    assert seen == set(range(len(allowed))), "kills before, between and after the commits were all seen"


@pytest.mark.parametrize("backend", FILES)
def test_a_kill_while_an_inventory_is_created_leaves_none_or_a_whole_one(
    backend: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    line = ("-i", FILES[backend], "init")
    total = forked.run(folder, line).changes
    empty = snapshot_of(folder / FILES[backend])

    lost, seen = [], set()
    chosen = some(range(total), backend)
    for kill_at in chosen:
        write_folder({}, folder)
        assert forked.run(folder, line, kill_at=kill_at).is_killed
        seen.add(is_there := (folder / FILES[backend]).exists())
        if is_there and snapshot_of(folder / FILES[backend]) != empty:
            lost.append(kill_at)

    figures("killed in a commit", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert (lost, seen) == ([], {False, True})


@pytest.mark.parametrize("destination", FILES)
@pytest.mark.parametrize("backend", FILES)
def test_a_kill_while_an_inventory_is_copied_leaves_no_copy_or_a_whole_one(
    backend: str, destination: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    start, copy = start_of("release", backend), folder / f"copy-{FILES[destination]}"
    line = ("copy", FILES[backend], copy.name)
    write_folder(start, folder)
    original = snapshot_of(folder / FILES[backend])
    write_folder(start, folder)  # the first command that reads the file records its fingerprint, and writes that
    end = forked.run(folder, line)
    assert end.status == 0, end
    whole = snapshot_of(copy)
    assert (whole.hosts, whole.reservations) == (original.hosts, original.reservations)

    lost, seen = [], set()
    chosen = some(range(end.changes), (backend, destination), SCALE / 2)
    for kill_at in chosen:
        write_folder(start, folder)
        assert forked.run(folder, line, kill_at=kill_at).is_killed
        seen.add(is_there := copy.exists())
        if (is_there and snapshot_of(copy) != whole) or snapshot_of(folder / FILES[backend]) != original:
            lost.append(kill_at)

    figures("killed in a commit", backend, tries=len(chosen), faults=len(chosen), losses=len(lost))
    assert (lost, seen) == ([], {False, True})
