"""Setup steps run once on initial hosts, before the checks, and their results are remembered."""

from __future__ import annotations

import time

import pytest

from bmhctl.domain.model import EventKind, Phase, SetupProgress, State, Verb, Verdict
from bmhctl.domain.policy import Step
from bmhctl.errors import StepFailedError, UsageError
from bmhctl.output.records import flags
from bmhctl.usecases import explain, hosts, lifecycle_verbs, overviews, queries
from bmhctl.usecases.policy import apply_policy
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import resume, step_verbs
from tests.conftest import Lab
from tests.usecases.steps.test_step_verbs import FAIL, PASS, host, said, saying, states, taint

ONE = Choice(("node1",))
POLICY = """
[defaults]
quarantine_after = 2
[setup.bios]
command = ["./bios"]
[setup.firmware]
command = ["./firmware"]
[setup.raid]
command = ["./raid"]
selector = "!diskless"
[checks.ssh]
command = ["true"]
[cleanup.wipe]
command = ["true"]
"""


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    """Two hosts that are initial; node2 has no disk."""
    lab.policy(POLICY)
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    hosts.add(lab.context(), ["node2"], hosts.AttributeChanges(labels={"diskless": "yes"}))
    return lab


def replace_policy(lab: Lab, before: str, after: str) -> None:
    """Replace one policy by another."""
    if lab.is_toml:
        text = lab.path.read_text(encoding="utf-8")
        assert before in text
        lab.path.write_text(text.replace(before, after), encoding="utf-8")
    else:
        lab.policy(after)


class Ran:
    """Records which steps ran, in their order; those in ``fails`` fail."""

    def __init__(self, *fails: str) -> None:
        self.steps: list[str] = []
        self.fails = fails

    def __call__(self, step: Step, _: object) -> Verdict:
        self.steps.append(step.name)
        return FAIL if step.name in self.fails else PASS


def ready(lab: Lab, *fails: str, choice: Choice = ONE, again: bool = False) -> list[str]:
    """Make hosts ready; return which steps ran."""
    ran = Ran(*fails)
    with saying(ran):
        step_verbs.ready(lab.context(), choice, jobs=1, again=again)
    return ran.steps


def test_setup_runs_before_the_checks_and_both_are_in_the_outcome(fleet: Lab) -> None:
    ran = Ran()
    with saying(ran):
        outcomes = step_verbs.ready(fleet.context(), Choice(("node1", "node2")), jobs=1)

    assert ran.steps == ["bios", "firmware", "raid", "ssh", "bios", "firmware", "ssh"]
    assert said(outcomes) == {
        "node1": (True, "setup steps passed: bios, firmware, raid; readiness check passed: ssh"),
        "node2": (True, "setup steps passed: bios, firmware; readiness check passed: ssh"),
    }
    assert [step.step for step in outcomes.items[0].steps] == ["bios", "firmware", "raid", "ssh"]
    assert host(fleet).setup is None


def test_a_setup_step_that_passed_is_not_repeated(fleet: Lab) -> None:
    assert ready(fleet, "firmware") == ["bios", "firmware"]
    assert (states(fleet)["node1"], host(fleet).setup) == ("initial", SetupProgress(1, 3, "firmware"))
    assert ready(fleet, "ssh") == ["firmware", "raid", "ssh"]
    assert (states(fleet)["node1"], host(fleet).setup) == ("initial", SetupProgress(3, 3))
    assert ready(fleet) == ["ssh"]
    assert states(fleet)["node1"] == "available"


def test_a_setup_that_is_complete_is_named_in_the_history(fleet: Lab) -> None:
    ready(fleet, "ssh")
    ready(fleet)

    [*_, event] = queries.history(fleet.context(), "node1").events
    assert (event.verb, event.reason) == (Verb.READY, "its setup was complete; readiness check passed: ssh")


def test_again_repeats_the_whole_setup_even_when_it_is_interrupted(fleet: Lab) -> None:
    ready(fleet, "ssh")
    assert ready(fleet, "bios", again=True) == ["bios"]
    assert ready(fleet) == ["bios", "firmware", "raid", "ssh"]


def test_setup_starts_over_after_a_reset_or_a_return_from_maintenance(fleet: Lab) -> None:
    ready(fleet)
    taint(fleet, "node1")
    with saying(Ran()):
        step_verbs.reset(fleet.context(), ONE)
    assert ready(fleet, "ssh") == ["bios", "firmware", "raid", "ssh"]

    lifecycle_verbs.maintain(fleet.context(), ONE, reason="a new board")
    resume.resume(fleet.context(), ONE)
    assert (states(fleet)["node1"], host(fleet).setup) == ("initial", None)
    assert ready(fleet) == ["bios", "firmware", "raid", "ssh"]


def test_setup_starts_over_after_a_reset_even_if_the_clock_was_set_back(fleet: Lab) -> None:
    fleet.clock.move(hours=5)
    ready(fleet)
    taint(fleet, "node1")
    fleet.clock.move(hours=-4)
    with saying(Ran()):
        step_verbs.reset(fleet.context(), ONE)

    assert ready(fleet) == ["bios", "firmware", "raid", "ssh"]


def test_only_a_setup_step_that_changed_in_the_policy_runs_again(fleet: Lab) -> None:
    ready(fleet, "ssh")
    changed = POLICY.replace('["./firmware"]', '["./firmware", "--new"]\ntimeout = "5m"')
    replace_policy(fleet, POLICY, changed)
    assert ready(fleet, "ssh") == ["firmware", "ssh"]
    replace_policy(fleet, changed, changed.replace('timeout = "5m"', 'timeout = "9m"\nretries = 2'))
    assert ready(fleet) == ["ssh"]


def test_a_setup_step_that_was_removed_from_the_policy_does_not_count(fleet: Lab) -> None:
    """The failed step is renamed, then all steps are removed; with the old policy, its result is shown again."""

    def shown() -> tuple[str, str | None, list[str], list[str], list[str]]:
        found = queries.list_hosts(fleet.context(), Choice())
        [listed] = [each for each in found.hosts if each.name == "node1"]
        seen = explain.why(fleet.context(), "node1")
        return (
            " ".join(flags(listed)),
            seen.first,
            [each.step for each in seen.results],
            [each.step for each in found.failed.get(listed.id, ())],
            [each.reason for each in overviews.reasons(fleet.context()).items],
        )

    ready(fleet, "firmware")
    firmware = ("firmware: said fail", ["bios", "firmware"], ["firmware"], ["firmware: said fail"])
    assert shown() == ("setup 1/3", f"repair this: {firmware[0]}", *firmware[1:])
    renamed = POLICY.replace("setup.firmware", "setup.uefi")
    replace_policy(fleet, POLICY, renamed)
    assert shown() == ("setup 1/3", None, ["bios"], [], [])
    replace_policy(fleet, renamed, "[checks.ssh]\ncommand = ['true']\n")
    assert shown() == ("", None, [], [], [])
    replace_policy(fleet, "[checks.ssh]\ncommand = ['true']\n", POLICY)
    assert shown() == ("setup 1/3", f"repair this: {firmware[0]}", *firmware[1:])
    assert ready(fleet) == ["firmware", "raid", "ssh"]


def test_a_command_uses_and_records_the_policy_that_it_started_with(fleet: Lab) -> None:
    changed = POLICY.replace('["./bios"]', '["./bios", "--new"]')

    def run(step: Step, _: object) -> Verdict:
        if step.name == "bios":
            with fleet.visit() as ctx:
                if fleet.is_toml:
                    replace_policy(fleet, POLICY, changed)
                    queries.list_hosts(ctx, Choice())  # this syncs the file
                else:
                    apply_policy(ctx, changed, "policy.toml")
        return FAIL if step.name == "firmware" else PASS

    with saying(run):
        step_verbs.ready(fleet.context(), ONE, jobs=1)
    assert host(fleet).setup == SetupProgress(1, 3, "firmware")
    assert ready(fleet) == ["bios", "firmware", "raid", "ssh"]


def test_recycle_sets_a_host_up_between_its_cleanup_and_its_checks(fleet: Lab) -> None:
    ready(fleet)
    taint(fleet, "node1")
    ran = Ran()
    with saying(ran):
        outcomes = step_verbs.recycle(fleet.context(), Choice())

    assert ran.steps == ["wipe", "bios", "firmware", "raid", "ssh"]
    assert said(outcomes)["node1"] == (
        True,
        "cleanup step passed: wipe; setup steps passed: bios, firmware, raid; readiness check passed: ssh",
    )


def test_failed_setups_in_a_row_are_counted_and_end_in_quarantine(fleet: Lab) -> None:
    ready(fleet, "firmware")
    assert (host(fleet).failed_setups, states(fleet)["node1"]) == (1, "initial")
    with saying(Ran("firmware")):
        outcomes = step_verbs.ready(fleet.context(), ONE)

    [outcome] = outcomes.items
    assert isinstance(outcome.error, StepFailedError)
    assert outcome.error.message.endswith("1 of 3 done; quarantined after 2 failed setups in a row")
    assert (states(fleet)["node1"], host(fleet).failed_setups) == ("maintenance", 2)
    resume.resume(fleet.context(), ONE)
    assert (states(fleet)["node1"], host(fleet).failed_setups) == ("initial", 0)


def test_failed_checks_are_not_counted_as_failed_setups(fleet: Lab) -> None:
    for _ in range(3):
        ready(fleet, "ssh")
    assert (host(fleet).failed_setups, states(fleet)["node1"]) == (0, "initial")


def test_why_shows_the_progress_of_a_setup_and_what_failed(fleet: Lab) -> None:
    assert "setup: 0 of 3 done; next: bios, firmware, raid" in explain.why(fleet.context(), "node1").facts
    ready(fleet, "firmware")
    fleet.clock.move(hours=2)

    facts = explain.why(fleet.context(), "node1").facts

    assert "setup: firmware failed 2h ago, said fail; 1 of 3 done" in facts
    assert "its setup failed 1 time in a row" in facts


def test_why_names_the_steps_that_ready_would_run(fleet: Lab) -> None:
    [ready_answer] = [each for each in explain.why(fleet.context(), "node2").answers if each.verb is Verb.READY]

    assert (ready_answer.open, ready_answer.dest) == (None, State.AVAILABLE)
    assert ready_answer.words == (
        "if its setup is complete: bios, firmware",
        "if every readiness check that applies passed: ssh",
    )


def test_a_setup_step_is_overridden_with_a_reason(fleet: Lab) -> None:
    with saying(Ran("raid")):
        outcomes = step_verbs.ready(fleet.context(), ONE, override=("raid",), reason="by hand")
    assert said(outcomes)["node1"] == (
        True,
        "setup steps passed: bios, firmware; raid overridden: by hand; readiness check passed: ssh",
    )
    with pytest.raises(UsageError, match="there is no check or setup step 'rade'"):
        step_verbs.ready(fleet.context(), ONE, override=("rade",), reason="by hand")


def test_each_setup_step_is_recorded_as_soon_as_it_ended(fleet: Lab) -> None:
    seen: list[SetupProgress | None] = []

    def says(step: Step, _: object) -> Verdict:
        if step.name == "firmware":
            for _attempt in range(200):
                with fleet.visit() as ctx:  # only the thread that opened a connection can close it
                    found = ctx.store.hosts.named("node1")
                progress = None if found is None else found.setup
                if progress is not None:
                    break
                time.sleep(0.02)
            seen.append(progress)
            raise KeyboardInterrupt
        return PASS

    with saying(says), pytest.raises(KeyboardInterrupt):
        step_verbs.ready(fleet.context(), ONE)
    assert seen == [SetupProgress(1, 3)]
    assert ready(fleet) == ["firmware", "raid", "ssh"]


def test_a_check_and_a_setup_step_with_the_same_name_have_separate_results(fleet: Lab) -> None:
    replace_policy(fleet, POLICY, '[setup.ssh]\ncommand = ["true"]\n[checks.ssh]\ncommand = ["true"]\n')

    def says(step: Step, _: object) -> Verdict:
        return PASS if step.phase is Phase.SETUP else FAIL

    with saying(says):
        step_verbs.ready(fleet.context(), ONE)
    found = fleet.context().store.step_results.of(host(fleet))
    assert {(each.phase, each.verdict) for each in found} == {(Phase.SETUP, PASS), (Phase.CHECKS, FAIL)}
    [*_, event] = queries.history(fleet.context(), "node1").events
    assert (event.verb, event.reason) == (EventKind.STEP_FAILED, "readiness check failed: ssh: said fail")
