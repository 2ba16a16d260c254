"""How often a command waits for the disk: once a commit, and it commits once for any number of hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.forked_commands import ForkedCommands, record
from tests.faults.scenarios import FILES, SCENARIOS, start_of
from tests.faults.snapshots import write_folder

ONE_COMMIT = (
    "reserve",
    "release",
    "taint",
    "extend",
    "handover",
    "replace",
    "maintain",
    "add",
    "set",
    "remove",
)


@pytest.mark.parametrize("name", ONE_COMMIT)
def test_a_command_syncs_its_change_to_disk_once(
    name: str, forked: ForkedCommands, folder: Path, tmp_path: Path
) -> None:
    backend = "sqlite"
    write_folder(start_of(name, backend), folder)
    # The first commit restarts SQLite's log, and syncs that, too, unless another process keeps the file open.
    first = ("cordon", "node4")
    lines = [("-i", FILES[backend], *line) for line in (first, SCENARIOS[name].line)]
    end = forked.run(folder, *lines, record=tmp_path / "changes", keep_open=FILES[backend])
    assert end.status == 0, end
    kinds = [change.kind for change, _, _ in record(tmp_path / "changes")]
    assert kinds.count("said") == 2
    place = kinds.index("said") + 1
    change = kinds[place : kinds.index("said", place)]
    assert change.count("sync") == 1
    assert "write" not in change[change.index("sync") :]
