"""What happens to bookings when their owners, their hosts or the policy change, on every backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from unittest import mock

import pytest

from bmhctl.domain.model import CheckResult, EventKind, HostSpec, State, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import load_requirements
from bmhctl.errors import (
    BusyError,
    NotYoursError,
    StateRefusedError,
    StepFailedError,
    UnreachableError,
    UnsatisfiableError,
    UsageError,
)
from bmhctl.output import Format, render
from bmhctl.probes import run as probe
from bmhctl.usecases import hosts, lifecycle_verbs, overviews, queries
from bmhctl.usecases.explain import why
from bmhctl.usecases.planned_maintenance import plan_maintenance
from bmhctl.usecases.reservations import bookings, holder
from bmhctl.usecases.reservations.replacement import replace_host
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.host_selection import Choice, choice
from bmhctl.usecases.status import status
from bmhctl.usecases.steps import resume, retire, step_verbs
from tests.conftest import Lab, copied
from tests.formats.texts import dump_inventory, read_inventory
from tests.output.samples import display
from tests.usecases.reservations.test_bookings import asked, at, book, names_of, open_ids, reserve


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three hosts, all available: node1 and node2 in rack r1, node3 in r2."""
    for number, rack in ((1, "r1"), (2, "r1"), (3, "r2")):
        hosts.add(lab.context(), [f"node{number}"], hosts.AttributeChanges(labels={"rack": rack}))
    step_verbs.ready(lab.context(), Choice(everything=True), jobs=1)
    return lab


def test_moving_a_booking_respects_the_limits_of_its_owner(fleet: Lab) -> None:
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


def test_replace_takes_no_host_that_is_booked_within_the_turnaround(fleet: Lab) -> None:
    fleet.policy('[defaults]\nturnaround = "30m"\n')
    held = reserve(fleet, "node1", ttl=timedelta(hours=1)).held.reservation
    book(fleet, 1.25, 5, "node2")
    any_host = reserve(fleet, count=1, ttl=timedelta(hours=1)).held
    assert [host.name for host in any_host.hosts] == ["node3"]
    with pytest.raises(BusyError, match="no host that fits 1 host is free"):
        replace_host(fleet.context("bob"), "node3", any_host.reservation.id, "dead fan")
    assert held.id != any_host.reservation.id


def test_a_repeated_request_id_with_another_request_is_refused(fleet: Lab) -> None:
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


def test_a_booking_without_a_host_for_a_retired_one_is_reported_once(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    retire.retire(fleet.context("bob"), Choice(("node1",)), reason="old")
    assert [line for line in fleet.said if made.id in line and "is short of 1 host" in line] == [fleet.said[-1]]


def test_a_booking_keeps_a_renamed_host(fleet: Lab) -> None:
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


def cordon(fleet: Lab) -> None:
    lifecycle_verbs.cordon(fleet.context("carl"), Choice(("node1",)), reason="fan")


def maintain(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context("carl"), Choice(("node1",)), reason="fan")


def remove(fleet: Lab) -> None:
    hosts.remove(fleet.context("carl"), Choice(("node1",)), force=True, reason="fan")


def retire_later(fleet: Lab) -> None:
    retire.retire(fleet.context("carl"), Choice(("node1",)), reason="fan", when_free=True)


def taint_with_a_fault(fleet: Lab) -> None:
    lifecycle_verbs.taint(fleet.context("bob"), Choice(("node1",)), fault="fan")


def release_with_a_fault(fleet: Lab) -> None:
    [held] = fleet.context().store.reservations.open()
    lifecycle_verbs.release(fleet.context("bob"), Choice(), reservation=held.id, fault="fan")


BREAKS = (cordon, maintain, remove, retire_later, taint_with_a_fault, release_with_a_fault)


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda each: each.__name__)
def test_a_command_that_makes_a_booked_host_unusable_exchanges_it(fleet: Lab, breaks: Callable[[Lab], None]) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    named = book(fleet, 6, 7, "node1", actor="dave")
    reserve(fleet, "node1", ttl=timedelta(hours=1))
    assert (made.hosts, named.is_short) == (("node1",), False)
    breaks(fleet)
    [exchanged, short] = bookings.bookings(fleet.context()).items
    assert (exchanged.booking.id, exchanged.hosts, exchanged.is_short) == (made.booking.id, ("node2",), False)
    assert (short.booking.id, short.is_short) == (named.booking.id, True)
    if breaks is remove:
        return
    seen = queries.show(fleet.context(), "node1")
    assert [each.id for each in seen.host.planned] == [named.booking.id]
    last = [event for event in seen.events if event.verb is EventKind.PLAN_ENDED][-1]
    assert (last.actor, last.reason) == ("bmhctl", f"{made.booking.id}: exchanged for node2")
    words = f"booked by dave from 2026-01-01 18:00 UTC to 2026-01-01 19:00 UTC ({named.booking.id})"
    assert f"{words}; it will not be usable then, and no other host fits" in why(fleet.context(), "node1").facts


def test_a_booked_host_that_is_no_longer_declared_is_exchanged(toml_lab: Lab) -> None:
    toml_lab.path.write_text("[hosts.node1]\n[hosts.node2]\n")
    step_verbs.ready(toml_lab.context(), Choice(everything=True), jobs=1)
    made = book(toml_lab, 2, 5, count=1)
    toml_lab.path.write_text("[hosts.node2]\n")
    assert made.hosts == ("node1",)
    assert bookings.bookings(toml_lab.context()).items[0].hosts == ("node2",)


def test_a_booking_without_a_host_gets_one_that_becomes_free_later(fleet: Lab) -> None:
    made = book(fleet, 20, 25, selector="rack=r1", count=2)
    hosts.remove(fleet.context("carl"), Choice(("node1",)), reason="sold")
    [short] = bookings.bookings(fleet.context()).items
    assert (short.hosts, short.is_short) == (("node2",), True)
    hosts.add(fleet.context(), ["node4"], hosts.AttributeChanges(labels={"rack": "r1"}))
    fleet.clock.move(hours=3)
    lifecycle_verbs.cordon(fleet.context(), Choice(("node3",)))
    [whole] = bookings.bookings(fleet.context()).items
    assert (whole.booking.id, whole.hosts, whole.is_short) == (made.booking.id, ("node2", "node4"), False)


def test_a_booking_that_could_not_be_prepared_can_be_taken_again(fleet: Lab) -> None:
    fleet.policy('[prepare.image]\ncommand = ["./deploy.sh"]\n')
    made = book(fleet, 2, 5, "node1").booking
    fleet.clock.now = at(2.25)
    fails = mock.patch.object(probe, "run", lambda step, *_: CheckResult(step.name, Verdict.FAIL, "no disk", 1))
    with fails, pytest.raises(StepFailedError, match="no disk"):
        reserve(fleet, booking=made.id, actor="alice")
    [again] = bookings.bookings(fleet.context()).items
    assert (again.booking.id, again.hosts, again.booking.ends_at) == (made.id, ("node1",), at(5))
    assert fleet.said[-1] == f"booking {made.id} can be taken again: bmhctl reserve --booking {made.id}"
    step_verbs.reset(fleet.context(), Choice(("node1",)))
    step_verbs.ready(fleet.context(), Choice(("node1",)))
    fleet.clock.move(minutes=20)
    with pytest.raises(BusyError, match="booked by alice"):
        reserve(fleet, "node1")
    with mock.patch.object(probe, "run", lambda step, *_: CheckResult(step.name, Verdict.PASS, "", 1)):
        taken = reserve(fleet, booking=made.id, actor="alice")
    assert (names_of(taken), taken.held.reservation.expires_at) == (["node1"], at(5))


def test_a_booking_gets_the_next_fitting_host_after_a_failed_preparation(fleet: Lab) -> None:
    fleet.policy('[prepare.image]\ncommand = ["./deploy.sh"]\n')
    made = book(fleet, 2, 5, selector="rack=r1", count=1).booking
    fleet.clock.now = at(2)

    def run(step: Step, spec: HostSpec, _: object) -> CheckResult:
        return CheckResult(step.name, Verdict.FAIL if spec.name == "node1" else Verdict.PASS, "no disk", 1)

    with mock.patch.object(probe, "run", run):
        assert names_of(reserve(fleet, booking=made.id, actor="alice")) == ["node2"]
    assert open_ids(fleet) == []


def test_cancelling_a_planned_maintenance_that_has_begun_ends_it(fleet: Lab) -> None:
    reserve(fleet, "node2", ttl=timedelta(minutes=10))
    choice = Choice(("node1", "node2"))
    plan_maintenance(fleet.context("carl"), choice, at(3), at(5), reason="power work", resumes=True)
    [planned] = open_ids(fleet)
    fleet.clock.now = at(3.5)
    holder.reap_expired(fleet.context())
    done = bookings.cancel(fleet.context("carl"), planned)
    assert done.message == f"cancelled {planned} of carl: node1, node2; still in maintenance: bmhctl resume node2"
    states = [queries.show(fleet.context(), name).host.state for name in ("node1", "node2")]
    assert (states, open_ids(fleet)) == ([State.INITIAL, State.MAINTENANCE], [])


def test_resume_ends_a_planned_maintenance_that_has_begun(fleet: Lab) -> None:
    plan_maintenance(fleet.context("carl"), Choice(("node1",)), at(3), at(5), reason="power work")
    [planned] = open_ids(fleet)
    fleet.clock.now = at(3.5)
    holder.reap_expired(fleet.context())
    with pytest.raises(StateRefusedError, match="not open any more: it has begun") as refused:
        bookings.cancel(fleet.context("carl"), planned)
    assert refused.value.hint == "bmhctl resume HOST brings back a host that is in maintenance"


def test_a_host_whose_booking_has_begun_is_not_counted_as_free(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1").booking
    plan_maintenance(fleet.context("carl"), Choice(("node2",)), at(2), at(5), reason="power work")
    assert (status(fleet.context()).free, overviews.reasons(fleet.context()).items) == (3, ())
    fleet.clock.now = at(2.1)
    assert status(fleet.context()).free == 1
    free = choice(None, states=["free"])
    assert [host.name for host in queries.list_hosts(fleet.context(), free).hosts] == ["node3"]
    assert [*queries.list_names(fleet.context(), free).names] == ["node3"]
    assert [host.name for host in queries.list_hosts(fleet.context(), choice(["node*"], states=["free"])).hosts] == [
        "node3"
    ]
    found = {(each.kind, each.actor, each.since, each.hosts) for each in overviews.reasons(fleet.context()).items}
    assert found == {("booked", "alice", at(2), ("node1",)), ("planned", "carl", at(2), ("node2",))}
    shown = display(format=Format.JSON)
    render(overviews.fleet(fleet.context(), "rack"), shown)
    groups = json.loads(shown.stdout.getvalue())["groups"]  # type: ignore[attr-defined]
    assert [(group["value"], group["free"]) for group in groups] == [("r1", 0), ("r2", 1)]
    assert made.id in why(fleet.context(), "node1").summary
    assert why(fleet.context(), "node1").next == f"bmhctl reserve --booking {made.id}"
    assert why(fleet.context("bob"), "node1").next is None


def test_a_booking_does_not_lapse_while_its_owner_waits_to_take_it(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    fleet.clock.now = at(2.25)
    rack = Choice(("node1", "node2"))
    lifecycle_verbs.maintain(fleet.context("carl"), rack, reason="fan")
    steps = iter(
        [
            lambda: fleet.clock.move(minutes=20),
            lambda: lifecycle_verbs.cordon(fleet.context("carl"), Choice(("node3",))),
            lambda: resume.resume(fleet.context("carl"), rack),
        ]
    )
    patience = WaitOptions(lambda *_: next(steps, lambda: None)(), timedelta(hours=1), fleet.said.append)
    taken = reserve_or_wait(fleet.context("alice"), asked(booking=made.id), patience)
    assert (names_of(taken), taken.held.reservation.expires_at) == (["node1", "node2"], at(5))
    assert bookings.booking(fleet.context(), made.id).booking.reservation == taken.held.reservation.id


def test_a_waiter_gets_its_booking_at_its_beginning_even_after_it_was_moved(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    moves = iter([lambda: bookings.reschedule(fleet.context("alice"), made.id, at(2.1))])
    pauses = []

    def pause(seconds: float, _: int | None) -> None:
        pauses.append(seconds)
        next(moves, lambda: None)()
        fleet.clock.move(seconds=seconds)

    taken = reserve_or_wait(fleet.context(), asked(booking=made.id), WaitOptions(pause, timedelta(hours=3)))
    assert taken.held.reservation.created_at - at(2.1) < timedelta(seconds=1)
    assert taken.held.reservation.expires_at == at(5.1)
    assert max(pauses) <= 5
    assert [line.partition(" begins at ")[2] for line in fleet.said if made.id in line] == [
        "2026-01-01 14:00 UTC",
        "2026-01-01 14:06 UTC",
    ]


def test_a_booking_that_begins_after_the_wait_is_refused_at_once(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    patience = WaitOptions(lambda *_: pytest.fail("it waited"), timedelta(hours=1))
    with pytest.raises(StateRefusedError, match="begins at"):
        reserve_or_wait(fleet.context(), asked(booking=made.id), patience)


def test_a_wait_for_a_booking_ends_when_the_booking_is_cancelled(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    patience = WaitOptions(lambda *_: bookings.cancel(fleet.context("alice"), made.id) and None, None)
    with pytest.raises(StateRefusedError, match="has ended: cancelled"):
        reserve_or_wait(fleet.context(), asked(booking=made.id), patience)


def test_taking_a_booking_respects_the_limits_of_its_owner(fleet: Lab) -> None:
    made = book(fleet, 2, 5, "node1", actor="intern-1").booking
    fleet.policy('[limits.interns]\nowner = "intern-*"\nmax_hosts = 1\n')
    reserve(fleet, "node3", actor="intern-1", ttl=timedelta(hours=3))
    fleet.clock.now = at(2.1)
    with pytest.raises(BusyError, match="limit interns: at most 1 host for intern-1, who holds node3"):
        reserve(fleet, booking=made.id, actor="intern-1")
    lifecycle_verbs.release(fleet.context("intern-1"), Choice(("node3",)))
    assert names_of(reserve(fleet, booking=made.id, actor="intern-1")) == ["node1"]


def test_bookings_count_together_under_a_limit_by_role(fleet: Lab) -> None:
    fleet.policy('[limits.each]\nowner = "role"\nmax_hosts = 1\n')
    role = fleet.context().store.database.role
    book(fleet, 2, 5, "node1", actor=f"{role}@ci")
    if role is None:
        book(fleet, 3, 6, "node2", actor=f"{role}@lab")
        return
    with pytest.raises(BusyError, match="limit each allows"):
        book(fleet, 3, 6, "node2", actor=f"{role}@lab")
    book(fleet, 5, 6, "node2", actor=f"{role}@lab")


def change_a_label(fleet: Lab) -> None:
    hosts.set_attributes(fleet.context("carl"), Choice(("node1",)), hosts.AttributeChanges(labels={"rack": "r9"}))


def import_another_label(fleet: Lab) -> None:
    found = queries.list_hosts(fleet.context(), Choice(("node1",)))
    text = dump_inventory(found.hosts, None, found.now).replace("r1", "r9")
    hosts.import_hosts(fleet.context("carl"), read_inventory(text, "lab.toml", found.now), overwrite=True)


@pytest.mark.parametrize("changes", [change_a_label, import_another_label], ids=lambda each: each.__name__)
def test_a_host_that_no_longer_fits_its_booking_is_exchanged(fleet: Lab, changes: Callable[[Lab], None]) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    assert made.hosts == ("node1",)
    changes(fleet)
    [exchanged] = bookings.bookings(fleet.context()).items
    assert (exchanged.hosts, exchanged.is_short, fleet.said) == (("node2",), False, [])
    assert queries.show(fleet.context(), "node1").host.planned == ()
    fleet.clock.now = at(2)
    assert names_of(reserve(fleet, booking=made.booking.id, actor="alice")) == ["node2"]


def test_a_booked_host_is_exchanged_when_a_check_reports_a_property_that_does_not_fit(fleet: Lab) -> None:
    fleet.policy('[checks.inventory]\ncommand = ["./inventory.sh"]\nproperties = ["disks"]\n')

    def check(disks: int) -> None:
        def run(step: Step, *_: object) -> CheckResult:
            return CheckResult(step.name, Verdict.PASS, "", 1, observed={"disks": disks})

        with mock.patch.object(probe, "run", run):
            step_verbs.check(fleet.context("carl"), Choice(("node1",) if disks == 1 else (), everything=disks == 2))

    check(disks=2)
    made = book(fleet, 2, 5, selector="disks>=2", count=1)
    check(disks=1)
    [exchanged] = bookings.bookings(fleet.context()).items
    assert (made.hosts, exchanged.hosts, exchanged.is_short) == (("node1",), ("node2",), False)


def test_a_command_that_leaves_a_booking_short_of_hosts_names_it(fleet: Lab) -> None:
    made = book(fleet, 2, 5, selector="rack=r1", count=2).booking
    change_a_label(fleet)
    [short] = bookings.bookings(fleet.context()).items
    assert (short.hosts, short.trouble, short.is_short) == (("node1", "node2"), ("node1",), True)
    words = (
        f"booking {made.id} of alice from 2026-01-01 14:00 UTC is short of 1 host, no other fits: "
        f"bmhctl bookings move {made.id} --from WHEN, or cancel it"
    )
    assert fleet.said == [words]
    assert "it does not fit the booking any more, and no other host does" in "".join(
        why(fleet.context(), "node1").facts
    )
    lifecycle_verbs.cordon(fleet.context("carl"), Choice(("node2",)))
    assert fleet.said == [words, words.replace("1 host,", "2 hosts,")]
    lifecycle_verbs.uncordon(fleet.context("carl"), Choice(("node2",)))
    hosts.set_attributes(fleet.context("carl"), Choice(("node1",)), hosts.AttributeChanges(labels={"rack": "r1"}))
    [whole] = bookings.bookings(fleet.context()).items
    assert (whole.trouble, whole.is_short, fleet.said[2:]) == ((), False, [])


def test_a_host_that_could_not_be_exchanged_at_once_is_reported(fleet: Lab) -> None:
    book(fleet, 2, 5, selector="rack=r1", count=1)
    locked = UnreachableError("the inventory is locked", hint="try again")
    with mock.patch.object(expiry, "reap", side_effect=locked):
        lifecycle_verbs.cordon(fleet.context("carl"), Choice(("node1",)))
    assert fleet.said == [
        "booked hosts are not exchanged yet: the inventory is locked; the next command "
        "that writes exchanges them, such as bmhctl reap"
    ]
    expiry.reap(fleet.context())
    assert bookings.bookings(fleet.context()).items[0].hosts == ("node2",)


def test_a_booking_moves_to_make_room_for_a_replacement(fleet: Lab) -> None:
    held = reserve(fleet, selector="rack=r1", ttl=timedelta(hours=4))
    made = book(fleet, 2, 3, selector="rack=r1", count=1)
    assert (names_of(held), made.hosts) == (["node1"], ("node2",))
    hosts.add(fleet.context(), ["node4"], hosts.AttributeChanges(labels={"rack": "r1"}))  # not ready, but perhaps later
    replaced = replace_host(fleet.context("bob"), "node1", held.held.reservation.id, "dead fan")
    assert names_of(replaced) == ["node2"]
    assert replaced.notes == (
        "node1 is replaced by node2", f"booking {made.booking.id} of alice was moved to node4 to make room",
    )  # fmt: skip
    assert bookings.bookings(fleet.context()).items[0].hosts == ("node4",)


@pytest.mark.parametrize("count", [1, 2])
def test_a_booking_moves_to_make_room_when_another_host_is_prepared_instead(fleet: Lab, count: int) -> None:
    """If two hosts fail and only one can be replaced, no booking moves."""
    fleet.policy('[prepare.image]\ncommand = ["./deploy.sh"]\n')
    made = book(fleet, 2, 3, selector="rack=r1", count=1)
    hosts.add(fleet.context(), ["node4"], hosts.AttributeChanges(labels={"rack": "r1"}))  # the host is not usable
    if count == 2:
        hosts.set_attributes(fleet.context(), Choice(("node3",)), hosts.AttributeChanges(labels={"rack": "r1"}))

    def run(step: Step, spec: HostSpec, _: object) -> CheckResult:
        return CheckResult(step.name, Verdict.PASS if spec.name == "node1" else Verdict.FAIL, "no disk", 1)

    with mock.patch.object(probe, "run", run):
        if count == 2:
            with pytest.raises(StepFailedError, match="no other host that fits is free"):
                reserve(fleet, selector="rack=r1", count=2, ttl=timedelta(hours=4))
            assert bookings.bookings(fleet.context()).items[0].hosts == ("node1",)
            return
        granted = reserve(fleet, selector="rack=r1", ttl=timedelta(hours=4))
    assert names_of(granted) == ["node1"]
    assert f"booking {made.booking.id} of alice was moved to node4 to make room" in granted.notes


def test_a_broken_booked_host_is_exchanged_for_one_that_is_free_with_the_turnaround(fleet: Lab) -> None:
    fleet.policy('[defaults]\nturnaround = "30m"\n')
    made = book(fleet, 2, 5, selector="rack=r1", count=1)
    other = book(fleet, 5.25, 6, "node2", actor="dave").booking
    cordon(fleet)
    short = bookings.bookings(fleet.context()).items[0]
    assert (made.hosts, short.hosts, short.is_short) == (("node1",), ("node1",), True)
    bookings.reschedule(fleet.context("dave"), other.id, at(5.5))
    fleet.clock.now = at(1)
    expiry.reap(fleet.context())
    assert bookings.bookings(fleet.context()).items[0].hosts == ("node2",)
