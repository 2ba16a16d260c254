"""What a command line that can't be parsed was probably meant to be, as it is typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from bmhctl.cli.commands import ENTRIES, PROGRAM
from bmhctl.cli.habits import COMMANDS, FORMATS, NOUNS, OPTIONS
from bmhctl.output.render import Format

_WITH_HOSTS = (
    *("boot-once", "check", "cordon", "history", "inspect", "list", "maintain", "power", "ready", "recycle", "release"),
    *("remove", "reserve", "reset", "resume", "retire", "set", "show", "taint", "uncordon", "why"),
)
_ACTIONS = ("on", "off", "soft-off", "cycle", "status", "identify", "identify-off")
_HARD_RESET = "reset"  # of ipmitool and Redfish; here a command of that name cleans a host
_WITH_FORMAT = ("-o", "--output", "--format")
_ALL = ("--all", "-a", "-A")
_OF_COMMAND = {
    **{("list", option): f"{PROGRAM} status --watch" for option in ("-w", "--watch")},
    **{(command, "--owner"): f"{PROGRAM} reservations --owner NAME" for command in ("list", "status", "release")},
    **{("reservations", option): "--ended" for option in _ALL},
}
"""What an option of one command stands for."""
_OF_ONE = ("status", "why", "graph")
_OF_ALL = ("list", "export", "history", "timeline")  # without a name they are about all hosts
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*)'", re.S)
_EXTRA_ARGUMENT = re.compile(r"Got unexpected extra argument\(s\) \((\S+).*\)", re.S)
_RESERVATION = re.compile(r"r-[a-z0-9]+")
_LOCATION = re.compile(r"\S+\.(toml|db|sqlite3?)|postgres(ql)?://\S+")
_SHELL_RANGE = re.compile(
    r"(?P<start>[\w.-]*?)(?:\{(?P<list>\d+(?:,\d+)*)\}|\{?(?P<first>\d+)(?:-|\.\.)(?:(?P=start))?(?P<last>\d+)\}?)(?P<rest>[a-z.]*)"
)  # node{1,2}, node{1..3}, node1-3, node1..node3
_AMOUNT = re.compile(r"\d+\w?")  # the value of an option, such as 2 or 30m
_LABEL_WORD = re.compile(r"[\w./-]+=[\w.-]*")
_LABEL_VALUE = re.compile(r"\w[\w.-]*")
_LIKELY = 0.75  # the least similarity, by difflib, of a word that is suggested
_LIKELY_HABIT = 0.85  # the same for words of other tools: a wrong guess runs another command, which may do harm
_HOST = re.compile(r"[\w.*?\[\],-]{1,253}")
_LONGEST = 40  # the longest word that may be a misspelling


def meant_by(error: Any, args: Sequence[str]) -> str | None:
    """Return the command line that the user probably meant, for a usage error of Typer; None if that is not clear.

    ``args`` is the whole command line: its hosts and labels are kept.
    """
    if error.ctx is None:
        return None
    option = getattr(error, "option_name", None)
    prefix = error.ctx.command_path.removeprefix(PROGRAM).strip()
    if option is not None and hasattr(error, "possibilities"):
        hosts = [word for word in error.ctx.command.params if word.name == "hosts"]
        if option in ("--host", "--hosts", "--name", "--node") and hosts:
            return f"{PROGRAM} {prefix} HOST"
        if (prefix, option) in _OF_COMMAND:
            return _OF_COMMAND[prefix, option]
        if option in _ALL and any(param.name == "hosts" for param in error.ctx.command.params) and prefix != "add":
            return f"{PROGRAM} {prefix}" if prefix in _OF_ALL else f"{PROGRAM} {prefix} '*'"
        meant = meant_option(option, option_names(error.ctx.command))
        return meant and meant.replace("VALUE", _value_of(option, args))
    if extra := _EXTRA_ARGUMENT.match(error.message):
        return meant_argument(extra[1], prefix, option_names(error.ctx.command))
    command = _UNKNOWN_COMMAND.match(error.message)
    if command is None:
        return None
    meant = meant_command(command[1], prefix)
    if prefix:
        return meant and f"{PROGRAM} {meant}"
    typed = [*args[args.index(command[1]) + 1 :]] if command[1] in args else []
    if command[1].lower() in NOUNS:
        verb, typed = _verb_of(typed)
        meant = verb or "list"
    return meant and f"{PROGRAM} {_filled(meant, typed)}"


def _value_of(option: str, args: Sequence[str]) -> str:
    """Return the value that an option was given, or ``VALUE``."""
    for arg, following in pairwise([*args, ""]):
        name, is_joined, value = arg.partition("=")
        value = value if is_joined else following
        if name == option and _LABEL_VALUE.fullmatch(value):
            return value
    return "VALUE"


def _verb_of(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the command after a noun, as in ``node show node1``, and the words after it; None without one."""
    for position, word in enumerate(words[:2]):
        if word in ENTRIES or word in COMMANDS:
            return COMMANDS.get(word, word), words[position + 1 :]
    return None, words


def _filled(meant: str, words: list[str]) -> str:
    """Return a command line, with the hosts, the label and the program from the words in place of its placeholders."""
    end = words.index("--") if "--" in words else len(words)
    program = shlex.join(words[end + 1 :])
    named = [
        word
        for word, before in zip(words[:end], ["", *words], strict=False)
        if word.lower() not in NOUNS and not word.startswith("-") and before not in _WITH_FORMAT
    ]
    hosts = [
        shlex.quote(word)
        for word in named
        if _HOST.fullmatch(word) and not (_AMOUNT.fullmatch(word) or word in ENTRIES)
    ]
    labels = [word for word in named if _LABEL_WORD.fullmatch(word)]
    if "NEW" in meant or "SRC" in meant:
        return re.sub("HOST|SRC", hosts[0], re.sub("NEW|DST", hosts[1], meant)) if len(hosts) == 2 else meant
    command = meant.split(" ", 1)[0]
    takes_host = meant == command and command in _WITH_HOSTS
    if hosts and ("HOST" in meant or takes_host):
        most = None if command not in _OF_ONE and command != "show" and "--host" not in meant else 1
        names = " ".join(hosts[:most])
        meant = meant.replace("HOST", names) if "HOST" in meant else f"{meant} {names}"
    if labels:
        meant = meant.replace("rack=r1", labels[0])
    return meant.replace("COMMAND", program) if program else meant


def meant_command(word: str, group: str = "") -> str | None:
    """Return the command line that an unknown command stands for, below ``group`` ("policy"; "" is the root)."""
    word = word.lower()
    if not group and word in COMMANDS:
        return COMMANDS[word]
    if group in ENTRIES and word in ("list", "ls", "show"):
        return group
    prefix = f"{group} " if group else ""
    names = {name.removeprefix(prefix).split(" ")[0] for name in ENTRIES if name.startswith(prefix)}
    habits = () if group else COMMANDS
    near = _nearest(word, sorted(names)) or _nearest_habit(word, habits)
    if near is None:
        return None
    return prefix + near if near in names else COMMANDS[near]


def meant_option(option: str, known: Iterable[str]) -> str | None:
    """Return what an unknown option stands for in a command that has the options ``known``."""
    known = [*known]
    habits = {
        habit: next((text for text in meant if text.split(" ")[0] in known), None) for habit, meant in OPTIONS.items()
    }
    if option in habits:
        return habits[option]
    long = [name for name in known if name.startswith("--") and name != "--help"]
    if near := _nearest(option, long):
        return near
    near = _nearest_habit(option, [habit for habit, meant in habits.items() if meant])
    return near and habits[near]


def meant_argument(word: str, command: str, known: Iterable[str]) -> str | None:
    """Return what an argument stands for in a command that takes no more of them and has the options ``known``."""
    known = [*known]
    if _RESERVATION.fullmatch(word):
        return f"-R {word}" if "-R" in known else None
    if _LOCATION.fullmatch(word):
        return f"{PROGRAM} -i {word} {command}"
    if command == "show":
        return f"{PROGRAM} list"
    if command == "extend":
        return "-R ID"
    return f"{PROGRAM} {'show' if command == 'status' else command} {word}" if command in _OF_ONE else None


def meant_label(words: Iterable[str]) -> str | None:
    """Return the option that the first label in the place of a host's name stands for; None if there is none."""
    return next((f"--label {word}" for word in words if _LABEL_WORD.fullmatch(word)), None)


def meant_host(name: str, command: str, known: Iterable[str]) -> str | None:
    """Return what the user probably meant by a name that no host has: an option or a command line; None if unclear.

    ``known`` are the options of the command.
    """
    known = [*known]
    if name.isdecimal() and command in ("reserve", "run"):
        return f"-n {name}"
    if name == "any" and command in ("reserve", "run"):
        return "-n 1"
    if name == "all":
        return f"{PROGRAM} {command}" if command in _OF_ALL else f"{PROGRAM} {command} '*'"
    if name == "help":
        return f"{PROGRAM} {command} --help"
    if written := _SHELL_RANGE.fullmatch(name):
        inner = written["list"] or f"{written['first']}-{written['last']}"
        return f"{PROGRAM} {command} " + shlex.quote(f"{written['start']}[{inner}]{written['rest']}")
    if "," in name and not {*"[{"} & {*name}:
        return f"{PROGRAM} {command} {' '.join(shlex.quote(each) for each in name.split(',') if each)}"
    if _RESERVATION.fullmatch(name):
        return f"-R {name}" if "-R" in known else f"{PROGRAM} reservations {name}"
    if _LOCATION.fullmatch(name):
        return f"{PROGRAM} -i {name} {command}"
    if command == "set" and _LABEL_WORD.fullmatch(name):
        return f"--label {name}"
    if re.fullmatch(r"[\w./-]+!?=[\w.-]*", name) and "-l" in known:
        key, _, value = name.partition("=")
        return f"--state {value}" if key == "state" and "--state" in known else f"-l {name}"
    return None


def meant_format(text: str) -> str | None:
    """Return the output format that an unknown one stands for; None if that is not clear."""
    word = text.lower().partition("=")[0]
    if word == "custom-columns":
        return "--fields name,state"
    near = _nearest(word, [*Format])
    meant = FORMATS.get(word) or near
    return meant and f"-o {meant}"


def meant_power(words: Sequence[str]) -> list[str]:
    """Return the hosts and the action of ``power`` that words without an action at their end stand for."""
    for action, hosts in ((words[-1:], words[:-1]), (words[:1], words[1:])):
        for word in action:
            word = "cycle" if word == _HARD_RESET else word
            meant = COMMANDS.get(word, f"power HOST {word}").split(" ")
            if hosts and meant[0] == "power" and meant[2] in _ACTIONS:
                return [*hosts, meant[2]]
    return []


_BOOT_WORDS = {
    "cdrom": "cd",
    "diag": "diagnostics",
    "disk": "hdd",
    "dvd": "cd",
    "iso": "cd",
    "net": "pxe",
    "network": "pxe",
    "setup": "bios",
}
"""What ipmitool and others call the targets of ``boot-once``."""


def meant_boot(words: Sequence[str]) -> list[str]:
    """Return the hosts and the target of ``boot-once`` that words without a target at their end stand for."""
    meant = _BOOT_WORDS.get(words[-1].lower()) if len(words) > 1 else None
    return [*words[:-1], meant] if meant else []


def synopsis(ctx: Any) -> str:
    """Return how a command is called, on one line: its name and its arguments, or the commands of a group."""
    if hasattr(ctx.command, "list_commands"):
        return f"{ctx.command_path} {'|'.join(ctx.command.list_commands(ctx))}"
    return " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])


def option_names(command: Any) -> list[str]:
    """Return every spelling of every option of a command."""
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]


def _nearest(word: str, known: Iterable[str], likely: float = _LIKELY) -> str | None:
    """Return the most similar word that begins in the same way, or lacks its beginning: sudo is not undo."""
    if len(word) > _LONGEST:
        return None
    for near in get_close_matches(word, [*known], cutoff=likely):
        if near.lstrip("-")[:1] == word.lstrip("-")[:1] or near.endswith(word):
            return near
    return None


def _nearest_habit(word: str, known: Iterable[str]) -> str | None:
    """Return the habitual word that is misspelt; what it stands for looks like another command, and may do harm."""
    return _nearest(word, [each for each in known if abs(len(each) - len(word)) <= 1], _LIKELY_HABIT)
