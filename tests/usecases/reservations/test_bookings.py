"""Bookings and planned maintenances on every backend, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bmhctl.domain.model import EventKind, State
from bmhctl.domain.requirements import ReservationRequest, parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.domain.units import parse_duration
from bmhctl.errors import (
    BusyError,
    NotFoundError,
    NotYoursError,
    StateRefusedError,
    UnsatisfiableError,
    UsageError,
)
from bmhctl.results import Grant
from bmhctl.results.bookings import Booked
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, holder
from bmhctl.usecases.reservations.reserve import plan_reserve, reserve_or_wait
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""The first time of a lab's clock."""


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Four hosts, all available: node1 to node3 in rack r1, node4 in r2."""
    for number in range(1, 5):
        rack = "r2" if number == 4 else "r1"
        hosts.add(lab.context(), [f"node{number}"], hosts.AttributeChanges(labels={"rack": rack}))
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    return lab


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def asked(*names: str, selector: str | None = None, count: int | None = None, **more: object) -> ReservationRequest:
    wanted = None if selector is None else parse_selector(selector)
    return reservation_request(names, wanted, count, **more)  # type: ignore[arg-type]


def book(
    fleet: Lab,
    begin: float,
    end: float,
    *names: str,
    actor: str = "alice",
    selector: str | None = None,
    count: int | None = None,
    **more: object,
) -> Booked:
    wanted = asked(*names, selector=selector, count=count, **more)
    return bookings.book(fleet.context(actor), wanted, at(begin), at(end)).items[0]


def reserve(fleet: Lab, *names: str, actor: str = "bob", **more: object) -> Grant:
    return reserve_or_wait(fleet.context(actor), asked(*names, **more))  # type: ignore[arg-type]


def end_of(grant: Grant) -> datetime | None:
    return grant.held.reservation.expires_at


def names_of(grant: Grant) -> list[str]:
    return [host.name for host in grant.held.hosts]


def open_ids(fleet: Lab) -> list[str]:
    return [item.booking.id for item in bookings.bookings(fleet.context()).items]


def test_a_booking_sets_hosts_aside_for_its_time(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2, purpose="demo")
    assert (made.hosts, made.booking.owner, made.booking.purpose) == (("node1", "node2"), "alice", "demo")
    [planned] = queries.show(fleet.context(), "node1").host.planned
    assert (planned.id, planned.owner, planned.starts_at, planned.ends_at) == (
        made.booking.id, "alice", at(2), at(5),
    )  # fmt: skip
    [listed] = bookings.bookings(fleet.context()).items
    assert listed == made
    events = [event for event in queries.show(fleet.context(), "node1").events if event.verb is EventKind.PLANNED]
    assert [(event.actor, event.source, event.dest) for event in events] == [
        ("alice", State.AVAILABLE, State.AVAILABLE)
    ]


def test_two_bookings_of_a_host_never_overlap(fleet: Lab) -> None:
    book(fleet, 2, 5, "node1")
    for begin, end in ((1, 3), (2, 5), (3, 4), (4, 6), (1, 9)):
        with pytest.raises(
            BusyError, match="node1 is booked by alice from 2026-01-01 14:00 UTC to 2026-01-01 17:00 UTC"
        ):
            book(fleet, begin, end, "node1", actor="bob")
    book(fleet, 1, 2, "node1", actor="bob")
    book(fleet, 5, 6, "node1", actor="bob")
    starts = [each.starts_at for each in queries.show(fleet.context(), "node1").host.planned]
    assert starts == [at(1), at(2), at(5)]


def test_a_refused_booking_names_the_next_time_that_fits_and_changes_nothing(fleet: Lab) -> None:
    book(fleet, 2, 5, "node4")
    with pytest.raises(BusyError) as refused:
        book(fleet, 3, 6, selector="rack=r2", actor="bob")
    assert refused.value.details["from"] == at(5).isoformat()
    assert len(open_ids(fleet)) == 1
    with pytest.raises(UnsatisfiableError):
        book(fleet, 3, 6, selector="rack=r2", count=2)
    with pytest.raises(NotFoundError):
        book(fleet, 3, 6, "node9")


@pytest.mark.parametrize(("begin", "end"), [(3, 3), (3, 2), (-1, 2), (1, 24 * 4)])
def test_an_invalid_span_of_a_booking_is_refused(fleet: Lab, begin: float, end: float) -> None:
    with pytest.raises(UsageError):
        book(fleet, begin, end, "node1")
    assert open_ids(fleet) == []


def test_a_lease_without_a_length_ends_where_a_booking_begins(fleet: Lab) -> None:
    book(fleet, 2, 5, "node1")
    assert end_of(reserve(fleet, "node2")) >= at(4)  # type: ignore[operator]
    short = reserve(fleet, "node1")
    assert end_of(short) == at(2)
    assert short.notes == (
        "the lease ends at 2026-01-01 14:00 UTC: node1 is booked by alice from 2026-01-01 14:00 UTC to 2026-01-01 "
        f"17:00 UTC ({open_ids(fleet)[0]})",
    )


def test_a_lease_with_a_length_is_granted_or_refused_with_the_longest_possible_one(fleet: Lab) -> None:
    book(fleet, 2, 5, selector="rack=r1", count=3)
    assert names_of(reserve(fleet, count=1, ttl=timedelta(hours=3))) == ["node4"]
    with pytest.raises(BusyError) as refused:
        reserve(fleet, selector="rack=r1", count=1, ttl=timedelta(hours=3))
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("--ttl 1h59m is the longest now; the whole lease is possible --from '")
    assert refused.value.details["from"] == at(5).isoformat()
    assert names_of(reserve(fleet, selector="rack=r1", count=1, ttl=timedelta(hours=1))) == ["node1"]


def test_hosts_that_are_booked_soon_after_the_lease_are_chosen_first(fleet: Lab) -> None:
    book(fleet, 9, 10, "node2")
    book(fleet, 6, 7, "node3")
    book(fleet, 2, 3, "node1")
    assert names_of(reserve(fleet, count=1, ttl=timedelta(hours=4))) == ["node3"]
    assert names_of(reserve(fleet, count=1, ttl=timedelta(hours=4))) == ["node2"]
    assert names_of(reserve(fleet, count=1, ttl=timedelta(hours=4))) == ["node4"]


def test_a_lease_without_an_end_gets_only_hosts_without_plans(fleet: Lab) -> None:
    fleet.policy('[defaults]\nmax_ttl = "none"\n')
    book(fleet, 200, 201, selector="rack=r1", count=3)
    assert names_of(reserve(fleet, count=1, endless=True)) == ["node4"]
    with pytest.raises(BusyError, match="free only until"):
        reserve(fleet, count=1, endless=True)


def test_the_turnaround_is_kept_free_before_a_booking(fleet: Lab) -> None:
    fleet.policy('[defaults]\nturnaround = "30m"\n')
    book(fleet, 2, 5, "node1")
    assert end_of(reserve(fleet, "node1")) == at(1.5)
    with pytest.raises(BusyError):
        book(fleet, 5.25, 6, "node1")
    book(fleet, 5.5, 6, "node1")


def test_an_extension_stops_at_the_next_booking_and_says_so(fleet: Lab) -> None:
    held = reserve(fleet, "node1", ttl=timedelta(hours=1)).held.reservation
    book(fleet, 2, 5, "node1")
    longer = holder.extend(fleet.context("bob"), held.id, timedelta(hours=4))
    assert longer.held.reservation.expires_at == at(2)
    assert "the lease ends at 2026-01-01 14:00 UTC: node1 is booked by alice" in longer.notes[0]
    again = holder.extend(fleet.context("bob"), held.id, timedelta(hours=4))
    assert (again.held.reservation.expires_at, again.notes) == (at(2), longer.notes)


def test_a_booking_never_takes_a_host_away(fleet: Lab) -> None:
    reserve(fleet, "node4")
    with pytest.raises(BusyError, match="node4 is held by bob"):
        book(fleet, 2, 5, "node4")
    assert book(fleet, 4.5, 5, "node4").hosts == ("node4",)


def test_only_the_owner_can_take_a_booking_and_only_in_its_time(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2, purpose="demo").booking
    with pytest.raises(StateRefusedError, match="begins at 2026-01-01 14:00 UTC"):
        reserve(fleet, booking=made.id, actor="alice")
    fleet.clock.now = at(2.25)
    with pytest.raises(NotYoursError):
        reserve(fleet, booking=made.id, actor="bob")
    with pytest.raises(BusyError):
        reserve(fleet, "node1")
    taken = reserve(fleet, booking=made.id, actor="alice")
    assert (names_of(taken), end_of(taken), taken.held.reservation.purpose) == (["node1", "node2"], at(5), "demo")
    assert open_ids(fleet) == []
    assert queries.show(fleet.context(), "node1").host.planned == ()
    [ended] = bookings.bookings(fleet.context(), ended=True).items
    assert (ended.booking.reservation, ended.booking.end_reason) == (
        taken.held.reservation.id, f"taken as {taken.held.reservation.id}",
    )  # fmt: skip
    with pytest.raises(StateRefusedError, match="has ended"):
        reserve(fleet, booking=made.id, actor="alice")


def test_the_same_request_of_its_owner_takes_a_booking(fleet: Lab) -> None:
    book(fleet, 2, 5, selector="rack=r1", count=2)
    fleet.clock.now = at(2.25)
    assert end_of(reserve(fleet, count=1, actor="alice")) != at(5)
    taken = reserve(fleet, selector="rack=r1", count=2, actor="alice")
    assert (end_of(taken), open_ids(fleet)) == (at(5), [])


def test_a_request_that_takes_a_booking_keeps_its_ttl_and_can_be_repeated(fleet: Lab) -> None:
    book(fleet, 2, 5, selector="rack=r1", count=1)
    fleet.clock.now = at(2.25)
    taken = reserve(fleet, "node1", actor="alice", ttl=timedelta(minutes=10), request_id="job-1")
    again = reserve(fleet, "node1", actor="alice", ttl=timedelta(minutes=10), request_id="job-1")
    assert (names_of(taken), end_of(taken) < at(2.5), open_ids(fleet)) == (["node1"], True, [])  # type: ignore[operator]
    assert again.held.reservation.id == taken.held.reservation.id


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize(("ttl", "end", "is_told"), [(1, 3.25, False), (4, 5, True), (None, 5, False)])
def test_a_booking_is_taken_for_the_requested_length_or_for_its_rest(
    fleet: Lab, ttl: float | None, end: float, is_told: bool, is_named: bool
) -> None:
    made = book(fleet, 2, 5, "node1").booking
    fleet.clock.now = at(2.25)
    more = {"ttl": None if ttl is None else timedelta(hours=ttl), "booking": made.id if is_named else None}
    taken = reserve(fleet, *(() if is_named else ("node1",)), actor="alice", **more)
    told = f"this takes booking {made.id}: the lease ends at 2026-01-01 17:00 UTC at the latest"
    assert at(end) <= end_of(taken) < at(end + 0.01)  # type: ignore[operator]
    assert taken.notes == ((told,) if is_told or not is_named else ())


@pytest.mark.parametrize("is_maintenance", [True, False])
def test_a_lease_is_extended_to_the_turnaround_before_what_is_planned(fleet: Lab, is_maintenance: bool) -> None:
    fleet.policy('[defaults]\nturnaround = "15m"\n')
    held = reserve(fleet, "node1", ttl=timedelta(hours=1)).held.reservation
    if is_maintenance:
        plan_maintenance(fleet.context(), Choice(("node1",)), at(3), at(5), reason="power work")
    else:
        book(fleet, 3, 5, "node1")
    longer = holder.extend(fleet.context("bob"), held.id, timedelta(hours=4))
    assert (end_of(longer), len(longer.notes)) == (at(2.75), 1)
    assert holder.extend(fleet.context("bob"), held.id, timedelta(hours=4)).held.reservation.expires_at == at(2.75)


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (lambda ctx: lifecycle_verbs.cordon(ctx, Choice(("node4",)), reason="fan"), "is cordoned by carl: fan"),
        (
            lambda ctx: lifecycle_verbs.maintain(ctx, Choice(("node4",)), reason="fan", until=at(3)),
            "is in maintenance until 2026-01-01 15:00 UTC: fan",
        ),
        (lambda ctx: lifecycle_verbs.maintain(ctx, Choice(("node4",)), reason="fan"), "is in maintenance: fan"),
    ],
)
def test_a_refused_booking_names_why_a_host_is_unusable_at_that_time(
    fleet: Lab, breaks: Callable[[Context], object], told: str
) -> None:
    breaks(fleet.context("carl"))
    with pytest.raises(BusyError, match=f"nothing was booked: node4 {told}$"):
        book(fleet, 2, 5, selector="rack=r2", count=1)


def test_the_refusal_of_a_maintenance_says_how_the_plan_in_its_way_can_be_moved(fleet: Lab) -> None:
    booked = book(fleet, 2, 5, "node1").booking.id
    plan_maintenance(fleet.context(), Choice(("node2",)), at(2), at(5), reason="power work")
    planned = next(each for each in open_ids(fleet) if each != booked)
    refused = plan_maintenance(fleet.context(), Choice(("node1", "node2")), at(3), at(4), reason="more")
    assert [item.error.hint for item in refused.items if item.error] == [
        f"its owner can move it: bmhctl bookings move {booked}",
        f"its owner can cancel it: bmhctl bookings cancel {planned}",
    ]


def test_the_history_has_the_reason_why_another_owners_booking_was_moved(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    bookings.reschedule(fleet.context("carl"), made.id, at(6), force=True, reason="power work")
    events = queries.show(fleet.context(), "node1").events
    assert [(event.actor, event.reason) for event in events if event.verb is EventKind.PLAN_ENDED] == [
        ("carl", f"{made.id}: moved to 2026-01-01 18:00 UTC: power work")
    ]


def test_a_dry_run_shows_what_a_booking_would_give(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node2").booking
    fleet.clock.now = at(2.25)
    plan = plan_reserve(fleet.context("alice"), asked(booking=made.id))
    assert ([item.host for item in plan.items], plan.notes) == (["node2"], ())
    by_asking = plan_reserve(fleet.context("alice"), asked("node2"))
    assert by_asking.notes == (f"this takes booking {made.id}: the lease ends at 2026-01-01 17:00 UTC at the latest",)
    assert open_ids(fleet) == [made.id]


def test_a_refusal_names_the_longest_lease_on_any_hosts(fleet: Lab) -> None:
    for name, begin in (("node1", 0.5), ("node2", 2), ("node3", 1), ("node4", 3)):
        book(fleet, begin, 9, name)
    for count, longest in ((1, "3h"), (2, "2h"), (4, "30m")):
        with pytest.raises(BusyError) as refused:
            reserve(fleet, count=count, ttl=timedelta(hours=5))
        assert refused.value.hint is not None
        named = parse_duration(refused.value.hint.split()[1])
        assert timedelta() < parse_duration(longest) - named <= timedelta(minutes=1)
        plan_reserve(fleet.context("bob"), asked(count=count, ttl=named))


def test_a_lease_without_a_length_gets_the_hosts_that_stay_free_longest(fleet: Lab) -> None:
    for name, begin in (("node1", 0.5), ("node2", 2), ("node3", 1), ("node4", 3)):
        book(fleet, begin, 9, name)
    assert names_of(reserve(fleet, count=1)) == ["node4"]
    assert sorted(names_of(reserve(fleet, count=2))) == ["node2", "node3"]


def test_a_dry_run_says_where_the_lease_would_end_before_a_booking(fleet: Lab) -> None:
    book(fleet, 0.5, 5, "node2")
    plan = plan_reserve(fleet.context("bob"), asked("node2"))
    assert plan.notes == reserve(fleet, "node2", actor="bob").notes != ()


def test_a_booking_that_is_not_taken_lapses(fleet: Lab) -> None:
    fleet.policy('[defaults]\nno_show = "10m"\n')
    made = book(fleet, 2, 5, "node1").booking
    fleet.clock.now = at(2) + timedelta(minutes=9)
    with pytest.raises(BusyError, match="it is booked by alice"):
        reserve(fleet, "node1")
    fleet.clock.now = at(2) + timedelta(minutes=10)
    assert names_of(reserve(fleet, "node1")) == ["node1"]
    [ended] = bookings.bookings(fleet.context(), ended=True).items
    assert (ended.booking.id, ended.booking.end_reason) == (made.id, "lapsed: its owner did not take it in time")


def test_the_next_writing_command_exchanges_a_broken_booked_host(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="fan")
    reserve(fleet, "node4", ttl=timedelta(hours=1))
    [now] = bookings.bookings(fleet.context()).items
    assert (now.booking.id, now.hosts, now.trouble) == (made.id, ("node2", "node3"), ())
    assert queries.show(fleet.context(), "node1").host.planned == ()
    assert queries.show(fleet.context(), "node3").host.planned[0].id == made.id


def test_a_booking_without_a_fitting_host_is_reported_to_its_owner(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node4").booking
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node4",)), reason="fan")
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    [now] = bookings.bookings(fleet.context()).items
    assert (now.booking.id, now.trouble) == (made.id, ("node4",))
    fleet.clock.now = at(2.1)
    with pytest.raises(BusyError, match=f"booking {made.id} can't be taken now: node4 is in maintenance"):
        reserve(fleet, booking=made.id, actor="alice")


def test_only_its_owner_or_force_cancels_a_booking(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    with pytest.raises(NotYoursError):
        bookings.cancel(fleet.context("bob"), made.id)
    with pytest.raises(UsageError):
        bookings.cancel(fleet.context("bob"), made.id, force=True)
    bookings.cancel(fleet.context("bob"), made.id, force=True, reason="power cut")
    assert (open_ids(fleet), queries.show(fleet.context(), "node1").host.planned) == ([], ())
    with pytest.raises(NotFoundError):
        bookings.cancel(fleet.context(), "b-none")


def test_a_move_into_a_conflict_changes_nothing(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    book(fleet, 6, 8, "node1", actor="bob")
    before = queries.show(fleet.context(), "node1").host.planned
    with pytest.raises(BusyError):
        bookings.reschedule(fleet.context(), made.id, at(4))
    assert queries.show(fleet.context(), "node1").host.planned == before
    moved = bookings.reschedule(fleet.context(), made.id, at(3)).items[0].booking
    assert (moved.starts_at, moved.ends_at) == (at(3), at(6))


def test_weekly_bookings_are_all_made_or_none(fleet: Lab) -> None:
    made = bookings.book(fleet.context(), asked("node1"), at(2), at(5), weekly=3).items
    assert [item.booking.starts_at - at(2) for item in made] == [timedelta(weeks=week) for week in range(3)]
    with pytest.raises(BusyError):
        bookings.book(fleet.context("bob"), asked("node1"), at(2) - timedelta(weeks=1) + timedelta(weeks=2),
                      at(5) + timedelta(weeks=1), weekly=3)  # fmt: skip
    assert len(open_ids(fleet)) == 3


def test_the_refusal_of_a_series_of_bookings_names_the_week(fleet: Lab) -> None:
    later = timedelta(weeks=2)
    bookings.book(fleet.context("bob"), asked("node1"), at(2) + later, at(5) + later)
    with pytest.raises(BusyError) as refused:
        bookings.book(fleet.context(), asked("node1"), at(2), at(5), weekly=4)
    assert refused.value.message.startswith("week 3 of 4: node1 from 2026-01-15")
    assert refused.value.hint == "--weekly 2 books the weeks before; book the others by themselves"


def test_the_same_request_id_books_once(fleet: Lab) -> None:
    first = book(fleet, 2, 5, "node1", request_id="job-1")
    assert book(fleet, 2, 5, "node1", request_id="job-1").booking.id == first.booking.id
    with pytest.raises(UsageError):
        book(fleet, 2, 5, "node2", request_id="job-1")
    assert len(open_ids(fleet)) == 1


def test_a_refusal_has_each_reason_once_with_all_of_its_hosts(fleet: Lab) -> None:
    plan_maintenance(fleet.context("carl"), Choice(("node1", "node2")), at(3), at(5), reason="power work")
    with pytest.raises(BusyError) as refused:
        book(fleet, 2, 5, "node1", "node2")
    assert ": node1 and node2 are planned for a maintenance by carl from " in refused.value.message
    assert refused.value.message.count("carl") == 1


def test_leases_end_before_a_planned_maintenance_which_the_next_command_begins(fleet: Lab) -> None:
    done = plan_maintenance(fleet.context("carl"), Choice(("node1", "node2")), at(3), at(5), reason="power work")
    assert [(item.host, item.message) for item in done.items] == [
        ("node1", "planned: power work"), ("node2", "planned: power work"),
    ]  # fmt: skip
    [planned] = bookings.bookings(fleet.context()).items
    m = planned.booking.id
    assert done.notes == (
        f"{m} from 2026-01-01 15:00 UTC to 2026-01-01 17:00 UTC: bmhctl bookings cancel {m} cancels it",
    )
    assert (planned.booking.is_maintenance, planned.hosts) == (True, ("node1", "node2"))
    assert planned.requirements == "node1, node2"
    with pytest.raises(StateRefusedError, match="can't be moved"):
        bookings.reschedule(fleet.context("carl"), planned.booking.id, at(6))
    assert end_of(reserve(fleet, "node1")) == at(3)
    fleet.clock.now = at(3)
    reserve(fleet, "node4", ttl=timedelta(hours=1))
    for name in ("node1", "node2"):
        host = queries.show(fleet.context(), name).host
        assert (host.state, [(note.reason, note.until) for note in host.maintenance]) == (
            State.MAINTENANCE, [("power work", at(5))],
        )  # fmt: skip
        assert host.planned == ()


def test_a_planned_maintenance_that_resumes_ends_by_itself(fleet: Lab) -> None:
    plan_maintenance(fleet.context("carl"), Choice(("node1",)), at(3), at(5), reason="power work", resumes=True)
    for hours in (3, 5):
        fleet.clock.now = at(hours)
        lifecycle_verbs.cordon(fleet.context(), Choice(("node4",)))
    host = queries.show(fleet.context(), "node1").host
    assert (host.state, host.maintenance, open_ids(fleet)) == (State.INITIAL, (), [])


def test_a_maintenance_is_not_planned_over_a_booking(fleet: Lab) -> None:
    book(fleet, 2, 5, "node1")
    done = plan_maintenance(fleet.context("carl"), Choice(("node1", "node2")), at(3), at(5), reason="power work")
    assert [item.error.code if item.error else None for item in done.items] == ["busy", None]
    with pytest.raises(BusyError):
        book(fleet, 4, 6, "node2")


def test_why_and_the_refusal_of_reserve_name_a_booking(fleet: Lab) -> None:
    from bmhctl.usecases.explain import why

    made = book(fleet, 2, 5, "node1").booking
    words = f"booked by alice from 2026-01-01 14:00 UTC to 2026-01-01 17:00 UTC ({made.id})"
    assert words in why(fleet.context(), "node1").facts
    fleet.clock.now = at(2.1)
    seen = why(fleet.context(), "node1")
    assert seen.summary == f"node1 is available, but it is {words}"


def test_a_booking_may_have_several_requirements(fleet: Lab) -> None:
    wanted = reservation_request(requirements=[parse_requirement("rack=r1*3"), parse_requirement("rack=r2")])
    made = bookings.book(fleet.context(), wanted, at(2), at(5)).items[0]
    assert sorted(made.hosts) == ["node1", "node2", "node3", "node4"]


def planned_on(fleet: Lab) -> dict[str, list[str]]:
    """Return the ids of the bookings and maintenances of each host, by the host's name."""
    known = {host.name: host.planned for host in fleet.context().store.hosts.find()}
    return {name: [each.id for each in planned] for name, planned in known.items()}


def test_a_booking_moves_to_another_fitting_host_to_make_room_for_a_lease(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    granted = reserve(fleet, "node1", ttl=timedelta(hours=4))

    assert (names_of(granted), granted.held.hosts[0].planned) == (["node1"], ())
    assert granted.notes == (f"booking {made.booking.id} of alice was moved to node2 to make room",)
    assert end_of(granted) >= at(4)  # type: ignore[operator]
    assert planned_on(fleet) == {"node1": [], "node2": [made.booking.id], "node3": [], "node4": []}
    assert bookings.bookings(fleet.context()).items[0].hosts == ("node2",)
    told = {
        name: [
            (event.verb, event.actor, event.reason)
            for event in queries.show(fleet.context(), name).events
            if event.reason and "room" in event.reason
        ]
        for name in ("node1", "node2")
    }
    assert told == {
        "node1": [
            (EventKind.PLAN_ENDED, "bmhctl", f"{made.booking.id}: moved to node2, to make room for a lease of bob")
        ],
        "node2": [(EventKind.PLANNED, "bmhctl", f"{made.booking.id}: moved here, to make room for a lease of bob")],
    }


def test_a_booking_is_moved_even_if_many_hosts_before_its_own_have_none(fleet: Lab) -> None:
    many = [f"many{number:02}" for number in range(1, 26)]
    hosts.add(fleet.context(), many, hosts.AttributeChanges(labels={"rack": "r9"}))
    hosts.set_attributes(fleet.context(), Choice(("many25", "node4")), hosts.AttributeChanges(labels={"spot": "x"}))
    step_verbs.ready(fleet.context(), Choice(tuple(many)), jobs=1)
    plan_maintenance(fleet.context(), Choice(tuple(many[:-1])), at(2), at(5), reason="power work")
    other = book(fleet, 2, 5, "node4").booking
    made = book(fleet, 2, 5, selector="spot=x", count=1)
    bookings.cancel(fleet.context("alice"), other.id)

    assert made.hosts == ("many25",)
    assert names_of(reserve(fleet, selector="rack=r9", ttl=timedelta(hours=4))) == ["many25"]
    assert planned_on(fleet)["node4"] == [made.booking.id]


def test_a_booking_stays_while_the_request_can_be_met_in_another_way(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    assert names_of(reserve(fleet, selector="rack=r1", ttl=timedelta(hours=4))) == ["node2"]
    assert end_of(reserve(fleet, "node1")) == at(2)
    assert planned_on(fleet)["node1"] == [made.booking.id]


def test_a_booking_that_names_its_host_or_has_begun_stays(fleet: Lab) -> None:
    book(fleet, 2, 5, "node1")
    began = book(fleet, 1, 5, selector="rack=r1", count=1)
    with pytest.raises(BusyError, match="free only until"):
        reserve(fleet, "node1", ttl=timedelta(hours=4))
    fleet.clock.move(hours=1, minutes=5)
    with pytest.raises(BusyError):
        reserve(fleet, *began.hosts, ttl=timedelta(hours=1))
    assert planned_on(fleet)[began.hosts[0]] == [began.booking.id]


def test_a_booking_that_has_begun_does_not_move_in_a_chain_either(fleet: Lab) -> None:
    begun = book(fleet, 1, 5, selector="rack in (r1,r2)", count=1, actor="carol")
    ahead = book(fleet, 2, 5, selector="rack=r1", count=1)
    assert (begun.hosts, ahead.hosts) == (("node1",), ("node2",))
    lifecycle_verbs.cordon(fleet.context(), Choice(("node3",)))
    fleet.clock.move(hours=1, minutes=5)
    with pytest.raises(BusyError, match="free only until"):
        reserve(fleet, "node2", ttl=timedelta(hours=4))
    assert planned_on(fleet)["node1"] == [begun.booking.id]


def test_bookings_move_in_a_chain_for_a_new_booking(fleet: Lab) -> None:
    first = book(fleet, 2, 5, selector="rack=r1", count=1)
    second = book(fleet, 2, 5, selector="rack in (r1,r2)", count=2, actor="carol")
    assert (first.hosts, second.hosts) == (("node1",), ("node2", "node3"))
    answer = bookings.book(fleet.context("bob"), asked("node1"), at(3), at(4))
    made = answer.items[0]

    assert made.hosts == ("node1",)
    assert sorted(note.split(" was moved to ")[0] for note in answer.notes) == sorted(
        f"booking {each.booking.id} of {each.booking.owner}" for each in (first, second)
    )
    there = planned_on(fleet)
    assert there["node1"] == [made.booking.id]
    everything = sorted(each for planned in there.values() for each in planned)
    assert everything == sorted([made.booking.id, first.booking.id, *2 * [second.booking.id]])
    assert first.booking.id in there["node2"] + there["node3"]
    assert second.booking.id in there["node4"]


def test_a_refused_request_moves_nothing(fleet: Lab) -> None:
    book(fleet, 2, 5, selector="rack=r1", count=3)
    before = planned_on(fleet)
    with pytest.raises(BusyError):
        book(fleet, 3, 4, "node1", actor="bob")
    with pytest.raises(BusyError):
        reserve(fleet, "node1", "node4", ttl=timedelta(hours=4))
    assert planned_on(fleet) == before


def test_a_dry_run_moves_nothing(fleet: Lab) -> None:
    from dataclasses import replace

    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    plan = plan_reserve(fleet.context("bob"), asked("node1", ttl=timedelta(hours=4)))
    shown = bookings.book(replace(fleet.context("bob"), dry_run=True), asked("node1"), at(3), at(4))
    assert ([item.host for item in plan.items], shown.items[0].hosts) == (["node1"], ("node1",))
    assert shown.notes == (f"booking {made.booking.id} of alice would be moved to node2 to make room",)
    assert planned_on(fleet) == {"node1": [made.booking.id], "node2": [], "node3": [], "node4": []}


def test_a_booking_moved_to_another_time_displaces_another_one_that_can_move(fleet: Lab) -> None:
    named = book(fleet, 6, 8, "node1")
    other = book(fleet, 2, 5, selector="rack=r1", count=1)
    bookings.reschedule(fleet.context("alice"), named.booking.id, at(3))
    there = planned_on(fleet)
    assert (there["node1"], other.booking.id in there["node2"] + there["node3"]) == ([named.booking.id], True)


def test_a_lease_without_a_length_is_shortened_before_a_booking_moves(fleet: Lab) -> None:
    book(fleet, 0.005, 3, selector="rack=r1", count=3)  # it begins in eighteen seconds: too soon for any lease
    assert names_of(reserve(fleet, "node4")) == ["node4"]
    with pytest.raises(BusyError):
        reserve(fleet, "node1", actor="carol")


def test_a_booking_moves_for_a_lease_without_a_length_that_could_not_start_otherwise(fleet: Lab) -> None:
    made = book(fleet, 0.005, 3, selector="rack in (r1,r2)", count=1)
    granted = reserve(fleet, *made.hosts)
    [(now_on, _)] = [(name, ids) for name, ids in planned_on(fleet).items() if ids]
    assert granted.notes == (f"booking {made.booking.id} of alice was moved to {now_on} to make room",)
    assert end_of(granted) >= at(4)  # type: ignore[operator]


def test_a_grant_after_passed_checks_still_moves_a_booking(fleet: Lab) -> None:
    fleet.policy('[checks.ping]\ncommand = ["true"]\n')
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    granted = reserve_or_wait(fleet.context("bob"), asked("node1", ttl=timedelta(hours=4)), check=True)
    assert (names_of(granted), planned_on(fleet)["node1"]) == (["node1"], [])
    assert made.booking.id in planned_on(fleet)["node2"]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_booking_moves_to_make_room_for_one_whose_host_broke(fleet: Lab, is_known: bool) -> None:
    """The booking moves at once if bmhctl knows of the broken host, else when the other booking is taken."""
    later = book(fleet, 2, 5, selector="rack in (r1,r2)", count=1, actor="carol")
    broken = book(fleet, 1, 4, selector="rack=r1", count=1)
    assert (later.hosts, broken.hosts) == (("node1",), ("node2",))
    lifecycle_verbs.maintain(fleet.context(), Choice(("node3",)), reason="dead fan")
    if is_known:
        lifecycle_verbs.maintain(fleet.context(), Choice(("node2",)), reason="dead fan")
        lifecycle_verbs.cordon(fleet.context(), Choice(("node3",)))
        assert planned_on(fleet) == {
            "node1": [broken.booking.id], "node2": [], "node3": [], "node4": [later.booking.id],
        }  # fmt: skip
    else:
        lifecycle_verbs.cordon(fleet.context(), Choice(("node2",)))
    fleet.clock.move(hours=1, minutes=1)
    granted = reserve_or_wait(fleet.context("alice"), asked(booking=broken.booking.id))
    assert (names_of(granted), end_of(granted)) == (["node1"], at(4))
    assert planned_on(fleet) == {"node1": [], "node2": [], "node3": [], "node4": [later.booking.id]}
