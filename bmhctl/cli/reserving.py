"""Reserving hosts, and who holds what."""

from __future__ import annotations

from typing import Annotated

import typer

from bmhctl.cli.invocation import session
from bmhctl.cli.options import Fields, HostNames, SelectorText, field_list, lease
from bmhctl.errors import UnreachableError
from bmhctl.output import hush
from bmhctl.results import Grant, Reservations
from bmhctl.selector import EVERY_HOST, parse_selector
from bmhctl.usecases import reservations as usecases


def reserve(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    count: Annotated[
        int | None, typer.Option("-n", "--count", metavar="N", help="How many hosts.  [default: 1]")
    ] = None,
    purpose: Annotated[str | None, typer.Option("--for", metavar="PURPOSE", help="What for.")] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="DURATION", help="How long the lease lasts: 20m, 4h, none.")
    ] = None,
) -> None:
    """Take these hosts, or any that fit: all of them or none. Prints the reservation and its hosts.

    Of the hosts that fit, those come first that were used least recently.
    """
    length, endless = lease(ttl)
    wish = usecases.Wish(
        names=tuple(hosts or ()),
        selector=EVERY_HOST if selector is None else parse_selector(selector),
        count=count,
        purpose=purpose,
        ttl=length,
        endless=endless,
    )
    with session(ctx, Grant) as lab:
        grant = usecases.reserve(lab.context, wish)
        try:
            lab.show(grant)
        except OSError as error:
            # Nobody knows of this reservation: its hosts would be lost until the lease is over.
            usecases.give_up(lab.context, grant)
            hush(lab.display.stdout)
            raise UnreachableError(
                f"can't write the answer ({error.strerror}): what was reserved is given back",
                details={"reservation": grant.held.reservation.id},
            ) from error


def reservations(
    ctx: typer.Context,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that are over.")] = False,
    fields: Fields = None,
) -> None:
    """List the open reservations: who holds what, what for, until when."""
    with session(ctx, Reservations, field_list(fields)) as lab:
        lab.show(usecases.reservations(lab.context, ended=ended), field_list(fields))


def reap(ctx: typer.Context) -> None:
    """End the leases that are over: their hosts become tainted. Every writing command does this first."""
    with session(ctx, Reservations) as lab:
        lab.show(usecases.reap_expired(lab.context))
