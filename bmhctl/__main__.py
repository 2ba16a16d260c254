"""``python -m bmhctl`` and the ``bmhctl`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    try:
        from bmhctl.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # during the imports; later ones are handled where they can be answered
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
