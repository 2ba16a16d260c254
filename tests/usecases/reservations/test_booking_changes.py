"""What happens to bookings when their owners, their hosts or the policy change, in every backend."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bmhctl.domain.requirements import load_requirements
from bmhctl.errors import BusyError, NotYoursError, UnsatisfiableError, UsageError
from bmhctl.usecases import hosts, queries
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings
from bmhctl.usecases.reservations.replacement import replace_host
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab
from tests.usecases.reservations.test_bookings import asked, at, book, names_of, open_ids, reserve


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Three hosts, all available: node1 and node2 in rack r1, node3 in r2."""
    for number, rack in ((1, "r1"), (2, "r1"), (3, "r2")):
        hosts.add(lab.context(), [f"node{number}"], hosts.AttributeChanges(labels={"rack": rack}))
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    return lab


def test_a_move_keeps_to_the_limits_of_the_bookings_owner(fleet: Lab) -> None:
    fleet.policy('[limits.interns]\nowner = "intern-*"\nmax_ahead = "1d"\nmax_hosts = 1\nmax_ttl = "4h"\n')
    made = book(fleet, 2, 5, "node1", actor="intern-1").booking
    book(fleet, 8, 9, "node2", actor="intern-1")
    for actor, force in (("intern-1", False), ("carl", True)):
        for starts, ends, error in ((30, None, UnsatisfiableError), (2, 7, UnsatisfiableError), (7, None, BusyError)):
            with pytest.raises(error, match="limit interns"):
                bookings.reschedule(
                    fleet.context(actor), made.id, at(starts), None if ends is None else at(ends),
                    force=force, reason="asked to",
                )  # fmt: skip
    assert bookings.booking(fleet.context(), made.id).booking == made
    moved = bookings.reschedule(fleet.context("intern-1"), made.id, at(3)).items[0].booking
    assert (moved.starts_at, moved.ends_at) == (at(3), at(6))


def test_a_booking_is_not_moved_into_the_past(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    with pytest.raises(UsageError, match="begins in the future"):
        bookings.reschedule(fleet.context(), made.id, at(-1))
    assert bookings.booking(fleet.context(), made.id).booking == made


def test_a_host_that_is_replaced_gets_none_that_is_booked_within_the_turnaround(fleet: Lab) -> None:
    fleet.policy('[defaults]\nturnaround = "30m"\n')
    held = reserve(fleet, "node1", ttl=timedelta(hours=1)).held.reservation
    book(fleet, 1.25, 5, "node2")
    any_host = reserve(fleet, count=1, ttl=timedelta(hours=1)).held
    assert [host.name for host in any_host.hosts] == ["node3"]
    with pytest.raises(BusyError, match="no host that fits 1 host is free"):
        replace_host(fleet.context("bob"), "node3", any_host.reservation.id, "dead fan")
    assert held.id != any_host.reservation.id


def test_the_same_request_id_shows_what_it_booked_only_for_the_same_request(fleet: Lab) -> None:
    made = bookings.book(fleet.context(), asked("node1", request_id="job-1"), at(2), at(5), weekly=3).items
    again = bookings.book(fleet.context(), asked("node1", request_id="job-1"), at(2), at(5), weekly=3)
    assert (again.items, again.notes) == (made, ("request job-1 was booked before",))
    fleet.clock.move(seconds=40)
    later = timedelta(seconds=40)  # 2h and 5h again, a little later
    again = bookings.book(fleet.context(), asked("node1", request_id="job-1"), at(2) + later, at(5) + later, weekly=3)
    assert again.items == made
    for starts, ends, weekly in ((3, 5, 3), (2, 6, 3), (2, 5, 1), (2, 5, 4)):
        with pytest.raises(UsageError, match=r"request id 'job-1' was used for node1 from 2026-01-01 14:00 UTC"):
            bookings.book(fleet.context(), asked("node1", request_id="job-1"), at(starts), at(ends), weekly=weekly)
    assert len(open_ids(fleet)) == 3


def test_the_request_id_of_a_booking_that_has_ended_is_refused(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1", request_id="job-1").booking
    bookings.cancel(fleet.context(), made.id)
    with pytest.raises(NotYoursError, match=f"booked {made.id}, which has ended: cancelled"):
        book(fleet, 2, 5, "node1", request_id="job-1")
    assert open_ids(fleet) == []


@pytest.mark.parametrize(("begin", "end"), [(1, 24 * 365 * 200), (24 * 365 * 200, 24 * 365 * 200 + 1)])
def test_a_time_too_far_in_the_future_is_refused(fleet: Lab, begin: float, end: float) -> None:
    fleet.policy('[defaults]\nmax_ttl = "none"\n')
    with pytest.raises(UsageError, match="too far in the future"):
        book(fleet, begin, end, "node1")
    with pytest.raises(UsageError, match="too far in the future"):
        plan_maintenance(fleet.context(), Choice(("node1",)), at(begin), at(end), reason="power work")


def test_bookings_repeated_past_the_farthest_time_are_refused(fleet: Lab) -> None:
    begin = 24 * (36500 - 8)
    with pytest.raises(UsageError, match="too far in the future"):
        bookings.book(fleet.context(), asked("node1"), at(begin), at(begin + 1), weekly=3)
    assert open_ids(fleet) == []


def test_a_booking_follows_its_host_to_another_name(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1", "node3").booking
    plan_maintenance(fleet.context(), Choice(("node1",)), at(6), at(7), reason="power work")
    hosts.rename(fleet.context(), "node1", "disk1")
    [booked, planned] = bookings.bookings(fleet.context()).items
    assert (booked.hosts, booked.requirements, planned.requirements) == (
        ("disk1", "node3"), "disk1, node3", "disk1",
    )  # fmt: skip
    fleet.clock.now = at(2.1)
    assert names_of(reserve(fleet, booking=made.id, actor="alice")) == ["disk1", "node3"]
    assert queries.show(fleet.context(), "disk1").host.planned[0].id == planned.booking.id
    assert load_requirements(planned.booking.requirements)[0].name == "disk1"
