"""Arguments and options that several commands share, and how their texts become values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bmhctl.cli.session import invocation_of
from bmhctl.domain.bmc_commands import Power
from bmhctl.domain.model import State, StateName
from bmhctl.domain.units import parse_duration
from bmhctl.errors import BmhctlError, UsageError
from bmhctl.support.lazy_regex import pattern

if TYPE_CHECKING:
    from bmhctl.stores.store import Store

_T = TypeVar("_T")
Command = Callable[..., None]

_MORE_PAIRS = pattern(r",[\w./-]+=")

MOST = 1_000_000_000
"""The largest count that an option takes: more than any inventory holds."""


def complete_hosts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of hosts that fit the command and begin with what is typed, and for ``power`` its actions.

    The candidates get the case of the typed text, because Typer drops all others.
    """
    begins = incomplete.lower()
    names = read_for_completion(ctx, _FITTING.get(ctx.info_name or "", lambda store: store.hosts.names()))
    actions = [*Power] if ctx.info_name == "power" and ctx.params.get("hosts") else []
    return [incomplete + word[len(begins) :] for word in (*names, *actions) if word.startswith(begins)]


def _resumable(store: Store) -> Iterable[str]:
    from bmhctl.stores.host_query import HostQuery

    yield from store.hosts.names(HostQuery(states=frozenset((State.MAINTENANCE,))))
    yield from (host.name for host in store.hosts.held() if host.cordon is not None and host.cordon.maintains)


_FITTING: dict[str, Callable[[Store], Iterable[str]]] = {
    **dict.fromkeys(("release", "extend", "replace"), lambda store: (host.name for host in store.hosts.held())),
    "resume": _resumable,
    "uncordon": lambda store: (host.name for host in store.hosts.find() if host.cordon is not None),
}
"""The hosts that completion offers for these commands; for every other command it offers all hosts."""


def complete_reservations(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the open reservations whose id begins with what is typed, with who holds them and what for."""
    held = read_for_completion(ctx, lambda store: store.reservations.open())
    return [(r.id, f"{r.owner} {r.purpose or ''}".strip()) for r in held if r.id.startswith(incomplete)]


def _completed(name: str) -> Callable[[typer.Context, str], list[Any]]:
    """Return the completion that ``completion_candidates`` computes with the function ``name``, loaded when needed."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Any]:
        from bmhctl.cli import completion_candidates

        find = getattr(completion_candidates, name)
        return read_for_completion(ctx, lambda store: find(store, ctx.info_name or "", incomplete))

    return complete


complete_selector = _completed("selectors")
complete_tickets = _completed("tickets")
complete_bookings = _completed("bookings")
complete_checks = _completed("checks")

selector_option: Callable[..., Any] = partial(
    typer.Option, "-l", "--selector", metavar="SELECTOR", autocompletion=complete_selector
)
"""The option ``-l``, with its line of ``help``."""


def _complete_fields(ctx: typer.Context, incomplete: str) -> list[str]:
    from bmhctl.cli.completion_candidates import fields

    if "." in incomplete.rpartition(",")[2]:
        return _completed("keys_of_fields")(ctx, incomplete)
    return list(fields(ctx.info_name or "", incomplete))


def read_for_completion(ctx: typer.Context, read: Callable[[Store], Iterable[_T]]) -> list[_T]:
    """Return what a completion needs from the inventory; ignore errors: completion must never print one."""
    from bmhctl.stores import open_store
    from bmhctl.stores.locations import find_inventory

    try:
        location = find_inventory(invocation_of(ctx).inventory, os.environ, Path.cwd(), lambda _: None)
        with closing(open_store(location)) as store:
            return list(read(store))
    except BmhctlError:
        return []


HostNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[HOST…]",
        help="Names, globs ('rack1-*') or folded ranges (node[01-20]).",
        autocompletion=complete_hosts,
        show_default=False,
    ),
]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host's name.", autocompletion=complete_hosts)]
SelectorText = Annotated[str | None, selector_option(help="Hosts that fit: arch=arm64,rack!=r3,gpu,cpus>=32.")]
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
        autocompletion=complete_reservations,
    ),
]
ReservationId = Annotated[
    str,
    typer.Argument(metavar="RESERVATION", help="A reservation's id.", autocompletion=complete_reservations),
]
ReservationIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RESERVATION…]",
        help="Ids of reservations, open or ended.",
        autocompletion=complete_reservations,
        show_default=False,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY=VALUE", help="Tag of the reservation, such as job=4711; may be repeated."),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="The reason; recorded in the history.")]
GivenReason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason; recorded in the history.")]
Force = Annotated[bool, typer.Option("--force", help="Override the holder; needs --reason.")]
ForceOthers = Annotated[bool, typer.Option("--force", help="Even if another owner has it; needs --reason.")]
Fields = Annotated[
    str | None,
    typer.Option("--fields", metavar="A,B,C", help="Which columns or keys to show.", autocompletion=_complete_fields),
]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, max=1000, metavar="N", help="How many hosts at once.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before many hosts are changed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]


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


def pairs(items: Sequence[str] | None, what: str) -> dict[str, str | None]:
    """Return the keys with their values: None for ``key-``, which removes the key.

    Raises :class:`UsageError` for another text, and for a key with two values.
    """
    found: dict[str, str | None] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if equals and key:
            if _MORE_PAIRS.search(value):
                raise UsageError(f"can't read the {what} {item!r}", hint=f"repeat --{what} key=value for each")
            _put(found, key, value, what)
        elif item.endswith("-") and len(item) > 1:
            _put(found, item[:-1], None, what)
        else:
            hint = f"--{what} key=value sets, --{what} key- removes"
            if what == "label" and not {*" =,"} & {*item}:
                hint = f"--label {item}= sets a label without a value"
            raise UsageError(f"can't read the {what} {item!r}", hint=hint)
    return found


def with_options(group: Callable[..., object]) -> Callable[[Command], Command]:
    """Give a command the parameters of ``group`` as its last options.

    The command's parameter with the name of ``group`` receives what ``group`` returns for them.
    """

    def decorate(command: Command) -> Command:
        name = group.__name__
        own = {**signature(command, eval_str=True).parameters}
        del own[name]
        shared = signature(group, eval_str=True).parameters

        def call(**values: object) -> None:
            command(**{name: group(**{key: values.pop(key) for key in shared})}, **values)

        parameters = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own.values(), *shared.values())]
        call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # Typer reads the options here
        call.__doc__ = command.__doc__
        return call

    return decorate
