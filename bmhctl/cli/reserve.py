"""``reserve``: its options, which ``run`` shares, and its answer."""

# No `from __future__ import annotations`: Typer would compile the text of each annotation at every start.

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from bmhctl.cli.options import MOST, DryRun, Group, HostNames, SelectorText, lease, values_of
from bmhctl.cli.session import Session, session
from bmhctl.domain.requirements import ReservationRequest, parse_requirement, reservation_request
from bmhctl.domain.selector import parse_selector
from bmhctl.errors import UnreachableError, UsageError
from bmhctl.output import silence
from bmhctl.results import Grant, Plan
from bmhctl.support.lazy_regex import pattern

Wait = Annotated[
    str | None, typer.Option("--wait", metavar="[DURATION]", help="Wait in the queue while hosts are busy.")
]
Check = Annotated[bool, typer.Option("--check", help="Check hosts first; one that fails goes to maintenance.")]
_LENGTH = pattern(r"(?:[0-9]+[dhms])+")


def _requested(
    selector: SelectorText = None,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", max=MOST, metavar="N", help="How many hosts to reserve.  [default: 1 with -l]"),
    ] = None,
    want: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTOR*N", help="One of several requests, all or none; may be repeated."),
    ] = None,
    purpose: Annotated[str | None, typer.Option("--for", metavar="PURPOSE", help="What the hosts are for.")] = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the lease lasts: 20m, 4h, none.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same id again returns the same reservation.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Tag of the reservation, such as job=4711; may be repeated."),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A value for the prepare steps; may be repeated.")
    ] = None,
    booking: Annotated[
        str | None, typer.Option(metavar="ID", help="Take the hosts of this booking, until it ends.")
    ] = None,
) -> Callable[[list[str] | None], ReservationRequest]:
    """Return a function that makes the request of the options and of the given hosts; both raise `UsageError`."""
    length, endless = (None, False) if ttl is None else lease(ttl)
    if ttl is None and purpose and _LENGTH.fullmatch(purpose):
        raise UsageError(
            f"--for says what the hosts are for, and {purpose} is a length",
            hint=f"--ttl {purpose} sets the length of the lease; for a purpose, write more words",
        )

    def request(hosts: list[str] | None) -> ReservationRequest:
        names: list[str] = []
        if hosts:
            from bmhctl.usecases.shared.host_selection import unfold

            names = unfold(hosts)
        return reservation_request(
            names,
            None if selector is None else parse_selector(selector),
            count,
            [parse_requirement(text) for text in want or ()],
            purpose=purpose,
            ttl=length,
            endless=endless,
            request_id=request_id,
            params=values_of(param, "param", "image=noble") if param else {},
            tags=values_of(tag, "tag", "job=4711") if tag else None,
            booking=booking,
        )

    return request


Requested = Annotated[Callable[[list[str] | None], ReservationRequest], Group(_requested)]
"""The request that the options of ``reserve`` and ``run`` describe, as a function of the hosts that are named."""


def reserve(
    ctx: typer.Context,
    requested: Requested,
    hosts: HostNames = None,
    wait: Wait = None,
    check: Check = False,
    shell: Annotated[bool, typer.Option("--shell", help="Print lines for eval, also on failure.")] = False,
    dry_run: DryRun = False,
    begins: Annotated[
        str | None,
        typer.Option("--from", metavar="WHEN", help="Book for a future time: 2h, 'tomorrow 09:00', 'sat 08:00'."),
    ] = None,
    ends: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="When the booking ends: 12:00, or --ttl 3h.")
    ] = None,
    weekly: Annotated[int | None, typer.Option(metavar="N", help="Book the same time in each of N weeks.")] = None,
) -> None:
    """Reserve these hosts, or any that fit: all of them or none. Prints the reservation and its hosts.

    The hosts that were used least recently come first. Hosts that earlier tickets wait for are not taken. For hosts of
    different kinds: --want 'arch=arm64*2' --want role=switch. With --from, the hosts are booked for a future time;
    --booking takes them then.
    """
    from bmhctl.usecases.reservations.reserve import plan_reserve, reserve_or_wait

    request = requested(hosts)
    if begins is not None or ends is not None or weekly is not None:
        from bmhctl.cli.bookings import book_hosts

        book_hosts(ctx, request, begins, ends, weekly, dry_run, has_other=bool(wait or check or shell))
        return
    patience, pause = None, None
    if wait is not None:
        from bmhctl.cli.wait import patience_of, pause_before_opening

        patience = patience_of(ctx, wait)
        pause = pause_before_opening(patience)
    with session(ctx, Plan if dry_run else Grant, pause=pause) as lab:
        if dry_run:
            lab.show(plan_reserve(lab.context, request))
            return
        grant = reserve_or_wait(lab.context, request, patience, check=check)
        _answer(lab, grant, shell, is_safe=request.request_id is not None)


def _answer(lab: Session, grant: Grant, shell: bool, *, is_safe: bool) -> None:
    """Write the granted hosts; if that fails, give them back, unless a request id allows the caller to ask again."""
    try:
        if not shell:
            lab.show(grant)
            return
        from bmhctl.runner.environment import export_line

        sys.stdout.write(export_line(grant.held, os.environ) + "\n")
        sys.stdout.flush()
    except BaseException as error:
        if is_safe:
            raise
        from bmhctl.usecases.reservations.holder import give_up

        give_up(lab.context, grant.held.reservation.id, "the answer could not be written")
        if not isinstance(error, OSError):
            raise
        silence(lab.display.stdout)
        raise UnreachableError(
            f"can't write the answer ({error.strerror}): the reserved hosts are given back",
            details={"reservation": grant.held.reservation.id},
        ) from error
