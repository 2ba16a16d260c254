"""Recycling as a stream: a host is recycled as soon as it is tainted, whatever else runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from bmhctl.domain.model import HostSpec, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.results import Outcome
from bmhctl.results.recycling import Backlog
from bmhctl.usecases import hosts
from bmhctl.usecases.shared.absence import Absence
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs, stream
from tests.conftest import Lab, copied
from tests.usecases.steps.test_step_verbs import FAIL, PASS, Says, saying, states, taint

POLICY = """
[defaults]
recheck_after = "24h"
recheck_share = 1
quarantine_after = 9
[checks.ssh]
command = ["true"]
[cleanup.wipe]
command = ["true"]
[cleanup.verify]
command = ["true"]
"""


class _DoneError(Exception):
    """Ends a stream."""


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Four hosts that are available, of which node1 is tainted."""
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    with saying(lambda *_: PASS):
        step_verbs.ready(lab.context(), Choice(everything=True))
    taint(lab, "node1")
    return lab


class Ran:
    """The records of a stream: outcomes, errors, pages."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str, bool]] = []
        self.troubles: list[str] = []
        self.pages: list[Backlog] = []


def run(lab: Lab, says: Says, each_time: Callable[[Backlog], None], *, interval: float = 60, jobs: int = 2) -> Ran:
    """Run a stream until ``each_time`` raises the error that ends it; fail after a time limit."""
    ran, ctx, until = Ran(), lab.context("recycler"), time.monotonic() + 60

    def ended(verb: str, outcome: Outcome) -> None:
        ran.outcomes.append((verb, outcome.host, outcome.error is None))

    def trouble(error: BmhctlError) -> None:
        ran.troubles.append(error.message)

    def show(backlog: Backlog) -> None:
        assert time.monotonic() < until, "it took too long"
        ran.pages.append(backlog)
        each_time(backlog)

    absence = Absence(ctx.report, "lab")
    made = stream.Stream(
        ctx,
        Choice(),
        jobs=jobs,
        interval=timedelta(seconds=interval),
        absence=absence,
        ended=ended,
        trouble=trouble,
        show=show,
    )
    with saying(says), pytest.raises(_DoneError):
        made.run()
    return ran


def test_a_long_wipe_or_check_does_not_delay_other_hosts(fleet: Lab) -> None:
    fleet.clock.move(hours=25)
    go_on = threading.Event()
    tainted: list[str] = []

    def says(step: Step, spec: HostSpec) -> Verdict:
        if (step.name, spec.name) in (("wipe", "node1"), ("ssh", "node3"), ("ssh", "node4")) and not go_on.wait(50):
            return FAIL
        return PASS

    def each_time(backlog: Backlog) -> None:
        working = {(each.host, name) for each in backlog.activities for name, _ in each.steps}
        if not tainted and {("node1", "wipe"), ("node3", "ssh"), ("node4", "ssh")} <= working:
            fleet.clock.move(hours=1)
            taint(fleet, "node2")
            tainted.append("node2")
        there = states(fleet)
        if tainted and there["node2"] == "available":
            assert go_on.is_set() or there["node1"] == "tainted"
            go_on.set()
        if there["node1"] == "available" and not backlog.activities:
            raise _DoneError

    ran = run(fleet, says, each_time)
    assert [(verb, name) for verb, name, is_good in ran.outcomes if is_good and verb == "recycle"] == [
        ("recycle", "node2"),
        ("recycle", "node1"),
    ]
    [wipe] = [each for page in ran.pages for each in page.activities if each.host == "node1"][:1]
    assert (wipe.verb, wipe.later) == ("recycle", ("verify", "ssh"))
    assert not ran.troubles


def test_an_outcome_whose_report_was_interrupted_is_reported_again(fleet: Lab) -> None:
    reports: list[str] = []

    def ended(verb: str, outcome: Outcome) -> None:
        reports.append(f"{outcome.host}: {verb}")
        if len(reports) == 1:
            raise KeyboardInterrupt

    ctx = fleet.context("recycler")
    made = stream.Stream(
        ctx,
        Choice(),
        jobs=2,
        interval=timedelta(minutes=1),
        absence=Absence(ctx.report, "lab"),
        ended=ended,
        trouble=lambda error: None,
    )
    with saying(lambda *_: PASS), pytest.raises(KeyboardInterrupt):
        made.run()
    assert states(fleet)["node1"] == "available"
    assert reports == ["node1: recycle"] * 2
    assert fleet.said == []


def test_a_selector_that_fits_no_host_is_noted_once(fleet: Lab) -> None:
    ctx, looks = fleet.context("recycler"), []

    def show(backlog: Backlog) -> None:
        looks.append(backlog)
        hosts.set_attributes(fleet.context(), Choice(("node1",)), hosts.AttributeChanges(note=f"look {len(looks)}"))
        if len(looks) == 3:
            raise _DoneError

    made = stream.Stream(
        ctx,
        Choice(selector=parse_selector("rack=nowhere")),
        jobs=2,
        interval=timedelta(minutes=1),
        absence=Absence(ctx.report, "lab"),
        ended=lambda verb, outcome: None,
        trouble=lambda error: None,
        show=show,
    )
    with pytest.raises(_DoneError):
        made.run()
    assert fleet.said == ["no host has the key rack"]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The hours that pass at once on the clock of the stream, when a test appends them."""
    hours: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * sum(hours))
    monkeypatch.setattr(stream, "time", clock)
    return hours


def test_a_failed_host_is_tried_again_after_the_interval_or_when_it_changed(fleet: Lab, passed: list[float]) -> None:
    tries: list[float] = []

    def says(step: Step, spec: HostSpec) -> Verdict:
        tries.append(sum(passed))
        return FAIL if len(tries) < 3 else PASS

    def each_time(backlog: Backlog) -> None:
        if states(fleet)["node1"] == "available":
            raise _DoneError
        if not backlog.again:
            return
        assert backlog.again[0][0] == "node1"
        if len(tries) == 1:
            hosts.set_attributes(fleet.context(), Choice(("node1",)), hosts.AttributeChanges(note="repaired"))
        else:
            passed.append(0.5)

    ran = run(fleet, says, each_time, interval=2 * 3600)
    assert ran.outcomes == [("recycle", "node1", False), ("recycle", "node1", False), ("recycle", "node1", True)]
    assert tries[:2] == [0, 0]
    assert tries[2] >= 2


def test_hosts_beyond_the_number_of_jobs_wait_and_are_named(fleet: Lab) -> None:
    taint(fleet, "node2")
    go_on = threading.Event()

    def each_time(backlog: Backlog) -> None:
        if backlog.waiting:
            go_on.set()
        if states(fleet)["node2"] == "available" and states(fleet)["node1"] == "available":
            raise _DoneError

    ran = run(fleet, lambda *_: PASS if go_on.wait(50) else FAIL, each_time, jobs=1)
    assert ran.pages[0].waiting == ("node2",)
    assert [name for _, name, _ in ran.outcomes] == ["node1", "node2"]


@pytest.mark.slow
@pytest.mark.parametrize("error", [InvalidError("it is broken"), UnreachableError("it is away")])
def test_running_steps_go_on_while_the_inventory_cannot_be_read(
    error: BmhctlError, fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    look, looks = stream.to_recycle, []

    def fails(*args: object) -> object:
        looks.append(args)
        if len(looks) in (2, 3):
            raise error
        return look(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "to_recycle", fails)
    monkeypatch.setattr(stream, "_LOOK_AROUND", 0)

    def each_time(backlog: Backlog) -> None:
        if len(looks) > 3:
            go_on.set()
        if states(fleet)["node1"] == "available":
            raise _DoneError

    ran = run(fleet, lambda *_: PASS if go_on.wait(50) else FAIL, each_time)
    assert ran.outcomes == [("recycle", "node1", True)]
    assert len([words for words in fleet.said if error.message in words]) == 1


def test_the_end_of_a_recycler_cancels_its_steps_and_names_their_hosts(fleet: Lab) -> None:
    started = threading.Event()

    def says(step: Step, spec: HostSpec) -> Verdict:
        started.set()
        time.sleep(0.05)
        return FAIL

    def each_time(_: Backlog) -> None:
        if started.is_set():
            raise _DoneError

    run(fleet, says, each_time)
    assert states(fleet)["node1"] == "tainted"
    assert not fleet.context().store.claims.claimed_hosts([1, 2, 3, 4])


def test_a_host_whose_checks_fail_after_its_cleanup_is_tried_again_after_the_interval(
    fleet: Lab, passed: list[float]
) -> None:
    tries: list[float] = []

    def says(step: Step, spec: HostSpec) -> Verdict:
        if step.name != "ssh":
            return PASS
        tries.append(sum(passed))
        return PASS if len(tries) > 2 else FAIL

    def each_time(backlog: Backlog) -> None:
        if states(fleet)["node1"] == "available":
            raise _DoneError
        if backlog.again:
            passed.append(0.5)

    ran = run(fleet, says, each_time, interval=3600)
    assert ran.outcomes == [("recycle", "node1", False)] * 2 + [("recycle", "node1", True)]
    assert min(tries[1] - tries[0], tries[2] - tries[1]) >= 1
    assert any([name for name, _ in page.again] == ["node1"] for page in ran.pages)
