"""``add``, ``set``, ``rename``, ``remove`` and ``import``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bmhctl.cli.options import DryRun, HostName, HostNames, Reason, SelectorText, States, pairs
from bmhctl.cli.session import session
from bmhctl.results import Imported, Outcomes
from bmhctl.usecases.shared.host_selection import choice

_Address = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="IP address or DNS name; {name} is the host's name.")
]
_Mac = Annotated[str | None, typer.Option("--mac", metavar="MAC", help="The boot interface's MAC address.")]
_Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated.")]
_Hardware = Annotated[
    list[str] | None,
    typer.Option("--hardware", metavar="KEY=VALUE", help="A property such as cpus=64 or memory=256GiB."),
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
_VerifyTls = Annotated[
    bool | None, typer.Option("--verify-tls/--no-verify-tls", help="Whether the BMC's certificate is verified.")
]
_TlsMinVersion = Annotated[
    str | None,
    typer.Option("--tls-min-version", metavar="VERSION", help="The oldest TLS to accept from the BMC, such as 1.0."),
]
_Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="A line for people.")]


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
    verify_tls: _VerifyTls = None,
    tls_min_version: _TlsMinVersion = None,
    note: _Note = None,
) -> None:
    """Add hosts, all or none; they enter at initial."""
    from bmhctl.usecases import hosts as usecases

    facts = usecases.AttributeChanges(
        address=address,
        mac=mac,
        note=note,
        bmc=bmc,
        bmc_type=bmc_type,
        bmc_system_id=bmc_system,
        credentials=credentials,
        verify_tls=verify_tls,
        tls_min_version=tls_min_version,
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
        typer.Option("--hardware", metavar="KEY=VALUE", help="Set a hardware property; KEY- removes it."),
    ] = None,
    bmc: _Bmc = None,
    bmc_type: _BmcType = None,
    bmc_system: _BmcSystem = None,
    credentials: _Credentials = None,
    verify_tls: _VerifyTls = None,
    tls_min_version: _TlsMinVersion = None,
    note: _Note = None,
) -> None:
    """Change what is declared about hosts; an empty value ('') removes an attribute."""
    from bmhctl.usecases import hosts as usecases

    facts = usecases.AttributeChanges(
        address=address,
        mac=mac,
        note=note,
        bmc=bmc,
        bmc_type=bmc_type,
        bmc_system_id=bmc_system,
        credentials=credentials,
        verify_tls=verify_tls,
        tls_min_version=tls_min_version,
        labels=pairs(label, "label"),
        hardware=_numbers(pairs(hardware, "hardware")),
    )
    with session(ctx, Outcomes) as lab:
        lab.show(usecases.set_attributes(lab.context, choice(hosts, selector, state), facts))


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
    """Remove hosts; their history stays. A reserved or dirty host is refused unless forced."""
    from bmhctl.usecases import hosts as usecases

    with session(ctx, Outcomes) as lab:
        lab.show(usecases.remove(lab.context, choice(hosts, selector, state), force=force, reason=reason))


def import_(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE…|DIR|-", help="Manifests, folders of them, or stdin.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="TEMPLATE", help="What to call hosts: {name}, {namespace}, {labels.KEY}."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace what was set here since the last import.")
    ] = False,
    dry_run: DryRun = False,
    policy: Annotated[
        bool, typer.Option("--policy", help="Also import the policy of an export: it names commands to run.")
    ] = False,
) -> None:
    """Import BareMetalHost manifests (YAML or JSON), or what export wrote as TOML or JSON; all or nothing.

    New hosts enter in the state that they have there; a known host's facts are updated, but for those that were set
    here, and its state never.
    Secrets and other kinds are skipped. --name '{namespace}-{name}' distinguishes hosts of one name.
    """
    from bmhctl.formats import read_paths
    from bmhctl.formats.naming import NameTemplate
    from bmhctl.usecases import hosts as usecases

    names = None if name is None else NameTemplate(name)
    with session(ctx, Imported) as lab:
        cargo = read_paths(files, sys.stdin.buffer, lab.context.clock(), names)
        lab.show(usecases.import_hosts(lab.context, cargo, dry_run=dry_run, with_policy=policy, overwrite=overwrite))


def _numbers(facts: dict[str, str | None]) -> dict[str, str | int | None]:
    """Whole numbers as numbers: ``cpus=64`` is 64, as in TOML."""
    return {
        key: int(v) if v is not None and v.isascii() and v.isdigit() and len(v) < 19 else v for key, v in facts.items()
    }
