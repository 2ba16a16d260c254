"""Run whole processes in the form in which they are installed, and measure their time and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bmhctl
from tests.benchmarks.harness import Bench

HELLO = """\
import typer

app = typer.Typer()


@app.command()
def main(name: str = "World") -> None:
    print(f"Hello {name}")


app()
"""
"""The smallest command line written with Typer: the floor of a command."""

_CONSOLE_SCRIPT = """\
#!{python}
import sys
from bmhctl.__main__ import main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""

_PEAK = """\
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Cost:
    """The time of a process from its start to its end, in seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Programs:
    """The programs that are compared; all use the same Python and the same libraries."""

    python: str
    bmhctl: str
    hello: str

    def run(self, *command: str, output: Path | None = None) -> Cost:
        """Runs a command to its end; raises when it fails."""
        target = str(output or os.devnull)
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        began = time.perf_counter()
        child = os.posix_spawn(command[0], command, environment(), file_actions=streams)
        _, status, used = os.wait4(child, 0)
        wall = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        return Cost(wall, used.ru_utime + used.ru_stime)

    def peak(self, *command: str) -> int:
        """The most memory that a command had, in bytes."""
        done = subprocess.run(
            [self.python, "-c", _PEAK, *command], env=environment(), stdout=subprocess.PIPE, check=True
        )
        return int(done.stdout) * 1024


def environment() -> dict[str, str]:
    """Return the environment of every process, without variables of the caller that would change its behaviour."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", "BMHCTL_ACTOR": "alice@lab"}


def programs(bench: Bench) -> Programs:
    """Install bmhctl into a separate virtual environment, with compiled files and a console script.

    An editable installation would add a hook to every start of Python.
    """
    return bench.once(programs, lambda: _install(bench.folder / "installed"))


def _install(folder: Path) -> Programs:
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    package = Path(bmhctl.__file__).parent
    shutil.copytree(package, site / "bmhctl", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([python, "-m", "compileall", "-q", str(site)], check=True)
    script = folder / "bin" / "bmhctl"
    script.write_text(_CONSOLE_SCRIPT.format(python=python))
    script.chmod(0o755)
    hello = folder / "hello.py"
    hello.write_text(HELLO)
    return Programs(python, str(script), str(hello))


def words(command: Sequence[str]) -> str:
    """A command as a person types it."""
    return " ".join(command)
