"""Options whose value may be left out, such as ``--wait`` beside ``--wait 30m``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bmhctl.cli.typer_internals import TyperCommand
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError

FOREVER = "forever"

OPTIONAL_VALUES: dict[str, str] = {"--wait": FOREVER}
"""What each such option means without a value; it has one when a duration follows."""


class OptionalValueCommand(TyperCommand):
    """A command that gives options of :data:`BARE` their value before it parses its arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses as Typer does; arguments behind ``--``, or behind a passed-on command's name, are left alone."""
        return super().parse_args(ctx, list(self._completed(args)))

    def own(self, args: Sequence[str]) -> list[str]:
        """The arguments up to what is passed on to another program."""
        if self.allow_interspersed_args:
            return list(args)
        position = len(args)
        for position, arg in enumerate(args):
            if arg == "--" or (not arg.startswith("-") and not self._is_value(args, position)):
                break
        else:
            position = len(args)
        return list(args[:position])

    def _is_value(self, args: Sequence[str], position: int) -> bool:
        if position == 0:
            return False
        takes_value = {n: not getattr(param, "is_flag", False) for param in self.params for n in param.opts}
        before = args[position - 1]
        return _is_duration(args[position]) if before in OPTIONAL_VALUES else _wants_next(before, takes_value)

    def _completed(self, args: Sequence[str]) -> Iterator[str]:
        takes_value = {name: not getattr(param, "is_flag", False) for param in self.params for name in param.opts}
        position = 0
        while position < len(args):
            arg = args[position]
            position += 1
            yield arg
            if arg == "--" or (not arg.startswith("-") and not self.allow_interspersed_args):
                yield from args[position:]
                return
            following = args[position] if position < len(args) else None
            if arg in OPTIONAL_VALUES:
                if following is None or not _is_duration(following):
                    yield OPTIONAL_VALUES[arg]
                    continue
            elif not _wants_next(arg, takes_value):
                continue
            if following is not None:
                yield following
                position += 1


def _wants_next(arg: str, takes_value: dict[str, bool]) -> bool:
    if arg.startswith("--"):
        return takes_value.get(arg, False)
    if not arg.startswith("-"):
        return False
    for place, letter in enumerate(arg[1:], 1):  # -qn 2, -n2
        if takes_value.get(f"-{letter}", False):
            return place == len(arg) - 1
    return False


def _is_duration(text: str) -> bool:
    if text == FOREVER or not re.match(r"\d", text):
        return text == FOREVER
    try:
        parse_duration(text)
    except UsageError:
        return bool(re.fullmatch(r"[\d.]+\w*", text))  # meant as one, and to be refused as one
    return True
