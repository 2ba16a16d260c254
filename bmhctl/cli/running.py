"""``run``: one turn on some hosts, from the reservation to giving them back."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import typer

from bmhctl.cli.invocation import invocation_of, session
from bmhctl.cli.waiting import patience_of
from bmhctl.errors import BmhctlError, BusyError, UsageError, WaitTimeoutError
from bmhctl.frozen import replace
from bmhctl.results import Outcomes
from bmhctl.runner.environment import task_environment
from bmhctl.runner.signals import Signals
from bmhctl.runner.task import FAILED, TIMED_OUT, NotRunnableError, OnExit, Task, find_command, run_task
from bmhctl.stores.claims import of_run
from bmhctl.units import parse_duration
from bmhctl.usecases.holding import give_up
from bmhctl.usecases.naming import new_reservation_id
from bmhctl.usecases.queue import reserve_or_wait
from bmhctl.usecases.reservations import Wish


def run_command(
    ctx: typer.Context,
    command: list[str],
    make_wish: Callable[[], Wish],
    *,
    wait: str | None,
    check: bool,
    keep_on_fail: str | None,
    on_exit: str,
) -> None:
    """Runs the command under a lease and exits with its status; failures of its own exit 124 to 127."""
    try:
        status = _run(ctx, command, make_wish, wait, check, keep_on_fail, on_exit)
    except BmhctlError as error:
        invocation_of(ctx).fail(error, [])
        raise typer.Exit(_status_of(error)) from error
    raise typer.Exit(status)


def _run(
    ctx: typer.Context,
    command: list[str],
    make_wish: Callable[[], Wish],
    wait: str | None,
    check: bool,
    keep_on_fail: str | None,
    on_exit: str,
) -> int:
    wish = make_wish()
    if on_exit not in list(OnExit):
        raise UsageError(f"--on-exit can't be {on_exit!r}", hint=f"one of {', '.join(OnExit)}")
    kept = None if keep_on_fail is None else parse_duration(keep_on_fail)
    find_command(command, os.environ)
    patience = None if wait is None else patience_of(ctx, wait)
    with session(ctx, Outcomes) as lab, Signals() as signals:
        wish = replace(wish, token=new_reservation_id(lab.context.store))
        try:
            grant = reserve_or_wait(lab.context, wish, patience, check=check)
            signals.hold()
        except BmhctlError:
            raise  # nothing was granted, or nobody can know
        except BaseException:  # a signal between the grant and the task: nobody would give the hosts back
            with suppress(BmhctlError):  # else their lease ends by itself
                give_up(lab.context, str(wish.token), "interrupted before the task")
            raise
        for text in grant.notes:
            lab.context.tell(text)
        environ = task_environment(os.environ, grant.held, lab.context.store.address, lab.context.actor)
        task = Task(tuple(command), environ, kept, OnExit(on_exit))
        with lab.context.store.claims.claim(of_run(grant.held.reservation.id)) as mine:
            if mine is None:  # the same request id, asked for twice: one task at a time on a host
                raise BusyError(
                    f"request {wish.request_id} is being run already: nothing was started",
                    hint="wait until it ends, or use another request id",
                )
            mine.guard()
            lab.line.clear()  # the terminal is the task's from now on
            return run_task(lab.context, grant.held, task, signals)


def _status_of(error: BmhctlError) -> int:
    match error:
        case NotRunnableError():
            return error.run_status
        case WaitTimeoutError():
            return TIMED_OUT
        case _:
            return FAILED
