"""One command line as a process: streams, signals, errors, exit status."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

import typer

from bmhctl.cli.app import GLOBAL_OPTIONS, application, build_command
from bmhctl.cli.commands import COMPLETION_VARIABLE, ENTRIES, OWN_FAILURES, PROGRAM, WELCOME
from bmhctl.cli.session import Invocation
from bmhctl.errors import BmhctlError, ExitStatus, UnreachableError, UsageError
from bmhctl.output import silence
from bmhctl.stores import state_files

_DAY = 86_400  # seconds


def run(args: list[str]) -> int:
    """Run one command line, with its output on stdout and stderr, and return its exit status."""
    invocation = Invocation()
    if not _open_streams():
        closed = UnreachableError("stdout is closed: nothing was done", hint="to discard the output: > /dev/null")
        return _own(invocation.fail(closed, _ours(args)), args)
    try:
        status = _run(args, invocation)
        if status and "--shell" in args and _command_in(args) == "reserve":
            from bmhctl.runner.environment import unset_line

            sys.stdout.write(unset_line(status, os.environ) + "\n")  # eval must fail after any failure
        sys.stdout.flush()
    except BrokenPipeError:
        status = 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None:
            raise  # it does not come from writing the output, so it is a defect: show its traceback
        status = invocation.fail(UnreachableError(f"can't write the output: {error.strerror}"), args)
    if invocation.notes:
        invocation.write_notes()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)  # else the interpreter flushes again at exit, and ends with another status
    return status


def leave(status: int) -> NoReturn:
    """End the process without finalizing the interpreter, which takes a tenth of a command's time.

    All output is written and closed by now. Under a debugger or coverage the process ends as usual.
    """
    import atexit
    import threading

    if threading.active_count() > 1 or sys.gettrace() or sys.getprofile():
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def _run(args: list[str], invocation: Invocation) -> int:
    if COMPLETION_VARIABLE in os.environ:
        from bmhctl.cli.completion import answer

        answer(application(), os.environ[COMPLETION_VARIABLE])
        return ExitStatus.DONE
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores this signal
            signal.signal(number, _end)
    state_files.shared_folder = os.environ.get(state_files.VARIABLE)
    try:
        _check_zone()
        _check_text(args)
        if not args:
            sys.stdout.write(WELCOME)
            return ExitStatus.DONE
        root = application()
        with root.make_context(PROGRAM, [*args], obj=invocation) as ctx:  # a copy: Typer removes items from it
            root.invoke(ctx)
        return ExitStatus.DONE
    except BmhctlError as error:
        status = invocation.fail(_with_variable(_with_habit(error, _ours(args)), args), _ours(args))
        return _own(status, args, error.run_status)
    except typer.Exit as done:
        return int(done.exit_code)
    except _EndedError as ended:
        return 128 + ended.number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        gone = UnreachableError("the current folder no longer exists", hint="cd to an existing folder")
        return invocation.fail(gone, args)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _own(invocation.fail(_usage(error, args), _ours(args)), args)


def _with_variable(error: BmhctlError, args: list[str]) -> BmhctlError:
    """Return the error, with a hint to $BMH_RESERVATION if it is about a reservation that only this variable names.

    In the error of several hosts, each such host gets the hint.
    """
    token = os.environ.get("BMH_RESERVATION")
    if not token or any(token in word for word in args):
        return error
    said = f"{token} is in $BMH_RESERVATION: unset BMH_RESERVATION to act without it"
    each = error.details.get("errors")
    named = [one for one in each if token in one["message"]] if isinstance(each, list) else []
    for one in named:
        one["hint"] = "; ".join(filter(None, (said, one["hint"])))
    if named or token in error.message:
        error.hint = "; ".join(filter(None, (said, error.hint)))
    return error


def _ours(args: list[str]) -> list[str]:
    """Return bmhctl's own arguments, without those of the program that ``run`` starts."""
    name = _command_in(args)
    if name not in OWN_FAILURES:
        return args
    start = args.index(name) + 1
    return [*args[:start], *build_command(name, ENTRIES[name]).own(args[start:])]


def _own(status: int, args: list[str], own: int = BmhctlError.run_status) -> int:
    """Return the exit status of a failure: ``own`` for a command that passes on the status of another program."""
    return own if _command_in(args) in OWN_FAILURES else status


def _command_in(args: list[str]) -> str | None:
    """Return the command that is called, such as ``policy check``, for failures before the arguments are parsed."""
    takes_value = {name for option in GLOBAL_OPTIONS if not option.is_flag for name in option.opts}
    position = 0
    while position < len(args) and args[position].startswith("-"):
        position += 2 if args[position] in takes_value else 1
    words = args[position : position + 2]
    return next((name for name in (" ".join(words), *words[:1]) if name in ENTRIES), None)


def _check_text(args: list[str]) -> None:
    """Raise :class:`UsageError` for arguments and variables that are not UTF-8, which no inventory can store."""
    if _command_in(args) in OWN_FAILURES:
        args = []  # the rest are another program's arguments, which may be any bytes
    ours = [(f"${name}", text) for name, text in os.environ.items() if name.startswith("BMH")]
    for what, text in (*(("the argument", arg) for arg in args), *ours):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{what} {text!r} is not UTF-8", hint="write it in UTF-8") from None


def _check_zone() -> None:
    """Raise :class:`UsageError` if the local zone is a day or more from UTC, which no local time in Python can be.

    For a ``$TZ`` that is no zone at all, the C library takes UTC.
    """
    if max(abs(time.timezone), abs(time.altzone)) >= _DAY:
        zone = os.environ.get("TZ")
        raise UsageError(f"TZ={zone} is a day or more from UTC", hint="set TZ to a zone such as Europe/Berlin")


def _open_streams() -> bool:
    """Return whether stdout is open, and open closed streams on /dev/null.

    Otherwise the next file that is opened would get the number of the closed stream.
    """
    is_open = sys.__stdout__ is not None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # os.open uses the lowest free number, which is this one
    if sys.__stdin__ is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.__stdout__ is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.__stderr__ is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Typer writes help; no command runs after it
    return is_open


class _EndedError(KeyboardInterrupt):
    """A signal asked the process to end. It derives from KeyboardInterrupt, because libraries clean up after that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise _EndedError(number)


def _usage(error: Exception, args: list[str]) -> UsageError:
    """Return a usage error of Typer as one of bmhctl, with the command or option that was probably meant."""
    import re

    from bmhctl.cli.suggested_lines import meant_by
    from bmhctl.cli.suggestions import synopsis

    # Typer adds its own suggestion to the formatted message only.
    is_option = hasattr(error, "possibilities")
    message = error.message if is_option else error.format_message()  # type: ignore[attr-defined]  # the caller checked
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else f"{PROGRAM} --help"
    meant = meant_by(error, args) if context else None
    hint = f"did you mean {meant}? See {hint}" if meant else hint
    if context and context.parent and message.startswith("Missing"):
        hint = f"{synopsis(context)}; see {hint}"
    message = " ".join(message.split())  # Typer puts choices on separate lines
    message = message.replace("is not a valid int range", "is not a whole number")
    message = re.sub(r"Got unexpected extra argument(?:\(s\))? \((.*)\)", r"unexpected argument: \1", message)
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _with_habit(error: BmhctlError, args: list[str]) -> BmhctlError:
    """Return the error; its hint is the option or the command that was probably meant, if one is found."""
    if isinstance(error, UsageError) or error.code == "not-found" or any("," in arg for arg in args):
        from bmhctl.cli.suggestions import meant_after

        name = _command_in(args) or ""
        if meant := meant_after(error, args, name, build_command(name, ENTRIES[name]) if name else None):
            error.hint = f"did you mean {meant}?"
    return error
