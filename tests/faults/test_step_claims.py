"""Steps of hosts on a server: never two runners at once, whichever of them is killed or loses the server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
from bmhctl.usecases import inventories
from bmhctl.usecases.policy import apply_policy
from tests.faults.figures import Figures
from tests.postgres import Server, drop_schema, schema_url
from tests.processes import SHORT_CLAIMS, lives, spawn, until

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


@dataclass(frozen=True)
class Kind:
    """A kind of step: its table in the policy, and the command that runs it on a host in a state."""

    table: str
    command: tuple[str, ...]
    before: State
    ends: bool = True


KINDS = {
    "checks": Kind("checks", ("ready", "node1"), State.INITIAL),
    "setup": Kind("setup", ("ready", "node1"), State.INITIAL),
    "cleanup": Kind("cleanup", ("reset", "node1"), State.TAINTED),
    "retire": Kind("retire", ("retire", "node1", "--reason", "old"), State.AVAILABLE),
    "recheck": Kind("checks", ("recycle", "--watch", "1s"), State.AVAILABLE, ends=False),
}


@dataclass
class Steps:
    """A host on which a step of some kind runs until it is asked to end."""

    url: str
    folder: Path
    kind: Kind

    def runner(self) -> subprocess.Popen[str]:
        return spawn("-c", SHORT_CLAIMS, "-i", self.url, *self.kind.command)

    def process(self) -> int:
        """The process id of the step, once it runs."""
        until((self.folder / "pid").exists)
        return int((self.folder / "pid").read_text())

    def is_as_before(self) -> bool:
        """Whether the host is still in its state, with all its data."""
        with open_inventory(self.url) as lab:
            host = lab.host("node1")
            return (host.state, host.dirty) == (self.kind.before, self.kind.before is State.TAINTED)

    def is_done(self) -> bool:
        """Whether the step has had its effect."""
        with open_inventory(self.url) as lab:
            host = next((each for each in lab.hosts() if each.name == "node1"), None)
            if self.kind.table == "retire" or host is None:
                return host is None and self.kind.table == "retire"
            if self.kind.ends:
                return host.state is (State.INITIAL if self.kind.table == "cleanup" else State.AVAILABLE)
            return host.proven_at is not None and host.proven_at > LONG_AGO

    def is_unclaimed(self) -> bool:
        """Whether no runner has a claim on the host within a time limit."""
        with open_inventory(self.url) as lab:
            return not lab._context.store.claims.claimed_hosts([host.id for host in lab.hosts()])

    def another_succeeds(self) -> None:
        """Check that another runner succeeds as soon as it gets the claim, and leaves no claim behind."""
        (self.folder / "go").touch()
        while not self.is_done():
            with self.runner() as other:
                if not self.kind.ends:
                    until(self.is_done)
                    other.terminate()
                _, err = other.communicate(timeout=60)
            assert other.returncode in (0, 11, 143) or "a step is running on it" in err, err
            until(self.is_unclaimed)
        with open_inventory(self.url) as lab:
            until(lambda: lab._context.store.claims.left_behind() == [])


LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def prepared(url: str, kind: Kind, folder: Path) -> Steps:
    """An inventory with a host on which a step of this kind is due."""
    inventories.init(url)
    with open_inventory(url, actor="operator") as lab:
        lab.add("node1")
        if kind.before is not State.INITIAL:
            lab.ready("node1")
        if kind.before is State.TAINTED:
            lab.reserve("node1")
            lab.taint("node1")
        code = folder / "step.py"
        code.write_text(STEP)
        command = f'command = ["{sys.executable}", "{code}", "{folder}"]\ntimeout = "2m"\n'
        recheck = "" if kind.ends else '[defaults]\nrecheck_after = "1h"\n'
        policy = f"{recheck}[{kind.table}.long]\n{command}"
        if url.endswith(".toml"):
            Path(url).write_text(policy + Path(url).read_text())
        else:
            apply_policy(lab._context, policy, "policy")
        if not kind.ends:
            store, host = lab._context.store, lab.host("node1")
            with store.transaction():
                store.hosts.save_checks_passed(host, LONG_AGO)
    return Steps(url, folder, kind)


@pytest.fixture(params=KINDS)
def steps(request: pytest.FixtureRequest, own_server: Server, tmp_path: Path) -> Iterator[Steps]:
    url = schema_url(own_server.url, tmp_path)
    yield prepared(url, KINDS[request.param], tmp_path)
    drop_schema(url)


def test_the_step_of_a_killed_bmhctl_ends_before_another_one_may_start(steps: Steps, figures: Figures) -> None:
    with steps.runner() as runner:
        step = steps.process()
        runner.send_signal(signal.SIGKILL)
        runner.communicate()
    until(lambda: not lives(step))
    assert steps.is_as_before()
    steps.another_succeeds()
    shared = (steps.folder / "two at once").exists()
    figures("runner killed in a step", "postgres", tries=1, faults=1, losses=int(shared))
    assert not shared


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lab.db", "lab.toml"])
def test_the_step_of_a_killed_bmhctl_keeps_its_host_until_it_ends(
    kind: str, name: str, tmp_path: Path, figures: Figures
) -> None:
    """In a file inventory the step itself holds the claim, so no other step runs on the host meanwhile."""
    steps = prepared(str(tmp_path / name), KINDS[kind], tmp_path)
    with steps.runner() as runner:
        step = steps.process()
        runner.send_signal(signal.SIGKILL)
        runner.communicate()
    with open_inventory(steps.url) as lab:
        assert lab._context.store.claims.claimed_hosts([lab.host("node1").id])
    assert lives(step)
    assert steps.is_as_before()
    steps.another_succeeds()
    shared = (tmp_path / "two at once").exists()
    figures("runner killed in a step", "sqlite" if name == "lab.db" else "toml", tries=1, faults=1, losses=int(shared))
    assert not shared


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_bmhctl_that_loses_the_server_ends_its_step_in_time_and_says_so(
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
            if steps.kind.ends:
                _, err = runner.communicate(timeout=60)
        finally:
            find()
        if not steps.kind.ends:  # it waits for the server, and goes on
            (steps.folder / "go").touch()
            until(steps.is_done)
            runner.terminate()
            _, err = runner.communicate(timeout=60)
    assert (runner.returncode, "Traceback" in err) == (11 if steps.kind.ends else 143, False)
    assert "its steps were ended" in err or not steps.kind.ends
    steps.another_succeeds()
    shared = (steps.folder / "two at once").exists()
    figures("server lost in a step", "postgres", tries=1, faults=1, losses=int(shared))
    assert not shared


@pytest.mark.parametrize("is_back", [True, False])
def test_a_reserve_that_loses_the_server_while_it_prepares_hosts_grants_and_leaks_none(
    own_server: Server, tmp_path: Path, is_back: bool
) -> None:
    """A repeated request continues the preparation; otherwise the lease ends by itself."""
    url = schema_url(own_server.url, tmp_path)
    inventories.init(url)
    with open_inventory(url, actor="operator") as lab:
        lab.add("node1")
        lab.ready("node1")
        (tmp_path / "step.py").write_text(STEP)
        words = f'["{sys.executable}", "{tmp_path}/step.py", "{tmp_path}"]'
        apply_policy(lab._context, f"[prepare.image]\ncommand = {words}\n", "policy")
    line = ("-i", url, "reserve", "node1", "--ttl", "2m" if is_back else "8s", "--request-id", "job-1", "-o", "name")
    with spawn("-c", SHORT_CLAIMS, *line) as runner:
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
        with spawn("-c", SHORT_CLAIMS, *line) as again:
            assert again.communicate(timeout=60)[0] == "node1\n"
    else:
        with open_inventory(url, actor="operator") as lab:
            until(lambda: bool(lab.reap()) or lab.host("node1").state is State.TAINTED)
            assert not lab.reservations()
    drop_schema(url)
