"""``init``, ``export``, ``copy``, ``backup`` and ``doctor``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from bmhctl.cli.options import Fields, HostNames, SelectorText, States
from bmhctl.cli.session import invocation_of, session, show, target
from bmhctl.errors import UsageError
from bmhctl.output import Format, check, render
from bmhctl.results import Done, History, Hosts
from bmhctl.results.texts import Document
from bmhctl.stores.locations import VARIABLE

if TYPE_CHECKING:
    from bmhctl.usecases.shared.host_selection import Choice


_ROOM = 200  # the most characters for the names of the hosts that an export leaves out


def init(
    ctx: typer.Context,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Let the members of this group use it.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Use a state file that belonged to another TOML file.")
    ] = False,
    reactivate: Annotated[bool, typer.Option("--reactivate", help="Use an inventory again that copy retired.")] = False,
) -> None:
    """Create an empty inventory; without -i, bmh.toml in this folder."""
    from bmhctl.usecases import inventories

    invocation = invocation_of(ctx)
    invocation.inventory = invocation.inventory or os.environ.get(VARIABLE) or "bmh.toml"
    check(Done, invocation.display())
    if adopt and reactivate:
        raise UsageError("--adopt and --reactivate can't be combined", hint="give one of them")
    if adopt or reactivate:
        with session(ctx, Done) as lab:
            lab.show(inventories.adopt(lab.context) if adopt else inventories.reactivate(lab.context))
        return
    render(inventories.init(invocation.inventory, group=group), invocation.display())


def export(ctx: typer.Context, hosts: HostNames = None, selector: SelectorText = None, state: States = None) -> None:
    """Write the inventory, or some hosts: -o toml or json (with states, for import), or csv.

    For other systems: -o metal3 (manifests), ansible (an inventory), ssh (a configuration to Include), known-hosts,
    dnsmasq (dhcp-host lines), netbox (patches of custom fields), cloudevents (the history). See bmhctl help formats.
    """
    from bmhctl.formats.exporters.table import FORMATS, NEEDS, OF_OTHERS
    from bmhctl.formats.exporters.table import export as written
    from bmhctl.usecases.queries import chosen, list_hosts
    from bmhctl.usecases.shared.host_selection import Choice, choice

    invocation = invocation_of(ctx)
    output = invocation.output = invocation.output or Format.TOML.value
    if output not in FORMATS:
        known = ", ".join(FORMATS)
        hint = "leases: bmhctl timeline -o ics; bookings: bmhctl bookings -o ics" if output == "ics" else f"-o {known}"
        raise UsageError(f"can't export as {output}", hint=hint)
    wanted = choice(hosts, selector, state) if hosts or selector or state else Choice(everything=True)
    if output == "toml":
        _export_toml(ctx, wanted)
    elif output in OF_OTHERS:
        with session(ctx, Document) as lab:
            left: list[str] = []
            text = written(output, chosen(lab.context, wanted).hosts, os.environ.get("BMH_RESERVATION"), left.append)
            lab.show(Document(text, (_left_out(left, NEEDS[output][0]),) if left else ()))
            if not text and not left:
                lab.context.report("no hosts: bmhctl list shows all")
    elif output == "cloudevents":
        from bmhctl.usecases.history import HistoryRequest, find_history

        with session(ctx, History) as lab:
            lab.show(find_history(lab.context, HistoryRequest(wanted)))
    else:
        with session(ctx, Hosts) as lab:
            lab.show(list_hosts(lab.context, wanted))


def _left_out(names: list[str], need: str) -> str:
    """Return a line about the hosts that an export left out because they have no ``need``: their number and names."""
    from bmhctl.domain.units import plural
    from bmhctl.support.folding import folded_within

    return f"left out: {plural(len(names), 'host')} without {need}: {folded_within(names, _ROOM)}"


def _export_toml(ctx: typer.Context, wanted: Choice) -> None:
    from bmhctl.formats.toml_export import dump_parts
    from bmhctl.usecases.queries import everything

    with session(ctx, Document) as lab, everything(lab.context, wanted) as found:
        text = dump_parts(found.reservations, found.hosts, found.policy, found.now)
        left_out = f"left out: open bookings and planned maintenances, {found.bookings}; bmhctl copy keeps them"
        lab.show(Document(text, (left_out,) if found.bookings else ()))


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="An inventory.")],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where to copy it; must be new, or unused on a server.")
    ],
    retire_source: Annotated[
        bool, typer.Option("--retire-source", help="Make SRC refuse changes afterwards, and refer to DST.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Retire SRC even while tasks run or commands wait.")] = False,
) -> None:
    """Copy a whole inventory to another file or server: hosts, states, reservations, history and policy."""
    from bmhctl.usecases import copies

    invocation_of(ctx).inventory = source
    with session(ctx, Done) as lab:
        lab.show(copies.copy(lab.context, destination, retire_source=retire_source, force=force))


def backup(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="FILE", help="A .db file that does not exist yet.")],
) -> None:
    """Write a copy of the inventory, as of now, into a file, while other commands may run. To restore it, use copy."""
    from bmhctl.usecases import copies

    with session(ctx, Done) as lab:
        lab.show(copies.backup(lab.context, destination))


def doctor(
    ctx: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, after a backup.")] = False,
    fields: Fields = None,
) -> None:
    """Report what is wrong with the inventory, and what to do about it.

    It also examines an inventory that other commands can't open. --fix never marks a host as clean, and never
    writes an event; its backup is beside the inventory.
    """
    from bmhctl.results.diagnosis import Diagnosis
    from bmhctl.usecases.doctor.doctor import doctor_at

    with target(ctx, Diagnosis, fields) as found:
        diagnosis = doctor_at(found.location, lambda store: found.session(store).context, fix=fix)
        show(diagnosis, found)
