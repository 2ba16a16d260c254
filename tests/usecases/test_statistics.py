"""The figures of a history are those that a person would count by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmhctl.domain.model import Event, State, Verb
from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.errors import BmhctlError, UsageError
from bmhctl.results.statistics import BookingFigures, Figures, Statistics, Waits
from bmhctl.usecases import hosts, lifecycle_verbs, undo
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.report import report
from bmhctl.usecases.reservations import bookings, holder, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.statistics import hourly_use, statistics, waits_by_week
from bmhctl.usecases.steps import resume, step_verbs
from tests.conftest import Lab, copied

START = datetime(2026, 1, 5, 0, 0, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def at(lab: Lab, hour: float) -> None:
    lab.clock.now = START + hour * HOUR


def taken(lab: Lab, name: str, owner: str) -> str:
    grant = reserve.reserve_or_wait(lab.context(owner), reservation_request((name,), ttl=timedelta(days=3)))
    return grant.held.reservation.id


def given_back(lab: Lab, owner: str, token: str, reason: str) -> None:
    lifecycle_verbs.release(lab.context(owner), Choice(), reservation=token, reason=reason)


@pytest.fixture
@copied
def history(lab: Lab) -> Lab:
    """One Monday of three hosts in two racks, hour by hour."""
    at(lab, 0)
    for name, rack in (("node1", "r1"), ("node2", "r1"), ("node3", "r2")):
        hosts.add(lab.context(), [name], hosts.AttributeChanges(labels={"rack": rack}))
    at(lab, 1)
    step_verbs.ready(lab.context(), Choice(("node1", "node2", "node3")))
    at(lab, 2)
    first = taken(lab, "node1", "alice")
    at(lab, 4)
    second = taken(lab, "node2", "bob")
    at(lab, 6)
    handed = holder.handover(lab.context("alice"), first, "bob").held.reservation.id
    at(lab, 8)
    given_back(lab, "bob", handed, "task completed")
    at(lab, 9)
    given_back(lab, "bob", second, "task failed: exit 1")
    at(lab, 10)
    step_verbs.reset(lab.context(), Choice(("node1",)))
    at(lab, 12)
    step_verbs.ready(lab.context(), Choice(("node1",)))
    lifecycle_verbs.maintain(lab.context("ops"), Choice(("node3",)), reason="new disk")
    at(lab, 18)
    resume.resume(lab.context("ops"), Choice(("node3",)))
    at(lab, 20)
    lifecycle_verbs.taint(lab.context("ops"), Choice(("node2",)), fault="no link")
    at(lab, 24)
    return lab


def hours(figures: Figures) -> dict[str, float]:
    return {state.value: round(seconds / 3600, 2) for state, seconds in figures.seconds.items()}


def test_the_statistics_of_a_day_match_those_counted_by_hand(history: Lab) -> None:
    day = statistics(history.context(), START, by="host")
    assert {each.name: hours(each) for each in day.groups} == {
        "node1": {"initial": 3.0, "available": 13.0, "reserved": 6.0, "tainted": 2.0},
        "node2": {"initial": 1.0, "available": 3.0, "reserved": 5.0, "tainted": 15.0},
        "node3": {"initial": 1.0, "available": 17.0, "maintenance": 6.0},
    }
    total = day.total
    assert total.hosts == 3
    assert total.utilisation == pytest.approx(11 / 72, abs=1e-4)
    assert (total.reservations, total.failed_tasks, total.faults) == (3, 1, 1)
    assert total.failures == 1
    assert total.mean_between_failures == pytest.approx(66 * HOUR, abs=timedelta(seconds=1))
    assert total.mean_repair == pytest.approx(6 * HOUR, abs=timedelta(seconds=1))


def test_hosts_are_ranked_by_the_tasks_that_failed_on_them(history: Lab) -> None:
    ranked = statistics(history.context(), START, by="host").groups
    assert [(each.name, each.failed_tasks) for each in ranked] == [("node2", 1), ("node1", 0), ("node3", 0)]
    by_name = statistics(history.context(), START, by="host", sort="name").groups
    assert [each.name for each in by_name] == ["node1", "node2", "node3"]


def test_a_window_counts_only_the_time_within_it(history: Lab) -> None:
    part = statistics(history.context(), START + 5 * HOUR, START + 11 * HOUR, by="host", sort="name")
    assert {each.name: hours(each) for each in part.groups} == {
        "node1": {"initial": 1.0, "reserved": 3.0, "tainted": 2.0},
        "node2": {"reserved": 4.0, "tainted": 2.0},
        "node3": {"available": 6.0},
    }
    assert [each.failed_tasks for each in part.groups] == [0, 1, 0]
    assert part.total.failures == 0
    assert part.total.mean_repair is None


def test_statistics_separate_owners_and_count_a_handover_for_both(history: Lab) -> None:
    day = statistics(history.context(), START, by="owner")
    assert {each.name: (hours(each), each.reservations, each.failed_tasks) for each in day.groups} == {
        "alice": ({"reserved": 4.0}, 1, 0),
        "bob": ({"reserved": 7.0}, 2, 1),
    }
    assert {each.hosts for each in day.groups} == {None}


def test_the_hosts_of_a_label_are_one_group(history: Lab) -> None:
    day = statistics(history.context(), START, by="label:rack", sort="utilisation")
    assert [(each.name, each.hosts, hours(each).get("reserved", 0.0)) for each in day.groups] == [
        ("r1", 2, 11.0),
        ("r2", 1, 0.0),
    ]


def test_a_host_that_was_removed_counts_for_the_time_that_it_was_there(history: Lab) -> None:
    hosts.remove(history.context(), Choice(("node1",)), reason="sold", force=True)
    at(history, 34)
    day = statistics(history.context(), START + 20 * HOUR, by="host")
    assert {each.name: hours(each) for each in day.groups} == {
        "node1 (removed)": {"available": 4.0},
        "node2": {"tainted": 14.0},
        "node3": {"available": 14.0},
    }


def test_a_host_whose_addition_was_undone_does_not_count(history: Lab) -> None:
    at(history, 25)
    hosts.add(history.context(), ["node[4-9]"], hosts.AttributeChanges(labels={"rack": "r9"}))
    during = statistics(history.context(), START)
    at(history, 26)
    undo.undo(history.context())
    after = statistics(history.context(), START, by="label:rack")
    assert (during.total.hosts, after.total.hosts, [group.name for group in after.groups]) == (9, 3, ["r1", "r2"])
    present = sum(present for _, present in hourly_use(history.context(), START).cells.values())
    assert present == sum(after.total.seconds.values()) == 3 * 26 * 3600
    undo.undo(history.context())  # the same six hosts again: the hour from their addition to their removal counts
    assert statistics(history.context(), START).total.hosts == 9
    again = sum(present for _, present in hourly_use(history.context(), START).cells.values())
    assert again == present + 6 * 3600


def test_the_use_of_each_hour_of_the_week_is_the_share_of_reserved_hosts(
    history: Lab, zone: Callable[[str], None]
) -> None:
    zone("UTC")
    use = hourly_use(history.context(), START)
    shares = {place: round(reserved / present, 2) for place, (reserved, present) in use.cells.items() if present}
    expected = {hour: ((2 <= hour < 8) + (4 <= hour < 9)) / 3 for hour in range(24)}
    assert shares == {(0, hour): round(share, 2) for hour, share in expected.items()}


def test_a_report_has_the_whole_local_hours_of_a_zone_with_half_an_hour_too(
    history: Lab, zone: Callable[[str], None]
) -> None:
    zone("Asia/Kolkata")
    use = hourly_use(history.context(), START)
    assert report(history.context(), START).hourly.cells == use.cells


def test_groups_come_in_their_natural_order_and_those_without_a_name_last(history: Lab) -> None:
    hosts.add(history.context(), ["spare"], hosts.AttributeChanges())
    for name, rack in (("node1", "r10"), ("node2", "r2")):
        hosts.set_attributes(history.context(), Choice((name,)), hosts.AttributeChanges(labels={"rack": rack}))
    for sort, names in (("name", ["r2", "r10", "(none)"]), ("-name", ["r10", "r2", "(none)"])):
        found = statistics(history.context(), START, by="label:rack", sort=sort)
        assert [each.name for each in found.groups] == names


def test_a_tag_used_only_by_earlier_reservations_is_not_an_error(history: Lab) -> None:
    store = history.context().store
    with store.transaction():
        store.database.execute("UPDATE reservations SET tags = ?", ['{"job":"4711"}'])
    assert [each.name for each in statistics(history.context(), START, by="tag:job").groups] == ["4711"]
    late = history.clock.now - timedelta(seconds=1)
    assert {each.name for each in statistics(history.context(), late, by="tag:job").groups} <= {"4711"}
    with pytest.raises(UsageError, match="no host has a label or property 'job'") as refused:
        statistics(history.context(), late, by="job")
    assert refused.value.hint == "bmhctl stats --by tag:job groups by the tag of this name"
    with pytest.raises(UsageError, match="no reservation ever had a tag 'jo'"):
        statistics(history.context(), late, by="tag:jo")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"since": START + timedelta(days=9)}, "--since is not in the past"),
        ({"since": START + HOUR, "until": START}, "--since ("),
        ({"by": "colour"}, "no host has a label or property 'colour'"),
        ({"by": "label:"}, "can't group by 'label:'"),
        ({"by": "host:x"}, "can't group by 'host:x'"),
        ({"by": "label:colour"}, "no host has a label or property 'colour'"),
        ({"by": "tag:colour"}, "no reservation ever had a tag 'colour'"),
        ({"by": "tag:j_b"}, "no reservation ever had a tag 'j_b'"),
        ({"sort": "beauty"}, "can't sort by 'beauty'"),
    ],
)
def test_an_invalid_question_about_statistics_is_refused_in_one_line(
    history: Lab, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        statistics(history.context(), **{"since": START, **options})  # type: ignore[arg-type]


def test_only_reservations_with_a_known_wait_are_counted_in_waits(history: Lab) -> None:
    store = history.context().store
    with store.transaction():
        store.database.execute("UPDATE reservations SET asked_at = NULL")
    assert statistics(history.context(), START).total.waits is None
    [(first,)] = store.database.execute("SELECT id FROM reservations ORDER BY created_at LIMIT 1")
    with store.transaction():
        store.database.execute("UPDATE reservations SET asked_at = created_at - 90000000 WHERE id = ?", [first])
    assert statistics(history.context(), START).total.waits == Waits(
        1, timedelta(seconds=90), timedelta(seconds=90), timedelta(seconds=90)
    )


def test_the_waits_of_a_week_are_those_of_the_reservations_made_in_it(lab: Lab) -> None:
    at(lab, 0)
    hosts.add(lab.context(), ["node1", "node2"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node1", "node2")))
    at(lab, 7 * 24 - 0.5)
    taken(lab, "node1", "alice")
    at(lab, 15 * 24)
    taken(lab, "node2", "alice")
    store = lab.context().store
    with store.transaction():
        store.database.execute("UPDATE reservations SET asked_at = created_at - 90000000")
    waits = Waits(1, *(timedelta(seconds=90),) * 3)
    week = timedelta(weeks=1)
    assert [*waits_by_week(lab.context(), START, START + 2.5 * week)] == [
        (START, 1, waits),
        (START + week, 0, None),
        (START + 2 * week, 1, waits),
    ]
    assert [*waits_by_week(lab.context(), START, START)] == []


# tests: the same figures by brute force, over random histories


@dataclass
class Reader:
    """Counts by reading one event after the other, as the module under test does not."""

    since: datetime
    until: datetime
    spent: dict[str, Counter[str]] = field(default_factory=dict)

    def read(self, events: list[Event]) -> dict[str, dict[str, float]]:
        by_host: dict[str, list[Event]] = {}
        for event in events:
            by_host.setdefault(event.host, []).append(event)
        found: dict[str, dict[str, float]] = {}
        for host, own in by_host.items():
            spent: dict[str, float] = {}
            for event, following in zip(own, [*own[1:], None], strict=True):
                start = max(event.at, self.since)
                end = min(following.at if following else self.until, self.until)
                if event.dest is not None and end > start:
                    spent[event.dest.value] = spent.get(event.dest.value, 0.0) + (end - start).total_seconds()
            if spent:
                found[host] = spent
        return found


MOVES = st.lists(
    st.tuples(st.sampled_from(("node1", "node2", "node3")), st.sampled_from([*Verb]), st.integers(1, 100_000)),
    max_size=30,
)


def moved(lab: Lab, name: str, verb: Verb) -> None:
    held = lab.context().store.hosts.named(name)
    match verb:
        case Verb.READY:
            step_verbs.ready(lab.context(), Choice((name,)))
        case Verb.RESERVE:
            taken(lab, name, "alice")
        case Verb.TAINT if held is not None and held.reservation is not None:
            given_back(lab, "alice", held.reservation.id, "done")
        case Verb.RESET:
            step_verbs.reset(lab.context(), Choice((name,)))
        case Verb.MAINTAIN:
            lifecycle_verbs.maintain(lab.context(), Choice((name,)), reason="disk")
        case Verb.RESUME:
            resume.resume(lab.context(), Choice((name,)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(moves=MOVES, window=st.tuples(st.integers(0, 860_000), st.integers(1, 1_500_000)))
def test_the_statistics_of_random_histories_match_a_count_event_by_event(
    moves: list[tuple[str, Verb, int]], window: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from bmhctl.usecases import inventories

    lab = Lab(tmp_path_factory.mktemp("random") / "lab.db")
    lab.clock.now = START
    inventories.init(lab.location)
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())
    for name, verb, seconds in moves:
        lab.clock.move(seconds=seconds)
        try:
            moved(lab, name, verb)
        except BmhctlError:
            continue
    lab.clock.move(days=10)
    since = START + timedelta(seconds=window[0])
    until = since + timedelta(seconds=window[1])
    found: Statistics = statistics(lab.context(), since, until, by="host")
    events = list(lab.context().store.events.read())
    expected = Reader(since, min(until, lab.clock.now)).read(events)
    for each in found.groups:
        own = {state.value: seconds for state, seconds in each.seconds.items()}
        wanted = expected.get(each.name, {})
        for state in State:
            assert own.get(state.value, 0.0) == pytest.approx(wanted.get(state.value, 0.0), abs=1.0)
    assert {each.name for each in found.groups} == set(expected)
    reserved = sum(event.verb is Verb.RESERVE and since <= event.at < until for event in events)
    assert found.total.reservations == sum(
        since <= each.created_at < until for each in lab.context().store.reservations.all()
    )
    assert sum(each.reservations for each in found.groups) == reserved
    lab.close()


@pytest.fixture
@copied
def booked(lab: Lab) -> Lab:
    """A Monday with bookings of four hosts by alice, bob and carol; a comment at each says what a person counts."""
    at(lab, 0)
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    two, one = reservation_request(("node1", "node2")), reservation_request(("node3",))

    def book(actor: str, asked: ReservationRequest, starts: float, ends: float) -> str:
        times = START + starts * HOUR, START + ends * HOUR
        return bookings.book(lab.context(actor), asked, *times).items[0].booking.id

    def take(actor: str, booking: str) -> str:
        asked = reservation_request((), booking=booking)
        return reserve.reserve_or_wait(lab.context(actor), asked).held.reservation.id

    at(lab, 1)
    used = book("alice", two, 4, 8)  # two hosts for four hours: 8 booked
    handed = book("bob", one, 4, 10)  # 6 booked
    late = book("carol", reservation_request(("node4",)), 5, 9)  # lapses when a command writes at 6: 1 booked
    given_up = book("carol", one, 12, 14)  # cancelled before it began: 0 booked
    begun = book("carol", one, 15, 18)  # cancelled a quarter of an hour after it began: 0.25 booked
    still = book("alice", two, 22, 26)  # open, two hosts for two hours of the day: 4 booked
    plan_maintenance(lab.context("ops"), Choice(("node4",)), START + 11 * HOUR, START + 12 * HOUR, reason="power work")
    at(lab, 4.25)
    first = take("alice", used)  # 3.75 of the 4 hours are left
    second = take("bob", handed)
    at(lab, 6)
    lifecycle_verbs.taint(lab.context("alice"), Choice(("node1",)), reservation=first)  # node1 was used for 1.75
    third = holder.handover(lab.context("bob"), second, "dave").held.reservation.id
    at(lab, 8.5)
    refresh_and_reap(lab.context("ops"))  # node2 was used to the end of the booking at 8: 3.75
    at(lab, 9)
    given_back(lab, "dave", third, "done")  # node3 was used from 4.25 to 9: 4.75
    step_verbs.reset(lab.context(), Choice(("node1", "node2", "node3")))
    step_verbs.ready(lab.context(), Choice(("node1", "node2", "node3")))
    at(lab, 10)
    bookings.cancel(lab.context("carol"), given_up)
    at(lab, 15.25)
    bookings.cancel(lab.context("carol"), begun)
    at(lab, 24)
    assert {each.id for each in lab.context().store.bookings.open()} == {still}
    assert lab.context().store.bookings.get(late) is not None
    return lab


def in_hours(found: BookingFigures | None) -> tuple[int, int, int, int, float, float]:
    assert found is not None
    counts = found.made, found.taken, found.lapsed, found.cancelled
    return *counts, round(found.booked / 3600, 2), round(found.used / 3600, 2)


def test_the_statistics_of_bookings_match_those_counted_by_hand(booked: Lab) -> None:
    day = statistics(booked.context(), START, by="owner")
    assert {each.name: in_hours(each.bookings) for each in day.groups} == {
        "alice": (2, 1, 0, 0, 12.0, 5.5),
        "bob": (1, 1, 0, 0, 6.0, 4.75),
        "carol": (3, 0, 1, 2, 1.25, 0.0),
        "dave": (0, 0, 0, 0, 0.0, 0.0),
    }
    assert in_hours(day.total.bookings) == (6, 2, 1, 2, 19.25, 10.25)
    assert day.total.bookings is not None
    assert day.total.bookings.share == pytest.approx(10.25 / 19.25, abs=1e-4)
    assert [each.bookings for each in statistics(booked.context(), START, by="host").groups] == [None] * 4


@pytest.mark.parametrize(
    ("begin", "end", "counted"),
    [
        (0, 3, (6, 0, 0, 0, 0.0, 0.0)),
        (5, 7, (0, 0, 1, 0, 7.0, 5.0)),
        (7, 9.5, (0, 0, 0, 0, 4.5, 3.0)),
        (15, 23, (0, 0, 0, 1, 2.25, 0.0)),
    ],
)
def test_bookings_count_only_for_their_time_within_the_window(
    booked: Lab, begin: float, end: float, counted: tuple[int, int, int, int, float, float]
) -> None:
    part = statistics(booked.context(), START + begin * HOUR, START + end * HOUR)
    assert in_hours(part.total.bookings) == counted
