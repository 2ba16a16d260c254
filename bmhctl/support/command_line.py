"""The command lines of processes, as Linux lists them."""

from __future__ import annotations

from pathlib import Path


def words_of(process: int) -> list[str]:
    """Return the words of a process's command line; empty where they can't be read."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def command_of(process: int) -> str:
    """Return a process's command line as one line of at most 80 characters; empty where it can't be read."""
    text = " ".join(word for word in words_of(process) if word)
    return text if len(text) <= 80 else f"{text[:79]}…"
