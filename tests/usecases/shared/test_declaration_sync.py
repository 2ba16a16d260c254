"""A TOML file that users edit, and its state file: no used host becomes clean, and no state is lost."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from bmhctl.domain.model import Phase, State
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.results import Outcomes
from bmhctl.stores.toml import atomic_replace
from bmhctl.stores.toml import file as toml_file
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, inventories, lifecycle_verbs, queries, undo
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, step_verbs
from tests.conftest import Lab

LAB = """\
# the lab in the cellar
[hosts.node1]  # left
mac = "52:54:00:00:00:01"

[hosts.node2]
mac = "52:54:00:00:00:02"
"""

LABEL = hosts.AttributeChanges(labels={"rack": "r9"})


@pytest.fixture
def cellar(toml_lab: Lab) -> Lab:
    """Two hosts: node1 is reserved by alice, node2 is available."""
    toml_lab.path.write_text(LAB)
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    reserve.reserve_or_wait(toml_lab.context(), reservation_request(("node1",)))
    toml_lab.close()
    return toml_lab


def seen(lab: Lab) -> dict[str, str]:
    found = queries.list_hosts(lab.context(), Choice(everything=True)).hosts
    return {h.name: f"{h.state}{' undeclared' if h.undeclared else ''}" for h in found}


def test_no_lifecycle_verb_changes_the_toml_file(cellar: Lab) -> None:
    before = (cellar.path.read_bytes(), cellar.path.stat().st_mtime_ns, cellar.path.stat().st_ino)

    lifecycle_verbs.taint(cellar.context(), Choice(("node1",)))
    step_verbs.reset(cellar.context(), Choice(("node1",)))
    lifecycle_verbs.maintain(cellar.context(), Choice(("node2",)), reason="fan")
    resume.resume(cellar.context(), Choice(("node2",)))
    lifecycle_verbs.cordon(cellar.context(), Choice(("node2",)))

    assert (cellar.path.read_bytes(), cellar.path.stat().st_mtime_ns, cellar.path.stat().st_ino) == before


def test_an_unchanged_file_is_not_read_again(cellar: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(cellar)
    monkeypatch.setattr(toml_file, "read_file", lambda _: pytest.fail("it was read"))

    assert seen(cellar) == {"node1": "reserved", "node2": "available"}


def test_a_touched_file_is_read_once(cellar: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(cellar)
    os.utime(cellar.path)
    seen(cellar)
    monkeypatch.setattr(toml_file, "read_file", lambda _: pytest.fail("it was read again"))

    assert seen(cellar) == {"node1": "reserved", "node2": "available"}


def test_a_host_that_is_no_longer_declared_keeps_its_state_and_can_not_be_reserved(cellar: Lab) -> None:
    cellar.path.write_text("# empty\n")

    assert seen(cellar) == {"node1": "reserved undeclared", "node2": "available undeclared"}
    with pytest.raises(Exception, match="it is no longer declared"):
        reserve.reserve_or_wait(cellar.context("bob"), reservation_request(("node2",)))


def test_a_host_that_is_declared_again_keeps_its_state(cellar: Lab) -> None:
    cellar.path.write_text("# empty\n")
    seen(cellar)
    cellar.path.write_text(LAB)

    assert seen(cellar) == {"node1": "reserved", "node2": "available"}


def test_a_tainted_host_is_not_laundered_by_declaring_it_again(cellar: Lab) -> None:
    lifecycle_verbs.taint(cellar.context(), Choice(("node1",)))
    for text in ("# nothing\n", LAB.replace("00:01", "00:07"), LAB):
        cellar.path.write_text(text)
        assert seen(cellar)["node1"].startswith("tainted")


def test_a_rename_by_hand_is_refused_with_the_command_that_does_it(cellar: Lab) -> None:
    cellar.path.write_text(LAB.replace("hosts.node1]", "hosts.db1]"))

    with pytest.raises(InvalidError) as refused:
        seen(cellar)
    assert refused.value.host == "db1"
    assert "bmhctl rename node1 db1" in str(refused.value.hint)

    cellar.path.write_text(LAB)
    hosts.rename(cellar.context(), "node1", "db1")
    assert cellar.path.read_text() == LAB.replace("hosts.node1]", "hosts.db1]")
    assert seen(cellar) == {"db1": "reserved", "node2": "available"}


def test_a_broken_file_stops_commands_and_harms_nothing(cellar: Lab) -> None:
    cellar.path.write_text(LAB + "\n[hosts.node3\n")

    for act in (lambda ctx: step_verbs.ready(ctx, Choice(("node2",))), lambda ctx: queries.show(ctx, "node1")):
        with pytest.raises(InvalidError, match=r"lab\.toml:8:13: "):
            act(cellar.context())

    cellar.path.write_text(LAB)
    assert seen(cellar) == {"node1": "reserved", "node2": "available"}


def test_an_edit_while_the_store_is_open_is_synced_by_the_next_command(cellar: Lab) -> None:
    ctx = cellar.context()
    queries.list_hosts(ctx, Choice(everything=True))
    cellar.path.write_text(LAB + "\n[hosts.node3]\n")

    assert [h.name for h in queries.list_hosts(ctx, Choice(everything=True)).hosts] == ["node1", "node2", "node3"]


def test_every_host_is_initial_without_a_state_file(cellar: Lab) -> None:
    for path in cellar.path.parent.glob("lab.state.db*"):
        if path.is_file():
            path.unlink()

    assert seen(cellar) == {"node1": "initial", "node2": "initial"}


def test_a_state_file_of_another_toml_file_is_refused_until_it_is_adopted(cellar: Lab) -> None:
    other = Lab(cellar.path.with_name("other.toml"), clock=cellar.clock)
    other.path.write_text(LAB)
    shutil.copy(cellar.path.with_name("lab.state.db"), cellar.path.with_name("other.state.db"))
    before = cellar.path.with_name("other.state.db").read_bytes()

    with pytest.raises(InvalidError, match="belongs to"):
        seen(other)
    assert cellar.path.with_name("other.state.db").read_bytes() == before

    inventories.adopt(other.context())
    assert seen(other) == {"node1": "reserved", "node2": "available"}
    other.close()


def test_a_toml_file_and_its_state_file_can_be_moved_together(cellar: Lab, tmp_path: Path) -> None:
    cellar.close()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("lab.toml", "lab.state.db"):
        shutil.move(cellar.path.with_name(name), moved / name)
    lab = Lab(moved / "lab.toml", clock=cellar.clock)

    assert seen(lab) == {"node1": "reserved", "node2": "available"}
    lab.close()


def test_two_links_to_a_file_share_its_state(cellar: Lab, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(cellar.path)
    linked = Lab(link, clock=cellar.clock)

    assert seen(linked) == {"node1": "reserved", "node2": "available"}
    assert not link.with_name("link.state.db").exists()
    linked.close()


def test_an_empty_toml_file_is_refused_and_undeclares_no_host(cellar: Lab) -> None:
    cellar.path.write_bytes(b"")  # the file after a killed editor or on a full disk
    with pytest.raises(InvalidError, match="is empty: was it cut off while it was saved"):
        seen(cellar)
    cellar.path.write_text(LAB)
    assert seen(cellar) == {"node1": "reserved", "node2": "available"}
    assert "undeclare" not in [event.verb for event in cellar.context().store.events.read()]


def test_removing_the_last_host_may_empty_the_toml_file(toml_lab: Lab) -> None:
    toml_lab.path.write_text("[hosts.node1]\n")
    assert seen(toml_lab) == {"node1": "initial"}
    hosts.remove(toml_lab.context(), Choice(("node1",)))
    assert (toml_lab.path.read_bytes(), seen(toml_lab)) == (b"", {})


def test_a_missing_toml_file_is_not_treated_as_an_empty_one(cellar: Lab) -> None:
    cellar.path.unlink()

    with pytest.raises(UnreachableError, match="there is no"):
        seen(cellar)


def test_an_undeclared_host_is_removed_without_touching_the_file(cellar: Lab) -> None:
    cellar.path.write_text(LAB.replace('[hosts.node2]\nmac = "52:54:00:00:00:02"\n', ""))
    assert seen(cellar)["node2"] == "available undeclared"
    before = cellar.path.read_bytes()

    hosts.remove(cellar.context(), Choice(("node2",)))

    assert (seen(cellar), cellar.path.read_bytes()) == ({"node1": "reserved"}, before)


def test_the_policy_in_the_toml_file_is_that_of_the_inventory(cellar: Lab) -> None:
    cellar.path.write_text(LAB + '\n[defaults]\nttl = "10m"\n\n[checks.ping]\ncommand = ["true"]\n')

    ctx = cellar.context()
    seen(cellar)
    assert [step.name for step in ctx.store.policy().of(Phase.CHECKS)] == ["ping"]


def test_every_edit_by_bmhctl_keeps_comments_and_order(cellar: Lab) -> None:
    hosts.add(cellar.context(), ["node3"], hosts.AttributeChanges(labels={"rack": "r1"}))
    hosts.set_attributes(cellar.context(), Choice(("node1",)), hosts.AttributeChanges(note="left slot"))
    hosts.rename(cellar.context(), "node2", "db2")
    hosts.remove(cellar.context(), Choice(("node3",)))

    assert cellar.path.read_text() == (
        "# the lab in the cellar\n"
        "[hosts.node1]  # left\n"
        'mac = "52:54:00:00:00:01"\n'
        'note = "left slot"\n'
        "\n"
        "[hosts.db2]\n"
        'mac = "52:54:00:00:00:02"\n'
    )
    assert seen(cellar) == {"node1": str(State.RESERVED), "db2": str(State.AVAILABLE)}


def test_a_used_machine_can_not_hide_behind_the_name_of_another_host(cellar: Lab) -> None:
    without_2 = LAB.split("[hosts.node2]")[0]
    cellar.path.write_text(without_2)
    assert seen(cellar)["node2"] == "available undeclared"
    cellar.path.write_text(without_2.replace("hosts.node1]", "hosts.node2]"))

    with pytest.raises(InvalidError, match="has the MAC 52:54:00:00:00:01 of node1, which is reserved and dirty"):
        seen(cellar)
    cellar.path.write_text(LAB.replace("00:02", "00:03").replace("00:01", "00:02").replace("00:03", "00:01"))
    with pytest.raises(InvalidError, match="has the MAC 52:54:00:00:00:01 of node1"):
        seen(cellar)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_used_machine_can_not_come_back_as_a_host_that_was_not_declared(is_there: bool, cellar: Lab) -> None:
    if not is_there:
        hosts.remove(cellar.context(), Choice(("node1",)), force=True, reason="sold")
    cellar.path.write_text(cellar.path.read_text().partition("\n[hosts.node2]")[0])
    assert seen(cellar)["node2"] == "available undeclared"
    with pytest.raises(InvalidError, match="has the MAC 52:54:00:00:00:01 of"):
        hosts.add(cellar.context(), ["node2"], hosts.AttributeChanges(mac="52:54:00:00:00:01"))
    assert seen(cellar)["node2"] == "available undeclared"
    hosts.add(cellar.context(), ["node2"], hosts.AttributeChanges(mac="52:54:00:00:00:09"))
    assert seen(cellar)["node2"] == "available"


def test_a_used_machine_whose_mac_was_changed_comes_back_tainted(cellar: Lab) -> None:
    cellar.path.write_text(LAB.replace("00:01", "00:07"))
    seen(cellar)
    cellar.path.write_text(LAB.replace("00:01", "00:07") + '\n[hosts.node9]\nmac = "52:54:00:00:00:01"\n')

    assert seen(cellar) == {"node1": "reserved", "node2": "available", "node9": "tainted"}


def test_an_edit_before_the_sync_of_another_edit_keeps_its_meaning(
    cellar: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_file = atomic_replace.edit_file
    others = iter([lambda: hosts.add(cellar.context("bob"), ["new1"], hosts.AttributeChanges())])

    def overtaken(*args: object) -> bytes:
        """The file is replaced, and before the command continues, another edit is made and undone."""
        done = edit_file(*args)  # type: ignore[arg-type]  # passed on as they are
        for other in others:
            other()
        return done

    monkeypatch.setattr(atomic_replace, "edit_file", overtaken)
    hosts.rename(cellar.context(), "node1", "db1")

    assert seen(cellar) == {"db1": "reserved", "new1": "initial", "node2": "available"}


def test_two_edits_of_one_host_keep_each_others_changes(cellar: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_file = atomic_replace.edit_file
    others = iter([lambda: hosts.set_attributes(cellar.context("bob"), Choice(("node1",)), LABEL)])

    def delayed(*args: object) -> bytes:
        for other in others:
            other()
        return edit_file(*args)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(atomic_replace, "edit_file", delayed)
    hosts.set_attributes(cellar.context(), Choice(("node1",)), hosts.AttributeChanges(note="hello"))

    host = cellar.context().store.hosts.named("node1")
    assert host is not None
    assert (host.spec.note, host.spec.labels) == ("hello", {"rack": "r9"})


def test_an_undeclared_host_that_another_command_removes_between_the_edit_and_its_sync_is_removed(
    cellar: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the second removal finds no host, and every later command fails."""
    hosts.add(cellar.context(), ["node3", "node4"], hosts.AttributeChanges())
    text = cellar.path.read_text()
    cellar.path.write_text(text[: text.index("[hosts.node4]")])
    has_looked, is_replaced = threading.Event(), threading.Event()

    def bobs_command() -> None:
        with cellar.visit("bob") as bob:
            hosts.remove(bob, Choice(("node4",)))

    edit_file = atomic_replace.edit_file
    command = threading.Thread(target=bobs_command)

    def overtaken(*args: object) -> bytes:
        is_bobs = threading.current_thread() is command
        if not is_bobs:
            command.start()
            assert has_looked.wait(20)
        done = edit_file(*args)  # type: ignore[arg-type]  # passed on as they are
        (has_looked if is_bobs else is_replaced).set()
        if is_bobs:
            assert is_replaced.wait(20)
        else:
            command.join()
        return done

    monkeypatch.setattr(atomic_replace, "edit_file", overtaken)
    outcomes = hosts.remove(cellar.context(), Choice(("node3", "node4")))
    assert outcomes.status == 0
    assert seen(cellar) == {"node1": "reserved", "node2": "available"}


REMOVALS: dict[str, tuple[Callable[[Context], Outcomes], Callable[[Context], object], str]] = {
    "remove": (
        lambda ctx: hosts.remove(ctx, Choice(("node2",))),
        lambda ctx: reserve.reserve_or_wait(ctx, reservation_request(("node2",))),
        "reserved",
    ),
    "undo": (undo.undo, lambda ctx: lifecycle_verbs.maintain(ctx, Choice(("node3",)), reason="fan"), "maintenance"),
}
"""How a host is removed; a command of bob's that keeps it from being removed; and the state that the host has then."""


@pytest.mark.parametrize("how", REMOVALS)
def test_a_host_that_is_used_between_the_edit_and_its_sync_stays_undeclared(
    how: str, cellar: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the removal can neither be applied nor refused, and every later command fails."""
    remove, use, state = REMOVALS[how]
    hosts.add(cellar.context(), ["node3"], hosts.AttributeChanges())
    has_looked, is_replaced = threading.Event(), threading.Event()

    def late() -> datetime:
        """The clock of a command that looked at the file before the file was replaced."""
        has_looked.set()
        assert is_replaced.wait(20)
        return cellar.clock()

    def bobs_command() -> None:
        with cellar.visit("bob") as bob:
            use(replace(bob, clock=late))

    edit_file = atomic_replace.edit_file
    command = threading.Thread(target=bobs_command)

    def overtaken(*args: object) -> bytes:
        command.start()
        assert has_looked.wait(20)
        done = edit_file(*args)  # type: ignore[arg-type]  # passed on as they are
        is_replaced.set()
        command.join()
        return done

    monkeypatch.setattr(atomic_replace, "edit_file", overtaken)
    (outcome,) = remove(cellar.context()).items
    assert outcome.error is not None
    assert f"was not removed, because it became {state} meanwhile: it is no longer declared" in outcome.message
    assert seen(cellar)[outcome.host] == f"{state} undeclared"
