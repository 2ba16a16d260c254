"""Guess the command line that was meant by one that can't be parsed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from bmhctl.cli.commands import ENTRIES, PROGRAM
from bmhctl.cli.habits import COMMANDS, FORMATS, GROUP_COMMANDS, NOUNS, OPTIONS
from bmhctl.domain.model import State
from bmhctl.output.render import Format
from bmhctl.usecases.shared.context import default_actor

_WITH_HOSTS = (
    *(
        "add",
        "boot-once",
        "check",
        "cordon",
        "history",
        "inspect",
        "list",
        "maintain",
        "power",
        "ready",
        "recycle",
        "release",
    ),
    *("remove", "reserve", "reset", "resume", "retire", "set", "show", "taint", "uncordon", "why"),
)
_ACTIONS = ("on", "off", "soft-off", "cycle", "status", "identify", "identify-off")
_HARD_RESET = "reset"  # a power action of ipmitool and Redfish, but a command of bmhctl that cleans a host
_WITH_FORMAT = ("-o", "--output", "--format")
_WITH_FILE = ("-f", "--file", "--filename")
_FILLERS = ("for", "with")  # words of a sentence, such as lease node01 for 2h
_ALL = ("--all", "-a", "-A")
_OF_COMMAND = {
    **{("list", option): f"{PROGRAM} status --watch" for option in ("-w", "--watch")},
    **{(command, "--owner"): f"{PROGRAM} reservations --owner {{NAME}}" for command in ("list", "status", "release")},
    **{(command, "--mine"): f"{PROGRAM} reservations --owner ME" for command in ("list", "status", "release")},
    **{("list", option): f"{PROGRAM} status --by {{rack}}" for option in ("--by", "--group-by")},
    **{("reservations", option): "--ended" for option in _ALL},
    ("completion", "--install"): f'eval "$({PROGRAM} completion bash)" in ~/.bashrc',
}
"""Options that other tools have in one command, each with its meaning."""
_OF_ONE = ("status", "why", "graph")
_OF_ALL = ("list", "export", "history", "timeline")  # commands that show all hosts if none is named
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*)'", re.S)
_EXTRA_ARGUMENT = re.compile(r"Got unexpected extra argument\(s\) \((\S+).*\)", re.S)
_RESERVATION = re.compile(r"r-[a-z0-9]+")
_LOCATION = re.compile(r"\S+\.(toml|db|sqlite3?)|postgres(ql)?://\S+")
_CANCELS = ("cancel", "kill", "scancel")
_BY_WORD = (
    (_CANCELS, re.compile(r"\d+"), "queue cancel ID"),
    (_CANCELS, re.compile(r"[bm]-[a-z0-9]+"), "bookings cancel ID"),
    (_CANCELS, _RESERVATION, "release -R ID"),
    (("mv",), _LOCATION, "copy --retire-source SRC DST"),
)
"""Commands of other tools whose meaning depends on the form of the next word."""
_SHELL_RANGE = re.compile(
    r"(?P<start>[\w.-]*?)(?:\{(?P<list>\d+(?:,\d+)*)\}|\{?(?P<first>\d+)(?:-|\.\.)(?:(?P=start))?(?P<last>\d+)\}?)(?P<rest>[a-z.]*)"
)  # node{1,2}, node{1..3}, node1-3, node1..node3
_AMOUNT = re.compile(r"\d+\w?")  # the value of an option, such as 2 or 30m
_LENGTH = re.compile(r"(\d+[smhdw])+|none")
_SHORT_COUNT = re.compile(r"-[A-Za-z]\d+")
_ID = re.compile(r"[rbm]-[a-z0-9]+|\d+")
_LABEL_WORD = re.compile(r"[\w./-]+=[\w.-]*")
_EXAMPLE = re.compile(r"\{(.*)\}")
_STATES = "|".join((*State, "free"))
_FORMS = tuple(
    (re.compile(example), re.compile(value))
    for example, value in (
        (r"\d+", r"\d+"),
        (r"\d+[smh]", _LENGTH.pattern),
        ("FILE", _LOCATION.pattern),
        ("VALUE", r"\w[\w.-]*"),
        (_STATES, _STATES),
        (".*", r"\S.*"),
    )
)
"""Patterns of example values, each with the pattern of values that may replace them."""
_LIKELY = 0.75  # the least similarity, by difflib, of a word that is suggested
_LIKELY_HABIT = 0.85  # the same for words of other tools: the suggestion is another command, which may do harm
_HOST = re.compile(r"[\w.*?\[\],-]{1,253}")
_LONGEST = 40  # the longest word that may be a misspelling


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
        value = _value_of(option, args)
        has_hosts = any(param.name == "hosts" for param in error.ctx.command.params)
        if option in ("--host", "--hosts", "--name", "--node") and has_hosts:
            return f"{PROGRAM} {prefix} {shlex.quote(value) if value else 'HOST'}"
        if option in _ALL and (prefix, option) not in _OF_COMMAND and has_hosts and prefix != "add":
            return f"{PROGRAM} {prefix}" if prefix in _OF_ALL else f"{PROGRAM} {prefix} '*'"
        meant = meant_option(option, known, value, prefix)
        return meant and re.sub(r"\bME$", lambda _: shlex.quote(default_actor(os.environ)), meant)
    if extra := _EXTRA_ARGUMENT.match(error.message):
        return meant_argument(extra[1], prefix, known)
    command = _UNKNOWN_COMMAND.match(error.message)
    if command is None:
        return None
    typed = [*args[args.index(command[1]) + 1 :]] if command[1] in args else []
    if not prefix and (command[1].lower() in NOUNS or (command[1] == "get" and _verb_of(typed[:1])[0])):
        verb, typed = _verb_of(typed)
        meant = verb or "list"
    else:
        meant = meant_command(command[1], prefix)
    for words, word, other in _BY_WORD:
        if command[1].lower() in words and any(word.fullmatch(each) for each in typed):
            meant = other
    return meant and f"{PROGRAM} {_filled(meant, typed, error.ctx.find_root())}"


def _value_of(option: str, args: Sequence[str]) -> str | None:
    """Return the value that an option was given, if any."""
    for arg, following in pairwise([*args, ""]):
        name, is_joined, value = arg.partition("=")
        if name == option:
            value = value if is_joined else following
            return None if value.startswith("-") else value or None
        if _SHORT_COUNT.fullmatch(arg) and arg[:2] == option:
            return arg[2:]
    return None


def _verb_of(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the command after a noun, as in ``node show node1``, and the words after it; None without one."""
    for position, word in enumerate(words[:2]):
        if word in ENTRIES or word in COMMANDS:
            return COMMANDS.get(word, word), words[position + 1 :]
    return None, words


def _with_value(equivalent: str, value: str | None) -> str | None:
    """Return an equivalent of an option with a value in the place of its example; None if the value has another form.

    Without a value the example stays.
    """
    example = _EXAMPLE.search(equivalent)
    if example is None or value is None:
        return equivalent.replace("{", "").replace("}", "")
    before, after = equivalent[: example.start()], equivalent[example.end() :]
    if before == "-o ":
        return meant_format(value)
    if before == "--label ":
        labels = value.split(",")
        return " ".join(f"--label {each}" for each in labels) if all(map(_LABEL_WORD.fullmatch, labels)) else None
    form = next(form for kind, form in _FORMS if kind.fullmatch(example[1]))
    return before + shlex.quote(value) + after if form.fullmatch(value) else None


def _read(
    words: Sequence[str], name: str, command: Any, most: int | None, *, takes_file: bool
) -> tuple[list[str], list[str], list[str]]:
    """Return what the words of another tool are for a command: its options, the other words, and the program to run.

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
        option = word[:2] if _SHORT_COUNT.fullmatch(word) else word.partition("=")[0]
        value = _value_of(option, [word, *rest])
        if option in _WITH_FILE and takes_file and value:
            others.append(value)
            rest = rest[1:] if rest[:1] == [value] else rest
            continue
        if option in _WITH_FORMAT:
            equivalents = ["-o {json}"]
        elif option in takes_value:
            equivalents = [f"{option} {{TEXT}}" if takes_value[option] else option]
        else:
            equivalents = [each for each in _equivalents(option, takes_value, name) if each.startswith("-")]
        fitting = (_with_value(each, value) for each in equivalents if value or "{" not in each)
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
    named = [word for word in others if word.lower() not in NOUNS and word not in _FILLERS]
    labels = [word for word in named if _LABEL_WORD.fullmatch(word)]
    hosts = [
        shlex.quote(word)
        for word in named
        if _HOST.fullmatch(word) and not (_AMOUNT.fullmatch(word) or word in ENTRIES)
    ]
    for placeholders, words in ((("HOST", "NEW"), hosts), (("SRC", "DST"), [*map(shlex.quote, named)])):
        if placeholders[1] in meant:
            pairs = [*zip(placeholders, words, strict=False)] if len(words) <= 2 else []
            for placeholder, word in pairs if len(pairs) == 2 or placeholders[0] == "SRC" else []:
                meant = meant.replace(placeholder, word, 1)
            return meant
    if "ID" in meant and named and _ID.fullmatch(named[0]):
        meant = meant.replace("ID", named[0])
    if "FILE" in meant and named:
        meant = meant.replace("FILE", shlex.quote(named[0]))
    takes_host = meant == command and command in _WITH_HOSTS
    if hosts and ("HOST" in meant or takes_host):
        most = None if command not in _OF_ONE and command != "show" and "--host" not in meant else 1
        names = " ".join(hosts[:most])
        meant = meant.replace("HOST", names) if "HOST" in meant else f"{meant} {names}"
    if labels:
        meant = meant.replace("--label rack=r1", " ".join(f"--label {each}" for each in labels))
        meant = meant.replace("rack=r1", labels[0])
    before, separator, after = meant.partition(" -- ")
    for text in options:
        name = text.split(" ", 1)[0]
        example = re.search(rf" {name} \S+", before)
        before = before.replace(example[0], f" {text}") if example else f"{before} {text}"
    return f"{before}{separator}{shlex.join(program) if program else after}"


def meant_command(word: str, group: str = "") -> str | None:
    """Return the command line that an unknown command stands for, below ``group`` ("policy"; "" is the root)."""
    word = word.lower()
    if meant := GROUP_COMMANDS.get(f"{group} {word}") if group else COMMANDS.get(word):
        return meant
    if group in ENTRIES and word in ("list", "ls", "show"):
        return group
    prefix = f"{group} " if group else ""
    names = {name.removeprefix(prefix).split(" ")[0] for name in ENTRIES if name.startswith(prefix)}
    habits = () if group else COMMANDS
    near = _nearest(word, sorted(names)) or _nearest_habit(word, habits)
    if near is None:
        return None
    return prefix + near if near in names else COMMANDS[near]


def _equivalents(option: str, known: Iterable[str], command: str) -> list[str]:
    """Return what an option of other tools stands for in a command that has the options ``known``, the best first."""
    known = [*known]
    own = _OF_COMMAND.get((command, option))
    return [*filter(None, [own]), *(text for text in OPTIONS.get(option, ()) if text.split(" ")[0] in known)]


def meant_option(option: str, known: Iterable[str], value: str | None = None, command: str = "") -> str | None:
    """Return what an unknown option stands for in a command that has the options ``known``, with its value."""
    known = [*known]
    if equivalents := _equivalents(option, known, command):
        if value is None and equivalents[0].startswith("-l "):
            return equivalents[0].removesuffix("={VALUE}").replace("{", "").replace("}", "")
        return next(filter(None, (_with_value(text, value) for text in equivalents)), _with_value(equivalents[0], None))
    if option in OPTIONS:
        return None
    long = [name for name in known if name.startswith("--") and name != "--help"]
    if near := _nearest(option, long):
        return near
    near = _nearest_habit(option, [habit for habit in OPTIONS if _equivalents(habit, known, command)])
    return near and meant_option(near, known, value, command)


def meant_argument(word: str, command: str, known: Iterable[str]) -> str | None:
    """Return what an argument stands for in a command that takes no further arguments; ``known`` are its options."""
    known = [*known]
    if _RESERVATION.fullmatch(word):
        return f"-R {word}" if "-R" in known else None
    if _LOCATION.fullmatch(word):
        return f"{PROGRAM} -i {word} {command}"
    if command == "show":
        return f"{PROGRAM} list"
    if command == "queue move" and word.isdecimal():
        return f"--before {word}"
    if command == "extend":
        return f"--ttl {word}" if _LENGTH.fullmatch(word) else "-R ID"
    return f"{PROGRAM} {'show' if command == 'status' else command} {word}" if command in _OF_ONE else None


def meant_label(words: Iterable[str]) -> str | None:
    """Return the option that the first label in the place of a host's name stands for; None if there is none."""
    return next((f"--label {word}" for word in words if _LABEL_WORD.fullmatch(word)), None)


def meant_reason(words: Iterable[str]) -> str | None:
    """Return the option that the first sentence among host names stands for; None if there is none."""
    sentences = (word for word in words if " " in word.strip() and not word.startswith("-"))
    return next((f"--reason {shlex.quote(word)}" for word in sentences), None)


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
    if name in _STATES.split("|") and "--state" in known:
        return f"--state {name}"
    if _LENGTH.fullmatch(name) and "--ttl" in known:
        return f"--ttl {name}"
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
    """Return the output format that was probably meant by an unknown one; None if that is not clear."""
    word = text.lower().partition("=")[0]
    if word == "custom-columns":
        return "--fields name,state"
    near = _nearest(word, [*Format])
    meant = FORMATS.get(word) or near
    return meant and f"-o {meant}"


def meant_power(words: Sequence[str]) -> list[str]:
    """Guess the hosts and the action of ``power`` from words that do not end with an action."""
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
"""Words of ipmitool and other tools for the targets of ``boot-once``."""


def meant_boot(words: Sequence[str]) -> list[str]:
    """Guess the hosts and the target of ``boot-once`` from words that do not end with a target."""
    meant = _BOOT_WORDS.get(words[-1].lower()) if len(words) > 1 else None
    return [*words[:-1], meant] if meant else []


def synopsis(ctx: Any) -> str:
    """Return how a command is called, on one line: with its required options, or with the commands of a group."""
    if hasattr(ctx.command, "list_commands"):
        return f"{ctx.command_path} {'|'.join(ctx.command.list_commands(ctx))}"
    options, *arguments = ctx.command.collect_usage_pieces(ctx)
    required = [
        f"{param.opts[0]} {param.metavar or '|'.join((*param.type.choices[:2], '…'))}"
        for param in ctx.command.params
        if param.required and param.param_type_name == "option"
    ]
    return " ".join([ctx.command_path, options, *required, *arguments])


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
    """Return the word of another tool that was probably misspelt; strict, because it stands for another command."""
    return _nearest(word, [each for each in known if abs(len(each) - len(word)) <= 1], _LIKELY_HABIT)
