"""The ``bmhctl`` command, and ``python -m bmhctl``: start the process and end it with its status."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built in, and without a stub: the module around it takes a millisecond
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from typing import NoReturn

_INTERRUPTED = 130
_SOON = 0.001  # seconds; by then, the callback has ended
_OBJECTS = 1_000_000
"""Collection threshold: more objects than a command makes for 10,000 hosts, and almost none becomes garbage."""


def _leave_at_once(_: int, __: object) -> None:
    os._exit(_INTERRUPTED)  # end at once: nothing has begun, and an exception in an import would print a traceback


def _raise_soon(ignored: UnraisableHookArgs) -> None:
    """Raise an interruption again that Python ignored because it came during a callback, such as one after an
    import."""
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    interruption = ignored.exc_value

    def interrupt(_: int, __: object) -> None:
        raise interruption

    _signal.signal(_signal.SIGALRM, interrupt)
    _signal.setitimer(_signal.ITIMER_REAL, _SOON)


if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # otherwise the signal is ignored, as under nohup
    _signal.signal(_signal.SIGINT, _leave_at_once)


def main() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    import gc

    gc.set_threshold(_OBJECTS)
    sys.unraisablehook = _raise_soon
    from bmhctl.cli.main import leave, run

    try:
        if _signal.getsignal(_signal.SIGINT) is _leave_at_once:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the command began; `run` handles later ones
        status = _INTERRUPTED
    leave(status)


if __name__ == "__main__":
    main()
