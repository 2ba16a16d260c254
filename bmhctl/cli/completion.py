"""``completion``: the completion scripts for bash, zsh and fish."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from bmhctl.cli.commands import COMPLETION_VARIABLE, PROGRAM
from bmhctl.cli.typer_internals import completion_script


class Shell(StrEnum):
    """The shells that have a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print the completion script of a shell: commands, options, host names, states, reservation ids.

    bash: eval "$(bmhctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: bmhctl completion fish
    > ~/.config/fish/completions/bmhctl.fish
    """
    script = completion_script(PROGRAM, COMPLETION_VARIABLE, shell.value)
    sys.stdout.write(script + "\n")
