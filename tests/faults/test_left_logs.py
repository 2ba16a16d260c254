"""The log of a file that was replaced or overwritten under processes that use it, or after they were killed.

SQLite copies any log beside a file into the file. No log may get into another file, and none that belongs to the file
beside it may be set aside.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from bmhctl import open_inventory
from bmhctl.errors import AwayError, MovedError
from bmhctl.stores import open_store
from bmhctl.stores.sqlite import left_log
from bmhctl.stores.sqlite.open_files import OpenFiles, boot
from bmhctl.usecases import lifecycle_verbs
from bmhctl.usecases.queries import list_hosts
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from tests.processes import lives, spawn
from tests.runner.conftest import Fleet

CORDON = """
import os, sys
from bmhctl import open_inventory
open_inventory(sys.argv[1]).cordon(sys.argv[2], reason="fan")
os._exit(0)
"""


def database(fleet: Fleet) -> Path:
    return fleet.lab.path.with_name("lab.state.db") if fleet.lab.is_toml else fleet.lab.path


def backup(fleet: Fleet) -> Path:
    return fleet.folder / "before.db"


def killed_after_cordon(fleet: Fleet, host: str) -> None:
    """A process cordons a host, and is killed: the commit is in the log only."""
    with spawn("-c", CORDON, fleet.lab.location, host) as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0


def cordoned(fleet: Fleet) -> list[str]:
    listed = fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags")
    assert listed.status == 0, listed.stderr
    return [line.split(",")[0] for line in listed.stdout.splitlines() if line.endswith(",cordoned")]


def left_logs(fleet: Fleet) -> list[str]:
    return sorted(path.name.removeprefix(database(fleet).name) for path in fleet.folder.glob("*.replaced*"))


def test_a_backup_that_is_moved_over_an_inventory_in_use_is_read_without_the_old_log(fleet: Fleet) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "1h", "--", "sh", "-c", "echo $$; exec sleep 1000")
    task = int(turn.line())
    assert fleet.bmhctl("cordon", "node2", "--reason", "fan").status == 0  # these commits are in the log only
    backup(fleet).rename(database(fleet))

    listed = fleet.bmhctl("list", "-o", "csv", "--fields", "name,state,flags")

    assert listed.stdout == "name,state,flags\nnode1,available,\nnode2,available,\nnode3,available,\n", listed.stderr
    assert turn.end().status == 125
    assert not lives(task)
    assert fleet.bmhctl("doctor").status == 0


def test_without_stamps_a_process_that_does_not_notice_a_replacement_keeps_its_log_out_of_the_new_file(
    fleet: Fleet,
) -> None:
    with patch.object(os, "setxattr", side_effect=OSError(errno.ENOTSUP, "no extended attributes")):
        idle = fleet.lab.context()
        lifecycle_verbs.cordon(idle, Choice(("node2",)), reason="fan")
    before = backup(fleet).read_bytes()
    backup(fleet).rename(database(fleet))

    done = fleet.bmhctl("list", "-o", "name")

    log = f"{database(fleet)}-wal"
    assert (done.status, done.stdout) == (11, "")
    assert f"{log} belongs to the file that was at {database(fleet)} before, and is in use by process" in done.stderr
    assert database(fleet).read_bytes() == before
    with pytest.raises(MovedError):
        list_hosts(idle, Choice(everything=True))
    assert Path(f"{log}.replaced").stat().st_size > 0
    assert fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags").stdout == "name,flags\nnode1,\nnode2,\nnode3,\n"
    assert fleet.bmhctl("doctor").status == 0


def test_a_process_that_notices_a_replacement_late_leaves_the_log_of_the_new_file_alone(fleet: Fleet) -> None:
    late, first = fleet.lab.context("late"), fleet.lab.context("first")
    backup(fleet).rename(database(fleet))
    newcomers: list[Context] = []

    def overtaken(act: Callable[..., object], *args: object, **options: object) -> object:
        if not newcomers:
            newcomers.append(late)
            with pytest.raises(MovedError):
                list_hosts(first, Choice(everything=True))
            newcomers[0] = fleet.lab.context("newcomer")
            lifecycle_verbs.cordon(newcomers[0], Choice(("node2",)), reason="fan")
        return act(*args, **options)

    with (
        patch.object(fcntl, "flock", partial(overtaken, fcntl.flock)),
        patch.object(os, "rename", partial(overtaken, os.rename)),
        pytest.raises(MovedError),
    ):
        list_hosts(late, Choice(everything=True))

    lifecycle_verbs.cordon(newcomers[0], Choice(("node3",)), reason="fan")
    listed = fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags").stdout
    assert listed == "name,flags\nnode1,\nnode2,cordoned\nnode3,cordoned\n"


def test_a_program_that_released_the_locks_of_its_own_inventory_is_named_to_other_commands(fleet: Fleet) -> None:
    user = fleet.lab.context()
    lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    database(fleet).read_bytes()  # to close the file releases all locks of the process on it

    done = fleet.bmhctl("list", "-o", "name")

    assert (done.status, done.stdout) == (11, "")
    assert f"bmhctl: {database(fleet)} is in use by process {os.getpid()} (" in done.stderr
    assert ", which lost its locks because it also read the file without SQLite\n" in done.stderr
    with open_inventory(fleet.lab.location, actor="olivia") as other:
        other.cordon("node3", reason="fan")
    lifecycle_verbs.cordon(user, Choice(("node1",)), reason="fan")
    user.store.close()
    assert fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags").stdout == (
        "name,flags\nnode1,cordoned\nnode2,cordoned\nnode3,cordoned\n"
    )


def test_a_file_that_another_one_is_mounted_over_for_a_while_keeps_its_log(fleet: Fleet) -> None:
    user, path = fleet.lab.context(), database(fleet)
    lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    hidden = path.rename(path.with_name("hidden"))
    backup(fleet).rename(path)

    with patch.object(left_log, "mounts", return_value={str(path): "ext4"}), pytest.raises(MovedError):
        list_hosts(user, Choice(everything=True))

    hidden.rename(path)
    listed = fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags").stdout
    assert listed == "name,flags\nnode1,\nnode2,cordoned\nnode3,\n"


def test_an_inventory_whose_folder_is_away_for_a_moment_keeps_its_log(fleet: Fleet, tmp_path: Path) -> None:
    user, path = fleet.lab.context(), database(fleet)
    lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    away = path.parent.rename(tmp_path.with_name(f"{tmp_path.name}-away"))
    path.parent.mkdir()
    path.with_name(fleet.lab.path.name).touch()
    path.touch()

    def back() -> dict[str, str]:
        shutil.rmtree(path.parent)
        away.rename(path.parent)
        return {}

    with patch.object(left_log, "mounts", back), pytest.raises(MovedError):
        list_hosts(user, Choice(everything=True))

    listed = fleet.bmhctl("list", "-o", "csv", "--fields", "name,flags").stdout
    assert listed == "name,flags\nnode1,\nnode2,cordoned\nnode3,\n"


def test_a_log_without_its_owner_in_the_system_is_set_aside_by_the_next_command(fleet: Fleet) -> None:
    for host in ("node1", "node2"):
        shutil.copy(backup(fleet), fleet.folder / "next.db")
        killed_after_cordon(fleet, host)
        (fleet.folder / "next.db").rename(database(fleet))
        assert cordoned(fleet) == []
    assert left_logs(fleet) == ["-wal.replaced", "-wal.replaced-2"]
    assert fleet.bmhctl("doctor").status == 0


def test_a_copied_file_keeps_the_log_that_was_copied_with_it(fleet: Fleet, tmp_path: Path) -> None:
    killed_after_cordon(fleet, "node1")
    for path in fleet.folder.glob(f"{database(fleet).name}*"):
        if path.is_file():
            copied = shutil.copy2(path, tmp_path / "copy")  # with its extended attributes
            Path(copied).rename(path)
    assert cordoned(fleet) == ["node1"]


def test_a_restored_file_keeps_its_log_though_that_has_the_inode_of_the_old_one(fleet: Fleet) -> None:
    killed_after_cordon(fleet, "node1")
    file, log = database(fleet), Path(f"{database(fleet)}-wal")
    stamp = os.getxattr(log, OpenFiles.STAMP)
    if stamp[:4] == bytes(4):
        pytest.skip("this file system has no generations of inodes")
    for path in (file, log):
        shutil.copy2(path, fleet.folder / "copy")
        (fleet.folder / "copy").rename(path)
    os.setxattr(log, OpenFiles.STAMP, stamp[:4] + log.stat().st_ino.to_bytes(4, "big") + stamp[8:])
    assert cordoned(fleet) == ["node1"]
    assert left_logs(fleet) == []


def test_a_connection_puts_no_stamp_on_a_file_that_got_the_descriptor_of_a_closed_one(fleet: Fleet) -> None:
    with open_inventory(fleet.lab.location) as first, open_inventory(fleet.lab.location) as second:
        first.close()
        with ExitStack() as opened:
            others = [opened.enter_context((fleet.folder / f"other{each}").open("w")) for each in range(9)]
            second.cordon("node1", reason="fan")
            assert [os.listxattr(other.name) for other in others] == [[]] * 9
        subprocess.run(["cp", backup(fleet), database(fleet)], check=True)
        with pytest.raises(MovedError, match="was overwritten while it was in use: "):
            second.cordon("node2", reason="fan")


def test_a_log_that_can_not_be_set_aside_is_refused(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after_cordon(fleet, "node1")
    before = backup(fleet).read_bytes()
    backup(fleet).rename(database(fleet))
    monkeypatch.setattr(left_log, "_PATIENCE", 0)
    with (
        patch.object(os, "rename", side_effect=OSError(errno.ENOSPC, "full")),
        pytest.raises(AwayError, match=r"-wal belongs to the file that was at .* before$") as caught,
    ):
        open_store(fleet.lab.location)
    assert f"after you moved {database(fleet).name}-wal away" in str(caught.value.hint)
    assert database(fleet).read_bytes() == before
    assert cordoned(fleet) == []


@pytest.mark.parametrize("step", ["rename", "unlink"])
@pytest.mark.parametrize("command", [("history", "--follow"), ("list",)], ids=["old", "new"])
def test_the_next_command_completes_what_a_killed_one_began(step: str, command: tuple[str, ...], fleet: Fleet) -> None:
    """Both a process that has the old file open and one that opens the new file set the log aside."""
    killed = f"import os; os.{step} = lambda *_, **__: os._exit(99)"
    idle = fleet.lab.context()
    lifecycle_verbs.cordon(idle, Choice(("node2",)), reason="fan")
    turn = fleet.start(*command, patch=killed) if command[0] == "history" else None
    if turn is not None:
        turn.line()
    backup(fleet).rename(database(fleet))
    assert (turn or fleet.start(*command, patch=killed)).end().status == 99

    assert cordoned(fleet) == []
    killed_after_cordon(fleet, "node3")
    assert cordoned(fleet) == ["node3"]
    with pytest.raises(MovedError):
        list_hosts(idle, Choice(everything=True))
    assert left_logs(fleet) == ["-wal.replaced"]
    assert cordoned(fleet) == ["node3"]


def test_a_file_that_is_overwritten_in_use_is_used_without_the_old_log(fleet: Fleet) -> None:
    """``cp`` keeps the inode; only a process that has the file open can notice it."""
    users = [fleet.lab.context("one"), fleet.lab.context("two")]
    lifecycle_verbs.cordon(users[0], Choice(("node1",)), reason="fan")
    subprocess.run(["cp", backup(fleet), database(fleet)], check=True)

    for user in users:
        with pytest.raises(MovedError, match=f"^{database(fleet)} was overwritten while it was in use: "):
            lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    fleet.lab.close()

    assert database(fleet).read_bytes() == backup(fleet).read_bytes()
    assert left_logs(fleet) == ["-wal.replaced"]
    with open_inventory(fleet.lab.location, actor="olivia") as again:
        again.cordon("node3", reason="fan")
    assert cordoned(fleet) == ["node3"]
    assert fleet.bmhctl("doctor").status == 0


def test_a_file_that_is_overwritten_before_a_commit_is_in_the_stamp_is_used_without_the_old_log(fleet: Fleet) -> None:
    user = fleet.lab.context()
    lifecycle_verbs.cordon(user, Choice(("node1",)), reason="fan")
    with patch.object(OpenFiles, "stamp"):
        lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    subprocess.run(["cp", backup(fleet), database(fleet)], check=True)
    with pytest.raises(MovedError, match="was overwritten while it was in use: "):
        lifecycle_verbs.cordon(user, Choice(("node3",)), reason="fan")
    fleet.lab.close()
    assert cordoned(fleet) == []
    assert left_logs(fleet) == ["-wal.replaced"]


def test_a_file_that_is_overwritten_is_used_by_the_next_command_though_no_process_noticed_it(fleet: Fleet) -> None:
    idle = fleet.lab.context()
    lifecycle_verbs.cordon(idle, Choice(("node1",)), reason="fan")
    subprocess.run(["cp", backup(fleet), database(fleet)], check=True)
    killed_after_cordon(fleet, "node3")
    with pytest.raises(MovedError, match="was overwritten while it was in use: "):
        lifecycle_verbs.cordon(idle, Choice(("node2",)), reason="fan")
    fleet.lab.close()
    assert cordoned(fleet) == ["node3"]
    assert left_logs(fleet) == ["-wal.replaced"]


def test_a_file_that_is_overwritten_after_its_last_process_was_killed_is_used_without_the_old_log(fleet: Fleet) -> None:
    killed_after_cordon(fleet, "node1")
    subprocess.run(["cp", backup(fleet), database(fleet)], check=True)
    assert cordoned(fleet) == []
    assert left_logs(fleet) == ["-wal.replaced"]
    killed_after_cordon(fleet, "node3")
    assert cordoned(fleet) == ["node3"]
    assert fleet.bmhctl("doctor").status == 0


def test_the_log_of_an_earlier_boot_is_kept(fleet: Fleet) -> None:
    """After a power cut, the file may be newer than the index: SQLite syncs only the first."""
    killed_after_cordon(fleet, "node1")
    log = f"{database(fleet)}{OpenFiles.LOG}"
    stamp = os.getxattr(log, OpenFiles.STAMP)
    os.setxattr(log, OpenFiles.STAMP, stamp.replace(boot(), b"an earlier boot"))
    with database(fleet).open("r+b") as file:
        file.seek(92)
        file.write(b"\xff")  # as if a page had been copied from the log
    assert cordoned(fleet) == ["node1"]
    assert left_logs(fleet) == []


def test_an_inventory_in_a_folder_that_may_not_be_listed_has_several_users(fleet: Fleet) -> None:
    idle = fleet.lab.context()
    with patch.object(OpenFiles, "folder", side_effect=PermissionError(errno.EACCES, "denied")):
        lifecycle_verbs.cordon(fleet.lab.context("second"), Choice(("node1",)), reason="fan")
    lifecycle_verbs.cordon(idle, Choice(("node2",)), reason="fan")
    fleet.lab.close()
    assert cordoned(fleet) == ["node1", "node2"]


def test_a_file_of_which_only_the_time_is_changed_is_still_used(fleet: Fleet) -> None:
    user = fleet.lab.context()
    lifecycle_verbs.cordon(user, Choice(("node1",)), reason="fan")
    os.utime(database(fleet))
    lifecycle_verbs.cordon(user, Choice(("node2",)), reason="fan")
    fleet.lab.close()
    assert cordoned(fleet) == ["node1", "node2"]


@pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("is_read", [True, False], ids=["read before", "new"])
def test_a_file_into_which_another_program_copies_the_log_is_still_used(mode: str, is_read: bool, fleet: Fleet) -> None:
    user = fleet.lab.context()
    if is_read:
        lifecycle_verbs.cordon(user, Choice(("node1",)), reason="fan")
    for host in ("node2", "node3"):
        killed_after_cordon(fleet, host)
        with closing(sqlite3.connect(database(fleet))) as other:
            assert other.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0] == 0
        killed_after_cordon(fleet, "node1")
    list_hosts(user, Choice(everything=True))
    lifecycle_verbs.uncordon(user, Choice(("node2",)))
    fleet.lab.close()
    assert cordoned(fleet) == ["node1", "node3"]
