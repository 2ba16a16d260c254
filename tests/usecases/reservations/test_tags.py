"""The tags of a reservation, and the time of its request, on every backend."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.results import Held
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations import holder, queue
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three hosts in two racks, all available."""
    for number, rack in enumerate(("r1", "r1", "r2"), 1):
        hosts.add(lab.context(), [f"node{number}"], hosts.AttributeChanges(labels={"rack": rack}))
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    lab.close()
    return lab


def reserve(lab: Lab, name: str, actor: str = "alice", **tags: str) -> Held:
    return reserve_or_wait(lab.context(actor), reservation_request((name,), tags=tags)).held


def found(lab: Lab, selector: str = "", owner: str | None = None) -> list[str]:
    listed = queries.reservations(lab.context(), selector=parse_selector(selector), owner=owner)
    return [host.name for held in listed.items for host in held.hosts]


def test_reservations_are_found_by_their_tags_and_owners(fleet: Lab) -> None:
    reserve(fleet, "node1", "ci-linux", job="4711", stage="build")
    reserve(fleet, "node2", "ci-kernel", job="4712")
    reserve(fleet, "node3", "alice")
    assert found(fleet, "job=4711") == ["node1"]
    assert found(fleet, "job") == ["node1", "node2"]
    assert found(fleet, "job!=4711") == ["node2", "node3"]
    assert found(fleet, "job>4711") == ["node2"]
    assert found(fleet, "rack=r1") == []  # a label of the host is not a tag
    assert found(fleet, owner="ci*") == ["node1", "node2"]
    assert found(fleet, "stage=build", "ci-k*") == []
    assert found(fleet, owner="alic?") == ["node3"]
    assert found(fleet, owner="CI*") == []
    with pytest.raises(UsageError, match="the owner is empty"):
        found(fleet, owner="")


def test_named_reservations_are_shown_open_or_ended(fleet: Lab) -> None:
    ended, held, _ = (reserve(fleet, f"node{number}").reservation.id for number in (1, 2, 3))
    lifecycle_verbs.release(fleet.context(), Choice(("node1",)))
    listed = queries.reservations(fleet.context(), [held, ended, held]).items
    assert [(each.reservation.id, each.reservation.ended_at is None, each.had) for each in listed] == [
        (held, True, ("node2",)),
        (ended, False, ("node1",)),
    ]
    with pytest.raises(NotFoundError, match="there is no reservation r-none"):
        queries.reservations(fleet.context(), [held, "r-none"])


def test_a_job_gives_back_its_own_hosts_by_their_tag(fleet: Lab) -> None:
    reserve(fleet, "node1", job="4711")
    reserve(fleet, "node2", job="4712")
    reserve(fleet, "node3", "bob", job="4711")

    def release(selector: str, **more: bool) -> dict[str, bool]:
        outcomes = lifecycle_verbs.release(fleet.context(), Choice(selector=parse_selector(selector)))
        return {item.host: item.error is None for item in outcomes.items}

    assert release("job=4711,rack=r1") == {"node1": True}
    assert release("job=4711") == {"node3": False}  # this reservation is bob's
    assert release("job=4713") == {}
    assert fleet.said == ["no host fits job=4713, by its labels or by the tags of its reservation"]
    assert found(fleet) == ["node2", "node3"]


def test_a_tag_wins_over_a_label_with_the_same_key(fleet: Lab) -> None:
    reserve(fleet, "node1", rack="other")
    released = lifecycle_verbs.release(fleet.context(), Choice(selector=parse_selector("rack=r1")))
    assert [item.host for item in released.items] == ["node2"]  # this host fits, but is not reserved
    released = lifecycle_verbs.release(fleet.context(), Choice(selector=parse_selector("rack=other")))
    assert [(item.host, item.changed) for item in released.items] == [("node1", True)]


def test_tags_are_kept_by_an_extension_and_a_handover(fleet: Lab) -> None:
    held = reserve(fleet, "node1", job="4711")
    assert dict(holder.extend(fleet.context(), held.reservation.id).held.reservation.tags) == {"job": "4711"}
    handed = holder.handover(fleet.context(), held.reservation.id, "bob").held.reservation
    assert (dict(handed.tags), handed.asked_at) == ({"job": "4711"}, None)


@pytest.mark.parametrize(
    "tags", [{"": "1"}, {"a b": "1"}, {"job": "a b"}, {"job": "x" * 64}, {f"k{number}": "" for number in range(101)}]
)
def test_tags_have_the_same_syntax_as_labels(tags: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"tag"):
        reservation_request(("node1",), tags=tags)


def test_a_reservation_records_when_it_was_requested(fleet: Lab) -> None:
    """Without a wait, that is the beginning of the reservation; after a wait, the beginning of the wait."""
    held = reserve(fleet, "node1").reservation
    assert held.asked_at is not None
    assert timedelta(0) <= held.created_at - held.asked_at < timedelta(milliseconds=1)
    began = fleet.clock.now
    pauses = 0

    def pause(_: float, __: int | None) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            [ticket] = queue.queue(fleet.context()).items
            assert dict(ticket.ticket.tags) == {"job": "1"}
            fleet.clock.move(minutes=10)
            lifecycle_verbs.release(fleet.context(), Choice(("node1",)))
            step_verbs.recycle(fleet.context(), Choice(("node1",)), jobs=1)

    asked = reservation_request(("node1",), tags={"job": "1"})
    waited = reserve_or_wait(fleet.context(), asked, WaitOptions(pause)).held.reservation
    assert waited.asked_at is not None
    assert waited.asked_at - began < timedelta(seconds=1)
    assert waited.created_at - waited.asked_at > timedelta(minutes=10)
    fresh = fleet.context().store.reservations.get(waited.id)
    assert fresh is not None
    assert (fresh.asked_at, dict(fresh.tags)) == (waited.asked_at, {"job": "1"})
