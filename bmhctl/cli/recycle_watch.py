"""``recycle --watch``: recycle hosts as they are tainted, until a signal ends it."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from bmhctl.cli.session import NO_LINE, Session
from bmhctl.errors import BmhctlError, RetiredError, UnreachableError, UsageError
from bmhctl.output import render, report
from bmhctl.output.recycle_page import RecyclePage
from bmhctl.results import Outcome, Outcomes
from bmhctl.support.values import replace
from bmhctl.usecases.shared.absence import PAUSE, Absence
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps.stream import Stream


def recycle_for_ever(lab: Session, choice: Choice, jobs: int, interval: timedelta) -> None:
    """Recycle hosts as they are tainted, and recheck stale ones; show each outcome, until a signal ends it.

    Hosts that failed are tried again after ``interval``. While the inventory is unavailable or was replaced, wait, and
    open it again; raise its error when that takes too long. The reason why a host can't be recycled is reported once,
    and again only when it changes.
    """
    if not interval:
        raise UsageError("the interval of --watch is zero", hint="bmhctl recycle --watch 30s")
    lab.line.clear()
    with RecyclePage(lab.display, os.environ.get("TERM")) as page:
        watch = _Watch(lab, page)
        ctx = replace(lab.context, report=watch.note, progress=NO_LINE.progress)
        absence = Absence(ctx.report, ctx.store.location, ctx.store)
        while True:
            try:
                if absence.is_open():
                    Stream(
                        ctx,
                        choice,
                        jobs=jobs,
                        interval=interval,
                        absence=absence,
                        ended=watch.show,
                        trouble=watch.report,
                        show=page.show if page.is_shown else None,
                    ).run()
            except UnreachableError as error:
                page.clear()
                if isinstance(error, RetiredError):
                    raise
                absence.record(error)
            time.sleep(min(interval.total_seconds(), PAUSE))


class _Watch:
    """Prints the outcomes of hosts above the page."""

    def __init__(self, lab: Session, page: RecyclePage) -> None:
        self._lab = lab
        self._page = page
        self._said: dict[str, str] = {}
        self._trouble = ""

    def note(self, text: str) -> None:
        """Print a note."""
        self._page.clear()
        self._lab.context.report(text)

    def show(self, verb: str, outcome: Outcome) -> None:
        """Show an outcome, unless it repeats why no step can run on a host."""
        is_idle = outcome.error is not None and not outcome.steps
        is_known = is_idle and self._said.get(outcome.host) == outcome.message
        self._said.pop(outcome.host, None)
        if is_idle:
            self._said[outcome.host] = outcome.message
        if not (outcome.changed or outcome.error) or is_known:
            return
        self._page.clear()
        outcomes = Outcomes(verb, (outcome,))
        render(outcomes, self._lab.display)
        if outcomes.error is not None:
            report(outcomes.error, self._lab.display)

    def report(self, error: BmhctlError) -> None:
        """Report an error, unless it is the same as the last one."""
        if error.message != self._trouble:
            self._page.clear()
            report(error, self._lab.display)
        self._trouble = error.message
