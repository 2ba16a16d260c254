"""``init``, ``export``, ``copy`` and ``backup``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from bmhctl.cli.session import invocation_of, session
from bmhctl.errors import UsageError
from bmhctl.output import Format, check, render
from bmhctl.results import Document, Done, Hosts
from bmhctl.stores.locations import VARIABLE


def init(
    ctx: typer.Context,
    group: Annotated[str | None, typer.Option("--group", metavar="NAME", help="Share it with this group.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Use a state file that belonged to another TOML file.")
    ] = False,
) -> None:
    """Create an empty inventory; without -i, bmh.toml in this folder."""
    from bmhctl.usecases import inventories

    invocation = invocation_of(ctx)
    invocation.inventory = invocation.inventory or os.environ.get(VARIABLE) or "bmh.toml"
    check(Done, invocation.display())
    if adopt:
        with session(ctx, Done) as lab:
            lab.show(inventories.adopt(lab.context))
        return
    render(inventories.init(invocation.inventory, group=group), invocation.display())


def export(ctx: typer.Context) -> None:
    """Write the whole inventory: -o toml or json (with states, for import), or csv."""
    from bmhctl.usecases.queries import list_hosts
    from bmhctl.usecases.shared.host_selection import Choice

    invocation = invocation_of(ctx)
    invocation.output = invocation.output or Format.TOML.value
    if invocation.output not in ("toml", "json", "jsonl", "csv"):
        raise UsageError(f"can't export as {invocation.output}", hint="-o toml, json, jsonl or csv")
    if invocation.output == "toml":
        _export_toml(ctx)
        return
    with session(ctx, Hosts) as lab:
        lab.show(list_hosts(lab.context, Choice(everything=True)))


def _export_toml(ctx: typer.Context) -> None:
    from bmhctl.formats.toml_export import dump_parts
    from bmhctl.usecases.queries import everything

    with session(ctx, Document) as lab, everything(lab.context) as found:
        lab.show(Document(dump_parts(found.reservations, found.hosts, found.policy, found.now)))


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="An inventory.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="Where to copy it; must not exist yet.")],
) -> None:
    """Copy a whole inventory to another file or server: hosts, states, reservations, history and policy."""
    from bmhctl.usecases import inventories

    invocation_of(ctx).inventory = source
    with session(ctx, Done) as lab:
        lab.show(inventories.copy(lab.context, destination))


def backup(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="FILE", help="A .db file that does not exist yet.")],
) -> None:
    """Write the whole inventory as of now into a file; other commands may go on. copy restores it."""
    from bmhctl.usecases import inventories

    with session(ctx, Done) as lab:
        lab.show(inventories.backup(lab.context, destination))
