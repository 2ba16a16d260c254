"""``taint``, ``release``, ``maintain``, ``cordon`` and ``uncordon``."""

# No `from __future__ import annotations`: Typer would compile the text of each annotation at every start.

from typing import Annotated

import typer

from bmhctl.cli.options import Force, HostNames, Reason, Reservation, States
from bmhctl.cli.session import Changing, Chosen
from bmhctl.domain.times import parse_moment
from bmhctl.errors import UsageError
from bmhctl.usecases import lifecycle_verbs
from bmhctl.usecases.shared.host_selection import choice


def taint(
    hosts: Chosen,
    reason: Reason = None,
    fault: Annotated[str | None, typer.Option(metavar="TEXT", help="What is broken.")] = None,
    reservation: Reservation = None,
    force: Force = False,
    *,
    opening: Changing,
) -> None:
    """Give hosts back as used: they leave their reservation and become tainted.

    With --fault, the host is recycled only when it is named.
    """
    with opening as lab:
        lab.show(
            lifecycle_verbs.taint(lab.context, hosts, reason=reason, fault=fault, reservation=reservation, force=force)
        )


def release(
    hosts: HostNames = None,
    selector: Annotated[
        str | None,
        typer.Option(
            "-l", "--selector", metavar="SELECTOR", help="Hosts by tags of their reservation, or by labels: job=4711."
        ),
    ] = None,
    state: States = None,
    reservation: Reservation = None,
    reason: Reason = None,
    force: Force = False,
    *,
    opening: Changing,
) -> None:
    """Give back all hosts of a reservation, or only the named ones; they become tainted."""
    with opening as lab:
        lab.show(
            lifecycle_verbs.release(
                lab.context, choice(hosts, selector, state), reservation=reservation, reason=reason, force=force
            )
        )


def maintain(
    hosts: Chosen,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="The reason, which status and why show.", show_default=False)
    ] = "",
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="When the hosts should be back: 2h, 3d, 2026-12-24T18:00.")
    ] = None,
    begins: Annotated[
        str | None, typer.Option("--from", metavar="WHEN", help="Plan it for this time: 'sat 08:00'.")
    ] = None,
    resumes: Annotated[
        bool, typer.Option("--resume", help="Resume the hosts when the planned maintenance ends.")
    ] = False,
    when_free: Annotated[bool, typer.Option("--when-free", help="Move a held host when it is given back.")] = False,
    *,
    opening: Changing,
) -> None:
    """Put hosts into maintenance from any state, with a reason; reserved hosts keep their reservation.

    A host in maintenance gets one more reason. resume closes only the reasons of the actor who calls it.
    """
    if begins is not None:
        from bmhctl.cli.bookings import is_now

        if is_now(begins):
            raise UsageError(
                f"a planned maintenance begins later, not {begins}", hint="leave out --from: a maintenance begins now"
            )
    if when_free and begins is not None:
        raise UsageError("--when-free and --from can't be combined", hint="give one of them")
    if begins is not None:
        from bmhctl.usecases.planned_maintenance import plan_maintenance

        if until is None:
            raise UsageError("a planned maintenance needs an end", hint="--from 'sat 08:00' --until 12:00")
        with opening as lab:
            now = lab.context.clock()
            starts = parse_moment(begins, now)
            ends = parse_moment(until.removeprefix("+"), starts, said=now)
            lab.show(plan_maintenance(lab.context, hosts, starts, ends, reason=reason, resumes=resumes))
        return
    if resumes:
        raise UsageError("--resume is for a planned maintenance", hint="--from 'sat 08:00' --until 12:00 --resume")
    with opening as lab:
        back = None if until is None else parse_moment(until, lab.context.clock())
        lab.show(lifecycle_verbs.maintain(lab.context, hosts, reason=reason, until=back, when_free=when_free))


def cordon(hosts: Chosen, reason: Reason = None, *, opening: Changing) -> None:
    """Keep hosts from being reserved from now on; reserved hosts stay with their holders."""
    with opening as lab:
        lab.show(lifecycle_verbs.cordon(lab.context, hosts, reason=reason))


def uncordon(hosts: Chosen, opening: Changing) -> None:
    """Allow hosts to be reserved again."""
    with opening as lab:
        lab.show(lifecycle_verbs.uncordon(lab.context, hosts))
