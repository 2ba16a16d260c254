"""Begin every use case: sync a changed declaration and reap expired leases. Retry a use case after a conflict."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from bmhctl.errors import FASTER, BmhctlError, ConflictError
from bmhctl.usecases.shared.context import Context

if TYPE_CHECKING:
    from bmhctl.stores.toml.file import DeclarationFile

TRIES = 6
"""The most attempts of a use case."""

_PAUSE = 0.02  # seconds; the longest pause before the second attempt, doubled for each further one

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def retried(
    act: Callable[Concatenate[Context, _Arguments], _Result],
) -> Callable[Concatenate[Context, _Arguments], _Result]:
    """Retry a use case that ended with a :class:`ConflictError`, such as a deadlock or a failed serialisation.

    For use cases that commit only once, at their end, so that a failed attempt has changed nothing.
    """

    @wraps(act)
    def again(ctx: Context, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for number in range(TRIES - 1):
            try:
                return act(ctx, *args, **kwargs)
            except ConflictError:
                import random

                time.sleep(random.uniform(0, _PAUSE * 2**number))
        try:
            return act(ctx, *args, **kwargs)
        except ConflictError as error:
            error.message = error.message.replace(FASTER, f"{FASTER}, {TRIES} times in a row", 1)
            error.hint = "try again: nothing was done except what was reported"
            raise

    return again


def refresh(ctx: Context) -> datetime:
    """Sync a changed TOML file, as every use case does first; return the time by which leases are judged.

    Raises :class:`MovedError` when another inventory has replaced the opened one.
    """
    ctx.store.check_in_place()
    ctx.store.settle = partial(_settle, ctx, set())
    file = ctx.store.declaration
    if file is not None and not _is_current(ctx, file):
        from bmhctl.usecases.shared.declaration_sync import sync_declaration

        sync_declaration(ctx)
    return ctx.clock()


def _is_current(ctx: Context, file: DeclarationFile) -> bool:
    """Return whether the state is synced with the present TOML file; then no parser needs to be loaded."""
    from bmhctl.stores.meta import FINGERPRINT, OWNER
    from bmhctl.stores.toml.file import Fingerprint

    known = Fingerprint.from_text(ctx.store.meta.get(FINGERPRINT) or "")
    return known is not None and ctx.store.meta.get(OWNER) == file.identity and file.is_untouched(known)


def refresh_and_reap(ctx: Context) -> datetime:
    """Do what every use case that writes does first: call :func:`refresh`, then reap the leases that have expired.

    A dry run reaps no lease. Returns the time by which leases are judged.
    """
    now = refresh(ctx)
    if not ctx.dry_run:
        reap_due(ctx, now)
    return now


def _settle(ctx: Context, reported: set[str], bookings: Collection[str]) -> None:
    """Do what has become due for bookings, and report in a line each which of them lack hosts; no line twice."""
    from bmhctl.usecases.shared.due_bookings import report_short

    now = ctx.clock()
    try:
        due = [booking.id for booking in ctx.store.bookings.due(now) if booking.id in bookings]
        reap_due(ctx, now)
        report_short(ctx, due, reported)
    except BmhctlError as error:
        ctx.report(
            f"booked hosts are not exchanged yet: {error.message}; the next command "
            "that writes exchanges them, such as bmhctl reap"
        )


def reap_due(ctx: Context, now: datetime) -> bool:
    """Reap what is due, and return whether a lease or a booking was; usually this is one query that finds none."""
    if not ctx.store.is_any_due(now):
        return False
    from bmhctl.usecases.shared.expiry import reap

    retried(reap)(ctx)
    return True
