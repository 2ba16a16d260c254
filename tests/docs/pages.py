"""README and manual as data: their blocks, their console sessions, and the parts that are made from the code."""

from __future__ import annotations

import ast
import fcntl
import inspect
import json
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "bmhctl" / "docs"
FILES = (ROOT / "README.md", *sorted(MANUAL.glob("*.md")))
"""Every page that the tests read: the README and the manual."""

FOLDER = "/home/alice"
"""The path that the pages show instead of the folder in which their sessions are played."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_WIDTH = 96
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, where the text starts in its page, and on which line."""

    language: str
    text: str
    start: int
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a session, as typed, and the output that the page shows for it."""

    typed: str
    output: str

    @property
    def script(self) -> str:
        """The text for the shell."""
        return self.typed.removeprefix("$ ").replace("\n> ", "\n")


@dataclass(frozen=True, slots=True)
class Page:
    """The text of the README or of a page of the manual."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """The path of the page in the repository."""
        return str(self.path.relative_to(ROOT))

    def blocks(self, *languages: str) -> list[Block]:
        """Return the fenced blocks in these languages, in order."""
        return [
            Block(match[1], match[2], match.start(2), self.text[: match.start(2)].count("\n") + 1)
            for match in _FENCE.finditer(self.text)
            if match[1] in languages
        ]

    def section(self, heading: str) -> str:
        """Return the text of a section: from below its heading to the next heading of its level."""
        level = heading.split(" ")[0]
        assert f"\n{heading}\n" in self.text, f"{self.name} has no section {heading}"
        return self.text.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]

    def marked(self, name: str) -> str:
        """Return the text between the markers of a name."""
        match = _marked(name).search(self.text)
        assert match, f"{self.name} has no part {name}"
        return match[2]


def page(name: str) -> Page:
    """Return a page: ``README``, or the name of a page of the manual."""
    return read(ROOT / "README.md" if name == "README" else MANUAL / f"{name}.md")


def pages() -> list[Page]:
    """Return the README and every page of the manual."""
    return [read(path) for path in FILES]


def read(path: Path) -> Page:
    """Return the page at a path."""
    return Page(path, path.read_text(encoding="utf-8"))


def commands(block: Block) -> list[Command]:
    """Return the commands of a console block: each starts with ``$ ``, continues with ``> ``, its output follows."""
    found = re.findall(r"^(\$ .*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", block.text, re.M)
    return [Command(typed, output) for typed, output in found]


def replaced(text: str, name: str, new: str) -> str:
    """Return a text with the part between its markers of a name replaced."""
    return _marked(name).sub(lambda match: match[1] + new + match[3], text)


def _marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- begin {name} -->\n)(.*?)(<!-- end {name} -->)", re.S)


# playing sessions


@dataclass(slots=True)
class Terminal:
    """A bash on a terminal, in a folder with the examples; it matches printed and shown ids by their order."""

    folder: Path
    shell: subprocess.Popen[bytes]
    screen: int
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, command: Command) -> tuple[int, str]:
        """Return a command's exit status and output; ids that the page shows stand for those printed here."""
        script = command.script
        for shown, printed in self.ids.items():
            script = script.replace(shown, printed)
        mark = f"\x1eend of {id(command)}"
        assert self.shell.stdin
        # The group in braces sees the status of the previous command; the last line passes its status on to the next.
        self.shell.stdin.write(
            f"{{ {script}\n}} </dev/null\n_status=$?; printf '{mark} %s\\n' $_status; (exit $_status)\n".encode()
        )
        self.shell.stdin.flush()
        seen = self._read_up_to(f"{mark} ", script)
        output, _, rest = seen.partition(mark)
        # A path that does not fit on a line is shown by its last folders.
        output = output.replace(str(self.folder), FOLDER).replace(f"…/{self.folder.name}", FOLDER)
        return int(rest.split()[0]), output

    def _read_up_to(self, mark: str, script: str) -> str:
        seen, deadline = b"", time.monotonic() + _PATIENCE
        while not re.search(mark.encode() + rb"\d+\n", seen):
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no end of {script} in {_PATIENCE:g} s: {seen.decode()}"
            seen += os.read(self.screen, 65536)
        return seen.decode()

    def learn(self, shown: str, printed: str) -> str:
        """Record which id of this session each id of the page stands for, by their order.

        Returns the printed text with the ids of the page.
        """
        for here, there in zip(_ID.findall(shown), _ID.findall(printed), strict=False):
            self.ids.setdefault(here, there)
        for here, there in self.ids.items():
            printed = printed.replace(there, here)
        return printed


@dataclass(frozen=True, slots=True)
class Played:
    """A command of a page, the line it stands on, and how it went: ``output`` has the page's ids."""

    block: Block
    command: Command
    line: int
    status: int
    output: str


def played(page: Page, programs: Path | None = None) -> Iterator[Played]:
    """Play all sessions of a page in order, in one shell, whose folder contains the scripts that the page shows.

    ``programs`` is as for :func:`environment`.
    """
    with terminal(programs) as screen:
        for block in page.blocks("console", "sh"):
            script = re.match(r"#!/bin/sh\n# (\S+\.sh)\n", block.text)
            if script:
                screen.run(Command(f"$ cat >{script[1]} <<'end of the script'\n{block.text}end of the script", ""))
            line = block.line
            for command in commands(block) if block.language == "console" else ():
                status, printed = screen.run(command)
                yield Played(block, command, line, status, screen.learn(command.output, printed))
                line += command.typed.count("\n") + 1 + command.output.count("\n")


@contextmanager
def terminal(programs: Path | None = None) -> Iterator[Terminal]:
    """Open a terminal for the sessions of one page; its folder is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp")).resolve()
    shutil.copytree(ROOT / "examples", folder / "examples")
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
        cwd=folder,
        env=environment(folder, programs),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(folder, shell, master)
    finally:
        shell.kill()
        shell.communicate()
        os.close(master)
        shutil.rmtree(folder)


def environment(folder: Path, programs: Path | None = None) -> dict[str, str]:
    """Return the environment of a person's shell, with this bmhctl first on its path, or the one in ``programs``."""
    path = (programs or sysconfig.get_path("scripts"), Path(sys.executable).parent, os.environ["PATH"])
    return {
        "PATH": os.pathsep.join(map(str, path)),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        "PAGER": "cat",
        "NO_COLOR": "1",
        "TZ": "UTC",
        "BMHCTL_ACTOR": "alice@lab",
    }


_ID = re.compile(r"\b[rbm]-[0-9a-z]{8}\b")
_VARYING = (
    (_ID, "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[ T]|\s+)\d\d:\d\d(:\d\d(\.\d+)?)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d(?=\s+UTC)"), "<time>"),  # a time of the same day as the time before it
    (re.compile(r"\bjust now\b|\b(\d+[dhms])+ ago\b"), "<ago>"),
    (re.compile(r"\bin (\d+[dhms])+\b"), "<ahead>"),
    (re.compile(r"(?<![\w.-])\d+(\.\d+)?s(?!\w)"), "<seconds>"),
    (re.compile(r'(?<="seconds": )[\d.]+'), "<seconds>"),
    (re.compile(r"\n[ \t]+"), " "),  # a line break that depends on the length of a path
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r"[ \t]+$", re.M), ""),
)


def comparable(output: str) -> str:
    """Return an output without the parts that differ from run to run."""
    for pattern, word in _VARYING:
        output = pattern.sub(word, output)
    return "\n".join(_in_order(output.strip("\n").split("\n")))


def _in_order(lines: list[str]) -> Iterator[str]:
    """Sort neighbouring lines that start with the same word: hosts that fit equally well come in any order."""
    for _, alike in groupby(lines, key=lambda line: line.split(" ")[:1]):
        yield from sorted(alike)


# the parts that are made from the code


def generated(page: Page) -> dict[str, str]:
    """Return the parts of a page that are made from the code, by name."""
    makers = {
        "README": {"states": _states, "pages": _pages},
        "commands": {"commands": _commands},
        "python": {"methods": _methods},
        "architecture": {"folders": _folders, "tree": _tree},
    }
    return {name: make() for name, make in makers.get(page.path.stem, {}).items()}


def _states() -> str:
    from bmhctl.domain.model import State
    from bmhctl.lifecycle.table import MEANING

    rows = (f"| `{state}` | {MEANING[state]} |\n" for state in State)
    return f"| state | meaning |\n|---|---|\n{''.join(rows)}"


def _pages() -> str:
    from bmhctl.docs import topics

    return "".join(f"- [{name}.md](bmhctl/docs/{name}.md): {title}\n" for name, title in topics().items())


def _commands() -> str:
    from bmhctl.cli.commands import COMMANDS

    names = [name for group in COMMANDS.values() for name in group]
    root, *helps = helps_of(["", *names])
    parts = [f"```text\n{root}```\n"]
    for name, text in zip(names, helps, strict=True):
        parts.append(f"\n## bmhctl {name}\n\n```text\n{without_globals(text)}```\n")
    return "".join(parts)


def _methods() -> str:
    from bmhctl.api import Inventory

    parts = []
    for group in Inventory.__bases__:
        rows = (
            f"| `{_signature(name, method)}` | {_summary(method.__doc__)} |\n"
            for name, method in vars(group).items()
            if not name.startswith("_")
        )
        parts.append(f"{_summary(group.__doc__)}\n\n| method | what it does |\n|---|---|\n{''.join(rows)}")
    return "\n".join(parts)


def _signature(name: str, method: Callable[..., object]) -> str:
    """Return a method's name and the names of its parameters, with those in brackets that a call may omit."""
    _, *parameters = inspect.signature(method).parameters.values()
    named = (
        f"*{parameter.name}"
        if parameter.kind is parameter.VAR_POSITIONAL
        else parameter.name
        if parameter.default is parameter.empty
        else f"[{parameter.name}]"
        for parameter in parameters
    )
    return f"{name}({', '.join(named)})"


def _summary(docstring: str | None) -> str:
    """Return the first sentence of a docstring, in Markdown."""
    assert docstring
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.match(r".*?\.(?= |$)", paragraph)
    assert sentence, paragraph
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", sentence[0].replace("``", "`"))


def _packages() -> list[Path]:
    package = ROOT / "bmhctl"
    return [package, *sorted(path.parent for path in package.rglob("*/__init__.py"))]


def _folders() -> str:
    return "".join(f"- {_job(folder)}\n" for folder in _packages())


def _job(folder: Path) -> str:
    return f"`{folder.relative_to(ROOT)}/`: {_first_line(folder / '__init__.py')}"


def _tree() -> str:
    return "".join(map(_modules, _packages()))


def _modules(folder: Path) -> str:
    lines = [f"\n**`{folder.relative_to(ROOT)}/`**\n\n"]
    modules = (path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
    lines.extend(f"- `{path.name}`: {_first_line(path)}\n" for path in modules)
    return "".join(lines).rstrip("\n") + "\n"


def _first_line(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, f"{module.relative_to(ROOT)} has no docstring"
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring.partition("\n")[0].replace("``", "`"))


_HELPS = """
import contextlib, io, json, sys
from bmhctl.cli.main import run
texts = []
for name in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert run([*name.split(), "--help"]) == 0, name
    texts.append(text.getvalue())
json.dump(texts, sys.stdout)
"""


def helps_of(commands: list[str]) -> list[str]:
    """Return the output of ``bmhctl COMMAND --help`` in a pipe for each command, from one process."""
    done = subprocess.run(
        [sys.executable, "-c", _HELPS],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "100"},
    )
    return [str(text) for text in json.loads(done.stdout)]


def without_globals(text: str) -> str:
    """Return a command's help without the options that every command has."""
    text = re.sub(r"(?m)^  -i, --inventory .*(\n.*)*", "", text)
    return re.sub(r"\nOptions:\n\Z", "", text)
