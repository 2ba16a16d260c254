"""A held host that goes to maintenance when it is given back, on every backend."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.model import EventKind, State
from bmhctl.errors import ExitStatus
from bmhctl.output.records import flags
from bmhctl.results.status import Obstacle
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs, queries, status, undo
from bmhctl.usecases.explain import why
from bmhctl.usecases.reservations import bookings, holder
from bmhctl.usecases.shared.former import Former, whole_host
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, retire, step_verbs
from tests.conftest import Lab, copied
from tests.usecases.reservations.test_bookings import at, book, reserve


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three available hosts in rack r1."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    return lab


def test_a_held_host_goes_to_maintenance_in_the_commit_that_gives_it_back(fleet: Lab) -> None:
    for name in ("node1", "node2", "node3"):
        reserve(fleet, name, ttl=timedelta(hours=1))
    lifecycle_verbs.cordon(fleet.context("dave"), Choice(("node2",)), reason="slow")
    everyone = Choice(("node1", "node2", "node3"))
    done = lifecycle_verbs.maintain(fleet.context("carl"), everyone, reason="new disk", until=at(9), when_free=True)
    assert [item.message.partition(";")[0] for item in done.items] == [
        "goes to maintenance when it is free: new disk"
    ] * 3
    again = lifecycle_verbs.maintain(fleet.context("carl"), everyone, reason="new disk", until=at(9), when_free=True)
    assert {item.changed for item in again.items} == {False}
    lifecycle_verbs.release(fleet.context("bob"), Choice(("node1",)))
    lifecycle_verbs.uncordon(fleet.context("carl"), Choice(("node3",)))
    fleet.clock.now = at(1.1)
    holder.reap_expired(fleet.context())
    seen = [queries.show(fleet.context(), name).host for name in ("node1", "node2", "node3")]
    assert [host.state for host in seen] == [State.MAINTENANCE, State.MAINTENANCE, State.TAINTED]
    assert [[(note.actor, note.reason, note.until) for note in host.maintenance] for host in seen] == [
        [("carl", "new disk", at(9))], [("carl", "new disk", at(9))], [],
    ]  # fmt: skip
    assert [host.cordon and (host.cordon.actor, host.cordon.reason) for host in seen] == [None, ("dave", "slow"), None]


def test_a_host_that_is_not_held_goes_to_maintenance_at_once(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    assert queries.show(fleet.context(), "node1").host.state is State.MAINTENANCE


def test_a_host_with_a_maintenance_when_free_is_not_reserved_again(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    assert bookings.booking(fleet.context(), made.booking.id).hosts == ("node2",)
    seen = why(fleet.context(), "node1")
    assert "being drained for maintenance by carl: new disk" in seen.facts
    assert [*flags(seen.host)] == ["draining"]
    undone = undo.undo(fleet.context("carl"))
    assert [item.message for item in undone.items] == ["uncordoned: undo of maintain --when-free by carl"]
    assert undone.notes[0] == "took back the maintain --when-free of node1 by carl"
    again = undo.undo(fleet.context("carl"))
    assert [item.message for item in again.items] == ["draining: undo of undo by carl"]


def test_resume_takes_back_a_maintenance_when_free_and_leaves_an_earlier_cordon(fleet: Lab) -> None:
    for name in ("node1", "node2"):
        reserve(fleet, name, ttl=timedelta(hours=1))
    lifecycle_verbs.cordon(fleet.context("dave"), Choice(("node2",)), reason="slow")
    both = Choice(("node1", "node2"))
    lifecycle_verbs.maintain(fleet.context("carl"), both, reason="new disk", when_free=True)

    plan = resume.resume(replace(fleet.context("carl"), dry_run=True), both)
    done = resume.resume(fleet.context("carl"), both)

    words = "no longer goes to maintenance when it is free: new disk"
    assert [(item.changed, item.message) for item in plan.items] == [(True, words)] * 2
    assert [(item.changed, item.message) for item in done.items] == [(True, words)] * 2
    seen = [queries.show(fleet.context(), name).host for name in ("node1", "node2")]
    assert [host.cordon and (host.cordon.actor, host.cordon.reason) for host in seen] == [None, ("dave", "slow")]
    undone = undo.undo(fleet.context("carl"))
    assert [item.message for item in undone.items] == ["draining: undo of resume by carl"] * 2
    undo.undo(fleet.context("carl"))
    lifecycle_verbs.release(fleet.context("bob"), both)
    assert {queries.show(fleet.context(), name).host.state for name in ("node1", "node2")} == {State.TAINTED}


def test_resume_takes_back_the_maintenance_when_free_of_another_actor_only_with_all(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)

    plan = resume.resume(replace(fleet.context("dave"), dry_run=True), Choice(("node1",)))
    refused = resume.resume(fleet.context("dave"), Choice(("node1",)))

    assert [(item.changed, item.message) for item in plan.items] == [
        (False, "goes to maintenance when it is free, for carl: new disk")
    ]
    assert [(item.message, item.error and item.error.hint) for item in refused.items] == [
        (
            "goes to maintenance when it is free, and that is not yours: carl: new disk",
            "bmhctl resume node1 --all takes it back",
        )
    ]
    assert [*flags(queries.show(fleet.context(), "node1").host)] == ["draining"]
    assert resume.resume(fleet.context("dave"), Choice(("node1",)), everyones=True).status is ExitStatus.DONE
    assert [*flags(queries.show(fleet.context(), "node1").host)] == []


def test_status_tells_a_maintenance_when_free_from_a_cordon(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    lifecycle_verbs.cordon(fleet.context("carl"), Choice(("node2",)), reason="new disk")
    assert status.status(fleet.context()).obstacles == (
        Obstacle("cordoned", "new disk", ("node1",), "draining"),
        Obstacle("cordoned", "new disk", ("node2",), "cordoned"),
    )


def test_an_export_keeps_a_maintenance_when_free(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    host = queries.show(fleet.context(), "node1").host
    assert whole_host(Former().of(host, whole=True)).cordon == host.cordon


def test_a_reserved_host_in_maintenance_gets_the_when_free_reason_when_its_lease_ends(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("dave"), Choice(("node1",)), reason="noise")
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    fleet.clock.now = at(1.1)
    holder.reap_expired(fleet.context())
    host = queries.show(fleet.context(), "node1").host
    assert (host.state, [note.reason for note in host.maintenance], host.cordon) == (
        State.MAINTENANCE, ["noise", "new disk"], None,
    )  # fmt: skip


def test_a_host_that_is_being_retired_does_not_go_to_maintenance_when_free(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    retire.retire(fleet.context("carl"), Choice(("node1",)), reason="sold", when_free=True)
    done = lifecycle_verbs.maintain(fleet.context("dave"), Choice(("node1",)), reason="new disk", when_free=True)
    assert [(item.changed, item.message) for item in done.items] == [
        (False, "is being retired by carl: no reservation is made on it")
    ]


def test_a_host_keeps_its_fault_when_it_goes_to_maintenance(fleet: Lab) -> None:
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="new disk", when_free=True)
    lifecycle_verbs.taint(fleet.context("bob"), Choice(("node1",)), fault="fan")
    seen = queries.show(fleet.context(), "node1")
    assert (seen.host.state, seen.host.fault) == (State.MAINTENANCE, "fan")
    assert [str(event.verb) for event in seen.events][-3:] == ["taint", "maintain", str(EventKind.FAULT)]
