"""The history of many hosts: which events are found, in which order, and what is refused; on every backend."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.history import HistoryRequest, find_history
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

ALL = Choice(everything=True)


def found(lab: Lab, choice: Choice = ALL, **more: object) -> list[str]:
    request = HistoryRequest(choice, **more)  # type: ignore[arg-type]  # each test names its own
    return [f"{event.host} {event.verb}" for event in find_history(lab.context(), request).events]


@pytest.fixture
def began(lab: Lab) -> datetime:
    """Three hosts made ready an hour after they entered, of which ci reserves one and one leaves."""
    for number, rack in enumerate(("r1", "r1", "r2"), 1):
        hosts.add(lab.context(), [f"node{number}"], hosts.AttributeChanges(labels={"rack": rack}))
    began = lab.clock.now
    lab.clock.move(hours=1)
    step_verbs.ready(lab.context(), ALL, jobs=1)
    lab.clock.move(hours=1)
    reserve_or_wait(lab.context("ci-linux"), reservation_request(("node1",)))
    lab.clock.move(hours=1)
    hosts.remove(lab.context("olga"), Choice(("node3",)))
    return began


def test_events_are_found_by_hosts_time_actor_verb_and_reservation(lab: Lab, began: datetime) -> None:
    hour = timedelta(hours=1)
    assert found(lab, Choice(("node[1-2]",)), verbs=("ready", "reserve")) == [
        "node1 ready",
        "node2 ready",
        "node1 reserve",
    ]
    assert found(lab, Choice(("node3",))) == ["node3 enter", "node3 ready", "node3 remove"]  # it is gone
    assert found(lab, Choice(("*3", "node3"))) == ["node3 enter", "node3 ready", "node3 remove"]
    assert found(lab, Choice(selector=parse_selector("rack=r1"))).count("node2 ready") == 1
    assert "node3 enter" not in found(lab, Choice(selector=parse_selector("rack!=r3")))
    assert found(lab, since=began + hour / 2, until=began + 3 * hour / 2) == [
        "node1 ready",
        "node2 ready",
        "node3 ready",
    ]
    assert found(lab, since=began + 9 * hour) == []
    assert found(lab, actor="ci*") == ["node1 reserve"]
    assert found(lab, actor="olga") == ["node3 remove"]
    assert found(lab, actor="OLGA") == []
    held = lab.context().store.reservations.open()[0].id
    assert found(lab, reservation=held) == ["node1 reserve"]
    with pytest.raises(NotFoundError, match="there is no reservation r-00000000"):
        found(lab, reservation="r-00000000")


@pytest.mark.parametrize(
    ("names", "host"), [(("node1",), "node1"), (("node[1-2]",), None), (("node*",), None), (("node1", "node2"), None)]
)
def test_a_history_is_of_one_host_only_if_no_other_could_be_in_it(
    names: tuple[str, ...], host: str | None, lab: Lab, began: datetime
) -> None:
    assert find_history(lab.context(), HistoryRequest(Choice(names), verbs=("ready",))).host == host


def test_the_oldest_come_first_unless_the_newest_are_asked_for(lab: Lab, began: datetime) -> None:
    everything = found(lab)
    assert found(lab, newest_first=True) == everything[::-1]
    assert found(lab, last=2) == everything[-2:] == ["node1 reserve", "node3 remove"]
    assert found(lab, last=2, newest_first=True) == everything[:-3:-1]
    first = next(iter(find_history(lab.context(), HistoryRequest(ALL)).events))
    assert found(lab, after=first.id) == everything[1:]


def test_none_of_its_events_can_be_asked_for_of_a_host(lab: Lab, began: datetime) -> None:
    assert queries.history(lab.context(), "node1", last=0).events == []
    assert found(lab, Choice(("node1",)), last=0) == []
    with pytest.raises(NotFoundError, match="there is no such host"):
        queries.history(lab.context(), "node9", last=0)


def test_invalid_filters_of_history_are_refused(lab: Lab, began: datetime) -> None:
    with pytest.raises(UsageError, match="is not before --until"):
        found(lab, since=began, until=began)
    with pytest.raises(UsageError, match="the actor is empty"):
        found(lab, actor="")
    with pytest.raises(UsageError, match="there is no verb 'taints'") as refused:
        found(lab, verbs=("taints",))
    assert "did you mean taint?" in str(refused.value.hint)
    with pytest.raises(NotFoundError, match="there is no such host"):
        found(lab, Choice(("node9",)))
    with pytest.raises(NotFoundError, match="no host ever had such a name"):
        found(lab, Choice(("x*",)))


def test_a_host_is_followed_through_its_names(lab: Lab, began: datetime) -> None:
    lifecycle_verbs.release(lab.context("ci-linux"), Choice(("node1",)))
    hosts.rename(lab.context(), "node1", "big1")
    assert found(lab, Choice(("big1",)))[0] == "node1 enter"
    assert found(lab, Choice(("node1", "node2")), verbs=("enter",)) == ["node1 enter", "node2 enter"]
