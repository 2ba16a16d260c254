"""Wait for changes of an inventory: the loop of every command that watches and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from bmhctl.errors import InvalidError, UnreachableError
from bmhctl.usecases.shared.absence import PAUSE, Absence
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

_POLL = 0.1  # seconds between two checks of the version; a check takes microseconds
_POLL_WOKEN = 0.5  # seconds between two checks with a server, which also wakes the process at a change
_SETTLE = (0.01, 0.32)  # seconds; the first and the longest pause while events with smaller ids may still appear
_LOOK_AT_FILE = 0.5

Pause = Callable[[float, int | None], None]
"""Sleeps for some seconds, or until a descriptor is readable, if one is given; may raise to end the wait."""

_Result = TypeVar("_Result")


def await_change(
    ctx: Context, pause: Pause, look: Callable[[], _Result | None], is_due: Callable[[], bool] = lambda: False
) -> _Result:
    """Call ``look`` at once, and again after every commit, until it returns a result; return the result.

    ``look`` is also called when ``is_due()`` is true after a pause, for changes that no commit shows. A changed TOML
    file is synced. While the inventory can't be used, this waits, as :class:`~bmhctl.usecases.shared.absence.Absence`
    describes. Also raises what ``pause`` and ``look`` raise.
    """
    has_looked = False
    with Absence(ctx.report, ctx.store.location, ctx.store) as absence:
        while True:
            try:
                if absence.is_open():
                    changes = _Changes(ctx)
                    while True:
                        if changes.are_any() or is_due():
                            result = look()
                            has_looked = True
                            absence.ends()
                            if result is not None:
                                return result
                        changes.pause(pause)
            except UnreachableError as error:
                absence.record(error)
            except InvalidError as error:  # probably a person is editing the TOML file
                if not has_looked:
                    raise
                absence.record(error)
            pause(PAUSE, None)


class _Changes:
    """Checks whether something was committed since the last look."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._version: int | None = None
        self._looked_at_file = float("-inf")  # check the file at once: it may still be missing or broken
        self._settle = _SETTLE[0]
        ctx.store.follow()

    def are_any(self) -> bool:
        """Return whether to look now, which is true at the first call; sync the TOML file if it changed."""
        version = self._ctx.store.version()  # read before the look, so that commits during the look cause another one
        is_changed = self._is_synced() or version != self._version or self._ctx.store.database.is_settling
        self._version = version
        return is_changed

    def pause(self, pause: Pause) -> None:
        """Sleep until something may have changed."""
        store = self._ctx.store
        if store.database.is_settling:
            pause(self._settle, None)
            self._settle = min(2 * self._settle, _SETTLE[1])
            return
        self._settle = _SETTLE[0]
        wakes = store.wakes()
        pause(_POLL if wakes is None else _POLL_WOKEN, wakes)

    def _is_synced(self) -> bool:
        """Sync the TOML file if it changed, and return whether it did: a sync does not change the version."""
        now = time.monotonic()
        if self._ctx.store.declaration is None or now - self._looked_at_file < _LOOK_AT_FILE:
            return False
        self._looked_at_file = now
        before = self._ctx.store.generation()
        refresh(self._ctx)
        return self._ctx.store.generation() != before
