"""Wait for an inventory that can't be reached or is not valid: one rule for every command that waits or watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeVar

from bmhctl.errors import AwayError, BmhctlError, InvalidError, MovedError, UnreachableError, WaitTimeoutError
from bmhctl.stores import reopen

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

LONGEST = 600.0
"""Seconds for which a command that waits or watches also waits for an unusable inventory."""

PAUSE = 0.3
"""Seconds between two attempts to reach the inventory."""

_Result = TypeVar("_Result")


class Absence:
    """A time during which an inventory can't be used; reports each reason once, and the end of the time.

    ``reason`` is why the inventory can't be used now; empty if it can. ``store`` is opened again after the inventory
    was moved or replaced; None while an inventory is opened for the first time. If the wait in a ``with`` block times
    out, the error also says why the inventory can't be used.
    """

    def __init__(self, report: Callable[[str], None], location: str, store: Store | None = None) -> None:
        self._report = report
        self._location = location
        self._store = store
        self._is_replaced = False
        self._began: float | None = None
        self._is_broken = False
        self._reported: set[str] = set()
        self.reason = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, WaitTimeoutError) and self.reason:
            raise WaitTimeoutError(f"{error.message}: {self.reason}", hint=error.hint) from None

    def record(self, reason: BmhctlError, *, is_busy: bool = False) -> None:
        """Record that the inventory can't be used; after :data:`LONGEST` raise ``reason``, unless ``is_busy``."""
        self._is_replaced |= isinstance(reason, MovedError)
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began > LONGEST and not is_busy:
            raise reason
        self._is_broken = isinstance(reason, InvalidError)  # for example, while a user is editing the file
        self.reason = reason.message
        if self.reason not in self._reported:  # two reasons may alternate several times a second
            self._reported.add(self.reason)
            self._report(f"{self.reason}; waiting until {'that is fixed' if self._is_broken else 'it is back'}")

    def ends(self) -> None:
        """Record that the inventory can be used; report it if it could not be before."""
        if self._began is not None:
            self._report(f"{self._location} is {'valid again' if self._is_broken else 'back'}")
            self._reported.clear()
        self._began, self._is_broken, self._is_replaced, self.reason = None, False, False, ""

    def is_open(self) -> bool:
        """Open the inventory again if it was replaced; if it still can't be opened, record that and return False."""
        if self._is_replaced and self._store is not None:
            try:
                reopen(self._store)
            except (UnreachableError, InvalidError) as error:  # its files may appear one after the other
                self.record(error)
                return False
        self._is_replaced = False
        return True


def outlast(absence: Absence, pause: Callable[[], None], act: Callable[[], _Result]) -> _Result:
    """Return what ``act`` returns; repeat it, with pauses, as long as it raises :class:`AwayError`.

    Raises the error when the inventory can't be used for longer than :data:`LONGEST`, and what ``pause`` raises.
    """
    while True:
        try:
            if absence.is_open():
                result = act()
                absence.ends()
                return result
        except AwayError as error:
            absence.record(error)
        with absence:
            pause()
