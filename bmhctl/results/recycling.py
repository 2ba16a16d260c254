"""The work of ``recycle --watch``: what runs now, and what waits."""

from __future__ import annotations

from bmhctl.support.values import Frozen


class Activity(Frozen):
    """A host on which steps run.

    ``seconds`` is how long the verb has been running. ``steps`` are the running steps, each with the seconds since its
    start; ``later`` are the steps that follow.
    """

    host: str
    verb: str
    seconds: float
    steps: tuple[tuple[str, float], ...]
    later: tuple[str, ...]


class Backlog(Frozen):
    """What a recycler does now, the longest-running first, and the hosts that it still has to recycle.

    ``waiting`` are hosts that wait for a free worker. ``again`` are hosts that failed, with the seconds until the next
    try. ``elsewhere`` are hosts on which another process runs a step.
    """

    activities: tuple[Activity, ...]
    waiting: tuple[str, ...]
    again: tuple[tuple[str, float], ...]
    elsewhere: tuple[str, ...]
