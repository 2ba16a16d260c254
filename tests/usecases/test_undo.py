"""The last change of declarations is undone, on every backend, unless something happened since."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from bmhctl.domain.host_spec import dump_spec
from bmhctl.domain.model import NO_LONGER_WHEN_FREE, WHEN_FREE, EventKind, State, Verb
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import BusyError, NotFoundError, StateRefusedError, UsageError
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs, policy, queries, undo
from bmhctl.usecases.doctor.doctor import doctor
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.reservations.bookings import book
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.statistics import statistics
from bmhctl.usecases.steps import resume, step_verbs
from bmhctl.usecases.steps.retire import retire
from tests.conftest import Lab, copied
from tests.formats.texts import read_inventory

ALL = Choice(everything=True)
LABELLED = AttributeChanges(labels={"rack": "r1"}, note="left")

TEXT = """# the lab
[defaults]
ttl = "2h"

[hosts.node2]  # the old one
note = "spare"
labels = { rack = "r0" } # moved twice
mac = "bc:55:85:92:de:02"

# node1 is the new one
[hosts.node1]
address = "10.0.0.1"
bmc = { address = "redfish+https://10.1.0.1/redfish/v1/Systems/1", credentials = "env:BMC" }
hardware = { cpus = 64 }
"""


@pytest.fixture
@copied
def small(lab: Lab) -> Lab:
    """Three hosts: one available, one tainted, one initial and cordoned."""
    if lab.is_toml:
        lab.path.write_text(TEXT)
    else:
        hosts.import_hosts(lab.context(), read_inventory(TEXT, "lab.toml", lab.clock()), with_policy=True)
    hosts.add(lab.context(), ["node3"], AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node1", "node2")))
    reserve.reserve_or_wait(lab.context(), reservation_request(("node2",)))
    lifecycle_verbs.release(lab.context(), Choice(("node2",)))
    lifecycle_verbs.cordon(lab.context(), Choice(("node3",)), reason="audit")
    lab.clock.move(seconds=1)
    return lab


def content(lab: Lab) -> list[str]:
    """Return the hosts as in an export, their cordons, and the policy."""
    ctx = lab.context()
    found = [
        repr(
            (
                dump_spec(host.spec),
                host.name,
                host.state,
                host.dirty,
                host.cordon,
                host.maintenance,
                host.fault,
                host.undeclared,
            )
        )
        for host in queries.list_hosts(ctx, ALL).hosts
    ]
    lab_policy = ctx.store.meta.policy_text()
    lab.close()
    return [*found, str(lab_policy)]


IMPORTED = """
[hosts.node1]
labels = { rack = "r7" }
[hosts.node8]
[hosts.node8.lifecycle]
state = "tainted"
dirty = true
since = 2026-01-01T00:00:00Z
[hosts.node9]
note = "new"
"""


CHANGES: dict[str, Callable[[Lab, Context], object]] = {
    "add": lambda _, ctx: hosts.add(ctx, ["node[4-6]"], LABELLED),
    "set": lambda _, ctx: hosts.set_attributes(ctx, Choice(("node1", "node2")), LABELLED),
    "set another bmc": lambda _, ctx: hosts.set_attributes(
        ctx, Choice(("node1",)), AttributeChanges(bmc="redfish+https://10.1.0.2/redfish/v1/Systems/1")
    ),
    "rename": lambda _, ctx: hosts.rename(ctx, "node2", "node7"),
    "remove": lambda _, ctx: hosts.remove(ctx, Choice(("node1", "node3"))),
    "remove a dirty one": lambda _, ctx: hosts.remove(ctx, Choice(("node2",)), force=True, reason="sold"),
    "cordon": lambda _, ctx: lifecycle_verbs.cordon(ctx, Choice(("node1", "node3")), reason="power"),
    "uncordon": lambda _, ctx: lifecycle_verbs.uncordon(ctx, Choice(("node3",))),
    "import": lambda lab, ctx: hosts.import_hosts(ctx, read_inventory(IMPORTED, "more.toml", lab.clock())),
    "policy apply": lambda lab, ctx: (
        hosts.set_attributes(ctx, Choice(("node1",)), LABELLED)
        if lab.is_toml
        else policy.apply_policy(ctx, '[defaults]\nttl = "3h"\n', "policy.toml")
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_undo_restores_the_inventory_and_a_second_undo_repeats_the_change(name: str, small: Lab) -> None:
    before = content(small)
    CHANGES[name](small, small.context("bob"))
    after = content(small)
    assert after != before

    small.clock.move(minutes=5)
    planned = undo.undo(replace(small.context(), dry_run=True))
    assert content(small) == after, "a dry run changes nothing"
    done = undo.undo(small.context())
    assert content(small) == before
    assert [item.host for item in planned.items] == [item.host for item in done.items]
    assert "by bob, 5m ago" in done.notes[0]

    undo.undo(small.context())
    assert content(small) == after
    undo.undo(small.context())
    assert content(small) == before


def test_a_removed_host_that_comes_back_by_undo_is_the_same_host(small: Lab) -> None:
    since = small.clock() - timedelta(hours=1)
    [before] = queries.list_hosts(small.context(), Choice(("node1",))).hosts
    hosts.remove(small.context("bob"), Choice(("node1",)))
    small.clock.move(minutes=5)
    undo.undo(small.context())
    [after] = queries.list_hosts(small.context(), Choice(("node1",))).hosts
    assert after.id == before.id
    verbs = [event.verb for event in queries.history(small.context(), "node1").events]
    assert verbs == ["enter", "ready", "remove", "enter"]
    by_host = statistics(small.context(), since, by="host")
    assert [each.name for each in by_host.groups] == ["node1", "node2", "node3"]
    assert by_host.total.hosts == 3
    assert doctor(small.context()).findings == ()


def test_a_removed_host_that_comes_back_by_undo_is_still_booked(small: Lab) -> None:
    starts, request = small.clock() + timedelta(hours=2), reservation_request(("node1",))
    book(small.context("alice"), request, starts, starts + timedelta(hours=1))
    later = starts + timedelta(days=1)
    plan_maintenance(small.context(), Choice(("node1",)), later, later + timedelta(hours=1), reason="fan")
    [before] = queries.list_hosts(small.context(), Choice(("node1",))).hosts
    hosts.remove(small.context(), Choice(("node1",)))
    undo.undo(small.context())
    [after] = queries.list_hosts(small.context(), Choice(("node1",))).hosts
    assert after.planned == before.planned
    assert doctor(small.context()).findings == ()
    with pytest.raises(BusyError, match="is booked by alice"):
        book(small.context("bob"), request, starts, starts + timedelta(hours=1))


@pytest.mark.parametrize("seed", range(2))
def test_any_changes_are_undone_one_after_the_other(seed: int, small: Lab) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        small.clock.move(seconds=1)
        before = content(small)
        with suppress(StateRefusedError, UsageError):  # for example a name that another host has in the meantime
            dice.choice(list(CHANGES.values()))(small, small.context())
        if content(small) != before and dice.random() < 0.6:
            small.clock.move(seconds=1)
            undo.undo(small.context())
            assert content(small) == before


def test_undo_keeps_comments_and_order_of_the_toml_file(small: Lab) -> None:
    if not small.is_toml:
        return
    hosts.set_attributes(small.context(), Choice(("node1", "node2")), AttributeChanges(labels={"rack": "r9"}))
    undo.undo(small.context())
    after = small.path.read_text()
    for line in ("# the lab", "[hosts.node2]  # the old one", "# node1 is the new one"):
        assert line in after
    assert after.index("hosts.node2") < after.index("hosts.node1") < after.index("hosts.node3")
    assert 'rack = "r0"' in after


def test_undo_of_new_hosts_is_refused_with_the_name_of_a_later_change(small: Lab) -> None:
    hosts.add(small.context(), ["node[4-6]"], LABELLED)
    step_verbs.ready(small.context("carol"), Choice(("node4",)))
    small.clock.move(minutes=2)
    before = content(small)
    with pytest.raises(StateRefusedError, match="ready of node4 by carol 2m ago") as caught:
        undo.undo(small.context())
    assert caught.value.hint == "see bmhctl history node4; bmhctl undo 'node[5-6]' takes back the rest"
    assert content(small) == before
    done = undo.undo(small.context(), ["node[5-6]"])
    assert [item.host for item in done.items] == ["node5", "node6"]
    assert [host.name for host in queries.list_hosts(small.context(), ALL).hosts] == [
        "node1",
        "node2",
        "node3",
        "node4",
    ]


def test_a_changed_declaration_is_undone_although_its_hosts_were_used_since(small: Lab) -> None:
    racks = [host.spec.labels for host in queries.list_hosts(small.context(), ALL).hosts]
    hosts.set_attributes(small.context(), ALL, LABELLED)
    held = reserve.reserve_or_wait(small.context("carol"), reservation_request(("node1",))).held
    lifecycle_verbs.maintain(small.context("dave"), Choice(("node3",)), reason="fan")
    undo.undo(small.context())
    assert [host.spec.labels for host in queries.list_hosts(small.context(), ALL).hosts] == racks
    [host] = small.context().store.hosts.held_by(held.reservation.id)
    assert host.state is State.RESERVED


def test_a_cordon_stays_on_a_host_that_went_to_maintenance_since(small: Lab) -> None:
    lifecycle_verbs.cordon(small.context(), Choice(("node1", "node2")), reason="power")
    step_verbs.reset(small.context(), Choice(("node2",)))
    lifecycle_verbs.maintain(small.context(), Choice(("node1",)), reason="fan")
    with pytest.raises(StateRefusedError, match="maintain of node1"):
        undo.undo(small.context())
    assert [item.host for item in undo.undo(small.context(), ["node2"]).items] == ["node2"]


def test_undo_restores_no_maintenance_when_free_after_the_host_was_given_back(
    small: Lab,
) -> None:
    reserve.reserve_or_wait(small.context(), reservation_request(("node1",)))
    lifecycle_verbs.maintain(small.context(), Choice(("node1",)), reason="fan", when_free=True)
    lifecycle_verbs.uncordon(small.context(), Choice(("node1",)))
    small.clock.move(seconds=1)
    lifecycle_verbs.release(small.context(), Choice(("node1",)))
    with pytest.raises(StateRefusedError, match="node1 can't go to maintenance when it is free: it is tainted"):
        undo.undo(small.context())
    [host] = queries.list_hosts(small.context(), Choice(("node1",))).hosts
    assert host.cordon is None


def test_an_undo_by_event_restores_the_policy_and_an_undo_by_name_says_that_it_stays(
    small: Lab,
) -> None:
    def imported() -> str:
        small.clock.move(seconds=1)
        text = "[defaults]\nttl = '9h'\n[hosts.node8]\n[hosts.node9]\n"
        hosts.import_hosts(small.context(), read_inventory(text, "more.toml", small.clock()), with_policy=True)
        return str(small.context().store.meta.policy_text())

    if small.is_toml:  # a TOML inventory has its policy in the file
        return
    before = str(small.context().store.meta.policy_text())
    assert "9h" in imported()
    undo.undo(small.context(), event=small.context().store.events.newest())
    assert str(small.context().store.meta.policy_text()) == before
    assert "9h" in imported()
    assert "the policy of that change stays" in undo.undo(small.context(), ["node9"]).notes
    assert "9h" in str(small.context().store.meta.policy_text())


def test_names_narrow_an_undo_and_others_are_refused(small: Lab) -> None:
    hosts.set_attributes(small.context(), ALL, LABELLED)
    with pytest.raises(NotFoundError, match="is not about node9"):
        undo.undo(small.context(), ["node1", "node9"])
    undo.undo(small.context(), ["NODE[1-2]"])
    notes = {host.name: host.spec.note for host in queries.list_hosts(small.context(), ALL).hosts}
    assert notes == {"node1": None, "node2": "spare", "node3": "left"}
    undo.undo(small.context())
    assert {host.spec.note for host in queries.list_hosts(small.context(), ALL).hosts} == {"left"}


def test_an_undo_says_how_to_go_further_back(small: Lab) -> None:
    before = content(small)
    for note in ("one", "two", "three"):
        hosts.set_attributes(small.context(), Choice(("node1",)), AttributeChanges(note=note))
        small.clock.move(seconds=1)
    event: int | None = None
    for left in ("two", "one"):
        done = undo.undo(small.context(), event=event)
        event = int(done.notes[-1].split()[3])
        small.clock.move(seconds=1)
        assert done.notes[-2] == "bmhctl undo makes the change again"
        assert queries.show(small.context(), "node1").host.spec.note == left
    undo.undo(small.context(), event=event)
    assert content(small) == before


def test_an_undo_does_not_offer_to_take_back_what_cannot_be_undone(small: Lab) -> None:
    hosts.add(small.context(), ["node4"], LABELLED)
    step_verbs.ready(small.context(), Choice(("node4",)))
    small.clock.move(seconds=1)
    hosts.set_attributes(small.context(), Choice(("node1",)), LABELLED)
    small.clock.move(seconds=1)
    assert undo.undo(small.context()).notes[1:] == ("bmhctl undo makes the change again",)


def test_an_undo_does_not_offer_to_take_back_an_earlier_undo(small: Lab) -> None:
    for note in ("one", "two"):
        hosts.set_attributes(small.context(), Choice(("node1",)), AttributeChanges(note=note))
        small.clock.move(seconds=1)
        done = undo.undo(small.context())
        small.clock.move(seconds=1)
    assert done.notes[1:] == ("bmhctl undo makes the change again",)


def test_an_earlier_change_is_not_taken_back_under_a_later_one(small: Lab) -> None:
    hosts.set_attributes(small.context(), Choice(("node1", "node2")), AttributeChanges(note="one"))
    [event, *_] = [each.id for each in small.context().store.events.read() if each.verb is EventKind.SET]
    small.clock.move(seconds=1)
    hosts.set_attributes(small.context(), Choice(("node1",)), AttributeChanges(labels={"rack": "r2"}))
    before = content(small)
    with pytest.raises(StateRefusedError, match="set of node1 by alice"):
        undo.undo(small.context(), event=event)
    assert content(small) == before
    with pytest.raises(NotFoundError, match="no event 1000000 changed what is declared"):
        undo.undo(small.context(), event=1_000_000)
    undo.undo(small.context(), ["node2"], event=event)
    assert queries.show(small.context(), "node2").host.spec.note == "spare"


def test_undo_does_not_revert_an_edit_by_hand(small: Lab) -> None:
    if not small.is_toml:
        return
    small.path.write_text(small.path.read_text().replace('note = "spare"', 'note = "edited"'))
    with pytest.raises(StateRefusedError, match="by an editor, not by bmhctl"):
        undo.undo(small.context())


def test_undo_is_refused_after_a_host_was_retired(small: Lab) -> None:
    hosts.set_attributes(small.context(), Choice(("node3",)), LABELLED)
    small.clock.move(seconds=1)
    [spec] = [host.spec for host in small.context().store.hosts.find() if host.name == "node1"]
    retire(small.context(), Choice(("node1",)), reason="old")
    before = content(small)
    with pytest.raises(StateRefusedError, match="the retire of node1 by alice can't be undone"):
        undo.undo(small.context())
    assert content(small) == before
    [event] = [each for each in small.context().store.events.read() if each.verb is Verb.RETIRE]
    assert event.before is not None
    assert event.before["declared"] == {"name": "node1", **dump_spec(spec)}


def test_an_import_after_an_undo_adds_the_same_hosts_again(small: Lab) -> None:
    CHANGES["import"](small, small.context())
    after = content(small)
    undo.undo(small.context())
    small.clock.move(seconds=1)
    CHANGES["import"](small, small.context())
    assert content(small) == after


def test_an_empty_inventory_has_nothing_to_undo(lab: Lab) -> None:
    with pytest.raises(StateRefusedError, match="there is no change to undo"):
        undo.undo(lab.context())


def test_undo_of_many_hosts_asks_first(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[01-20]"], AttributeChanges())
    asked: list[str] = []
    undo.undo(replace(lab.context(), confirm=asked.append))
    assert asked == ["undo of the add of node[01-20] by alice changes 20 hosts: node[01-20]"]
    assert content(lab)[:-1] == []


def test_the_words_for_a_change_of_scattered_hosts_stay_short(lab: Lab) -> None:
    every_second = [f"node{number}" for number in range(1, 80, 2)]
    hosts.add(lab.context(), every_second, AttributeChanges())
    hosts.set_attributes(lab.context(), Choice((*every_second,)), AttributeChanges(note="spare"))
    asked: list[str] = []
    done = undo.undo(replace(lab.context(), confirm=asked.append))
    named = "node[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35]"
    words = f"the set of {named} +22 by alice"
    assert asked == [f"undo of {words} changes 40 hosts: node[{','.join(str(number) for number in range(1, 80, 2))}]"]
    assert done.notes[0] == f"took back {words}"
    assert {each.reason for each in queries.history(lab.context()).events if each.verb is EventKind.SET} == {
        "changed: note (none) → spare",
        f"undo of {words}",
    }


def test_undo_of_another_actors_change_asks_first(lab: Lab) -> None:
    hosts.add(lab.context("bob"), ["node01"], AttributeChanges())
    asked: list[str] = []
    undo.undo(replace(lab.context(), confirm=asked.append))
    assert asked == ["undo of the add of node01 by bob changes 1 host: node01"]


NOTED = AttributeChanges(note="meanwhile")

MEANWHILE: dict[str, tuple[Callable[[Lab, Context], object], str]] = {
    "add": (lambda _, ctx: hosts.set_attributes(ctx, Choice(("node5",)), NOTED), "since: set of node5 by carol"),
    "set": (lambda _, ctx: hosts.set_attributes(ctx, Choice(("node2",)), NOTED), "since: set of node2 by carol"),
    "set another bmc": (lambda _, ctx: hosts.rename(ctx, "node1", "node9"), "since: rename of node9 by carol"),
    "rename": (lambda _, ctx: hosts.rename(ctx, "node7", "node8"), "since: rename of node8 by carol"),
    "remove": (lambda _, ctx: hosts.add(ctx, ["node1"], NOTED), "is in the inventory already"),
    "import": (lambda _, ctx: hosts.remove(ctx, Choice(("node1",))), "since: remove of node1 by carol"),
    "cordon": (
        lambda _, ctx: lifecycle_verbs.uncordon(ctx, Choice(("node1",))),
        "since: uncordon of node1 by carol",
    ),
    "policy apply": (
        lambda lab, ctx: (
            hosts.set_attributes(ctx, Choice(("node1",)), NOTED)
            if lab.is_toml
            else policy.apply_policy(ctx, '[defaults]\nttl = "5h"\n', "policy.toml")
        ),
        r"since: (set of node1|policy) by carol",
    ),
}
"""For each change, another change that is made while bmhctl asks whether to undo it, and the resulting message."""


@pytest.mark.parametrize("name", MEANWHILE)
def test_a_change_that_is_made_while_an_undo_asks_is_not_taken_back(name: str, small: Lab) -> None:
    CHANGES[name](small, small.context("bob"))
    small.clock.move(seconds=1)
    meanwhile, words = MEANWHILE[name]
    left: list[list[str]] = []

    def answer(_: str) -> None:
        beside = Lab(small.path, small.clock)
        meanwhile(beside, beside.context("carol"))
        left.append(content(beside))

    with small.visit("alice") as ctx, pytest.raises(StateRefusedError, match=words):
        undo.undo(replace(ctx, confirm=answer))
    assert [content(small)] == left


def test_an_edit_by_hand_that_is_made_while_an_undo_asks_is_not_taken_back(toml_lab: Lab) -> None:
    hosts.add(toml_lab.context(), ["node1"], AttributeChanges())
    hosts.set_attributes(toml_lab.context("bob"), Choice(("node1",)), AttributeChanges(note="by bob"))

    def answer(_: str) -> None:
        text = toml_lab.path.read_text()
        toml_lab.path.write_text(text.replace("by bob", "by hand"))

    with pytest.raises(StateRefusedError, match="since: set of node1 by"):
        undo.undo(replace(toml_lab.context(), confirm=answer))
    assert "by hand" in toml_lab.path.read_text()


def test_the_undo_of_a_rename_is_recorded_as_an_undo(small: Lab) -> None:
    hosts.rename(small.context("bob"), "node2", "node7")
    done = [undo.undo(small.context(actor)) for actor in ("carl", "dave")]
    assert [each.notes[0] for each in done] == [
        "took back the rename of node7 by bob",
        "took back the undo of node2 by carl",
    ]
    assert [each.reason for each in queries.history(small.context()).events if each.verb is EventKind.RENAME] == [
        "was node2",
        "undo of the rename of node7 by bob",
        "undo of the undo of node2 by carl",
    ]


@pytest.mark.parametrize("words", [WHEN_FREE, NO_LONGER_WHEN_FREE, "undo of the set of node1"])
def test_a_typed_reason_is_not_taken_for_the_words_of_another_command(words: str, small: Lab) -> None:
    lifecycle_verbs.cordon(small.context(), Choice(("node1",)), reason=words)
    assert undo.undo(small.context()).notes[0] == "took back the cordon of node1 by alice"
    hosts.remove(small.context(), Choice(("node2",)), force=True, reason=words)
    assert undo.undo(small.context()).notes[0] == "took back the remove of node2 by alice"


def test_undo_names_the_command_that_made_a_cordon(small: Lab) -> None:
    reserve.reserve_or_wait(small.context(), reservation_request(("node1",)))
    lifecycle_verbs.maintain(small.context(), Choice(("node1",)), reason="fan", when_free=True)
    small.clock.move(seconds=1)
    resume.resume(small.context(), Choice(("node1",)))
    small.clock.move(seconds=1)
    said = []
    for _ in range(3):
        said.append(undo.undo(small.context()).notes[0])
        small.clock.move(seconds=1)
    assert said == [f"took back the {command} of node1 by alice" for command in ("resume", "undo", "undo")]


def test_undo_of_the_policy_of_another_actor_asks_first(lab: Lab) -> None:
    if lab.is_toml:  # a TOML inventory has its policy in the file
        return
    policy.apply_policy(lab.context("bob"), '[defaults]\nttl = "3h"\n', "policy.toml")
    asked: list[str] = []
    undo.undo(replace(lab.context(), confirm=asked.append))
    assert asked == ["undo of the policy by bob changes the policy"]


def test_the_history_keeps_what_was_declared_before(small: Lab) -> None:
    hosts.remove(small.context("bob"), Choice(("node1",)))
    [event] = [each for each in queries.history(small.context(), "node1").events if each.verb == "remove"]
    assert event.source is State.AVAILABLE
    assert event.before is not None
    assert json.loads(json.dumps(event.before["declared"])) == {
        "name": "node1",
        "address": "10.0.0.1",
        "bmc": {"address": "redfish+https://10.1.0.1/redfish/v1/Systems/1", "credentials": "env:BMC"},
        "hardware": {"cpus": 64},
    }
