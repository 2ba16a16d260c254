"""Follow the history: pass on each event once, as it is recorded, in the order of the ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice

from bmhctl.domain.model import Event
from bmhctl.errors import NotFoundError, UsageError
from bmhctl.stores.events import EventQuery
from bmhctl.support.values import replace
from bmhctl.usecases.history import HistoryRequest, find_history
from bmhctl.usecases.shared.changes import Pause, await_change
from bmhctl.usecases.shared.context import Context

HandOn = Callable[[Sequence[Event], datetime], None]
"""Receives at least one event, and the time at which the events were read."""

_AT_ONCE = 500


def follow(ctx: Context, request: HistoryRequest, pause: Pause, hand_on: HandOn) -> None:
    """Call ``hand_on`` with the requested events, and then with further ones as they are recorded, without end.

    An event is passed on only when no event with a smaller id can appear any more. So a caller can continue later with
    only the id of the last event, as ``after`` of the next request. Raises the errors of :func:`find_history`,
    :class:`UsageError` for a request that has an end or another order, and what ``pause`` and ``hand_on`` raise.
    """
    if request.until is not None or request.newest_first:
        raise UsageError(
            "--follow can't be combined with --until or --newest-first",
            hint="leave out --follow to list past events",
        )
    await_change(ctx, pause, _Follower(ctx, request, hand_on).look)


class _Follower:
    """Passes on the new events at each call of :meth:`look`."""

    def __init__(self, ctx: Context, request: HistoryRequest, hand_on: HandOn) -> None:
        self._ctx = ctx
        self._request = request
        self._hand_on = hand_on
        self._is_first = True
        self._database = ctx.store.database
        self._told: deque[Event] = deque(maxlen=_AT_ONCE)

    def look(self) -> None:
        """Pass on the events since the last call."""
        newest = self._ctx.store.database.settled_event()
        if self._database is not self._ctx.store.database or newest < self._request.after:
            self._database = self._ctx.store.database
            self._go_back(newest)
        if newest > self._request.after or self._is_first:
            self._hand_on_new(newest)
        self._is_first = False

    def _go_back(self, newest: int) -> None:
        """After a restore or a replacement, go back to the last reported event that the inventory still has.

        A restored backup assigns the ids of later events again. ``newest`` is the id of its newest event.
        """
        after = self._request.after
        while self._told and not self._has(self._told[-1]):
            self._told.pop()
            after = self._told[-1].id if self._told else newest
        after = min(after, newest)
        if after != self._request.after:
            self._ctx.report(f"the inventory was restored or replaced: continuing after its event {after}")
        self._request = replace(self._request, after=after)

    def _has(self, told: Event) -> bool:
        return list(self._ctx.store.events.find(EventQuery(after=told.id - 1, upto=told.id))) == [told]

    def _hand_on_new(self, newest: int) -> None:
        """Pass on the events up to ``newest``; if reading fails, the next call continues after the last one passed."""
        try:
            found = find_history(self._ctx, replace(self._request, upto=newest))
        except NotFoundError:
            if self._is_first:
                raise
            return  # the inventory was replaced by one without these hosts
        events = iter(found.events)
        while some := list(islice(events, _AT_ONCE)):
            self._hand_on(some, found.now)
            self._told.extend(some)
            self._request = replace(self._request, after=some[-1].id, last=None)
        self._request = replace(self._request, after=newest, last=None)
