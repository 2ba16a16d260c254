"""``python -m bmhctl`` and the ``bmhctl`` command."""

from __future__ import annotations

import sys
from typing import NoReturn

_OBJECTS = 50_000
"""As many objects as a command's modules make, and more: none is garbage, so nobody need look for some before."""


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit status."""
    import gc

    gc.set_threshold(_OBJECTS)
    try:
        from bmhctl.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # during the imports; later ones are handled where they can be answered
        status = 130
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends the process without taking the interpreter apart first: a tenth of a command's time, for nobody.

    All is written and closed by now. Whoever looks on from inside (a debugger, coverage) sees the ordinary end.
    """
    import atexit
    import os
    import threading
    from contextlib import suppress

    if threading.active_count() > 1 or sys.gettrace() or sys.getprofile():
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
