"""What ``recycle --watch`` does now, and what is due."""

from __future__ import annotations

from bmhctl.support.values import Frozen


class Activity(Frozen):
    """A host on which steps run: the verb, the steps that run now with the seconds since each began, those after."""

    host: str
    verb: str
    seconds: float
    steps: tuple[tuple[str, float], ...]
    later: tuple[str, ...]


class Backlog(Frozen):
    """What a recycler does now, the longest first, and which hosts it still has to recycle.

    ``waiting`` are hosts that wait for a free job. ``again`` are hosts that failed, with the seconds until they are
    tried again. ``elsewhere`` are hosts on which a step of another process runs.
    """

    activities: tuple[Activity, ...]
    waiting: tuple[str, ...]
    again: tuple[tuple[str, float], ...]
    elsewhere: tuple[str, ...]
