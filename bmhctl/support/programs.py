"""Find the program of a step, and say why it is not found."""

from __future__ import annotations

import os
from shutil import which


def is_there(program: str, folder: str, path: str) -> bool:
    """Return whether a program can be run from ``folder``; ``path`` is the ``$PATH`` that is searched for it."""
    known = os.pathsep.join(os.path.join(folder, each) for each in path.split(os.pathsep))
    return which(os.path.join(folder, program) if "/" in program else program, path=known) is not None


def why_missing(program: str, folder: str) -> str:
    """Return what a message adds about a program that was not found from ``folder``: where relative paths start, or
    that it is in the folder itself; empty where neither helps.
    """
    if "/" not in program:
        return f"; did you mean ./{program}?" if os.path.exists(os.path.join(folder, program)) else ""
    return "" if program.startswith("/") else f" (relative paths start at {folder})"
