"""The verbs on every backend: their effects on hosts, their refusals, and their events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from bmhctl.domain.model import Host, State
from bmhctl.domain.requirements import reservation_request
from bmhctl.domain.units import local_time
from bmhctl.errors import BmhctlError, ExitStatus, NotFoundError, NotYoursError, UsageError
from bmhctl.results import Outcomes
from bmhctl.stores.claims import host_claim
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs, queries
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared import expiry
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.steps import resume, step_verbs
from tests.conftest import Lab, copied


def named(*names: str) -> Choice:
    return Choice(names)


def states(lab: Lab) -> dict[str, str]:
    return {h.name: str(h.state) for h in queries.list_hosts(lab.context(), Choice(everything=True)).hosts}


def lines(outcomes: Outcomes) -> list[tuple[str, str, str]]:
    return [(item.host, str(item.state), item.message) for item in outcomes.items]


def events(lab: Lab, name: str) -> list[tuple[str, str, str, str, str | None]]:
    ctx = lab.context()
    host = ctx.store.hosts.named(name)
    return [
        (e.actor, str(e.verb), str(e.source or "[*]"), str(e.dest or "[*]"), e.reason)
        for e in ctx.store.events.read(host or name)
    ]


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Four hosts, made available."""
    hosts.add(lab.context(), ["node[1-4]"], hosts.AttributeChanges(labels={"arch": "arm64"}))
    step_verbs.ready(lab.context(), named("node*"))
    return lab


def reserve(lab: Lab, *names: str, actor: str = "alice", minutes: int = 60) -> str:
    asked = reservation_request(names, ttl=timedelta(minutes=minutes))
    return reserve_or_wait(lab.context(actor), asked).held.reservation.id


def test_the_history_has_the_whole_life_of_a_host(fleet: Lab) -> None:
    reserve(fleet, "node1")
    lifecycle_verbs.taint(fleet.context(), named("node1"))
    step_verbs.reset(fleet.context(), named("node1"))
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="new disk")
    resume.resume(fleet.context("bob"), named("node1"))

    assert [event[:4] for event in events(fleet, "node1")] == [
        ("alice", "enter", "[*]", "initial"),
        ("alice", "ready", "initial", "available"),
        ("alice", "reserve", "available", "reserved"),
        ("alice", "taint", "reserved", "tainted"),
        ("alice", "reset", "tainted", "initial"),
        ("bob", "maintain", "initial", "maintenance"),
        ("bob", "resume", "maintenance", "initial"),
    ]


def test_steps_that_are_not_declared_pass_and_say_so(lab: Lab) -> None:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())

    assert lines(step_verbs.ready(lab.context(), named("node1"))) == [
        ("node1", "available", "no readiness checks are declared")
    ]


@pytest.mark.parametrize(
    ("verb", "prepare", "message"),
    [
        (step_verbs.ready, [], "already available"),
        (lifecycle_verbs.taint, [lifecycle_verbs.taint], "already tainted"),
        (step_verbs.reset, [lifecycle_verbs.taint, step_verbs.reset], "already initial"),
        (resume.resume, [], "is not in maintenance: already available"),
        (lifecycle_verbs.uncordon, [], "is not cordoned"),
    ],
)
def test_a_verb_on_a_host_already_in_its_end_state_succeeds_and_writes_nothing(fleet, verb, prepare, message) -> None:  # type: ignore[no-untyped-def]  # a table of functions
    if prepare:
        reserve(fleet, "node1")
    for step in prepare:
        step(fleet.context(), named("node1"))
    before = events(fleet, "node1")

    done = verb(fleet.context(), named("node1"))

    assert [(item.changed, item.message) for item in done.items] == [(False, message)]
    assert done.status is ExitStatus.DONE
    assert events(fleet, "node1") == before


def test_a_reason_that_comes_too_late_to_be_recorded_is_reported(fleet: Lab) -> None:
    reserve(fleet, "node1")
    lifecycle_verbs.taint(fleet.context(), named("node1"), reason="noisy")
    said = [
        verb(fleet.context(), named("node1"), reason=reason).items[0].message
        for verb in (lifecycle_verbs.taint, lifecycle_verbs.release)
        for reason in ("noisy", "hot", None)
    ]
    assert said == ["already tainted", "already tainted; the reason is not recorded", "already tainted"] * 2
    again = lifecycle_verbs.taint(fleet.context(), named("node1"), reason="hot", fault="fan")
    assert again.items[0].message == "fault recorded: fan; the reason is not recorded"


def test_a_verb_from_the_wrong_state_is_refused_and_changes_nothing(fleet: Lab) -> None:
    done = step_verbs.reset(fleet.context(), named("node1"))

    assert done.status is ExitStatus.REFUSED
    assert done.items[0].message == "is available: reset is only possible from tainted"
    assert states(fleet)["node1"] == "available"


def test_a_verb_tries_every_host_and_names_each(fleet: Lab) -> None:
    reserve(fleet, "node1", "node2")
    reserve(fleet, "node3", actor="bob")

    done = lifecycle_verbs.taint(fleet.context(), named("node1", "node3", "node4", "nope"))

    assert [(item.host, item.error and item.error.status) for item in done.items] == [
        ("node1", None),
        ("node3", ExitStatus.NOT_YOURS),
        ("node4", ExitStatus.REFUSED),
        ("nope", ExitStatus.NOT_FOUND),
    ]
    assert done.status is ExitStatus.MIXED
    assert states(fleet) == {"node1": "tainted", "node2": "reserved", "node3": "reserved", "node4": "available"}


# tests: who holds a host


@pytest.mark.parametrize("verb", [lifecycle_verbs.release, lifecycle_verbs.taint])
def test_a_host_without_a_reservation_is_skipped_unless_it_is_named_or_has_a_fault(
    verb: Callable[..., Outcomes], fleet: Lab
) -> None:
    reserve(fleet, "node2")
    everything = Choice(("node*",), states=frozenset({State.AVAILABLE, State.RESERVED}))
    names = [item.host for item in verb(replace(fleet.context(), dry_run=True), everything).items]
    assert len(names) > 1
    faulty = lifecycle_verbs.taint(replace(fleet.context(), dry_run=True), everything, fault="fan")
    assert {item.host for item in faulty.items if item.error} == {*names} - {"node2"}
    done = verb(fleet.context(), everything)
    assert done.error is None
    assert {item.host: item.message for item in done.items if not item.changed} == dict.fromkeys(
        (name for name in names if name != "node2"), "skipped: no reservation holds it"
    )
    assert verb(fleet.context(), named("node1")).status is ExitStatus.REFUSED


def test_the_owners_name_counts_only_when_no_reservation_is_named(fleet: Lab) -> None:
    old = reserve(fleet, "node1")
    reserve(fleet, "node2")

    with_old = lifecycle_verbs.taint(fleet.context(), named("node2"), reservation=old)
    without = lifecycle_verbs.taint(fleet.context(), named("node2"))

    assert (with_old.status, without.status) == (ExitStatus.NOT_YOURS, ExitStatus.DONE)


def test_a_former_holder_changes_nothing_and_learns_the_present_holder(fleet: Lab) -> None:
    old = reserve(fleet, "node1", minutes=5)
    fleet.clock.move(minutes=6)
    expiry.reap(fleet.context())
    step_verbs.reset(fleet.context(), named("node1"))
    step_verbs.ready(fleet.context(), named("node1"))
    new = reserve(fleet, "node1", actor="bob")
    before = events(fleet, "node1")

    late = lifecycle_verbs.taint(fleet.context(), named("node1"), reservation=old)

    assert late.status is ExitStatus.NOT_YOURS
    assert f"is held by bob ({new})" in late.items[0].message
    with pytest.raises(NotYoursError, match="has ended: lease expired"):
        lifecycle_verbs.release(fleet.context(), Choice(), reservation=old)
    assert events(fleet, "node1") == before


@pytest.mark.parametrize("verb", [lifecycle_verbs.taint, lifecycle_verbs.release])
def test_a_pattern_of_free_hosts_with_the_id_of_a_lost_lease_is_refused(
    fleet: Lab, verb: Callable[..., Outcomes]
) -> None:
    returned, lost = (reserve(fleet, "node1"), reserve(fleet, "node2"))
    lifecycle_verbs.release(fleet.context(), named("node1"))
    fleet.clock.move(days=1)
    step_verbs.recycle(fleet.context(), Choice())
    for choice in (named("node*"), Choice(states=frozenset({State.AVAILABLE}))):
        assert verb(fleet.context(), choice, reservation=returned).status is ExitStatus.DONE
        done = verb(fleet.context(), choice, reservation=lost)
        assert done.status is ExitStatus.NOT_YOURS
        said = [item.message for item in done.items if item.host == "node1"]
        assert [text.startswith(f"reservation {lost} has ended: lease expired") for text in said] == [True]
    assert states(fleet)["node1"] == "available"


def test_releasing_again_succeeds_but_not_after_the_lease_was_lost(fleet: Lab) -> None:
    mine = reserve(fleet, "node1", "node2")
    lifecycle_verbs.release(fleet.context(), Choice(), reservation=mine)

    assert lifecycle_verbs.release(fleet.context(), Choice(), reservation=mine).status is ExitStatus.DONE
    assert lifecycle_verbs.taint(fleet.context(), named("node1"), reservation=mine).status is ExitStatus.DONE

    lost = reserve(fleet, "node3", minutes=5)
    fleet.clock.move(minutes=6)
    assert lifecycle_verbs.taint(fleet.context(), named("node3"), reservation=lost).status is ExitStatus.NOT_YOURS
    assert states(fleet)["node3"] == "tainted"


def test_an_unknown_reservation_is_not_found(fleet: Lab) -> None:
    with pytest.raises(NotFoundError):
        lifecycle_verbs.release(fleet.context(), Choice(), reservation="r-00000000")


def test_a_host_name_given_as_a_reservation_is_answered_with_the_id(fleet: Lab) -> None:
    mine = reserve(fleet, "node1")
    with pytest.raises(NotFoundError) as refused:
        lifecycle_verbs.release(fleet.context(), Choice(), reservation="node1")
    assert refused.value.hint == f"did you mean {mine}, which holds node1?"


def test_maintain_says_when_it_changes_the_end_of_a_reason(fleet: Lab) -> None:
    hour = timedelta(hours=1)
    said = [
        lifecycle_verbs.maintain(fleet.context(), named("node1"), reason=reason, until=fleet.clock.now + length).items
        for reason, length in (("fan", hour), ("disk", hour), ("fan", 2 * hour))
    ]
    one, two = (local_time(fleet.clock.now + length) for length in (hour, 2 * hour))
    assert [item.message for (item,) in said] == [
        f"fan (until {one})", f"reason added: disk (until {one})", f"end changed: fan (until {two})",
    ]  # fmt: skip


def test_maintain_says_who_holds_the_host_and_until_when_it_lasts(fleet: Lab) -> None:
    mine = reserve(fleet, "node1")
    until = fleet.clock.now + timedelta(hours=2)
    (item,) = lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan", until=until).items
    assert item.message.startswith(f"fan (until {local_time(until)}); held by alice ({mine}) until ")


def test_force_needs_a_reason_and_is_in_the_history(fleet: Lab) -> None:
    reserve(fleet, "node1")

    with pytest.raises(UsageError):
        lifecycle_verbs.taint(fleet.context("bob"), named("node1"), force=True)
    lifecycle_verbs.taint(fleet.context("bob"), named("node1"), force=True, reason="night shift")

    assert events(fleet, "node1")[-1] == ("bob", "taint", "reserved", "tainted", "forced: night shift")


def test_a_reservation_ends_when_its_last_host_is_given_back(fleet: Lab) -> None:
    mine = reserve(fleet, "node1", "node2", "node3")

    lifecycle_verbs.taint(fleet.context(), named("node1", "node2"))
    assert [r.id for r in fleet.context().store.reservations.open()] == [mine]

    lifecycle_verbs.taint(fleet.context(), named("node3"))
    assert fleet.context().store.reservations.open() == []


def test_an_expired_reservation_taints_its_hosts_except_one_in_maintenance(fleet: Lab) -> None:
    reserve(fleet, "node1", "node2", "node3", minutes=5)
    lifecycle_verbs.maintain(fleet.context("bob"), named("node3"), reason="fan")
    fleet.clock.move(minutes=6)

    lifecycle_verbs.cordon(fleet.context("bob"), named("node4"))  # any writing command reaps first

    assert states(fleet) == {"node1": "tainted", "node2": "tainted", "node3": "maintenance", "node4": "available"}
    assert events(fleet, "node1")[-1] == ("bmhctl", "taint", "reserved", "tainted", "lease expired")
    assert events(fleet, "node3")[-1] == ("bmhctl", "reservation-lost", "maintenance", "maintenance", "lease expired")
    kept = fleet.context().store.hosts.named("node3")
    assert kept is not None
    assert (kept.dirty, kept.reservation) == (True, None)


# tests: maintenance


def test_each_operator_closes_only_the_own_reason_of_a_maintenance(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
    lifecycle_verbs.maintain(fleet.context("carol"), named("node1"), reason="disk")

    first = resume.resume(fleet.context("bob"), named("node1"))
    assert lines(first) == [("node1", "maintenance", "closed: fan; stays for carol: disk")]

    stranger = resume.resume(fleet.context("dave"), named("node1"))
    assert stranger.status is ExitStatus.NOT_YOURS

    last = resume.resume(fleet.context("carol"), named("node1"))
    assert lines(last) == [("node1", "available", "no readiness checks are declared")]


def test_resume_all_closes_the_reasons_of_all_operators(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
    lifecycle_verbs.maintain(fleet.context("carol"), named("node1"), reason="disk")

    assert resume.resume(fleet.context("dave"), named("node1"), everyones=True).items[0].state is State.AVAILABLE


def test_the_same_reason_again_changes_nothing(fleet: Lab) -> None:
    lifecycle_verbs.maintain(fleet.context(), named("node1"), reason="fan")
    before = events(fleet, "node1")

    again = lifecycle_verbs.maintain(fleet.context(), named("node1"), reason="fan")

    assert [item.changed for item in again.items] == [False]
    assert events(fleet, "node1") == before


def test_a_reserved_host_keeps_its_lease_through_maintenance(fleet: Lab) -> None:
    mine = reserve(fleet, "node1")
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
    resume.resume(fleet.context("bob"), named("node1"))

    host = fleet.context().store.hosts.named("node1")
    assert host is not None
    assert (host.state, host.reservation and host.reservation.id) == (State.RESERVED, mine)


def test_a_lease_lost_during_maintenance_is_not_restored(fleet: Lab) -> None:
    reserve(fleet, "node1", minutes=5)
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
    fleet.clock.move(minutes=6)

    assert lines(resume.resume(fleet.context("bob"), named("node1"))) == [
        ("node1", "initial", "no cleanup steps are declared")
    ]


def test_a_holder_may_give_back_a_host_in_maintenance(fleet: Lab) -> None:
    reserve(fleet, "node1")
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")

    done = lifecycle_verbs.taint(fleet.context(), named("node1"))

    assert (done.status, states(fleet)["node1"]) == (ExitStatus.DONE, "maintenance")
    assert fleet.context().store.reservations.open() == []


def test_a_dry_run_of_resume_names_the_next_state_and_why_and_changes_nothing(fleet: Lab) -> None:
    reserve(fleet, "node1")
    for name in ("node1", "node2"):
        lifecycle_verbs.maintain(fleet.context("bob"), named(name), reason="fan")
    before = states(fleet)

    plan = resume.resume(replace(fleet.context("bob"), dry_run=True), named("node1", "node2", "node3"))

    assert [(item.host, str(item.state)) for item in plan.items] == [
        ("node1", "reserved"),
        ("node2", "available"),
        ("node3", "available"),
    ]
    assert "its reservation is valid" in plan.items[0].message
    assert states(fleet) == before


# tests: faults, cordons, steps

FAILING = """
[defaults]
quarantine_after = 2

[checks.ping]
command = ["sh", "-c", "echo no route; exit 3"]
selector = "broken"

[cleanup.wipe]
command = ["sh", "-c", "echo disk is busy; exit 4"]
selector = "broken"
"""


def test_a_failed_check_keeps_the_host_in_its_state_and_reports_its_output(fleet: Lab) -> None:
    fleet.policy(FAILING)
    hosts.add(fleet.context(), ["node9"], hosts.AttributeChanges(labels={"broken": "yes"}))

    done = step_verbs.ready(fleet.context(), named("node9"))

    assert done.status is ExitStatus.STEP_FAILED
    assert done.items[0].message == "readiness check failed: ping: exit 3: no route"
    assert states(fleet)["node9"] == "initial"
    assert events(fleet, "node9")[-1][1:4] == ("step-failed", "initial", "initial")


def test_a_quarantine_after_failed_cleanups_may_be_closed_by_anyone(fleet: Lab) -> None:
    fleet.policy(FAILING)
    hosts.set_attributes(fleet.context(), named("node1"), hosts.AttributeChanges(labels={"broken": "yes"}))
    reserve(fleet, "node1")
    lifecycle_verbs.taint(fleet.context(), named("node1"))

    first = step_verbs.reset(fleet.context(), named("node1"))
    assert (first.status, states(fleet)["node1"]) == (ExitStatus.STEP_FAILED, "tainted")
    second = step_verbs.reset(fleet.context(), named("node1"))

    assert second.items[0].message.endswith("quarantined after 2 failed cleanups in a row")
    assert states(fleet)["node1"] == "maintenance"
    stays = resume.resume(fleet.context("dave"), named("node1"))
    assert (stays.status, states(fleet)["node1"]) == (ExitStatus.STEP_FAILED, "maintenance")

    hosts.set_attributes(fleet.context(), named("node1"), hosts.AttributeChanges(labels={"broken": None}))
    assert resume.resume(fleet.context("dave"), named("node1")).items[0].state is State.INITIAL


def test_a_faulty_host_is_reset_only_when_it_is_named(fleet: Lab) -> None:
    reserve(fleet, "node1", "node2")
    lifecycle_verbs.taint(fleet.context(), named("node1"), fault="fan is dead")
    lifecycle_verbs.taint(fleet.context(), named("node2"))

    by_range = step_verbs.reset(fleet.context(), named("node[1-2]"))
    by_state = step_verbs.reset(fleet.context(), Choice(states=frozenset({State.TAINTED})))

    assert [(i.host, i.message) for i in by_range.items] == [
        ("node1", "has a fault: fan is dead"),
        ("node2", "no cleanup steps are declared"),
    ]
    assert [i.message for i in by_state.items] == ["has a fault: fan is dead"]
    assert step_verbs.reset(fleet.context(), named("node1")).status is ExitStatus.DONE


def test_a_fault_can_be_noted_on_a_tainted_host(fleet: Lab) -> None:
    reserve(fleet, "node1")
    lifecycle_verbs.taint(fleet.context(), named("node1"))

    done = lifecycle_verbs.taint(fleet.context("bob"), named("node1"), fault="smells burnt")

    assert lines(done) == [("node1", "tainted", "fault recorded: smells burnt")]


def test_a_cordoned_host_is_kept_by_its_holder_and_given_to_no_other(fleet: Lab) -> None:
    mine = reserve(fleet, "node1")
    lifecycle_verbs.cordon(fleet.context("bob"), named("node1", "node2", "node3", "node4"), reason="audit")
    lifecycle_verbs.release(fleet.context(), Choice(), reservation=mine)
    step_verbs.reset(fleet.context(), named("node1"))
    step_verbs.ready(fleet.context(), named("node1"))

    with pytest.raises(BmhctlError) as refused:
        reserve(fleet, "node1")

    assert refused.value.status is ExitStatus.BUSY
    assert refused.value.message == "can't reserve: it is cordoned by bob: audit"
    lifecycle_verbs.uncordon(fleet.context("bob"), named("node1"))
    assert reserve(fleet, "node1")


def test_commands_that_would_collide_with_a_running_step_are_refused(fleet: Lab) -> None:
    ctx = fleet.context()
    host = ctx.store.hosts.named("node1")
    assert host is not None
    with ctx.store.claims.claim(host_claim(host.id)):
        maintained = lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
        with pytest.raises(BmhctlError) as named_one:
            reserve(fleet, "node1")
        others = reserve_or_wait(fleet.context(), reservation_request(count=3)).held

    assert maintained.status is ExitStatus.REFUSED
    assert named_one.value.message == "can't reserve: a step is running on it"
    assert [h.name for h in others.hosts] == ["node2", "node3", "node4"]


def test_two_concurrent_resumes_leave_no_host_in_maintenance_without_a_reason(
    fleet: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle_verbs.maintain(fleet.context("ann"), named("node1"), reason="disk")
    lifecycle_verbs.maintain(fleet.context("bob"), named("node1"), reason="fan")
    others = iter([lambda: resume.resume(fleet.context("bob"), named("node1"))])

    def overtaken(ctx: Context, choice: Choice) -> tuple[list[Host], list[NotFoundError]]:
        """Another command changes the host after the command under test has read it."""
        found = choose(ctx, choice)
        for other in others:
            other()
        return found

    monkeypatch.setattr(resume, "choose", overtaken)

    done = resume.resume(fleet.context("ann"), named("node1"))

    assert [(item.host, item.state) for item in done.items] == [("node1", State.AVAILABLE)]


def test_a_host_is_never_claimed_and_put_into_maintenance_at_once(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.policy('[checks.up]\ncommand = ["true"]\n')
    ctx = fleet.context("bob")
    hosts.add(ctx, ["node9"], hosts.AttributeChanges())
    claimed, others = (
        ctx.store.claims.claimed_hosts,
        iter([lambda: threading.Thread(target=ready_in_its_own_time).start()]),
    )
    refused: list[Outcomes] = []
    ended = threading.Event()

    def ready_in_its_own_time() -> None:
        with fleet.visit("ann") as ann:
            refused.append(step_verbs.ready(ann, named("node9")))
        ended.set()

    def overtaken(hosts: list[int]) -> frozenset[int]:
        """Another command claims the host just after it was found free, while maintain is on its way to commit."""
        answer = claimed(hosts)
        for other in others:
            other()
            wait_for_claim(fleet, host_claim(hosts[0]))
        return answer

    monkeypatch.setattr(ctx.store.claims, "claimed_hosts", overtaken)
    lifecycle_verbs.maintain(ctx, named("node9"), reason="hands inside")

    assert ended.wait(30)
    assert [str(item.error) for item in refused[0].items] == ["is in maintenance: ready is only possible from initial"]
    assert states(fleet)["node9"] == "maintenance"


def wait_for_claim(lab: Lab, name: str) -> None:
    """Waits until another thread holds a claim."""
    claims = lab.context().store.claims
    deadline = time.monotonic() + 30
    while not claims.claimed([name]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
