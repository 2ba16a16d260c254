"""Inventories and the hosts in them, as entries."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bmhctl.cli.invocation import invocation_of, session
from bmhctl.cli.options import DryRun, HostName, HostNames, Reason, SelectorText, States, choice, pairs
from bmhctl.errors import UsageError
from bmhctl.output import Format, check, render
from bmhctl.results import Document, Done, Hosts, Imported, Outcomes, Script
from bmhctl.stores.discovery import VARIABLE

_Address = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="IP address or DNS name; {name} is the host's name.")
]
_Mac = Annotated[str | None, typer.Option("--mac", metavar="MAC", help="The boot interface's MAC address.")]
_Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated.")]
_Hardware = Annotated[
    list[str] | None, typer.Option("--hardware", metavar="KEY=VALUE", help="A fact such as cpus=64 or memory=256GiB.")
]
_Bmc = Annotated[
    str | None, typer.Option("--bmc", metavar="URL", help="The BMC's address, such as redfish+https://10.0.1.11/….")
]
_BmcType = Annotated[str | None, typer.Option("--bmc-type", metavar="TYPE", help="What kind of BMC it is.")]
_BmcSystem = Annotated[str | None, typer.Option("--bmc-system", metavar="ID", help="The system's id at its BMC.")]
_Credentials = Annotated[
    str | None,
    typer.Option("--credentials", metavar="REFERENCE", help="Where the BMC's are: env:NAME, file:PATH, command:…."),
]
_Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="A line for people.")]


def init(
    ctx: typer.Context,
    group: Annotated[str | None, typer.Option("--group", metavar="NAME", help="Share it with this group.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over a state file that belonged to another TOML file.")
    ] = False,
) -> None:
    """Create an empty inventory; without -i, bmh.toml in this folder."""
    from bmhctl.usecases import homes

    invocation = invocation_of(ctx)
    invocation.inventory = invocation.inventory or os.environ.get(VARIABLE) or "bmh.toml"
    check(Done, invocation.display())
    if adopt:
        with session(ctx, Done) as lab:
            lab.show(homes.adopt(lab.context))
        return
    render(homes.init(invocation.inventory, group=group), invocation.display())


def add(
    ctx: typer.Context,
    hosts: Annotated[list[str], typer.Argument(metavar="HOST…", help="Names or folded ranges (node[01-20]).")],
    address: _Address = None,
    mac: _Mac = None,
    label: _Label = None,
    hardware: _Hardware = None,
    bmc: _Bmc = None,
    bmc_type: _BmcType = None,
    bmc_system: _BmcSystem = None,
    credentials: _Credentials = None,
    note: _Note = None,
) -> None:
    """Add hosts, all or none; they enter at initial."""
    from bmhctl.usecases import hosts as usecases

    facts = usecases.FactChanges(
        address=address,
        mac=mac,
        note=note,
        bmc=bmc,
        bmc_type=bmc_type,
        bmc_system_id=bmc_system,
        credentials=credentials,
        labels=pairs(label, "label"),
        hardware=_numbers(pairs(hardware, "hardware")),
    )
    with session(ctx, Outcomes) as lab:
        lab.show(usecases.add(lab.context, hosts, facts))


def set_(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    state: States = None,
    address: _Address = None,
    mac: _Mac = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Set a label; KEY- removes it; may be repeated."),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", metavar="KEY=VALUE", help="Set a hardware fact; KEY- removes it."),
    ] = None,
    bmc: _Bmc = None,
    bmc_type: _BmcType = None,
    bmc_system: _BmcSystem = None,
    credentials: _Credentials = None,
    verify_tls: Annotated[
        bool | None, typer.Option("--verify-tls/--no-verify-tls", help="Whether the BMC's certificate is verified.")
    ] = None,
    note: _Note = None,
) -> None:
    """Change what is declared about hosts; an empty value ('') takes a fact away."""
    from bmhctl.usecases import hosts as usecases

    facts = usecases.FactChanges(
        address=address,
        mac=mac,
        note=note,
        bmc=bmc,
        bmc_type=bmc_type,
        bmc_system_id=bmc_system,
        credentials=credentials,
        verify_tls=verify_tls,
        labels=pairs(label, "label"),
        hardware=_numbers(pairs(hardware, "hardware")),
    )
    with session(ctx, Outcomes) as lab:
        lab.show(usecases.set_facts(lab.context, choice(hosts, selector, state), facts))


def rename(
    ctx: typer.Context, old: HostName, new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")]
) -> None:
    """Give a host another name; its state, reservation and history go with it."""
    from bmhctl.usecases import hosts as usecases

    with session(ctx, Outcomes) as lab:
        lab.show(usecases.rename(lab.context, old, new))


def remove(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    state: States = None,
    force: Annotated[bool, typer.Option("--force", help="Also reserved or dirty ones; needs --reason.")] = False,
    reason: Reason = None,
) -> None:
    """Let hosts go; their history stays. A reserved or dirty host is refused unless forced."""
    from bmhctl.usecases import hosts as usecases

    with session(ctx, Outcomes) as lab:
        lab.show(usecases.remove(lab.context, choice(hosts, selector, state), force=force, reason=reason))


def import_(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE…|DIR|-", help="Manifests, folders of them, or stdin.")],
    dry_run: DryRun = False,
    policy: Annotated[
        bool, typer.Option("--policy", help="Also take over the policy of an export: it names commands to run.")
    ] = False,
) -> None:
    """Take in BareMetalHost manifests (YAML or JSON), or what export -o toml wrote; all or nothing.

    New hosts enter in the state that they have there; a known host's facts are updated, its state never.
    Secrets and foreign kinds are skipped.
    """
    from bmhctl.formats import read_paths
    from bmhctl.usecases import hosts as usecases

    with session(ctx, Imported) as lab:
        cargo = read_paths(files, sys.stdin.buffer, lab.context.clock())
        lab.show(usecases.import_hosts(lab.context, cargo, dry_run=dry_run, with_policy=policy))


def export(ctx: typer.Context) -> None:
    """Write the whole inventory: -o toml (with states; import takes it back), json or csv."""
    from bmhctl.usecases import hosts as usecases
    from bmhctl.usecases.choosing import Choice

    invocation = invocation_of(ctx)
    invocation.output = invocation.output or Format.TOML.value
    if invocation.output not in ("toml", "json", "jsonl", "csv"):
        raise UsageError(f"can't export as {invocation.output}", hint="-o toml, json, jsonl or csv")
    if invocation.output == "toml":
        _export_toml(ctx)
        return
    with session(ctx, Hosts) as lab:
        lab.show(usecases.list_hosts(lab.context, Choice(everything=True)))


def _export_toml(ctx: typer.Context) -> None:
    from bmhctl.formats.inventory import dump_parts
    from bmhctl.usecases.looking import everything

    with session(ctx, Document) as lab, everything(lab.context) as found:
        lab.show(Document(dump_parts(found.reservations, found.hosts, found.policy, found.now)))


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="An inventory.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="Where it shall be too; not there yet.")],
) -> None:
    """Copy a whole inventory into another home: hosts, states, reservations, history and policy."""
    from bmhctl.usecases import homes

    invocation_of(ctx).inventory = source
    with session(ctx, Done) as lab:
        lab.show(homes.copy(lab.context, destination))


def backup(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="FILE", help="A .db file that is not there yet.")],
) -> None:
    """Write the whole inventory as it is at this moment into a file, while others go on; copy restores it."""
    from bmhctl.usecases import homes

    with session(ctx, Done) as lab:
        lab.show(homes.backup(lab.context, destination))


def policy_show(ctx: typer.Context) -> None:
    """Show the policy as TOML: defaults of leases, readiness checks, cleanup steps."""
    from bmhctl.usecases.policies import show_policy

    with session(ctx, Document) as lab:
        lab.show(show_policy(lab.context))


def policy_check(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE|-", help="Judge this policy, not the inventory's own.")
    ] = None,
) -> None:
    """Validate the policy, and say for each host which checks and cleanup steps apply to it."""
    from bmhctl.results import Plan
    from bmhctl.usecases.policies import check_policy

    text = None if file is None else _read(file)
    with session(ctx, Plan) as lab:
        lab.show(check_policy(lab.context, choice(hosts, selector), text, file or ""))


def policy_apply(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A TOML file with [defaults], [checks], [cleanup].")],
) -> None:
    """Replace the policy of a database; a TOML inventory holds its policy itself."""
    from bmhctl.usecases.policies import apply_policy

    text = _read(file)
    with session(ctx, Done) as lab:
        lab.show(apply_policy(lab.context, text, file))


def policy_grants(
    ctx: typer.Context,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="NAME", help="What the roles' names begin with.  [default: the schema's]"),
    ] = None,
) -> None:
    """Print the SQL for three roles on a PostgreSQL server: a viewer, a runner, an operator.

    For the owner of the inventory: bmhctl policy grants | psql URL; again after each update of bmhctl. A viewer sees
    all and changes nothing. A runner also takes hosts, gives them back, runs their steps and sets them aside. An
    operator also adds, changes and removes hosts, and replaces the policy.
    """
    from bmhctl.usecases.policies import role_grants

    with session(ctx, Script) as lab:
        lab.show(role_grants(lab.context, prefix))


def _read(file: str) -> str:
    from bmhctl.formats.cargo import MAX_BYTES, decode

    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror}") from error
    return decode(content, file).replace("\r\n", "\n")


def _numbers(facts: dict[str, str | None]) -> dict[str, str | int | None]:
    """Whole numbers as numbers: ``cpus=64`` is 64, as in TOML."""
    return {
        key: int(v) if v is not None and v.isascii() and v.isdigit() and len(v) < 19 else v for key, v in facts.items()
    }
