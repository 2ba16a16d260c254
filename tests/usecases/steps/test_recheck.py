"""Rechecks: free hosts whose last pass is too old are checked again, go to maintenance on failure, and come back."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import timedelta

import pytest

from bmhctl.domain.model import Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.usecases import explain, hosts, lifecycle_verbs
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, step_verbs
from bmhctl.usecases.steps.execution import claimed
from tests.conftest import Lab
from tests.usecases.steps.rechecking import recheck
from tests.usecases.steps.test_step_verbs import FAIL, PASS, Says, host, said, saying, states

POLICY = """
[defaults]
recheck_after = "24h"
recheck_share = 0.5
recover_after = "1h"
{more}
[checks.ssh]
command = ["true"]
[checks.burn-in]
command = ["true"]
selector = "gpu"
"""


def fleet(lab: Lab, more: str = "") -> Lab:
    """Four hosts whose checks passed an hour apart, node1 first."""
    lab.policy(POLICY.replace("{more}", more))
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    with saying(lambda *_: PASS):
        for number in range(1, 5):
            step_verbs.ready(lab.context(), Choice((f"node{number}",)))
            lab.clock.move(hours=1)
    return lab


def age(lab: Lab) -> timedelta:
    """Return how long ago the checks of node1 passed, in whole seconds."""
    proven = host(lab).proven_at
    assert proven is not None
    return timedelta(seconds=round((lab.clock.now - proven).total_seconds()))


def rechecked(lab: Lab, says: Says = lambda *_: PASS) -> list[str]:
    """Recheck stale hosts; return which were checked, in order."""
    seen: list[str] = []

    def noted(step: Step, spec: object) -> Verdict:
        seen.append(spec.name)  # type: ignore[attr-defined]  # the host's spec
        return says(step, spec)  # type: ignore[arg-type]

    with saying(noted):
        recheck(lab.context(), jobs=1)
    return seen


def take(lab: Lab, *names: str) -> list[str]:
    asked = reservation_request(names, None if names else parse_selector(""))
    return [one.name for one in reserve.reserve_or_wait(lab.context(), asked).held.hosts]


def test_ready_and_a_full_check_count_as_a_pass_of_all_checks_and_a_partial_one_does_not(lab: Lab) -> None:
    fleet(lab)
    first = host(lab).proven_at
    with saying(lambda *_: PASS):
        step_verbs.check(lab.context(), Choice(("node1",)), only=("ssh",))
        assert host(lab).proven_at == first
        step_verbs.check(lab.context(), Choice(("node1",)))
    assert age(lab) == timedelta()
    with saying(lambda *_: FAIL):
        lab.clock.move(hours=1)
        step_verbs.check(lab.context(), Choice(("node1",)))
    assert age(lab) == timedelta(hours=1)


def test_stale_hosts_are_rechecked_oldest_first(lab: Lab) -> None:
    fleet(lab)
    assert rechecked(lab) == []
    lab.clock.move(hours=22)  # node1 is 26 hours old, node4 23
    assert rechecked(lab) == ["node1", "node2", "node3"]
    assert rechecked(lab) == []
    assert age(lab) == timedelta()


@pytest.mark.parametrize("days", [1, 400])
def test_a_pass_that_lies_ahead_of_the_clock_counts_as_stale(days: int, lab: Lab) -> None:
    """The clock was ahead when the checks passed, and was set back; a difference of a minute does not count."""
    fleet(lab)
    lab.clock.move(days=-days)
    assert rechecked(lab) == ["node1", "node2", "node3", "node4"]
    lab.clock.move(seconds=-50)
    assert rechecked(lab) == []
    lab.clock.move(hours=24, seconds=50)
    assert rechecked(lab) == ["node1", "node2", "node3", "node4"]


def test_setting_the_clock_back_keeps_no_host_in_maintenance(lab: Lab) -> None:
    fleet(lab)
    lab.clock.move(hours=21)
    rechecked(lab, lambda *_: FAIL)
    assert states(lab)["node1"] == "maintenance"
    lab.clock.move(days=-400)
    assert "node1" in rechecked(lab, lambda _, spec: FAIL if spec.name == "node1" else PASS)
    assert "node1" not in rechecked(lab), "it was just tried"
    lab.clock.move(hours=1)
    rechecked(lab)
    assert states(lab)["node1"] == "available"


def test_no_host_is_rechecked_without_the_setting(lab: Lab) -> None:
    lab.policy('[checks.ssh]\ncommand = ["true"]\n')
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    with saying(lambda *_: PASS):
        step_verbs.ready(lab.context(), Choice(("node1",)))
    lab.clock.move(days=99)
    assert rechecked(lab) == []


def test_a_free_host_that_fails_a_recheck_goes_to_maintenance_and_anyone_can_resume_it(lab: Lab) -> None:
    fleet(lab)
    lab.clock.move(hours=21)
    with saying(lambda *_: FAIL):
        outcomes = recheck(lab.context())
    assert said(outcomes)["node1"] == (
        False,
        "failed a repeated check: readiness check failed: ssh: said fail; it is in maintenance now",
    )
    assert states(lab)["node1"] == "maintenance"
    with saying(lambda *_: PASS):
        resume.resume(lab.context("bob"), Choice(("node1",)))
    assert states(lab)["node1"] == "available"


def test_a_host_in_maintenance_after_a_recheck_resumes_when_its_checks_pass_twice(lab: Lab) -> None:
    fleet(lab)
    lab.clock.move(hours=21)
    rechecked(lab, lambda *_: FAIL)
    assert rechecked(lab) == []
    lab.clock.move(hours=1)
    assert "node1" in rechecked(lab, lambda _, spec: FAIL if spec.name == "node1" else PASS)
    assert states(lab)["node1"] == "maintenance"
    lab.clock.move(minutes=59)
    assert "node1" not in rechecked(lab)
    lab.clock.move(minutes=1)
    assert [name for name in rechecked(lab) if name == "node1"] == ["node1", "node1"]
    assert states(lab)["node1"] == "available"


def test_a_host_that_a_person_put_into_maintenance_is_never_resumed_automatically(lab: Lab) -> None:
    fleet(lab)
    lifecycle_verbs.maintain(lab.context(), Choice(("node1",)), reason="a new disk")
    lab.clock.move(hours=20)
    assert "node1" not in rechecked(lab)
    assert states(lab)["node1"] == "maintenance"


def test_at_most_the_configured_share_of_free_hosts_is_rechecked_at_a_time(lab: Lab) -> None:
    fleet(lab)
    lab.clock.move(days=3)
    running, most, lock = 0, 0, threading.Lock()

    def says(*_: object) -> Verdict:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return PASS

    with saying(says):
        recheck(lab.context(), jobs=64)
    assert most == 2


@pytest.mark.slow
def test_a_recheck_ends_when_a_waiter_needs_the_host(lab: Lab) -> None:
    lab.policy('[defaults]\nrecheck_after = "24h"\n[checks.long]\ncommand = ["sleep", "60"]\n')
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    with saying(lambda *_: PASS):
        step_verbs.ready(lab.context(), Choice(("node1",)))
    lab.clock.move(days=2)
    taken: list[str] = []

    def pause(seconds: float, _: int | None) -> None:
        time.sleep(min(seconds, 0.2))
        lab.clock.move(seconds=1)

    def reserving() -> None:
        with lab.visit("bob") as ctx:
            asked = reservation_request((), parse_selector(""))
            grant = reserve.reserve_or_wait(ctx, asked, WaitOptions(pause))
            taken.extend(one.name for one in grant.held.hosts)

    waiting = threading.Thread(target=reserving)
    started = time.monotonic()
    timer = threading.Timer(0.5, waiting.start)
    timer.start()
    outcomes = recheck(lab.context())
    timer.join()
    waiting.join()
    assert time.monotonic() - started < 20
    assert taken == ["node1"]
    assert said(outcomes) == {"node1": (True, "a request waits for it")}


@pytest.mark.parametrize(("when", "checked"), [("always", ["node1", "node4"]), ("stale", ["node1"]), ("never", [])])
def test_the_policy_says_when_a_host_is_checked_before_a_grant(when: str, checked: list[str], lab: Lab) -> None:
    fleet(lab, f'check_on_reserve = "{when}"')
    lab.clock.move(hours=20, minutes=30)
    seen: list[str] = []

    def says(_: Step, spec: object) -> Verdict:
        seen.append(spec.name)  # type: ignore[attr-defined]  # the host's spec
        return PASS

    with saying(says):
        assert take(lab, "node1") == ["node1"]
        assert take(lab, "node4") == ["node4"]
    assert seen == checked


def test_a_host_that_fails_its_checks_before_a_grant_goes_to_maintenance_and_the_next_is_tried(lab: Lab) -> None:
    fleet(lab, 'check_on_reserve = "always"')
    with saying(lambda _, spec: FAIL if spec.name == "node1" else PASS):
        assert take(lab) == ["node2"]
    assert states(lab)["node1"] == "maintenance"


def test_why_shows_when_the_host_last_passed_its_checks(lab: Lab) -> None:
    fleet(lab)
    assert "its checks last passed 4h ago" in explain.why(lab.context(), "node1").facts


def test_why_does_not_say_that_checks_passed_where_none_applies(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(("node1",)))
    assert explain.why(lab.context(), "node1").facts == ("no readiness check applies to it",)


def test_a_request_finds_the_free_hosts_behind_many_that_are_being_checked(lab: Lab) -> None:
    lab.policy('[checks.ssh]\ncommand = ["true"]\n')
    hosts.add(lab.context(), ["node[1-9]"], hosts.AttributeChanges())
    with saying(lambda *_: PASS):
        step_verbs.ready(lab.context(), Choice(everything=True))
    with ExitStack() as stack:
        for number in range(1, 9):
            stack.enter_context(claimed(lab.context(), host(lab, f"node{number}")))
        assert take(lab) == ["node9"]
