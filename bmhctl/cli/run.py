"""``run``: reserve hosts, run a command on them, give them back."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from bmhctl.cli.reserve import Check, Requested, Wait
from bmhctl.cli.session import session
from bmhctl.cli.wait import patience_of, pause_before_opening
from bmhctl.domain.model import Reservation
from bmhctl.domain.requirements import NO_HOST
from bmhctl.domain.units import parse_duration
from bmhctl.errors import BmhctlError, BusyError, UsageError
from bmhctl.output import note
from bmhctl.results import Outcomes
from bmhctl.runner.environment import task_environment
from bmhctl.runner.lease import check_length
from bmhctl.runner.signals import Signals
from bmhctl.runner.task import OnExit, Task, find_command, run_task
from bmhctl.stores.claims import run_claim
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.holder import extend, give_up
from bmhctl.usecases.reservations.reserve import reserve_or_wait
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.expiry import left_task

if TYPE_CHECKING:
    from bmhctl.support.left_tasks import LeftTask


def _end(ctx: Context, token: str, task: LeftTask) -> None:
    """End the task that a killed run of this request has left: only one task runs on a host."""
    if not task.has_this_process() and (ended := task.end()):
        ctx.report(f"{token}: its earlier run was killed; {ended}")


def _check_granted(ctx: Context, reservation: Reservation) -> None:
    """Give the hosts back and raise :class:`UsageError` if the policy made the lease too short for a task."""
    try:
        check_length(reservation.ttl)
    except UsageError as error:
        give_up(ctx, reservation.id, "lease too short for a task")
        error.hint = "raise ttl and max_ttl in the policy: bmhctl policy show"
        raise


def _how_to_name(command: list[str]) -> str:
    """Return the hint for a command line that requests no host."""
    if "--" in command:  # bmhctl run node01 -- make test
        end = command.index("--")
        hosts = [*takewhile(lambda word: not word.startswith("-"), command[:end])]
        words = [*(f"--host {shlex.quote(host)}" for host in hosts), *map(shlex.quote, command[len(hosts) : end])]
        return f"did you mean bmhctl run {' '.join(words)} -- {shlex.join(command[end + 1 :])}?"
    return "name hosts with --host node01, or give a number: -n 1; or a selector: -l arch=arm64"


def run(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND…", help="What to run, with its own options.")],
    hosts: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="Reserve this host; may be repeated.")
    ] = None,
    *,
    requested: Requested,
    wait: Wait = None,
    check: Check = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="End the command after this time, with status 124.")
    ] = None,
    keep_on_fail: Annotated[
        str | None, typer.Option(metavar="DURATION", help="After a failure, keep the hosts reserved for this long.")
    ] = None,
    on_exit: Annotated[
        str, typer.Option(metavar="taint|recycle", help="What to do with the hosts afterwards.")
    ] = "taint",
    infra_status: Annotated[
        list[int] | None,
        typer.Option(min=1, max=255, metavar="N", help="An exit status that means a broken host; may be repeated."),
    ] = None,
) -> None:
    """Reserve hosts, run a command on them, and give them back, even if the command fails.

    The lease is renewed while the command runs; its exit status is passed through. 124: timed out waiting, or the
    command exceeded --timeout; 125: bmhctl itself failed, or the lease was lost; 126, 127: the command is not
    executable, not found.
    """
    try:
        request = requested(hosts)
    except UsageError as error:
        if error.message == NO_HOST:
            error.hint = _how_to_name(command)
        raise
    if on_exit not in list(OnExit):
        raise UsageError(f"--on-exit can't be {on_exit!r}", hint=f"one of {', '.join(OnExit)}")
    kept = None if keep_on_fail is None else parse_duration(keep_on_fail)
    limit = None if timeout is None else parse_duration(timeout)
    if limit is not None and not limit:
        raise UsageError("--timeout is zero: the command could not run", hint="without --timeout, it has no time limit")
    find_command(command, os.environ)
    check_length(request.ttl)
    patience = None if wait is None else patience_of(ctx, wait)
    pause = None if patience is None else pause_before_opening(patience)
    with session(ctx, Outcomes, pause=pause) as lab, Signals() as signals:
        token = lab.context.store.reservations.new_id()
        request = replace(request, token=token)
        try:
            grant = reserve_or_wait(lab.context, request, patience, check=check)
            is_older = token != grant.held.reservation.id  # granted earlier: the lease may end at any time
            token = grant.held.reservation.id
            if not is_older:
                _check_granted(lab.context, grant.held.reservation)
            signals.hold()
        except BmhctlError:
            raise  # nothing was granted, or bmhctl does not know whether it was
        except BaseException:  # a signal between the grant and the task: give the hosts back
            with suppress(BmhctlError):  # if that fails, their lease expires
                give_up(lab.context, token, "interrupted before the task")
            raise
        for text in grant.notes:
            lab.context.report(text)
        left = left_task(lab.context, token) if is_older else None  # look before this process makes the same claim
        with lab.context.store.claims.claim(run_claim(token)) as mine:
            if mine is None:  # another run with the same request id has a task on the hosts
                raise BusyError(
                    f"request {request.request_id} is running already: nothing was started",
                    hint="wait until it ends, or use another request id",
                )
            mine.guard()
            if left is not None:
                _end(lab.context, token, left)
            held = extend(lab.context, token, silent=True).held if is_older else grant.held
            environ = task_environment(os.environ, held, lab.context.store.address, lab.context.actor)
            task = Task(tuple(command), environ, kept, OnExit(on_exit), frozenset(infra_status or ()), limit)
            lab.line.clear()  # from now on the task writes to the terminal
            fail = partial(note, display=replace(lab.display, quiet=False)) if lab.display.quiet else None
            status = run_task(lab.context, held, task, signals, mine.inherit, fail)
    raise typer.Exit(status)
