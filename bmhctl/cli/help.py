"""``help``: a page of the manual, or the options of a command."""

from __future__ import annotations

import os
import sys
from io import BytesIO, TextIOWrapper
from typing import Annotated, Any

import typer

from bmhctl.cli.session import invocation_of
from bmhctl.docs import TOPICS, page, pages_with, topics
from bmhctl.errors import UsageError, nearest
from bmhctl.output import render
from bmhctl.output.pager import show_in_pager
from bmhctl.results.texts import ManualPage, Topics
from bmhctl.support.values import replace

_SHOWN = 3  # the most pages that are named for a word


def help_(
    ctx: typer.Context,
    topic: Annotated[
        list[str] | None, typer.Argument(metavar="[PAGE|COMMAND]", help="A page or a command.", show_default=False)
    ] = None,
    no_pager: Annotated[bool, typer.Option("--no-pager", help="Write a long page without a pager.")] = False,
) -> None:
    """List the pages of the manual, or show one; for a command's name, show its --help.

    On a terminal, a longer text than fits is shown with $PAGER, or with the program less.
    """
    display = invocation_of(ctx).display()
    name = " ".join(topic or ())
    text = TextIOWrapper(BytesIO(), display.stdout.encoding or "utf-8", "backslashreplace", write_through=True)
    if not name:
        render(Topics(topics()), display)
    elif name in TOPICS:
        render(ManualPage(name, page(name)), replace(display, stdout=text) if display.is_table else display)
    else:
        text.write(_help_of(ctx.find_root(), name) + "\n")
    text.seek(0)
    shown = text.read()
    if no_pager or not show_in_pager(shown, display, os.environ):
        sys.stdout.write(shown)


def _help_of(root: Any, name: str) -> str:
    """Return the ``--help`` of a command; raise :class:`UsageError` for a name that is neither page nor command."""
    ctx, command = root, root.command
    for word in name.split(" "):
        known = command.list_commands(ctx) if hasattr(command, "list_commands") else []
        if word not in known:
            near = nearest(name, [*TOPICS, *root.command.list_commands(root)])
            meant = f"did you mean {near}? " if near else ""
            mentioning = pages_with(name)[:_SHOWN]
            found = f"pages that mention it: {', '.join(mentioning)}; " if mentioning else ""
            raise UsageError(
                f"there is no page or command {name!r}",
                hint=f"{meant}{found}bmhctl help lists the pages, bmhctl --help the commands",
                details={"topics": list(TOPICS)},
            )
        command = command.get_command(ctx, word)
        ctx = command.make_context(word, [], parent=ctx, resilient_parsing=True)
    return str(command.get_help(ctx))
