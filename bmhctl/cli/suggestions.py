"""Guess what a word was meant to be: a command, an option, an argument or a host that bmhctl does not know."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from bmhctl.cli.commands import ENTRIES, PROGRAM
from bmhctl.cli.habits import BOOT_WORDS, COMMANDS, FORMATS, GROUP_COMMANDS, LOCATION, OF_COMMAND, OPTIONS
from bmhctl.domain.model import Power, State
from bmhctl.errors import BmhctlError, UsageError
from bmhctl.output.render import Format

_HARD_RESET = "reset"  # a power action of ipmitool and Redfish, but a command of bmhctl that cleans a host
OF_ONE = ("show", "why", "graph")
OF_HOSTS = {"show": "list", "status": "list", "why": "why", "graph": "graph", "doctor": "why", "stats": "timeline"}
"""Commands that take one host or none, each with the command to call for several."""
OF_ALL = ("list", "export", "history", "timeline")  # commands that show all hosts if none is named
_RESERVATION = re.compile(r"r-[a-z0-9]+")
_LOCATION = re.compile(LOCATION)
_SHELL_RANGE = re.compile(
    r"(?P<start>[\w.-]*?)(?:\{(?P<list>\d+(?:,\d+)*)\}|\{?(?P<first>\d+)(?:-|\.\.)(?:(?P=start))?(?P<last>\d+)\}?)(?P<rest>[a-z.]*)"
)  # node{1,2}, node{1..3}, node1-3, node1..node3
_LENGTH = re.compile(r"(\d+[smhdw])+|none")
HOST = re.compile(r"[\w.*?\[\],-]{1,253}")
_NO_HOST = re.compile("|".join((_RESERVATION.pattern, LOCATION, _LENGTH.pattern)))
_WITH_COMMAS = re.compile("SELECTOR|…")
"""The forms of values that may have commas themselves."""
_PAIR = re.compile(r"[\w./-]+(=.*|-)")
_TERM = re.compile(r"![\w./-]+|[\w./-]+(!?=|[<>]=?)[\w.-]*")
_NOT_ONE_OF = re.compile(r"'(.*)' is not one of ", re.S)  # of Typer
LABEL_WORD = re.compile(r"[\w./-]+=[\w.-]*")
SHORT_COUNT = re.compile(r"-[A-Za-z]\d+")
ID = re.compile(r"[rbm]-[a-z0-9]+|\d+")
_KEY = re.compile(r"[rbm]-[a-z0-9]+")
_EXAMPLE = re.compile(r"\{(.*)\}")
_STATES = "|".join((*State, "free"))
_FORMS = tuple(
    (re.compile(example), re.compile(value))
    for example, value in (
        (r"\d+", r"\d+"),
        (r"\d+[smh]", _LENGTH.pattern),
        ("FILE", _LOCATION.pattern),
        ("KEY=VALUE", _PAIR.pattern),
        ("VALUE", r"\w[\w.-]*"),
        (_STATES, _STATES),
        (".*", r"\S.*"),
    )
)
"""Patterns of example values, each with the pattern of values that may replace them."""
_LIKELY = 0.75  # the least similarity, by difflib, of a word that is suggested
_LIKELY_HABIT = 0.85  # the same for words of other tools: the suggestion is another command, which may do harm
_LONGEST = 40  # the longest word that may be a misspelling


def value_of(option: str, args: Sequence[str]) -> str | None:
    """Return the value that an option was given, if any."""
    for arg, following in pairwise([*args, ""]):
        name, is_joined, value = arg.partition("=")
        if name == option:
            value = value if is_joined else following
            return None if value.startswith("-") else value or None
        if SHORT_COUNT.fullmatch(arg) and arg[:2] == option:
            return arg[2:]
    return None


def with_value(equivalent: str, value: str | None) -> str | None:
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
        return " ".join(f"--label {each}" for each in labels) if all(map(LABEL_WORD.fullmatch, labels)) else None
    form = next(form for kind, form in _FORMS if kind.fullmatch(example[1]))
    return before + shlex.quote(value) + after if form.fullmatch(value) else None


def meant_command(word: str, group: str = "") -> str | None:
    """Return the command line that an unknown command stands for, below ``group`` ("policy"; "" is the root)."""
    word = word.lower()
    if meant := GROUP_COMMANDS.get(f"{group} {word}") if group else COMMANDS.get(word):
        return meant
    if group in ENTRIES and word in ("list", "ls", "show"):
        return group
    if group == "bookings" and ID.fullmatch(word):
        return f"{group} --ended"
    prefix = f"{group} " if group else ""
    names = {name.removeprefix(prefix).split(" ")[0] for name in ENTRIES if name.startswith(prefix)}
    habits = () if group else COMMANDS
    near = _nearest(word, sorted(names)) or _nearest_habit(word, habits)
    if near is None:
        return None
    return prefix + near if near in names else COMMANDS[near]


def equivalents_of(option: str, known: Iterable[str], command: str) -> list[str]:
    """Return what an option of other tools stands for in a command that has the options ``known``, the best first."""
    known = [*known]
    own = OF_COMMAND.get((command, option))
    return [*filter(None, [own]), *(text for text in OPTIONS.get(option, ()) if text.split(" ")[0] in known)]


def meant_option(option: str, known: Iterable[str], value: str | None = None, command: str = "") -> str | None:
    """Return what an unknown option stands for in a command that has the options ``known``, with its value."""
    known = [*known]
    if equivalents := equivalents_of(option, known, command):
        if value is None and equivalents[0].startswith("-l "):
            return equivalents[0].removesuffix("={VALUE}").replace("{", "").replace("}", "")
        return next(filter(None, (with_value(text, value) for text in equivalents)), with_value(equivalents[0], None))
    if option in OPTIONS:
        return None
    long = [name for name in known if name.startswith("--") and name != "--help"]
    if near := _nearest(option, long):
        return near
    near = _nearest_habit(option, [habit for habit in OPTIONS if equivalents_of(habit, known, command)])
    return near and meant_option(near, known, value, command)


def meant_argument(word: str, args: Sequence[str], command: str, known: Iterable[str]) -> str | None:
    """Return what an argument stands for in a command that takes no further arguments; ``known`` are its options.

    ``args`` is the whole command line.
    """
    known = [*known]
    if _RESERVATION.fullmatch(word):
        return f"-R {word}" if "-R" in known else None
    if _LOCATION.fullmatch(word):
        if value_of("-i", args) or value_of("--inventory", args):
            return None
        return shlex.join((PROGRAM, "-i", word, *(arg for arg in args if arg != word)))
    if _LENGTH.fullmatch(word) and "--ttl" in known:
        return f"--ttl {word}"
    if command == "queue move" and word.isdecimal():
        return f"--before {word}"
    if command == "share":
        return f"--with {shlex.quote(word)}"
    return None


def meant_for(words: Sequence[str], command: str) -> str | None:
    """Return the command for hosts or reservations that were given to one of `OF_HOSTS`; None for other words."""
    if words and all(map(_RESERVATION.fullmatch, words)):
        return "reservations"
    if not words or not all(map(HOST.fullmatch, words)) or any(map(_NO_HOST.fullmatch, words)):
        return None
    return "show" if command == "status" and len(words) == 1 else OF_HOSTS[command]


def meant_list(message: str, args: Sequence[str], command: Any) -> str | None:
    """Return the repeated option that a list such as ``--label a=1,b=2`` stands for, if the message quotes the list."""
    for param in command.params:
        form = param.metavar or ""
        for option in () if not getattr(param, "multiple", False) or _WITH_COMMAS.search(form) else param.opts:
            value = value_of(option, args) or ""
            parts = [part for part in value.split(",") if part]
            is_list = len(parts) > 1 and ("=" not in form or all(_PAIR.fullmatch(part) for part in parts))
            if is_list and f"{(value.partition('=')[2] or value)}'" in message:
                return " ".join(f"{option} {shlex.quote(part)}" for part in parts)
    return None


def meant_ids(args: Sequence[str], name: str, command: Any) -> str | None:
    """Return the calls that several ids stand for, such as ``queue cancel 1,2``: one for each, or one with all.

    ``name`` is the name of the command. Returns None if the command line has no such ids.
    """
    form = ID if name.startswith("queue") else _KEY
    ids = {place: [part for part in arg.split(",") if part] for place, arg in enumerate(args)}
    found = [place for place, parts in ids.items() if parts and all(map(form.fullmatch, parts))]
    given = [each for place in found for each in ids[place]]
    if len(given) < 2 or found != [*range(found[0], found[-1] + 1)]:
        return None
    before, after = args[: found[0]], args[found[-1] + 1 :]
    takes_all = before[-1:] == [name.split(" ")[-1]] and any(param.nargs < 0 for param in command.params)
    calls = [given] if takes_all else [[each] for each in given]
    return "; ".join(shlex.join((PROGRAM, *before, *call, *after)) for call in calls)


def meant_after(error: BmhctlError, args: Sequence[str], name: str, command: Any) -> str | None:
    """Return what the user probably meant by a command line that failed with an error; None if that is not clear.

    ``name`` is the name of the ``command``; it may be empty.
    """
    if error.code == "not-found" and error.host is not None and name:
        typed = next((arg for arg in args if arg.lower() == error.host), error.host)
        return meant_fields(error.host, args) or meant_host(typed, name, option_names(command))
    if name and any("," in arg for arg in args):
        listed = meant_list(error.message, args, command) or meant_ids(args, name, command)
        if listed:
            return listed
    if not isinstance(error, UsageError) or error.message.startswith("no inventory"):
        return None
    words = [arg for before, arg in pairwise(args) if not before.startswith("-")]
    if name in ("add", "set"):
        option = "--label"
        for before, arg in pairwise(args):
            if before in ("--label", "--hardware"):
                option = before
            elif not before.startswith("-") and LABEL_WORD.fullmatch(arg):
                return f"{option} {arg}"
        return None
    if name == "maintain" and "--reason" not in args:
        sentences = (word for word in words if " " in word.strip() and not word.startswith("-"))
        return next((f"--reason {shlex.quote(word)}" for word in sentences), None)
    # An owner is no label, but often taken for one.
    terms = (word for before, word in pairwise(args) if before in ("-l", "--selector"))
    owner = next((term.removeprefix("owner=") for term in terms if term.startswith("owner=")), None)
    return f"{PROGRAM} reservations --owner {owner}" if owner and f"owner={owner}" in error.message else None


def meant_choice(message: str, param: Any) -> str | None:
    """Return an option with the value that a misspelt or abbreviated one stands for, if the message refuses a value."""
    refused = _NOT_ONE_OF.match(message)
    if refused is None or param is None:
        return None
    choices = [str(choice) for choice in param.type.choices]
    value = refused[1].lower()
    fitting = [choice for choice in choices if value and choice.startswith(value)]
    near = fitting[0] if len(fitting) == 1 else _nearest(value, choices)
    return near and f"{param.opts[0]} {near}"


def meant_fields(name: str, args: Sequence[str]) -> str | None:
    """Return ``--fields a,b`` for ``--fields a, b``, which makes ``b`` the name of a host; None for any other name."""
    for option, value, word in zip(args, args[1:], args[2:], strict=False):
        if option == "--fields" and word == name:
            return "--fields " + shlex.quote(",".join((value.rstrip(","), word)))
    return None


def meant_host(name: str, command: str, known: Iterable[str]) -> str | None:
    """Return what the user probably meant by a name that no host has: an option or a command line; None if unclear.

    ``known`` are the options of the command.
    """
    known = [*known]
    option = "--host " if command == "run" else ""
    call = "" if option else f"{PROGRAM} {command} "
    if name.isdecimal() and command in ("reserve", "run"):
        return f"-n {name}"
    if name == "any" and command in ("reserve", "run"):
        return "-n 1"
    if name == "all" and command not in ("reserve", "run"):
        return f"{PROGRAM} {command}" if command in OF_ALL else f"{PROGRAM} {command} '*'"
    if name == "help":
        return f"{PROGRAM} {command} --help"
    if name in _STATES.split("|") and "--state" in known:
        return f"--state {name}"
    if _LENGTH.fullmatch(name) and "--ttl" in known:
        return f"--ttl {name}"
    if written := _SHELL_RANGE.fullmatch(name):
        inner = written["list"] or f"{written['first']}-{written['last']}"
        return call + option + shlex.quote(f"{written['start']}[{inner}]{written['rest']}")
    if "," in name and not {*"[{"} & {*name}:
        return call + " ".join(option + shlex.quote(each) for each in name.split(",") if each)
    if _RESERVATION.fullmatch(name):
        return f"-R {name}" if "-R" in known else f"{PROGRAM} reservations {name}"
    if _LOCATION.fullmatch(name):
        return f"{PROGRAM} -i {name} {command}"
    if command == "set" and LABEL_WORD.fullmatch(name):
        return f"--label {name}"
    if _TERM.fullmatch(name) and "-l" in known:
        key, _, value = name.partition("=")
        return f"--state {value}" if key == "state" and "--state" in known else f"-l {shlex.quote(name)}"
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
            if hosts and meant[0] == "power" and meant[2] in [*Power]:
                return [*hosts, meant[2]]
    return []


def meant_boot(words: Sequence[str]) -> list[str]:
    """Guess the hosts and the target of ``boot-once`` from words that do not end with a target."""
    meant = BOOT_WORDS.get(words[-1].lower()) if len(words) > 1 else None
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
    """Return the most similar known word with the same first letter, or with which ``word`` ends; so sudo is not
    undo."""
    if len(word) > _LONGEST:
        return None
    for near in get_close_matches(word, [*known], cutoff=likely):
        if near.lstrip("-")[:1] == word.lstrip("-")[:1] or near.endswith(word):
            return near
    return None


def _nearest_habit(word: str, known: Iterable[str]) -> str | None:
    """Return the word of another tool that was probably misspelt; only a very similar one, as it stands for another
    command."""
    return _nearest(word, [each for each in known if abs(len(each) - len(word)) <= 1], _LIKELY_HABIT)
