"""What can come between a command and its inventory in another process or on another machine."""

from __future__ import annotations

from bmhctl.errors import UnreachableError

FASTER = "another command was faster"
"""What happened, in a :class:`ConflictError`'s words."""


class ConflictError(UnreachableError):
    """Two transactions got in each other's way and this one was undone: done again, it succeeds as a rule."""


class UncertainError(UnreachableError):
    """The connection broke while the commit's answer was awaited: it may have taken effect or not."""
