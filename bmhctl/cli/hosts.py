"""``add``, ``set``, ``rename``, ``remove`` and ``import``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bmhctl.cli.options import MOST, DryRun, Group, HostName, HostNames, Reason, Yes, pairs, unquoted
from bmhctl.cli.session import Changing, Chosen, Unasked, asking
from bmhctl.errors import UsageError
from bmhctl.results import Imported
from bmhctl.usecases import hosts as usecases
from bmhctl.usecases.hosts import AttributeChanges


def attributes(
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="IP address or DNS name; {name}, or a range: 10.0.1.[11-20].")
    ] = None,
    mac: Annotated[str | None, typer.Option(metavar="MAC", help="The boot interface's MAC address.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a label; KEY- removes it; may be repeated.")
    ] = None,
    hardware: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a property such as cpus=64; KEY- removes it.")
    ] = None,
    bmc: Annotated[
        str | None, typer.Option(metavar="URL", help="The BMC's address: 10.0.1.11 is redfish+https://10.0.1.11.")
    ] = None,
    bmc_type: Annotated[str | None, typer.Option(metavar="TYPE", help="What kind of BMC it is.")] = None,
    bmc_system: Annotated[str | None, typer.Option(metavar="ID", help="The system's id at its BMC.")] = None,
    credentials: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="The BMC's credentials: env:NAME, file:PATH, command:….")
    ] = None,
    verify_tls: Annotated[
        bool | None, typer.Option("--verify-tls/--no-verify-tls", help="Whether the BMC's certificate is verified.")
    ] = None,
    tls_min_version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="The oldest TLS version to accept, such as 1.0.")
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="A line of text to show.")] = None,
) -> AttributeChanges:
    """Return the attributes that the options set or remove."""
    return AttributeChanges(
        address=address,
        mac=mac,
        note=note,
        bmc=bmc,
        bmc_type=bmc_type,
        bmc_system_id=bmc_system,
        credentials=credentials,
        verify_tls=verify_tls,
        tls_min_version=tls_min_version,
        labels={key: unquoted(value) for key, value in pairs(label, "label").items()},
        hardware=_numbers(pairs(hardware, "hardware")),
    )


_Attributes = Annotated[AttributeChanges, Group(attributes)]


def add(
    hosts: Annotated[list[str], typer.Argument(metavar="HOST…", help="Names or folded ranges (node[01-20]).")],
    opening: Unasked,
    attributes: _Attributes,
) -> None:
    """Add hosts, all or none; they start at initial."""
    addresses = [name for name in hosts if name.count(".") == 3 and name.replace(".", "").isdecimal()]
    if addresses and len(addresses) < len(hosts):
        raise UsageError(f"{addresses[0]} is an address, not a name", hint=f"did you mean --address {addresses[0]}?")
    with opening as lab:
        lab.show(usecases.add(lab.context, hosts, attributes))


def set_(hosts: Chosen, opening: Changing, attributes: _Attributes) -> None:
    """Change what is declared about hosts; an empty value ('') removes an attribute."""
    with opening as lab:
        lab.show(usecases.set_attributes(lab.context, hosts, attributes))


def rename(
    old: HostName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name; for a range, a range of as many names.")],
    opening: Unasked,
) -> None:
    """Give a host another name, or each host of a range ('node[01-20]' 'web[01-20]').

    The host keeps its state, reservation and history.
    """
    with opening as lab:
        lab.show(usecases.rename(lab.context, old, new))


def remove(
    hosts: Chosen,
    force: Annotated[
        bool, typer.Option("--force", help="Remove reserved or dirty hosts, too; needs --reason.")
    ] = False,
    reason: Reason = None,
    *,
    opening: Changing,
) -> None:
    """Remove hosts; their history stays. A reserved or dirty host is refused unless forced."""
    with opening as lab:
        lab.show(usecases.remove(lab.context, hosts, force=force, reason=reason))


def undo(
    hosts: HostNames = None,
    event: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, metavar="ID", help="Take back the change of this event, not the last one."),
    ] = None,
    *,
    opening: Changing,
) -> None:
    """Take back the last add, set, rename, remove, import, cordon, uncordon or policy apply.

    With names, only for these hosts. undo is refused if a later change builds on that change, or if a host that the
    change added was used since. A second undo makes the change again.
    """
    from bmhctl.usecases.undo import undo as take_back

    with opening as lab:
        lab.show(take_back(lab.context, hosts or (), event=event))


def import_(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE…|DIR|-", help="Files, folders of them, or stdin.")],
    kind: Annotated[
        str | None, typer.Option("--from", metavar="KIND", help="The kind of the files, if it can't be recognised.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", help="The names: {name}, {namespace}, {id}, {labels.KEY}.")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="SELECTOR", help="Import only the hosts that fit.")] = None,
    label_from: Annotated[
        list[str] | None, typer.Option(metavar="NAME,…", help="Groups, variables or columns that become labels.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=FIELD,…", help="A column or variable as a field: rack=labels.rack."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update/--no-update", help="Update hosts that are known, or only add new ones.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also replace attributes that were set here.")] = False,
    dry_run: DryRun = False,
    policy: Annotated[bool, typer.Option("--policy", help="Also import the policy; it names commands to run.")] = False,
    yes: Yes = False,
) -> None:
    """Import hosts from files of other systems, manifests, or what export wrote; all or nothing.

    New hosts get the state that they have in the files. A known host keeps its state and the attributes that were set
    here; its other attributes are updated. Secrets are skipped. --name '{namespace}-{name}' distinguishes hosts of the
    same name. Kinds: metal3, bmhctl, ironic, maas, netbox, metal-operator, tinkerbell, labgrid, bifrost, ansible,
    dnsmasq, isc-dhcp, kea, hosts, csv. See bmhctl help formats.
    """
    from bmhctl.formats.import_files import import_options, read_paths

    if overwrite and not update:
        raise UsageError("--overwrite and --no-update can't be combined", hint="give one of them")
    options = import_options(kind, name, only, label_from, mapping)
    with asking(ctx, Imported, yes=yes, dry_run=dry_run) as lab:
        batch = read_paths(files, sys.stdin.buffer, lab.context.clock(), options=options)
        done = usecases.import_hosts(lab.context, batch, update=update, with_policy=policy, overwrite=overwrite)
        lab.show(done)


def _numbers(properties: dict[str, str | None]) -> dict[str, str | int | None]:
    """Return whole numbers as numbers, and what is in double quotes as text: ``cpus=64`` is 64, as in TOML."""
    return {
        key: int(v) if v is not None and v.isascii() and v.isdigit() and len(v) < 19 else unquoted(v)
        for key, v in properties.items()
    }
