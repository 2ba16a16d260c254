"""doctor compares bookings with the rows of their hosts, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bmhctl.domain.requirements import reservation_request
from bmhctl.usecases import hosts, queries
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps import step_verbs
from tests.broken_inventories import Found, examined, found, unchecked
from tests.conftest import Lab

HOUR = timedelta(hours=1)
Ids = dict[str, str]
Breaks = Callable[[Ids], tuple[str, ...]]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in its own folder, in which the backup of a server's inventory is written."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ids(lab: Lab) -> Ids:
    """node1 and node2 are booked in an hour (early) and in three (late), node3 is to be in maintenance (power)."""
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    now, two = lab.clock.now, reservation_request(("node1", "node2"))
    made = {
        name: bookings.book(lab.context(), two, now + hours * HOUR, now + (hours + 1) * HOUR).items[0].booking.id
        for name, hours in (("early", 1), ("late", 3))
    }
    plan_maintenance(lab.context(), Choice(("node3",)), now + HOUR, now + 2 * HOUR, reason="power work", resumes=True)
    [power] = [each.id for each in lab.context().store.bookings.open() if each.is_maintenance]
    lab.close()
    return made | {"power": power}


def planned(lab: Lab) -> dict[str, list[str]]:
    listed = queries.list_hosts(lab.context(), Choice(everything=True)).hosts
    return {host.name: [each.id for each in host.planned] for host in listed}


def _found(host: str | None, message: str, remedy: str, severity: str = "broken") -> Found:
    return ("booking", severity, host, message, remedy)


FIX = "bmhctl doctor --fix"
FIXED: dict[str, tuple[Breaks, Callable[[Ids], list[Found]]]] = {
    "a booking that does not exist": (
        lambda ids: (f"DELETE FROM bookings WHERE id = '{ids['early']}'",),
        lambda ids: [
            _found(name, f"is set aside for {ids['early']}, "
"which does not exist", f"{FIX} removes that time from the host")
            for name in ("node1", "node2")
        ],
    ),
    "a booking that has ended": (
        lambda ids: (
            "UPDATE bookings SET due_at = NULL, ended_at = starts_at, end_reason = 'cancelled'"
            f" WHERE id = '{ids['power']}'",
        ),
        lambda ids: [
            _found("node3", f"is set aside for {ids['power']}, which "
"has ended: cancelled", f"{FIX} removes that time from the host")
        ],
    ),
    "a booking with other hosts": (
        lambda ids: (f"UPDATE bookings SET hosts = '[1]' WHERE id = '{ids['late']}'",),
        lambda ids: [
            _found(
                "node2", f"is set aside for booking {ids['late']} of alice, which has other hosts",
                f"{FIX} removes that time from the host",
            )
        ],
    ),
    "a host without its booking": (
        lambda ids: ("UPDATE hosts SET planned = NULL, planned_at = NULL WHERE name = 'node3'",),
        lambda ids: [
            _found(
                "node3", f"is not set aside for planned maintenance {ids['power']} of alice, which has this host",
                f"{FIX} sets it aside",
            )
        ],
    ),
    "another time": (
        lambda ids: (f"UPDATE bookings SET ends_at = ends_at + 1000000 WHERE id = '{ids['power']}'",),
        lambda ids: [
            _found(
                "node3",
                f"is set aside for planned maintenance {ids['power']} of alice "
"at another time than that of the booking",
                f"{FIX} records the time of the booking",
            )
        ],
    ),
    "another beginning": (
        lambda ids: ("UPDATE hosts SET planned_at = planned_at + 1 WHERE name = 'node1'",),
        lambda ids: [
            _found(
                "node1", "the recorded start of its next booking or maintenance differs from its bookings",
                f"{FIX} records that time",
            )
        ],
    ),
}  # fmt: skip


def test_the_doctor_finds_nothing_in_valid_bookings_at_any_time(lab: Lab, ids: Ids) -> None:
    for hours in (0.5, 1, 1, 1):
        assert found(examined(lab)) == []
        lab.clock.move(hours=hours)
        refresh_and_reap(lab.context())
        lab.close()
    assert found(examined(lab)) == []


@pytest.mark.parametrize("case", FIXED)
def test_a_plan_that_contradicts_its_booking_is_fixed(case: str, lab: Lab, ids: Ids) -> None:
    breaks, expected = FIXED[case]
    unchecked(lab, *breaks(ids))
    assert found(examined(lab)) == expected(ids)
    examined(lab, fix=True)
    assert found(examined(lab)) == []
    known = {each.id: each for each in lab.context().store.bookings.open()}
    of_hosts = {
        name: [each.id for each in known.values() if number in each.hosts]
        for number, name in enumerate(("node1", "node2", "node3", "node4"), 1)
    }
    assert planned(lab) == of_hosts


def test_a_booked_host_that_another_owner_holds_then_is_left_to_a_person(lab: Lab, ids: Ids) -> None:
    unchecked(lab, "UPDATE hosts SET planned = NULL, planned_at = NULL WHERE name = 'node2'")
    asked = reservation_request(("node2",), ttl=timedelta(hours=2))
    reserve.reserve_or_wait(lab.context("bob"), asked)
    lab.close()
    left, fixed = (
        f"is not set aside for booking {ids['early']} of alice, which has this host",
        f"is not set aside for booking {ids['late']} of alice, which has this host",
    )
    assert _found(
        "node2", left, f"the host is not free then: bmhctl bookings move {ids['early']} --from WHEN, or cancel it"
    ) in found(examined(lab))
    examined(lab, fix=True)
    assert [message for _, _, _, message, _ in found(examined(lab))] == [left]
    assert fixed not in [message for _, _, _, message, _ in found(examined(lab))]
    assert planned(lab)["node2"] == [ids["late"]]


def test_bookings_that_overlap_are_left_to_a_person(lab: Lab, ids: Ids) -> None:
    unchecked(
        lab,
        f"UPDATE bookings SET ends_at = ends_at + 9000000000 WHERE id = '{ids['early']}'",
    )
    examined(lab, fix=True)
    assert found(examined(lab)) == [
        _found(
            name,
            f"is set aside for {ids['early']} and {ids['late']} at the same time",
            f"bmhctl bookings move {ids['late']} --from WHEN, or cancel one of them",
        )
        for name in ("node1", "node2")
    ]


def test_removed_hosts_and_due_plans_of_bookings_are_named(lab: Lab, ids: Ids) -> None:
    hosts.remove(lab.context(), Choice(("node2",)), reason="sold", force=True)
    hosts.remove(lab.context(), Choice(("node4",)), reason="sold", force=True)
    messages = [message for _, _, _, message, _ in found(examined(lab))]
    assert messages == [f"booking {ids[name]} of alice has 1 removed host" for name in ("early", "late")]
    lab.clock.move(hours=1.6)
    notes = [(host, message) for _, severity, host, message, _ in found(examined(lab)) if severity == "note"]
    assert [message.partition(" of alice: an action has been overdue since ")[0] for _, message in notes] == [
        f"booking {ids['early']}",
        f"planned maintenance {ids['power']}",
        f"booking {ids['late']}",  # other hosts are looked for again
    ]
    refresh_and_reap(lab.context())
    assert not [each for each in found(examined(lab)) if each[1] == "note"]


def test_an_unreadable_history_of_the_queue_is_a_finding(lab: Lab, ids: Ids) -> None:
    unchecked(
        lab,
        "INSERT INTO queue_events (ticket, at, actor, verb, owner, requirements)"
        " VALUES (0, 1, 'alice', 'polished', 'alice', '[]')",
    )
    assert [(kind, severity, message) for kind, severity, _, message, _ in found(examined(lab))] == [
        ("queue", "warning", "event 1 of ticket 0 is of a kind that this version does not know: 'polished'")
    ]


def test_a_maintenance_that_began_before_the_clock_was_set_back_is_not_planned_again(lab: Lab, ids: Ids) -> None:
    lab.clock.move(hours=1, minutes=1)
    refresh_and_reap(lab.context())
    lab.clock.move(minutes=-2)
    assert [each for each in found(examined(lab)) if each[1] == "broken"] == []
