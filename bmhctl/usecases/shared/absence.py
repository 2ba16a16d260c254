"""Wait for an inventory that is away: one rule for every command that waits or watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bmhctl.errors import AwayError, BmhctlError, InvalidError, MovedError, UnreachableError
from bmhctl.stores import reopen
from bmhctl.usecases.shared.context import Context

LONGEST = 600.0
"""Seconds for which a waiting or watching command waits for its inventory."""

PAUSE = 0.3
"""Seconds between two tries to reach it."""

_Result = TypeVar("_Result")


class Absence:
    """An inventory that can't be used for a while: reports why, and when it can be used again."""

    def __init__(self, report: Callable[[str], None], location: str) -> None:
        self._report = report
        self._location = location
        self._began: float | None = None
        self._reason = ""

    def goes_on(self, reason: BmhctlError) -> None:
        """Note that it is away; raise ``reason`` when that has lasted for :data:`LONGEST`."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began > LONGEST:
            raise reason
        if reason.message != self._reason:
            self._report(f"{reason.message}; waiting until it is back")
        self._reason = reason.message

    def ends(self) -> None:
        """Note that it is back, if it was away."""
        if self._began is not None:
            self._report(f"{self._location} is back")
        self._began, self._reason = None, ""


class Reopening:
    """Opens an inventory again that was moved or replaced while it was in use."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._is_due = False

    def note(self, error: BmhctlError) -> None:
        """Note an error: after a :class:`MovedError`, the inventory has to be opened again."""
        self._is_due |= isinstance(error, MovedError)

    def is_done(self, absence: Absence) -> bool:
        """Open it if necessary; return False if it is still away, which is reported to ``absence``."""
        if not self._is_due:
            return True
        try:
            reopen(self._ctx.store)
        except (UnreachableError, InvalidError) as error:  # a part of it may be there already
            absence.goes_on(error)
            return False
        self._is_due = False
        return True


def outlast(absence: Absence, pause: Callable[[], None], act: Callable[[], _Result]) -> _Result:
    """Return what ``act`` returns; repeat it, with pauses, as long as it raises :class:`AwayError`.

    Raises that error when the inventory is away for longer than :data:`LONGEST`.
    """
    while True:
        try:
            result = act()
        except AwayError as error:
            absence.goes_on(error)
        else:
            absence.ends()
            return result
        pause()
