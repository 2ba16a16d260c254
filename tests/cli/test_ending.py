"""How the process ends: at once, after all output is written and all atexit functions were called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import environment


def ended(prologue: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"import atexit, os, sys, threading\n{prologue}\nfrom bmhctl.__main__ import main\nmain()"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], cwd=cwd, env=environment(), capture_output=True, text=True
    )


def test_the_exit_status_and_all_output_arrive(tmp_path: Path) -> None:
    done = ended("", "-i", "lab.db", "init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "next: bmhctl -i lab.db add node01\n")
    assert done.stdout.startswith("created ")
    done = ended("", "-i", "other.db", "list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (11, "")
    assert done.stderr.startswith("bmhctl: there is no inventory at ")
    assert done.stderr.endswith(" init\n")


def test_atexit_functions_are_called(tmp_path: Path) -> None:
    done = ended("atexit.register(print, 'goodbye')", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["goodbye"])


def test_the_process_waits_for_a_thread_that_still_works(tmp_path: Path) -> None:
    prologue = """
ended = threading.Event()
atexit.register(ended.set)
def work():
    threading.main_thread().join()  # the command is over
    sys.stdout.write("worked\\n")
threading.Thread(target=work).start()
"""
    done = ended(prologue, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["worked"])


def test_a_profiled_process_destroys_its_objects_at_the_end(tmp_path: Path) -> None:
    prologue = """
sys.setprofile(lambda *_: None)
class Witness:
    def __del__(self, write=os.write):
        write(2, b"torn down")
witness = Witness()
"""
    assert ended(prologue, "--version", cwd=tmp_path).stderr == "torn down"
