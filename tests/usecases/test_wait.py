"""Waiting until hosts are in a state, on every backend."""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from bmhctl.domain.model import StateName
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import NotFoundError, UsageError, WaitTimeoutError
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.wait import wait
from tests.conftest import Lab, copied


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """node1 is reserved, node2 available, node3 initial; all are in rack r1."""
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node[1-2]",)), jobs=1)
    reserve_or_wait(lab.context("bob"), reservation_request(("node1",), ttl=timedelta(hours=1)))
    return lab


def waited(lab: Lab, choice: Choice, wanted: StateName, *acts: Callable[[], object]) -> list[str]:
    """Return the hosts that a wait returns; in each of its pauses, one of the ``acts`` happens."""
    left = list(acts)

    def pause(_: float, wakes: int | None) -> None:
        left.pop(0)()  # an IndexError if the wait does not end
        if wakes is not None:
            select.select([wakes], [], [], 0.2)

    return [host.name for host in wait(lab.context(), choice, wanted, WaitOptions(pause)).hosts]


def test_wait_returns_when_all_hosts_are_in_the_state(fleet: Lab) -> None:
    assert waited(fleet, Choice(("node1",)), StateName.RESERVED) == ["node1"]
    done = waited(
        fleet,
        Choice(selector=parse_selector("rack=r1")),
        StateName.FREE,
        lambda: lifecycle_verbs.release(fleet.context("bob"), Choice(("node1",))),
        lambda: step_verbs.reset(fleet.context(), Choice(("node1",)), jobs=1),
        lambda: step_verbs.ready(fleet.context(), Choice(("node[1-3]",)), jobs=1),
    )
    assert done == ["node1", "node2", "node3"]
    assert fleet.said[0] == "waiting for 2 of 3 hosts to be free: node1 reserved by bob, node3 initial"


def test_a_cordoned_host_is_available_and_not_free(fleet: Lab) -> None:
    lifecycle_verbs.cordon(fleet.context(), Choice(("node2",)), reason="drill")
    assert waited(fleet, Choice(("node2",)), StateName.AVAILABLE) == ["node2"]
    with pytest.raises(
        WaitTimeoutError, match=r"timed out after 0s waiting for node2 to be free: available but cordoned"
    ):
        wait(fleet.context(), Choice(("node2",)), StateName.FREE, WaitOptions(lambda *_: None, timedelta()))
    uncordon = lambda: lifecycle_verbs.uncordon(fleet.context(), Choice(("node2",)))  # noqa: E731
    assert waited(fleet, Choice(("node2",)), StateName.FREE, uncordon) == ["node2"]


def test_the_end_of_a_wait_is_not_reported_as_the_end_of_a_lease(fleet: Lab) -> None:
    with pytest.raises(WaitTimeoutError):
        wait(fleet.context(), Choice(("node1",)), StateName.FREE, WaitOptions(lambda *_: None, timedelta()))
    assert re.fullmatch(r"waiting until \S+ UTC for node1 to be free: reserved by bob", fleet.said[0])


def test_the_time_to_wait_counts_from_before_the_inventory_is_opened(fleet: Lab) -> None:
    patience = WaitOptions(lambda *_: pytest.fail("it waited"), timedelta(hours=1), began=time.monotonic() - 3600)
    with pytest.raises(WaitTimeoutError, match=r"timed out after 1h waiting for node2 to be reserved: available"):
        wait(fleet.context(), Choice(("node2",)), StateName.RESERVED, patience)


def test_wait_ends_a_lease_that_expires_meanwhile(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bmhctl.usecases.wait._REAP", 0)
    expire = lambda: fleet.clock.move(hours=2)  # noqa: E731
    assert waited(fleet, Choice(("node1",)), StateName.TAINTED, expire, lambda: None, lambda: None) == ["node1"]


def test_wait_reports_missing_hosts(fleet: Lab) -> None:
    with pytest.raises(UsageError, match="no host is named"):
        waited(fleet, Choice(), StateName.FREE)
    with pytest.raises(NotFoundError):
        waited(fleet, Choice(("node9",)), StateName.FREE)
    with pytest.raises(NotFoundError):
        waited(fleet, Choice(("node3",)), StateName.FREE, lambda: hosts.remove(fleet.context(), Choice(("node3",))))
