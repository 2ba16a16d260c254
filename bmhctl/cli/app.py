"""The table of commands, and the group that builds just the one that is called."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command_from_info
from typer.models import CommandInfo

from bmhctl.cli.bare import BareCommand
from bmhctl.cli.invocation import GLOBAL_OPTIONS, Invocation
from bmhctl.errors import BmhctlError, ExitStatus, UnreachableError, UsageError
from bmhctl.frozen import Frozen
from bmhctl.output import hush

PROGRAM = "bmhctl"

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Entry(Frozen):
    """Where a command's function is, and its line in the root help."""

    module: str
    function: str
    help: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Inventory": {
        "init": Entry("inventory", "init", "Create an empty inventory"),
        "add": Entry("inventory", "add", "Add hosts"),
        "set": Entry("inventory", "set_", "Change what is declared about hosts"),
        "rename": Entry("inventory", "rename", "Give a host another name"),
        "remove": Entry("inventory", "remove", "Let hosts go"),
        "import": Entry("inventory", "import_", "Take in BareMetalHost manifests or an export"),
        "export": Entry("inventory", "export", "Write the whole inventory as TOML, JSON or CSV"),
        "copy": Entry("inventory", "copy", "Copy the whole inventory into another home"),
        "policy show": Entry("inventory", "policy_show", "Show the policy: leases, checks, cleanup"),
        "policy check": Entry("inventory", "policy_check", "Say which steps apply to which host"),
        "policy apply": Entry("inventory", "policy_apply", "Replace the policy of a database"),
        "policy grants": Entry("inventory", "policy_grants", "Print the SQL for roles on a server"),
    },
    "Lifecycle": {
        "ready": Entry("stepping", "ready", "Check hosts and make them available"),
        "reserve": Entry("reserving", "reserve", "Take hosts, all or none"),
        "taint": Entry("lifecycle", "taint", "Give hosts back as used, or as broken"),
        "release": Entry("lifecycle", "release", "Give back all that a reservation holds"),
        "reset": Entry("stepping", "reset", "Clean used hosts"),
        "maintain": Entry("lifecycle", "maintain", "Set hosts aside, with a reason"),
        "resume": Entry("stepping", "resume", "End a maintenance"),
        "cordon": Entry("lifecycle", "cordon", "Keep hosts from being reserved"),
        "uncordon": Entry("lifecycle", "uncordon", "Let hosts be reserved again"),
    },
    "Reservations": {
        "reservations": Entry("holding", "reservations", "List who holds what, until when"),
        "run": Entry("reserving", "run", "Reserve, run a command, give back"),
        "extend": Entry("holding", "extend", "Make a lease last longer"),
        "handover": Entry("holding", "handover", "Give a reservation to another owner"),
        "replace": Entry("holding", "replace", "Swap a bad host for another that fits"),
        "queue": Entry("holding", "queue", "List who waits for hosts"),
        "queue cancel": Entry("holding", "queue_cancel", "Take a ticket out of the queue"),
        "reap": Entry("holding", "reap", "End the leases that are over"),
    },
    "Recycling": {
        "check": Entry("stepping", "check", "Run readiness checks without moving a host"),
        "power": Entry("hardware", "power", "Switch or tell the power of hosts"),
        "inspect": Entry("hardware", "inspect", "Ask BMCs what hardware hosts are"),
        "recycle": Entry("stepping", "recycle", "Bring used hosts back to available"),
    },
    "Understanding": {
        "list": Entry("understanding", "list_", "List hosts"),
        "show": Entry("understanding", "show", "Show all about one host"),
        "status": Entry("understanding", "status", "See the fleet at a glance"),
        "why": Entry("understanding", "why", "Say why a host is not free, and what is open to it"),
        "history": Entry("understanding", "history", "Show what happened"),
        "graph": Entry("understanding", "graph", "Draw the lifecycle, or where one host is in it"),
    },
    "Care": {
        "doctor": Entry("care", "doctor", "Find what is wrong with the inventory, and mend it"),
        "backup": Entry("inventory", "backup", "Write a consistent copy into a file"),
    },
    "Shell": {
        "completion": Entry("shell", "completion", "Print the completion script for bash, zsh or fish"),
    },
}
"""Every command, by the group in which the root help shows it."""

_ENTRIES: dict[str, Entry] = {name: entry for group in COMMANDS.values() for name, entry in group.items()}

_GROUPS = {"policy": "Show or replace an inventory's policy."}
"""The help of groups that are no command themselves."""

_OWN_FAILURES = {"run": 125}
"""Commands that pass on another program's statuses, and so have one of their own for their usage errors."""

_WELCOME = """\
bmhctl: take turns on bare-metal hosts. Three things to try first:

  bmhctl -i bmh.toml init                     create an inventory in this folder
  bmhctl add 'node[01-03]' --label rack=r1    put hosts into it
  bmhctl status                               see the fleet at a glance

All commands: bmhctl --help. About one: bmhctl reserve --help.
"""


class LazyGroup(TyperGroup):
    """A group whose commands are built when they are called; ``prefix`` is what stands before their names."""

    prefix = ""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # Typer's vendored Context
        """The names of the commands, in the order of the table."""
        names = (name.removeprefix(self.prefix) for name in _ENTRIES if name.startswith(self.prefix))
        return list(dict.fromkeys(name.split(" ")[0] for name in names))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # the same
        """Builds one command, with the global options among its own."""
        name = self.prefix + cmd_name
        command = _build(name, _ENTRIES[name]) if name in _ENTRIES else None
        if not any(known.startswith(f"{name} ") for known in _ENTRIES):
            return command
        group = _group(cmd_name, f"{name} ", command.help if command else _GROUPS[name])
        if command is not None:  # a command of its own that has others below it
            group.callback, group.params, group.invoke_without_command = command.callback, command.params, True
        return group

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Gives every invocation a record of its own for the global options."""
        if parent is None:
            extra.setdefault("obj", Invocation())
        return super().make_context(info_name, args, parent, **extra)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the static table: no command is built for it."""
        for title, group in COMMANDS.items():
            rows = [
                (name.removeprefix(self.prefix), entry.help)
                for name, entry in group.items()
                if name.startswith(self.prefix)
            ]
            if rows:
                with formatter.section(title if not self.prefix else "Commands"):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Completes command names from the table, options as Typer does."""
        from typer._click.shell_completion import CompletionItem

        helps = {name.removeprefix(self.prefix): entry.help for name, entry in _ENTRIES.items()}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=helps.get(name)) for name in names]
        return [*found, *super(TyperGroup, self).shell_complete(ctx, incomplete)]


def run(args: list[str]) -> int:
    """Runs one command line; returns its exit status. What it has to say is on stdout and stderr."""
    invocation = Invocation()
    if not _open_streams():
        closed = UnreachableError("stdout is closed: nothing was done", hint="use > /dev/null")
        return _own(invocation.fail(closed, _ours(args)), args)
    try:
        status = _run(args, invocation)
        if status and "--shell" in args and _command_in(args) == "reserve":
            from bmhctl.runner.environment import unset_line

            sys.stdout.write(unset_line(status) + "\n")  # however it failed: eval must fail with it
        sys.stdout.flush()
    except BrokenPipeError:
        status = 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None:
            raise  # not our output: a defect, to be seen whole
        status = invocation.fail(UnreachableError(f"can't write the output: {error.strerror}"), args)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            hush(stream)  # or the interpreter would try once more, and end with a status of its own
    return status


def leave(status: int) -> NoReturn:
    """Ends the process without taking the interpreter apart first: a tenth of a command's time, for nobody.

    All is written and closed by now. Whoever looks on from inside (a debugger, coverage) sees the ordinary end.
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
    root = application()
    _complete(root)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            signal.signal(number, _end)
    try:
        _check_text(args)
        if not args:
            sys.stdout.write(_WELCOME)
            return ExitStatus.DONE
        with root.make_context(PROGRAM, args, obj=invocation) as ctx:
            root.invoke(ctx)
        return ExitStatus.DONE
    except BmhctlError as error:
        return _own(invocation.fail(error, _ours(args)), args)
    except typer.Exit as done:
        return int(done.exit_code)
    except _EndedError as ended:
        return 128 + ended.number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        gone = UnreachableError("the folder that this was called in is gone", hint="cd to one that is there")
        return invocation.fail(gone, args)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return _own(invocation.fail(_usage(error), _ours(args)), args)


def _ours(args: list[str]) -> list[str]:
    """The arguments that are ours to read, not those of a program that is to be run."""
    name = _command_in(args)
    if name not in _OWN_FAILURES:
        return args
    start = args.index(name) + 1
    return [*args[:start], *_build(name, _ENTRIES[name]).own(args[start:])]


def _own(status: int, args: list[str]) -> int:
    return _OWN_FAILURES.get(_command_in(args) or "", status)


def _command_in(args: list[str]) -> str | None:
    """The command that is called, for failures that come before it is known."""
    takes_value = {name for option in GLOBAL_OPTIONS if not option.is_flag for name in option.opts}
    position = 0
    while position < len(args) and args[position].startswith("-"):
        position += 2 if args[position] in takes_value else 1
    return args[position] if position < len(args) else None


def _check_text(args: list[str]) -> None:
    """Refuses what is no text: no inventory could hold it."""
    if _command_in(args) in _OWN_FAILURES:
        args = []  # what follows is another program's, which may well want other bytes
    ours = [(f"${name}", text) for name, text in os.environ.items() if name.startswith("BMH")]
    for what, text in (*(("the argument", arg) for arg in args), *ours):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{what} {text!r} is not UTF-8", hint="write it in UTF-8") from None


def _open_streams() -> bool:
    """Whether stdout is open; what the caller closed leads nowhere now, or a file of ours would get its number."""
    is_open = sys.__stdout__ is not None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.__stdin__ is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.__stdout__ is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.__stderr__ is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # help is Typer's to write, and ends no command
    return is_open


def application() -> LazyGroup:
    """The whole command line as one Typer group."""
    root = _group(PROGRAM, "", "Take turns on bare-metal hosts: lifecycle, reservations and history, without a server.")
    root.params.append(_version_option())
    return root


def _group(name: str, prefix: str, help: str | None) -> LazyGroup:
    group = LazyGroup(
        name=name,
        help=help,
        rich_markup_mode=None,
        subcommand_metavar="COMMAND …",
        params=[*GLOBAL_OPTIONS],
        context_settings=_SETTINGS,
    )
    group.prefix = prefix
    return group


class _EndedError(KeyboardInterrupt):
    """A signal asked the process to end, as Ctrl-C does: libraries clean up after that one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise _EndedError(number)


def _build(name: str, entry: Entry) -> BareCommand:
    from importlib import import_module

    function = getattr(import_module(f"bmhctl.cli.{entry.module}"), entry.function)
    command = get_command_from_info(
        CommandInfo(name=name.split(" ")[-1], cls=BareCommand, callback=function, short_help=entry.help),
        pretty_exceptions_short=False,
        rich_markup_mode=None,
    )
    command.params.extend(GLOBAL_OPTIONS)
    command.context_settings = _SETTINGS
    if name in _OWN_FAILURES:
        command.allow_interspersed_args = False  # what follows the command's name is the command's
    return command  # type: ignore[return-value]  # the default class of a CommandInfo


def _version_option() -> TyperOption:
    def show(ctx: typer.Context, _: object, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            from importlib.metadata import version

            sys.stdout.write(f"bmhctl {version('bmhctl')}\n")
            raise typer.Exit

    return TyperOption(
        param_decls=["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )


def _usage(error: Exception) -> UsageError:
    message = error.format_message()  # type: ignore[attr-defined]  # the caller has looked
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context else f"{PROGRAM} --help"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _complete(root: LazyGroup) -> None:
    instruction = os.environ.get("_BMHCTL_COMPLETE")
    if instruction:
        from typer._completion_classes import completion_init
        from typer.completion import shell_complete

        completion_init()
        sys.exit(shell_complete(root, {}, PROGRAM, "_BMHCTL_COMPLETE", instruction))
