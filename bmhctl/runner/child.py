"""The task's process: its process group, its signals, its end, and its watchdog."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from bmhctl.domain.units import format_duration
from bmhctl.runner.signals import FROM_TERMINAL, PASSED_ON
from bmhctl.support import watchdog
from bmhctl.support.left_tasks import RESERVATION, Ended, describe, new_mark
from bmhctl.support.watchdog import Deadline

TIMED_OUT = 124
"""The exit status of a task that timed out, as coreutils' ``timeout`` has it."""

GRACE = 10.0
"""Seconds between TERM and KILL for a task that has to end."""

LOST_GRACE = 2.0
"""Seconds between TERM and KILL for a task whose lease is already lost, because another job may have the host."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)
_LEFTOVER_GRACE = 2.0  # seconds between TERM and KILL for processes that a task left behind
_PATIENCE = 5.0  # seconds to wait for the watchdog's end


class Child:
    """A running task.

    The task shares this process's group if it may read from the terminal, now or after ``fg``; otherwise it has its own
    group. It inherits what this process inherited: descriptors, working directory, umask,
    ignored signals. Descriptors that this process opened are closed. Its environment is ``environ`` and
    :data:`watchdog.MARK`. The watchdog gets the ``deadline`` before the task starts. It also gets ``claim``, the
    descriptors of a claim: if this process is killed, the claim lasts until the watchdog has ended the task.
    ``report`` is called with one line for the user. ``was_asked_to_end`` is true if a signal that was passed on asked
    the task to end; ``timed_out`` is the time after which :meth:`time_out` ended it. Raises :class:`OSError` if the
    task can't be started, and :class:`TimeoutError` if its lease is about to end; no process of the task is left then.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        deadline: Deadline | None,
        claim: Sequence[int],
        report: Callable[[str], None],
    ) -> None:
        self._report = report
        self.shares_group = _in_foreground() or _is_job()
        self._reported: set[int] = set()
        self.was_asked_to_end = False
        self.timed_out: timedelta | None = None
        self._mark = new_mark(environ[RESERVATION])
        end, self._pipe = os.pipe()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, "shared" if self.shares_group else "group", self._mark],
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=claim,
        )
        os.close(end)
        self.tell_deadline(deadline)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)

        def refuse_late() -> None:
            if deadline is not None and watchdog.steady() >= deadline.term:
                raise TimeoutError  # this process was stopped after it had looked at the lease

        def introduce() -> None:
            # This runs in the new process: reset the signal handlers, and tell the watchdog the process id.
            for number in PASSED_ON:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            # If the watchdog was killed, the write would cause SIGPIPE: ignore it here, and reset it for the task
            # below.
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            self._write(b"%d\n" % os.getpid())
            refuse_late()  # check once more; from here on, the watchdog ends a late task
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)

        try:
            refuse_late()
            self._process = subprocess.Popen(
                command,
                env={**environ, watchdog.MARK: self._mark},
                process_group=None if self.shares_group else 0,
                close_fds=False,
                preexec_fn=introduce,  # no other thread exists yet
            )
        except BaseException as error:
            self._dismiss()
            if isinstance(error, subprocess.SubprocessError):  # the error that `introduce` raises
                raise TimeoutError from None
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._group = 0 if self.shares_group else self._process.pid

    def has_ended(self) -> bool:
        """Return whether the task's process has ended."""
        return self._process.poll() is not None

    @property
    def status(self) -> int:
        """The exit status of the task as in a shell: 128+n for signal n; :data:`TIMED_OUT` if it timed out."""
        if self.timed_out is not None:
            return TIMED_OUT
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    @property
    def outcome(self) -> str:
        """How the task ended, in words: ``exit 3``, ``SIGKILL``, ``timed out after 2h``."""
        if self.timed_out is not None:
            return f"timed out after {format_duration(self.timed_out)}"
        code = self._process.returncode
        if code >= 0:
            return f"exit {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def pass_on(self, number: int) -> None:
        """Pass a signal on to the task: to its own group, or to its process if it shares this process's group.

        A signal that the terminal has sent to the shared group is not sent again. A task that is stopped is continued
        to handle a signal that asks it to end.
        """
        self.was_asked_to_end |= number in _ENDING
        if self.shares_group and number in FROM_TERMINAL:
            return  # the terminal has sent it to the task too
        for each in (number, signal.SIGCONT) if number in _ENDING else (number,):
            with suppress(ProcessLookupError, PermissionError):
                if self._group:
                    os.killpg(self._group, each)
                else:
                    self._process.send_signal(each)

    def tell_deadline(self, deadline: Deadline | None) -> None:
        """Send the watchdog the times at which it has to end the task; None for a lease without an end."""
        self._write(b"until\n" if deadline is None else deadline.to_line())

    def end(self, grace: Callable[[], float]) -> None:
        """End the task and its descendants: send TERM, and KILL after the grace.

        ``grace`` returns the seconds that the task still has at most. It is called again and again, because they may
        become fewer: the lease may be lost meanwhile.
        """
        self._report_left(watchdog.end_task(self._group, self._process.pid, grace(), self._mark, grace))
        self._process.wait()

    def time_out(self, limit: timedelta, grace: Callable[[], float]) -> None:
        """End the task like :meth:`end`, because it has run for ``limit``."""
        self.timed_out = limit
        self.end(grace)

    def was_ended_by_watchdog(self) -> bool:
        """Return whether the watchdog ended the task before its lease, because this process was stopped or late."""
        return self._watchdog.poll() == watchdog.LEASE_OVER

    def is_watched(self) -> bool:
        """Return whether the watchdog ended as planned, and was not killed."""
        return self._watchdog.poll() in (None, 0)

    def close(self, deadline: Deadline | None = None) -> None:
        """End the watchdog, and in time for the deadline the processes that are left of a task with its own group."""
        if self._group:
            left = _LEFTOVER_GRACE if deadline is None else min(_LEFTOVER_GRACE, deadline.kill - watchdog.steady())
            self._report_left(watchdog.end_task(self._group, self._group, left, self._mark))
        self._dismiss()

    def _report_left(self, left: Sequence[int]) -> None:
        """Report processes of the task that could not be ended, each once."""
        found = [describe(process) for process in left if process not in self._reported]
        self._reported.update(left)
        if found:
            self._report(f"the task {Ended((), tuple(found))}")

    def _dismiss(self) -> None:
        self._write(watchdog.DONE)
        os.close(self._pipe)
        with suppress(subprocess.TimeoutExpired):
            self._watchdog.wait(_PATIENCE)

    def _write(self, line: bytes) -> None:
        with suppress(BrokenPipeError):  # the watchdog may have been killed before
            os.write(self._pipe, line)


def _in_foreground() -> bool:
    """Return whether this process is in the foreground of a terminal."""
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


def _is_job() -> bool:
    """Return whether this process is a background job of an interactive shell, which ``fg`` can bring to the terminal.

    A job that does not read from the terminal, such as one of ``nohup``, does not count.
    """
    try:
        return os.getpgrp() == os.getpid() and os.tcgetpgrp(0) > 0  # fails unless stdin is the controlling terminal
    except OSError:
        return False
