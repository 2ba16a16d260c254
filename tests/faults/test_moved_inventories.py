"""An inventory that is removed, replaced, restored or mounted over under a command that has it open.

Nothing that is acknowledged is lost, nothing is written where others can't see it, and no host has two tasks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import ExitStatus, GoneError, MovedError, WaitTimeoutError
from bmhctl.stores import open_store
from bmhctl.stores.sqlite import database as sqlite_database
from bmhctl.usecases import hosts
from bmhctl.usecases.queries import list_hosts
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from tests.conftest import Lab, Run, made_in, run_bmhctl
from tests.faults.figures import Figures
from tests.faults.snapshots import check
from tests.postgres import drop_schema
from tests.processes import lives, spawn, until
from tests.runner.conftest import Fleet, Turn, make_fleet


def database(lab: Lab) -> Path:
    return lab.path.with_name("lab.state.db") if lab.is_toml else lab.path


def removed(lab: Lab) -> None:
    """Removes the files like ``git clean -ffdx``, which removes ignored files.

    A ``run`` may make its claim again in a folder that is just being removed.
    """
    for path in lab.path.parent.glob(f"{database(lab).name}*"):
        if path.is_dir():
            until(lambda folder=path: not folder.exists() or shutil.rmtree(folder, ignore_errors=True))
        else:
            path.unlink()


def replaced(lab: Lab) -> None:
    """Puts another inventory of the same hosts at the path."""
    removed(lab)
    if lab.is_toml:
        open_store(lab.location).close()
    with open_inventory(lab.location, actor="olivia", create=not lab.is_toml) as other:
        if not lab.is_toml:
            other.add("node[1-3]", labels={"arch": "arm64"})
        other.ready("node[1-3]")


def restored(lab: Lab) -> None:
    """Restores a backup as inventory.md says: moves the old files away, and copies the backup to their place."""
    backup = lab.path.with_name("before.db")
    removed(lab)
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(database(lab))) as target:
        source.backup(target)


def without_log(lab: Lab) -> None:
    """Only SQLite's write-ahead log is removed."""
    database(lab).with_name(database(lab).name + "-wal").unlink()


def overwritten(lab: Lab) -> None:
    """Copies the backup over the file in use, as ``cp`` does."""
    subprocess.run(["cp", lab.path.with_name("before.db"), database(lab)], check=True)


WAYS: dict[str, Callable[[Lab], None]] = {
    "removed": removed,
    "replaced": replaced,
    "restored": restored,
    "without its log": without_log,
    "overwritten": overwritten,
}


BMHCTL = f"{sys.executable} -m bmhctl"


def backend(fleet: Fleet) -> str:
    return "toml" if fleet.lab.is_toml else "sqlite"


def started(fleet: Fleet, *options: str) -> tuple[Turn, int]:
    turn = fleet.start("run", "--host", "node1", *options, "--", "sh", "-c", "echo $$; exec sleep 1000")
    return turn, int(turn.line())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("phase", ["at its start", "after a renewal"])
def test_a_run_whose_inventory_is_moved_ends_its_task_and_says_why(
    way: str, phase: str, fleet: Fleet, figures: Figures
) -> None:
    turn, task = started(fleet, "--ttl", "4s" if phase == "after a renewal" else "1h")
    if phase == "after a renewal":
        time.sleep(2)
    assert lives(task)
    WAYS[way](fleet.lab)
    done = turn.end()
    figures(f"run, its inventory {way}", backend(fleet), tries=1, losses=0, shared=int(lives(task)))
    assert not lives(task)
    assert (done.status, done.stdout) == (125, "")
    assert done.stderr.startswith("the lease is lost: ")
    assert str(database(fleet.lab)) in done.stderr
    if way in ("replaced", "restored", "overwritten"):
        assert set(fleet.states().values()) == {"available"}, "nothing was written into another inventory"


def test_a_task_that_ignores_term_gets_kill_soon_when_its_inventory_is_gone(fleet: Fleet) -> None:
    """Another job may have its host, so the task does not get the time until the end of its lease."""
    stubborn = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
    patch = "child.GRACE, child.LOST_GRACE = 60, 0.5"
    turn = fleet.start("run", "--host", "node1", "--", "sh", "-c", stubborn, patch=patch)
    task = int(turn.line())
    removed(fleet.lab)
    assert turn.end().status == 125
    assert not lives(task)


def test_a_job_whose_checkout_is_cleaned_ends_before_the_next_job_gets_its_host(fleet: Fleet) -> None:
    """Like in CI: job A runs, the checkout is cleaned, the hosts are made ready again, job B runs."""
    turn, task = started(fleet, "--ttl", "6s")
    replaced(fleet.lab)
    until(lambda: not lives(task), "job A was not ended")
    assert fleet.bmhctl("run", "--host", "node1", "--", "sh", "-c", "echo $BMH_HOST").stdout == "node1\n"
    assert turn.end().status == 125


STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
ALONE = "kill -0 {task} 2>/dev/null && echo shared || echo alone"


def cleaned(fleet: Fleet) -> None:
    """Removes the inventory like ``git clean -ffdx``; the next command makes a new one at once."""
    removed(fleet.lab)


def cloned_again(fleet: Fleet) -> None:
    """Empties the folder, like CI systems that begin each job with an empty folder."""
    kept = fleet.folder.with_name(f"{fleet.folder.name}.kept")
    fleet.folder.rename(kept)
    fleet.folder.mkdir()
    if fleet.lab.is_toml:
        shutil.copy(kept / "lab.toml", fleet.folder)


def backup_moved_over(fleet: Fleet) -> None:
    """Moves the backup over the inventory: in it, the hosts are still available."""
    removed(fleet.lab)
    fleet.folder.joinpath("before.db").rename(database(fleet.lab))


@pytest.mark.parametrize("way", [cleaned, cloned_again, backup_moved_over])
def test_the_next_job_waits_for_a_task_that_ignores_term_after_its_inventory_is_gone(
    way: Callable[[Fleet], None], fleet: Fleet, figures: Figures
) -> None:
    turn = fleet.start("run", "--host", "node1", "--ttl", "1h", "--", "sh", "-c", STUBBORN)
    task = int(turn.line())
    way(fleet)
    if way is not backup_moved_over:
        if not fleet.lab.is_toml:
            assert fleet.bmhctl("init").status == 0
            assert fleet.bmhctl("add", "node1").status == 0
        assert fleet.bmhctl("ready", "node1").status == 0
    done = fleet.bmhctl("run", "--host", "node1", "--", "sh", "-c", ALONE.format(task=task))
    figures(f"the next job, inventory {way.__name__}", backend(fleet), tries=1, shared=int("shared" in done.stdout))
    assert (done.status, done.stdout, done.stderr) == (0, "alone\n", "")
    assert turn.end().status == 125


def test_a_new_inventory_names_the_process_that_still_uses_the_old_one(fleet: Fleet) -> None:
    """A stopped ``run`` can't end its task, so the task uses its host until the lease ends."""
    patch = "from bmhctl.stores.sqlite import claims; claims._EARLIER_PATIENCE = 0.2"
    turn = fleet.start("run", "--host", "node1", "--ttl", "1h", "--", "sh", "-c", STUBBORN)
    task = int(turn.line())
    turn.send(signal.SIGSTOP)
    cleaned(fleet)
    if not fleet.lab.is_toml:
        assert fleet.bmhctl("init").status == 0
    refused = fleet.start("add", "node7", patch=patch).end()
    assert refused.status == ExitStatus.UNREACHABLE, refused
    assert f"process {turn.pid} (" in refused.stderr
    turn.send(signal.SIGCONT)
    assert turn.end().status == 125
    assert not lives(task)
    assert fleet.bmhctl("add", "node7").status == 0


@pytest.mark.parametrize("way", ["removed", "replaced", "restored", "without its log"])
def test_writing_to_a_moved_inventory_is_refused_and_writes_nothing(way: str, fleet: Fleet, figures: Figures) -> None:
    ctx = fleet.lab.context()
    list_hosts(ctx, Choice(everything=True))
    WAYS[way](fleet.lab)
    before = {path: path.read_bytes() for path in fleet.folder.iterdir() if path.is_file()}
    for act in (
        lambda: reserve.reserve_or_wait(ctx, reservation_request(("node1",))),
        lambda: hosts.add(ctx, ["node9"], hosts.AttributeChanges()),
        lambda: list_hosts(ctx, Choice(everything=True)),
    ):
        with pytest.raises(MovedError) as caught:
            act()
        assert caught.value.status is ExitStatus.UNREACHABLE
        assert "nothing was written" in (caught.value.hint or "")
    ctx.store.close()
    after = {path: path.read_bytes() for path in fleet.folder.iterdir() if path.is_file()}
    figures(f"writer, its inventory {way}", backend(fleet), tries=3, losses=int(before != after), shared=0)
    assert before == after


def test_a_run_whose_database_was_opened_by_a_link_notices_that_it_leads_elsewhere(tmp_path: Path) -> None:
    for lab in made_in("sqlite", tmp_path):
        fleet = make_fleet(lab)
        for name, target in (("link.db", lab.path.name), ("new.db", "other.db")):
            (tmp_path / name).symlink_to(target)
        assert fleet.bmhctl("copy", lab.path.name, "other.db").status == 0
        turn = fleet.start("-i", "link.db", "run", "--host", "node1", "--", "sh", "-c", "echo $$; exec sleep 1000")
        task = int(turn.line())
        (tmp_path / "new.db").rename(tmp_path / "link.db")
        done = turn.end()
        assert (done.status, lives(task)) == (125, False), done
        assert done.stderr.startswith(f"the lease is lost: {tmp_path}/link.db is another file now")


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_writer_whose_inventory_is_moved_before_its_commit_writes_nothing(way: str, fleet: Fleet) -> None:
    store = fleet.lab.context().store
    with pytest.raises(MovedError), store.transaction():  # noqa: PT012 - the commit raises
        store.meta.put("key", "value")
        WAYS[way](fleet.lab)
    if way == "replaced":
        assert fleet.lab.context().store.meta.get("key") is None


def test_closing_an_old_inventory_keeps_the_log_of_the_one_in_its_place(fleet: Fleet) -> None:
    """SQLite removes the log by its name when the last connection closes, with the commits of a killed process."""
    old = fleet.lab.context()
    list_hosts(old, Choice(everything=True))
    without_log(fleet.lab)
    script = (
        "import os, sys; from bmhctl import open_inventory; lab = open_inventory(sys.argv[1]);"
        " lab.reserve('node1'); os._exit(0)"
    )
    with spawn("-c", script, fleet.lab.location) as process:
        assert process.communicate()[1] == ""
    assert process.returncode == 0
    old.store.close()
    assert fleet.bmhctl("list", "--state", "reserved", "-o", "name").stdout == "node1\n"


def waiter(fleet: Fleet) -> Turn:
    """A command that waits for node1, which bob holds."""
    with open_inventory(fleet.lab.location, actor="bob") as lab:
        lab.reserve("node1", ttl="1h")
    turn = fleet.start("reserve", "node1", "--wait", "1m", "-o", "name")
    assert turn.process.stderr is not None
    assert "first in the queue" in turn.process.stderr.readline()
    return turn


@pytest.mark.parametrize("way", ["replaced", "restored", "overwritten"])
def test_a_waiter_opens_the_inventory_that_replaces_its_own(way: str, fleet: Fleet, figures: Figures) -> None:
    turn = waiter(fleet)
    WAYS[way](fleet.lab)
    done = turn.end()
    figures(f"waiter, its inventory {way}", backend(fleet), tries=1, losses=int(done.status not in (0, 7)), shared=0)
    assert " is back\n" in done.stderr
    assert done.status == 0
    assert fleet.states()["node1"] == "reserved"


def test_a_waiter_whose_inventory_is_gone_keeps_its_deadline(fleet: Fleet) -> None:
    with open_inventory(fleet.lab.location, actor="bob") as lab:
        lab.reserve("node1", ttl="1h")
    turn = fleet.start("reserve", "node1", "--wait", "4s")
    assert turn.process.stderr is not None
    turn.process.stderr.readline()
    removed(fleet.lab)
    done = turn.end()
    assert (done.status, done.stdout) == (7, "")
    assert "is gone: it was removed, moved away or unmounted" in done.stderr
    assert not database(fleet.lab).exists(), "it is not made anew by one that waits"


@pytest.mark.parametrize("way", ["replaced", "restored", "overwritten"])
def test_a_program_that_waits_for_hosts_opens_the_inventory_that_replaced_its_own(way: str, fleet: Fleet) -> None:
    with open_inventory(fleet.lab.location, actor="alice") as lab:
        WAYS[way](fleet.lab)
        held = lab.reserve("node1", wait="20s")
    assert [host.name for host in held.hosts] == ["node1"]
    assert fleet.states()["node1"] == "reserved"


def test_a_program_that_waits_for_hosts_keeps_its_deadline_when_its_inventory_is_gone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmhctl.usecases.shared.absence.LONGEST", 5.0)
    with open_inventory(fleet.lab.location, actor="alice") as lab:
        removed(fleet.lab)
        with pytest.raises(WaitTimeoutError, match="timed out after 1s waiting for node1: "):
            lab.reserve("node1", wait="1s")
    assert not database(fleet.lab).exists()


def test_a_waiter_whose_lock_files_are_removed_keeps_its_position(fleet: Fleet) -> None:
    turn = waiter(fleet)
    shutil.rmtree(database(fleet.lab).with_name(database(fleet.lab).name + ".claims"))
    time.sleep(1)
    queue = fleet.bmhctl("queue", "-o", "json").stdout
    assert '"position": 1' in queue
    with open_inventory(fleet.lab.location, actor="bob") as lab:
        lab.release(lab.reservations()[0].reservation.id)
        lab.reset("node1")
        lab.ready("node1")
    assert turn.end().status == 0


@pytest.mark.parametrize("way", ["replaced", "restored", "overwritten"])
def test_a_recycler_opens_the_inventory_that_replaces_its_own(way: str, fleet: Fleet, figures: Figures) -> None:
    turn = fleet.start("recycle", "--watch", "1s")
    with open_inventory(fleet.lab.location, actor="bob") as lab:
        lab.release(lab.reserve("node2").reservation.id)
    until(lambda: fleet.states()["node2"] == "available")
    fleet.lab.close()
    WAYS[way](fleet.lab)
    with open_inventory(fleet.lab.location, actor="bob") as lab:
        lab.release(lab.reserve("node3").reservation.id)
        until(lambda: str(lab.host("node3").state) == "available", "it still recycles what is gone")
    turn.process.terminate()
    done = turn.end()
    figures(f"recycler, its inventory {way}", backend(fleet), tries=1, losses=0, shared=0)
    assert done.status == 143
    assert re.search("is another file now|is gone: |was overwritten", done.stderr)  # it may look while there is no file


MOUNTED = """
set -e
mkdir place other && cp -a lab place/ && cp -a lab other/
lab() { bmhctl -i place/lab/$NAME "$@"; }
lab_as_bob() { lab --as bob -q "$@"; }
PREPARE
bmhctl -i place/lab/$NAME COMMAND > out 2> err & job=$!
until IS_READY; do sleep 0.05; done
mount --bind other place
AFTERWARDS
status=0; wait $job || status=$?
echo $status; cat out err
"""

TAINT_NODE2 = "lab_as_bob reserve node2 > /dev/null && lab_as_bob taint node2 > /dev/null"


def mounted_over(
    fleet: Fleet, folder: Path, *, command: str, ready: str, prepare: str = "", afterwards: str = ""
) -> str:
    """Return the status and the output of a command while another folder is mounted over that of its inventory."""
    room = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*room, "true"], capture_output=True).returncode:
        pytest.skip("may not mount anything here")
    fleet.lab.close()
    (folder / "lab").mkdir()
    for path in folder.glob("lab.*"):
        path.rename(folder / "lab" / path.name)
    environ = {**os.environ, **fleet.environ, "NAME": fleet.lab.path.name}
    del environ["BMHCTL_INVENTORY"]
    script = MOUNTED
    for word, text in (("PREPARE", prepare), ("COMMAND", command), ("IS_READY", ready), ("AFTERWARDS", afterwards)):
        script = script.replace(word, text)
    done = subprocess.run(
        [*room, "sh", "-c", script], cwd=folder, env=environ, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_a_run_whose_inventory_is_mounted_over_ends_its_task(fleet: Fleet, tmp_path: Path, figures: Figures) -> None:
    task = "run --host node1 --ttl 1h -- sh -c 'echo on; exec sleep 1000'"
    said = mounted_over(fleet, tmp_path, command=task, ready="grep -q on out")
    figures("run, its inventory mounted over", backend(fleet), tries=1, losses=0, shared=0)
    assert said.startswith("125\non\nthe lease is lost: "), said
    assert "is another file now" in said


def test_a_waiter_whose_inventory_is_mounted_over_opens_the_new_one(
    fleet: Fleet, tmp_path: Path, figures: Figures
) -> None:
    """In the new inventory, the host for which the command waits is available."""
    said = mounted_over(
        fleet,
        tmp_path,
        prepare="lab_as_bob reserve node1 -o name > /dev/null",
        command="reserve node1 --wait 1m -o name",
        ready="grep -q 'first in the queue' err",
    )
    figures("waiter, its inventory mounted over", backend(fleet), tries=1, losses=0, shared=0)
    assert said.startswith("0\nnode1\n"), said
    assert "is another file now" in said
    assert " is back\n" in said


def test_a_recycler_whose_inventory_is_mounted_over_recycles_the_new_one(
    fleet: Fleet, tmp_path: Path, figures: Figures
) -> None:
    is_recycled = "lab list node2 -o plain --fields state | grep -q available"
    said = mounted_over(
        fleet,
        tmp_path,
        prepare=TAINT_NODE2,
        command="recycle --watch 1s",
        ready=is_recycled,
        afterwards=f"{TAINT_NODE2}; until {is_recycled}; do sleep 0.05; done; kill $job",
    )
    figures("recycler, its inventory mounted over", backend(fleet), tries=1, losses=0, shared=0)
    assert said.startswith("143\n"), said
    assert "is another file now" in said


@pytest.mark.parametrize("way", ["dropped", "restored", "copied over"])
def test_a_dropped_restored_or_replaced_schema_is_noticed(way: str, tmp_path: Path) -> None:
    for lab in made_in("postgres", tmp_path):
        fleet = make_fleet(lab)
        assert fleet.bmhctl("backup", "before.db").status == 0
        turn = fleet.start("run", "--host", "node1", "--", "sh", "-c", "echo $$; exec sleep 1000")
        task = int(turn.line())
        ctx = lab.context()
        if way == "copied over":
            with ctx.store.transaction():
                ctx.store.meta.put("inventory", "another")
        else:
            drop_schema(lab.location)
        if way == "restored":
            assert fleet.bmhctl("copy", "before.db", lab.location).status == 0
        done = turn.end()
        assert not lives(task)
        assert done.status == 125
        assert "the lease is lost: the inventory in" in done.stderr
        with pytest.raises(MovedError):
            reserve.reserve_or_wait(ctx, reservation_request(("node2",)))


def test_a_schema_without_an_inventory_id_works_as_before(tmp_path: Path) -> None:
    for lab in made_in("postgres", tmp_path):
        fleet = make_fleet(lab)
        with (store := lab.context().store).transaction():
            store.meta.put("inventory", None)
        lab.close()
        assert fleet.bmhctl("run", "--host", "node1", "--", "true").status == 0


def test_a_file_that_is_moved_away_and_back_is_accepted(toml_lab: Lab) -> None:
    ctx = toml_lab.context()
    state = toml_lab.path.with_name("lab.state.db")
    away = state.with_name("away")
    state.rename(away)
    with pytest.raises(GoneError):
        ctx.store.check_in_place()
    away.rename(state)
    ctx.store.check_in_place()
    check(ctx.store)


def test_an_inventory_that_is_moved_while_it_is_opened_is_reported_as_gone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configure(self: sqlite_database.SqliteDatabase) -> None:
        really_configure(self)
        fleet.folder.rename(fleet.folder.with_name(f"{fleet.folder.name}.away"))

    really_configure = sqlite_database.SqliteDatabase.configure
    monkeypatch.setattr(sqlite_database.SqliteDatabase, "configure", configure)
    monkeypatch.setattr(os.path, "exists", lambda _: True)  # as if the file were still there
    with pytest.raises(GoneError):
        open_store(fleet.lab.location)


@pytest.mark.parametrize("is_back", [True, False], ids=["for a moment", "for good"])
def test_an_inventory_is_never_read_with_the_log_of_another_one(
    is_back: bool, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens the file first and its log by name at the first read: it would copy the one into the other."""
    other, away = (fleet.folder.with_name(f"{fleet.folder.name}.{name}") for name in ("other", "away"))
    shutil.copytree(fleet.folder, other)
    with closing(sqlite3.connect(other / database(fleet.lab).name, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE more (number)")  # this commit is in the log
        before = database(fleet.lab).read_bytes()

        def swap() -> None:
            fleet.folder.rename(away)
            other.rename(fleet.folder)

        def swap_back() -> None:
            fleet.folder.rename(other)
            away.rename(fleet.folder)

        def read(self: sqlite_database.SqliteDatabase) -> int:
            if other.exists():
                swap()
            try:
                return schema_version(self)
            finally:
                if is_back:
                    swap_back()

        schema_version = sqlite_database.SqliteDatabase.schema_version
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_database.SqliteDatabase, "schema_version", read)
            with pytest.raises(MovedError):
                open_store(fleet.lab.location)
        if not is_back:
            swap_back()
        assert (other / f"{database(fleet.lab).name}-wal").stat().st_size > 0
    assert database(fleet.lab).read_bytes() == before
    assert fleet.bmhctl("list", "-o", "name").stdout.split() == ["node1", "node2", "node3"]


def test_an_empty_file_in_place_of_the_inventory_is_refused_with_a_hint_to_a_backup(fleet: Fleet) -> None:
    removed(fleet.lab)
    database(fleet.lab).touch()
    said = fleet.bmhctl("list").stderr
    init = "all hosts are initial" if fleet.lab.is_toml else f": bmhctl -i {fleet.lab.path} init"
    assert said.endswith(f"hint: put a backup in its place, or remove it, then{'' if init[0] == ':' else ' '}{init}\n")


def test_every_command_reports_a_missing_log_while_a_process_uses_the_old_one(tmp_path: Path) -> None:
    with open_inventory(str(tmp_path / "lab.db"), create=True) as lab:
        lab.add("node1")
        lab.ready("node1")
        (tmp_path / "lab.db-wal").unlink()
        for command in (("cordon", "node1", "--reason", "fan"), ("reserve", "node1"), ("add", "node2"), ("list",)):
            done = run_bmhctl("-i", "lab.db", *command, cwd=tmp_path)
            assert done.status == ExitStatus.UNREACHABLE, done.stderr
            assert done.stderr.splitlines()[-1].startswith(
                "hint: if lab.db-wal was removed, end the processes that still use it: "
            )


# tests: one file with two names


@pytest.mark.parametrize("file", ["lab.db", "lab.toml", "lab.state.db"])
@pytest.mark.parametrize("way", ["link", "mount"])
def test_one_file_with_two_names_never_grants_a_host_twice(file: str, way: str, tmp_path: Path) -> None:
    """Each name would have its own log or its own state file."""
    if way == "mount" and subprocess.run(["unshare", "--mount", "--map-root-user", "true"]).returncode:
        pytest.skip("may not mount anything here")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / file).touch()
    inventory = "lab.db" if file == "lab.db" else "lab.toml"
    other = "other/lab.db" if file == "lab.db" else "other/lab.toml"
    for line in ("init -q", "add node1 -q", "ready node1 -q", "reserve node1 --as alice -q"):
        assert run_bmhctl("-i", inventory, *line.split(), cwd=tmp_path).status == 0
    if file == "lab.state.db":
        shutil.copy(tmp_path / "lab.toml", tmp_path / "other")
    same = f"ln -f {file} other/{file}" if way == "link" else f"mount --bind {file} other/{file}"
    last = f"{BMHCTL} -i {other} ready node1 -q; {BMHCTL} -i {other} reserve node1 --as bob"
    room = ["unshare", "--mount", "--map-root-user"] if way == "mount" else []
    script = f"{same} || exit 91\n{last}"
    done = subprocess.run([*room, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (2 if file == "lab.toml" else 11), done.stderr
    assert ("hard links" if way == "link" else "is mounted alone, without its folder") in done.stderr
    assert done.stdout == ""


def test_a_state_file_made_without_the_state_folder_variable_is_noticed_with_it(tmp_path: Path) -> None:
    def bmhctl(*args: str, folder: str | None) -> Run:
        extra = {} if folder is None else {"BMHCTL_STATE_DIR": folder}
        return run_bmhctl("-i", "lab.toml", *args, cwd=tmp_path, **extra)

    (tmp_path / "states").mkdir()
    (tmp_path / "lab.toml").write_text("[hosts.node1]\n")
    assert bmhctl("ready", "node1", folder="states").status == 0
    assert bmhctl("ready", "node1", folder=None).status == 0
    refused = bmhctl("reserve", "node1", folder="states")
    assert (refused.status, refused.stdout) == (2, "")
    assert "there are two state files" in refused.stderr
    (tmp_path / "lab.toml").write_text('[inventory]\nstate = "states/lab.state.db"\n[hosts.node1]\n')
    assert bmhctl("reserve", "node1", folder="states").status == 0
    assert bmhctl("reserve", "node1", folder=None).status == 5


def test_the_partial_file_of_a_new_inventory_is_not_reported_as_a_second_name(tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    assert run_bmhctl("-i", str(path), "init", "-q", cwd=tmp_path).status == 0
    os.link(path, tmp_path / ".lab.db.abc.partial")  # the state after a command was killed at that moment
    assert run_bmhctl("-i", str(path), "list", cwd=tmp_path).status == 0
