"""Find the program of a step, or explain why it is not found."""

from __future__ import annotations

import os
from shutil import which


def is_there(program: str, folder: str, path: str) -> bool:
    """Return whether a program can be run in ``folder``; ``path`` is the ``$PATH`` to search."""
    known = os.pathsep.join(os.path.join(folder, each) for each in path.split(os.pathsep))
    return which(os.path.join(folder, program) if "/" in program else program, path=known) is not None


def why_missing(program: str, folder: str) -> str:
    """Return a text to append to the message for a missing program; empty if there is nothing to add.

    It says where relative paths start (``folder``), or that the program is in the folder itself.
    """
    if "/" not in program:
        return f"; did you mean ./{program}?" if os.path.exists(os.path.join(folder, program)) else ""
    return "" if program.startswith("/") else f" (relative paths start at {folder})"
