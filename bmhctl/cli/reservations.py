"""``reservations``, ``extend``, ``handover``, ``replace``, ``queue``, ``queue cancel``, ``queue move`` and ``reap``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from bmhctl.cli.options import (
    DryRun,
    Fields,
    Force,
    ForceOthers,
    GivenReason,
    HostName,
    Reason,
    Reservation,
    ReservationId,
    ReservationIds,
    Watch,
    Yes,
)
from bmhctl.cli.session import asking, session, show_or_watch
from bmhctl.domain.units import parse_duration
from bmhctl.results import Done, Grant, Reservations

_Ticket = Annotated[int, typer.Argument(metavar="TICKET", help="A ticket's number.")]


def reservations(
    ctx: typer.Context,
    which: ReservationIds = None,
    ended: Annotated[bool, typer.Option("--ended", help="List also reservations that have ended.")] = False,
    selector: Annotated[
        str | None, typer.Option("-l", "--selector", metavar="SELECTOR", help="Reservations with these tags: job=4711.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(metavar="OWNER", help="Reservations of an owner, or of several: 'ci*'.")
    ] = None,
    watch: Watch = None,
    fields: Fields = None,
) -> None:
    """List the open reservations, or the named ones, with their owners, hosts, purposes and ends."""
    from bmhctl.usecases.queries import reservations as list_reservations

    wanted = None
    if selector is not None:
        from bmhctl.domain.selector import parse_selector

        wanted = parse_selector(selector)
    read = partial(list_reservations, ids=which or (), ended=ended, selector=wanted, owner=owner)
    show_or_watch(ctx, Reservations, read, watch, fields)


def extend(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="A host of your reservation.")] = None,
    reservation: Reservation = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The length from now on.  [default: its present length]")
    ] = None,
) -> None:
    """Make a lease end later: its length counts from now. No lease gets shorter, or longer than the policy allows."""
    from bmhctl.usecases.reservations.holder import extend as extend_lease
    from bmhctl.usecases.reservations.holder import reservation_holding
    from bmhctl.usecases.shared.leases import reservation_missing

    with session(ctx, Grant) as lab:
        if host is not None:
            reservation = reservation_holding(lab.context, host, reservation)
        if reservation is None:
            raise reservation_missing(lab.context, "extend", "no reservation is named")
        length = None if ttl is None else parse_duration(ttl)
        lab.show(extend_lease(lab.context, reservation, length))


def handover(
    ctx: typer.Context,
    which: ReservationId,
    to: Annotated[str, typer.Option(metavar="OWNER", help="The new owner.")],
    reservation: Reservation = None,
    force: Force = False,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Give a reservation to another owner, under a new id, which is printed; the old id is no longer valid."""
    from bmhctl.usecases.reservations.holder import handover as hand_over

    with asking(ctx, Grant, yes=yes) as lab:
        lab.show(hand_over(lab.context, which, to, token=reservation, force=force, reason=reason))


def share(
    ctx: typer.Context,
    which: ReservationId,
    add: Annotated[
        list[str] | None, typer.Option("--with", metavar="OWNER", help="Let this owner extend and release it, too.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--without", metavar="OWNER", help="Stop sharing it with this owner.")
    ] = None,
    reservation: Reservation = None,
    force: Force = False,
    reason: Reason = None,
) -> None:
    """Share a reservation with other owners, who may extend and release it by name; its id and owner stay."""
    from bmhctl.usecases.reservations.holder import share as share_with

    with session(ctx, Grant) as lab:
        shared = share_with(
            lab.context, which, add=add or (), remove=remove or (), token=reservation, force=force, reason=reason
        )
        lab.show(shared)


def replace(
    ctx: typer.Context,
    host: HostName,
    reservation: Reservation = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What is wrong with the host.")] = "",
) -> None:
    """Replace a broken host of a reservation by another that fits; the broken host is tainted with a fault."""
    from bmhctl.usecases.reservations.holder import reservation_holding
    from bmhctl.usecases.reservations.replacement import replace_host

    with session(ctx, Grant) as lab:
        held_by = reservation_holding(lab.context, host, reservation)
        lab.show(replace_host(lab.context, host, held_by, reason))


def queue(ctx: typer.Context, watch: Watch = None, fields: Fields = None) -> None:
    """List the tickets of waiting commands: position, age, request, and what is missing."""
    from bmhctl.results.queue import Queue
    from bmhctl.usecases.reservations.queue import queue as look_at_queue

    show_or_watch(ctx, Queue, look_at_queue, watch, fields)


def queue_cancel(ctx: typer.Context, ticket: _Ticket, force: ForceOthers = False, reason: Reason = None) -> None:
    """Remove a ticket from the queue; the command that waits with it ends."""
    from bmhctl.usecases.reservations.queue import cancel

    with session(ctx, Done) as lab:
        lab.show(cancel(lab.context, ticket, force=force, reason=reason))


def queue_move(
    ctx: typer.Context,
    ticket: _Ticket,
    first: Annotated[bool, typer.Option("--first", help="To the front of the queue.")] = False,
    before: Annotated[int | None, typer.Option(metavar="TICKET", help="Directly before this ticket.")] = None,
    reason: GivenReason = "",
) -> None:
    """Move a ticket in the queue; history --queue shows who moved it, and why."""
    from bmhctl.errors import UsageError
    from bmhctl.usecases.reservations.queue import move

    if first == (before is not None):
        raise UsageError("the new place of the ticket is not given", hint="give --first, or --before TICKET")
    with session(ctx, Done) as lab:
        lab.show(move(lab.context, ticket, reason, before=before))


def reap(ctx: typer.Context, dry_run: DryRun = False) -> None:
    """End expired leases: their hosts become tainted. Every writing command does this first."""
    from bmhctl.usecases.reservations.holder import reap_expired

    with session(ctx, Reservations, dry_run=dry_run) as lab:
        lab.show(reap_expired(lab.context))
