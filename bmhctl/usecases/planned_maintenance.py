"""Plan a maintenance of hosts for a later time; leases then end before it."""

from __future__ import annotations

from datetime import datetime

from bmhctl.domain.booking import Booking, in_the_way, is_leased_past
from bmhctl.domain.model import Host
from bmhctl.domain.requirements import Requirement, dump_requirements, load_requirements
from bmhctl.domain.times import check_not_too_far
from bmhctl.domain.units import local_time
from bmhctl.errors import BusyError, UsageError
from bmhctl.results import Outcome, Outcomes, stayed
from bmhctl.support.values import replace
from bmhctl.usecases.shared.bulk import each_in_one_commit
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.planned import set_aside


def plan_maintenance(
    ctx: Context, choice: Choice, starts: datetime, ends: datetime, *, reason: str, resumes: bool = False
) -> Outcomes:
    """Plan a maintenance of hosts from ``starts`` until just before ``ends``; return the outcome of each.

    Leases that are granted or extended from now on end before it. With ``resumes`` it ends by itself, and a clean host
    then starts over as initial. The outcome of a host that is booked for this time is a :class:`BusyError`. Raises
    :class:`UsageError` for an empty reason, an end before the beginning, or a time too far ahead.
    """
    if not reason.strip():
        raise UsageError("maintain needs a reason", hint="bmhctl maintain HOST --reason 'power work'")
    if ends <= starts:
        raise UsageError("the maintenance would end before it begins", hint="--until needs a time after --from")
    check_not_too_far(ends, ctx.clock())
    planned = Booking(
        id="",
        owner=ctx.actor,
        purpose=reason,
        starts_at=starts,
        ends_at=ends,
        created_at=ctx.clock(),
        requirements=dump_requirements(()),
        hosts=(),
        resumes=resumes,
        due_at=starts,
    )
    saved: list[Booking] = []

    def one(host: Host, now: datetime) -> Outcome:
        other = in_the_way(host, starts, ends)
        if other is not None:
            act = "move" if other.is_booking else "cancel"
            raise BusyError(
                f"is {other.words}: nothing was planned on it",
                host=host.name,
                hint=f"its owner can {act} it: bmhctl bookings {act} {other.id}",
            )
        known = ctx.store.bookings.get(saved[0].id) if saved else None  # None after a refusal
        saved[:] = [booking := _with_host(ctx, known or planned, host)]
        words = f"from {starts:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC ({booking.id}): {reason}"
        set_aside(ctx, host, booking, now, words)
        lasts = is_leased_past(host, starts)
        held = f"; it is held by {host.reservation.words}" if lasts and host.reservation else ""
        return stayed(host, f"planned: {reason}{held}")

    outcomes = each_in_one_commit(ctx, "maintain", choice, one)
    if not saved or ctx.dry_run:
        return outcomes
    times = f"from {local_time(starts)} to {local_time(ends)}"
    note = f"{saved[0].id} {times}: bmhctl bookings cancel {saved[0].id} cancels it"
    return replace(outcomes, notes=(*outcomes.notes, note))


def _with_host(ctx: Context, planned: Booking, host: Host) -> Booking:
    """Add a host to a planned maintenance, and save it; return the maintenance. A new maintenance gets its id."""
    everyone = (*load_requirements(planned.requirements), Requirement(name=host.name))
    booking = replace(planned, hosts=(*planned.hosts, host.id), requirements=dump_requirements(everyone))
    if planned.id:
        ctx.store.bookings.save(booking)
        return booking
    booking = replace(booking, id=ctx.store.bookings.new_id("m-"))
    ctx.store.bookings.add(booking)
    return booking
