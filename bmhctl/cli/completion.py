"""``completion``: the completion scripts for bash, zsh and fish, and the candidates that they ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bmhctl.cli.commands import COMPLETION_VARIABLE, PROGRAM
from bmhctl.cli.session import Invocation, invocation_of
from bmhctl.cli.typer_internals import TyperGroup, candidates
from bmhctl.errors import BmhctlError

if TYPE_CHECKING:
    from bmhctl.cli.completion_candidates import Candidate
    from bmhctl.stores.store import Store


class Shell(StrEnum):
    """The shells that have a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# Typer's scripts are not used: the one for zsh evaluates candidates as code, and purposes and labels are untrusted.
_SCRIPTS = {
    Shell.BASH: r"""
_PROGRAM() {
    local line=${COMP_LINE:0:COMP_POINT} word kept option= reply
    mapfile -t COMPREPLY < <(VARIABLE=$line "$1" 2>/dev/null)
    if [[ ${COMPREPLY[0]} == FILES ]]; then
        COMPREPLY=()
        compopt -o default
        return 0
    fi
    # For bash a word also begins at "=", ":" and others in COMP_WORDBREAKS: cut off what is typed before its word, $2.
    word=${line##*[[:space:]]}
    kept=${word%"$2"}
    [[ $word == --*=* ]] && option=${word%%=*}=
    for reply in "${!COMPREPLY[@]}"; do
        word=${COMPREPLY[reply]%%$'\t'*}
        word=${option}${word}
        word=${word#"$kept"}
        [[ $word == *[!A-Za-z0-9_.,/=:@%+-]* ]] && printf -v word %q "$word"
        COMPREPLY[reply]=$word
    done
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -F _PROGRAM PROGRAM
""",
    Shell.ZSH: r"""
#compdef PROGRAM
_PROGRAM() {
    local value about found=1
    local -a whole begun
    while IFS=$'\t' read -r value about; do
        [[ $value == FILES ]] && { _files; return }
        about=${${value//\\/\\\\}//:/\\:}${about:+:${about//\\/\\\\}}
        if [[ $value == *[=.] ]]; then begun+=("$about"); else whole+=("$about"); fi
    done < <(VARIABLE="${(j: :)words[1,CURRENT]}" PROGRAM 2>/dev/null)
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    (( $#begun )) && _describe value begun -S '' && found=0
    (( $#whole )) && _describe value whole && found=0
    return found
}
if [[ $funcstack[1] == _PROGRAM ]]; then
    _PROGRAM "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _PROGRAM PROGRAM
fi
""",
    Shell.FISH: r"""
function __PROGRAM_candidates
    set -l word (commandline -ct)
    set -l found (VARIABLE=(commandline -cp | string collect) PROGRAM 2>/dev/null)
    if test "$found[1]" = FILES
        __fish_complete_path $word
    else if set -q found[1]
        string replace -r '^' -- (string match -r -- '^--[^=]+=' $word; or echo) $found
    end
end
complete -c PROGRAM -f -a '(__PROGRAM_candidates)'
""",
}
"""The script of each shell. It gives bmhctl the line up to the cursor, and reads the candidates that :func:`answer`
writes."""

_FILES = "<files>"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell: commands, options, hosts, states, ids, selectors, steps.

    bash: eval "$(bmhctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: bmhctl completion fish
    > ~/.config/fish/completions/bmhctl.fish
    """
    script = (
        _SCRIPTS[shell]
        .replace("PROGRAM", PROGRAM)
        .replace("VARIABLE", COMPLETION_VARIABLE)
        .replace("FILES", f"'{_FILES}'")
    )
    sys.stdout.write(script.lstrip("\n"))


def _values(ctx: typer.Context, name: str, typed: str) -> list[tuple[str, str]]:
    """Return the values of an argument or option that begin with what is typed, each with its meaning."""
    from bmhctl.cli.completion_candidates import STORED, WORDS

    names = (f"{ctx.command_path.removeprefix(PROGRAM).strip()} {name}", name)
    words = next((WORDS[each] for each in names if each in WORDS), None)
    stored = next((STORED[each] for each in names if each in STORED), None)
    found = [*(words(ctx, typed) if words else ()), *(_read(ctx, stored, typed) if stored else ())]
    pairs = [(each, "") if isinstance(each, str) else each for each in found]
    return [*dict.fromkeys(each for each in pairs if each[0].startswith(typed))]


def _read(
    ctx: typer.Context, read: Callable[[Store, typer.Context, str], Iterable[Candidate]], typed: str
) -> list[Candidate]:
    """Return candidates from the inventory; ignore errors: completion must never print one."""
    from bmhctl.stores import open_store
    from bmhctl.stores.locations import find_inventory

    try:
        location = find_inventory(invocation_of(ctx).inventory, os.environ, Path.cwd(), lambda _: None)
        with closing(open_store(location)) as store:
            return list(read(store, ctx, typed))
    except BmhctlError:
        return []


def answer(root: TyperGroup, line: str) -> None:
    """Write the completions of a command line, one per line: the word, then a tab and its meaning, if it has one.

    A word with characters that can't be printed is left out. ``<files>`` stands for all names of files.
    """
    from bmhctl.output.sanitize import clean

    for candidate in candidates(root, PROGRAM, line, _values, Invocation()):
        word, meaning = candidate or (_FILES, "")
        if clean(word) == word:
            sys.stdout.write(f"{word}\t{clean(meaning)}\n" if meaning else f"{word}\n")
