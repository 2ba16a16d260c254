"""``wait``: wait until hosts are in a state."""

from __future__ import annotations

from typing import Annotated

import typer

from bmhctl.cli.options import Fields, HostNames, SelectorText
from bmhctl.cli.session import invocation_of, session
from bmhctl.cli.wait_progress import pause_before_opening, pause_on
from bmhctl.domain.model import StateName
from bmhctl.domain.units import parse_duration
from bmhctl.results import Hosts
from bmhctl.usecases.reservations.waiting import WaitOptions


def wait(
    ctx: typer.Context,
    wanted: Annotated[StateName, typer.Option("--for", help="The state, or free (available and reservable).")],
    hosts: HostNames = None,
    selector: SelectorText = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="End with status 7 after this time; 0s checks once."),
    ] = None,
    fields: Fields = None,
) -> None:
    """Wait until all named or matching hosts are in a state, and show them."""
    from bmhctl.usecases.shared.host_selection import choice
    from bmhctl.usecases.wait import wait as wait_for

    limit = None if timeout is None else parse_duration(timeout)
    chosen = choice(hosts, selector)
    patience = WaitOptions(pause_on(invocation_of(ctx).display()), limit)
    with session(ctx, Hosts, fields, pause=pause_before_opening(patience)) as lab:
        lab.show(wait_for(lab.context, chosen, wanted, patience))
