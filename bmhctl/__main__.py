"""The ``bmhctl`` command, and ``python -m bmhctl``: start the process and end it with its status."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built in, and without a stub: the module around it takes a millisecond
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_INTERRUPTED = 130
_OBJECTS = 1_000_000
"""As many objects as a command's modules and 10,000 hosts make: hardly any is garbage, so nobody looks before."""


def _leave_at_once(_: int, __: object) -> None:
    os._exit(_INTERRUPTED)  # nothing has begun yet, and an exception in an import would be shown


if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored, and stays so
    _signal.signal(_signal.SIGINT, _leave_at_once)


def main() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    import gc

    gc.set_threshold(_OBJECTS)
    from bmhctl.cli.main import leave, run

    try:
        if _signal.getsignal(_signal.SIGINT) is _leave_at_once:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # where nothing has begun yet; later ones are handled where they can be answered
        status = _INTERRUPTED
    leave(status)


if __name__ == "__main__":
    main()
