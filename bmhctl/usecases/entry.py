"""What every use case does first."""

from __future__ import annotations

from datetime import datetime, timedelta

from bmhctl.usecases.context import Context

CLOCK_SLACK = timedelta(minutes=1)
"""How far a clock may be set back, as time servers do now and then, before the leases are looked at."""


def look(ctx: Context) -> datetime:
    """What a reading use case does first: takes over a changed declaration. Returns the time to judge by."""
    if ctx.store.declaration is not None:
        from bmhctl.usecases.declaring import take_over

        take_over(ctx)
    return ctx.clock()


def begin(ctx: Context) -> datetime:
    """What a writing use case does first: what :func:`look` does, and reaps every lease that is over."""
    now = look(ctx)
    reap_due(ctx, now)
    return now


def reap_due(ctx: Context, now: datetime) -> None:
    """Reaps what there is to reap: one query, and as a rule nothing."""
    if ctx.store.due_reservations(now, now + CLOCK_SLACK):
        from bmhctl.usecases.leases import reap

        reap(ctx)
