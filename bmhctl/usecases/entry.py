"""What every use case does first."""

from __future__ import annotations

from datetime import datetime

from bmhctl.usecases.context import Context


def look(ctx: Context) -> datetime:
    """What a reading use case does first: takes over a changed declaration. Returns the time to judge by."""
    if ctx.store.declaration is not None:
        from bmhctl.usecases.declaring import take_over

        take_over(ctx)
    return ctx.clock()


def begin(ctx: Context) -> datetime:
    """What a writing use case does first: what :func:`look` does, and reaps every lease that is over."""
    now = look(ctx)
    if ctx.store.expired_reservations(now):
        from bmhctl.usecases.leases import reap

        reap(ctx)
    return now
