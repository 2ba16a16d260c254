"""Steps of hosts on a server: never two runners at once, whichever of them is killed or loses the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
from bmhctl.usecases import inventories
from bmhctl.usecases.policy import apply_policy
from tests.faults.figures import Figures
from tests.postgres import Server, drop_schema, schema_url
from tests.processes import spawn, until

STEP = """
import fcntl, os, sys, time

folder = sys.argv[1]
with open(f"{folder}/step", "a") as mine:
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as long as this process lives
    except BlockingIOError:
        open(f"{folder}/two at once", "w").close()
    with open(f"{folder}/new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{folder}/new", f"{folder}/pid")
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.05)
"""

RUNNER = """
from bmhctl.__main__ import main
from bmhctl.stores.postgres import claims as leased_claims

leased_claims.LENGTH, leased_claims._MICROSECONDS = 5.0, 5_000_000
leased_claims._RENEW, leased_claims._RETRY, leased_claims._MARGIN = 0.5, 0.2, 3.5
main()
"""


@dataclass
class Steps:
    """A host of which the check, or a setup step, runs until it is asked to end."""

    url: str
    folder: Path

    def runner(self) -> subprocess.Popen[str]:
        return spawn("-c", RUNNER, "-i", self.url, "ready", "node1")

    def process(self) -> int:
        """The step's, when it is there."""
        until((self.folder / "pid").exists)
        return int((self.folder / "pid").read_text())

    def another_is_ready(self) -> None:
        """Another runner succeeds as soon as it may, on its own."""
        (self.folder / "go").touch()

        def is_ready() -> bool:
            with self.runner() as done:
                _, err = done.communicate(timeout=60)
            assert done.returncode in (0, 11) or "a step is running on it" in err, err
            return done.returncode == 0

        until(is_ready)
        with open_inventory(self.url) as lab:
            assert lab.host("node1").state is State.AVAILABLE
            assert lab._context.store.claims.left_behind() == []


@pytest.fixture(params=["checks", "setup"])
def steps(request: pytest.FixtureRequest, own_server: Server, tmp_path: Path) -> Iterator[Steps]:
    url = schema_url(own_server.url, tmp_path)
    inventories.init(url)
    with open_inventory(url, actor="operator") as lab:
        lab.add("node1")
        code = tmp_path / "step.py"
        code.write_text(STEP)
        apply_policy(
            lab._context, f'[{request.param}.long]\ncommand = ["{sys.executable}", "{code}", "{tmp_path}"]\n', "policy"
        )
    yield Steps(url, tmp_path)
    drop_schema(url)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_step_of_a_runner_that_is_killed_is_ended_before_another_may_run(steps: Steps, figures: Figures) -> None:
    with steps.runner() as runner:
        step = steps.process()
        runner.send_signal(signal.SIGKILL)
        runner.communicate()
    until(lambda: not lives(step))
    steps.another_is_ready()
    shared = (steps.folder / "two at once").exists()
    figures("runner killed in a step", "postgres", tries=1, faults=1, losses=int(shared))
    assert not shared


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_runner_that_loses_the_server_ends_its_step_in_time_and_says_so(
    own_server: Server, steps: Steps, figures: Figures, how: str
) -> None:
    lose, find = {
        "stopped": (own_server.stop, own_server.start),
        "silent": (own_server.freeze, own_server.thaw),
    }[how]
    with steps.runner() as runner:
        step = steps.process()
        lose()
        try:
            until(lambda: not lives(step))
            _, err = runner.communicate(timeout=60)
        finally:
            find()
    assert (runner.returncode, "Traceback" in err) == (11, False)
    assert "its steps were ended" in err
    steps.another_is_ready()
    shared = (steps.folder / "two at once").exists()
    figures("server lost in a step", "postgres", tries=1, faults=1, losses=int(shared))
    assert not shared


@pytest.mark.parametrize("is_back", [True, False])
def test_a_preparation_that_loses_the_server_hands_out_no_host_and_leaks_none(
    own_server: Server, tmp_path: Path, is_back: bool
) -> None:
    """Asked again, the same request goes on; if it is not asked again, the lease ends by itself."""
    url = schema_url(own_server.url, tmp_path)
    inventories.init(url)
    with open_inventory(url, actor="operator") as lab:
        lab.add("node1")
        lab.ready("node1")
        (tmp_path / "step.py").write_text(STEP)
        words = f'["{sys.executable}", "{tmp_path}/step.py", "{tmp_path}"]'
        apply_policy(lab._context, f"[prepare.image]\ncommand = {words}\n", "policy")
    line = ("-i", url, "reserve", "node1", "--ttl", "2m" if is_back else "8s", "--request-id", "job-1", "-o", "name")
    with spawn("-c", RUNNER, *line) as runner:
        until((tmp_path / "pid").exists)
        step = int((tmp_path / "pid").read_text())
        own_server.stop()
        if is_back:
            own_server.start()
            (tmp_path / "go").touch()
        out, err = runner.communicate(timeout=60)
        if not is_back:
            own_server.start()
    until(lambda: not lives(step))
    assert (runner.returncode, out, "Traceback" in err) == (11, "", False), err
    if is_back:
        with spawn("-c", RUNNER, *line) as again:
            assert again.communicate(timeout=60)[0] == "node1\n"
    else:
        with open_inventory(url, actor="operator") as lab:
            until(lambda: bool(lab.reap()) or lab.host("node1").state is State.TAINTED)
            assert not lab.reservations()
    drop_schema(url)
