"""Arguments and options that several commands share, and how their texts become values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Annotated, TypeVar

import typer

from bmhctl.domain.model import StateName
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

_T = TypeVar("_T")

_MORE_PAIRS = pattern(r",[\w./-]+=")

MOST = 1_000_000_000
"""The largest count that an option takes: more than any inventory holds."""


HostNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[HOST…]", help="Names, globs ('rack1-*') or folded ranges (node[01-20]).", show_default=False
    ),
]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host's name.")]
SelectorText = Annotated[
    str | None,
    typer.Option("-l", "--selector", metavar="SELECTOR", help="Hosts that fit: arch=arm64,rack!=r3,gpu,cpus>=32."),
]
States = Annotated[
    list[StateName] | None,
    typer.Option("--state", help="Hosts in this state, or free (available and reservable); may be repeated."),
]
Reservation = Annotated[
    str | None,
    typer.Option(
        "-R",
        "--reservation",
        metavar="ID",
        envvar="BMH_RESERVATION",
        help="The id of the reservation that you act for.",
    ),
]
ReservationId = Annotated[str, typer.Argument(metavar="RESERVATION", help="A reservation's id.")]
ReservationIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RESERVATION…]", help="Ids of reservations, open or ended.", show_default=False),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="The reason; recorded in the history.")]
GivenReason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason; recorded in the history.")]
Force = Annotated[bool, typer.Option("--force", help="Override the holder; needs --reason.")]
ForceOthers = Annotated[bool, typer.Option("--force", help="Even if another owner has it; needs --reason.")]
Fields = Annotated[str | None, typer.Option("--fields", metavar="A,B,C", help="Which columns or keys to show.")]
Watch = Annotated[
    str | None,
    typer.Option("--watch", metavar="[DURATION]", help="Redraw on changes, at most this often; q ends it."),
]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, max=1000, metavar="N", help="How many hosts at once.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before many hosts are changed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]


class Group(Frozen):
    """Marks a parameter of a command: its value is what ``build`` returns for the options that it has as parameters."""

    build: Callable[..., object]


def lease(text: str) -> tuple[timedelta | None, bool]:
    """Return the length that ``--ttl`` asks for, and whether it is "none", which asks for a lease without end."""
    return (None, True) if text == "none" else (parse_duration(text), False)


def values_of(items: Iterable[str], option: str, example: str) -> dict[str, str]:
    """Return the values of an option such as ``--tag key=value`` by their keys.

    Raises :class:`UsageError` for another text, and for a key with two values.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"can't read --{option} {item!r}", hint=f"write it like --{option} {example}")
        _put(found, key, value, option)
    return found


def _put(found: dict[str, _T], key: str, value: _T, option: str) -> None:
    if found.setdefault(key, value) != value:
        given = (f"--{option} {key}" + ("-" if each is None else f"={each}") for each in (found[key], value))
        raise UsageError(f"{' and '.join(given)} contradict each other", hint="give only one of them")


def is_quoted(value: str | None) -> bool:
    """Return whether a value is a text in double quotes, as in TOML."""
    return value is not None and len(value) > 1 and value[0] == value[-1] == '"'


def unquoted(value: str | None) -> str | None:
    """Return a value without the double quotes around it, if it has them."""
    return value[1:-1] if value and is_quoted(value) else value


def pairs(items: Sequence[str] | None, what: str) -> dict[str, str | None]:
    """Return the keys with their values: None for ``key-``, which removes the key.

    Raises :class:`UsageError` for another text, and for a key with two values.
    """
    found: dict[str, str | None] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if equals and key:
            if _MORE_PAIRS.search(value) and not is_quoted(value):
                quoting = "" if what == "label" else ": a value with ',KEY=' needs double quotes"
                hint = f"repeat --{what} key=value for each"
                raise UsageError(f"can't read the {what} {item!r}{quoting}", hint=hint)
            _put(found, key, value, what)
        elif item.endswith("-") and len(item) > 1:
            _put(found, item[:-1], None, what)
        else:
            hint = f"--{what} key=value sets, --{what} key- removes"
            if what == "label" and not {*" =,"} & {*item}:
                hint = f"--label {item}= sets a label without a value"
            raise UsageError(f"can't read the {what} {item!r}", hint=hint)
    return found
