"""The question before a command changes many hosts names those that it would change, and no others change after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bmhctl.domain.model import Power
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import UsageError
from bmhctl.support.values import replace
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.hosts import AttributeChanges
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared import bulk, confirmation
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, unfold
from bmhctl.usecases.steps import bmc, resume, step_verbs
from bmhctl.usecases.steps.retire import retire
from tests.conftest import Lab, copied

ALL = Choice(("*",))


@pytest.fixture
@copied
def fleet(lab: Lab) -> Lab:
    """Sixty hosts: 15 reserved by alice, 2 by bob, 12 tainted, 12 cordoned, 12 in maintenance, the others initial."""
    hosts.add(lab.context(), ["node[01-60]"], AttributeChanges(labels={"rack": "r1"}))
    step_verbs.ready(lab.context(), Choice(("node[01-31]",)))
    for actor, names in (("alice", "node[01-15]"), ("bob", "node[16-17]"), ("alice", "node[20-31]")):
        reserve_or_wait(lab.context(actor), reservation_request(unfold([names])))
    lifecycle_verbs.taint(lab.context(), Choice(("node[20-31]",)))
    lifecycle_verbs.cordon(lab.context(), Choice(("node[34-45]",)))
    lifecycle_verbs.maintain(lab.context(), Choice(("node[46-57]",)), reason="fan")
    hosts.set_attributes(lab.context(), Choice(("node[01-12]",)), AttributeChanges(labels={"rack": "r2"}))
    lab.said.clear()
    return lab


QUESTIONS: tuple[tuple[Callable[[Context], object], str], ...] = (
    (lambda ctx: lifecycle_verbs.release(ctx, ALL), "release changes 15 hosts: node[01-15]"),
    (lambda ctx: lifecycle_verbs.taint(ctx, ALL), "taint changes 15 hosts: node[01-15]"),
    (
        lambda ctx: lifecycle_verbs.taint(ctx, ALL, force=True, reason="needed"),
        "taint changes 17 hosts: node[01-17]",
    ),
    (lambda ctx: lifecycle_verbs.cordon(ctx, ALL), "cordon changes 48 hosts: node[01-33,46-60]"),
    (lambda ctx: lifecycle_verbs.uncordon(ctx, ALL), "uncordon changes 12 hosts: node[34-45]"),
    (lambda ctx: step_verbs.reset(ctx, ALL), "reset changes 12 hosts: node[20-31]"),
    (lambda ctx: resume.resume(ctx, ALL), "resume changes 12 hosts: node[46-57]"),
    (
        lambda ctx: hosts.set_attributes(ctx, ALL, AttributeChanges(labels={"rack": "r1"})),
        "set changes 12 hosts: node[01-12]",
    ),
    (lambda ctx: hosts.remove(ctx, ALL), "remove deletes 31 hosts: node[18-19,32-60]"),
    (lambda ctx: retire(ctx, Choice(("node1*",)), reason="old"), "retire changes 2 hosts: node[18-19]"),
    (lambda ctx: bmc.power(ctx, ALL, Power.OFF), "power off changes 58 hosts: node[01-15,18-60]"),
)


def test_a_question_counts_and_names_the_hosts_that_would_change(fleet: Lab) -> None:
    def refuse(question: str) -> None:
        raise UsageError(question.partition("\n")[0])

    for run, said in QUESTIONS:
        with pytest.raises(UsageError) as refused:
            run(replace(fleet.context(), confirm=refuse))
        assert refused.value.message == said


def test_a_few_hosts_that_would_change_are_no_reason_for_a_question(fleet: Lab) -> None:
    asked: list[str] = []
    ctx = replace(fleet.context("bob"), confirm=asked.append)
    released = [item.host for item in lifecycle_verbs.release(ctx, ALL).items if item.changed]
    assert (asked, released) == ([], ["node16", "node17"])


def test_the_outcomes_after_a_question_are_those_without_one(fleet: Lab) -> None:
    planned = lifecycle_verbs.release(replace(fleet.context(), dry_run=True), ALL)
    done = lifecycle_verbs.release(replace(fleet.context(), confirm=lambda _: None), ALL)
    words = [[(item.host, item.changed, item.message) for item in result.items] for result in (planned, done)]
    assert (words[1], len(words[1])) == (words[0], 60)


def test_a_host_that_becomes_changeable_while_the_question_is_open_stays_as_it_was(fleet: Lab) -> None:
    def answer(_: str) -> None:
        reserve_or_wait(fleet.context(), reservation_request(("node18",)))

    done = lifecycle_verbs.release(replace(fleet.context(), confirm=answer), ALL)

    assert [item.host for item in done.items if item.changed] == [f"node{number:02}" for number in range(1, 16)]
    assert fleet.context().host("node18").reservation is not None


def test_a_range_counts_the_hosts_that_need_no_change_too(lab: Lab) -> None:
    hosts.add(lab.context(), ["node[01-14]"], AttributeChanges())
    hosts.set_attributes(lab.context(), Choice(("node03",)), AttributeChanges(address="10.0.2.3"))
    asked: list[str] = []
    done = hosts.set_attributes(
        replace(lab.context(), confirm=asked.append), ALL, AttributeChanges(address="10.0.2.[1-14]")
    )
    assert asked == ["set changes 13 hosts: node[01-02,04-14]\nbmhctl undo takes this back"]
    assert [item.host for item in done.items if not item.changed] == ["node03"]
    again = hosts.set_attributes(lab.context(), ALL, AttributeChanges(address="10.0.2.[1-14]"))
    assert [item.host for item in again.items if item.changed] == []


def test_hosts_that_become_changeable_after_the_dry_run_stay_as_they_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add(lab.context(), ["node[01-12]"], AttributeChanges())
    lifecycle_verbs.cordon(lab.context(), Choice(("node*",)))
    planned: list[object] = []
    cordon = bulk.each_in_one_commit

    def uncordoned_meanwhile(ctx: Context, *args: object, **options: object) -> object:
        if planned or not ctx.dry_run:
            return cordon(ctx, *args, **options)  # type: ignore[arg-type]  # passed on as they came
        planned.append(cordon(ctx, *args, **options))  # type: ignore[arg-type]
        lifecycle_verbs.uncordon(lab.context(), ALL)
        return planned[0]

    asked: list[str] = []
    ctx = replace(lab.context(), confirm=asked.append)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "each_in_one_commit", uncordoned_meanwhile)
        done = lifecycle_verbs.cordon(ctx, ALL)
    assert (asked, [item for item in done.items if item.changed]) == ([], [])


def test_more_hosts_than_a_dry_run_takes_are_all_in_the_question(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "_REHEARSED", 20)
    hosts.add(lab.context(), ["node[01-21]"], AttributeChanges())
    lifecycle_verbs.cordon(lab.context(), Choice(("node01",)))
    asked: list[str] = []
    done = lifecycle_verbs.cordon(replace(lab.context(), confirm=asked.append), ALL)
    assert asked == ["cordon changes 21 hosts: node[01-21]\nbmhctl undo takes this back"]
    assert [item.host for item in done.items if not item.changed] == ["node01"]
