"""Two days of a lab: bookings, a nightly job, power work, an intern, and a request that waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.times import parse_moment
from bmhctl.errors import BusyError, UnsatisfiableError
from bmhctl.results import Grant
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings
from bmhctl.usecases.reservations.queue_watch import Waiting
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab

POLICY = """
[defaults]
ttl = "4h"
max_ttl = "3d"
turnaround = "10m"

[limits.interns]
owner = "intern-*"
max_hosts = 1
"""


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Three hosts in rack r1, two and one with a GPU in r2, on Thursday at 18:00."""
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    hosts.add(lab.context(), ["node[4-5]"], hosts.AttributeChanges(labels={"rack": "r2"}))
    hosts.add(lab.context(), ["gpu1"], hosts.AttributeChanges(labels={"rack": "r2", "gpu": "a100"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.clock.now = datetime(2026, 1, 1, 18, 0, tzinfo=UTC)
    return lab


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def want(selector: str = "", count: int = 1, **more: object) -> ReservationRequest:
    return reservation_request((), parse_selector(selector), count, **more)  # type: ignore[arg-type]


def reserve(fleet: Lab, actor: str, wanted: ReservationRequest) -> Grant:
    return reserve_or_wait(fleet.context(actor), wanted)


def recycle(fleet: Lab) -> None:
    """Do what cron does: end expired leases, clean and check hosts."""
    with fleet.visit("cron") as ctx:
        expiry.reap(ctx)
        step_verbs.recycle(ctx, Choice())


@pytest.mark.slow
def test_two_planned_days_of_a_lab_run_as_expected(fleet: Lab) -> None:
    # Thursday: a team books three hosts for tomorrow morning; a rack's power work is planned for Saturday.
    now = fleet.clock.now
    starts = parse_moment("tomorrow 09:00", now)
    made = bookings.book(
        fleet.context("team"), want("rack=r1", 3, purpose="demo"), starts, parse_moment("12:00", starts, said=now)
    ).items[0]
    assert (made.booking.starts_at, made.booking.ends_at, made.hosts) == (
        at(2, 9), at(2, 12), ("node1", "node2", "node3"),
    )  # fmt: skip
    saturday = parse_moment("sat 08:00", now)
    planned = plan_maintenance(
        fleet.context("ops"), Choice(selector=parse_selector("rack=r2")), saturday, at(3, 12), reason="power work",
        resumes=True,
    )  # fmt: skip
    assert [(item.host, item.error) for item in planned.items] == [("gpu1", None), ("node4", None), ("node5", None)]

    # In the night, a job that asks for four hours gets other hosts; if there are none, the refusal says why.
    fleet.clock.now = at(2, 6)
    nightly = reserve(fleet, "nightly", want(ttl=timedelta(hours=4)))
    assert [host.name for host in nightly.held.hosts] == ["node4"]
    with pytest.raises(
        BusyError, match="free only until 2026-01-02 08:50 UTC, nothing was reserved: node1 is booked by t"
    ):
        reserve(fleet, "nightly", want("rack=r1", ttl=timedelta(hours=4)))
    short = reserve(fleet, "nightly", want("rack=r1"))  # without a length, it gets a shorter lease
    assert short.held.reservation.expires_at == at(2, 8, 50)
    assert short.notes == (
        "the lease ends at 2026-01-02 08:50 UTC: node1 is booked by team from 2026-01-02 09:00 UTC to 2026-01-02 12:00 "
        f"UTC ({made.booking.id})",
    )
    fleet.clock.now = at(2, 8, 51)
    recycle(fleet)

    # Friday morning: the team takes its booking.
    fleet.clock.now = at(2, 9, 5)
    demo = reserve(fleet, "team", want("rack=r1", 3))
    assert {host.name for host in demo.held.hosts} == {"node1", "node2", "node3"}
    assert demo.held.reservation.expires_at == at(2, 12)

    # An intern reaches the limit, and the refusal names it.
    reserve(fleet, "intern-1", want("rack=r2,!gpu", ttl=timedelta(hours=1)))
    with pytest.raises(BusyError, match="limit interns: at most 1 host for intern-1, who holds node5"):
        reserve(fleet, "intern-1", want())
    with pytest.raises(UnsatisfiableError, match="more than limit interns allows"):
        reserve(fleet, "intern-1", want("", 2))

    # A waiting request reports 14:05, and gets its host by then.
    fleet.clock.now = at(2, 10)
    reserve(fleet, "carol", want("gpu", ttl=timedelta(hours=3, minutes=55)))
    told: list[Waiting] = []

    def pause(seconds: float, _: int | None) -> None:
        fleet.clock.move(minutes=5)
        recycle(fleet)

    granted = reserve_or_wait(fleet.context("dave"), want("gpu"), WaitOptions(pause, timedelta(hours=9), told.append))
    assert told[0].eta is not None
    assert told[0].eta.replace(microsecond=0) == at(2, 14, 5)
    assert [host.name for host in granted.held.hosts] == ["gpu1"]
    assert fleet.clock.now <= at(2, 14, 5)
    lifecycle_verbs.release(fleet.context("dave"), Choice(), reservation=granted.held.reservation.id)
    recycle(fleet)

    # Saturday: leases end before the power work; the hosts of the rack go to maintenance and come back automatically.
    fleet.clock.now = at(3, 7)
    late = reserve(fleet, "nightly", want("rack=r2"))
    assert late.held.reservation.expires_at == at(3, 7, 50)
    for hour, minute in ((7, 50), (8, 0)):
        fleet.clock.now = at(3, hour, minute)
        recycle(fleet)
    rack = Choice(selector=parse_selector("rack=r2"))
    assert states(fleet, rack) == {State.MAINTENANCE}
    fleet.clock.now = at(3, 12)
    recycle(fleet)
    assert states(fleet, rack) == {State.AVAILABLE}


def states(fleet: Lab, choice: Choice) -> set[State]:
    from bmhctl.usecases import queries

    return {host.state for host in queries.list_hosts(fleet.context(), choice).hosts}
