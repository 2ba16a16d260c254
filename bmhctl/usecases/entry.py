"""What every use case does first."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bmhctl.usecases.context import Context

if TYPE_CHECKING:
    from bmhctl.stores.tomlfile import DeclarationFile

FINGERPRINT = "declaration"
"""Where the state file keeps what the TOML file looked like when it was last taken over."""

OWNER = "declared_by"
"""Where the state file keeps which TOML file it belongs to."""

CLOCK_SLACK = timedelta(minutes=1)
"""How far a clock may be set back, as time servers do now and then, before the leases are looked at."""


def look(ctx: Context) -> datetime:
    """What a reading use case does first: takes over a changed declaration. Returns the time to judge by."""
    file = ctx.store.declaration
    if file is not None and not _is_current(ctx, file):
        from bmhctl.usecases.declaring import take_over

        take_over(ctx)
    return ctx.clock()


def _is_current(ctx: Context, file: DeclarationFile) -> bool:
    """Whether the state is this very file's, as it is now: then nothing is loaded that could read it."""
    from bmhctl.stores.tomlfile import Fingerprint

    known = ctx.store.get(FINGERPRINT)
    fingerprint = None if known is None else Fingerprint.from_text(known)
    return fingerprint is not None and ctx.store.get(OWNER) == str(file.path) and file.rests(fingerprint)


def begin(ctx: Context) -> datetime:
    """What a writing use case does first: what :func:`look` does, and reaps every lease that is over."""
    now = look(ctx)
    reap_due(ctx, now)
    return now


def reap_due(ctx: Context, now: datetime) -> None:
    """Reaps what there is to reap: one query, and as a rule nothing."""
    if ctx.store.is_any_due(now, now + CLOCK_SLACK):
        from bmhctl.usecases.leases import reap

        reap(ctx)
