"""The queue on every backend, with a clock that the test moves: the order of tickets, and the ends of waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bmhctl.domain.model import Host, State
from bmhctl.domain.requirements import ReservationRequest, parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import (
    AwayError,
    BusyError,
    InvalidError,
    NotFoundError,
    NotYoursError,
    StateRefusedError,
    UncertainError,
    UnsatisfiableError,
    UsageError,
    WaitTimeoutError,
)
from bmhctl.results import Grant
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.store import Store
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, contended, grants, queue, reserve, waiting
from bmhctl.usecases.reservations.queue_watch import Waiting
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import execution, step_verbs
from tests.conftest import Lab, copied, made_in
from tests.processes import until

Step = Callable[[], object]


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Two hosts in each of two racks, available."""
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    hosts.add(lab.context(), ["node[3-4]"], hosts.AttributeChanges(labels={"rack": "r2"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    return lab


told: list[Waiting] = []
"""The positions that the last waiting command has reported."""


def wait(
    lab: Lab, *steps: Step, actor: str = "alice", timeout: float | None = 600, check: bool = False, **asked: Any
) -> Grant:
    """Waits for the requested hosts, one by default; in each pause the next step happens, and time passes."""
    coming = iter(steps)

    def pause(seconds: float, wakes: int | None) -> None:
        next(coming, lambda: None)()
        lab.clock.move(seconds=seconds)

    told.clear()
    patience = WaitOptions(pause, None if timeout is None else timedelta(seconds=timeout), told.append)
    return reserve.reserve_or_wait(
        lab.context(actor), reservation_request(**asked or {"count": 1}), patience, check=check
    )


def take(lab: Lab, *names: str, actor: str = "holder", count: int | None = None, selector: str | None = None) -> Grant:
    asked = reservation_request(names, None if selector is None else parse_selector(selector), count)
    return reserve.reserve_or_wait(lab.context(actor), asked)


def give_back(lab: Lab, *names: str) -> None:
    lifecycle_verbs.taint(lab.context("holder"), Choice(names))
    step_verbs.reset(lab.context("holder"), Choice(names))
    step_verbs.ready(lab.context("holder"), Choice(names))


def names(grant: Grant) -> list[str]:
    return [host.name for host in grant.held.hosts]


def states(lab: Lab) -> list[State]:
    return [host.state for host in queries.list_hosts(lab.context(), Choice(everything=True)).hosts]


def tickets(lab: Lab) -> list[str]:
    return [ticket.owner for ticket in lab.context().store.tickets.all()]


def missing(lab: Lab) -> list[str]:
    return [item.missing for item in queue.queue(lab.context()).items]


def busy(act: Step) -> Step:
    """A step that finds no free host, because an older ticket has a right to it."""

    def step() -> None:
        with pytest.raises(BusyError):
            act()

    return step


# tests: the order of the queue


def test_a_free_host_is_granted_at_once_without_a_ticket(fleet: Lab) -> None:
    assert names(wait(fleet)) == ["node1"]
    assert told == []


def test_a_returned_host_goes_to_the_waiter_and_to_no_other_process(fleet: Lab) -> None:
    take(fleet, count=4)

    def back() -> None:
        give_back(fleet, "node3")
        with pytest.raises(BusyError) as refused:
            take(fleet, "node3")
        assert "set aside for the earlier ticket of alice, from 12:00:00 UTC" in refused.value.message

    assert names(wait(fleet, back)) == ["node3"]
    assert tickets(fleet) == []


def test_a_request_for_two_is_not_starved_by_those_for_one(fleet: Lab) -> None:
    take(fleet, count=4)

    def one_back(name: str) -> Step:
        def step() -> None:
            give_back(fleet, name)
            if name == "node1":
                busy(lambda: take(fleet, count=1))()  # set aside for the request for two, which needs both at once
                assert states(fleet)[0] == "available"
                assert missing(fleet) == ["1 more host"]

        return step

    assert names(wait(fleet, one_back("node1"), one_back("node4"), count=2)) == ["node1", "node4"]


def test_hosts_that_an_earlier_ticket_does_not_need_are_granted_to_others(fleet: Lab) -> None:
    take(fleet, count=4)

    def step() -> None:
        give_back(fleet, "node3")
        assert names(take(fleet, "node3")) == ["node3"]

    with pytest.raises(WaitTimeoutError):
        wait(fleet, step, timeout=5, selector=parse_selector("rack=r1"))


def test_a_ticket_that_needs_an_operator_holds_nothing_and_says_so(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), Choice(("node1",)), reason="dead fan")
    lifecycle_verbs.cordon(fleet.context(), Choice(("node2",)))
    take(fleet, "node3")
    lifecycle_verbs.maintain(fleet.context(), Choice(("node3",)), reason="new disk", when_free=True)
    seen: list[str] = []

    def step() -> None:
        seen.extend(missing(fleet))
        take(fleet, "node4")

    with pytest.raises(WaitTimeoutError):
        wait(fleet, step, timeout=60, count=4)
    assert seen == [
        "3 more hosts: that needs an operator; node1 is in maintenance, node2 is cordoned, node3 is draining"
    ]
    assert "1 cordoned, 1 maintenance, 2 reserved" in told[-1].why


def test_the_queue_lists_owners_requirements_and_missing_hosts(fleet: Lab) -> None:
    take(fleet, count=4)
    asked: dict[str, Any] = {"count": 2, "selector": parse_selector("rack=r1"), "purpose": "nightly"}
    seen = []

    def step() -> None:
        with pytest.raises(WaitTimeoutError):
            wait(fleet, lambda: seen.append(queue.queue(fleet.context()).items), actor="bob", timeout=1)

    with pytest.raises(WaitTimeoutError):
        wait(fleet, step, timeout=60, **asked)
    (first, second) = seen[0]
    assert [
        (one.position, one.ticket.owner, one.ticket.purpose, one.requirements, one.missing) for one in (first, second)
    ] == [
        (1, "alice", "nightly", "2 hosts with rack=r1", "2 more hosts"),
        (2, "bob", None, "1 host", "1 more host"),
    ]
    assert first.ticket.deadline is not None
    assert timedelta(seconds=59) < first.ticket.deadline - first.ticket.created_at <= timedelta(seconds=60)
    assert queue.queue(fleet.context()).items == ()


def test_the_queue_names_the_bookings_that_hold_hosts_back(fleet: Lab) -> None:
    now = fleet.clock.now
    begin, end = now + timedelta(hours=2), now + timedelta(hours=3)
    plan_maintenance(fleet.context("ops"), Choice(("node3", "node4")), begin, end, reason="power work")
    [booked] = bookings.book(fleet.context("team"), reservation_request(("node1",)), begin, end).items
    plan_maintenance(fleet.context("ops"), Choice(("node2",)), begin, end, reason="power work")
    long = {"count": 4, "ttl": timedelta(hours=4)}
    short = {"names": ("node1",), "ttl": timedelta(hours=1)}
    seen: list[str] = []
    with pytest.raises(WaitTimeoutError):
        wait(fleet, lambda: seen.extend(missing(fleet)), actor="bob", timeout=5, **long)
    [words] = seen
    assert words.startswith("4 more hosts: ")
    assert "node1 is booked by team from " in words
    assert f"({booked.booking.id})" in words
    assert "node2 is planned for a maintenance by ops" in words
    assert "node3 node4 are planned for a maintenance by ops" in words
    assert names(wait(fleet, actor="bob", timeout=5, **short)) == ["node1"]


def test_a_ticket_sets_aside_no_hosts_that_are_booked_during_its_lease(fleet: Lab) -> None:
    begin, end = fleet.clock.now + timedelta(hours=2), fleet.clock.now + timedelta(hours=3)
    bookings.book(fleet.context("team"), reservation_request(("node1", "node2", "node3")), begin, end)
    seen: list[int] = []
    with pytest.raises(WaitTimeoutError):
        wait(
            fleet,
            lambda: seen.append(status(fleet.context()).free),
            actor="bob",
            timeout=5,
            count=2,
            ttl=timedelta(hours=4),
        )
    assert seen == [3]  # node4 is set aside


def test_a_waiter_reports_its_position_at_first_and_after_each_change(fleet: Lab) -> None:
    held = take(fleet, count=4).held.reservation.id

    with pytest.raises(WaitTimeoutError):
        wait(fleet, timeout=120)

    assert [(one.position, one.requirements, one.why) for one in told] == [
        (
            1,
            "1 host",
            f"1 host: none free now, nothing was reserved: 4 reserved, held by holder ({held}); "
            "the first lease ends at 2026-01-01 16:00 UTC",
        )
    ]


def test_overlapping_requirements_find_the_hosts_that_fit_them_all(fleet: Lab) -> None:
    hosts.add(fleet.context(), ["switch"], hosts.AttributeChanges(labels={"rack": "r1", "role": "switch"}))
    step_verbs.ready(fleet.context(), Choice(("switch",)))
    take(fleet, "node2", "switch")
    wants = [parse_requirement("rack=r1*2"), parse_requirement("role=switch")]

    def unfit() -> None:
        assert missing(fleet) == ["2 more hosts"]
        give_back(fleet, "switch")  # the switch could be one of the two, but then no switch is left

    granted = wait(fleet, unfit, lambda: give_back(fleet, "node2"), requirements=wants)

    assert names(granted) == ["node1", "node2", "switch"]


# tests: ends of a wait


def test_a_waiter_without_a_sign_of_life_for_15_seconds_is_skipped_and_keeps_its_position(fleet: Lab) -> None:
    take(fleet, count=4)

    def stopped() -> None:
        give_back(fleet, "node1")
        fleet.clock.move(seconds=14)
        busy(lambda: take(fleet, count=1))()
        fleet.clock.move(seconds=2)
        assert missing(fleet) == ["its process is checking hosts, or is stopped: others may go first"]
        assert names(take(fleet, count=1)) == ["node1"]

    def awake() -> None:
        give_back(fleet, "node2")
        busy(lambda: take(fleet, count=1))()

    assert names(wait(fleet, stopped, lambda: None, awake)) == ["node2"]


@pytest.mark.parametrize("hours", [-3, 3])
def test_setting_the_clock_does_not_end_a_wait_without_limit(fleet: Lab, hours: int) -> None:
    held = reserve.reserve_or_wait(
        fleet.context("holder"), reservation_request(count=4, ttl=timedelta(days=2))
    ).held.hosts

    def back() -> None:
        give_back(fleet, held[0].name)
        busy(lambda: take(fleet, count=1))()

    assert names(wait(fleet, lambda: fleet.clock.move(hours=hours), lambda: None, back, timeout=None)) == ["node1"]


def test_setting_the_clock_back_makes_no_wait_longer(fleet: Lab) -> None:
    take(fleet, count=4)
    begun = fleet.clock.now

    with pytest.raises(WaitTimeoutError):
        wait(fleet, lambda: fleet.clock.move(days=-10), timeout=1.5)

    assert fleet.clock.now < begun
    assert tickets(fleet) == []


def test_a_wait_ends_at_its_deadline_and_its_ticket_with_it(fleet: Lab) -> None:
    take(fleet, count=4)
    begun = fleet.clock.now

    with pytest.raises(WaitTimeoutError) as refused:
        wait(fleet, timeout=30)

    assert refused.value.message == "timed out after 30s waiting for 1 host"
    assert timedelta(seconds=30) <= fleet.clock.now - begun < timedelta(seconds=31)
    assert tickets(fleet) == []


def late(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every grant take an hour."""
    moving = grants.move

    def slowly(*args: object, **options: object) -> Host:
        lab.clock.move(hours=1)
        return moving(*args, **options)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(grants, "move", slowly)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_grant_that_comes_after_the_deadline_is_undone(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
        take(fleet, count=4)
    late(fleet, monkeypatch)
    before = len(list(fleet.context().store.reservations.all()))

    with pytest.raises(WaitTimeoutError):
        wait(fleet, lambda: give_back(fleet, "node1"), timeout=60)

    assert states(fleet)[0] == "available"
    assert len(list(fleet.context().store.reservations.all())) == before
    assert tickets(fleet) == []


class Interruption(BaseException):
    """The exception with which a signal ends a command."""


@pytest.mark.parametrize("way", ["grant_uncontended", "try_grant"])
def test_a_grant_is_given_back_when_its_process_is_interrupted_before_it_reads_it(
    way: str, fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = reserve if way == "grant_uncontended" else contended
    granting: Callable[..., Grant] = getattr(module, way)

    def interrupted(*args: object) -> Grant:
        granting(*args)
        raise Interruption

    monkeypatch.setattr(reserve, "grant_uncontended", lambda *_: None)
    monkeypatch.setattr(module, way, interrupted)
    with pytest.raises(Interruption):
        wait(fleet)
    assert states(fleet)[0] == "tainted"
    assert fleet.context().store.reservations.open() == []

    with pytest.raises(Interruption):  # with a request id, the same request gets the hosts
        wait(fleet, count=1, request_id="job-1")
    monkeypatch.undo()
    assert names(wait(fleet, count=1, request_id="job-1")) == ["node2"]


def test_a_host_whose_check_begins_while_it_is_chosen_is_not_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant_view = Store.grant_view
    for lab in made_in("postgres", tmp_path):  # several commands at the same time
        hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
        step_verbs.ready(lab.context(), Choice(("node1", "node2")))
        with ExitStack() as checks:

            def overtaken(store: Store, *questions: object, **more: object) -> object:
                other = lab.context("bob")  # noqa: B023 - there is one lab
                checks.enter_context(execution.claimed(other, next(other.store.hosts.find(HostQuery()))))
                return grant_view(store, *questions, **more)  # type: ignore[arg-type]  # passed on as they came

            monkeypatch.setattr(Store, "grant_view", overtaken)
            with pytest.raises(StateRefusedError, match="a step is running on it"):
                reserve.reserve_or_wait(lab.context(), reservation_request(("node1", "node2")))
        assert states(lab) == ["available", "available"]


def test_a_reservation_id_that_exists_already_is_refused(fleet: Lab) -> None:
    mine, other = (reservation_request((name,)).requirements for name in ("node1", "node2"))
    reserve.reserve_or_wait(fleet.context(), ReservationRequest(mine, token="r-one"))
    with pytest.raises(UsageError, match="has the id r-one already"):
        reserve.reserve_or_wait(fleet.context("bob"), ReservationRequest(other, token="r-one"))
    assert states(fleet)[:2] == ["reserved", "available"]


def test_a_connection_lost_while_the_queue_is_joined_is_waited_out(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    take(fleet, count=4)
    join = waiting._queued

    def lost(*_: object) -> object:
        monkeypatch.setattr(waiting, "_queued", join)
        raise UncertainError("gone, in the middle of a commit")

    monkeypatch.setattr(waiting, "_queued", lost)
    granted = wait(fleet, lambda: None, lambda: give_back(fleet, "node2"))
    assert (names(granted), tickets(fleet)) == (["node2"], [])


def test_a_wait_that_ends_while_joining_the_queue_is_uncertain_names_the_reason(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(fleet, count=4)

    def lost(*_: object) -> object:
        raise UncertainError("gone, in the middle of a commit")

    monkeypatch.setattr(waiting, "_queued", lost)
    with pytest.raises(WaitTimeoutError, match=r"^timed out after 1m waiting for 1 host: gone, in the middle"):
        wait(fleet, timeout=60)
    assert states(fleet) == ["reserved"] * 4


def test_a_repeated_request_for_an_expired_lease_ends_the_lease(fleet: Lab) -> None:
    asked = reservation_request(("node1",), request_id="job-1", ttl=timedelta(minutes=1))
    reserve.reserve_or_wait(fleet.context(), asked)
    fleet.clock.move(minutes=2)
    with pytest.raises(NotYoursError, match=r"has (ended|expired)"):
        reserve.reserve_or_wait(fleet.context(), asked)
    assert states(fleet)[0] == "tainted"


def test_a_wait_that_is_interrupted_leaves_no_ticket(fleet: Lab) -> None:
    take(fleet, count=4)

    def interrupt() -> None:
        assert tickets(fleet) == ["alice"]
        raise Interruption

    with pytest.raises(Interruption):
        wait(fleet, interrupt)
    assert tickets(fleet) == []


# tests: changes during a wait


def test_an_added_host_wakes_the_waiter_that_it_fits(fleet: Lab) -> None:
    take(fleet, count=4)

    def add() -> None:
        hosts.add(fleet.context(), ["node5"], hosts.AttributeChanges(labels={"rack": "r9"}))
        step_verbs.ready(fleet.context(), Choice(("node5",)))

    assert names(wait(fleet, add)) == ["node5"]


def test_a_changed_label_wakes_the_waiter_that_it_fits(fleet: Lab) -> None:
    take(fleet, "node1", "node2")
    relabel = hosts.AttributeChanges(labels={"rack": "r1"})

    def step() -> None:
        hosts.set_attributes(fleet.context(), Choice(("node3",)), relabel)

    assert names(wait(fleet, step, selector=parse_selector("rack=r1"))) == ["node3"]


def test_a_wait_begins_although_the_toml_file_is_missing_for_a_moment(toml_lab: Lab) -> None:
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    elsewhere = toml_lab.path.rename(toml_lab.path.with_name("elsewhere"))

    assert names(wait(toml_lab, lambda: None, lambda: elsewhere.rename(toml_lab.path))) == ["node1"]
    assert toml_lab.said == [f"there is no {toml_lab.path}; waiting until it is back", f"{toml_lab.path} is back"]


def test_an_edit_of_the_toml_file_wakes_a_waiter(toml_lab: Lab) -> None:
    hosts.add(toml_lab.context(), ["node[1-2]"], hosts.AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    take(toml_lab, "node1")
    hosts.set_attributes(toml_lab.context(), Choice(("node2",)), hosts.AttributeChanges(labels={"rack": "r2"}))
    begun = toml_lab.clock.now

    def edit() -> None:
        toml_lab.path.write_text(toml_lab.path.read_text().replace("r2", "r1"))

    assert names(wait(toml_lab, edit, selector=parse_selector("rack=r1"))) == ["node2"]
    assert toml_lab.clock.now - begun < timedelta(seconds=1.5)


def test_a_request_that_becomes_unsatisfiable_ends_its_wait(fleet: Lab) -> None:
    take(fleet, "node1")

    def relabel() -> None:
        hosts.set_attributes(fleet.context(), Choice(("node2",)), hosts.AttributeChanges(labels={"rack": "r2"}))

    with pytest.raises(UnsatisfiableError):
        wait(fleet, relabel, count=2, selector=parse_selector("rack=r1"))
    assert tickets(fleet) == []


def test_a_named_host_that_is_removed_ends_the_wait(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), Choice(("node1",)), reason="dead fan")

    def remove() -> None:
        hosts.remove(fleet.context(), Choice(("node1",)), force=True, reason="scrapped")

    with pytest.raises(NotFoundError):
        wait(fleet, remove, names=("node1",))
    assert tickets(fleet) == []


def spoil(path: Path) -> None:
    path.write_text(path.read_text() + "\n[hosts.node1\n")


def move_away(path: Path) -> None:
    path.rename(path.with_suffix(".bak"))


@pytest.mark.parametrize("change", [spoil, move_away])
def test_nothing_is_granted_while_the_toml_file_is_broken_and_that_is_reported_once(
    toml_lab: Lab, change: Callable[[Path], None]
) -> None:
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    take(toml_lab, "node1")
    whole = toml_lab.path.read_bytes()

    def free_and_broken() -> None:
        give_back(toml_lab, "node1")
        change(toml_lab.path)
        toml_lab.clock.move(seconds=1)

    def repair() -> None:
        assert [host.state for host in toml_lab.context().store.hosts.find(HostQuery())] == ["available"]
        toml_lab.path.write_bytes(whole)

    assert names(wait(toml_lab, free_and_broken, *[lambda: None] * 50, repair)) == ["node1"]
    assert [text.rpartition("; ")[2] for text in toml_lab.said if "waiting until" in text] == [
        "waiting until that is fixed" if change is spoil else "waiting until it is back"
    ]
    assert sum(text.endswith(("lab.toml is valid again", "lab.toml is back")) for text in toml_lab.said) == 1


@pytest.mark.parametrize("change", [spoil, move_away])
def test_a_wait_that_ends_while_the_toml_file_is_broken_names_the_cause(
    toml_lab: Lab, change: Callable[[Path], None]
) -> None:
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    take(toml_lab, "node1")
    with pytest.raises(WaitTimeoutError, match=r"timed out after 5s waiting for 1 host: .*lab\.toml"):
        wait(toml_lab, lambda: change(toml_lab.path), *[lambda: None] * 200, timeout=5)
    assert sum("waiting until" in text for text in toml_lab.said) == 1


def test_a_wait_without_limit_ends_when_the_toml_file_is_broken_for_too_long(
    toml_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmhctl.usecases.shared.absence.LONGEST", 0.0)
    hosts.add(toml_lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(toml_lab.context(), Choice(everything=True))
    take(toml_lab, "node1")
    with pytest.raises(InvalidError, match=r"lab\.toml"):
        wait(toml_lab, lambda: spoil(toml_lab.path), *[lambda: None] * 200, timeout=None)
    assert tickets(toml_lab) == []


def test_the_policy_at_the_grant_limits_the_lease_with_a_note(fleet: Lab) -> None:
    take(fleet, count=4)

    def step() -> None:
        fleet.policy('[defaults]\nttl = "1h"\nmax_ttl = "2h"\n')
        give_back(fleet, "node1")

    granted = wait(fleet, step, count=1, ttl=timedelta(hours=9))

    assert granted.held.reservation.ttl == timedelta(hours=2)
    assert granted.notes == ("the lease is 2h, the longest that this inventory allows",)


def test_a_waiter_ends_expired_leases(fleet: Lab) -> None:
    reserve.reserve_or_wait(fleet.context("holder"), reservation_request(count=4, ttl=timedelta(seconds=3)))

    def recycle() -> None:
        if "tainted" in states(fleet):
            step_verbs.reset(fleet.context(), Choice(("node1",)))
            step_verbs.ready(fleet.context(), Choice(("node1",)))

    assert names(wait(fleet, *[recycle] * 300, timeout=40)) == ["node1"]
    assert states(fleet)[1:] == ["tainted"] * 3


# tests: repeated requests


def test_a_repeated_request_shares_the_ticket_and_the_reservation_of_the_first(fleet: Lab) -> None:
    take(fleet, count=4)
    again: list[Grant] = []
    asked: dict[str, Any] = {"count": 1, "request_id": "job-1"}

    def second() -> None:
        def back() -> None:
            assert tickets(fleet) == ["alice"]
            give_back(fleet, "node2")

        again.append(wait(fleet, back, **asked))

    first = wait(fleet, second, **asked)

    assert first.held == again[0].held
    assert first.notes == ("request job-1 was granted before",)


def test_a_shared_ticket_stays_open_when_the_first_process_gives_up(fleet: Lab) -> None:
    take(fleet, count=4)
    asked: dict[str, Any] = {"count": 1, "request_id": "job-1"}

    def second() -> None:
        with pytest.raises(WaitTimeoutError):
            wait(fleet, timeout=1, **asked)
        assert tickets(fleet) == ["alice"]
        give_back(fleet, "node1")
        busy(lambda: take(fleet, count=1))()

    assert names(wait(fleet, second, **asked)) == ["node1"]
    assert tickets(fleet) == []


def test_a_shared_ticket_is_valid_beyond_the_deadline_of_the_first_process(fleet: Lab) -> None:
    take(fleet, count=4)
    asked: dict[str, Any] = {"count": 1, "request_id": "job-1"}

    def second() -> None:
        def later() -> None:
            fleet.clock.move(seconds=8)  # the first wait has timed out
            give_back(fleet, "node1")
            busy(lambda: take(fleet, count=1))()

        assert names(wait(fleet, later, timeout=100, **asked)) == ["node1"]

    assert names(wait(fleet, second, timeout=5, **asked)) == ["node1"]


def test_the_same_request_id_with_other_requirements_is_refused_while_waiting_and_later(fleet: Lab) -> None:
    take(fleet, count=4)

    def other() -> None:
        with pytest.raises(UsageError) as refused:
            wait(fleet, count=2, request_id="job-1")
        assert refused.value.message == "request id 'job-1' was used for 1 host, not 2 hosts"
        with pytest.raises(BusyError) as waiting:
            reservations_of("job-1")
        assert waiting.value.message == "request job-1 is waiting already"
        give_back(fleet, "node1")

    def reservations_of(request_id: str) -> Grant:
        return reserve.reserve_or_wait(fleet.context(), reservation_request(count=1, request_id=request_id), None)

    granted = wait(fleet, other, count=1, request_id="job-1")
    assert reservations_of("job-1").held == granted.held
    with pytest.raises(UsageError):
        wait(fleet, count=2, request_id="job-1")
    lifecycle_verbs.release(fleet.context(), Choice(), reservation=granted.held.reservation.id)
    with pytest.raises(NotYoursError):
        reservations_of("job-1")
    assert names(wait(fleet, lambda: give_back(fleet, "node2"), actor="bob", count=1, request_id="job-1")) == ["node2"]


# tests: cancelling


def test_a_ticket_that_is_cancelled_ends_the_wait(fleet: Lab) -> None:
    take(fleet, count=4)
    said: list[str] = []

    def cancel() -> None:
        (ticket,) = fleet.context().store.tickets.all()
        with pytest.raises(NotYoursError) as other:
            queue.cancel(fleet.context("bob"), ticket.id)
        assert other.value.hint == f"bmhctl queue cancel {ticket.id} --force --reason TEXT"
        with pytest.raises(UsageError):
            queue.cancel(fleet.context("bob"), ticket.id, force=True)
        with pytest.raises(NotFoundError):
            queue.cancel(fleet.context("bob"), ticket.id + 1)
        said.append(queue.cancel(fleet.context("bob"), ticket.id, force=True, reason="shutdown").message)
        assert tickets(fleet) == []

    with pytest.raises(StateRefusedError) as refused:
        wait(fleet, cancel)
    assert refused.value.message == "the ticket was cancelled by bob: shutdown"
    assert said == ["cancelled ticket 1 of alice, 0s old, for 1 host"]


def test_cancelling_the_last_ticket_wakes_its_waiter(fleet: Lab) -> None:
    take(fleet, count=4)

    def cancel() -> None:
        waits, other = fleet.opened[-1], fleet.context()
        before = waits.version()
        queue.cancel(fleet.context("alice"), other.store.tickets.all()[0].id)
        until(lambda: waits.version() != before)

    with pytest.raises(StateRefusedError, match="the ticket was cancelled"):
        wait(fleet, cancel)


# tests: checks before the grant

CHECK = '[checks.ping]\ncommand = ["test", "{name}", "!=", "node1"]\n'


def of(lab: Lab, name: str) -> Host:
    host = lab.context().store.hosts.named(name)
    assert host is not None
    return host


def test_a_host_that_fails_its_checks_is_set_aside_and_the_next_is_taken(fleet: Lab) -> None:
    fleet.policy(CHECK)

    assert names(wait(fleet, check=True)) == ["node2"]

    aside = of(fleet, "node1")
    assert (aside.state, [(mark.actor, mark.quarantine) for mark in aside.maintenance]) == (
        "maintenance",
        [("bmhctl", True)],
    )
    assert aside.maintenance[0].reason.startswith(
        "failed its checks before a reservation: readiness check failed: ping: "
    )
    message = next(line for line in fleet.said if line.startswith("node1: failed its checks before a reservation"))
    assert message.endswith("; it is in maintenance now")


def test_hosts_that_pass_are_free_again_when_another_of_the_same_request_fails(fleet: Lab) -> None:
    fleet.policy(CHECK)
    take(fleet, "node3", "node4")

    with pytest.raises(WaitTimeoutError):
        wait(fleet, timeout=5, count=2, check=True)

    assert states(fleet) == ["maintenance", "available", "reserved", "reserved"]


def test_a_host_that_is_cordoned_while_it_is_checked_is_not_taken(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bmhctl.usecases.steps.execution import StepPlan

    run = StepPlan.run

    def cordoned(self: StepPlan) -> object:
        if self.host.name == "node1":
            lifecycle_verbs.cordon(fleet.context("operator"), Choice(("node1",)))
        return run(self)

    monkeypatch.setattr(StepPlan, "run", cordoned)
    assert names(wait(fleet, check=True)) == ["node2"]
    assert states(fleet) == ["available", "reserved", "available", "available"]


def test_a_ticket_holds_no_other_hosts_while_its_hosts_are_checked(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bmhctl.usecases.steps.execution import StepPlan

    take(fleet, count=4)
    run = StepPlan.run

    def meanwhile(self: StepPlan) -> object:
        monkeypatch.setattr(StepPlan, "run", run)
        give_back(fleet, "node2")
        assert names(take(fleet, count=1)) == ["node2"]
        return run(self)

    def back() -> None:
        give_back(fleet, "node1")
        monkeypatch.setattr(StepPlan, "run", meanwhile)

    assert names(wait(fleet, back, check=True)) == ["node1"]


def test_checks_that_outlast_the_deadline_reserve_nothing(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bmhctl.usecases.steps.execution import StepPlan

    run = StepPlan.run

    def slow(self: StepPlan) -> object:
        fleet.clock.move(minutes=30)
        return run(self)

    monkeypatch.setattr(StepPlan, "run", slow)
    with pytest.raises(WaitTimeoutError):
        wait(fleet, timeout=60, check=True)
    assert states(fleet) == ["available"] * 4


def test_a_lease_without_end_is_refused_before_any_wait(fleet: Lab) -> None:
    take(fleet, count=4)

    with pytest.raises(UsageError):
        wait(fleet, lambda: pytest.fail("it waited"), count=1, endless=True)


def test_a_wait_keeps_its_ticket_when_the_disk_is_full_for_a_moment(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([AwayError("the disk is full: it can't be written")])
    act = waiting._try

    def fails_once(*args: Any) -> Grant | None:
        for error in failures:
            raise error
        return act(*args)

    monkeypatch.setattr(waiting, "_try", fails_once)
    take(fleet, "node1")
    assert names(wait(fleet, lambda: give_back(fleet, "node1"), names=("node1",))) == ["node1"]
    assert fleet.said == [
        "the disk is full: it can't be written; waiting until it is back",
        f"{fleet.context().store.location} is back",
    ]
    assert tickets(fleet) == []


def test_a_moved_ticket_is_served_in_its_new_position_and_the_move_is_in_the_history(fleet: Lab) -> None:
    take(fleet, count=4)
    got: list[tuple[str, list[str]]] = []

    def moved() -> None:
        first, second = (ticket.id for ticket in fleet.context().store.tickets.all())
        queue.move(fleet.context("olga"), second, "release", before=first)
        assert tickets(fleet) == ["carol", "alice"]
        give_back(fleet, "node3")
        with pytest.raises(UsageError, match="needs a reason"):
            queue.move(fleet.context("olga"), first, " ")
        with pytest.raises(NotFoundError):
            queue.move(fleet.context("olga"), first, "x", before=999)

    def carol_waits() -> None:
        coming = iter([moved])

        def pause(seconds: float, wakes: int | None) -> None:
            next(coming, lambda: None)()
            fleet.clock.move(seconds=seconds)

        with fleet.visit("carol") as ctx:
            patience = WaitOptions(pause, timedelta(seconds=60))
            got.append(("carol", names(reserve.reserve_or_wait(ctx, reservation_request(count=1), patience))))

    give = [carol_waits, lambda: give_back(fleet, "node1")]
    got.append(("alice", names(wait(fleet, *give))))

    assert got == [("carol", ["node3"]), ("alice", ["node1"])]
    kept = [(change.event.verb.value, change.event.owner) for change in queue.queue_history(fleet.context()).items]
    assert kept == [
        ("asked", "alice"),
        ("asked", "carol"),
        ("moved", "carol"),
        ("granted", "carol"),
        ("granted", "alice"),
    ]
    [move] = (each.event for each in queue.queue_history(fleet.context()).items if each.event.verb == "moved")
    assert (move.actor, move.reason) == ("olga", f"before ticket {move.ticket - 1} of alice: release")


def test_the_history_of_the_queue_distinguishes_a_deadline_from_a_cancellation(fleet: Lab) -> None:
    take(fleet, count=4)
    with pytest.raises(WaitTimeoutError):
        wait(fleet, timeout=5)

    def cancelled() -> None:
        [ticket] = fleet.context().store.tickets.all()
        queue.cancel(fleet.context("olga"), ticket.id, force=True, reason="drill")

    with pytest.raises(StateRefusedError):
        wait(fleet, cancelled)
    kept = [(each.event.verb.value, each.event.reason) for each in queue.queue_history(fleet.context()).items]
    assert kept == [("asked", None), ("timed-out", None), ("asked", None), ("cancelled", "drill")]
    assert len(queue.queue_history(fleet.context(), 1).items) == 1
