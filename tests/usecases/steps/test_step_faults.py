"""Steps of every temper in the phases beside checks and cleanup: nothing is laundered, nothing stays claimed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmhctl.domain.model import State
from bmhctl.usecases import hosts
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.steps.recheck import recheck
from bmhctl.usecases.steps.retire import retire
from tests.conftest import Lab, made_in
from tests.processes import ended
from tests.usecases.steps.test_step_verbs import host, states

SCRIPTS = {
    "missing": ("exec ./not-there", "not-there"),
    "noisy": ("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end; exit 3", "exit 3"),
    "hostile": ("printf '\\033[2J[red]\\033]0;title\\007gone'; exit 3", "exit 3"),
    "stubborn": ("trap '' TERM; echo $$ > pid; sleep 60; sleep 60", "took longer than 1 s"),
}
AFTER = {"setup": "initial", "retire": "maintenance", "recheck": "maintenance"}
"""Where a host is whose step of this phase failed."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    yield from made_in("sqlite", tmp_path)


@pytest.mark.parametrize("phase", AFTER)
@pytest.mark.parametrize("temper", SCRIPTS)
def test_a_step_that_fails_in_any_way_is_recorded_and_lets_no_host_pass(temper: str, phase: str, lab: Lab) -> None:
    script, words = SCRIPTS[temper]
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    if phase != "setup":
        step_verbs.ready(lab.context(), Choice(("node1",)))
    table = "checks" if phase == "recheck" else phase
    step = f"[{table}.it]\ncommand = {json.dumps(['sh', '-c', script])}\ntimeout = '1s'\n"
    lab.policy(f'[defaults]\nrecheck_after = "1h"\n{step.replace("1s", "20s") if temper == "noisy" else step}')
    lab.clock.move(hours=2)
    ctx = lab.context()
    if phase == "setup":
        outcomes = step_verbs.ready(ctx, Choice(("node1",)))
    elif phase == "retire":
        outcomes = retire(ctx, Choice(("node1",)), reason="old")
    else:
        outcomes = recheck(ctx)
    [outcome] = outcomes.items
    assert words in outcome.message
    assert len(outcome.message) < 1000
    assert states(lab) == {"node1": AFTER[phase]}
    assert not host(lab).dirty
    assert host(lab).state is not State.AVAILABLE
    assert not lab.context().store.claims.claimed_hosts([host(lab).id])
    if temper == "stubborn":
        assert ended(int((lab.path.parent / "pid").read_text()))
