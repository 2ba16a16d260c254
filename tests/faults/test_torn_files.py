"""Files that are torn, missing, old, or of another inventory: nothing acknowledged is lost, no half file is accepted.

``BMHCTL_TEST_SCALE=1`` tears the last write at every byte, and a WAL at every 11th byte; by default only some are
tried.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bmhctl.api import Inventory
from bmhctl.errors import InvalidError
from bmhctl.stores.toml import file as toml_file
from tests.conftest import SCALE, Lab
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.forked_commands import ForkedCommands
from tests.faults.scenarios import FILES, start_of
from tests.faults.snapshots import Folder, Snapshot, read_folder, snapshot_of, write_folder

STATE = {"toml": "lab.state.db", "sqlite": "lab.db"}
FRAME = 24 + 4096
"""One page of a WAL with its header."""

STATUSES = {*range(13)} - {1}


def as_it_is_when_used(folder: Path, backend: str, *acts: Callable[[Inventory], object]) -> Folder:
    """Return the files of an inventory in use, with its WAL."""
    lab = Lab(folder / FILES[backend])
    inventory = Inventory(lab.context("alice"))
    for act in acts:
        act(inventory)
    files = {name: content for name, content in read_folder(folder).items() if not name.endswith("-shm")}
    lab.close()
    return files


# tests: a WAL


@pytest.mark.parametrize("backend", FILES)
def test_a_wal_torn_in_its_last_frame_loses_only_the_last_commit(backend: str, folder: Path, figures: Figures) -> None:
    write_folder(start_of("reserve", backend), folder)
    acts = [lambda lab: lab.reserve("node1"), lambda lab: lab.maintain("node2", reason="disk")]
    files = as_it_is_when_used(folder, backend, *acts)
    wal = files[f"{STATE[backend]}-wal"]
    path = folder / FILES[backend]
    write_folder(files, folder)
    whole = snapshot_of(path)
    write_folder(start_of("reserve", backend), folder)
    before = snapshot_of(path)
    as_it_is_when_used(folder, backend, acts[0])
    first = snapshot_of(path)
    assert len({before, first, whole}) == 3

    dice, lost = random.Random(backend), []
    frame = len(wal) - FRAME
    offsets = sorted({*range(25), *some(range(FRAME), backend, 1 if SCALE >= 1 else SCALE / 10)})
    for offset in offsets:
        kept, rest = wal[: frame + offset], FRAME - offset
        for end in (b"", bytes(rest), dice.randbytes(rest)):
            if kept + end == wal:
                continue  # the same bytes: nothing is torn
            write_folder({**files, f"{STATE[backend]}-wal": kept + end}, folder)
            if snapshot_of(path) != first:
                lost.append((offset, len(end)))
    figures("torn files", backend, tries=3 * len(offsets), faults=3 * len(offsets), losses=len(lost))
    assert lost == []


@pytest.mark.parametrize("backend", FILES)
def test_a_wal_torn_anywhere_keeps_all_commits_before_that_place(backend: str, folder: Path, figures: Figures) -> None:
    path = folder / FILES[backend]
    acts = [
        lambda lab: lab.reserve("node1"),
        lambda lab: lab.maintain("node2", reason="disk"),
        lambda lab: lab.release(lab.reservations()[0].reservation.id),
    ]
    snapshots = []
    for number in range(len(acts) + 1):
        write_folder(start_of("reserve", backend), folder)
        files = as_it_is_when_used(folder, backend, *acts[:number])
        snapshots.append(snapshot_of(path))
    wal = files[f"{STATE[backend]}-wal"]

    lost, seen = [], set()
    offsets = some([*range(0, len(wal), 11 if SCALE >= 1 else 97), len(wal)], backend, SCALE)
    for offset in offsets:
        write_folder({**files, f"{STATE[backend]}-wal": wal[:offset]}, folder)
        snapshot = snapshot_of(path)
        if snapshot not in snapshots:
            lost.append(offset)
        else:
            seen.add(snapshots.index(snapshot))
    figures("torn files", backend, tries=len(offsets), faults=len(offsets), losses=len(lost))
    assert (lost, seen) == ([], set(range(len(snapshots))))


# tests: a TOML file


def essence(snapshot: Snapshot) -> list[object]:
    """Return the lifecycle state of each host, without what its file declares."""
    return [where[4:6] for where, _ in snapshot.hosts]  # type: ignore[misc,index]  # the state and whether it is dirty


def test_a_toml_file_cut_off_anywhere_is_refused_or_synced_without_loss_of_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    monkeypatch.setattr(toml_file, "_PATIENCE", 0)  # it is not being written any more
    start, path = start_of("release", "toml"), folder / "lab.toml"
    write_folder(start, folder)
    before = snapshot_of(path)
    text = start["lab.toml"]

    lost, refused, taken = [], 0, 0
    lengths = some(range(len(text)), "cut off", SCALE)
    for length in lengths:
        write_folder(start, folder)
        path.write_bytes(text[:length])
        try:
            cut = snapshot_of(path)
            taken += 1
            if essence(cut) != essence(before) or cut.reservations != before.reservations:
                lost.append((length, "a state was lost"))
        except AssertionError as error:
            refused += 1
            if not isinstance(error.__cause__, InvalidError):
                lost.append((length, str(error)))
        path.write_bytes(text)
        again = snapshot_of(path)
        if [where for where, _ in again.hosts] != [where for where, _ in before.hosts]:
            lost.append((length, "it is not what it was"))
        if replace(again, hosts=()) != replace(before, hosts=()):
            lost.append((length, "it is not what it was"))
    figures("torn files", "toml", tries=len(lengths), faults=len(lengths), losses=len(lost))
    assert lost == []
    assert refused > 0
    assert taken > 0


# tests: files that are gone, old, or another inventory's


def without(name: str) -> Callable[[Folder, Folder], Folder]:
    return lambda new, old: {key: content for key, content in new.items() if key != name}


def cut(name: str, length: int) -> Callable[[Folder, Folder], Folder]:
    return lambda new, old: {**new, name: new[name][:length]}


def put(name: str, content: bytes) -> Callable[[Folder, Folder], Folder]:
    return lambda new, old: {**new, name: content}


DAMAGES: dict[str, Callable[[Folder, Folder], Folder]] = {
    "the state file is missing": without("STATE"),
    "the state file is empty": put("STATE", b""),
    "the state file is cut off in its header": cut("STATE", 50),
    "the state file is cut off": cut("STATE", 5000),
    "the state file is not a database": put("STATE", b"hello\n" * 1000),
    "the state file is older": lambda new, old: {**new, "STATE": old["STATE"]},
    "its WAL is cut off": cut("STATE-wal", 1000),
    "its WAL is gone": without("STATE-wal"),
    "its WAL is not a WAL": put("STATE-wal", b"hello\n" * 1000),
    "its WAL index is rubbish": put("STATE-shm", b"hello\n" * 6000),
    "a rollback journal lies beside it": put("STATE-journal", b"hello\n" * 1000),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("backend", FILES)
def test_commands_work_or_name_the_problem_with_damaged_or_missing_files(
    backend: str, damage: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    write_folder(start_of("reserve", backend), folder)
    old = read_folder(folder)
    new = as_it_is_when_used(folder, backend, lambda lab: lab.reserve("node1"))

    def named(files: Folder, now: str, then: str) -> Folder:
        return {name.replace(now, then): content for name, content in files.items()}

    found = DAMAGES[damage](named(new, STATE[backend], "STATE"), named(old, STATE[backend], "STATE"))
    write_folder(named(found, "STATE", STATE[backend]), folder)

    lines = (["list"], ["status"], ["history"], ["reserve", "-n", "1"], ["ready", "node4"], ["cordon", "node3"])
    ends = [forked.run(folder, ("-i", FILES[backend], *line)) for line in lines]

    wrong = [end for end in ends if end.status not in STATUSES or "Traceback" in end.stderr]
    figures("lost files", backend, tries=len(ends), faults=1, losses=len(wrong))
    assert wrong == []
    if not any(end.status for end in ends):
        snapshot_of(folder / FILES[backend])


@pytest.mark.parametrize("backend", FILES)
def test_a_wal_without_its_database_is_not_applied_to_a_new_one(
    backend: str, forked: ForkedCommands, folder: Path
) -> None:
    write_folder(start_of("reserve", backend), folder)
    files = as_it_is_when_used(folder, backend, lambda lab: lab.reserve("node1"))
    left = {name: content for name, content in files.items() if name != STATE[backend]}
    write_folder(left, folder)
    line = ("list",) if backend == "toml" else ("init",)
    end = forked.run(folder, ("-i", FILES[backend], *line))
    assert (end.status, read_folder(folder)) == (10, left)
    assert f"{STATE[backend]} is missing, but {STATE[backend]}-wal, which belongs to it, is there" in end.stderr

    (folder / f"{STATE[backend]}-wal").unlink()
    assert forked.run(folder, ("-i", FILES[backend], *line)).status == 0


def test_an_old_state_file_gets_the_hosts_that_it_does_not_know_as_initial(
    forked: ForkedCommands, folder: Path
) -> None:
    write_folder(start_of("reserve", "toml"), folder)
    old = read_folder(folder)["lab.state.db"]
    assert forked.run(folder, ("-i", "lab.toml", "add", "node5")).status == 0
    assert forked.run(folder, ("-i", "lab.toml", "ready", "node5")).status == 0
    write_folder({**read_folder(folder), "lab.state.db": old}, folder)
    listed = forked.run(folder, ("-i", "lab.toml", "list", "node5", "--fields", "state", "-o", "csv"))
    assert (listed.status, listed.stdout.split()) == (0, ["state", "initial"])
    snapshot_of(folder / "lab.toml")


def test_another_inventorys_state_file_is_refused_and_left_unchanged(forked: ForkedCommands, folder: Path) -> None:
    write_folder(start_of("reserve", "toml"), folder)
    snapshot_of(folder / "lab.toml")
    other = folder / "other.toml"
    other.write_text('[hosts.else1]\nmac = "52:54:00:00:01:01"\n', encoding="utf-8")
    assert forked.run(folder, ("-i", "other.toml", "list")).status == 0
    (folder / "lab.state.db").write_bytes((folder / "other.state.db").read_bytes())
    before = read_folder(folder)["lab.state.db"]
    for line in (["list"], ["reserve", "-n", "1"], ["add", "node7"]):
        end = forked.run(folder, ("-i", "lab.toml", *line))
        assert end.status == 10
        assert "belongs to" in end.stderr
    assert read_folder(folder)["lab.state.db"] == before
