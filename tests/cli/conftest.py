"""Fixtures for the tests of the command line: fast calls in this process, and real terminals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import ptyprocess
import pytest

from bmhctl.cli.main import run
from tests import forked
from tests.conftest import Bmhctl, Run, environment, write_copy

forked.build_commands_once()

Cli = Callable[..., Run]
Prepared = Callable[[Callable[[Cli], Any]], Any]
Terminal = Callable[..., "Screen"]

INVENTORY = """\
[defaults]
quarantine_after = 2

[hosts.node01]
address = "10.0.0.11"
mac = "bc:55:85:92:de:01"
labels = { arch = "x86_64", rack = "r1" }
hardware = { cpus = 64, memory = "256GiB" }
bmc = { address = "redfish+https://10.0.1.11/redfish/v1/Systems/1", credentials = "env:LAB_BMC" }
note = "left slot, top"

[hosts.node02]
address = "10.0.0.12"
labels = { arch = "x86_64", rack = "r2" }

[hosts.node03]
labels = { arch = "arm64", rack = "r2" }
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process: a tenth of the time of a real one, with the same streams and status."""
    monkeypatch.chdir(tmp_path)
    wanted = environment()
    for name in set(os.environ) - {*wanted, "PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)

    def call(*args: str, **env: str) -> Run:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            capfd.readouterr()
            status = run(list(args))
        sys.stdout.flush()
        return Run(int(status), *capfd.readouterr())

    return call


@pytest.fixture
def prepared(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Calls a function in an empty folder, or copies the files that an earlier call has left, and returns its result.

    The function is called for the first of several tests, in another folder; for half a minute, other tests get copies.
    """

    def prepare(make: Callable[[Cli], Any]) -> Any:
        key = f"{make.__module__}.{make.__qualname__}"
        if key not in _left or time.monotonic() - _left[key].at > _FRESH:
            with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
                patch.chdir(folder)
                returned = make(cli)
                files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
            _left[key] = _Left(time.monotonic(), files, returned)
        write_copy(_left[key].files, tmp_path)
        return _left[key].returned

    return prepare


@dataclass(frozen=True)
class _Left:
    """The files that a function has left in its folder, the time, and the value that it returned."""

    at: float
    files: dict[str, bytes]
    returned: Any


_left: dict[str, _Left] = {}

_FRESH = 30.0  # seconds; not longer, because many commands print ages


@pytest.fixture
def lab(tmp_path: Path, prepared: Prepared) -> Path:
    """Three hosts that are initial, in bmh.toml of this folder."""
    prepared(three_hosts)
    return tmp_path / "bmh.toml"


def three_hosts(cli: Cli) -> None:
    Path("bmh.toml").write_text(INVENTORY)
    assert cli("list", "-o", "name").status == 0


@pytest.fixture
def fleet(lab: Path, prepared: Prepared) -> str:
    """Reserve node01 of ``lab`` for alice, and make node02 available; return the reservation's id."""
    identifier: str = prepared(one_reserved)
    return identifier


def one_reserved(cli: Cli) -> str:
    three_hosts(cli)
    cli("ready", "node01", "node02")
    return json_of(cli("reserve", "node01", "--for", "nightly", "-o", "json"))["reservation"]["id"]


def json_of(done: Run) -> Any:
    """Return the JSON that a successful command printed."""
    assert (done.status, done.stderr) == (0, "")
    return json.loads(done.stdout)


def error_of(done: Run) -> Any:
    """Return the JSON object on stderr of a command that failed."""
    document = json.loads(done.stderr)
    assert document["version"] == 1
    assert document["error"]["status"] == done.status
    return document["error"]


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its bytes, except the files that SQLite keeps beside an open database."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@dataclass(frozen=True)
class Screen:
    """The output of a command on a terminal, and its exit status."""

    status: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class _Forked(ptyprocess.PtyProcess):
    """The terminal of a forked command, for pexpect: the command is no child of this process."""

    def __init__(self, command: forked.Ending, terminal: int) -> None:
        super().__init__(command.pid, terminal)
        self._command = command

    def isalive(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._ended(self._command.wait(2 if self.fileobj.closed else 0))
        return not self.terminated

    def wait(self) -> int | None:
        self._ended(self._command.wait())
        return self.exitstatus

    def _ended(self, status: int) -> None:
        self.terminated = True
        self.exitstatus, self.signalstatus = (status, None) if status >= 0 else (None, -status)


def spawn(*args: str, cwd: Path, width: int = 80, **env: str) -> Any:
    """The real command on a separate terminal."""
    environ = environment(**{"TERM": "xterm-256color", **env})
    settings: dict[str, Any] = {"encoding": "utf-8", "timeout": 20}
    if not forked.can_run(environ):
        command = ["-W", "error", "-m", "bmhctl", *args]
        return pexpect.spawn(sys.executable, command, cwd=str(cwd), env=environ, dimensions=(50, width), **settings)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (50, width))
    child = pexpect.spawn(None, **settings)
    child.ptyproc = _Forked(forked.on_terminal(args, cwd, environ, theirs), ours)
    os.close(theirs)
    child.pid, child.child_fd, child.closed, child.terminated = child.ptyproc.pid, ours, False, False
    return child


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """Runs the real command on a terminal."""

    def call(*args: str, width: int = 80, **env: str) -> Screen:
        child = spawn(*args, cwd=tmp_path, width=width, **env)
        text = child.read().replace("\r\n", "\n")
        child.close()
        return Screen(child.exitstatus if child.signalstatus is None else 128 + child.signalstatus, text)

    return call


__all__ = ["Bmhctl", "Cli", "Run", "Screen", "Terminal"]
