"""A forked command has the same status and output as one in a new interpreter."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import Run, environment, run_bmhctl
from tests.forked import Process

pytestmark = pytest.mark.slow

PRINT = "import os, sys; print(os.getcwd(), sys.stdin.read(), os.environ.get('TZ'), os.environ.get('BMHCTL_HOSTS'))"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["list", "-o", "json"], {}),
        (["history"], {"TZ": "Asia/Tokyo"}),
        (["show", "\udcff"], {}),
        (["no-such-command"], {}),
        (["-i", "none.db", "list"], {"COLUMNS": "40"}),
        (["import", "-", "--dry-run"], {}),
        (["run", "--host", "node1", "--", "python3", "-c", PRINT], {"TZ": "Asia/Tokyo"}),
        (["run", "--host", "node1", "--", "sh", "-c", "kill -TERM $$"], {}),
    ],
    ids=lambda value: " ".join(value[:3]).encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_a_forked_command_gives_the_same_result_as_an_interpreter(
    arguments: list[str], extra: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "lab1", tmp_path / "lab2"
    for folder in folders:
        folder.mkdir()
        for line in ("init", "add node1", "ready node1"):
            assert run_bmhctl(*line.split(), cwd=folder).status == 0

    def ended(folder: Path) -> Run:
        done = run_bmhctl(*arguments, cwd=folder, stdin="node2\n", **extra)
        return Run(done.status, _plain(done.stdout, folder), _plain(done.stderr, folder))

    one = ended(folders[0])
    monkeypatch.setattr(forked, "can_run", lambda environ: False)
    assert one == ended(folders[1])


def _plain(text: str, folder: Path) -> str:
    """Return the output without the parts that differ between inventories."""
    import re

    return re.sub(r"\d{4}-\d\d-\d\d.\d\d:\d\d(:\d\d)?|\br-\w+|\d+(\.\d+)? ?m?s\b", "…", text.replace(str(folder), "…"))


def test_a_script_gets_the_streams_and_the_end_of_a_command_that_is_forked(tmp_path: Path, forking: Path) -> None:
    def script(text: str) -> Run:
        environ = environment(PATH=f"{forking}:/usr/bin:/bin", BMHCTL_INVENTORY="lab.toml")
        done = subprocess.run(["sh", "-c", text], cwd=tmp_path, env=environ, input=b"node2\n", capture_output=True)
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())

    assert script("bmhctl -i lab.toml init -q && bmhctl add -q node1 && bmhctl ready -q node1") == Run(0, "", "")
    assert script("bmhctl list -o name | cat") == Run(0, "node1\n", "")
    assert script("bmhctl run --host node1 --on-exit recycle -- sh -c 'cat; exit 3'") == Run(3, "node2\n", "")
    refused = script("bmhctl show $(printf '\\377')")
    assert (refused.status, refused.stdout, r"\udcff" in refused.stderr) == (2, "", True)
    assert script("bmhctl run --host node1 -- sh -c 'kill -9 $PPID'").status == 128 + signal.SIGKILL


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LC_TIME", "LANG"])
def test_environment_variables_read_at_start_need_a_new_interpreter(variable: str) -> None:
    environ = {"LC_ALL": "C.UTF-8", "HOME": "/"}
    assert forked.can_run(environ)
    assert not forked.can_run({**environ, variable: "x"} if variable != "LANG" else {"HOME": "/", "LANG": "de_DE"})


BESIDE = """
import os, sys
print(os.getpid(), *sys.argv[1:], flush=True)
print(sys.stdin.readline().strip(), file=sys.stderr, flush=True)
sys.stdin.read()
raise SystemExit(3)
"""


def test_a_forked_process_has_the_interface_of_popen(tmp_path: Path) -> None:
    ended, stopped = (Process(["a", "b"], tmp_path, environment(), code=BESIDE) for _ in range(2))
    for process in (ended, stopped):
        assert process.stdout.readline() == f"{process.pid} a b\n"
        process.stdin.write("given\n")
        process.stdin.flush()
        assert process.stderr.readline() == "given\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        if process is stopped:
            process.terminate()
        assert process.communicate(timeout=60) == ("", "")
        process.kill()  # it has ended
    assert (ended.returncode, stopped.returncode) == (3, -signal.SIGTERM)
