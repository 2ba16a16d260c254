"""Going on without end, for systemd or a terminal: nothing here becomes a daemon."""

from __future__ import annotations

import time
from datetime import timedelta

from bmhctl.cli.invocation import Session
from bmhctl.errors import BmhctlError, InvalidError, UnreachableError
from bmhctl.output import render, report
from bmhctl.results import Outcomes
from bmhctl.usecases import verbs
from bmhctl.usecases.choosing import Choice


def recycle_for_ever(lab: Session, choice: Choice, jobs: int, interval: timedelta) -> None:
    """Recycles again and again, and shows what became of each host; ends by a signal only.

    An inventory that can't be reached or read is told, and looked at again.
    """
    said: str | None = None
    while True:
        try:
            outcomes = verbs.recycle(lab.context, choice, jobs=jobs)
        except (InvalidError, UnreachableError) as error:
            lab.line.clear()
            if error.message != said:
                report(error, lab.display)
            said = error.message
        else:
            said = None
            _show(lab, outcomes)
        time.sleep(interval.total_seconds())


def _show(lab: Session, outcomes: Outcomes) -> None:
    lab.line.clear()
    told = Outcomes(outcomes.verb, tuple(item for item in outcomes.items if item.changed or item.error))
    if told.items:
        render(told, lab.display)
    error: BmhctlError | None = told.error
    if error is not None:
        report(error, lab.display)
