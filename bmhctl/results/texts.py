"""Texts that are printed unchanged, and pages of the manual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bmhctl.support.values import Frozen


class Document(Frozen):
    """A text that is printed unchanged, at once or in parts, such as an inventory or a policy as TOML."""

    text: str | Iterable[str]
    notes: tuple[str, ...] = ()


class Script(Frozen):
    """A text for another program to run; ``-o`` does not change its format."""

    text: str


class Topics(Frozen):
    """The pages of the manual: the title of each by its name, in the order of the manual."""

    titles: Mapping[str, str]


class ManualPage(Frozen):
    """A page of the manual, in Markdown."""

    name: str
    text: str
