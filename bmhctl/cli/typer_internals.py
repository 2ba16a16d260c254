"""The only module that imports Typer's inner and private modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from typer.core import TyperCommand as TyperCommand
from typer.core import TyperGroup as TyperGroup
from typer.core import TyperOption as TyperOption
from typer.main import get_command_from_info as get_command_from_info
from typer.models import CommandInfo as CommandInfo

_CURSOR = "\0"  # no command line contains it
_FILES = re.compile(r"\b(?:FILE|DIR|SRC|DST)\b|COMMAND…?$")
"""The metavars of values that are names of files or commands."""


def completion_item(value: str, help: str | None) -> Any:
    """Return one candidate of shell completion, with the help that zsh and fish show beside it."""
    from typer._click.shell_completion import CompletionItem

    return CompletionItem(value, help=help)


def names_command(ctx: Any) -> bool:
    """Return whether a command of the context's group is named on the command line."""
    return bool(ctx._protected_args)


def hide_range(param: Any, limit: int) -> None:
    """Hide the range of an option in its help if it only ends at ``limit`` or beyond."""
    if (getattr(param.type, "max", None) or 0) >= limit:
        param.type._describe_range = str


def candidates(
    root: TyperGroup, program: str, line: str, values: Callable[[Any, str, str], Iterable[tuple[str, str]]], obj: object
) -> Iterator[tuple[str, str] | None]:
    """Yield the candidates for the last word of a command line, each with its meaning.

    None stands for all names of files. ``values`` returns those of an argument or option for which Typer knows none,
    from the context, its name and what is typed. ``obj`` keeps the global options.
    """
    from typer._click.shell_completion import _resolve_context, _resolve_incomplete, split_arg_string

    _, *args = split_arg_string(line + _CURSOR)
    if not args:
        return
    last = args.pop().removesuffix(_CURSOR)
    ctx = _resolve_context(root, {"obj": obj}, program, args)
    place, last = _resolve_incomplete(ctx, args, last)
    for item in place.shell_complete(ctx, last):
        if item.type == "plain":
            yield item.value, item.help or ""
    if hasattr(place, "opts"):
        yield from values(ctx, place.opts[-1], last)
    if _FILES.search(getattr(place, "metavar", None) or ""):
        yield None
