"""The man pages, made from this manual when bmhctl is built: `bmhctl.1`, and one for each command."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

_MANUAL = Path(__file__).parent
_WORDS = {
    "BMHCTL_INVENTORY": "The inventory, for commands without -i.",
    "BMHCTL_ACTOR": "Who acts, for commands without --as.",
    "BMH_RESERVATION": "The reservation for which commands with -R act.",
    "NO_COLOR, FORCE_COLOR": "Whether output is coloured; in a pipe it is not.",
}
"""The environment of every command."""

_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq", "…": "..."}

_Row = tuple[str, str]


class Edition(NamedTuple):
    """The version of bmhctl that the pages describe, and the date on which they were made."""

    version: str
    date: str


def write(folder: Path, edition: Edition) -> list[Path]:
    """Write all man pages into a folder, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in man_pages(edition).items():
        files.append(folder / f"{name}.1")
        files[-1].write_text(text, encoding="ascii")
    return files


def man_pages(edition: Edition) -> dict[str, str]:
    """Return the text of each man page in roff, by its name: ``bmhctl``, ``bmhctl-policy-show``."""
    root, *blocks = re.findall(r"^```text\n(.*?)^```$", _page("commands"), re.M | re.S)
    usage, about, sections = _help(root)
    commands = [row for title, rows in sections.items() if title != "Options" for row in rows]
    pages = {"bmhctl": "".join(_root(usage, about, sections, edition))}
    for (command, summary), block in zip(commands, blocks, strict=True):
        name = f"bmhctl-{command.replace(' ', '-')}"
        pages[name] = "".join(_command(command, summary, block, edition))
    return pages


def _root(usage: str, about: list[str], sections: dict[str, list[_Row]], edition: Edition) -> Iterator[str]:
    yield _head("bmhctl", "share bare-metal hosts between people and CI jobs", usage, edition)
    yield from _paragraphs("DESCRIPTION", about)
    yield from _list("OPTIONS", sections.pop("Options"))
    yield ".SH COMMANDS\n"
    for title, rows in sections.items():
        yield f".SS {_escaped(title)}\n"
        for command, summary in rows:
            yield f".TP\n\\fB{_escaped('bmhctl-' + command.replace(' ', '-'))}\\fR(1)\n{_text(summary)}\n"
    yield from _list("ENVIRONMENT", _WORDS.items())
    yield from _list("EXIT STATUS", ((status, words) for status, _, words in _table("output", "Exit statuses")))


def _command(command: str, summary: str, block: str, edition: Edition) -> Iterator[str]:
    usage, about, sections = _help(block)
    yield _head(f"bmhctl {command}", summary, usage, edition)
    yield from _paragraphs("DESCRIPTION", about)
    for title, rows in sections.items():
        yield from _list(title.upper(), rows)
    yield from _paragraphs(
        "" if "Options" in sections else "OPTIONS", ["This command also takes the options of bmhctl(1)."]
    )
    if command == "run":
        section = "Run a command on reserved hosts"
        yield from _list("ENVIRONMENT OF THE COMMAND", _table("ci", section, "variable"))
        yield from _list("EXIT STATUS", _table("ci", section, "run"))
        yield from _paragraphs("", ["Any other status is the command's; 128 + n when signal n ended it."])
    yield ".SH SEE ALSO\n\\fBbmhctl\\fR(1)\n"


# functions that read the manual


def _page(name: str) -> str:
    return (_MANUAL / f"{name}.md").read_text(encoding="utf-8")


def _table(page: str, section: str, column: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table in a section whose first column has this name, without markup."""
    text = _page(page).partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|.*\n(?:\|.*\n)+", text, re.M)
    [table] = [table for table in tables if column in table.partition("\n")[0].split("|")[1]]
    for line in table.splitlines()[2:]:
        yield tuple(re.sub(r"`|\[(.*?)\]\(.*?\)", r"\1", cell).strip() for cell in line.split("|")[1:-1])


def _help(block: str) -> tuple[str, list[str], dict[str, list[_Row]]]:
    """Return what a ``--help`` says: the usage, the paragraphs, and the entries of each section."""
    usage, *paragraphs = [
        list(lines) for blank, lines in groupby(block.splitlines(), lambda line: not line) if not blank
    ]
    about, sections = [], {}
    for lines in paragraphs:
        if re.fullmatch(r"\S.*:", lines[0]):
            sections[lines[0][:-1]] = list(_entries(lines[1:]))
        else:
            about.append(" ".join(line.strip() for line in lines))
    return " ".join(line.strip() for line in usage).removeprefix("Usage: "), about, sections


def _entries(lines: list[str]) -> Iterator[_Row]:
    term, words = "", ""
    for line in lines:
        if line.startswith("   "):
            words = f"{words} {line.strip()}".strip()
            continue
        if term:
            yield term, words
        term, _, words = (part.strip() for part in line.strip().partition("  "))
    if term:
        yield term, words


# functions that write roff


def _head(command: str, summary: str, usage: str, edition: Edition) -> str:
    name, arguments = command.replace(" ", "-"), usage.removeprefix(command)
    return (
        f'.TH "{_escaped(name.upper())}" 1 "{edition.date}" "bmhctl {_escaped(edition.version)}" "bmhctl"\n.nh\n.ad l\n'
        f".SH NAME\n{_escaped(name)} \\- {_escaped(summary)}\n"
        f".SH SYNOPSIS\n\\fB{_escaped(command)}\\fR{_escaped(arguments)}\n"
    )


def _paragraphs(title: str, paragraphs: Iterable[str]) -> Iterator[str]:
    if title:
        yield f".SH {title}\n"
    for number, text in enumerate(paragraphs):
        yield f"{_text(text)}\n" if title and not number else f".PP\n{_text(text)}\n"


def _list(title: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f".SH {title}\n"
    for term, words in rows:
        yield f".TP\n{_term(term)}\n{_text(words)}\n"


def _term(term: str) -> str:
    """Return an option with its names in bold and its value in italics; any other term in bold."""
    if not term.startswith("-"):
        return f"\\fB{_escaped(term)}\\fR"
    parts = re.split(r"(?<![^ ,/])(--?[\w-]+)", term)
    fonts = (f"\\fB{_escaped(part)}\\fR" if part.startswith("-") else _italic(part) for part in parts)
    return "".join(fonts)


def _italic(part: str) -> str:
    return re.sub(r"[^ ,/].*", lambda match: f"\\fI{_escaped(match[0])}\\fR", part)


def _text(text: str) -> str:
    """Return a text in short lines that roff does not read as requests: those begin with a dot or an apostrophe."""
    lines = textwrap.fill(_escaped(text), 78, break_long_words=False, break_on_hyphens=False)
    return re.sub(r"(?m)^\.", r"\\&.", lines)


def _escaped(text: str) -> str:
    """Return a text in ASCII in which no character has a meaning for roff."""
    escaped = (_ESCAPES.get(letter, letter) for letter in text)
    return "".join(piece if piece.isascii() else f"\\[u{ord(piece):04X}]" for piece in escaped)
