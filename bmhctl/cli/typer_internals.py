"""The only module that imports Typer's inner and private modules."""

from __future__ import annotations

import os
import sys
from typing import Any

from typer.core import TyperCommand as TyperCommand
from typer.core import TyperGroup as TyperGroup
from typer.core import TyperOption as TyperOption
from typer.main import get_command_from_info as get_command_from_info
from typer.models import CommandInfo as CommandInfo


def completion_item(value: str, help: str | None) -> Any:
    """Return one candidate of shell completion, with the help that zsh and fish show beside it."""
    from typer._click.shell_completion import CompletionItem

    return CompletionItem(value, help=help)


def completion_script(program: str, variable: str, shell: str) -> str:
    """Return the script that makes ``shell`` (bash, zsh or fish) complete ``program``."""
    from typer._completion_shared import get_completion_script

    return get_completion_script(prog_name=program, complete_var=variable, shell=shell)


def complete(root: TyperGroup, program: str, variable: str) -> None:
    """Answer the shell's completion request in the environment ``variable`` and exit; return if there is none."""
    instruction = os.environ.get(variable)
    if instruction:
        from typer._completion_classes import completion_init
        from typer.completion import shell_complete

        completion_init()
        sys.exit(shell_complete(root, {}, program, variable, instruction))
