"""Start other processes that work on an inventory, and wait for their effects."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import forked
from tests.conftest import environment
from tests.forked import Process

SHORT_CLAIMS = """
from bmhctl.__main__ import main
from bmhctl.stores.postgres import claims, connection

claims.LENGTH, claims._MICROSECONDS = 5.0, 5_000_000
claims._RENEW, claims._RETRY, claims._MARGIN = 0.5, 0.2, 3.5
connection.SILENCE, connection.CONNECT_PATIENCE = 2.0, 2
main()
"""
"""The command with its time limits for a server divided by five or six, so that the order of events stays the same.

A claim that can't be renewed counts as lost after 1.5 s; a server that does not answer is given up after 2 s.
"""


def spawn(*args: str, **extra: str) -> Process | subprocess.Popen[str]:
    """Starts ``python ARGS``, with nothing in its stdin: forks it where it is ``-m bmhctl …`` or ``-c CODE …``."""
    environ = environment(**extra)
    if forked.can_run(environ) and args[:2] == ("-m", "bmhctl"):
        process = Process(args[2:], Path.cwd(), environ)
    elif forked.can_run(environ) and args[0] == "-c":
        process = Process(args[2:], Path.cwd(), environ, code=args[1])
    else:
        return start(*args, **extra)
    process.stdin.close()
    return process


def start(*args: str, **extra: str) -> subprocess.Popen[str]:
    """Starts ``python ARGS`` in a separate interpreter: for tests of its start, its imports or its arguments."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *args],
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(pid: int) -> bool:
    """Return whether a process has ended or ends within 10 seconds; one that nothing waits for may stay a zombie."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 10)[0])
    finally:
        os.close(handle)


def lives(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], object], what: str = "it never came to pass") -> None:
    """Wait until a condition holds that another process brings about; fail the test if that takes too long.

    If a check of the condition takes long, it is repeated less often, to leave the processor to the awaited process and
    to other tests.
    """
    deadline = time.monotonic() + 40
    while True:
        began = time.monotonic()
        if condition():
            return
        assert began < deadline, what
        time.sleep(min(max(0.005, 10 * (time.monotonic() - began)), 0.3))
