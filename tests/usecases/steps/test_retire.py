"""Retired hosts can't be reserved any more, leave clean, and are recognised when they come back."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from bmhctl.domain.model import CheckResult, HostSpec, State, Verb, Verdict
from bmhctl.domain.policy import Step
from bmhctl.domain.requirements import ReservationRequest, reservation_request
from bmhctl.errors import BmhctlError, BusyError, ExitStatus, UsageError
from bmhctl.probes import run as probe
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.results import Outcome
from bmhctl.stores.host_query import HostQuery
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.doctor.doctor import doctor
from bmhctl.usecases.explain import why
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared import declare
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_changes import Changes
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, step_verbs
from bmhctl.usecases.steps.retire import retire, undo_retire
from tests.conftest import Lab

POLICY = """
[cleanup.wipe]
command = ["true"]
[retire.erase]
command = ["true"]
[retire.reset-credentials]
command = ["true"]
"""
MAC = "bc:55:85:92:de:b1"


class Steps:
    """Steps that pass, except those with a name in ``bad``."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.ran: list[tuple[str, str]] = []
        self.during = lambda: None

    def run(self, step: Step, spec: HostSpec, _: StepEnvironment) -> CheckResult:
        self.ran.append((step.name, spec.name))
        self.during()
        verdict = Verdict.FAIL if step.name in self.bad else Verdict.PASS
        return CheckResult(step.name, verdict, f"said {verdict}", 1.5)


@pytest.fixture
def steps() -> Iterator[Steps]:
    made = Steps()
    with mock.patch.object(probe, "run", made.run):
        yield made


@pytest.fixture
def fleet(lab: Lab, steps: Steps) -> Lab:
    """Three hosts: node1 and node2 are available, node3 is held by alice as r-one."""
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges(mac=MAC))
    hosts.add(lab.context(), ["node[2-3]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    wants = reservation_request(("node3",)).requirements
    reserve.reserve_or_wait(lab.context(), ReservationRequest(wants, token="r-one"))
    steps.ran.clear()
    return lab


def states(lab: Lab) -> dict[str, str]:
    return {host.name: str(host.state) for host in lab.context().store.hosts.find(HostQuery())}


def history(lab: Lab, name: str) -> list[tuple[str, str | None, str | None]]:
    return [(str(e.verb), e.dest, e.reason) for e in lab.context().store.events.read() if e.host == name]


def named(*names: str) -> Choice:
    return Choice(names)


def test_retire_removes_a_free_host_with_an_event(fleet: Lab, steps: Steps) -> None:
    (done,) = retire(fleet.context(), named("node1"), reason="too old").items
    assert (done.source, done.state, done.error) == (State.AVAILABLE, None, None)
    assert steps.ran == [("erase", "node1"), ("reset-credentials", "node1")]
    words = "too old; retire steps passed: erase, reset-credentials"
    assert history(fleet, "node1")[-1] == ("retire", None, words)
    assert set(states(fleet)) == {"node2", "node3"}
    if fleet.is_toml:
        assert "node1" not in fleet.path.read_text()


def test_retire_cleans_a_used_host_before_it_is_removed(fleet: Lab, steps: Steps) -> None:
    lifecycle_verbs.release(fleet.context(), Choice(), reservation="r-one")
    retire(fleet.context(), named("node3"), reason="too old")
    assert [name for name, _ in steps.ran] == ["wipe", "erase", "reset-credentials"]
    words = "too old; cleanup step passed: wipe; retire steps passed: erase, reset-credentials"
    assert history(fleet, "node3")[-1] == ("retire", None, words)
    assert [f.kind for f in doctor(fleet.context()).findings if f.host == "node3"] == []


def test_adding_a_retired_machine_again_reports_when_and_why_it_was_retired(fleet: Lab) -> None:
    retire(fleet.context(), named("node1"), reason="too old")
    (back,) = hosts.add(fleet.context(), ["node9"], hosts.AttributeChanges(mac=MAC)).items
    assert back.state is State.INITIAL  # the host left clean
    words = "its machine was retired as node1 at 2026-01-01 12:00 UTC: too old; retire steps passed"
    assert history(fleet, "node9")[0][2] is not None
    assert words in str(history(fleet, "node9")[0][2])
    assert any(words in said for said in fleet.said)
    assert doctor(fleet.context()).broken == ()
    (other,) = hosts.add(fleet.context(), ["node1"], hosts.AttributeChanges()).items
    assert (other.state, history(fleet, "node1")[-1][2]) == (State.INITIAL, None)  # only the name is the same


def test_retire_refuses_a_reserved_host_unless_it_may_be_retired_later(fleet: Lab, steps: Steps) -> None:
    refused = retire(fleet.context("bob"), named("node3"), reason="too old")
    assert refused.status is ExitStatus.REFUSED
    assert retire(fleet.context("bob"), named("node[2-3]"), reason="too old", when_free=True).error is None
    assert states(fleet) == {"node1": "available", "node3": "reserved"}
    assert "being retired by bob: too old" in why(fleet.context(), "node3").facts
    lifecycle_verbs.release(fleet.context(), Choice(), reservation="r-one")
    step_verbs.recycle(fleet.context(), Choice())
    assert states(fleet) == {"node1": "available"}
    assert steps.ran[-3:] == [("wipe", "node3"), ("erase", "node3"), ("reset-credentials", "node3")]


def test_no_reservation_is_made_on_a_host_that_is_being_retired(fleet: Lab, steps: Steps) -> None:
    steps.bad = {"erase"}
    failed = retire(fleet.context(), named("node1"), reason="too old")
    assert failed.status is ExitStatus.STEP_FAILED
    assert states(fleet)["node1"] == "maintenance"
    assert history(fleet, "node1")[-1][2] == "can't be retired: retire step failed: erase: said fail"
    resume.resume(fleet.context("carol"), named("node1"))
    step_verbs.ready(fleet.context(), named("node1"))
    assert states(fleet)["node1"] == "available"
    with pytest.raises(BusyError):
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node1",)))
    (refused,) = lifecycle_verbs.uncordon(fleet.context(), named("node1")).items
    assert isinstance(refused.error, BmhctlError)
    steps.bad = set()
    retire(fleet.context(), named("node1"), reason="too old")
    assert "node1" not in states(fleet)


def test_the_refusal_of_a_host_that_is_being_retired_says_so(fleet: Lab) -> None:
    retire(fleet.context(), named("node3"), reason="too old", when_free=True)
    with pytest.raises(BusyError, match=r"is reserved by alice .*, and is being retired by alice"):
        reserve.reserve_or_wait(fleet.context("bob"), reservation_request(("node3",)))


def test_undoing_a_retire_keeps_the_host_and_its_earlier_cordon(fleet: Lab, steps: Steps) -> None:
    lifecycle_verbs.cordon(fleet.context("dave"), named("node1"), reason="loose cable")
    steps.bad = {"erase"}
    retire(fleet.context(), named("node[1-2]"), reason="too old")
    assert undo_retire(fleet.context(), named("node[1-3]")).error is None
    cordons = {host.name: host.cordon for host in fleet.context().store.hosts.find(HostQuery())}
    kept = cordons["node1"]
    assert kept is not None
    assert (kept.actor, kept.reason, kept.retires) == ("dave", "loose cable", False)
    assert cordons["node2"] is None
    assert states(fleet)["node2"] == "maintenance"


def test_retire_keeps_a_host_dirty_when_its_cleanup_fails(fleet: Lab, steps: Steps) -> None:
    lifecycle_verbs.release(fleet.context(), Choice(), reservation="r-one")
    steps.bad = {"wipe"}
    retire(fleet.context(), named("node3"), reason="too old")
    (host,) = fleet.context().store.hosts.find(HostQuery(names=("node3",)))
    assert (host.state, host.dirty) == (State.MAINTENANCE, True)
    assert ("erase", "node3") not in steps.ran


def test_retire_keeps_a_host_that_changed_during_its_cleanup(fleet: Lab, steps: Steps) -> None:
    def change() -> None:
        with fleet.visit("bob") as ctx:
            undo_retire(ctx, named("node1"))

    steps.during = change
    (kept,) = retire(fleet.context(), named("node1"), reason="too old").items
    assert kept.error is not None
    assert "changed while its steps ran" in kept.message
    assert states(fleet)["node1"] == "available"


def test_an_interrupted_retire_can_be_continued_and_its_host_is_not_reserved(fleet: Lab, steps: Steps) -> None:
    class KilledError(BaseException):
        pass

    def killed() -> None:
        raise KilledError

    steps.during = killed
    said: list[str] = []
    with pytest.raises(KilledError):
        retire(replace(fleet.context(), report=said.append), named("node1", "node2"), reason="too old", jobs=1)
    assert said == ["still being retired: 2 hosts; retire them again, or keep them: bmhctl retire 'node[1-2]' --undo"]
    undo_retire(fleet.context(), named("node2"))
    with pytest.raises(BusyError):
        reserve.reserve_or_wait(fleet.context(), reservation_request(("node1",)))
    steps.during = lambda: None
    retire(fleet.context(), named("node1"), reason="too old")
    assert "node1" not in states(fleet)


def test_a_dry_run_of_retire_names_what_is_removed_at_once_and_changes_nothing(lab: Lab) -> None:
    """No step has to run on a clean host, and only the cleanup on a used one."""
    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    step_verbs.ready(lab.context(), Choice(everything=True))
    reserve.reserve_or_wait(lab.context(), reservation_request(("node2",)))
    retire(lab.context(), named("node2"), reason="too old", when_free=True)
    lifecycle_verbs.release(lab.context(), named("node2"))
    before = states(lab)
    dry = replace(lab.context(), dry_run=True)
    clean, used = retire(dry, named("node1", "node2"), reason="too old").items
    assert (clean.state, clean.message) == (None, "retired: too old; no retire steps are declared")
    assert (used.source, used.state) == (State.TAINTED, None)
    [recycled] = step_verbs.recycle(dry, named("node2")).items
    assert recycled.state is None
    assert states(lab) == before


def test_hosts_are_retired_in_one_change_but_each_is_refused_on_its_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges())
    real, sizes = declare.change, list[int]()

    def overtaken(ctx: Context, changes: Changes) -> list[Outcome]:
        if not sizes:
            with lab.visit("bob") as other:
                lifecycle_verbs.maintain(other, named("node2"), reason="the fan is loud")
        sizes.append(len(changes.removals))
        return real(ctx, changes)

    monkeypatch.setattr(declare, "change", overtaken)
    done = retire(lab.context(), named("node[1-4]"), reason="too old")
    assert [(item.host, item.state, item.error and item.error.message) for item in done.items] == [
        ("node1", None, None),
        ("node2", State.MAINTENANCE, "changed while its steps ran: it is in maintenance now"),
        ("node3", None, None),
        ("node4", None, None),
    ]
    assert sizes == [4, 3]
    assert states(lab) == {"node2": "maintenance"}


def test_a_removal_that_is_interrupted_after_its_commit_is_reported_as_done(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    hosts.add(lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    real, calls, said = declare.change, list[int](), list[str]()

    def interrupted(ctx: Context, changes: Changes) -> list[Outcome]:
        calls.append(len(changes.removals))
        done = real(ctx, changes)
        if calls == [2]:
            raise KilledError
        return done

    monkeypatch.setattr(declare, "change", interrupted)
    with pytest.raises(KilledError):
        retire(replace(lab.context(), report=said.append), named("node[1-2]"), reason="too old")
    words = "retired: too old; no retire steps are declared"
    assert (said, states(lab)) == ([f"node1: {words}", f"node2: {words}"], {})


def test_retire_needs_a_reason(fleet: Lab) -> None:
    with pytest.raises(UsageError, match="retire needs a reason"):
        retire(fleet.context(), named("node1"), reason=" ")


def test_why_explains_whether_a_host_may_be_retired(fleet: Lab, steps: Steps) -> None:
    def answer(name: str) -> tuple[bool | None, str]:
        [found] = [each for each in why(fleet.context(), name).answers if each.verb is Verb.RETIRE]
        return found.open, found.words[0]

    assert answer("node1") == (None, "it leaves the inventory if these pass: erase, reset-credentials")
    assert answer("node3") == (False, "it is held: --when-free retires it later")
    retire(fleet.context(), Choice(("node3",)), reason="old", when_free=True)
    assert answer("node3") == (False, "it leaves once it is given back: recycle retires it")
    lifecycle_verbs.release(fleet.context(), Choice(), reservation="r-one")
    assert answer("node3") == (None, "it leaves the inventory if these pass: wipe, erase, reset-credentials")
