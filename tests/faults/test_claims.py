"""Lock files of claims that are missing or stale: a claim is only the lock of a living process.

The result of a step counts only if the host has no event since the step began, so two steps at once do no harm.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State, Verb
from bmhctl.domain.requirements import reservation_request
from bmhctl.errors import StateRefusedError
from bmhctl.probes import command
from bmhctl.stores.claims import host_claim, run_claim, ticket_claim
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.sqlite.claims import FileClaims
from bmhctl.usecases import hosts
from bmhctl.usecases.reservations import reserve
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab
from tests.faults.figures import Figures
from tests.faults.forked_commands import ForkedCommands
from tests.faults.snapshots import check
from tests.processes import spawn, until

READY = (
    "import sys\nfrom bmhctl import open_inventory\n"
    "with open_inventory(sys.argv[1], actor=sys.argv[2]) as lab:\n    lab.ready('node1')"
)


def backend(lab: Lab) -> str:
    return "toml" if lab.is_toml else "sqlite"


def claims_of(lab: Lab) -> Path:
    state = lab.path.with_name("lab.state.db") if lab.is_toml else lab.path
    return state.with_name(f"{state.name}.claims")


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_a_step_whose_lock_file_is_removed_loses_only_its_claim(
    file_lab: Lab, tmp_path: Path, gone: str, figures: Figures
) -> None:
    fifos = [tmp_path / "go0", tmp_path / "go1"]
    file_lab.policy("[checks.slow]\ncommand = ['sh', '-c', 'read line < \"$GO\"']\n")
    hosts.add(file_lab.context(), ["node1"], hosts.AttributeChanges())
    file_lab.close()
    runners, pipes = [], []
    for number, fifo in enumerate(fifos):
        os.mkfifo(fifo)
        runners.append(spawn("-c", READY, str(file_lab.path), f"runner{number}", GO=str(fifo)))
        pipes.append(os.open(fifo, os.O_WRONLY))  # this opens when the step reads the FIFO
        if gone == "file":
            for claim in claims_of(file_lab).iterdir():
                claim.unlink()
        else:
            shutil.rmtree(claims_of(file_lab))
    for pipe in pipes:
        os.write(pipe, b"go\n")
    ends = []
    for runner in runners:
        _, err = runner.communicate(timeout=60)
        ends.append(runner.returncode)
        assert not err or "StateRefusedError" in err, err
    for pipe in pipes:
        os.close(pipe)

    store = file_lab.context().store
    check(store)
    moves = [event for event in store.events.read() if event.verb is Verb.READY]
    figures("claims", backend(file_lab), tries=1, faults=2, losses=int(len(moves) != 1))
    assert (len(moves), sorted(ends)) == (1, [0, 1]), "one of them moved it, the other one was told"
    assert not store.claims.claimed([host_claim(1)])


def test_a_claim_that_ends_while_another_step_starts_leaves_no_lock_behind(
    file_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_lab.policy("[checks.quick]\ncommand = ['true']\n")
    hosts.add(file_lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    second = tmp_path / "second"
    forgotten = threading.Event()
    first: list[tuple[int, str]] = []

    def start(arguments: list[str], env: dict[str, str], pass_fds: tuple[int, ...], **options: object) -> object:
        if first:
            ((claim, name),) = first
            copy = os.dup(claim)  # a child has the descriptor between its fork and its exec
            second.touch()
            with file_lab.visit("bob") as bob:
                until(lambda: bob.store.hosts.named(name).state is State.AVAILABLE)  # type: ignore[union-attr]
            forgotten.wait(0.5)  # the claim must still be held
            os.close(copy)
        else:  # the child ends while the other one is being started, not before
            arguments = ["sh", "-c", f"until [ -e '{second}' ]; do sleep 0.01; done"]
        first.append((pass_fds[0], env["BMH_HOST"]))
        return real(arguments, env=env, pass_fds=pass_fds, **options)  # type: ignore[call-overload]

    def forget(claims: FileClaims, name: str) -> None:
        really_forget(claims, name)
        forgotten.set()

    real, really_forget = subprocess.Popen, FileClaims.forget
    monkeypatch.setattr(command.subprocess, "Popen", start)
    monkeypatch.setattr(FileClaims, "forget", forget)
    step_verbs.ready(file_lab.context(), Choice(("node1", "node2")), jobs=2)
    assert [host.state for host in file_lab.context().store.hosts.find(HostQuery())] == [State.AVAILABLE] * 2
    assert not claims_of(file_lab).exists()


def test_lock_files_of_dead_processes_block_no_command(file_lab: Lab, figures: Figures) -> None:
    hosts.add(file_lab.context(), ["node[1-2]"], hosts.AttributeChanges())
    claims_of(file_lab).mkdir(exist_ok=True)
    stale = [host_claim(1), host_claim(2), host_claim(77), ticket_claim(1), run_claim("r-00000000"), "rubbish"]
    for name in stale:
        (claims_of(file_lab) / name).write_bytes(b"")

    step_verbs.ready(file_lab.context(), Choice(everything=True))
    granted = reserve.reserve_or_wait(file_lab.context(), reservation_request(count=2))

    states = [host.state for host in file_lab.context().store.hosts.find(HostQuery())]
    figures("claims", backend(file_lab), tries=2, faults=len(stale), losses=states.count(State.AVAILABLE))
    assert (states, len(granted.held.hosts)) == ([State.RESERVED] * 2, 2)


def test_a_stopped_process_keeps_its_claim_and_a_killed_one_loses_it(file_lab: Lab, tmp_path: Path) -> None:
    file_lab.policy('[checks.up]\ncommand = ["true"]\n')
    hosts.add(file_lab.context(), ["node1"], hosts.AttributeChanges())
    file_lab.close()
    claim = (
        "import sys\nfrom pathlib import Path\nfrom bmhctl.stores.claims import host_claim\n"
        "from bmhctl.stores.sqlite.claims import FileClaims\n"
        "with FileClaims(Path(sys.argv[1])).claim(host_claim(1)):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    inventory = claims_of(file_lab).with_name(claims_of(file_lab).name.removesuffix(".claims"))
    holder = subprocess.Popen(
        [sys.executable, "-c", claim, str(inventory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    store = file_lab.context().store
    assert store.claims.claimed([host_claim(1)])
    holder.kill()
    holder.communicate()
    assert not store.claims.claimed([host_claim(1)])
    step_verbs.ready(file_lab.context(), Choice(("node1",)))
    assert not claims_of(file_lab).exists(), "what it left behind is removed by the next process that claims"


def test_a_file_in_the_place_of_the_folder_of_lock_files_is_named(
    file_lab: Lab, forked: ForkedCommands, figures: Figures
) -> None:
    hosts.add(file_lab.context(), ["node1"], hosts.AttributeChanges())
    file_lab.close()
    claims_of(file_lab).write_text("not a folder")
    lines = (["ready", "node1"], ["list"], ["cordon", "node1"], ["reserve", "node1", "--wait", "1s"])
    ends = [forked.run(file_lab.path.parent, ("-i", file_lab.path.name, *line)) for line in lines]

    lost = [end for end in ends if "Traceback" in end.stderr or end.status not in (0, 5, 11)]
    figures("claims", backend(file_lab), tries=len(ends), faults=1, losses=len(lost))
    assert lost == []
    assert (ends[0].status, claims_of(file_lab).name in ends[0].stderr) == (11, True)
    claims_of(file_lab).unlink()
    assert forked.run(file_lab.path.parent, ("-i", file_lab.path.name, "ready", "node1")).status == 0


def test_a_fork_while_a_step_runs_in_another_thread_does_not_keep_the_claim(file_lab: Lab, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    file_lab.policy(
        f"[checks.slow]\ncommand = ['sh', '-c', 'touch {begun}; until test -e {go}; do sleep 0.02; done']\n"
    )
    hosts.add(file_lab.context(), ["node1"], hosts.AttributeChanges())
    file_lab.close()

    def check() -> None:
        with open_inventory(file_lab.location) as lab:
            lab.ready("node1")

    runner = threading.Thread(target=check)
    runner.start()
    until(begun.exists)
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    try:
        with open_inventory(file_lab.location) as lab, pytest.raises(StateRefusedError):
            lab.maintain("node1", reason="the step still runs")
        go.touch()
        runner.join()
        with open_inventory(file_lab.location) as lab:
            lab.maintain("node1", reason="fan")
        assert not claims_of(file_lab).exists()
    finally:
        fork.kill()
        fork.join()


def test_a_fork_that_returns_through_a_held_claim_leaves_it_to_its_parent(tmp_path: Path) -> None:
    claims = FileClaims(tmp_path / "lab.db")
    (tmp_path / "lab.db").touch()
    fork = -1
    try:
        with claims.claim("host-1"), claims.share("ticket-1"):
            fork = os.fork()
            if fork:
                assert os.waitpid(fork, 0)[1] == 0
                assert (claims.claimed(["host-1"]), claims.shared(["ticket-1"])) == ({"host-1"}, {"ticket-1"})
    finally:
        if fork == 0:
            os._exit(sys.exc_info()[0] is not None)
    assert [*tmp_path.iterdir()] == [tmp_path / "lab.db"]
