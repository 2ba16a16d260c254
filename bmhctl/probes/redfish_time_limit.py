"""How long a conversation with a BMC may last, and what to report when its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable

from bmhctl.probes.cancellation import Cancelled, InterruptedStepError
from bmhctl.probes.credentials import BmcError
from bmhctl.probes.redfish_errors import POWER_HINT, PassingError

POLL = 0.5
"""Seconds between two reads while a change is awaited."""

_MORE_TIME = "a longer timeout waits for a BMC that is restarting or busy"
_LAST_TRY = 5.0  # seconds before the deadline in which a BMC is asked again although it asks to wait longer
_BUSY_PAUSE = 1.0  # seconds before a request is repeated, when the BMC does not say how long to wait


class TimeLimit:
    """The time for one BMC: ``seconds`` from ``started`` (:func:`time.monotonic`) on, or until it is cancelled."""

    def __init__(self, name: str, seconds: float, started: float, cancelled: Cancelled) -> None:
        self.seconds = seconds
        self._name = name
        self._deadline = started + seconds
        self._cancelled = cancelled
        self.unconfirmed: BmcError | None = None
        """Why bmhctl does not know whether the BMC accepted the last action; None if it did."""
        self.hint: str | None = None
        """What to do about the action that was sent last; None if its effect was seen, or none was sent."""
        self._sent: str | None = None
        self._expected: Callable[[], BmcError] | None = None
        self._trouble: BmcError | None = None
        self._has_answered = False

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    @property
    def part(self) -> float:
        """Seconds for one of several requests, so that a lost answer does not take all the time."""
        return max(1.0, self.seconds / 3)

    def check(self) -> None:
        """Raise :class:`InterruptedStepError` once it is cancelled, and what :meth:`late` returns at the deadline."""
        if self._cancelled.is_set():
            raise InterruptedStepError
        if self.left <= 0:
            raise self.late()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the deadline; at the deadline raise what :meth:`late` returns."""
        if self._cancelled.wait(min(seconds, max(0.0, self.left))):
            raise InterruptedStepError
        if self.left <= 0:
            raise self.late()

    def retry_later(self, passing: PassingError) -> None:
        """Wait before a request that the BMC did not act on is repeated; at the deadline raise its error."""
        if passing.silent:
            self.note_silence()
        else:
            self._trouble = passing.error
        if passing.after is not None and passing.after >= self.seconds and passing.error.hint is None:
            passing.error.hint = f"the BMC asks to wait for {passing.after:.0f} s"
        self.pause_after(passing)

    def pause_after(self, passing: PassingError) -> None:
        """Wait as long as the BMC asks for, or one second; where that is beyond the deadline, try shortly before it."""
        seconds = _BUSY_PAUSE if passing.after is None else passing.after
        self.pause(seconds if seconds < self.left else max(_BUSY_PAUSE, self.left - _LAST_TRY))

    def note_answer(self) -> None:
        """Record that the BMC answered, for the message at the deadline."""
        self._trouble, self._has_answered = None, True

    def note_silence(self) -> None:
        """Record that a request got no answer in its time, for the message at the deadline."""
        self._trouble, self._has_answered = None, False

    def note_sent(self, what: str | None, unconfirmed: BmcError | None = None, hint: str = POWER_HINT) -> None:
        """Record the action that was sent, for the message at the deadline; None once its effect was seen.

        ``unconfirmed`` is the error that came instead of a confirmation, ``hint`` what to do if it is not seen.
        """
        self.hint = None if what is None else hint
        self._expected = None
        self._sent, self.unconfirmed, self._has_answered = what, unconfirmed, unconfirmed is None

    def expect(self, error: Callable[[], BmcError]) -> None:
        """Set what :meth:`late` returns if the BMC answers until the deadline, but does not show what is awaited."""
        self._expected = error

    def late(self) -> BmcError:
        """Return the error for a deadline that has passed."""
        trouble = self._trouble
        if self._expected is not None and self._has_answered and trouble is None:
            return self._expected()
        if self._sent is not None:
            since = f": {trouble.message}" if trouble else ""
            return BmcError(f"{self._sent} was sent; {self._name} has not answered since{since}", hint=self.hint)
        if trouble is not None:
            return BmcError(f"{trouble.message}, for {self.seconds:g} s", hint=trouble.hint or _MORE_TIME)
        if self._has_answered:
            return BmcError(f"{self._name} did not answer all requests in {self.seconds:g} s", hint=_MORE_TIME)
        return BmcError(f"{self._name} did not answer in {self.seconds:g} s", hint=_MORE_TIME)
