"""Steps with ``needs``: independent steps of one host run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmhctl.domain.model import Verdict
from bmhctl.domain.policy import Step
from bmhctl.usecases import hosts
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, made_in
from tests.usecases.steps.test_step_verbs import FAIL, PASS, results, said, saying

ONE = Choice(("node1",))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    yield from made_in("sqlite", tmp_path)


def fleet(lab: Lab, **steps: str) -> Lab:
    """One host with these steps: ``checks__a="needs = []"``."""
    text = ""
    for key, settings in steps.items():
        table, _, name = key.partition("__")
        text += f'[{table}.{name}]\ncommand = ["true"]\n{settings}\n'
    lab.policy(text)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    return lab


class Order:
    """Records when steps began and ended; those in ``meet`` wait for each other, those in ``fails`` fail."""

    def __init__(self, meet: int = 0, fails: str = "") -> None:
        self.events: list[str] = []
        self.fails = fails.split()
        self.barrier = threading.Barrier(meet) if meet else None

    def __call__(self, step: Step, _: object) -> Verdict:
        self.events.append(f"+{step.name}")
        if self.barrier is not None and step.needs == ():
            self.barrier.wait(10)
        self.events.append(f"-{step.name}")
        return FAIL if step.name in self.fails else PASS


def test_independent_steps_of_one_host_run_at_the_same_time(lab: Lab) -> None:
    fleet(lab, setup__bios="needs = []", setup__raid="needs = []", setup__os='needs = ["raid", "bios"]')
    order = Order(meet=2)
    with saying(order):
        outcomes = step_verbs.ready(lab.context(), ONE)

    assert set(order.events[:2]) == {"+bios", "+raid"}
    assert order.events[4:] == ["+os", "-os"]
    assert said(outcomes)["node1"] == (
        True,
        "setup steps passed: bios, raid, os; no readiness checks are declared",
    )


def test_a_step_without_needs_follows_the_one_before_it(lab: Lab) -> None:
    fleet(lab, checks__a="", checks__b="", checks__c="needs = []", checks__d="")
    order = Order()
    with saying(order):
        step_verbs.ready(lab.context(), ONE)

    begun = [event for event in order.events if event in ("+a", "-a", "+b")]
    assert begun == ["+a", "-a", "+b"]
    assert order.events.index("-c") < order.events.index("+d")


def test_only_checks_that_need_a_failed_one_are_skipped(lab: Lab) -> None:
    fleet(lab, checks__bmc="", checks__sensors='needs = ["bmc"]', checks__ssh="needs = []", checks__after="")
    order = Order(fails="bmc")
    with saying(order):
        outcomes = step_verbs.ready(lab.context(), ONE)

    assert "+sensors" not in order.events
    assert said(outcomes)["node1"] == (
        False,
        "readiness check failed: bmc: said fail; sensors: not run: it needs bmc",
    )
    assert {(step, verdict) for step, verdict, *_ in results(lab)} == {
        ("bmc", "fail"),
        ("sensors", "unknown"),
        ("ssh", "pass"),
        ("after", "pass"),
    }


def test_no_setup_step_starts_after_one_failed(lab: Lab) -> None:
    fleet(lab, setup__a="needs = []", setup__b='needs = ["a"]', setup__c='needs = ["b"]')
    order = Order(fails="b")
    with saying(order):
        step_verbs.ready(lab.context(), ONE)
        order.fails = []
        order.events.clear()
        step_verbs.ready(lab.context(), ONE)

    assert order.events == ["+b", "-b", "+c", "-c"]


def test_a_step_waits_for_the_predecessors_of_an_inapplicable_step(lab: Lab) -> None:
    fleet(lab, setup__a="needs = []", setup__gpu='selector = "gpu"\nneeds = ["a"]', setup__c='needs = ["gpu"]')
    order = Order()
    with saying(order):
        step_verbs.ready(lab.context(), ONE)

    assert order.events == ["+a", "-a", "+c", "-c"]


def test_an_overridden_step_counts_as_passed_for_those_that_need_it(lab: Lab) -> None:
    fleet(lab, checks__bmc="", checks__sensors='needs = ["bmc"]')
    order = Order()
    with saying(order):
        outcomes = step_verbs.ready(lab.context(), ONE, override=("bmc",), reason="unplugged")

    assert order.events == ["+sensors", "-sensors"]
    assert outcomes.items[0].error is None


def test_a_defect_in_one_step_is_raised_and_not_lost(lab: Lab) -> None:
    fleet(lab, checks__a="needs = []", checks__b="needs = []")

    def says(step: Step, _: object) -> Verdict:
        raise RuntimeError(step.name)

    with saying(says), pytest.raises(RuntimeError):
        step_verbs.ready(lab.context(), ONE)
