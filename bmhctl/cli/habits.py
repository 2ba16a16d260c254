"""Words and options of other tools that users type out of habit, and the command line that each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from bmhctl.cli.commands import ENTRIES, PROGRAM

COMMANDS: dict[str, str] = {
    "acquire": "reserve",
    "allocate": "reserve",
    "book": "reserve HOST --from 09:00 --until 12:00",
    "broken": "maintain HOST --reason TEXT",
    "calendar": "bookings",
    "cancel": "bookings cancel ID",
    "claim": "reserve",
    "clean": "reset HOST",
    "config": "policy show",
    "cp": "copy SRC DST",
    "create": "add HOST",
    "dashboard": "report --to lab.html",
    "decommission": "retire HOST",
    "del": "remove HOST",
    "delete": "remove HOST",
    "describe": "show HOST",
    "disable": "cordon HOST",
    "discover": "inspect HOST",
    "drain": "cordon HOST",
    "edit": "set HOST",
    "enable": "uncordon HOST",
    "events": "history",
    "exec": "run HOST -- COMMAND",
    "explain": "why HOST",
    "find": "list -l rack=r1",
    "fix": "doctor --fix",
    "free": "release HOST",
    "gantt": "timeline",
    "get": "list",
    "hosts": "list",
    "info": "show HOST",
    "kick": "taint HOST --force --reason TEXT",
    "label": "set HOST --label rack=r1",
    "leases": "reservations",
    "limits": "policy show",
    "lock": "reserve",
    "log": "history",
    "logs": "history",
    "ls": "list",
    "maintenance": "maintain HOST --reason TEXT",
    "man": "help",
    "monitor": "status --watch",
    "mv": "rename HOST NEW",
    "new": "add HOST",
    "off": "power HOST off",
    "on": "power HOST on",
    "ps": "reservations",
    "prove": "check HOST",
    "quarantine": "maintain HOST --reason TEXT",
    "quota": "policy show",
    "reboot": "power HOST cycle",
    "recheck": "check HOST",
    "renew": "extend",
    "repair": "doctor --fix",
    "restore": "copy SRC DST",
    "return": "release HOST",
    "rm": "remove HOST",
    "schedule": "bookings",
    "search": "list -l rack=r1",
    "serve": "report --to lab.html",
    "setup": "ready HOST",
    "steal": "taint HOST --force --reason TEXT",
    "summary": "status",
    "tag": "set HOST --label rack=r1",
    "top": "status --watch",
    "unlock": "release HOST",
    "unmaintain": "resume HOST",
    "unreserve": "release HOST",
    "update": "set HOST",
    "usage": "stats",
    "utilization": "stats",
    "validate": "doctor",
    "version": "--version",
    "watch": "status --watch",
    "web": "report --to lab.html",
    "who": "reservations",
    "wipe": "reset HOST",
}
"""Commands of other tools, each with the command line that does the same here."""

_LABEL = ("-l rack=r1",)
_COUNT = ("-n 2",)
_PLACE = ("-i FILE",)

OPTIONS: dict[str, tuple[str, ...]] = {
    "--actor": ("--as NAME",),
    "--at": ("--from 09:00",),
    "--begin": ("--from 09:00",),
    "--columns": ("--fields name,state",),
    "--comment": ("--reason TEXT", "--note TEXT"),
    "--config": _PLACE,
    "--csv": ("-o csv",),
    "--db": _PLACE,
    "--duration": ("--ttl 4h", "--until 4h"),
    "--end": ("--until 12:00",),
    "--file": _PLACE,
    "--filter": _LABEL,
    "--for": ("--since 2h", "--until 2h"),
    "--format": ("-o json",),
    "--json": ("-o json",),
    "--jsonl": ("-o jsonl",),
    "--label": _LABEL,
    "--labels": _LABEL,
    "--lease": ("--ttl 4h",),
    "--limit": _COUNT,
    "--message": ("--reason TEXT",),
    "--noop": ("--dry-run",),
    "--num": _COUNT,
    "--number": _COUNT,
    "--order": ("--sort name",),
    "--parallel": ("-j 8",),
    "--purpose": ("--for PURPOSE",),
    "--silent": ("-q",),
    "--sort-by": ("--sort name",),
    "--start": ("--from 09:00",),
    "--tail": _COUNT,
    "--threads": ("-j 8",),
    "--time": ("--ttl 4h",),
    "--timeout": ("--timeout 60s", "--wait 10m"),
    "--user": ("--as NAME",),
    "--where": _LABEL,
    "-L": _LABEL,
    "-c": _COUNT,
    "-m": ("--reason TEXT",),
    **{f"--{state}": (f"--state {state}",) for state in ("initial", "available", "reserved", "tainted", "maintenance")},
}
"""Options of other tools, each with its equivalents; the first that the command has is suggested."""

_ALL = ("--all", "-a", "-A")
_OF_ONE = ("status", "why", "graph")
_OF_ALL = ("list", "export", "history", "timeline")  # without a name they are about all hosts
_UNKNOWN_COMMAND = re.compile(r"No such command '(.*)'", re.S)
_EXTRA_ARGUMENT = re.compile(r"Got unexpected extra argument\(s\) \((\S+).*\)", re.S)
_RESERVATION = re.compile(r"r-[a-z0-9]+")
_LOCATION = re.compile(r"\S+\.(toml|db|sqlite3?)|postgres(ql)?://\S+")
_LABEL_WORD = re.compile(r"[\w./-]+=[\w.-]*")
_LIKELY = 0.75  # the least similarity, by difflib, of a word that is suggested
_LONGEST = 40  # the longest word that may be a misspelling


def meant_by(error: Any) -> str | None:
    """Return what a usage error of Typer was probably meant to be, as it is typed; None if that is not clear."""
    if error.ctx is None:
        return None
    option = getattr(error, "option_name", None)
    prefix = error.ctx.command_path.removeprefix(PROGRAM).strip()
    if option is not None and hasattr(error, "possibilities"):
        if option in _ALL and any(param.name == "hosts" for param in error.ctx.command.params):
            return f"{PROGRAM} {prefix}" if prefix in _OF_ALL else f"{PROGRAM} {prefix} '*'"
        return meant_option(option, option_names(error.ctx.command))
    if extra := _EXTRA_ARGUMENT.match(error.message):
        return meant_argument(extra[1], prefix, option_names(error.ctx.command))
    command = _UNKNOWN_COMMAND.match(error.message)
    if command is None:
        return None
    meant = meant_command(command[1], prefix)
    return meant and f"{PROGRAM} {meant}"


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
    near = _nearest(word, (*sorted(names), *habits))
    if near is None:
        return None
    return prefix + near if near in names else COMMANDS[near]


def meant_option(option: str, known: Iterable[str]) -> str | None:
    """Return what an unknown option stands for in a command that has the options ``known``."""
    known = [*known]
    habits = {
        habit: next((text for text in meant if text.split(" ")[0] in known), None) for habit, meant in OPTIONS.items()
    }
    if habits.get(option):
        return habits[option]
    long = [name for name in known if name.startswith("--") and name != "--help"]
    near = _nearest(option, [*long, *(habit for habit, meant in habits.items() if meant)])
    return near if near is None or near in long else habits[near]


def meant_argument(word: str, command: str, known: Iterable[str]) -> str | None:
    """Return what an argument stands for in a command that takes no more of them and has the options ``known``."""
    known = [*known]
    if _RESERVATION.fullmatch(word):
        return f"-R {word}" if "-R" in known else None
    if _LOCATION.fullmatch(word):
        return f"{PROGRAM} -i {word} {command}"
    if command == "show":
        return f"{PROGRAM} list"
    return f"{PROGRAM} {'show' if command == 'status' else command} {word}" if command in _OF_ONE else None


def meant_label(words: Iterable[str]) -> str | None:
    """Return the option that the first label in the place of a host's name stands for; None if there is none."""
    return next((f"--label {word}" for word in words if _LABEL_WORD.fullmatch(word)), None)


def meant_host(name: str, command: str, known: Iterable[str]) -> str | None:
    """Return what a name that no host has stands for in a command that has the options ``known``."""
    known = [*known]
    if name.isdecimal() and command in ("reserve", "run"):
        return f"-n {name}"
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


def synopsis(ctx: Any) -> str:
    """Return how a command is called, on one line: its name and its arguments, or the commands of a group."""
    if hasattr(ctx.command, "list_commands"):
        return f"{ctx.command_path} {'|'.join(ctx.command.list_commands(ctx))}"
    return " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])


def option_names(command: Any) -> list[str]:
    """Return every spelling of every option of a command."""
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = get_close_matches(word, [*known], n=1, cutoff=_LIKELY) if len(word) <= _LONGEST else []
    return near[0] if near else None
