"""Runs a task under a lease: the child has its signals and its status, the lease is renewed, nothing is leaked."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bmhctl.errors import BmhctlError, NotFoundError, NotYoursError, UnreachableError
from bmhctl.model import Reservation, State
from bmhctl.results import Held
from bmhctl.runner import watchdog
from bmhctl.units import format_duration
from bmhctl.usecases import verbs
from bmhctl.usecases.choosing import Choice
from bmhctl.usecases.context import Context
from bmhctl.usecases.leases import hosts_of
from bmhctl.usecases.reservations import extend

TIMED_OUT, FAILED, NOT_RUNNABLE, NOT_FOUND = 124, 125, 126, 127
"""Statuses of ``run`` itself, as ``timeout`` and ``env`` have them."""

GRACE = 10.0
"""Seconds between TERM and KILL for a child whose lease is lost."""

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # on a terminal the child gets them from there, as we do
_LOOK = 1.0  # seconds between two looks at whether the reservation is still there
_RETRY = 2.0  # seconds between two tries to reach an inventory
_LAST_TRIES = 30.0  # seconds to go on trying to give the hosts back


_T = TypeVar("_T")


class OnExit(StrEnum):
    """What becomes of the hosts after the task: given back, or cleaned and checked at once as well."""

    TAINT = "taint"
    RECYCLE = "recycle"


@dataclass(frozen=True, slots=True)
class Task:
    """A command to run under a lease.

    ``keep_on_fail`` leaves the hosts reserved for so long when the command fails, for debugging. ``on_exit`` says
    what becomes of them otherwise.
    """

    command: tuple[str, ...]
    environ: Mapping[str, str]
    keep_on_fail: timedelta | None = None
    on_exit: OnExit = OnExit.TAINT


class NotRunnableError(BmhctlError):
    """The command can't be started; ``run_status`` is what a shell would say: 126, or 127 when it is not there."""

    code = "not-runnable"

    def __init__(self, message: str, run_status: int) -> None:
        super().__init__(message, hint="check the command after --; nothing was reserved")
        self.run_status = run_status


def find_command(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Raises :class:`NotRunnableError` for a command that could not be started; asked before anything is reserved."""
    name = command[0]
    if shutil.which(name, path=environ.get("PATH", os.defpath)):
        return
    if os.sep in name and Path(name).exists():
        raise NotRunnableError(f"{name}: not executable", NOT_RUNNABLE)
    raise NotRunnableError(f"{name}: command not found", NOT_FOUND)


def run_task(ctx: Context, held: Held, task: Task) -> int:
    """Runs the command until it ends or the lease is lost; gives the hosts back. Returns the status to exit with.

    That is the command's own: 128+n when signal n ended it; 125 when the lease was lost; 126 or 127 when it could
    not be started.
    """
    with _Signals() as signals:
        try:
            child = _Child(task)
        except OSError as error:
            _give_back(ctx, held.reservation.id, f"task not started: {error.strerror}", OnExit.TAINT)
            ctx.tell(f"{task.command[0]}: {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        try:
            lost = _attend(ctx, held, child, signals)
        except BaseException:
            child.end()
            _give_back(ctx, held.reservation.id, "task interrupted", OnExit.TAINT)
            raise
        finally:
            child.close()
    if lost is not None:
        ctx.tell(f"the lease is lost: {lost}; the task was ended")
        return FAILED
    status = child.status
    reason = "task completed" if status == 0 else f"task failed: {_ended(status)}"
    if status and task.keep_on_fail is not None and _keep(ctx, held.reservation, task.keep_on_fail, reason):
        return status
    _give_back(ctx, held.reservation.id, reason, task.on_exit)
    return status


def _ended(status: int) -> str:
    if status <= 128:
        return f"exit {status}"
    try:
        return signal.Signals(status - 128).name
    except ValueError:
        return f"exit {status}"


class _Signals:
    """Signals as they come, to be asked for; the process's own handlers are back afterwards."""

    def __init__(self) -> None:
        self._before: dict[int, object] = {}
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> _Signals:
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGCHLD):
            self._before[number] = signal.signal(number, _note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> list[int]:
        """The signals that came, at the latest after so many seconds none."""
        if not select.select([self._reader], [], [], max(0.0, seconds))[0]:
            return []
        return list(os.read(self._reader, 4096))


def _note(number: int, frame: FrameType | None) -> None:
    """Does nothing: the number is in the wake-up pipe. A handler, so that the child starts with the default."""


class _Child:
    """The task's process, and the watchdog that ends it when this process is killed."""

    def __init__(self, task: Task) -> None:
        self.shares_group = _in_foreground()
        self._process = subprocess.Popen(
            task.command, env=dict(task.environ), process_group=None if self.shares_group else 0
        )
        self._group = 0 if self.shares_group else self._process.pid
        self.status = 0
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, str(self._group), str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def has_ended(self) -> bool:
        """Whether the task's process is gone; then ``status`` is its status as a shell has it."""
        code = self._process.poll()
        if code is None:
            return False
        self.status = code if code >= 0 else 128 - code
        return True

    def send(self, number: int) -> None:
        """Sends a signal to the task: to its whole group, or to its process where the group is ours too."""
        with suppress(ProcessLookupError):
            if self._group:
                os.killpg(self._group, number)
            else:
                self._process.send_signal(number)

    def end(self, grace: float = GRACE) -> None:
        """Ends the task and all that descends from it: TERM, and after the grace KILL."""
        watchdog.end_task(self._group, self._process.pid, grace)
        self._process.wait()
        self.has_ended()

    def close(self) -> None:
        """Ends what the task left behind in its group, and sends the watchdog home."""
        if self._group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGTERM)
                time.sleep(0.05)
                os.killpg(self._group, signal.SIGKILL)
        with suppress(OSError):
            self._watchdog.communicate(b"\n", timeout=5)


def _in_foreground() -> bool:
    """Whether this process is in the foreground of a terminal: then its child shares the group, to read from there."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _attend(ctx: Context, held: Held, child: _Child, signals: _Signals) -> str | None:
    """Passes signals on and renews the lease until the task ends; returns why the lease was lost, if it was."""
    lease = _Lease(ctx, held)
    while not child.has_ended():
        for number in signals.wait(lease.next_look()):
            if number in _FORWARDED and not (child.shares_group and number in _FROM_TERMINAL):
                child.send(number)
        if child.has_ended():
            break
        lost = lease.look()
        if lost is not None:
            child.end()
            return lost
    return None


class _Lease:
    """A lease that is renewed at a third of its length, while the inventory can be reached or until it is over."""

    def __init__(self, ctx: Context, held: Held) -> None:
        self._ctx = ctx
        self._reservation = held.reservation
        self._names = {host.name for host in held.hosts}
        self._version = -1
        self._next_look = 0.0
        self._next_renewal = self._plan()

    def next_look(self) -> float:
        """Seconds until there is something to do."""
        return max(0.0, min(self._next_look, self._next_renewal) - time.monotonic())

    def look(self) -> str | None:
        """Renews and checks what is due; returns why the lease is lost, None while it holds."""
        now = time.monotonic()
        try:
            if now >= self._next_renewal:
                self._renew()
            elif now >= self._next_look:
                self._check()
        except (NotYoursError, NotFoundError) as error:
            return error.message
        except UnreachableError as error:
            expiry = self._reservation.expires_at
            if expiry is not None and self._ctx.clock() >= expiry:
                return f"it could not be renewed in time: {error.message}"
            self._next_renewal = time.monotonic() + _RETRY
        self._next_look = time.monotonic() + _LOOK
        return None

    def _renew(self) -> None:
        grant = extend(self._ctx, self._reservation.id, silent=True)
        self._reservation = grant.held.reservation
        self._next_renewal = self._plan()
        self._warn(host.name for host in grant.held.hosts)

    def _check(self) -> None:
        version = self._ctx.store.version()
        if version == self._version:
            return
        self._version = version
        known = self._ctx.store.reservation(self._reservation.id)
        if known is None or not known.is_valid(self._ctx.clock()):
            why = known.end_reason if known is not None else None
            raise NotYoursError(f"reservation {self._reservation.id} is over: {why or 'its lease ended'}")
        self._reservation = known
        self._warn(host.name for host in hosts_of(self._ctx, known))

    def _warn(self, names: Iterable[str]) -> None:
        here = set(names)
        for name in sorted(self._names - here):
            self._ctx.tell(f"{name} is no longer in the reservation; the task goes on with {len(here)} hosts")
        self._names = here

    def _plan(self) -> float:
        ttl = self._reservation.ttl
        return float("inf") if ttl is None else time.monotonic() + ttl.total_seconds() / 3


# the end


def _keep(ctx: Context, reservation: Reservation, length: timedelta, reason: str) -> bool:
    """Leaves the hosts reserved for debugging; False when the lease is gone, and the hosts with it."""
    try:
        kept = _insist(lambda: extend(ctx, reservation.id, length)).held
    except BmhctlError as error:
        ctx.tell(f"the hosts can't be kept: {error.message}")
        return False
    until = f" until {kept.reservation.expires_at:%Y-%m-%d %H:%M} UTC" if kept.reservation.expires_at else ""
    ctx.tell(
        f"{reason}: kept for debugging, asked for {format_duration(length)},{until}: "
        f"{', '.join(host.name for host in kept.hosts)}; give back: bmhctl release -R {reservation.id}"
    )
    return True


def _give_back(ctx: Context, reservation: str, reason: str, on_exit: OnExit) -> None:
    try:
        outcomes = _insist(lambda: verbs.release(ctx, Choice(), reservation=reservation, reason=reason))
    except BmhctlError as error:
        ctx.tell(f"the hosts could not be given back: {error.message}; their lease ends by itself")
        return
    if on_exit is OnExit.RECYCLE:
        names = tuple(item.host for item in outcomes.items if item.state is State.TAINTED)
        for verb in (verbs.reset, verbs.ready):
            if names:
                done = verb(ctx, Choice(names))
                names = tuple(item.host for item in done.items if item.error is None)
                for item in done.items:
                    if item.error is not None:
                        ctx.tell(f"{item.host}: {item.error.message}")


def _insist(act: Callable[[], _T]) -> _T:
    """Goes on trying for a while when the inventory can't be reached."""
    deadline = time.monotonic() + _LAST_TRIES
    while True:
        try:
            return act()
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)
