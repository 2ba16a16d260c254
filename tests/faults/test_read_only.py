"""A folder or a file that a user may only read: refused with status 11, without locking others out."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bmhctl.stores.sqlite.claims import folder_beside
from tests.faults.figures import Figures
from tests.faults.forked_commands import End, ForkedCommands
from tests.faults.scenarios import FILES, start_of
from tests.faults.snapshots import read_folder, snapshot_of, write_folder
from tests.processes import until

IS_ROOT = os.geteuid() == 0
OWNER, OTHER = (65533, 65534) if IS_ROOT else (os.geteuid(), os.geteuid())
"""Two users. If the tests do not run as root, both are the same user, who has removed permissions from the files."""

LINES = [
    ("list",),
    ("status",),
    ("history",),
    ("export",),
    ("reserve", "-n", "1"),
    ("ready", "node4"),
    ("reap",),
    ("add", "node7"),
    ("rename", "node1", "spare"),
]
FOLDERS = {"the folder": (0o555, 0o666), "the files": (0o777, 0o444), "both": (0o555, 0o444)}
WORDS = ("can't be written", "can't write in", "may not write")


def run(forked: ForkedCommands, folder: Path, line: Sequence[str], user: int = OTHER) -> End:
    return forked.run(folder, line, **({"user": user} if IS_ROOT else {}))


@pytest.mark.parametrize("what", FOLDERS)
@pytest.mark.parametrize("backend", FILES)
def test_a_user_with_read_permission_only_gets_the_reason_and_changes_nothing(
    backend: str, what: str, forked: ForkedCommands, folder: Path, figures: Figures
) -> None:
    start = start_of("reserve", backend)
    write_folder(start, folder)
    for path in folder.iterdir():
        path.chmod(FOLDERS[what][1])
    folder.chmod(FOLDERS[what][0])
    try:
        ends = {line: run(forked, folder, ("-i", FILES[backend], *line)) for line in LINES}
        if what != "the files":
            ends["init",] = run(forked, folder, ("-i", "new.db", "init"))
        left = read_folder(folder)
    finally:
        folder.chmod(0o777)

    lost = [
        (line, end)
        for line, end in ends.items()
        if end.status != 11 or not any(word in end.stderr for word in WORDS) or "Traceback" in end.stderr
    ]
    figures("read-only", backend, tries=len(ends), faults=len(ends), losses=len(lost))
    assert lost == []
    assert left == start
    for path in folder.iterdir():
        path.chmod(0o666)
    folder.chmod(0o777)
    assert run(forked, folder, ("-i", FILES[backend], "reserve", "-n", "1")).status == 0


@pytest.mark.parametrize("backend", FILES)
def test_a_user_with_read_permission_only_does_not_lock_out_the_owner(
    backend: str, forked: ForkedCommands, folder: Path
) -> None:
    # SQLite makes files beside an inventory for readers, too: they would belong to the reader, and stay.
    write_folder(start_of("reserve", backend), folder)
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.chmod(0o644 if IS_ROOT else 0o444)
        os.chown(path, OWNER, -1)

    run(forked, folder, ("-i", FILES[backend], "list"))

    for path in folder.iterdir():
        if not IS_ROOT:
            path.chmod(0o644)
    end = run(forked, folder, ("-i", FILES[backend], "reserve", "-n", "1"), user=OWNER)
    assert (end.status, end.stderr) == (0, "")
    snapshot_of(folder / FILES[backend])


_MOUNTED = """
set -e
mount -t tmpfs tmpfs .
{bmhctl} -i {file} init -q
mount -o remount,ro .
{bmhctl} -i {file} list
"""


_NO_TEMPORARY_FOLDER = """
set -e
mount --bind . /mnt
for place in /tmp /var/tmp /usr/tmp; do
    [ ! -d $place ] || {{ mount --bind $place $place; mount -o remount,ro,bind $place; }}
done
unset TMPDIR SQLITE_TMPDIR
cd /proc
{bmhctl} -i /mnt/lab.db init -q
{bmhctl} -i /mnt/lab.db add -q 'node[00001-20000]'
{bmhctl} -i /mnt/lab.db copy -q /mnt/lab.db /mnt/lab.toml
{bmhctl} -i /mnt/lab.toml list node20000 -o name
"""


_WAITED = """
set -e
mount -t tmpfs tmpfs .
bmh() {{ {bmhctl} -i {file} "$@"; }}
bmh init -q; bmh add -q node1; bmh ready -q node1
mount -o remount,ro .
bmh reserve -n 1 --wait 30s -o name 2> err & job=$!
until grep -qs 'mounted read-only; waiting until it is back' err; do kill -0 $job; sleep 0.05; done
mount -o remount,rw .
wait $job
"""


def in_room(script: str, file: str, folder: Path) -> subprocess.CompletedProcess[str]:
    room = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*room, "true"], capture_output=True).returncode:
        pytest.skip("may not mount anything here")
    script = script.format(bmhctl=shlex.join([sys.executable, "-m", "bmhctl"]), file=shlex.quote(str(folder / file)))
    return subprocess.run([*room, "sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["lab.db", "lab.toml"])
def test_a_wait_that_starts_on_a_read_only_file_system_continues_when_it_is_writable(file: str, tmp_path: Path) -> None:
    done = in_room(_WAITED, file, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout == "node1\n"


@pytest.mark.slow
def test_a_large_change_needs_no_folder_for_temporary_files(tmp_path: Path) -> None:
    done = in_room(_NO_TEMPORARY_FOLDER, "lab.db", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "node20000\n", "")


@pytest.mark.parametrize("file", ["lab.db", "lab.toml"])
def test_a_read_only_file_system_is_named_in_the_error(file: str, tmp_path: Path) -> None:
    done = in_room(_MOUNTED, file, tmp_path)
    assert done.returncode == 11
    assert "can't be written: its file system is mounted read-only\nhint: mount " in done.stderr


@pytest.mark.parametrize("backend", FILES)
def test_a_user_who_may_not_read_the_claims_gets_the_reason(backend: str, forked: ForkedCommands, folder: Path) -> None:
    write_folder(start_of("reserve", backend), folder)
    for path in folder.iterdir():
        path.chmod(0o666)
    folder.chmod(0o777)
    assert run(forked, folder, ("-i", FILES[backend], "reserve", "-n", "1", "--ttl", "1s")).status == 0
    granted = time.monotonic()
    claims = folder_beside(next(folder.glob("*.db")))
    claims.mkdir(mode=0)
    until(lambda: time.monotonic() > granted + 1)
    end = run(forked, folder, ("-i", FILES[backend], "reap"))
    claims.chmod(0o700)
    assert (end.status, end.stderr.partition(": Perm")[0]) == (11, f"bmhctl: can't make claims in {claims}")


@pytest.mark.parametrize("backend", FILES)
def test_a_folder_that_a_user_may_not_enter_is_named_in_the_error(
    backend: str, forked: ForkedCommands, folder: Path
) -> None:
    write_folder(start_of("reserve", backend), folder)
    for path in folder.iterdir():
        path.chmod(0o666)
    closed = folder / "closed"
    closed.mkdir(mode=0)
    folder.chmod(0o777)
    lines = (("init", "-i", "closed/x.toml"), ("backup", "closed/x.db"), ("copy", FILES[backend], "closed/sub/x.toml"))
    ends = [run(forked, folder, ("-i", FILES[backend], *line)) for line in lines]
    ends.append(run(forked, folder, ("-i", "closed/x.toml", "doctor")))
    closed.chmod(0o700)
    places = (closed / "x.toml", closed / "x.db", closed / "sub" / "x.toml")
    said = [f"can't create {place}: Permission denied\n" for place in places]
    if sys.version_info >= (3, 14):  # a file that may not be looked up counts as missing
        said = [
            f"can't write in {closed}: Permission denied\n"
            f"hint: bmhctl writes {place.name} and files beside it: make {closed} writable for this user\n"
            for place in places[:2]
        ]
        said.append(f"there is no folder {closed}/sub\nhint: mkdir -p {closed}/sub\n")
    assert [(end.status, end.stderr) for end in ends[:3]] == [(11, f"bmhctl: {words}") for words in said]
    assert (ends[3].status, f"can't read {closed / 'x.state.db'}: Permission denied" in ends[3].stdout) == (10, True)
