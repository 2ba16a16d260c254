"""The ``bmhctl`` command, and ``python -m bmhctl``: start the process and end it with its status."""

from __future__ import annotations

import sys
from typing import NoReturn

_OBJECTS = 1_000_000
"""As many objects as a command's modules and 10,000 hosts make: hardly any is garbage, so nobody looks before."""


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit status."""
    import gc

    gc.set_threshold(_OBJECTS)
    try:
        from bmhctl.cli.main import leave, run
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # where nothing has begun yet; later ones are handled where they can be answered
        status = 130
    leave(status)


if __name__ == "__main__":
    main()
