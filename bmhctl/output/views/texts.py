"""Results that are a text or one message: documents, scripts, what was done, and the manual as Rich shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from bmhctl.output.layout import console_of, table
from bmhctl.output.records import attributes_record
from bmhctl.output.render import STRUCTURED, TEXT, Display, Format, View
from bmhctl.results import Done
from bmhctl.results.texts import Document, ManualPage, Script, Topics

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from bmhctl.output.layout import Line

_OTHERS = (Format.METAL3, Format.ANSIBLE, Format.SSH, Format.KNOWN_HOSTS, Format.DNSMASQ, Format.NETBOX)
_EXPORTS = (*TEXT, Format.TOML, *_OTHERS)


def _parts(result: Document | Script, _: Display) -> Iterable[str]:
    return (result.text,) if isinstance(result.text, str) else result.text


_MOST_COLUMNS = 110

_STYLES = {
    "markdown.h1": "bold underline",
    "markdown.h2": "bold underline",
    "markdown.h3": "bold",
    "markdown.code": "bold",
    "markdown.table.header": "bold",
    "markdown.table.border": "dim",
}
"""Styles in place of Rich's own, whose backgrounds are only readable on dark terminals."""


_UNDERLINES = {"h1": "=", "h2": "-"}


def _topics(result: Topics, _: Display) -> Iterable[Line]:
    yield [("bmhctl help PAGE shows a page of the manual:", "")]
    yield []
    yield from table(((name, [(title, "")]) for name, title in result.titles.items()), "  ")
    yield []
    yield [("bmhctl help COMMAND shows the options of a command, bmhctl --help lists all commands.", "")]


def for_terminal(text: str, display: Display) -> str:
    """Return a page for a terminal: headings, tables and code laid out in its width.

    Without colours there are no bold letters either: headings are underlined, and code keeps its backticks.
    """
    import re

    from rich.markdown import Heading, Markdown
    from rich.text import Text
    from rich.theme import Theme

    class LeftHeading(Heading):
        """A heading at the left edge, because Rich's centred headings are hard to find between tables."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            self.text.justify = "left"
            yield Text("")
            yield self.text
            if not display.colour and self.tag in _UNDERLINES:
                yield Text(_UNDERLINES[self.tag] * min(self.text.cell_len, options.max_width))

    class Page(Markdown):
        elements: ClassVar = {**Markdown.elements, "heading_open": LeftHeading}

    console = console_of(display)
    console.width = min(display.width, _MOST_COLUMNS)
    console.push_theme(Theme(_STYLES))
    with console.capture() as laid_out:
        console.print(Page(text if display.colour else _with_backticks(text), code_theme="ansi_dark", hyperlinks=False))
    return re.sub(r" +((?:\x1b\[[0-9;]*m)*)$", r"\1", laid_out.get(), flags=re.MULTILINE)


def _with_backticks(text: str) -> str:
    """Return a page with escaped backticks around code in sentences, so that the terminal shows them."""
    import re

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else re.sub(r"`([^`\n]+)`", r"`` `\1` ``", part) for part in parts)


VIEWS = {
    Done: View(
        STRUCTURED,
        kind="done",
        head=lambda result: attributes_record(result, ("command", "message", "details", "notes")),
        lines=lambda result, display: () if display.quiet else [[(result.message, "")]],
        notes=lambda result, _: result.notes,
    ),
    Document: View(_EXPORTS, writers=dict.fromkeys(_EXPORTS, _parts), notes=lambda result, _: result.notes),
    Script: View(TEXT, writers=dict.fromkeys(TEXT, _parts)),
    ManualPage: View(
        TEXT,
        writers={
            Format.TABLE: lambda result, display: [for_terminal(result.text, display)],
            Format.PLAIN: lambda result, _: [result.text],
        },
    ),
    Topics: View(
        (*TEXT, Format.NAME),
        names=lambda result: iter(result.titles),
        lines=_topics,
    ),
}
