"""Guess the whole command line that was meant by one that can't be parsed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from bmhctl.cli.commands import ENTRIES, PROGRAM
from bmhctl.cli.habits import ALL, BY_WORD, COMMANDS, NOUNS, OF_COMMAND
from bmhctl.cli.suggestions import (
    HOST,
    ID,
    LABEL_WORD,
    OF_ALL,
    OF_HOSTS,
    OF_ONE,
    SHORT_COUNT,
    equivalents_of,
    meant_argument,
    meant_choice,
    meant_command,
    meant_for,
    meant_ids,
    meant_list,
    meant_option,
    meant_power,
    option_names,
    value_of,
    with_value,
)
from bmhctl.stores import default_actor

_WITH_FORMAT = ("-o", "--output", "--format")
_WITH_FILE = ("-f", "--file", "--filename")
_FILLERS = ("for", "with")  # words of a sentence, such as lease node01 for 2h
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*)'", re.S)
_EXTRA_ARGUMENT = re.compile(r"Got unexpected extra argument\(s\) \((\S+).*\)", re.S)
_AMOUNT = re.compile(r"\d+\w?")  # the value of an option, such as 2 or 30m
_NUMBER = re.compile(r"-\d+")
_START = re.compile(r"today|tomorrow|(mon|tue|wed|thu|fri|sat|sun)[a-z]*|\d{1,2}:\d\d")


def meant_by(error: Any, args: Sequence[str]) -> str | None:
    """Return the command line that the user probably meant, for a usage error of Typer; None if that is not clear.

    ``args`` is the whole command line: its hosts, labels and options are kept.
    """
    if error.ctx is None:
        return None
    option = getattr(error, "option_name", None)
    prefix = error.ctx.command_path.removeprefix(PROGRAM).strip()
    known = option_names(error.ctx.command)
    if option is not None and hasattr(error, "possibilities"):
        if _NUMBER.fullmatch(option) and "-n" in known:  # as in git log -3
            return f"-n {option[1:]}"
        value = value_of(option, args)
        has_hosts = any(param.name == "hosts" for param in error.ctx.command.params)
        if option in ("--host", "--hosts", "--name", "--node") and has_hosts:
            return f"{PROGRAM} {prefix} {shlex.quote(value) if value else 'HOST'}"
        if option in ALL and (prefix, option) not in OF_COMMAND and has_hosts and prefix != "add":
            return f"{PROGRAM} {prefix}" if prefix in OF_ALL else f"{PROGRAM} {prefix} '*'"
        return _as_actor(meant_option(option, known, value, prefix))
    if listed := meant_list(error.format_message(), args, error.ctx.command):
        return listed
    if chosen := meant_choice(error.message, getattr(error, "param", None)):
        return chosen
    extra = _EXTRA_ARGUMENT.match(error.message)
    if extra and (hosts := _meant_hosts(args, prefix, error.ctx.find_root())):
        return hosts
    calls = meant_ids(args, prefix, error.ctx.command) if prefix in ENTRIES else None
    if extra and not (calls and extra[1].startswith("r-")):
        return meant_argument(extra[1], args, prefix, known) or calls
    if calls:
        return calls
    command = _UNKNOWN_COMMAND.match(error.message)
    if command is None:
        return None
    typed = [*args[args.index(command[1]) + 1 :]] if command[1] in args else []
    if not prefix and (command[1].lower() in NOUNS or (command[1] == "get" and _verb_of(typed[:1])[0])):
        verb, typed = _verb_of(typed)
        if verb == "power" and (switched := meant_power(typed)):
            return f"{PROGRAM} power {shlex.join(switched)}"
        meant: str | None = verb or "list"
    else:
        meant = meant_command(command[1], prefix)
    for words, word, other in BY_WORD:
        if command[1].lower() in words and any(re.fullmatch(word, each) for each in typed):
            meant = other
    return _as_actor(meant and f"{PROGRAM} {_filled(meant, typed, error.ctx.find_root())}")


def _meant_hosts(args: Sequence[str], name: str, root: Any) -> str | None:
    """Return the calls for the hosts or reservations given to a command that takes fewer; None for other arguments."""
    if name not in OF_HOSTS:
        return None
    place = args.index(name)
    words = [*args[:place], *args[place + 1 :]]
    options, hosts, _ = _read(words, name, root.command.get_command(root, name), None, takes_file=False)
    other = meant_for(hosts, name)
    if other is None:
        return None
    known = option_names(root.command.get_command(root, other))
    kept = [option for option in options if option.split(" ")[0] in known]
    calls = [[host] for host in hosts] if other in OF_ONE else [hosts]
    return "; ".join(" ".join((PROGRAM, other, *map(shlex.quote, call), *kept)) for call in calls)


def _as_actor(meant: str | None) -> str | None:
    """Return a command line, with the name of the actor in place of ``ME``."""
    return meant and re.sub(r"(?<=--owner )ME\b", lambda _: shlex.quote(default_actor(os.environ)), meant)


def _verb_of(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the command after a noun, as in ``node show node1``, and the words after it; None without one."""
    for position, word in enumerate(words[:3]):
        if word in ENTRIES or word in COMMANDS:
            return COMMANDS.get(word, word), words[position + 1 :]
    return None, words


def _read(
    words: Sequence[str], name: str, command: Any, most: int | None, *, takes_file: bool
) -> tuple[list[str], list[str], list[str]]:
    """Sort the words of another tool's command line into options of a command, other words, and the program to run.

    The program is what follows ``--``, or ``most`` other words. Options without an equivalent are left out.
    """
    params = [param for param in command.params if hasattr(param, "is_flag")]
    takes_value = {name: not param.is_flag for param in params for name in param.opts}
    options: list[str] = []
    others: list[str] = []
    rest = [*words]
    while rest and not (len(others) == most and not rest[0].startswith("-")):
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-"):
            others.append(word)
            continue
        option = word[:2] if SHORT_COUNT.fullmatch(word) else word.partition("=")[0]
        value = value_of(option, [word, *rest])
        if option in _WITH_FILE and takes_file and value:
            others.append(value)
            rest = rest[1:] if rest[:1] == [value] else rest
            continue
        if option in _WITH_FORMAT:
            equivalents = ["-o {json}"]
        elif option in takes_value:
            equivalents = [f"{option} {{TEXT}}" if takes_value[option] else option]
        else:
            equivalents = [each for each in equivalents_of(option, takes_value, name) if each.startswith("-")]
        fitting = (with_value(each, value) for each in equivalents if value or "{" not in each)
        meant = next(filter(None, fitting), None)
        if meant:
            options.append(meant)
        if value and rest[:1] == [value] and (option in _WITH_FORMAT or (meant and "{" in "".join(equivalents))):
            rest.pop(0)
    return options, others, rest if len(others) == most or "--" in words else []


def _filled(meant: str, typed: list[str], root: Any) -> str:
    """Return a command line, with what was typed after the command in place of its placeholders and examples."""
    command = max((name for name in ENTRIES if f"{meant} ".startswith(f"{name} ")), key=len, default=None)
    if command is None:
        return meant
    live = root.command
    for part in command.split(" "):
        live = live.get_command(root, part)
    options, others, program = _read(
        typed, command, live, int("HOST" in meant) if "COMMAND" in meant else None, takes_file="FILE" in meant
    )
    fillers = {*NOUNS, *_FILLERS, *(("all",) if command in OF_ALL else ())}
    named = ["*" if word == "all" else word for word in others if word.lower() not in fillers]
    note = None
    if "--note TEXT" in meant and named[1:]:
        named = named[:1]
        note = shlex.quote(" ".join(others[others.index(named[0]) + 1 :]))
    starts = [word for word in named if "--from 09:00" in meant and _START.fullmatch(word)]
    if starts:
        named.remove(starts[0])
        meant = meant.replace("09:00", starts[0], 1)
    if "--label rack=r1" in meant and len(named) == 2 and named[1].isalpha():  # a tag has no value
        named[1] += "=yes"
    labels = [word for word in named if LABEL_WORD.fullmatch(word) or ("--label" in meant and word.endswith("-"))]
    hosts = [
        shlex.quote(word)
        for word in named
        if HOST.fullmatch(word) and not (_AMOUNT.fullmatch(word) or word in ENTRIES or word in labels)
    ]
    for placeholders, words in ((("HOST", "NEW"), hosts), (("SRC", "DST"), [*map(shlex.quote, named)])):
        if placeholders[1] in meant:
            pairs = [*zip(placeholders, words, strict=False)] if len(words) <= 2 else []
            for placeholder, word in pairs if len(pairs) == 2 or placeholders[0] == "SRC" else []:
                meant = meant.replace(placeholder, word, 1)
            return meant
    if "ID" in meant and named and ID.fullmatch(named[0]):
        meant = meant.replace("ID", named[0])
    if "FILE" in meant and named:
        meant = meant.replace("FILE", shlex.quote(named[0]))
    arguments = [param.metavar for param in live.params if param.param_type_name == "argument"]
    takes_host = meant == command and any("HOST" in (metavar or "") for metavar in arguments)
    if hosts and ("HOST" in meant or takes_host):
        most = None if command not in OF_ONE and "--host" not in meant else 1
        names = " ".join(hosts[:most])
        meant = meant.replace("HOST", names) if "HOST" in meant else f"{meant} {names}"
    if not hosts and any(text.startswith(("-l ", "--selector ", "--state ")) for text in options):
        meant = meant.replace(" HOST", "", 1)
    if labels:
        meant = meant.replace("--label rack=r1", " ".join(f"--label {each}" for each in labels))
        meant = meant.replace("rack=r1", labels[0])
    before, separator, after = meant.partition(" -- ")
    for text in options:
        name = text.split(" ", 1)[0]
        example = re.search(rf" {name} \S+", before)
        before = before.replace(example[0], f" {text}") if example else f"{before} {text}"
    if note is not None:  # last, because it may contain a placeholder
        before = before.replace("--note TEXT", f"--note {note}")
    return f"{before}{separator}{shlex.join(program) if program else after}"
