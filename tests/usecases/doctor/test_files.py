"""doctor on files: inventories that other commands refuse, permissions, and files that killed commands left."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from bmhctl.domain.model import Phase
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import InvalidError, StateRefusedError, UnreachableError
from bmhctl.results.diagnosis import Diagnosis
from bmhctl.stores.sqlite.database import APPLICATION_ID
from bmhctl.usecases import copies, hosts, inventories, queries
from bmhctl.usecases.doctor.doctor import doctor_at
from bmhctl.usecases.reservations import reserve, waiting
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.broken_inventories import a_host_in_each_state, everything, examined, found, unchecked
from tests.conftest import FILES, Lab, copied, environment, made_in


@pytest.fixture(params=FILES)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """An empty inventory, once on each backend that is files."""
    yield from made_in(request.param, tmp_path)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """A host in each state."""
    a_host_in_each_state(lab)
    return lab


@pytest.fixture
def toml_fleet(toml_lab: Lab) -> Lab:
    """The hosts of ``fleet`` in a TOML inventory."""
    a_host_in_each_state(toml_lab)
    return toml_lab


def database_of(lab: Lab) -> Path:
    return lab.path.with_name("lab.state.db") if lab.is_toml else lab.path


def at(lab: Lab, *, fix: bool = False) -> Diagnosis:
    """Return the diagnosis of an inventory that may not open."""
    lab.close()
    return doctor_at(str(lab.path), lambda store: Context(store, "alice", lab.clock), fix=fix)


def kinds(diagnosis: Diagnosis) -> list[tuple[str, str, bool]]:
    return [(each.kind, each.severity.value, each.fixable) for each in diagnosis.findings]


# tests: a TOML file and its state file


def test_an_error_in_the_toml_file_is_reported_with_its_line_and_the_state_is_examined(
    toml_fleet: Lab,
) -> None:
    toml_fleet.path.write_text(toml_fleet.path.read_text() + "[hosts.node1\n")
    unchecked(toml_fleet, "UPDATE hosts SET last_event = 1 WHERE name = 'node4'")
    line = toml_fleet.path.read_text().count("\n")

    diagnosis = at(toml_fleet)

    assert kinds(diagnosis) == [("declaration", "broken", False), ("history", "broken", True)]
    assert diagnosis.findings[0].message.startswith(f"{toml_fleet.path}:{line}:")
    assert kinds(at(toml_fleet, fix=True)) == [("declaration", "broken", False), ("history", "broken", True)]
    assert kinds(at(toml_fleet)) == [("declaration", "broken", False)]


def test_a_missing_toml_file_can_be_restored_from_its_state_file(toml_fleet: Lab, tmp_path: Path) -> None:
    before = everything(toml_fleet)["events"]
    toml_fleet.path.unlink()
    state = database_of(toml_fleet)

    assert found(at(toml_fleet)) == [
        (
            "declaration", "broken", None, f"{toml_fleet.path} is missing, but the state file of its hosts is there",
            f"restore it, or write it again from the state: bmhctl copy {state} NEW.toml",
        )
    ]  # fmt: skip

    again = Lab(tmp_path / "again.toml", toml_fleet.clock)
    copies.copy(Lab(state, toml_fleet.clock).context(), str(again.path))
    queries.list_hosts(again.context(), Choice(everything=True))
    assert (at(again).findings, everything(again)["events"]) == ((), before)


def test_the_doctor_does_not_sync_a_changed_toml_file(toml_fleet: Lab) -> None:
    before = everything(toml_fleet)
    with toml_fleet.path.open("a") as file:
        file.write("\n[hosts.node8]\n")
    changed = "lab.toml changed since the last command"
    note = ("declaration", "note", None, changed, "nothing to do: the next command reads it")
    assert found(at(toml_fleet, fix=True)) == [note]
    assert everything(toml_fleet) == before
    queries.list_hosts(toml_fleet.context(), Choice(everything=True))
    assert at(toml_fleet).findings == ()


def test_a_change_of_the_toml_file_that_commands_refuse_is_reported(toml_fleet: Lab) -> None:
    before = everything(toml_fleet)
    text = toml_fleet.path.read_text().replace("[hosts.node2]", "[hosts.renamed]")
    toml_fleet.path.write_text(text)
    assert found(at(toml_fleet)) == [
        (
            "declaration", "broken", "renamed", "has the MAC 52:54:00:00:00:02 of node2: is it the same machine?",
            "bmhctl rename node2 renamed, or correct the MAC of one of them",
        )
    ]  # fmt: skip
    assert everything(toml_fleet) == before


def test_a_changed_toml_file_is_not_compared_with_unreadable_rows(toml_fleet: Lab) -> None:
    toml_fleet.path.write_text(toml_fleet.path.read_text() + "[hosts.node8]\n")
    unchecked(toml_fleet, "UPDATE hosts SET labels = 'oops' WHERE name = 'node1'")
    assert [each[:4] for each in found(at(toml_fleet, fix=True))] == [
        ("row", "broken", "node1", "its labels can't be read: 'oops'")
    ]


def test_an_undeclared_host_is_a_note(toml_fleet: Lab) -> None:
    text = toml_fleet.path.read_text()
    start = text.index("[hosts.node2]")
    toml_fleet.path.write_text(text[:start] + text[text.index("[hosts.node3]") :])
    queries.list_hosts(toml_fleet.context(), Choice(everything=True))
    diagnosis = at(toml_fleet)
    assert found(diagnosis) == [
        (
            "undeclared", "note", "node2", "is no longer declared: it keeps its state and can't be reserved",
            "bmhctl remove node2; or declare it again",
        )
    ]  # fmt: skip
    assert diagnosis.error is None


def test_the_toml_file_is_read_again_where_the_state_contradicts_it(toml_fleet: Lab) -> None:
    unchecked(
        toml_fleet,
        "UPDATE hosts SET labels = '{\"arch\":\"x86\"}' WHERE name = 'node1'",
        "UPDATE hosts SET undeclared = 1 WHERE name = 'node2'",
        "UPDATE hosts SET name = 'node9' WHERE name = 'node4'",
        "UPDATE meta SET value = '' WHERE key = 'policy'",
    )
    diagnosis = at(toml_fleet)
    anew = "bmhctl doctor --fix reads lab.toml again"
    assert found(diagnosis) == [
        ("policy", "broken", None, "the policy in force differs from the policy that policy show prints",
         "bmhctl doctor --fix parses the stored policy again"),
        ("facts", "broken", "node1", "selectors see other values than declared: arch",
         "bmhctl doctor --fix makes them see what is declared"),
        ("declaration", "broken", "node1", "differs from what is declared: labels.arch x86 → arm64", anew),
        ("declaration", "broken", "node2", "is declared, but recorded as undeclared", anew),
        ("declaration", "broken", "node4", "is declared, but unknown", anew),
        ("declaration", "broken", "node9", "is not declared, but not recorded as undeclared", anew),
        ("declaration", "broken", None, "the policy differs from the declared one", anew),
    ]  # fmt: skip

    left = at(toml_fleet, fix=True)
    # Only a person can decide about a known machine under another name: doctor refuses the file like every command.
    assert [each[:3] for each in found(left)] == [
        ("declaration", "broken", "node4"),
        ("undeclared", "note", "node2"),
    ]
    toml_fleet.path.write_text(toml_fleet.path.read_text().replace("[hosts.node4]", "[hosts.node9]"))
    queries.list_hosts(toml_fleet.context(), Choice(everything=True))
    assert at(toml_fleet).findings == ()
    assert [each.name for each in toml_fleet.context().store.policy().of(Phase.CHECKS)] == ["ping"]


def test_a_state_file_of_another_inventory_is_neither_examined_nor_changed(toml_fleet: Lab, tmp_path: Path) -> None:
    unchecked(toml_fleet, "DELETE FROM facts")
    other = Lab(tmp_path / "other.toml", toml_fleet.clock)
    shutil.copy(toml_fleet.path, other.path)
    shutil.copy(database_of(toml_fleet), database_of(other).with_name("other.state.db"))
    state = tmp_path / "other.state.db"
    before = state.read_bytes()

    assert found(at(other, fix=True)) == [
        (
            "owner", "broken", None, f"{state} belongs to {toml_fleet.path}, not to {other.path}",
            f"move it away to start with all hosts initial, or adopt it: bmhctl -i {other.path} init --adopt",
        )
    ]  # fmt: skip
    assert state.read_bytes() == before

    inventories.adopt(other.context())
    assert at(other, fix=True).error is None


def test_a_missing_state_file_is_a_warning_and_is_not_created(toml_fleet: Lab) -> None:
    state = database_of(toml_fleet)
    toml_fleet.close()
    state.unlink()
    diagnosis = at(toml_fleet, fix=True)
    assert found(diagnosis) == [
        (
            "file", "warning", None,
            "there is no lab.state.db: states, reservations and history of the hosts, if they had any, are gone",
            f"restore {state} from a backup; if the inventory is new, the next command creates it",
        )
    ]  # fmt: skip
    assert (diagnosis.error, diagnosis.counts, state.exists()) == (None, {}, False)


def killed_while_it_had(lab: Lab) -> None:
    """Leaves SQLite's log behind, like a process that is killed."""
    code = (
        "import os, sys\nfrom bmhctl import open_inventory\n"
        "lab = open_inventory(sys.argv[1])\nlab.ready('node1')\nos._exit(9)"
    )
    lab.close()
    assert subprocess.run([sys.executable, "-c", code, str(lab.path)], env=environment(), check=False).returncode == 9


def test_a_wal_without_its_database_is_reported_and_never_applied_to_a_new_one(fleet: Lab) -> None:
    killed_while_it_had(fleet)
    database = database_of(fleet)
    log = database.with_name(database.name + "-wal")
    assert log.stat().st_size > 0
    database.unlink()

    [told] = at(fleet, fix=True).findings
    assert (told.kind, told.severity.value) == ("file", "broken")
    assert str(log) in told.remedy
    with pytest.raises(InvalidError, match=r"is missing, but .*-wal, which belongs to it, is there"):
        queries.list_hosts(fleet.context(), Choice()) if fleet.is_toml else inventories.init(str(fleet.path))
    assert not database.exists()

    log.unlink()
    log.with_name(database.name + "-shm").unlink()
    if not fleet.is_toml:
        inventories.init(str(fleet.path))
    queries.list_hosts(fleet.context(), Choice())
    assert at(fleet).error is None


def test_the_record_of_an_interrupted_edit_is_removed(toml_fleet: Lab) -> None:
    intent = {"sha256": "0" * 64, "actor": "bob", "renames": [], "removals": [], "newcomers": [], "reason": None}
    unchecked(toml_fleet, f"INSERT INTO meta (key, value) VALUES ('intent', '{json.dumps(intent)}')")
    draft = toml_fleet.path.with_name(".lab.toml.new")
    draft.write_text("[hosts.node1]\n")

    diagnosis = at(toml_fleet)
    assert found(diagnosis) == [
        ("leftover", "note", None, f"{draft} was left by a command that was killed", "bmhctl doctor --fix removes it"),
        (
            "intent", "note", None,
            "an edit of lab.toml by bob did not reach it: its command was killed, or could not write it",
            "bmhctl doctor --fix discards it; repeat the edit if it is still wanted",
        ),
    ]  # fmt: skip
    assert diagnosis.error is None
    assert all(each.fixed for each in at(toml_fleet, fix=True).findings)
    assert (at(toml_fleet).findings, draft.exists()) == ((), False)


def test_the_record_of_an_edit_that_is_not_yet_synced_is_kept(toml_fleet: Lab) -> None:
    from hashlib import sha256

    text = toml_fleet.path.read_text().replace("[hosts.node2]", "[hosts.renamed]")
    intent = {
        "sha256": sha256(text.encode()).hexdigest(),
        "actor": "bob",
        "renames": [["node2", "renamed"]],
        "removals": [],
        "newcomers": [],
        "reason": None,
    }
    unchecked(toml_fleet, f"INSERT INTO meta (key, value) VALUES ('intent', '{json.dumps(intent)}')")
    toml_fleet.path.write_text(text)
    assert kinds(at(toml_fleet, fix=True)) == [("declaration", "note", False)]
    queries.list_hosts(toml_fleet.context(), Choice(everything=True))
    assert toml_fleet.context().store.hosts.named("renamed") is not None
    assert at(toml_fleet).findings == ()


# tests: the database itself


GARBAGE = {"a page": (0, 4096, b"\xa5"), "its pointers": (8, 16, b"\x00"), "its cells": (3000, 1080, b"\xa5")}


@pytest.mark.parametrize("where", GARBAGE)
def test_a_damaged_page_anywhere_is_reported_as_damage_and_nothing_is_written(where: str, fleet: Lab) -> None:
    fleet.close()
    database = database_of(fleet)
    whole = database.read_bytes()
    start, length, value = GARBAGE[where]
    told: list[str] = []
    for page in range(4096, len(whole), 4096):
        torn = whole[: page + start] + value * length + whole[page + start + length :]
        database.write_bytes(torn)
        diagnosis = at(fleet, fix=True)
        if diagnosis.findings:  # the damage may have hit empty space
            assert {each.kind for each in diagnosis.findings} == {"damage"}
            assert not any(each.fixable or "\n" in each.message for each in diagnosis.findings)
            assert all("backup" in each.remedy for each in diagnosis.findings)
            told += [each.message for each in diagnosis.findings]
        assert (diagnosis.backup, database.read_bytes()) == (None, torn)
    assert len(told) > len(whole) / 4096 / 3
    assert where == "a page" or any(re.match("(On tree|Tree)", message) for message in told)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: no inventory"),
        (b"hello" * 100, "is not a SQLite file"),
        (b"SQLite format 3\x00" + b"\x00" * 200, "is a SQLite file of another program"),
    ],
)
def test_a_file_that_is_not_an_inventory_is_a_finding_with_a_remedy(content: bytes, words: str, fleet: Lab) -> None:
    database = database_of(fleet)
    fleet.close()
    database.unlink()
    database.write_bytes(content)
    [told] = at(fleet, fix=True).findings
    assert (told.kind, told.message) == ("damage", f"{database} {words}")
    assert told.remedy
    assert database.read_bytes() == content


def test_a_file_that_was_written_from_a_dump_is_an_inventory_as_before(fleet: Lab) -> None:
    database, before = database_of(fleet), everything(fleet)
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())
    fleet.close()
    database.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    assert at(fleet).findings == ()
    assert everything(fleet) == before


def test_a_torn_file_is_a_finding(fleet: Lab) -> None:
    database = database_of(fleet)
    fleet.close()
    database.write_bytes(database.read_bytes()[:5000])
    assert {each.kind for each in at(fleet, fix=True).findings} == {"damage"}


def test_a_table_that_is_gone_is_a_finding(fleet: Lab) -> None:
    unchecked(fleet, "DROP TABLE departed")
    [told] = at(fleet, fix=True).findings
    assert (told.kind, told.message) == ("damage", f"{database_of(fleet)} is damaged (no such table: departed)")


def test_text_that_is_not_utf8_is_a_finding(fleet: Lab) -> None:
    unchecked(fleet, "UPDATE hosts SET note = CAST(x'ff41' AS TEXT) WHERE name = 'node1'")
    assert [(each.kind, each.severity.value) for each in at(fleet).findings] == [("damage", "broken")]


def test_a_broken_index_is_rebuilt_from_its_rows(fleet: Lab) -> None:
    fleet.close()
    with sqlite3.connect(database_of(fleet)) as connection:
        [(sql,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'hosts_mac'")
        connection.execute("PRAGMA writable_schema = ON")
        other = sql.replace("ON hosts (mac)", "ON hosts (note)").replace("mac IS", "note IS")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'hosts_mac'", [other])
    connection.close()
    with sqlite3.connect(database_of(fleet)) as connection:
        connection.execute("REINDEX hosts_mac")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'hosts_mac'", [sql])
    connection.close()
    unchecked(fleet, "UPDATE hosts SET last_event = 1 WHERE name = 'node4'")

    assert {(each.kind, each.fixable) for each in at(fleet).findings} == {("damage", True)}
    fixed = at(fleet, fix=True)
    assert {(each.kind, each.fixed) for each in fixed.findings} == {("damage", True), ("history", True)}
    assert fixed.counts["hosts"] == 6
    assert at(fleet, fix=True).findings == ()
    assert fleet.context().store.declared.having(macs=["52:54:00:00:00:02"])


def test_a_missing_inventory_is_an_error_and_not_a_finding(tmp_path: Path) -> None:
    for name in ("lab.toml", "lab.db"):
        with pytest.raises(UnreachableError, match="there is no inventory at"):
            at(Lab(tmp_path / name))


def test_an_inventory_of_a_newer_version_is_not_changed(fleet: Lab) -> None:
    unchecked(fleet, "PRAGMA user_version = 99")
    [told] = at(fleet, fix=True).findings
    assert told.message.startswith(f"{database_of(fleet)} was written by a newer bmhctl")
    assert told.remedy == "update bmhctl on this machine"


# tests: who may write what


def mode(path: Path, bits: int) -> Callable[[Lab], Path]:
    def change(lab: Lab) -> Path:
        place = lab.path.parent / path
        place.chmod(bits)
        return place

    return change


def test_files_that_every_user_may_write_are_a_finding_but_not_a_folder_like_tmp(fleet: Lab) -> None:
    folder = fleet.path.parent
    claims = database_of(fleet).with_name(database_of(fleet).name + ".claims")
    claims.mkdir()
    places = [fleet.path, claims, folder] if not fleet.is_toml else [fleet.path, database_of(fleet), claims, folder]
    for place in places:
        place.chmod(0o777)
    diagnosis = at(fleet, fix=True)
    assert found(diagnosis) == [
        (
            "access", "broken", None,
            f"every user may write {place}, and so choose the commands that ready and recycle run",
            f"chmod o-w {place}",
        )
        for place in places
    ]  # fmt: skip
    for place in places[:-1]:
        place.chmod(0o755)
    folder.chmod(0o1777)
    assert at(fleet).findings == ()
    folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_state_file_that_writers_of_the_toml_file_cannot_write_is_a_finding(toml_fleet: Lab) -> None:
    state, path = database_of(toml_fleet), toml_fleet.path
    toml_fleet.close()
    os.chown(path, 54321, 4321)
    path.chmod(0o664)
    assert found(at(toml_fleet)) == [
        (
            "access", "warning", None,
            "the group 4321 may write lab.toml, but not lab.state.db: commands of its members fail",
            f"chgrp 4321 {state}; chmod g+rw {state}",
        ),
        (
            "access", "warning", None,
            "lab.state.db belongs to root, and lab.toml to 54321, who may not write lab.state.db",
            f"chown 54321 {state}",
        ),
    ]  # fmt: skip
    os.chown(state, 54321, 4321)
    state.chmod(0o660)
    assert at(toml_fleet).findings == ()


UNPRIVILEGED = """
import os, sys
from bmhctl.cli.main import run
warm, mine = sys.argv[1:]
args = ["doctor", "-o", "csv", "--fields", "kind,severity,message"]
assert run(["-i", warm, *args]) == 0  # what it needs is loaded now: this user may read no library
os.setgroups([]), os.setgid(12345), os.setuid(12345)
sys.exit(run(["-i", mine, *args]))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; another run of pytest may close pytest's own folder of temporary ones."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_who_may_not_read_or_write_the_inventory_gets_a_finding(
    fleet: Lab, tmp_path_factory: pytest.TempPathFactory, open_folder: Path
) -> None:
    warm = tmp_path_factory.mktemp("warm") / fleet.path.name
    inventories.init(str(warm))
    fleet.close()
    fleet = Lab(fleet.path.parent.rename(open_folder / "lab") / fleet.path.name)
    fleet.path.parent.chmod(0o755)
    database = database_of(fleet)

    def told() -> tuple[int, list[str]]:
        command = [sys.executable, "-c", UNPRIVILEGED, str(warm), str(fleet.path)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.rpartition("kind,severity,message\n")[2].splitlines()

    folder = database.parent
    may_not = [f"access,warning,you may not write {place}: commands fail" for place in (database, folder)]
    cannot = f"access,broken,{database} can't be written: it is read-only for this user"
    assert told() == (10, [cannot, *may_not])

    database.chmod(0o600)
    assert told() == (10, [f"access,broken,can't read {database}: Permission denied", *may_not])


# tests: what killed commands left


def test_tickets_and_claims_of_running_processes_are_not_findings(fleet: Lab) -> None:
    seen: list[Diagnosis] = []

    def pause(_: float, wakes: int | None) -> None:
        seen.append(examined(Lab(fleet.path, fleet.clock), fix=True))
        raise KeyboardInterrupt

    with fleet.context().store.claims.claim("host-1"), pytest.raises(KeyboardInterrupt):
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node3",)), waiting.WaitOptions(pause))
    assert [each.findings for each in seen] == [()]


def test_a_claim_of_an_ended_process_is_reported_with_its_holder_and_removed(fleet: Lab) -> None:
    claims = database_of(fleet).with_name(database_of(fleet).name + ".claims")
    claims.mkdir()
    held_by = {
        "host-1": " of a step of node1",
        "host-99": " of a step of a removed host",
        "host-99999999999999999999": "",
        "other": "",
        "run-r-99": " of a run under reservation r-99",
        "ticket-9": " of a wait for hosts",
    }
    for name in held_by:
        (claims / name).touch()
    assert [each[:4] for each in found(at(fleet))] == [
        ("claim", "note", None, f"the claim {name}{holder} is left over: the process that held it was killed")
        for name, holder in held_by.items()
    ]
    assert all(each.fixed for each in at(fleet, fix=True).findings)
    assert not claims.exists()


def test_files_of_interrupted_commands_are_removed_but_not_a_copy_in_progress(fleet: Lab) -> None:
    folder, name = fleet.path.parent, database_of(fleet).name
    left = [folder / f".{name}.ab_cd123.partial{suffix}" for suffix in ("", "-wal")]
    others = [folder / f".{name}.copy.db.ab_cd123.partial", folder / f".{name}.ab_cd123.partial.mine"]
    for path in (*left, *others):
        path.touch()
    assert [each[3] for each in found(at(fleet))] == [f"{path} was left by a command that was killed" for path in left]
    assert all(each.fixed for each in at(fleet, fix=True).findings)
    assert [path.exists() for path in (*left, *others)] == [False, False, True, True]


# tests: the backup


def test_the_backup_is_the_inventory_as_it_was_with_the_same_permissions(fleet: Lab) -> None:
    database = database_of(fleet)
    database.chmod(0o600)
    unchecked(fleet, "DELETE FROM facts")
    before = everything(fleet)
    first = at(fleet, fix=True).backup
    unchecked(fleet, "DELETE FROM facts")
    second = at(fleet, fix=True).backup

    assert first is not None
    assert second is not None
    stem = f"{database}.before-doctor-20260101T120000Z"
    assert (first, second) == (f"{stem}.db", f"{stem}-2.db")
    assert Path(first).stat().st_mode & 0o777 == 0o600
    kept = Lab(Path(first), fleet.clock)
    assert everything(kept) == before
    step_verbs.ready(kept.context(), Choice(("node1",)))
    kept.close()
    assert not list(fleet.path.parent.glob(".*"))


def test_nothing_is_fixed_without_room_for_a_backup(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bmhctl.stores.sqlite.upkeep import SqliteUpkeep

    unchecked(fleet, "DELETE FROM facts")
    before = everything(fleet)

    def full(_: SqliteUpkeep, partial: Path) -> bool:
        raise UnreachableError(f"the disk of {partial} is full")

    monkeypatch.setattr(SqliteUpkeep, "copy_file_to", full)
    with pytest.raises(UnreachableError, match="is full"):
        at(fleet, fix=True)
    assert everything(fleet) == before
    assert not list(fleet.path.parent.glob(".*"))


def test_a_missing_toml_file_is_reported_with_the_command_that_restores_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab.toml")
    inventories.init(lab.location)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    lab.close()
    lab.path.unlink()
    way_back = f"bmhctl copy {tmp_path / 'lab.state.db'} NEW.toml makes an inventory of it"
    looking = partial(queries.list_hosts, lab.context(), Choice(everything=True))
    for ask in (looking, partial(inventories.init, lab.location)):
        with pytest.raises((UnreachableError, StateRefusedError)) as refused:
            ask()
        assert refused.value.hint == f"the state file is still there: {way_back}"
