"""Fixtures for the tests of ``run``: available hosts, running tasks, and their results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest

from bmhctl.stores.host_query import HostQuery
from bmhctl.support.watchdog import processes
from bmhctl.usecases import hosts
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab, Run, environment, run_bmhctl
from tests.forked import Process

BMHCTL = [sys.executable, "-W", "error", "-m", "bmhctl"]

PATCHED = """
import os, signal, sys, time
import bmhctl.cli.run as running
import bmhctl.runner.child as child
import bmhctl.runner.task as task
from bmhctl.cli.main import run

def killed_by_itself(function, number, *, before=False, after=False):
    def wrapped(*args, **kwargs):
        if before:
            os.kill(os.getpid(), number)
        result = function(*args, **kwargs)
        if after:
            os.kill(os.getpid(), number)
        return result
    return wrapped

{patch}
sys.exit(run(sys.argv[1:]))
"""


@dataclass
class Turn:
    """A running ``bmhctl run`` whose output goes into a pipe."""

    process: Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line that the task prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> Run:
        """Return how ``run`` ended; if it does not end, fail the test with a description of its processes."""
        try:
            stdout, stderr = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            family = describe_family(self.pid)
            self.send(signal.SIGABRT)  # faulthandler then writes the stack of each thread to stderr
            self.send(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                family += "\n".join(self.process.communicate(timeout=5))
            pytest.fail(f"bmhctl run did not end:\n{family}")
        status = self.process.returncode
        return Run(status if status >= 0 else 128 - status, stdout, stderr)


@dataclass
class Fleet:
    """An inventory with available hosts, and commands that use them."""

    lab: Lab
    started: list[Process] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.lab.path.parent

    @property
    def environ(self) -> dict[str, str]:
        return {"BMHCTL_INVENTORY": self.lab.location, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def bmhctl(self, *args: str, stdin: str | bytes | None = None, **env: str) -> Run:
        return run_bmhctl(*args, cwd=self.folder, stdin=stdin, **{**self.environ, **env})

    def start(self, *args: str, patch: str | None = None, pipe_in: bool = False, **env: str) -> Turn:
        """Starts ``bmhctl ARGS``; ``patch`` is code that runs before it in its process."""
        environ = environment(**{**self.environ, "PYTHONFAULTHANDLER": "1", **env})
        code = None if patch is None else PATCHED.format(patch=patch)
        process = Process(args, self.folder, environ, code=code)
        if not pipe_in:
            process.stdin.close()
        self.started.append(process)
        return Turn(process)

    def states(self) -> dict[str, str]:
        """Each host's state."""
        return {host.name: str(host.state) for host in self.lab.context().store.hosts.find(HostQuery())}

    def history(self) -> list[tuple[str, str, str | None]]:
        """Return the events since the hosts were available: host, verb, reason."""
        events = [(e.host, str(e.verb), e.reason) for e in self.lab.context().store.events.read()]
        start = max(place for place, event in enumerate(events) if event[1] == "ready")
        return events[start + 1 :]

    def open_reservations(self) -> list[str]:
        return [reservation.id for reservation in self.lab.context().store.reservations.open()]

    def recycle(self) -> None:
        """Makes every host available again."""
        self.lab.clock.now = datetime.now(UTC)
        step_verbs.reset(self.lab.context(), Choice(states=frozenset({_state("tainted")})))
        step_verbs.ready(self.lab.context(), Choice(states=frozenset({_state("initial")})))
        self.lab.close()


def _state(name: str) -> Any:
    from bmhctl.domain.model import State

    return State(name)


def make_fleet(lab: Lab, names: str = "node[1-3]") -> Fleet:
    lab.clock.now = datetime.now(UTC)
    facts = hosts.AttributeChanges(labels={"arch": "arm64"})
    hosts.add(lab.context(), [names], facts)
    step_verbs.ready(lab.context(), Choice(everything=True))
    lab.close()
    return Fleet(lab)


def _ended(fleet: Fleet) -> None:
    for process in fleet.started:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    """node1 to node3, available; once on each backend."""
    made = make_fleet(lab)
    yield made
    _ended(made)


@pytest.fixture
def toml_fleet(toml_lab: Lab) -> Iterator[Fleet]:
    """The hosts of ``fleet`` in a TOML inventory, for tests in which the backend does not matter."""
    made = make_fleet(toml_lab)
    yield made
    _ended(made)


def children(pid: int) -> list[int]:
    """The living children of a process."""
    return sorted(child for child, (parent, _, _) in (processes() or {}).items() if parent == pid)


def describe_family(root: int) -> str:
    """Return what a process and its descendants are doing: command, state, kernel function, open files."""
    known = processes() or {}
    members, waiting = [], [root]
    while waiting:
        members.append(waiting.pop())
        waiting += [child for child, (parent, _, _) in known.items() if parent == members[-1]]
    lines = []
    for member in members:
        folder = Path("/proc", str(member))
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            lines.append(f"{member} {state} {(folder / 'wchan').read_text()} {command}")
            lines += [f"  {handle.name} {os.readlink(handle)}" for handle in (folder / "fd").iterdir()]
    return "\n".join(lines) + "\n"


def read(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()
