"""The stored number of hosts in each state stays correct, whatever happens to the hosts."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from threading import Thread

import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError
from bmhctl.stores import migrations, open_store
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.migrations import MIGRATIONS
from bmhctl.stores.sqlite import database as sqlite_database
from bmhctl.stores.store import Store
from bmhctl.usecases import copies, hosts, inventories, lifecycle_verbs
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.broken_inventories import a_host_in_each_state, examined, found, unchecked
from tests.conftest import BACKENDS, SUFFIX, Lab, location


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in its own folder, in which the backup of a server's inventory is written."""
    monkeypatch.chdir(tmp_path)


def counted(store: Store) -> dict[State, int]:
    """The number of hosts in each state, counted from the rows."""
    return dict.fromkeys(State, 0) | Counter(host.state for host in store.hosts.find(HostQuery()))


def leaves(store: Store, name: str) -> None:
    """Removes a host in a transaction that fails in the end."""
    host = store.hosts.named(name)
    assert host is not None
    before = store.hosts.counts()

    def leave() -> None:
        with store.transaction():
            store.declared.remove(host, next(store.events.read(host, last=1)))
            assert store.hosts.counts() == before | {host.state: before[host.state] - 1}
            raise LookupError

    with pytest.raises(LookupError):
        leave()


def test_adding_moving_and_removing_hosts_updates_the_counts(lab: Lab) -> None:
    store = lab.context().store
    assert store.hosts.counts() == dict.fromkeys(State, 0)
    a_host_in_each_state(lab)
    store = lab.context().store
    assert store.hosts.counts() == counted(store) == dict.fromkeys(State, 1) | {State.MAINTENANCE: 2}
    lifecycle_verbs.cordon(lab.context(), Choice(("node2",)))
    hosts.rename(lab.context(), "node1", "other")
    hosts.remove(lab.context(), Choice(("node4",)), force=True, reason="scrapped")
    assert store.hosts.counts() == counted(store) == dict.fromkeys(State, 1) | {State.TAINTED: 0, State.MAINTENANCE: 2}


def test_a_change_that_is_rolled_back_is_not_counted(lab: Lab) -> None:
    a_host_in_each_state(lab)
    store = lab.context().store
    before = store.hosts.counts()
    done = lifecycle_verbs.taint(lab.context("bob"), Choice(("node3", "node2")))
    assert [item.error is None for item in done.items] == [True, False]
    leaves(store, "node1")
    assert store.hosts.counts() == counted(store) == before | {State.RESERVED: 0, State.TAINTED: 2}


@pytest.mark.parametrize("count", [24, 25, 50, 60])
def test_many_hosts_added_at_once_are_all_stored_and_counted(lab: Lab, count: int, tmp_path: Path) -> None:
    labels = {f"key{number}": f"{number}" for number in range(40)}
    hosts.add(lab.context(), (f"n[01-{count}]",), hosts.AttributeChanges(labels=labels))
    names = [f"n{number:02}" for number in range(1, count + 1)]
    with pytest.raises(BmhctlError, match="is in the inventory already"):
        hosts.add(lab.context(), (f"m[01-{count}]", "n03"), hosts.AttributeChanges())
    other = Lab(tmp_path / "copy.db")
    copies.copy(lab.context(), other.location)
    for store in (lab.context().store, other.context().store):
        assert list(store.hosts.names()) == names
        assert store.hosts.counts() == counted(store) == dict.fromkeys(State, 0) | {State.INITIAL: count}
        for key, value in labels.items():
            assert store.hosts.count(HostQuery(selector=parse_selector(f"{key}={value}"))) == count
    other.remove()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_hosts_of_a_copy_are_counted(lab: Lab, backend: str, tmp_path: Path) -> None:
    a_host_in_each_state(lab)
    before = lab.context().store.hosts.counts()
    folder = tmp_path / "copy"
    folder.mkdir()
    other = Lab(folder / SUFFIX[backend])
    copies.copy(lab.context(), location(other.path))
    store = other.context().store
    assert store.hosts.counts() == counted(store) == before
    other.remove()


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_table_statistics_are_current_after_a_copy_to_a_server(lab: Lab, tmp_path: Path) -> None:
    a_host_in_each_state(lab)
    other = Lab(tmp_path / "copy.schema")
    copies.copy(lab.context(), other.location)
    rows = other.context().store.database.execute("SELECT reltuples FROM pg_class WHERE oid = 'hosts'::regclass")
    assert [row[0] for row in rows] == [6]  # -1 means no statistics: the server then plans for an empty table
    other.remove()


def test_the_hosts_of_a_restored_backup_are_counted(lab: Lab, tmp_path: Path) -> None:
    a_host_in_each_state(lab)
    copies.backup(lab.context(), str(tmp_path / "backup.db"))
    store = Lab(tmp_path / "backup.db").context().store
    assert store.hosts.counts() == counted(store) == lab.context().store.hosts.counts()
    store.close()


def test_the_migration_of_an_older_inventory_counts_its_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [migration.name for migration in MIGRATIONS]
    older = MIGRATIONS[: names.index("counts")]
    with monkeypatch.context() as before:
        before.setattr(migrations, "MIGRATIONS", older)
        before.setattr(sqlite_database, "VERSION", len(older))
        inventories.init(str(tmp_path / "lab.db"))
    raw = sqlite3.connect(tmp_path / "lab.db")
    raw.execute(
        "INSERT INTO hosts (name, state, since, dirty, undeclared, failed_cleanups, last_event, labels, hardware)"
        " VALUES ('node1', 'tainted', 0, 1, 0, 0, 0, '{}', '{}')"
    )
    raw.commit()
    raw.close()
    store = open_store(str(tmp_path / "lab.db"))
    assert store.hosts.counts() == dict.fromkeys(State, 0) | {State.TAINTED: 1}
    store.close()


def test_a_wrong_count_is_reported_and_fixed(lab: Lab) -> None:
    a_host_in_each_state(lab)
    unchecked(
        lab, "INSERT INTO counts (state, number) VALUES ('available', 2)", "DELETE FROM counts WHERE state = 'tainted'"
    )
    fix = "bmhctl doctor --fix counts them again"
    assert [each for each in found(examined(lab)) if each[0] == "counts"] == [
        ("counts", "broken", None, "hosts counted as available: 3; hosts stored as available: 1", fix),
        ("counts", "broken", None, "hosts counted as tainted: 0; hosts stored as tainted: 1", fix),
    ]
    assert [each.kind for each in examined(lab, fix=True).findings if each.fixed] == ["counts", "counts"]
    store = lab.context().store
    assert store.hosts.counts() == counted(store)
    lifecycle_verbs.taint(lab.context("bob"), Choice(("node3",)))
    assert store.hosts.counts() == counted(store)


@pytest.mark.parametrize("lab", ["postgres"], indirect=True)
def test_the_count_rows_of_a_server_are_summed_up_while_others_move_hosts(lab: Lab) -> None:
    hosts.add(lab.context(), [f"node{number:02}" for number in range(1, 13)], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    database = lab.context().store.database
    list(database.execute("ALTER TABLE counts ALTER COLUMN id RESTART WITH 9960"))
    failed: list[BmhctlError] = []

    def turns() -> None:
        own = Lab(lab.path, lab.clock)
        for _ in range(3):
            try:
                taken = reserve.reserve_or_wait(own.context(), reservation_request(count=2)).held
                lifecycle_verbs.release(own.context(), Choice(), reservation=taken.reservation.id)
            except BmhctlError as error:
                failed.append(error)
        own.close()

    threads = [Thread(target=turns) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store = lab.context().store
    assert store.hosts.counts() == counted(store) == dict.fromkeys(State, 0) | {State.TAINTED: 12}
    # Twelve hosts moved twice: that would be 48 rows if they were not summed up.
    assert int(database.execute("SELECT COUNT(*) FROM counts")[0][0] or 0) < 48
