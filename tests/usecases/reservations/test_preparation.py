"""Hosts are prepared under their reservation, before their holder gets them; those that fail are replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from unittest import mock

import pytest

from bmhctl.domain.model import CheckResult, HostSpec, Reservation, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import (
    BmhctlError,
    BusyError,
    NotYoursError,
    StepFailedError,
    UnsatisfiableError,
    UsageError,
    WaitTimeoutError,
)
from bmhctl.probes import run as probe
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results import Grant
from bmhctl.stores.claims import host_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.doctor import doctor
from bmhctl.usecases.reservations import bookings, holder, replacement, reserve
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, copied

POLICY = """
[prepare.image]
command = ["./deploy.sh", "{name}", "{param.image}"]
params = { image = { pattern = "[a-z]+", default = "noble" } }
"""

RunStep = tuple[str, str, dict[str, str]]


class Steps:
    """Records which prepare steps ran, with their values; steps on a host in ``bad`` fail."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.ran: list[RunStep] = []
        self.during = lambda: None

    def run(self, step: Step, spec: HostSpec, setting: StepEnvironment) -> CheckResult:
        self.ran.append((step.name, spec.name, dict(setting.variables)))
        self.during()
        verdict = Verdict.FAIL if spec.name in self.bad else Verdict.PASS
        return CheckResult(step.name, verdict, f"said {verdict}", 1.5)

    @property
    def hosts(self) -> list[str]:
        return [name for _, name, _ in self.ran]


@pytest.fixture
def steps() -> Iterator[Steps]:
    made = Steps()
    with mock.patch.object(probe, "run", made.run):
        yield made


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Four hosts that are available."""
    return available(lab, POLICY)


def available(lab: Lab, policy: str) -> Lab:
    lab.policy(policy)
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges(labels={"arch": "arm64"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    return lab


def take(lab: Lab, count: int = 1, *, names: tuple[str, ...] = (), wait: float | None = None, **more: object) -> Grant:
    asked = reservation_request(names, None, None if names else count, **more)  # type: ignore[arg-type]
    patience = None if wait is None else WaitOptions(lambda seconds, _: time.sleep(seconds), timedelta(seconds=wait))
    return reserve.reserve_or_wait(lab.context(), asked, patience)


def states(lab: Lab) -> dict[str, str]:
    return {host.name: str(host.state) for host in lab.context().store.hosts.find(HostQuery())}


def open_ones(lab: Lab) -> list[Reservation]:
    return lab.context().store.reservations.open()


def reasons(lab: Lab, name: str) -> list[tuple[str, str | None]]:
    return [(str(e.verb), e.reason) for e in lab.context().store.events.read() if e.host == name]


def test_a_reservation_records_what_was_prepared(fleet: Lab, steps: Steps) -> None:
    granted = take(fleet, 2, params={"image": "jammy"})
    assert steps.hosts == ["node1", "node2"]
    variables = {"BMH_RESERVATION": granted.held.reservation.id, "BMH_PREPARED": "image=jammy"}
    assert steps.ran[0][2] == variables | {"BMH_PARAM_IMAGE": "jammy"}
    (kept,) = open_ones(fleet)
    assert kept == granted.held.reservation
    assert (kept.params, kept.prepared_at is not None) == ({"image": "jammy"}, True)
    assert reasons(fleet, "node1")[-1] == ("prepare", "prepare step passed: image with image=jammy")
    handed = holder.handover(fleet.context(), kept.id, "bob").held.reservation
    assert (handed.params, handed.prepared_at) == (kept.params, kept.prepared_at)


def test_a_policy_without_prepare_steps_prepares_nothing(lab: Lab, steps: Steps) -> None:
    granted = take(available(lab, ""))
    assert (granted.held.reservation.params, steps.ran) == (None, [])
    with pytest.raises(UsageError, match="there is no parameter 'image'"):
        take(lab, params={"image": "noble"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"imag": "x"}, "there is no parameter 'imag'"),
        ({"image": "Noble"}, r"the parameter image must match \[a-z\]\+, which 'Noble' does not"),
        ({"image": "noble\n"}, "the parameter image takes at most 200 printable characters"),
        ({"image": "x" * 201}, "the parameter image takes at most 200 printable characters"),
        ({"image": "-x"}, "the parameter image can't begin with '-'"),
    ],
)
def test_an_invalid_parameter_is_refused_before_anything_is_reserved(
    fleet: Lab, steps: Steps, given: dict[str, str], message: str
) -> None:
    for wait in (None, 5.0):
        with pytest.raises(UsageError, match=message):
            take(fleet, params=given, wait=wait)
    with pytest.raises(UsageError, match=message):
        reserve.plan_reserve(fleet.context(), reservation_request(count=1, params=given))
    assert (set(states(fleet).values()), open_ones(fleet), steps.ran) == ({"available"}, [], [])


def test_a_step_whose_parameter_has_no_default_runs_only_with_a_value(lab: Lab, steps: Steps) -> None:
    available(
        lab,
        """
[prepare.console]
command = ["true"]
[prepare.disk]
command = ["true", "{param.disk}", "{param.size}"]
params = { disk = "[a-z]+", size = "[0-9]+" }
""",
    )
    assert take(lab).held.reservation.params == {}
    with pytest.raises(UsageError, match="the prepare step disk needs the parameter size as well"):
        take(lab, params={"disk": "sda"})
    take(lab, params={"disk": "sda", "size": "40"})
    assert [(name, host) for name, host, _ in steps.ran] == [
        ("console", "node1"),
        ("console", "node2"),
        ("disk", "node2"),
    ]


def test_a_parameter_restricts_the_request_to_hosts_that_its_step_applies_to(lab: Lab, steps: Steps) -> None:
    available(lab, POLICY + 'selector = "disk"\n')
    hosts.set_attributes(lab.context(), Choice(("node3",)), hosts.AttributeChanges(labels={"disk": "ssd"}))
    assert take(lab, params={"image": "noble"}).held.hosts[0].name == "node3"
    with pytest.raises(BusyError):
        take(lab, params={"image": "noble"})
    ask_for_two = reservation_request((), None, 2, params={"image": "noble"})
    for request in (reserve.reserve_or_wait, reserve.plan_reserve):
        with pytest.raises(UnsatisfiableError) as excluded:
            request(lab.context(), ask_for_two)
        assert excluded.value.hint == "--param image needs hosts with disk, to which its prepare step applies"
    with pytest.raises(UsageError, match="no prepare step with the parameter image applies to it") as refused:
        take(lab, names=("node1",), params={"image": "noble"})
    assert refused.value.host == "node1"
    assert take(lab, names=("node1",)).held.reservation.params is None
    assert steps.hosts == ["node3"]


def test_a_host_that_fails_is_tainted_with_the_reason_and_the_next_is_tried(fleet: Lab, steps: Steps) -> None:
    steps.bad = {"node1", "node3"}
    granted = take(fleet, 2)
    assert [host.name for host in granted.held.hosts] == ["node4", "node2"]
    assert steps.hosts == ["node1", "node2", "node3", "node4"]
    assert states(fleet) == {"node1": "tainted", "node2": "reserved", "node3": "tainted", "node4": "reserved"}
    assert reasons(fleet, "node1")[-1] == ("taint", "prepare step failed: image: said fail")
    (kept,) = open_ones(fleet)
    assert kept.id == granted.held.reservation.id
    assert kept.prepared_at is not None


def test_no_booking_moves_away_from_the_substitute_of_a_failed_host(fleet: Lab, steps: Steps) -> None:
    now = fleet.clock.now
    asked = reservation_request((), None, 1)
    booked = bookings.book(fleet.context("bob"), asked, now + timedelta(minutes=1), now + timedelta(minutes=95))
    (name,) = booked.items[0].hosts
    first, second, third = sorted({"node1", "node2", "node3", "node4"} - {name})
    steps.bad = {first, second}
    with pytest.raises(StepFailedError):
        take(fleet, 2, ttl=timedelta(minutes=88))
    planned = {host.name: len(host.planned) for host in fleet.context().store.hosts.find(HostQuery())}
    assert planned == {name: 1, first: 0, second: 0, third: 0}
    assert bookings.bookings(fleet.context()).items[0].hosts == (name,)
    assert doctor.doctor(fleet.context()).findings == ()


def test_no_more_hosts_are_tried_than_the_policy_allows(lab: Lab, steps: Steps) -> None:
    """A value with which no host can be prepared does not use up the fleet."""
    available(lab, "[defaults]\nprepare_failures = 2\n" + POLICY)
    steps.bad = {"node1", "node2", "node3", "node4"}
    for wait in (None, 30.0):
        with pytest.raises(StepFailedError, match="no other host is tried after 2 failures") as failed:
            take(lab, wait=wait)
        assert failed.value.details["failed"] == ["node1", "node2"] if wait is None else ["node3", "node4"]
    assert (set(states(lab).values()), open_ones(lab)) == ({"tainted"}, [])


def test_all_hosts_are_given_back_when_no_substitute_is_left(fleet: Lab, steps: Steps) -> None:
    steps.bad = {"node2"}
    with pytest.raises(StepFailedError, match="node2: prepare step failed: image: said fail; no other host that fits"):
        take(fleet, 4)
    assert (set(states(fleet).values()), open_ones(fleet)) == ({"tainted"}, [])


def test_a_waiter_whose_host_failed_gets_another_one_when_it_is_free(fleet: Lab, steps: Steps) -> None:
    lifecycle_verbs.cordon(fleet.context(), Choice(("node[2-4]",)))
    steps.bad = {"node1"}
    taken: list[Grant] = []

    def wait() -> None:
        with fleet.visit() as ctx:
            asked = reservation_request(count=1, request_id="job-1")
            patience = WaitOptions(lambda seconds, _: time.sleep(seconds), timedelta(seconds=60))
            taken.append(reserve.reserve_or_wait(ctx, asked, patience))

    with fleet.visit() as ctx:
        waiter = threading.Thread(target=wait)
        waiter.start()
        while waiter.is_alive() and not ctx.store.tickets.all():
            time.sleep(0.02)
        lifecycle_verbs.uncordon(ctx, Choice(("node3",)))
        waiter.join(30)
    assert [host.name for host in taken[0].held.hosts] == ["node3"]
    assert taken[0].held.reservation.request_id == "job-1"
    assert states(fleet)["node1"] == "tainted"


def test_the_deadline_of_the_wait_ends_the_search_for_another_host(fleet: Lab, steps: Steps) -> None:
    steps.bad = {"node1", "node2", "node3", "node4"}
    steps.during = lambda: fleet.clock.move(seconds=20)
    with pytest.raises(StepFailedError, match="the wait has timed out"):
        take(fleet, wait=10)
    assert steps.hosts == ["node1"]
    assert open_ones(fleet) == []


def test_a_wait_goes_on_after_a_failed_preparation_for_the_rest_of_its_time(fleet: Lab, steps: Steps) -> None:
    """Also by the clock that is never set; the clock of the inventory stands still here."""
    lifecycle_verbs.cordon(fleet.context(), Choice(("node[2-4]",)))
    steps.bad = {"node1"}
    began, passed = time.monotonic(), [0.0]

    def pass_by(seconds: float, _: int | None = None) -> None:
        passed.append(seconds)

    steps.during = lambda: pass_by(8)
    asked, patience = reservation_request(count=1), WaitOptions(pass_by, timedelta(seconds=10), began=began)
    clock = mock.Mock(side_effect=lambda: began + sum(passed))
    with mock.patch.object(time, "monotonic", clock), pytest.raises(WaitTimeoutError):
        reserve.reserve_or_wait(fleet.context(), asked, patience)
    assert 10 <= sum(passed) < 11


def test_the_lease_counts_from_when_the_hosts_are_prepared(fleet: Lab, steps: Steps) -> None:
    steps.during = lambda: fleet.clock.move(minutes=30)
    kept = take(fleet, ttl=timedelta(hours=1)).held.reservation
    assert kept.expires_at is not None
    assert timedelta(minutes=89) < kept.expires_at - kept.created_at <= timedelta(minutes=91)
    assert take(fleet, ttl=timedelta(hours=1)).held.reservation.ttl == timedelta(hours=1)


def test_a_lease_lost_during_the_preparation_is_reported_as_lost(fleet: Lab, steps: Steps) -> None:
    def lose() -> None:
        with fleet.visit("bob") as ctx:
            lifecycle_verbs.taint(ctx, Choice(("node1",)), force=True, reason="mine")

    steps.during = lose
    with pytest.raises(NotYoursError):
        take(fleet)
    assert (states(fleet)["node1"], open_ones(fleet)) == ("tainted", [])


def test_no_lock_is_held_while_a_step_runs(fleet: Lab, steps: Steps) -> None:
    """Other commands can write and reserve in the meantime, and no other step runs on the host."""
    seen: list[object] = []

    def meanwhile() -> None:
        steps.during = lambda: None
        with fleet.visit("bob") as ctx:
            ctx.store.policy()
            seen.append(lifecycle_verbs.cordon(ctx, Choice(("node4",))).items[0].changed)
            (host,) = ctx.store.hosts.find(HostQuery(names=("node1",)))
            seen.append(ctx.store.claims.claimed([host_claim(host.id)]) == {host_claim(host.id)})
            seen.append(str(step_verbs.check(ctx, Choice(("node1",)), force=True).items[0].error))

    steps.during = meanwhile
    take(fleet)
    assert seen == [True, True, "a step is running on it"]


def test_a_repeated_request_continues_the_preparation_of_a_killed_process(fleet: Lab, steps: Steps) -> None:
    class KilledError(BaseException):
        pass

    def killed() -> None:
        raise KilledError

    steps.during = killed
    with pytest.raises(KilledError):
        take(fleet, request_id="job-1")
    (begun,) = open_ones(fleet)
    assert begun.prepared_at is None
    steps.during = lambda: None
    granted = take(fleet, request_id="job-1", params={"image": "noble"})
    assert (granted.held.reservation.id, granted.held.reservation.is_unprepared) == (begun.id, False)
    number = len(steps.ran)
    assert take(fleet, request_id="job-1").held.reservation.id == begun.id
    assert len(steps.ran) == number  # a prepared host is not prepared again
    with pytest.raises(UsageError, match="was used for image=noble, not image=jammy"):
        take(fleet, request_id="job-1", params={"image": "jammy"})
    steps.during = killed
    with pytest.raises(KilledError):
        take(fleet)
    assert len(open_ones(fleet)) == 1  # without a request id, the host was given back


def test_replace_prepares_the_new_host(fleet: Lab, steps: Steps) -> None:
    kept = take(fleet, 2, params={"image": "jammy"}).held.reservation
    steps.bad, steps.ran = {"node3"}, []
    held = replacement.replace_host(fleet.context(), "node1", kept.id, "no fan").held
    assert steps.hosts == ["node3", "node4"]
    assert steps.ran[0][2]["BMH_PARAM_IMAGE"] == "jammy"
    assert sorted(host.name for host in held.hosts) == ["node2", "node4"]
    assert held.reservation.expires_at == kept.expires_at
    step_verbs.reset(fleet.context(), Choice(("node1",)))
    step_verbs.ready(fleet.context(), Choice(("node1",)))
    steps.bad = {"node1"}
    with pytest.raises(BmhctlError, match="no other host that fits is free"):
        replacement.replace_host(fleet.context(), "node4", kept.id, "no disk")
    assert states(fleet) == {"node1": "tainted", "node2": "reserved", "node3": "tainted", "node4": "tainted"}
    assert [each.id for each in open_ones(fleet)] == [kept.id]
    assert fleet.said[-1] == f"node4 was given back with its fault; {kept.id} holds node2"


def test_replace_says_that_the_reservation_ended_with_its_only_host(fleet: Lab, steps: Steps) -> None:
    kept = take(fleet).held.reservation
    steps.bad = {"node2", "node3", "node4"}
    with pytest.raises(StepFailedError):
        replacement.replace_host(fleet.context(), "node1", kept.id, "no fan")
    assert (open_ones(fleet), fleet.said[-1]) == ([], f"node1 was given back with its fault; {kept.id} has ended")


def test_two_processes_with_one_request_both_get_the_substitute_of_a_failed_host(fleet: Lab, steps: Steps) -> None:
    steps.bad = {"node1"}
    answers: list[Grant] = []

    def ask() -> None:
        with fleet.visit() as ctx:
            asked = reservation_request(count=2, request_id="job-1")
            answers.append(reserve.reserve_or_wait(ctx, asked))

    second = threading.Thread(target=ask)

    first_step = threading.Lock()

    def meanwhile() -> None:
        if first_step.acquire(blocking=False):  # the steps of two hosts: it is started by one of them
            second.start()
        time.sleep(0.3)

    steps.during = meanwhile
    ask()
    second.join(30)
    assert [sorted(host.name for host in answer.held.hosts) for answer in answers] == [["node2", "node3"]] * 2
    # Either process may prepare the other hosts after node1 failed; neither answers before all hosts are prepared.
    assert {*steps.hosts} == {"node1", "node2", "node3"}
    assert states(fleet) == {"node1": "tainted", "node2": "reserved", "node3": "reserved", "node4": "available"}
