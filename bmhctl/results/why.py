"""Where one host is in the lifecycle, and why: results of ``why`` and ``graph``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.domain.model import CheckResult, Event, Host, State, Verb
from bmhctl.support.values import Frozen


class VerbAnswer(Frozen):
    """Whether one verb is possible for a host now.

    ``dest`` is the state that it leads to. ``open`` is None when it depends on steps that have to run first. ``words``
    say which guards refuse, or what would happen; ``command`` is what to type.
    """

    verb: Verb
    open: bool | None
    dest: State | None
    words: tuple[str, ...]
    command: str


class Why(Frozen):
    """Why a host is in its state, and what is possible now.

    ``summary`` is one sentence, ``facts`` what matters beside the state, ``results`` the last result of each step,
    ``next`` the command that leads towards available (None: it is available, or others have to act first), ``first``
    what has to be repaired before that, as the command would fail again (None: nothing that is known).
    """

    host: Host
    summary: str
    facts: tuple[str, ...]
    answers: tuple[VerbAnswer, ...]
    next: str | None
    now: datetime
    results: tuple[CheckResult, ...] = ()
    first: str | None = None


class Graph(Frozen):
    """The lifecycle to draw: with the count of hosts in each state, or where one host is (``why``).

    ``events`` are the host's, oldest first: how it got there.
    """

    counts: Mapping[State, int]
    why: Why | None = None
    events: tuple[Event, ...] = ()
