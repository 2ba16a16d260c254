"""Sort names by the value of the numbers in them: r2 before r10."""

from __future__ import annotations

import re


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares the numbers in a text by value, so that r2 comes before r10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]+", text)
    return [(0, int(part), "") if part.isdecimal() and len(part) < 19 else (1, 0, part) for part in parts]
