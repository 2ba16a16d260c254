"""What is mounted where, as this process sees it."""

from __future__ import annotations

import re
from pathlib import Path


def mounts() -> dict[str, str]:
    """Return the kind of file system at each mount point; empty where Linux does not list them."""
    try:
        text = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    found = (line.split(" ") for line in text.splitlines())
    return {_unescaped(fields[1]): fields[2] for fields in found if len(fields) > 2}


def _unescaped(place: str) -> str:
    """Return a path as it is: the kernel writes blanks, tabs, newlines and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place) if "\\" in place else place
