"""``power``, ``boot-once`` and ``inspect``."""

from __future__ import annotations

import shlex
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from bmhctl.cli.options import DryRun, Force, HostNames, Jobs, Reason, Reservation, SelectorText, States
from bmhctl.cli.session import Changing, Chosen, session
from bmhctl.domain.model import BootTarget, Power
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.results import Outcomes
from bmhctl.usecases.shared.host_selection import choice
from bmhctl.usecases.steps import bmc
from bmhctl.usecases.steps.step_verbs import JOBS

_Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for each BMC.")]


_TARGETS = f"{', '.join([*BootTarget][:-1])} or {[*BootTarget][-1]}"
_ACTIONS = f"{', '.join([*Power][:-1])} or {[*Power][-1]}"


def power(
    hosts: HostNames = None,
    action: Annotated[str, typer.Option("--to", metavar="ACTION", help="What to do; also as the last argument.")] = "",
    selector: SelectorText = None,
    state: States = None,
    timeout: _Timeout = "60s",
    then: Annotated[
        str | None, typer.Option(metavar="off", help="After soft-off, switch off hosts that are still on.")
    ] = None,
    jobs: Jobs = JOBS,
    reservation: Reservation = None,
    force: Force = False,
    reason: Reason = None,
    *,
    opening: Changing,
) -> None:
    """Switch the power of hosts through their BMCs: bmhctl power node01 on. Waits for the new state.

    The last argument is on, off, soft-off (the operating system shuts down), cycle, status, identify or identify-off
    (the indicator light). Status of a whole rack: bmhctl power -l rack=r1 status
    """
    names, action = _last_argument(hosts, action, Power)
    if not action:
        from bmhctl.cli.suggestions import meant_power

        meant = f"did you mean bmhctl power {shlex.join(meant)}? " if (meant := meant_power(names)) else ""
        raise UsageError("no action is given", hint=f"{meant}bmhctl power HOST… {_ACTIONS}")
    if action not in list(Power):
        raise UsageError(f"power can't be {action!r}", hint=_ACTIONS)
    if then not in (None, "off"):
        raise UsageError(f"--then can't be {then!r}", hint="use --then off")
    with opening as lab:
        lab.show(
            bmc.power(
                lab.context,
                choice(names, selector, state),
                Power(action),
                timeout=_patience(timeout),
                jobs=jobs,
                reservation=reservation,
                force=force,
                reason=reason,
                then_off=then == "off",
            )
        )


def boot_once(
    hosts: HostNames = None,
    target: Annotated[
        str, typer.Option("--from", metavar="TARGET", help="What to boot from; also as the last argument.")
    ] = "",
    selector: SelectorText = None,
    state: States = None,
    timeout: _Timeout = "60s",
    jobs: Jobs = JOBS,
    reservation: Reservation = None,
    force: Force = False,
    reason: Reason = None,
    *,
    opening: Changing,
) -> None:
    """Set what hosts boot from at their next start only: bmhctl boot-once node01 pxe. No host is restarted.

    The last argument is pxe, hdd, cd, usb, bios (the setup), http, diagnostics, or none to remove the setting.
    """
    names, target = _last_argument(hosts, target, BootTarget)
    if not target:
        from bmhctl.cli.suggestions import meant_boot

        meant = f"did you mean bmhctl boot-once {shlex.join(meant)}? " if (meant := meant_boot(names)) else ""
        raise UsageError("no target is given", hint=f"{meant}bmhctl boot-once HOST… {_TARGETS}")
    if target not in list(BootTarget):
        raise UsageError(f"can't boot from {target!r}", hint=_TARGETS)
    with opening as lab:
        lab.show(
            bmc.boot_once(
                lab.context,
                choice(names, selector, state),
                BootTarget(target),
                timeout=_patience(timeout),
                jobs=jobs,
                reservation=reservation,
                force=force,
                reason=reason,
            )
        )


def inspect(
    ctx: typer.Context,
    hosts: Chosen,
    timeout: _Timeout = "60s",
    jobs: Jobs = JOBS,
    dry_run: DryRun = False,
) -> None:
    """Read the hardware of hosts from their BMCs, and store it as properties that selectors can use.

    It stores those that the BMC reports: vendor, model, serial, bios, sockets, cpus, memory, storage, nics, macs,
    health.
    """
    with session(ctx, Outcomes) as lab:
        lab.show(bmc.inspect(lab.context, hosts, timeout=_patience(timeout), jobs=jobs, dry_run=dry_run))


def _last_argument(hosts: list[str] | None, option: str, words: type[StrEnum]) -> tuple[list[str], str]:
    """Return the hosts and the value of an option (one of ``words``, or "") that may also be the last argument.

    Upper case is accepted, too, as in Redfish's own ``Pxe`` and ``On``.
    """
    names = list(hosts or ())
    if not option and names and names[-1].lower() in list(words):
        option = names.pop()
    return names, option.lower()


def _patience(timeout: str) -> timedelta:
    found = parse_duration(timeout)
    if not found:
        raise UsageError("--timeout is zero", hint="give the BMC some time, such as 30s")
    return found
