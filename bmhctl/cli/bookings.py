"""``bookings``, ``bookings cancel``, ``bookings move``, and the booking of ``reserve --from``."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

import typer

from bmhctl.cli.options import DryRun, Fields, ForceOthers, Reason, Watch, lease
from bmhctl.cli.session import session, show_or_watch
from bmhctl.domain.requirements import ReservationRequest
from bmhctl.domain.times import parse_moment
from bmhctl.domain.units import format_duration
from bmhctl.errors import UsageError
from bmhctl.results import Done
from bmhctl.results.bookings import Bookings
from bmhctl.support.values import replace
from bmhctl.usecases.reservations import bookings as usecases
from bmhctl.usecases.shared.context import utc_now

BookingId = Annotated[str, typer.Argument(metavar="BOOKING", help="A booking's id.")]
From = Annotated[str, typer.Option("--from", metavar="WHEN", help="When it begins: 2h, 'tomorrow 09:00', 'sat 08:00'.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="When it ends: 12:00, +3h.")]
Length = Annotated[str | None, typer.Option("--ttl", metavar="DURATION", help="How long it lasts, instead of --until.")]


def bookings(
    ctx: typer.Context,
    ended: Annotated[bool, typer.Option("--ended", help="List also those that have ended.")] = False,
    owner: Annotated[str | None, typer.Option(metavar="OWNER", help="Those of an owner, or of several: 'ci*'.")] = None,
    watch: Watch = None,
    fields: Fields = None,
) -> None:
    """List bookings and planned maintenances with owner, time and hosts, ordered by their beginning."""
    show_or_watch(ctx, Bookings, partial(usecases.bookings, ended=ended, owner=owner), watch, fields)


def bookings_cancel(
    ctx: typer.Context, booking: BookingId, force: ForceOthers = False, reason: Reason = None, dry_run: DryRun = False
) -> None:
    """Cancel a booking or a planned maintenance; others can then reserve its hosts."""
    with session(ctx, Done, dry_run=dry_run) as lab:
        lab.show(usecases.cancel(lab.context, booking, force=force, reason=reason))


def bookings_move(
    ctx: typer.Context,
    booking: BookingId,
    begins: From,
    ends: Until = None,
    ttl: Length = None,
    force: ForceOthers = False,
    reason: Reason = None,
    dry_run: DryRun = False,
) -> None:
    """Move a booking to another time; without --until and --ttl it lasts as long as before.

    Its hosts stay the same if they are free then. If the booking can't be moved, nothing changes.
    """
    length, endless = (None, False) if ttl is None else lease(ttl)
    with session(ctx, Bookings, dry_run=dry_run) as lab:
        now = lab.context.clock()
        starts = parse_moment(begins, now)
        until = None if ends is None and ttl is None else _end(starts, ends, length, now, endless=endless)
        lab.show(usecases.reschedule(lab.context, booking, starts, until, force=force, reason=reason))


def _end(starts: datetime, ends: str | None, length: timedelta | None, now: datetime, *, endless: bool) -> datetime:
    """Return the end of a booking that begins at ``starts``, from its ``ends`` or its ``length``.

    Raise :class:`UsageError` unless exactly one of them is given, and for a booking that would be ``endless``. ``now``
    is the time from which "tomorrow" counts.
    """
    if endless and ends is None:
        raise UsageError("a booking needs an end", hint="--until 12:00, or --ttl 3h")
    if ends is not None and length is None and not endless:
        return parse_moment(ends.removeprefix("+"), starts, said=now)
    if ends is None and length is not None:
        return starts + length
    raise UsageError("give one end: --until or --ttl", hint="--until 12:00, or --ttl 3h")


def is_now(begins: str) -> bool:
    """Return whether the value of --from means that no later time is wanted."""
    return begins.strip().lower() in ("now", "today")


def _as_lease(ends: str | None, length: timedelta | None, *, endless: bool) -> str:
    """Return the option that makes a lease from now to the end of a booking, or of an example if there is none."""
    if endless:
        return "--ttl none"
    if ends is not None and length is None:
        now = utc_now().replace(second=0, microsecond=0)
        length = parse_moment(ends.removeprefix("+"), now) - now
    return f"--ttl {format_duration(length or timedelta(hours=2))}"


def book_hosts(
    ctx: typer.Context,
    request: ReservationRequest,
    begins: str | None,
    ends: str | None,
    weekly: int | None,
    dry_run: bool,
    *,
    has_other: bool,
) -> None:
    """Book hosts for a future time, and show the bookings.

    ``has_other`` is true if an option is given that bookings do not have.
    """
    if begins is None or is_now(begins):
        lease_now = _as_lease(ends, request.ttl, endless=request.endless)
        raise UsageError(
            "a booking needs a start" if begins is None else f"a booking begins later, not {begins}",
            hint=f"for a lease that begins now: {lease_now}; for a booking: --from 'tomorrow 09:00'",
        )
    if has_other or request.booking is not None or request.params or request.tags:
        raise UsageError(
            "a booking can't be made with --wait, --check, --shell, --param, --tag or --booking",
            hint="give them when you take the booking: bmhctl reserve --booking ID",
        )
    with session(ctx, Bookings, dry_run=dry_run) as lab:
        now = lab.context.clock()
        starts = parse_moment(begins, now)
        until = _end(starts, ends, request.ttl, now, endless=request.endless)
        request = replace(request, ttl=None)
        lab.show(usecases.book(lab.context, request, starts, until, weekly=1 if weekly is None else weekly))
