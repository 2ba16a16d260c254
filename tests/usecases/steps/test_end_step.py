"""A step that outlived its bmhctl is named by `why` and ended by `recycle --end-step`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bmhctl.domain.model import EventKind
from bmhctl.errors import StateRefusedError, UsageError
from bmhctl.stores.claims import host_claim
from bmhctl.usecases import explain, hosts
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab
from tests.processes import spawn, until
from tests.usecases.steps.test_step_verbs import host, said

NODE = Choice(("node1",))


@pytest.fixture
def fleet(lab: Lab) -> Lab:
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    return lab


@contextmanager
def left_step(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """A step with a child, both ignoring TERM; its bmhctl has given up the claim that both inherited."""
    with lab.context().store.claims.claim(host_claim(host(lab).id)) as hold:
        assert hold is not None
        assert hold.inherit
        script = "trap '' TERM; sleep 1000 & echo ready; wait"
        step = subprocess.Popen(
            ["sh", "-c", script], pass_fds=hold.inherit, start_new_session=True, stdout=subprocess.PIPE
        )
        assert step.stdout is not None
        step.stdout.readline()
    with step:
        yield step
        step.kill()


def test_end_step_ends_the_step_of_a_killed_bmhctl_with_its_children(fleet: Lab) -> None:
    if "postgres" in fleet.location:
        pytest.skip("a step ends with its bmhctl there")
    with left_step(fleet) as step:
        facts = explain.why(fleet.context(), "node1").facts
        found = [fact for fact in facts if f"process {step.pid} (sh -c" in fact]
        assert re.fullmatch(
            r"its step outlived bmhctl: process \d+ \(sh -c .*\), since \d{4}-\d\d-\d\d [0-9:]{8} UTC;"
            r" bmhctl recycle --end-step node1 ends it",
            found[0],
        )
        outcomes = step_verbs.end_step(fleet.context(), NODE)
        assert step.wait(5) == -9
    [(is_good, words)] = said(outcomes).values()
    assert is_good
    assert words.startswith(f"ended: process {step.pid} (sh -c")
    assert not fleet.context().store.claims.claimed_hosts([host(fleet).id])
    [event] = fleet.context().store.events.read("node1", last=1)
    assert (event.verb, event.reason) == (EventKind.STEP_FAILED, words)
    assert said(step_verbs.end_step(fleet.context(), NODE)) == {"node1": (True, "no step is running on it")}


def test_end_step_refuses_the_step_of_a_running_bmhctl(fleet: Lab) -> None:
    """Another connection acts as another process, because this process is not listed as a holder of the file."""
    with fleet.context().store.claims.claim(host_claim(host(fleet).id)):
        [outcome] = step_verbs.end_step(fleet.context(), NODE).items
        assert isinstance(outcome.error, StateRefusedError)
        facts = explain.why(fleet.context(), "node1").facts
    if "postgres" in fleet.location:
        assert re.match(r"its step is run by bmhctl: \S+ process \d+, since ", outcome.message)
        assert re.match(r"its steps are run by bmhctl: \S+ process \d+, since ", facts[0])
    else:
        assert "not seen from here" in outcome.message


def test_why_says_that_the_bmhctl_of_a_step_is_running(fleet: Lab) -> None:
    place = fleet.path.parent / "pid"
    script = json.dumps(["sh", "-c", f"echo $$ > '{place}.new'; mv '{place}.new' '{place}'; sleep 1000"])
    fleet.policy(f"[checks.long]\ncommand = {script}\ntimeout = '5m'\n")
    with spawn("-m", "bmhctl", "-i", fleet.location, "ready", "node1") as runner:
        until(place.exists)
        facts = explain.why(fleet.context(), "node1").facts
        [refused] = step_verbs.end_step(fleet.context(), NODE).items
        runner.terminate()
        runner.communicate()
    assert re.match(rf"its steps are run by bmhctl: .*process {runner.pid}\b", facts[0])
    assert not any("outlived" in fact for fact in facts)
    assert any(f"its step is process {place.read_text().strip()} (sh -c" in fact for fact in facts) == (
        "postgres" not in fleet.location
    )
    assert isinstance(refused.error, StateRefusedError)
    assert "its step is run by bmhctl" in refused.message


def test_end_step_without_host_names_is_a_usage_error(fleet: Lab) -> None:
    with pytest.raises(UsageError, match="needs the names"):
        step_verbs.end_step(fleet.context(), Choice())
