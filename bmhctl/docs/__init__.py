"""The manual: pages in Markdown that are installed with bmhctl, and how to read them."""

from __future__ import annotations

from importlib.resources import files

TOPICS = (
    "operators",
    "ci",
    "planning",
    "inventory",
    "selectors",
    "formats",
    "bmc",
    "postgresql",
    "output",
    "statistics",
    "python",
    "performance",
    "commands",
    "architecture",
    "mechanisms",
)
"""The names of the pages, in the order in which they are listed."""


def topics() -> dict[str, str]:
    """Return the title of each page, by the page's name."""
    return {name: _text(name).partition("\n")[0].removeprefix("# ") for name in TOPICS}


def pages_with(word: str) -> list[str]:
    """Return the names of the pages that have a word, also in the plural; those that have it most often first."""
    import re

    form = re.compile(rf"\b{re.escape(word[:1] + word[1:].removesuffix('s'))}s?\b", re.I)
    counts = {name: len(form.findall(_text(name))) for name in TOPICS if name != "commands"}
    return sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])


def page(name: str) -> str:
    """Return one page as a reader of ``bmhctl help`` needs it: links name the command that shows their target."""
    import re

    text = re.sub(r"<!-- .*? -->\n", "", _text(name))
    text = re.sub(r"\[(\w+)\.md\]\(\1\.md(?:#[^)]*)?\)", r"`bmhctl help \1`", text)
    text = re.sub(r"\[([^]]*)\]\((\w+)\.md(?:#[^)]*)?\)", r"\1 (`bmhctl help \2`)", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def _text(name: str) -> str:
    if name not in TOPICS:
        raise KeyError(name)
    return (files("bmhctl.docs") / f"{name}.md").read_text(encoding="utf-8")
