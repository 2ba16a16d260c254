"""Run a task under a lease: pass on its signals and status, renew the lease, give the hosts back.

The task is ended before its lease expires: with TERM, and with KILL in time for ``expires_at``. If ``run`` itself is
stopped, the watchdog does that. Ctrl-Z on a terminal stops the task and ``run``, so the lease is not renewed. If ``fg``
continues them before the lease ends, the task and the renewal continue; otherwise the task is ended, and the hosts are
tainted when the lease expires.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from bmhctl.domain.model import End, State, TaskResult
from bmhctl.domain.units import format_duration, local_time
from bmhctl.errors import (
    BmhctlError,
    ExitStatus,
    GoneError,
    MovedError,
    NotFoundError,
    NotYoursError,
    RetiredError,
    UnreachableError,
)
from bmhctl.results import Held
from bmhctl.runner.child import Child
from bmhctl.runner.lease import Lease
from bmhctl.runner.signals import Signals
from bmhctl.support.values import Frozen, Words, replace
from bmhctl.support.watchdog import steady
from bmhctl.usecases import lifecycle_verbs
from bmhctl.usecases.reservations.holder import extend
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.shared.leases import EXPIRED
from bmhctl.usecases.steps import step_verbs

FAILED, NOT_RUNNABLE, NOT_FOUND = 125, 126, 127
"""Exit statuses of ``run`` itself, the same as those of ``env``. A task that timed out has :data:`TIMED_OUT`."""

_LOOK = 0.1  # seconds between two checks of the clock and of the inventory's file; a check takes microseconds
_RETRY = 1.0  # seconds between two tries to reach an inventory
_LAST_TRIES = 30.0  # seconds for which giving the hosts back is retried


_T = TypeVar("_T")


class OnExit(Words):
    """What to do with the hosts after the task: give them back, or also clean and check them at once."""

    TAINT = "taint"
    RECYCLE = "recycle"


class Task(Frozen):
    """A command to run under a lease.

    ``keep_on_fail`` is how long the hosts stay reserved for debugging after the command has failed. ``on_exit`` says
    what to do with them otherwise. With an exit status in ``infra_statuses`` the command reports that its hosts are
    broken, and they get a fault. After ``timeout`` the command is ended.
    """

    command: tuple[str, ...]
    environ: Mapping[str, str]
    keep_on_fail: timedelta | None = None
    on_exit: OnExit = OnExit.TAINT
    infra_statuses: frozenset[int] = frozenset()
    timeout: timedelta | None = None


class NotRunnableError(BmhctlError):
    """The command can't be started; ``run_status`` is the status of a shell: 126, or 127 if it does not exist."""

    code = "not-runnable"
    status = ExitStatus.USAGE
    run_status = NOT_RUNNABLE

    def __init__(self, message: str, run_status: int, hint: str = "check the command after --") -> None:
        super().__init__(message, hint=f"{hint}; nothing was reserved")
        self.run_status = run_status


def find_command(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Raise :class:`NotRunnableError` for a command that can't be started, before anything is reserved."""
    name = command[0]
    if not name:
        raise NotRunnableError("the command is empty", NOT_FOUND)
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    if found is None:
        if os.sep in name and Path(name).exists():
            raise NotRunnableError(f"{name}: not executable", NOT_RUNNABLE)
        if " " in name:
            line = f"it runs without a shell; for a line of a shell: -- sh -c {shlex.quote(name)}"
            raise NotRunnableError(f"{name}: command not found", NOT_FOUND, line)
        raise NotRunnableError(f"{name}: command not found", NOT_FOUND)
    with suppress(OSError):  # a file that may be executed but not read can't be a script
        with open(found, "rb") as file:
            start = file.read(256)
        if start.startswith(b"#!"):
            interpreter = os.fsdecode(start[2:].split(b"\n")[0].strip().split(b" ")[0])
            if not os.access(interpreter, os.X_OK):
                raise NotRunnableError(f"{name}: there is no {interpreter} to run it", NOT_FOUND)
        elif b"\0" not in start:
            raise NotRunnableError(f"{name}: neither a program nor a script that begins with #!", NOT_RUNNABLE)


def run_task(
    ctx: Context,
    held: Held,
    task: Task,
    signals: Signals,
    claim: Sequence[int] = (),
    fail: Callable[[str], None] | None = None,
) -> int:
    """Run the command until it ends or the lease is lost; give the hosts back; return the status to exit with.

    The status is that of the command, or 128+n if signal n ended it. It is 124 if the command timed out; 125 if the
    lease was lost, or if the hosts of a command that succeeded could not be given back; 126 or 127 if the command could
    not be started. ``signals`` must be on hold. ``claim`` has the descriptors of the claim of this run: if ``run`` is
    killed, the claim lasts until the task has ended. ``fail`` is called with the reason of a status 125; None reports
    it as ``ctx`` does.
    """
    # Do not read the declaration again while the task runs: a user may be editing the file, and it may be invalid.
    undeclared = replace(ctx, store=ctx.store.undeclared())
    returning = _Returning(undeclared, held.reservation.id, signals, fail or ctx.report)
    lease = Lease(undeclared, held, signals.wake)
    if (loss := lease.lost()) is not None:  # this process was stopped since the grant
        return returning.give_back_lost(f"{loss.reason}; the task was not started")
    try:
        child = Child(task.command, task.environ, lease.deadline, claim, ctx.report)
    except TimeoutError:
        return returning.give_back_lost("it ended before the task could be started; the task was not started")
    except OSError as error:
        why = error.strerror
        if error.errno == errno.E2BIG:
            why = (
                f"the BMH_* variables of {len(held.hosts)} hosts are too long for this system; give each run fewer "
                "hosts, or reserve and release them yourself: bmhctl help ci"
            )
        ctx.report(f"{task.command[0]}: {why}")
        status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        return returning.give_back(f"task not started: {error.strerror}", status)
    lease.tell_deadline = child.tell_deadline
    try:
        lost = _attend(child, lease, signals, task.timeout)
    except BaseException:
        child.end(lease.grace)
        returning.give_back("task interrupted", FAILED)
        raise
    finally:
        returning.ended_at = ctx.clock()
        child.close(lease.deadline)
    if lost is None and child.was_ended_by_watchdog():
        lost = "this process was stopped for too long, so the lease was not renewed in time"
    if lost is not None:
        return returning.give_back_lost(f"{lost}; the task was ended")
    if child.timed_out is not None:
        ctx.report(f"the task was ended: it {child.outcome}")
    returning.is_in_time = child.is_watched()
    reason = "task completed" if child.status == 0 else f"task failed: {child.outcome}"
    if child.status and task.keep_on_fail is not None and returning.keep(task.keep_on_fail, reason):
        return child.status
    if child.status in task.infra_statuses:
        status = returning.give_back(reason, child.status, fault=f"reported by a task: {child.outcome}")
    else:
        result: TaskResult | None = TaskResult.FAILED if child.status else TaskResult.COMPLETED
        if child.was_asked_to_end:  # a task that was interrupted says nothing about its hosts
            result = None
        status = returning.give_back(reason, child.status, task=result)
    if task.on_exit is OnExit.RECYCLE:
        signals.release()
        _recycle(ctx, returning.tainted)
    return status


def _attend(child: Child, lease: Lease, signals: Signals, timeout: timedelta | None) -> str | None:
    """Pass signals on and renew the lease until the task ends; if the lease is lost, end the task and return why.

    The task is also ended after ``timeout``. Signals are handled in a separate thread, so that a slow inventory does
    not delay them.
    """
    lost: list[str] = []
    over = threading.Event()
    limit = float("inf") if timeout is None else steady() + timeout.total_seconds()

    def look_after() -> None:
        try:
            while not child.has_ended():
                loss = lease.lost()
                if loss is not None:
                    if child.has_ended():  # the task ended while this process was stopped: give_back checks the lease
                        return
                    lost.append(loss.reason)
                    child.end(lease.grace)
                    return
                if timeout is not None and steady() >= limit and not child.has_ended():
                    child.time_out(timeout, lease.grace)
                    return
                for number in signals.wait(min(_LOOK, max(0.0, limit - steady()))):
                    child.pass_on(number)
        finally:
            over.set()

    thread = threading.Thread(target=look_after, name="signals")
    thread.start()
    try:
        lease.keep(over)
    except BaseException:
        child.end(lease.grace)  # ends the thread
        raise
    finally:
        thread.join()
    return lost[0] if lost else None


def _recycle(ctx: Context, names: Sequence[str]) -> None:
    try:
        for item in step_verbs.recycle(ctx, Choice(tuple(names))).items if names else ():
            if item.error is not None:
                ctx.report(f"{item.host}: {item.error.message}")
    except BmhctlError as error:
        ctx.report(f"not recycled: {error.message}")


class _Returning:
    """Gives back the hosts of a reservation after the task; ``tainted`` are the hosts that were given back.

    ``ended_at`` is when the end of the task was noticed. ``is_in_time`` is true if the task ended before the lease,
    even if its end was noticed later: otherwise the watchdog would have ended it.
    """

    def __init__(self, ctx: Context, token: str, signals: Signals, fail: Callable[[str], None]) -> None:
        self.tainted: list[str] = []
        self.ended_at: datetime | None = None
        self.is_in_time = False
        self._ctx = ctx
        self._token = token
        self._signals = signals
        self._fail = fail
        self._deadline: float | None = None

    def keep(self, length: timedelta, reason: str) -> bool:
        """Leave the hosts reserved for debugging; return False if the lease is lost, and with it the hosts."""
        try:
            kept = self._insist(lambda: extend(self._ctx, self._token, length)).held
        except BmhctlError as error:
            self._ctx.report(f"the hosts can't be kept: {error.message}")
            return False
        until = f" until {local_time(kept.reservation.expires_at)}" if kept.reservation.expires_at else ""
        self._ctx.report(
            f"{reason}: kept for debugging{until} (requested: {format_duration(length)}): "
            f"{', '.join(host.name for host in kept.hosts)}; give back: bmhctl release -R {self._token}"
        )
        return True

    def give_back(self, reason: str, status: int, *, task: TaskResult | None = None, fault: str | None = None) -> int:
        """Give the hosts back; return the status to exit with: ``status``, or 125 if the lease was lost before.

        ``task`` is how the task ended on the hosts, or None if its end says nothing about them; ``fault`` is what is
        broken. A success also becomes 125 if the hosts can't be given back. A lease that expired only after the end of
        the task does not change the status; a note reports it.
        """
        release = lifecycle_verbs.release
        try:
            done = self._insist(
                lambda: release(self._ctx, Choice(), reservation=self._token, reason=reason, task=task, fault=fault)
            )
        except (NotYoursError, NotFoundError) as error:
            if self._ended_before_lease():
                self._ctx.report(f"the task ended in time, but its hosts were not given back in time: {error.message}")
                return status
            self._fail(f"the lease was lost while the task ran: {error.message}")
            return FAILED
        except BmhctlError as error:
            then = "; their lease expires by itself"
            if isinstance(error, RetiredError):
                successor = shlex.quote(str(error.details["successor"]))
                then = f"; give them back there: bmhctl -i {successor} release -R {self._token}"
            elif isinstance(error, MovedError):
                status, then = FAILED, ""
            self._fail(f"the hosts could not be given back: {error.message}{then}")
            return status or FAILED
        for item in done.items:
            if item.source is State.RESERVED and item.state is State.MAINTENANCE:
                self._ctx.report(f"{item.host}: {item.message}")
        if fault:
            self._ctx.report(f"{', '.join(item.host for item in done.items)}: fault recorded: {fault}")
            return status
        self.tainted = [item.host for item in done.items if item.state is State.TAINTED]
        return status

    def give_back_lost(self, why: str) -> int:
        """Report that the lease is lost, and try once to give back hosts that a late renewal may have kept.

        Returns the status to exit with.
        """
        self._fail(f"the lease is lost: {why}")
        with suppress(BmhctlError):  # usually no host is left to give back
            lifecycle_verbs.release(self._ctx, Choice(), reservation=self._token, reason="task ended: lease lost")
        return FAILED

    def _ended_before_lease(self) -> bool:
        """Return whether the reservation was still valid when the task ended."""
        try:
            known = self._ctx.store.reservations.get(self._token)
        except BmhctlError:
            return False
        if known is None or self.ended_at is None:
            return False
        if known.end in (None, End.EXPIRED):
            if known.end_reason not in (None, EXPIRED):  # the task still ran when the lease expired
                return False
            return self.is_in_time or (known.expires_at is not None and self.ended_at < known.expires_at)
        return known.ended_at is not None and self.ended_at < known.ended_at

    def _insist(self, act: Callable[[], _T]) -> _T:
        """Call ``act``, and retry for a while if the inventory can't be reached; a signal ends the tries."""
        while True:
            try:
                return act()
            except UnreachableError as error:
                if isinstance(error, MovedError | RetiredError) and not isinstance(error, GoneError):
                    raise
                if self._deadline is None:
                    self._deadline = time.monotonic() + _LAST_TRIES
                    self._ctx.report(f"{error.message}; trying again")
                if time.monotonic() > self._deadline:
                    raise
                if self._signals.wait(_RETRY):
                    self._deadline = 0.0
                    raise
