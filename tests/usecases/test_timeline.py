"""The stays of hosts in their states: each stay begins at the end of the previous one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bmhctl.domain.model import State
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.results.statistics import HostTimeline
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, holder, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.timeline import timeline
from tests.conftest import Lab, copied

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
@copied
def history(lab: Lab) -> Lab:
    """Two hosts from midnight on: node1 is reserved at 2, handed over at 4, given back at 6 and reserved again at 8."""
    lab.clock.now = START
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.clock.now = START + 2 * HOUR
    token = reserve.reserve_or_wait(
        lab.context("alice"), reservation_request(("node1",), ttl=timedelta(days=1))
    ).held.reservation.id
    lab.clock.now = START + 4 * HOUR
    token = holder.handover(lab.context("alice"), token, "bob").held.reservation.id
    lab.clock.now = START + 6 * HOUR
    lifecycle_verbs.release(lab.context("bob"), Choice(), reservation=token)
    step_verbs.reset(lab.context(), Choice(("node1",)))
    step_verbs.ready(lab.context(), Choice(("node1",)))
    lab.clock.now = START + 8 * HOUR
    reserve.reserve_or_wait(lab.context("carol"), reservation_request(("node1",), ttl=timedelta(hours=3)))
    lab.clock.now = START + 9 * HOUR
    return lab


def rounded(row: HostTimeline) -> list[tuple[float, float, State, str | None]]:
    """Stays of a second or more, in hours since midnight."""
    return [
        (_hours(stay.start), _hours(stay.end), stay.state, stay.owner)
        for stay in row.stays
        if stay.end - stay.start > timedelta(seconds=1)
    ]


def _hours(at: datetime) -> float:
    return round((at - START) / HOUR, 2)


def test_a_timeline_shows_the_states_of_a_host_in_order_with_their_holders(history: Lab) -> None:
    found = timeline(history.context(), Choice(), START + HOUR)
    assert [row.host for row in found.hosts] == ["node1", "node2"]
    assert rounded(found.hosts[0]) == [
        (1.0, 2.0, State.AVAILABLE, None),
        (2.0, 4.0, State.RESERVED, "alice"),
        (4.0, 6.0, State.RESERVED, "bob"),
        (6.0, 8.0, State.AVAILABLE, None),
        (8.0, 9.0, State.RESERVED, "carol"),
    ]
    assert rounded(found.hosts[1]) == [(1.0, 9.0, State.AVAILABLE, None)]
    for row in found.hosts:
        assert [stay.end for stay in row.stays[:-1]] == [stay.start for stay in row.stays[1:]]
    lease_end = found.hosts[0].lease_end
    assert (found.hosts[0].owner, lease_end and _hours(lease_end)) == ("carol", 11.0)
    assert _hours(found.until) == 11.0, "a quarter of the eight hours before is ahead"


def test_a_timeline_of_the_past_shows_only_that_span(history: Lab) -> None:
    found = timeline(history.context(), Choice(("node1",)), START + 5 * HOUR, START + 7 * HOUR)
    assert rounded(found.hosts[0]) == [
        (5.0, 6.0, State.RESERVED, "bob"),
        (6.0, 7.0, State.AVAILABLE, None),
    ]


def test_a_timeline_shows_nothing_before_a_host_was_added(history: Lab) -> None:
    found = timeline(history.context(), Choice(("node2",)), START - 5 * HOUR)
    assert found.hosts[0].stays[0].start == START + timedelta(microseconds=found.hosts[0].stays[0].start.microsecond)


def test_impossible_spans_and_unknown_hosts_are_refused(history: Lab) -> None:
    with pytest.raises(UsageError, match="--since is not in the past"):
        timeline(history.context(), Choice(), START + 10 * HOUR)
    with pytest.raises(UsageError, match=r"--since \(.*\) is not before --until"):
        timeline(history.context(), Choice(), START + 5 * HOUR, START + 4 * HOUR)
    with pytest.raises(NotFoundError):
        timeline(history.context(), Choice(("node9",)), START)


def test_a_timeline_shows_bookings_and_plans_in_the_row_of_their_hosts(history: Lab) -> None:
    now = history.clock.now
    booked = bookings.book(history.context(), reservation_request(("node2",)), now + HOUR, now + 2 * HOUR).items[0]
    times = now + 5 * HOUR, now + 6 * HOUR
    plan_maintenance(history.context(), Choice(everything=True), *times, reason="power work")
    found = timeline(history.context(), Choice(("node2",)), START)
    assert [[(each.owner, _hours(each.starts_at)) for each in row.planned] for row in found.hosts] == [
        [("alice", 10.0), ("alice", 14.0)]
    ]
    [first, maintained] = found.planned
    assert (first, maintained.hosts) == (booked, ("node1", "node2"))
