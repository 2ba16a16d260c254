"""``wait``: wait until hosts are in a state; and how every command waits: its progress, and the signals that end it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Annotated, TextIO

import typer

from bmhctl.cli.options import Fields
from bmhctl.cli.pauses import pause_on
from bmhctl.cli.session import Selected, invocation_of, session
from bmhctl.domain.model import StateName
from bmhctl.domain.units import OF_DAY, local_time, parse_duration
from bmhctl.output import note
from bmhctl.results import Hosts
from bmhctl.usecases.reservations.eta import in_words
from bmhctl.usecases.reservations.queue_watch import IS_NEXT, Waiting
from bmhctl.usecases.reservations.waiting import WaitOptions
from bmhctl.usecases.shared.absence import PAUSE


def wait(
    ctx: typer.Context,
    wanted: Annotated[StateName, typer.Option("--for", help="The state, or free (available and reservable).")],
    hosts: Selected,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="End with status 7 after this time; 0s checks once.")
    ] = None,
    fields: Fields = None,
) -> None:
    """Wait until all named or matching hosts are in a state, and show them."""
    from bmhctl.usecases.wait import wait as wait_for

    limit = None if timeout is None else parse_duration(timeout)
    patience = WaitOptions(pause_on(invocation_of(ctx).display()), limit)
    with session(ctx, Hosts, fields, pause=pause_before_opening(patience)) as lab:
        lab.show(wait_for(lab.context, hosts, wanted, patience))


def patience_of(ctx: typer.Context, wait: str) -> WaitOptions:
    """Return how ``--wait`` waits: it reports its position on stderr, and ends when the pipe on stdout is closed.

    If stderr is a pipe that is full, the line is dropped: the ticket must be refreshed meanwhile.
    """
    display = invocation_of(ctx).display()

    def progress(waiting: Waiting) -> None:
        if not _takes_line(display.stderr):
            return
        position = "first in the queue" if waiting.position == 1 else f"number {waiting.position} in the queue"
        until = f", until {local_time(waiting.deadline, OF_DAY)}" if waiting.deadline else ""
        eta = "" if waiting.why == IS_NEXT else f"; {in_words(waiting.eta)}"
        if eta and waiting.eta and waiting.deadline and waiting.eta > waiting.deadline:
            eta += ": after the end of --wait"
        why = waiting.why.removeprefix(f"{waiting.requirements}: ")
        for known in (", nothing was reserved", "nothing was reserved: ", ": nothing was reserved"):
            why = why.replace(known, "", 1)
        own = os.environ.get("BMH_RESERVATION")
        if own and own in why:
            eta += f"; {own} is in $BMH_RESERVATION: a task that waits for its own hosts waits for ever"
        note(f"waiting for {waiting.requirements}, {position}{until}: {why}{eta}", display)

    return WaitOptions(pause_on(display), None if wait == "forever" else parse_duration(wait), progress)


def pause_before_opening(patience: WaitOptions) -> Callable[[], None]:
    """Return a sleep between tries to open an unavailable inventory; the sleep raises when the wait has timed out."""

    def pause() -> None:
        patience.pause(PAUSE, None)
        if patience.is_over():
            hint = "repeat the command with a longer wait, or when the inventory can be reached"
            raise patience.timed_out("the inventory", hint)

    return pause


def _takes_line(stream: TextIO) -> bool:
    """Return whether a line can be written to a stream without waiting for its reader."""
    poll = select.poll()
    try:
        poll.register(stream, select.POLLOUT)
    except (OSError, ValueError):  # not a stream of the system
        return True
    return bool(poll.poll(0))
