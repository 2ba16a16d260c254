"""Steps fail in every way, in every phase: no used host becomes clean, and no process is left behind.

The steps run in this process, with a short time between TERM and KILL. ``tests/faults/test_step_claims.py`` has tests
of runners that are killed or lose their server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import StepFailedError
from bmhctl.probes import command
from bmhctl.results import Outcome, Outcomes
from bmhctl.usecases import hosts, lifecycle_verbs
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.steps.retire import retire
from tests.conftest import BACKENDS, Lab, made_in
from tests.processes import ended
from tests.usecases.steps.rechecking import recheck
from tests.usecases.steps.test_step_verbs import host, states

SCRIPTS = {
    "missing": ("exec ./not-there", "not-there"),
    "noisy": ("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end; exit 3", "exit 3"),
    "hostile": ("printf '\\033[2J[red]\\033]0;title\\007\\000\\377\\355\\240\\200gone'; exit 3", "exit 3"),
    "stubborn": ("trap '' TERM; echo $$ > '{folder}/pid'; sleep 60; sleep 60", "took longer than 1 s"),
}
WHERE = {"missing": BACKENDS, "noisy": ("sqlite",), "hostile": BACKENDS, "stubborn": ("sqlite", "postgres")}
"""The backends that differ: in the claims and guards of steps, and in the texts that they can store."""

AFTER = {
    "setup": "initial",
    "checks": "initial",
    "prepare": "tainted",
    "cleanup": "tainted",
    "retire": "maintenance",
    "recheck": "maintenance",
}
"""The state of a host after a step of each phase has failed."""


@pytest.fixture
def lab(backend: str, tmp_path: Path) -> Iterator[Lab]:
    yield from made_in(backend, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("phase", AFTER)
@pytest.mark.parametrize(
    ("backend", "temper"), [(backend, temper) for temper, some in WHERE.items() for backend in some]
)
def test_any_failure_of_a_step_is_recorded_and_keeps_the_host_in_its_state(
    temper: str, phase: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE", 0.2)
    script, words = SCRIPTS[temper]
    script = script.replace("{folder}", str(lab.path.parent))
    hosts.add(lab.context(), ["node1"], hosts.AttributeChanges())
    if phase not in ("setup", "checks"):
        step_verbs.ready(lab.context(), Choice(("node1",)))
    if phase == "cleanup":
        reserve.reserve_or_wait(lab.context(), reservation_request(("node1",)))
        lifecycle_verbs.taint(lab.context(), Choice(("node1",)))
    table = "checks" if phase == "recheck" else phase
    step = f"[{table}.it]\ncommand = {json.dumps(['sh', '-c', script])}\ntimeout = '1s'\n"
    lab.policy(f'[defaults]\nrecheck_after = "1h"\n{step.replace("1s", "20s") if temper == "noisy" else step}')
    lab.clock.move(hours=2)
    ctx = lab.context()
    if phase == "prepare":
        with pytest.raises(StepFailedError) as caught:
            reserve.reserve_or_wait(ctx, reservation_request(("node1",)))
        outcomes = Outcomes("reserve", (Outcome("node1", False, caught.value.message),))
    elif phase in ("setup", "checks"):
        outcomes = step_verbs.ready(ctx, Choice(("node1",)))
    elif phase == "cleanup":
        outcomes = step_verbs.reset(ctx, Choice(("node1",)))
    elif phase == "retire":
        outcomes = retire(ctx, Choice(("node1",)), reason="old")
    else:
        outcomes = recheck(ctx)
    [outcome] = outcomes.items
    assert words in outcome.message
    assert len(outcome.message) < 1000
    assert states(lab) == {"node1": AFTER[phase]}
    assert host(lab).dirty == (phase in ("prepare", "cleanup"))
    assert host(lab).failed_cleanups == (phase == "cleanup")
    assert not ctx.store.reservations.open()
    assert not lab.context().store.claims.claimed_hosts([host(lab).id])
    if temper == "stubborn":
        assert ended(int((lab.path.parent / "pid").read_text()))
