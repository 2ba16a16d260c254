"""The README as data: its blocks, its console sessions played again, and the parts that are made from the code."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
HOME = "/home/alice"
"""What the README shows in place of the folder in which its sessions are played."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_WIDTH = 96
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and where the text stands in the README."""

    language: str
    text: str
    start: int

    @property
    def line(self) -> int:
        """The number of its first line."""
        return readme()[: self.start].count("\n") + 1


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a session, as typed, and what the README says that it prints."""

    typed: str
    output: str

    @property
    def script(self) -> str:
        """What the shell is given."""
        return self.typed.removeprefix("$ ").replace("\n> ", "\n")


def readme() -> str:
    """The README's text."""
    return README.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of the README in these languages, in order."""
    return [Block(match[1], match[2], match.start(2)) for match in _FENCE.finditer(readme()) if match[1] in languages]


def commands(block: Block) -> list[Command]:
    """The commands of a console block: each begins with ``$ ``, goes on with ``> ``, and what follows it printed."""
    found = re.findall(r"^(\$ .*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", block.text, re.M)
    return [Command(typed, output) for typed, output in found]


def marked(name: str) -> str:
    """What stands between the README's markers of a name."""
    match = _marked(name).search(readme())
    assert match, f"the README has no part {name}"
    return match[2]


def replaced(text: str, name: str, new: str) -> str:
    """A text with what stands between its markers of a name replaced."""
    return _marked(name).sub(lambda match: match[1] + new + match[3], text)


def _marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- begin {name} -->\n)(.*?)(<!-- end {name} -->)", re.S)


# playing sessions


@dataclass(slots=True)
class Terminal:
    """A bash on a terminal, in a folder with a copy of the examples; ids it prints are told apart by their order."""

    home: Path
    shell: subprocess.Popen[bytes]
    screen: int
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, command: Command) -> tuple[int, str]:
        """A command's exit status and what it printed; ids that the README shows stand for those printed here."""
        script = command.script
        for shown, printed in self.ids.items():
            script = script.replace(shown, printed)
        mark = f"\x1eend of {id(command)}"
        assert self.shell.stdin
        # The group's braces keep the status of the command before it; the last line gives it on to the next.
        self.shell.stdin.write(
            f"{{ {script}\n}} </dev/null\n_status=$?; printf '{mark} %s\\n' $_status; (exit $_status)\n".encode()
        )
        self.shell.stdin.flush()
        seen = self._read_up_to(f"{mark} ", script)
        output, _, rest = seen.partition(mark)
        return int(rest.split()[0]), output.replace(str(self.home), HOME)

    def _read_up_to(self, mark: str, script: str) -> str:
        seen, deadline = b"", time.monotonic() + _PATIENCE
        while not re.search(mark.encode() + rb"\d+\n", seen):
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no end of {script} in {_PATIENCE:g} s: {seen.decode()}"
            seen += os.read(self.screen, 65536)
        return seen.decode()

    def learn(self, shown: str, printed: str) -> str:
        """Remembers for which id of this session an id of the README stands, by the order in which they come.

        Returns what was printed with the README's ids.
        """
        for here, there in zip(_ID.findall(shown), _ID.findall(printed), strict=False):
            self.ids.setdefault(here, there)
        for here, there in self.ids.items():
            printed = printed.replace(there, here)
        return printed


@dataclass(frozen=True, slots=True)
class Played:
    """A command of the README, the line it stands on, and how it went: ``output`` has the README's ids."""

    block: Block
    command: Command
    line: int
    status: int
    output: str


def played() -> Iterator[Played]:
    """Plays all sessions of the README in order, in one shell; its scripts are files there by then."""
    with terminal() as screen:
        for block in blocks("console", "sh"):
            script = re.match(r"#!/bin/sh\n# (\S+\.sh)\n", block.text)
            if script:
                screen.run(Command(f"$ cat >{script[1]} <<'end of the script'\n{block.text}end of the script", ""))
            line = block.line
            for command in commands(block) if block.language == "console" else ():
                status, printed = screen.run(command)
                yield Played(block, command, line, status, screen.learn(command.output, printed))
                line += command.typed.count("\n") + 1 + command.output.count("\n")


@contextmanager
def terminal() -> Iterator[Terminal]:
    """A terminal for one reading of the README; its folder is removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lab-")).resolve()
    shutil.copytree(ROOT / "examples", home / "examples")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, _WIDTH, 0, 0))
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST  # no \r before \n
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile"],
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=slave,
        cwd=home,
        env=environment(home),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(home, shell, master)
    finally:
        shell.kill()
        shell.communicate()
        os.close(master)
        shutil.rmtree(home)


def environment(home: Path) -> dict[str, str]:
    """What a person's shell has set, and this bmhctl first on its path."""
    return {
        "PATH": os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        "NO_COLOR": "1",
        "TZ": "UTC",
        "BMHCTL_ACTOR": "alice@lab",
    }


_ID = re.compile(r"\br-[0-9a-z]{8}\b")
_VARYING = (
    (_ID, "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z|\+00:00)?"), "<time>"),
    (re.compile(r"\bjust now\b|\b(\d+[dhms])+ ago\b"), "<ago>"),
    (re.compile(r"\bin (\d+[dhms])+\b"), "<ahead>"),
    (re.compile(r"(?<![\w.-])\d+(\.\d+)?s(?!\w)"), "<seconds>"),
    (re.compile(r'(?<="seconds": )[\d.]+'), "<seconds>"),
    (re.compile(r"\n[ \t]+"), " "),  # a wrapped line: where it wraps depends on the length of a path
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"[ \t]+$", re.M), ""),
)


def comparable(output: str) -> str:
    """An output without what differs from one time to the next."""
    for pattern, word in _VARYING:
        output = pattern.sub(word, output)
    return "\n".join(_in_order(output.strip("\n").split("\n")))


def _in_order(lines: list[str]) -> Iterator[str]:
    """Lines that begin alike, a host each, sorted: hosts that fit equally well come in any order."""
    for _, alike in groupby(lines, key=lambda line: line.split(" ")[:1]):
        yield from sorted(alike)


# what is made from the code


def generated() -> dict[str, str]:
    """The parts of the README that are made from the code, by name."""
    return {"variables": _variables(), "fields": _fields(), "commands": _commands()}


def _variables() -> str:
    from bmhctl.runner.environment import VARIABLES

    rows = (f"| `{name}` | {words} |\n" for name, words in VARIABLES.items())
    return f"| variable | what it says |\n|---|---|\n{''.join(rows)}"


def _fields() -> str:
    from bmhctl.output.records import FIELDS

    rows = (f"| `{name}` | {meaning} |\n" for name, meaning in FIELDS.items())
    return f"| field | what it says |\n|---|---|\n{''.join(rows)}"


def _commands() -> str:
    from bmhctl.cli.commands import COMMANDS

    parts = [f"```text\n{help_of('')}```\n"]
    for name in (name for group in COMMANDS.values() for name in group):
        parts.append(f"\n#### bmhctl {name}\n\n```text\n{without_globals(help_of(name))}```\n")
    return "".join(parts)


def help_of(command: str) -> str:
    """What ``bmhctl COMMAND --help`` prints in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "bmhctl", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "100"},
    ).stdout


def without_globals(text: str) -> str:
    """A command's help without the options that every command has."""
    text = re.sub(r"(?m)^  -i, --inventory .*(\n.*)*", "", text)
    return re.sub(r"\nOptions:\n\Z", "", text)
