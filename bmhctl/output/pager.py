"""Show a long text on a terminal in the user's pager."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping

from bmhctl.output.render import Display, window_of

_LESS = "FRX"
"""The options of ``less``, as git sets them: end if the text fits on one screen, keep colours and the screen."""

_NOT_RUN = (126, 127)  # the exit statuses of sh and env for a program that they can't run


def show_in_pager(text: str, display: Display, environ: Mapping[str, str]) -> bool:
    """Show a text that is longer than the terminal in ``$PAGER``, else ``less``; return False if it was not shown.

    It is not shown if stdout or stdin is not a terminal, for ``PAGER=cat``, and if ``$PAGER`` can't be run.
    """
    if not display.stdout_tty or not sys.stdin.isatty() or environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        pager = shlex.split(environ.get("PAGER", "less"))
    except ValueError:  # an unbalanced quote
        return False
    if not pager or pager[0] == "cat" or text.count("\n") < window_of(display.stdout).lines:
        return False
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the pager
    try:
        process = subprocess.Popen(pager, stdin=subprocess.PIPE, env={"LESS": _LESS, **environ})
        process.communicate(text.encode(display.stdout.encoding or "utf-8", "replace"))
    except OSError:  # no such program, or a file that can't be executed
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    return process.returncode not in _NOT_RUN
