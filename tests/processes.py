"""Other processes that work on an inventory, and waiting for what they make true."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

from tests.conftest import environment


def spawn(*args: str, **extra: str) -> subprocess.Popen[str]:
    """Starts Python with these arguments."""
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


def until(condition: Callable[[], object]) -> None:
    """Awaits what another process makes true; a test that waits too long has failed."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)
