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


_WHOLE_WORDS = f"""
# For bash a word ends at "=" and ":"; for {PROGRAM} it does not, so what bash has of it already is cut off.
_{PROGRAM}_whole_words() {{
    local IFS=$'\\n' line=${{COMP_LINE:0:COMP_POINT}} word reply
    IFS=$' \\t\\n' read -r -a COMP_WORDS <<< "$line"
    [[ $line == *[[:space:]] ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    word=${{COMP_WORDS[COMP_CWORD]}}
    _{PROGRAM}_completion "$@"
    local kept=${{word%"${{word##*[=:]}}"}}
    [[ $COMP_WORDBREAKS == *=* ]] || kept=
    for reply in "${{!COMPREPLY[@]}}"; do
        COMPREPLY[reply]=${{COMPREPLY[reply]#"$kept"}}
    done
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
    return 0
}}
complete -o default -F _{PROGRAM}_whole_words {PROGRAM}
"""
"""What comes after Typer's script for bash."""


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell: commands, options, host names, states, reservation ids.

    bash: eval "$(bmhctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: bmhctl completion fish
    > ~/.config/fish/completions/bmhctl.fish
    """
    script = completion_script(PROGRAM, COMPLETION_VARIABLE, shell.value)
    if shell is Shell.BASH:
        script += _WHOLE_WORDS
    sys.stdout.write(script + "\n")
