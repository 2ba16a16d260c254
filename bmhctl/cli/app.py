"""Build the command that is called, with the global options, from the table of commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter, Signature, signature
from itertools import pairwise
from typing import Any

import typer

from bmhctl.cli.commands import COMMANDS, ENTRIES, GROUP_HELP, OWN_FAILURES, PROGRAM, Entry
from bmhctl.cli.options import MOST, Group
from bmhctl.cli.session import invocation_of
from bmhctl.cli.typer_internals import (
    CommandInfo,
    TyperCommand,
    TyperGroup,
    TyperOption,
    completion_item,
    get_command_from_info,
    hide_range,
    names_command,
)
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError

_WIDEST_HELP, _NARROWEST_HELP = 100, 30

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST_HELP}


FOREVER = "forever"

_NEVER_EMPTY = frozenset(("-R", "--reservation", "--booking", "--host", "--file", "--to", "--exec", "--fault"))
"""Options that need a value: an empty one would be ignored, or mean nothing or the working directory."""

OPTIONAL_VALUES: dict[str, str] = {"--wait": FOREVER, "--watch": "2s", "recycle --watch": "30s"}
"""Options with an optional ``[DURATION]``, of all commands or of one, each with its value when no duration follows."""


def _option(*names: str, field: str, help: str, metavar: str | None = None) -> TyperOption:
    def keep(ctx: typer.Context, _: object, value: object) -> None:
        if value == "":
            raise UsageError(f"{names[-1]} is given, but empty", hint=f"give it a value: {names[-1]} {metavar}")
        if value:
            setattr(invocation_of(ctx), field, value)

    return TyperOption(
        param_decls=list(names),
        is_flag=metavar is None,
        expose_value=False,
        callback=keep,
        help=help,
        metavar=metavar,
    )


GLOBAL_OPTIONS: tuple[TyperOption, ...] = (
    _option(
        "-i",
        "--inventory",
        field="inventory",
        metavar="FILE",
        help="The inventory: a .toml or a .db file, or postgresql://….  [default: $BMHCTL_INVENTORY, or bmh.toml "
        "or bmh.db nearby]",
    ),
    _option(
        "--as",
        field="actor",
        metavar="ACTOR",
        help="Who acts.  [default: $BMHCTL_ACTOR, or user@hostname]",
    ),
    _option(
        "-o",
        "--output",
        field="output",
        metavar="FORMAT",
        help="table, plain, json, jsonl, csv, name; some commands also have toml, mermaid, dot, svg.",
    ),
    _option("-q", "--quiet", field="quiet", help="Print only errors on stderr."),
    _option("-v", "--verbose", field="verbose", help="Print more."),
)
"""The options that every command accepts, before or after its name."""


class _FittingHelp:
    """The help of a command or group in the width of the terminal, even below Click's minimum of 50 columns."""

    def get_help(self, ctx: Any) -> str:
        import shutil

        ctx.terminal_width = max(_NARROWEST_HELP, min(_WIDEST_HELP, shutil.get_terminal_size().columns) - 2)
        return str(super().get_help(ctx))  # type: ignore[misc]  # that of the other base class


class _OptionalValues:
    """Inserts the missing values of the options in :data:`OPTIONAL_VALUES` before a command or a group parses."""

    params: Any
    name: Any
    allow_interspersed_args: Any

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert missing values of options and parse like Typer; arguments after ``--`` or of a program to run stay
        unchanged."""
        if not ctx.resilient_parsing:
            self._refuse_swallowed(ctx, args)
            self._refuse_empty(ctx, args)
            self._refuse_second_selector(args)
        parsed: list[str] = super().parse_args(ctx, list(self._completed(args)))  # type: ignore[misc]  # of a mixin
        return parsed

    def own(self, args: Sequence[str]) -> list[str]:
        """Return the arguments up to those that are passed on to another program."""
        return list(args) if self.allow_interspersed_args else [word for pair in self._pairs(args) for word in pair]

    def _pairs(self, args: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield each option with its value, and each argument alone, up to ``--`` or a program to run."""
        takes_value, optional = self._takes_value(), self._optional()
        position = 0
        while position < len(args):
            arg, *following = args[position : position + 2]
            if arg == "--" or (not arg.startswith("-") and not self.allow_interspersed_args):
                return
            has_value = any(map(_is_duration, following)) if arg in optional else _wants_next(arg, takes_value)
            pair = [arg, *following] if has_value and takes_value.keys().isdisjoint(following) else [arg]
            yield pair
            if pair[-1] == "--":
                return
            position += len(pair)

    def _optional(self) -> set[str]:
        """Return the options of this command whose value may be left out."""
        return {
            name
            for param in self.params
            if str(getattr(param, "metavar", "")).startswith("[")
            for name in param.opts
            if name in OPTIONAL_VALUES
        }

    def _takes_value(self) -> dict[str, bool]:
        """Return the options of this command, each with whether it takes a value."""
        return {name: not getattr(param, "is_flag", False) for param in self.params for name in param.opts}

    def _refuse_swallowed(self, ctx: Any, args: Sequence[str]) -> None:
        """Raise :class:`UsageError` for an option without its value, as in ``--fault --reason TEXT``."""
        takes_value, optional = self._takes_value(), self._optional()
        for (arg, *value), after in pairwise([*self._pairs(args), ()]):
            if not value and arg not in optional and _wants_next(arg, takes_value):
                name = arg if arg.startswith("--") else f"-{arg[-1]}"
                meant = next((param.metavar for param in self.params if name in param.opts), None) or "VALUE"
                why = f": {after[0]} is an option itself" if after else ""
                raise UsageError(f"{name} has no value{why}", hint=f"{name} {meant}; see {ctx.command_path} --help")

    def _refuse_empty(self, ctx: Any, args: Sequence[str]) -> None:
        """Raise :class:`UsageError` for an empty argument, and for an empty value of :data:`_NEVER_EMPTY`.

        It is often a variable of a script without a value; an empty path would be the working directory.
        """
        for arg, *following in self._pairs(args):
            option, is_joined, value = arg.partition("=")
            if not arg:
                from bmhctl.cli.suggestions import synopsis

                raise UsageError("an argument is empty", hint=f"is a variable without a value? {synopsis(ctx)}")
            if option in _NEVER_EMPTY and (following or is_joined) and not (value or "".join(following)):
                raise UsageError(f"{option} is given, but empty", hint=f"give it a value, or leave it out: {option}")

    def _refuse_second_selector(self, args: Sequence[str]) -> None:
        """Raise :class:`UsageError` for a second ``-l``.

        Click would ignore the first one, so that a command changes hosts that it excludes.
        """
        if not any("-l" in param.opts for param in self.params):
            return
        given = [
            pair for pair in self._pairs(args) if pair[0].startswith("-l") or pair[0].partition("=")[0] == "--selector"
        ]
        if len(given) > 1:
            import shlex

            terms = ",".join(re.sub("^(-l|--selector=)", "", pair[-1]) for pair in given)
            raise UsageError(
                "-l is given more than once",
                hint=f"hosts that fit all terms: -l {shlex.quote(terms)}; one of several values: -l 'rack in (r1,r2)'",
            )

    def _completed(self, args: Sequence[str]) -> Iterator[str]:
        optional = self._optional()
        done = 0
        for pair in self._pairs(args):
            yield from pair
            done += len(pair)
            if len(pair) == 1 and pair[0] in optional:
                yield OPTIONAL_VALUES.get(f"{self.name} {pair[0]}", OPTIONAL_VALUES[pair[0]])
        yield from args[done:]


class OptionalValueCommand(_OptionalValues, _FittingHelp, TyperCommand):
    """A command with the options of :data:`OPTIONAL_VALUES`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the arguments in the usual notation of usage lines: HOST is required, [HOST] is optional."""
        return [re.sub(r"\{(.*?)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, without the ranges of numbers that only the columns of the database require."""
        for param in self.params:
            hide_range(param, MOST)
        super().format_options(ctx, formatter)


def _wants_next(arg: str, takes_value: dict[str, bool]) -> bool:
    if arg.startswith("--"):
        return takes_value.get(arg, False)
    if not arg.startswith("-"):
        return False
    for place, letter in enumerate(arg[1:], 1):  # -qn 2, -n2
        if takes_value.get(f"-{letter}", False):
            return place == len(arg) - 1
    return False


def _is_duration(text: str) -> bool:
    if text == FOREVER or not re.match(r"\d", text):
        return text == FOREVER
    try:
        parse_duration(text)
    except UsageError:
        return bool(re.fullmatch(r"[\d.]+\w*", text))  # a misspelt duration counts, to be refused as one
    return True


class LazyGroup(_FittingHelp, TyperGroup):
    """A group whose commands are built when they are called; ``prefix`` is put before their names.

    ``command_alone`` is run if none of its commands is named.
    """

    prefix = ""
    command_alone: Any = None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # Typer's vendored Context
        """Return the names of the commands, in the order of the table."""
        names = (name.removeprefix(self.prefix) for name in ENTRIES if name.startswith(self.prefix))
        return list(dict.fromkeys(name.split(" ")[0] for name in names))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # the same
        """Build a command with its own and the global options."""
        name = self.prefix + cmd_name
        command = build_command(name, ENTRIES[name]) if name in ENTRIES else None
        if not any(known.startswith(f"{name} ") for known in ENTRIES):
            return command
        if command is None:
            return _group(cmd_name, f"{name} ", GROUP_HELP[name])
        group = _group(cmd_name, f"{name} ", command.help, _CommandGroup)
        group.command_alone, group.params, group.invoke_without_command = command, command.params, True
        return group

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands from the static table, without building any of them."""
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
        """Complete command names from the table, and options as Typer does."""
        helps = {name: entry.help for name, entry in ENTRIES.items()}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [completion_item(name, helps.get(self.prefix + name)) for name in names]
        return [*found, *super(TyperGroup, self).shell_complete(ctx, incomplete)]


class _CommandGroup(_OptionalValues, LazyGroup):
    """A command that is also a group, such as ``queue``."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the group that is named, or the group as a command."""
        return super().invoke(ctx) if names_command(ctx) else self.command_alone.invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command of the group, which is run instead of the group; refuse options of the group before it."""
        given = next((param.opts[0] for param in self.params if ctx.params.get(param.name)), None)
        if given and not ctx.resilient_parsing and args[0] in self.list_commands(ctx):  # completion refuses nothing
            import shlex

            raise UsageError(
                f"{given} is an option of {ctx.command_path}, not of {ctx.command_path} {args[0]}",
                hint=f"leave it out: {ctx.command_path} {shlex.join(args)}",
            )
        return super().resolve_command(ctx, args)


def application() -> LazyGroup:
    """Return the whole command line as one Typer group."""
    root = _group(PROGRAM, "", "Share bare-metal hosts: lifecycle, reservations and history, without a server.")
    root.params.append(_version_option())
    root.epilog = "bmhctl help lists the pages of the manual; bmhctl help ci shows one."
    return root


def _group(name: str, prefix: str, help: str | None, kind: type[LazyGroup] = LazyGroup) -> LazyGroup:
    group = kind(
        name=name,
        help=help,
        rich_markup_mode=None,
        subcommand_metavar="COMMAND …",
        params=[*GLOBAL_OPTIONS],
        context_settings=_SETTINGS,
    )
    group.prefix = prefix
    return group


def build_command(name: str, entry: Entry) -> OptionalValueCommand:
    """Import the module of a command, and return the command with its own and the global options."""
    from importlib import import_module

    function = _with_groups(getattr(import_module(f"bmhctl.cli.{entry.module}"), entry.function))
    command = get_command_from_info(
        CommandInfo(
            name=name.split(" ")[-1],
            cls=OptionalValueCommand,
            callback=function,
            help=function.__doc__ or entry.help,  # PYTHONOPTIMIZE=2 removes docstrings
            short_help=entry.help,
        ),
        pretty_exceptions_short=False,
        rich_markup_mode=None,
    )
    command.params.extend(GLOBAL_OPTIONS)
    command.context_settings = _SETTINGS
    if name in OWN_FAILURES:
        command.allow_interspersed_args = False  # the rest are the arguments of the command to run
    return command  # type: ignore[return-value]  # the default class of a CommandInfo


def _with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of each :class:`Group` in place of the parameter that has their value."""
    parameters: list[Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for name, own in signature(command, eval_str=True).parameters.items():
        shared = [own]
        for group in getattr(own.annotation, "__metadata__", ()):
            if isinstance(group, Group):
                shared = [*signature(group.build, eval_str=True).parameters.values()]
                groups[name] = group.build, [each.name for each in shared]
        parameters += (each.replace(kind=Parameter.KEYWORD_ONLY) for each in shared)
    if not groups:
        return command

    def call(**values: object) -> None:
        built = {name: build(**{key: values.pop(key) for key in keys}) for name, (build, keys) in groups.items()}
        command(**built, **values)

    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # Typer reads the options here
    call.__doc__ = command.__doc__
    return call


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
