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
    """What happens now, the longest first, and what is due.

    ``waiting`` are hosts for which no job is free, ``again`` are those that failed, with the seconds until they are
    tried again, ``elsewhere`` those on which a step runs that another process started.
    """

    activities: tuple[Activity, ...]
    waiting: tuple[str, ...]
    again: tuple[tuple[str, float], ...]
    elsewhere: tuple[str, ...]
