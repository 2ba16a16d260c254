"""Copies and backups on every backend: each is complete, and none replaces what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bmhctl.domain.requirements import Requirement, dump_requirements
from bmhctl.domain.ticket import QueueVerb, Ticket
from bmhctl.errors import StateRefusedError
from bmhctl.stores import admin
from bmhctl.stores.schema import INVENTORY_KEY, TABLES
from bmhctl.stores.sqlite import files
from bmhctl.support.values import replace
from bmhctl.usecases import copies, hosts, inventories, lifecycle_verbs, policy
from bmhctl.usecases.reservations.fairness import note_ticket
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import SUFFIX, Lab
from tests.usecases.test_hosts import specs, states, use

NODE = dump_requirements((Requirement(count=1),))
POLICY = '[defaults]\nttl = "2h"\n'


@pytest.fixture
def made(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """An inventory on a server, as `init` creates it."""
    made = Lab(tmp_path / f"made-{SUFFIX['postgres']}", clock=lab.clock)
    inventories.init(made.location)
    yield made
    made.remove()


def rows(lab: Lab) -> dict[str, list[str]]:
    """Return the rows of each table, without the word that differs in each inventory."""
    store = lab.context().store
    return {table: sorted(repr(row) for row in admin.rows(store, table) if row[0] != INVENTORY_KEY) for table in TABLES}


def test_a_copy_fills_an_inventory_that_was_never_used(lab: Lab, made: Lab, tmp_path: Path) -> None:
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node1",)))
    new = Lab(tmp_path / f"new-{SUFFIX['postgres']}", clock=lab.clock)
    copies.copy(lab.context(), new.location)

    copies.copy(lab.context(), made.location)

    assert rows(made) == rows(new)
    new.remove()


def test_no_open_command_takes_a_copy_for_its_inventory(lab: Lab, made: Lab) -> None:
    def identity(of: Lab) -> str | None:
        return of.context().store.meta.get(INVENTORY_KEY)

    unused = identity(made)
    copies.copy(lab.context(), made.location)
    assert len({identity(lab), unused, identity(made)}) == 3


USES: dict[str, Callable[[Context], object]] = {
    "a host": lambda ctx: hosts.add(ctx, ["node9"], hosts.AttributeChanges()),
    "a host that was removed": lambda ctx: (
        hosts.add(ctx, ["node9"], hosts.AttributeChanges()),
        hosts.remove(ctx, Choice(("node9",))),
    ),
    "a policy": lambda ctx: policy.apply_policy(ctx, POLICY, "policy.toml"),
}


@pytest.mark.parametrize("use", USES)
def test_a_copy_leaves_an_inventory_alone_in_which_something_was_recorded(lab: Lab, made: Lab, use: str) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    USES[use](made.context())
    before = rows(made)

    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        copies.copy(lab.context(), made.location)

    assert rows(made) == before


def test_a_copy_leaves_an_unused_inventory_alone_that_was_retired(lab: Lab, made: Lab, tmp_path: Path) -> None:
    copies.copy(made.context(), str(tmp_path / "successor.db"), retire_source=True)

    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        copies.copy(lab.context(), made.location)

    assert made.context().store.meta.successor() == str(tmp_path / "successor.db")


def test_init_refuses_an_inventory_that_was_never_used(made: Lab) -> None:
    with pytest.raises(StateRefusedError, match="already: nothing was changed"):
        inventories.init(made.location)


@pytest.mark.parametrize("kind", list(SUFFIX))
def test_a_copy_in_any_backend_has_every_host_state_reservation_event_and_the_policy(
    lab: Lab, tmp_path: Path, kind: str
) -> None:
    lab.policy('[defaults]\nttl = "2h"\n[checks.ping]\ncommand = ["true"]\n')
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges(labels={"rack": "r1"}, hardware={"cpus": 4}))
    use(lab, "node1", "node2")
    lifecycle_verbs.taint(lab.context(), Choice(("node2",)), fault="fan")
    lifecycle_verbs.maintain(
        lab.context("bob"), Choice(("node3",)), reason="disk", until=lab.clock() + timedelta(days=1)
    )
    lifecycle_verbs.cordon(lab.context("bob"), Choice(("node4",)), reason="audit")
    hosts.remove(lab.context("bob"), Choice(("node4",)))
    with lab.context().store.transaction():
        left = lab.context().store.tickets.add(Ticket("bob", NODE, lab.clock(), lab.clock()))
        note_ticket(lab.context(), left, QueueVerb.LEFT)
        lab.context().store.tickets.remove(left.id)
    destination = tmp_path / f"copy-{SUFFIX[kind]}"

    copied = Lab(destination, clock=lab.clock)

    copies.copy(lab.context(), copied.location)

    try:
        assert specs(copied) == specs(lab)
        ours, theirs = lab.context().store, copied.context().store
        for table in ("hosts", "reservations", "events", "facts", "departed"):
            assert sorted(map(repr, admin.rows(theirs, table))) == sorted(map(repr, admin.rows(ours, table)))
        assert copied.context().store.policy() == lab.context().store.policy()
        hosts.add(copied.context(), ["node9"], hosts.AttributeChanges())
        new = theirs.hosts.named("node9")
        assert new is not None
        assert [str(e.verb) for e in theirs.events.read(new)] == ["enter"], "an id of the past is not given again"
        with theirs.transaction():
            assert theirs.tickets.add(Ticket("bob", NODE, lab.clock(), lab.clock())).id > left.id
    finally:
        copied.close()


def test_a_copy_never_replaces_an_existing_inventory(lab: Lab, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    there.write_bytes(b"precious")

    with pytest.raises(StateRefusedError):
        copies.copy(lab.context(), str(there))
    assert there.read_bytes() == b"precious"
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("act", [copies.copy, copies.backup])
def test_a_copy_never_replaces_a_file_that_appears_meanwhile(
    act: Callable[[Context, str], object], lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there.db"
    monkeypatch.setattr(files, "_settle", lambda _: there.write_bytes(b"precious"))

    with pytest.raises(StateRefusedError, match=f"there is {there} already: nothing was copied"):
        act(lab.context(), str(there))
    assert there.read_bytes() == b"precious"


def test_a_backup_taken_while_others_write_restores_the_whole_inventory_into_any_backend(
    lab: Lab, tmp_path: Path
) -> None:
    lab.policy('[checks.ping]\ncommand = ["echo", "BMH_PROPERTY firmware=2"]\nproperties = ["firmware"]\n')
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    use(lab, "node1", "node2")
    writer = lab.context("writer")

    copies.backup(lab.context(), str(tmp_path / "backup.db"))
    lifecycle_verbs.cordon(writer, Choice(("node1",)))

    backup = Lab(tmp_path / "backup.db", clock=lab.clock)
    for number, suffix in enumerate(SUFFIX.values()):
        restored = Lab(tmp_path / f"restored{number}-{suffix}", clock=lab.clock)
        copies.copy(backup.context(), restored.location)
        assert states(restored) == {
            "node1": "reserved",
            "node2": "reserved",
            "node3": "initial",
            "node4": "initial",
        }
        ours, theirs = lab.context().store, restored.context().store
        assert list(theirs.events.read()) == list(ours.events.read())[:-1], "what came after the backup is not in it"
        assert restored.context().store.policy() == lab.context().store.policy()
        if restored.is_toml and lab.is_toml:
            assert restored.path.read_bytes() == lab.path.read_bytes(), "comments and all"
        restored.remove()
    backup.close()


def test_a_backup_that_was_changed_is_restored_with_its_changes(toml_lab: Lab, tmp_path: Path) -> None:
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges())
    copies.backup(toml_lab.context(), str(tmp_path / "backup.db"))
    backup = Lab(tmp_path / "backup.db", clock=toml_lab.clock)
    hosts.add(backup.context(), ["node2"], hosts.AttributeChanges())

    copies.copy(backup.context(), str(tmp_path / "restored.toml"))

    assert states(Lab(tmp_path / "restored.toml")) == {"node1": "initial", "node2": "initial"}
    backup.close()


@pytest.mark.parametrize("kind", list(SUFFIX))
def test_a_copy_has_a_host_that_is_added_and_used_meanwhile_wholly_or_not_at_all(
    lab: Lab, tmp_path: Path, kind: str
) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    use(lab, "node1")
    late = Lab(lab.path, clock=lab.clock)
    coming = iter(["node2"])

    def meanwhile(what: str, _: str) -> None:
        if what == "copy events":
            for name in coming:
                hosts.add(late.context(), [name], hosts.AttributeChanges())
                use(late, name)

    copied = Lab(tmp_path / f"copy-{SUFFIX[kind]}", clock=lab.clock)
    copies.copy(replace(lab.context(), progress=meanwhile), copied.location)

    assert states(late) == {"node1": "reserved", "node2": "reserved"}
    assert states(copied) == {"node1": "reserved"}, "a used host is nowhere taken for a new one"
    late.close()
    copied.remove()
