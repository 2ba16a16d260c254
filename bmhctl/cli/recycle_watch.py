"""``recycle --watch``: recycle again and again until a signal ends it."""

from __future__ import annotations

import time
from datetime import timedelta

from bmhctl.cli.session import Session
from bmhctl.errors import InvalidError, RetiredError, UnreachableError, UsageError, combine
from bmhctl.output import render, report
from bmhctl.results import Outcomes
from bmhctl.usecases.shared.absence import PAUSE, Absence, Reopening
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.steps.recheck import recheck


def recycle_for_ever(lab: Session, choice: Choice, jobs: int, interval: timedelta) -> None:
    """Recycle hosts and prove stale ones again, every ``interval`` until a signal ends it; show what became of each.

    While the inventory is away or was replaced, wait, and open it again; raise its error when that takes too long. An
    inventory that is not valid is read again at the next interval. Why a host can't be recycled is reported once, until
    that changes.
    """
    if not interval:
        raise UsageError("the interval of --watch is zero", hint="bmhctl recycle --watch 30s")
    said: set[str] = set()
    absence, reopening = Absence(lab.context.report, lab.context.store.location), Reopening(lab.context)
    while True:
        try:
            if reopening.is_done(absence):
                outcomes = step_verbs.recycle(lab.context, choice, jobs=jobs)
                absence.ends()
                said = _show(lab, outcomes, said)
                _show(lab, recheck(lab.context, jobs=jobs), set())
        except UnreachableError as error:
            lab.line.clear()
            if isinstance(error, RetiredError):
                raise
            absence.goes_on(error)
            reopening.note(error)
        except InvalidError as error:
            lab.line.clear()
            if error.message not in said:
                report(error, lab.display)
            said = {error.message}
        time.sleep(interval.total_seconds())


def pause() -> None:
    """Sleep until an inventory that is away is tried again."""
    time.sleep(PAUSE)


def _show(lab: Session, outcomes: Outcomes, said: set[str]) -> set[str]:
    """Show what is new; return the lines of hosts on which no step ran."""
    lab.line.clear()
    idle = {f"{item.host}: {item.message}" for item in outcomes.items if item.error and not item.steps}
    told = tuple(
        item
        for item in outcomes.items
        if item.changed or (item.error and (item.steps or f"{item.host}: {item.message}" not in said))
    )
    if told:
        render(Outcomes(outcomes.verb, told), lab.display)
    error = combine(item.error for item in told if item.error)
    if error is not None:
        report(error, lab.display)
    return idle
