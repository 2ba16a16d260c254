"""The place of one host in the lifecycle, and the reason: results of ``why`` and ``graph``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from bmhctl.domain.model import CheckResult, Event, Host, State, Verb
from bmhctl.support.values import Frozen


class VerbAnswer(Frozen):
    """Whether one verb is possible for a host now.

    ``dest`` is the state to which it leads. ``open`` is None when the answer depends on steps that have to run first.
    ``words`` say which guards refuse, or what would happen. ``command`` is the command line for the verb.
    """

    verb: Verb
    open: bool | None
    dest: State | None
    words: tuple[str, ...]
    command: str


class Why(Frozen):
    """Why a host is in its state, and what is possible now.

    ``summary`` is one sentence, and ``facts`` are other conditions that matter. ``results`` are the last results of
    each step. ``next`` is the command that leads towards available (None: the host is available, or others have to act
    first). ``first`` is what has to be repaired before that command can succeed (None: nothing is known to be broken).
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
    """The lifecycle to draw: with the number of hosts in each state, or with the place of one host (``why``).

    ``events`` are this host's events, oldest first.
    """

    counts: Mapping[State, int]
    why: Why | None = None
    events: tuple[Event, ...] = ()
