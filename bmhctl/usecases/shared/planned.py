"""The times that bookings and planned maintenances set aside on hosts: add, end and remove them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from bmhctl.domain.booking import Booking, with_planned, without_planned
from bmhctl.domain.model import EventKind, Host
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import dump_requirements, load_requirements
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.transitions import record_event


def hosts_of(ctx: Context, booking: Booking) -> list[Host]:
    """Return the hosts of a booking that are still in the inventory."""
    found = (ctx.store.hosts.with_id(each) for each in booking.hosts)
    return [host for host in found if host is not None]


def set_aside(ctx: Context, host: Host, booking: Booking, now: datetime, reason: str, actor: str | None = None) -> Host:
    """Set the time of a booking aside on a host, in the caller's transaction; return the host."""
    return record_event(ctx, with_planned(host, booking.span), EventKind.PLANNED, now, reason=reason, actor=actor)


def end_booking(
    ctx: Context,
    booking: Booking,
    now: datetime,
    reason: str,
    *,
    reservation: str | None = None,
    actor: str | None = None,
    keep: Collection[int] = (),
) -> None:
    """End a booking in the caller's transaction, and free its hosts, except those with ids in ``keep``."""
    for host in hosts_of(ctx, booking):
        if host.id not in keep:
            leave(ctx, host, booking, now, reason, actor)
    ctx.store.bookings.save(
        replace(booking, due_at=None, ended_at=now, end_reason=reason, reservation=reservation or booking.reservation)
    )


def leave(ctx: Context, host: Host, booking: Booking, now: datetime, reason: str, actor: str | None = None) -> None:
    """Remove a host from a booking."""
    left = without_planned(host, booking.id)
    if left.planned != host.planned:
        record_event(ctx, left, EventKind.PLAN_ENDED, now, reason=f"{booking.id}: {reason}", actor=actor)


def rename_in_bookings(ctx: Context, host: Host, new: str) -> None:
    """Replace the name of a host that is renamed, in the requirements of the bookings planned on it."""
    for each in host.planned:
        booking = ctx.store.bookings.get(each.id)
        if booking is not None:
            renamed = (
                replace(requirement, name=new) if requirement.name == host.name else requirement
                for requirement in load_requirements(booking.requirements)
            )
            ctx.store.bookings.save(replace(booking, requirements=dump_requirements(tuple(renamed))))


def due_of(booking: Booking, policy: Policy) -> datetime:
    """Return when a booking lapses if it is not taken before, or when a planned maintenance begins."""
    if booking.is_maintenance:
        return booking.starts_at
    return min(booking.starts_at + policy.no_show, booking.ends_at)
