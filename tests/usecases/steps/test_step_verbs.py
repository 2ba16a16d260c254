"""Steps of many hosts at once: their records, and which hosts change their state."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmhctl.domain.model import CheckResult, Event, EventKind, Host, HostSpec, State, Verb, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import BmhctlError, NotYoursError, StateRefusedError, StepFailedError, UsageError
from bmhctl.probes import run as probe
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results import Outcomes
from bmhctl.stores.claims import host_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.hosts import Hosts
from bmhctl.stores.step_results import StepResults
from bmhctl.stores.store import Store
from bmhctl.support.values import replace
from bmhctl.support.worker_pool import WorkerPool
from bmhctl.usecases import hosts, inventories, lifecycle_verbs
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import parallel, resume, step_verbs
from bmhctl.usecases.steps.execution import Claimed, claimed
from tests.conftest import BACKENDS, SUFFIX, Lab, copied

ALL = Choice(everything=True)
PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN
POLICY = """
[defaults]
quarantine_after = 2
[checks.a]
command = ["true"]
[checks.b]
command = ["true"]
[cleanup.wipe]
command = ["true"]
[cleanup.verify]
command = ["true"]
"""

Says = Callable[[Step, HostSpec], Verdict]


def saying(says: Says) -> mock._patch[object]:
    """Steps with the results that a test wants."""

    def run(step: Step, spec: HostSpec, setting: StepEnvironment) -> CheckResult:
        verdict = says(step, spec)
        return CheckResult(step.name, verdict, f"said {verdict}", 1.5, phase=step.phase)

    return mock.patch.object(probe, "run", run)


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Three hosts that are initial."""
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node[1-3]"], hosts.AttributeChanges())
    return lab


def states(lab: Lab) -> dict[str, str]:
    return {host.name: host.state.value for host in lab.context().store.hosts.find(HostQuery())}


def host(lab: Lab, name: str = "node1") -> Host:
    found = lab.context().store.hosts.named(name)
    assert found is not None
    return found


def results(lab: Lab, name: str = "node1") -> list[tuple[str, str, str, float]]:
    return [
        (r.step, r.verdict.value, r.detail, r.seconds) for r in lab.context().store.step_results.of(host(lab, name))
    ]


def said(outcomes: Outcomes) -> dict[str, tuple[bool, str]]:
    return {item.host: (item.error is None, item.message) for item in outcomes.items}


def taint(lab: Lab, *names: str, fault: str | None = None) -> None:
    for name in names:
        if host(lab, name).state is State.INITIAL:
            with saying(lambda *_: PASS):
                step_verbs.ready(lab.context(), Choice((name,)))
        reserve.reserve_or_wait(lab.context(), reservation_request((name,)))
        lifecycle_verbs.taint(lab.context(), Choice((name,)), fault=fault)


def test_the_last_result_of_each_step_is_recorded_with_its_time(fleet: Lab) -> None:
    with saying(lambda step, _: FAIL if step.name == "a" else UNKNOWN):
        outcomes = step_verbs.ready(fleet.context(), Choice(("node1",)))
    assert said(outcomes) == {"node1": (False, "readiness check failed: a: said fail; b: said unknown")}
    assert results(fleet) == [("a", "fail", "said fail", 1.5), ("b", "unknown", "said unknown", 1.5)]
    before = fleet.clock.now
    fleet.clock.move(hours=1)
    with saying(lambda *_: PASS):
        step_verbs.check(fleet.context(), Choice(("node1",)), only=("b",))
    found = fleet.context().store.step_results.of(host(fleet))
    assert [(r.step, r.verdict, r.at is not None and r.at > before) for r in found] == [
        ("a", FAIL, False),
        ("b", PASS, True),
    ]


@pytest.mark.parametrize("verdict", [FAIL, UNKNOWN])
def test_any_verdict_except_pass_keeps_the_host_in_its_state(verdict: Verdict, fleet: Lab) -> None:
    with saying(lambda step, _: verdict if step.name in ("a", "verify") else PASS):
        step_verbs.ready(fleet.context(), Choice(("node1",)))
        assert states(fleet)["node1"] == "initial"
        taint(fleet, "node1")
        step_verbs.reset(fleet.context(), Choice(("node1",)))
        assert states(fleet)["node1"] == "tainted"


def test_a_check_changes_no_state(fleet: Lab) -> None:
    taint(fleet, "node2")
    lifecycle_verbs.maintain(fleet.context(), Choice(("node3",)), reason="fan")
    before = states(fleet)
    for verdict in (PASS, FAIL):
        with saying(lambda *_, verdict=verdict: verdict):
            outcomes = step_verbs.check(fleet.context(), ALL)
        assert [item.error is None for item in outcomes.items] == [verdict is PASS] * 3
        assert states(fleet) == before
    assert [event.verb for event in fleet.context().store.events.read(host(fleet))] == [
        Verb.ENTER,
        EventKind.STEP_FAILED,
    ]


def test_a_check_of_a_host_of_another_owner_needs_force(fleet: Lab) -> None:
    with saying(lambda *_: PASS):
        step_verbs.ready(fleet.context(), Choice(("node1",)))
        reserve.reserve_or_wait(fleet.context("alice"), reservation_request(("node1",)))
        (item,) = step_verbs.check(fleet.context("bob"), Choice(("node1",))).items
        assert isinstance(item.error, NotYoursError)
        for who, force in (("alice", False), ("bob", True)):
            assert said(step_verbs.check(fleet.context(who), Choice(("node1",)), force=force)) == {
                "node1": (True, "readiness checks passed: a, b")
            }


def test_the_result_of_a_check_is_recorded_even_if_its_host_changed_state_meanwhile(fleet: Lab) -> None:
    with saying(lambda *_: PASS):
        step_verbs.ready(fleet.context(), Choice(("node1",)))
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node1",)))

    def meanwhile(step: Step, _: HostSpec) -> Verdict:
        if step.name == "a":
            with fleet.visit() as ctx:
                lifecycle_verbs.taint(ctx, Choice(("node1",)))
        return FAIL

    with saying(meanwhile):
        (item,) = step_verbs.check(fleet.context(), Choice(("node1",))).items
    assert isinstance(item.error, StepFailedError)
    assert results(fleet) == [("a", "fail", "said fail", 1.5), ("b", "fail", "said fail", 1.5)]
    assert states(fleet)["node1"] == "tainted"


def test_a_transition_is_dropped_if_the_host_changed_during_the_steps(fleet: Lab) -> None:
    def meanwhile(step: Step, _: HostSpec) -> Verdict:
        if step.name == "a":
            with fleet.visit() as ctx:
                lifecycle_verbs.cordon(ctx, Choice(("node1",)), reason="look")
        return PASS

    with saying(meanwhile):
        (item,) = step_verbs.ready(fleet.context(), Choice(("node1",))).items
    assert isinstance(item.error, StateRefusedError)
    assert item.message == "changed while its steps ran: it is initial now"
    assert states(fleet)["node1"] == "initial"


def test_check_and_override_refuse_unknown_steps(fleet: Lab) -> None:
    for call in (
        lambda: step_verbs.check(fleet.context(), ALL, only=("c",)),
        lambda: step_verbs.ready(fleet.context(), ALL, override=("c",), reason="x"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert (caught.value.message, caught.value.hint) == ("there is no check 'c'", "declared: a, b")


def test_an_override_needs_a_reason_and_is_in_the_history(fleet: Lab) -> None:
    for reason in (None, " "):
        with pytest.raises(UsageError):
            step_verbs.ready(fleet.context(), ALL, override=("a",), reason=reason)
    ran: list[str] = []
    with saying(lambda step, _: ran.append(step.name) or (FAIL if step.name == "a" else PASS)):  # type: ignore[func-returns-value]
        step_verbs.ready(fleet.context(), Choice(("node1",)), override=("a",), reason="sensor is broken")
    assert ran == ["b"]
    last = list(fleet.context().store.events.read(host(fleet)))[-1]
    assert (last.verb, last.dest, last.reason) == (
        Verb.READY,
        State.AVAILABLE,
        "readiness check passed: b; a overridden: sensor is broken",
    )


def test_a_cleanup_that_can_not_start_does_not_count_as_a_failure_of_the_host(fleet: Lab) -> None:
    taint(fleet, "node1")
    with saying(lambda *_: UNKNOWN):
        for _ in range(3):
            assert said(step_verbs.recycle(fleet.context(), Choice(("node1",))))["node1"][0] is False
    assert (host(fleet).state, host(fleet).failed_cleanups) == (State.TAINTED, 0)


def test_failed_cleanups_in_a_row_are_counted_and_end_in_quarantine(fleet: Lab) -> None:
    taint(fleet, "node1")
    choice = Choice(("node1",))
    wipes = iter([FAIL, PASS, FAIL, FAIL])

    def says(step: Step, _: HostSpec) -> Verdict:
        return next(wipes) if step.name == "wipe" else PASS

    with saying(says):
        assert said(step_verbs.recycle(fleet.context(), choice))["node1"] == (
            False,
            "cleanup step failed: wipe: said fail",
        )
        assert host(fleet).failed_cleanups == 1
        assert said(step_verbs.recycle(fleet.context(), choice))["node1"] == (
            True,
            "cleanup steps passed: wipe, verify; readiness checks passed: a, b",
        )
        assert host(fleet).failed_cleanups == 0
        taint(fleet, "node1")
        step_verbs.recycle(fleet.context(), choice)
        assert states(fleet)["node1"] == "tainted"
        (item,) = step_verbs.recycle(fleet.context(), choice).items
    assert item.message == "cleanup step failed: wipe: said fail; quarantined after 2 failed cleanups in a row"
    found = host(fleet)
    assert (found.state, found.dirty, found.maintenance[0].quarantine) == (State.MAINTENANCE, True, True)
    with saying(lambda *_: PASS):
        assert said(step_verbs.recycle(fleet.context(), Choice())) == {}
        resume.resume(fleet.context("bob"), choice)
    assert (host(fleet).state, host(fleet).failed_cleanups) == (State.INITIAL, 0)


def test_recycle_skips_a_faulty_host_unless_it_is_named(fleet: Lab) -> None:
    taint(fleet, "node1", fault="fan")
    ran: list[str] = []
    with saying(lambda step, spec: ran.append(spec.name) or PASS):  # type: ignore[func-returns-value]
        for choice in (Choice(), Choice(("node*",)), Choice(("node[1-3]",)), Choice(states=frozenset({State.TAINTED}))):
            assert said(step_verbs.recycle(fleet.context(), choice)).get("node1") == (
                True,
                "skipped because of its fault: fan",
            )
        assert (ran.count("node1"), states(fleet)["node1"]) == (0, "tainted")
        assert said(step_verbs.recycle(fleet.context(), Choice(("node1",))))["node1"][0]
    assert (host(fleet).state, host(fleet).fault) == (State.AVAILABLE, None)


def test_recycle_skips_a_host_that_gets_a_fault_while_it_waits(fleet: Lab) -> None:
    taint(fleet, "node1", "node2")
    ran: list[str] = []

    def says(_: Step, spec: HostSpec) -> Verdict:
        ran.append(spec.name)
        with fleet.visit() as ctx:
            lifecycle_verbs.taint(ctx, Choice(("node2",)), fault="fan")
        return PASS

    with saying(says):
        outcomes = step_verbs.recycle(fleet.context(), Choice(), jobs=1)
    assert said(outcomes)["node2"] == (True, "skipped because of its fault: fan")
    assert set(ran) == {"node1"}


def test_recycle_ends_expired_leases_first(fleet: Lab) -> None:
    with saying(lambda *_: PASS):
        step_verbs.ready(fleet.context(), Choice(("node1",)))
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node1",), ttl=timedelta(minutes=1)))
        assert said(step_verbs.recycle(fleet.context(), Choice())) == {}
        fleet.clock.move(minutes=2)
        assert said(step_verbs.recycle(fleet.context(), Choice())) == {
            "node1": (True, "cleanup steps passed: wipe, verify; readiness checks passed: a, b")
        }


def test_recycle_takes_only_tainted_hosts_of_a_pattern_but_any_named_host(fleet: Lab) -> None:
    taint(fleet, "node1")
    with saying(lambda *_: PASS):
        step_verbs.ready(fleet.context(), Choice(("node2",)))
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node2",)))
        assert list(said(step_verbs.recycle(fleet.context(), Choice(("node*",))))) == ["node1"]
        assert states(fleet) == {"node1": "available", "node2": "reserved", "node3": "initial"}
        outcomes = step_verbs.recycle(fleet.context(), Choice(("node[1-3]",)))
    assert [(item.host, item.error and item.error.status) for item in outcomes.items] == [
        ("node1", None),
        ("node2", 4),
        ("node3", None),
    ]
    assert said(outcomes)["node2"][1] == "is reserved: recycle is only possible from tainted"
    assert states(fleet)["node3"] == "available"


def test_a_host_on_which_a_step_runs_is_skipped_unless_it_is_named(fleet: Lab) -> None:
    taint(fleet, "node1")
    with claimed(fleet.context(), host(fleet)), saying(lambda *_: PASS):
        words = "a step is running on it"
        assert said(step_verbs.recycle(fleet.context(), Choice())) == {"node1": (True, f"skipped: {words}")}
        assert said(step_verbs.recycle(fleet.context(), Choice(("node1",)))) == {"node1": (False, words)}


def test_no_more_hosts_are_processed_at_once_than_the_option_jobs_allows(fleet: Lab) -> None:
    hosts.add(fleet.context(), ["node[4-9]"], hosts.AttributeChanges())
    lock, now, most = threading.Lock(), 0, 0
    three = threading.Event()

    def says(*_: object) -> Verdict:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                three.set()
        three.wait(20)
        time.sleep(0.1)  # so that a fourth would be seen
        with lock:
            now -= 1
        return PASS

    with saying(says):
        step_verbs.ready(fleet.context(), ALL, jobs=3)
    assert (most, set(states(fleet).values())) == (3, {"available"})


def test_finished_hosts_are_recorded_and_reported_when_a_command_is_interrupted(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def run(step: Step, spec: HostSpec, setting: StepEnvironment) -> CheckResult:
        if spec.name == "node3":
            setting.cancelled.wait(20)
        elif step.name == "b":
            ended.set()
        return CheckResult(step.name, PASS, "", 0.1)

    real = WorkerPool._next

    def interrupted(pool: WorkerPool[object, object]) -> tuple[object, object]:
        assert ended.wait(10)
        while pool._done.qsize() < 2:  # both steps have ended, and no result was handled yet
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "run", run)
    monkeypatch.setattr(WorkerPool, "_next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step_verbs.ready(fleet.context(), ALL)
    monkeypatch.setattr(WorkerPool, "_next", real)
    assert states(fleet) == {"node1": "available", "node2": "available", "node3": "initial"}
    assert sorted(fleet.said) == [f"node{n}: readiness checks passed: a, b" for n in (1, 2)]
    assert results(fleet, "node3") == []
    assert not fleet.context().store.claims.claimed([f"host-{host(fleet, 'node3').id}"])


def test_an_interrupted_recycle_reports_how_far_it_came(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    taint(fleet, "node1")

    def run(step: Step, spec: HostSpec, setting: StepEnvironment) -> CheckResult:
        if step.name == "a":
            raise KeyboardInterrupt  # this acts as if it came while the checks ran
        return CheckResult(step.name, PASS, "", 0.1)

    monkeypatch.setattr(probe, "run", run)
    with pytest.raises(KeyboardInterrupt):
        step_verbs.recycle(fleet.context(), Choice())
    assert states(fleet)["node1"] == "initial"
    assert fleet.said == ["node1: cleanup steps passed: wipe, verify"]


@pytest.mark.parametrize("verdict", [PASS, Verdict.FAIL])
def test_an_interruption_right_after_a_commit_reports_what_was_committed(
    verdict: Verdict, fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    taint(fleet, "node1")
    commit, save = Store.transaction, StepResults.save
    saved: list[str] = []

    @contextmanager
    def committing(store: Store, **how: bool) -> Iterator[None]:
        with commit(store, **how):
            yield
        if saved:
            saved.clear()
            raise KeyboardInterrupt

    def saving(store: StepResults, host: Host, results: Sequence[CheckResult], at: datetime) -> None:
        save(store, host, results, at)
        saved.append(host.name)

    monkeypatch.setattr(Store, "transaction", committing)
    monkeypatch.setattr(StepResults, "save", saving)
    with (
        saying(lambda step, spec: verdict),
        pytest.raises(KeyboardInterrupt),
    ):
        step_verbs.reset(fleet.context(), Choice(("node1",)))
    passed = verdict is PASS
    assert states(fleet)["node1"] == ("initial" if passed else "tainted")
    assert fleet.said == [
        "node1: cleanup steps passed: wipe, verify" if passed else "node1: cleanup step failed: wipe: said fail"
    ]


def test_an_interruption_while_a_claim_is_given_up_reports_what_was_committed(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def interrupted(ctx: Context, host: Host) -> Iterator[Claimed]:
        with claimed(ctx, host) as held:
            yield held
        if host.name == "node2":
            raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "claimed", interrupted)
    with saying(lambda *_: PASS), pytest.raises(KeyboardInterrupt):
        step_verbs.ready(fleet.context(), ALL, jobs=1)
    assert states(fleet) == {"node1": "available", "node2": "available", "node3": "initial"}
    assert fleet.said == [f"node{n}: readiness checks passed: a, b" for n in (1, 2)]


STEPS_FOR_FEW = """
[checks.bmc]
command = ["true"]
selector = "bmc"
[cleanup.wipe]
command = ["true"]
selector = "bmc"
"""


def test_hosts_without_steps_share_a_commit_and_fail_separately(lab: Lab) -> None:
    lab.policy(STEPS_FOR_FEW)
    hosts.add(lab.context(), ["node[1-6]"], hosts.AttributeChanges())
    hosts.add(lab.context(), ["bmc1"], hosts.AttributeChanges(labels={"bmc": "yes"}))
    lifecycle_verbs.maintain(lab.context(), Choice(("node6",)), reason="disk")
    held = lab.context().store.hosts.named("node5")
    assert held is not None

    with lab.context().store.claims.claim(host_claim(held.id)):
        done = step_verbs.ready(lab.context(), Choice(("bmc1", "node[1-6]", "node9")))
    assert [(item.host, item.changed, str(item.error or item.message)) for item in done.items] == [
        ("bmc1", True, "readiness check passed: bmc"),
        *((f"node{n}", True, "no readiness check applies to it") for n in (1, 2, 3, 4)),
        ("node5", False, "a step is running on it"),
        ("node6", False, "is in maintenance: ready is only possible from initial"),
        ("node9", False, "there is no such host"),
    ]

    taint(lab, "node1", "node2", "node3", "node4", "bmc1")
    recycled = step_verbs.recycle(lab.context(), Choice())
    assert [(item.host, item.source, item.state) for item in recycled.items] == [
        (name, State.TAINTED, State.AVAILABLE) for name in ("bmc1", "node1", "node2", "node3", "node4")
    ]
    assert [event.verb for event in lab.context().store.events.read(host(lab))] == [
        "enter", "ready", "reserve", "taint", "reset", "ready",
    ]  # fmt: skip
    assert lab.context().store.claims.left_behind() == []


@pytest.mark.parametrize("lab", ["postgres"], indirect=True)
def test_a_host_renamed_after_the_choice_is_claimed_by_one_command_only(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    chosen, fresh = step_verbs.choose, Hosts.fresh
    came_through: list[bool] = []

    def late(ctx: Context, choice: Choice) -> tuple[list[Host], list[BmhctlError]]:
        found = chosen(ctx, choice)
        hosts.rename(lab.context(), "node1", "renamed")
        return found

    def maintained(store: Hosts, some: Sequence[Host], *, lock: bool = False) -> dict[int, Host]:
        found = fresh(store, some, lock=lock)
        other = threading.Thread(
            target=lifecycle_verbs.maintain, args=(there, Choice(("renamed",))), kwargs={"reason": "disk"}
        )
        other.start()
        others.append(other)
        other.join(0.5)
        came_through.append(not other.is_alive())
        return found

    others: list[threading.Thread] = []
    there = lab.context("carol")
    monkeypatch.setattr(step_verbs, "choose", late)
    monkeypatch.setattr(Hosts, "fresh", maintained)
    step_verbs.ready(lab.context(), Choice(("node1",)))
    for other in others:
        other.join(30)
    assert came_through == [False]
    assert [(event.source, event.dest) for event in lab.context().store.events.read("renamed")][-2:] == [
        (State.INITIAL, State.AVAILABLE),
        (State.AVAILABLE, State.MAINTENANCE),
    ]


def test_hosts_committed_before_an_interruption_are_reported(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.add(lab.context(), ["node[1-6]"], hosts.AttributeChanges())
    monkeypatch.setattr(parallel, "_IN_ONE_COMMIT", 2)

    def progress(_: str, position: str) -> None:
        if position == "5 of 6":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step_verbs.ready(replace(lab.context(), progress=progress), ALL)
    assert lab.said == [f"node{n}: no readiness checks are declared" for n in (1, 2, 3, 4)]
    assert states(lab) == {f"node{n}": "available" if n < 5 else "initial" for n in range(1, 7)}


@pytest.mark.parametrize("after_commit", [True, False], ids=["after the commit", "before the commit"])
@pytest.mark.parametrize("verb", ["ready", "resume", "close one reason", "cordon"])
def test_an_interruption_of_a_commit_reports_what_was_committed(
    verb: str, after_commit: bool, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    if verb in ("resume", "close one reason"):
        lifecycle_verbs.maintain(lab.context(), ALL, reason="fan")
    if verb == "close one reason":
        lifecycle_verbs.maintain(lab.context("bob"), ALL, reason="disk")
    commit, written = Store.transaction, Hosts.save

    @contextmanager
    def committing(store: Store, **how: bool) -> Iterator[None]:
        with commit(store, **how):
            yield
            if saved and not after_commit:
                saved.clear()
                raise KeyboardInterrupt
        if saved:
            saved.clear()
            raise KeyboardInterrupt

    def saving(store: Hosts, host: Host, event: Event) -> Host:
        saved.append(host.name)
        return written(store, host, event)

    saved: list[str] = []
    before = states(lab)
    monkeypatch.setattr(Store, "transaction", committing)
    monkeypatch.setattr(Hosts, "save", saving)
    with pytest.raises(KeyboardInterrupt):
        {"ready": step_verbs.ready, "cordon": lifecycle_verbs.cordon}.get(verb, resume.resume)(lab.context(), ALL)
    said = {
        "ready": "node1: no readiness checks are declared",
        "resume": "node1: maintenance complete",
        "close one reason": "node1: closed: fan; stays for bob: disk",
        "cordon": "node1: cordoned",
    }
    assert lab.said == ([said[verb]] if after_commit else [])
    assert (states(lab) != before) is (after_commit and verb in ("ready", "resume"))


def test_many_hosts_are_moved_in_several_commits(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.add(lab.context(), ["node[1-5]"], hosts.AttributeChanges())
    monkeypatch.setattr(parallel, "_IN_ONE_COMMIT", 2)
    monkeypatch.setattr(parallel, "FEW", 1)
    done = step_verbs.ready(lab.context(), ALL)
    assert [(item.host, item.state) for item in done.items] == [(f"node{n}", State.AVAILABLE) for n in range(1, 6)]


@pytest.mark.parametrize("lab", ["sqlite", "postgres"], indirect=True)
def test_a_step_declared_meanwhile_runs_on_hosts_that_had_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    transaction, declared = Store.transaction, iter(['[checks.up]\ncommand = ["false"]\n'])

    def late(store: Store, **how: bool) -> AbstractContextManager[None]:
        for policy in declared:
            lab.policy(policy)
        return transaction(store, **how)

    monkeypatch.setattr(Store, "transaction", late)
    done = step_verbs.ready(lab.context(), Choice(("node1",)))
    assert [(item.changed, type(item.error)) for item in done.items] == [(False, StepFailedError)]
    assert states(lab) == {"node1": "initial"}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15)
@given(
    lives=st.lists(
        st.tuples(
            st.sampled_from(["ready", "reserve", "taint", "reset", "recycle", "maintain", "resume", "check", "reap"]),
            st.sampled_from([("node1",), ("node2",), ("node1", "node2")]),
            st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=5),
        ),
        max_size=30,
    )
)
def test_no_used_host_is_handed_on_before_its_whole_cleanup_succeeded(
    backend: str, lives: list[tuple[str, tuple[str, ...], list[Verdict]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / SUFFIX[backend])
        inventories.init(lab.location)
        lab.policy(POLICY)
        ctx = lab.context()
        hosts.add(ctx, ["node[1-2]"], hosts.AttributeChanges())
        wiped: dict[str, set[str]] = {"node1": set(), "node2": set()}
        used: dict[str, bool] = dict.fromkeys(wiped, False)
        for verb, names, verdicts in lives:
            turns = iter(verdicts * 20)

            def says(step: Step, spec: HostSpec, turns: object = turns) -> Verdict:
                verdict = next(turns)  # type: ignore[call-overload]
                steps = wiped[spec.name]
                if verdict is PASS:
                    steps.add(step.name)
                else:
                    steps.discard(step.name)
                return Verdict(verdict)

            for steps in wiped.values():
                steps.clear()
            choice = Choice(names)
            with saying(says):
                if verb == "reserve":
                    for name in names:
                        if host(lab, name).state is State.AVAILABLE:
                            assert not used[name]
                            reserve.reserve_or_wait(ctx, reservation_request((name,)))
                            used[name] = True
                elif verb == "maintain":
                    lifecycle_verbs.maintain(ctx, choice, reason="x")
                elif verb == "reap":
                    lab.clock.move(hours=5)
                    step_verbs.recycle(ctx, Choice())
                elif verb == "taint":
                    lifecycle_verbs.taint(ctx, choice)
                else:
                    getattr(resume if verb == "resume" else step_verbs, verb)(ctx, choice)
            for name, steps in wiped.items():
                found = host(lab, name)
                if found.state in (State.INITIAL, State.AVAILABLE) and used[name]:
                    assert {"wipe", "verify"} <= steps, (verb, name)
                    used[name] = False
                if found.state is not State.MAINTENANCE:
                    assert found.dirty is used[name]
        lab.remove()


def test_an_event_keeps_the_steps_that_led_to_it_with_their_seconds(fleet: Lab) -> None:
    """This holds for ready, reset, resume, step-failed and ``reserve --check``; other events have no steps."""

    def kept(verb: Verb | EventKind) -> list[tuple[str, str, str, float]] | None:
        event = [each for each in fleet.context().store.events.read(host(fleet)) if each.verb is verb][-1]
        if event.steps is None:
            return None
        return [(each.phase.value, each.step, each.verdict.value, each.seconds) for each in event.steps]

    checks = [("checks", "a", "pass", 1.5), ("checks", "b", "pass", 1.5)]
    taint(fleet, "node1")
    assert (kept(Verb.READY), kept(Verb.RESERVE), kept(Verb.TAINT), kept(Verb.ENTER)) == (checks, None, None, None)
    with saying(lambda step, _: FAIL if step.name == "verify" else PASS):
        step_verbs.reset(fleet.context(), Choice(("node1",)))
    assert kept(EventKind.STEP_FAILED) == [("cleanup", "wipe", "pass", 1.5), ("cleanup", "verify", "fail", 1.5)]
    with saying(lambda *_: PASS):
        step_verbs.reset(fleet.context(), Choice(("node1",)))
        step_verbs.ready(fleet.context(), Choice(("node1",)), override=["a"], reason="known")
        assert kept(Verb.RESET) == [("cleanup", "wipe", "pass", 1.5), ("cleanup", "verify", "pass", 1.5)]
        assert kept(Verb.READY) == checks[1:]
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node1",)), check=True)
        assert kept(Verb.RESERVE) == checks
        lifecycle_verbs.maintain(fleet.context(), Choice(("node1",)), reason="fan")
        resume.resume(fleet.context(), Choice(("node1",)))
        assert (kept(Verb.MAINTAIN), kept(Verb.RESUME)) == (None, None)
    with saying(lambda *_: UNKNOWN):
        step_verbs.check(fleet.context(), Choice(("node1",)), only=["b"])
    assert kept(EventKind.STEP_FAILED) == [("checks", "b", "unknown", 1.5)]


def test_the_checks_of_a_host_that_failed_before_a_grant_are_in_its_event(fleet: Lab) -> None:
    with saying(lambda *_: PASS):
        step_verbs.ready(fleet.context(), ALL)
    asked = reservation_request(("node1",))
    with saying(lambda *_: FAIL), pytest.raises(BmhctlError):
        reserve.reserve_or_wait(fleet.context(), asked, check=True)
    last = [*fleet.context().store.events.read(host(fleet))][-1]
    assert (last.verb, [each.verdict for each in last.steps or ()]) == (Verb.MAINTAIN, [FAIL, FAIL])


def waiting(lab: Lab, says: Says) -> dict[str, tuple[bool, str]]:
    """Return the messages of ``recycle`` without chosen hosts; steps end as in ``says``."""
    with saying(says):
        return said(step_verbs.recycle(lab.context(), Choice()))


def no_check(step: Step, _: HostSpec) -> Verdict:
    """Cleanups pass, checks fail."""
    return PASS if step.name in ("wipe", "verify") else FAIL


def test_recycle_tries_a_host_again_whose_checks_failed_after_its_cleanup(fleet: Lab) -> None:
    taint(fleet, "node1")
    waiting(fleet, no_check)
    assert (host(fleet).state, host(fleet).failed_recycles) == (State.INITIAL, 1)
    assert waiting(fleet, lambda *_: PASS) == {"node1": (True, "readiness checks passed: a, b")}
    assert (host(fleet).state, host(fleet).failed_recycles) == (State.AVAILABLE, None)


def test_a_host_that_recycle_cannot_make_available_goes_to_maintenance_after_too_many_failures(fleet: Lab) -> None:
    taint(fleet, "node1")
    waiting(fleet, no_check)
    (words,) = (words for _, words in waiting(fleet, no_check).values())
    assert words.endswith("quarantined after 2 failed tries to make it available in a row")
    found = host(fleet)
    assert (found.state, found.dirty, found.maintenance[0].quarantine) == (State.MAINTENANCE, False, True)
    assert waiting(fleet, lambda *_: PASS) == {}
    with saying(lambda *_: PASS):
        resume.resume(fleet.context("bob"), Choice(("node1",)))
    assert (host(fleet).state, host(fleet).failed_recycles) == (State.INITIAL, None)
    assert waiting(fleet, lambda *_: PASS) == {}


def test_a_check_without_a_verdict_is_tried_again_and_not_counted(fleet: Lab) -> None:
    taint(fleet, "node1")
    for _ in range(3):
        waiting(fleet, lambda step, _: PASS if step.name in ("wipe", "verify") else UNKNOWN)
        assert (host(fleet).state, host(fleet).failed_recycles) == (State.INITIAL, 0)
    assert waiting(fleet, lambda *_: PASS)["node1"][0]


def test_recycle_goes_on_with_a_host_whose_recycling_was_interrupted_after_its_cleanup(fleet: Lab) -> None:
    taint(fleet, "node1")

    def says(step: Step, _: HostSpec) -> Verdict:
        if step.name == "a":
            raise KeyboardInterrupt
        return PASS

    with saying(says), pytest.raises(KeyboardInterrupt):
        step_verbs.recycle(fleet.context(), Choice())
    assert host(fleet).state is State.INITIAL
    assert waiting(fleet, lambda *_: PASS)["node1"][0]


def test_recycle_skips_initial_hosts_that_a_person_reset_or_failed_to_make_ready(fleet: Lab) -> None:
    taint(fleet, "node1")
    with saying(no_check):
        step_verbs.reset(fleet.context(), Choice(("node1",)))
        for _ in range(3):
            step_verbs.ready(fleet.context(), Choice(("node1", "node2")))
    assert waiting(fleet, lambda *_: PASS) == {}
    assert states(fleet) == dict.fromkeys(("node1", "node2", "node3"), "initial")
    with saying(lambda *_: PASS):
        assert said(step_verbs.recycle(fleet.context(), Choice(("node*",)))) == {}


def test_a_pattern_means_hosts_that_recycle_left_initial_too(fleet: Lab) -> None:
    taint(fleet, "node1")
    waiting(fleet, no_check)
    with saying(lambda *_: PASS):
        assert set(said(step_verbs.recycle(fleet.context(), Choice(("node*",))))) == {"node1"}
