"""``history --follow``: show events as they are recorded, until a signal or a closed pipe ends it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bmhctl.cli.session import Session
from bmhctl.cli.wait_progress import pause_on
from bmhctl.domain.model import Event
from bmhctl.output.event_stream import EventStream
from bmhctl.usecases.follow import follow
from bmhctl.usecases.history import HistoryRequest


def follow_history(lab: Session, request: HistoryRequest) -> None:
    """Show the requested events, then each new one as it is recorded; only an exception ends this."""
    names = request.choice.names
    is_one = len(names) == 1 and not any(sign in names[0] for sign in "*?[")
    stream = EventStream(lab.display, lab.fields, lab.context.store.location, names[0] if is_one else None)

    def hand_on(events: Sequence[Event], now: datetime) -> None:
        lab.line.clear()
        stream.write(events, now)

    follow(lab.context, request, pause_on(lab.display), hand_on)
