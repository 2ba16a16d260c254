"""The command line in this process: for thousands of calls, each of which would otherwise start an interpreter."""

from __future__ import annotations

import contextlib
import io
import signal
import time
from collections.abc import Iterator

from bmhctl.cli import main
from tests import forked
from tests.conftest import Run

forked.build_commands_once()

PATIENCE = 30.0
"""Seconds after which a command counts as hanging."""


def call(*args: str) -> Run:
    """Runs a command line; an exception is a defect, and so is a call that hangs."""
    out, err = io.StringIO(), io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _handlers():
        status = main.run(list(args))
    assert time.monotonic() - began < PATIENCE, f"{args} took too long"
    return Run(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
