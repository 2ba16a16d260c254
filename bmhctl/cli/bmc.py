"""``power`` and ``inspect``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from bmhctl.cli.options import DryRun, Force, HostNames, Jobs, Reason, Reservation, SelectorText, States, choice
from bmhctl.cli.session import session
from bmhctl.domain.model import Power
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.results import Outcomes
from bmhctl.usecases.steps import bmc
from bmhctl.usecases.steps.step_verbs import JOBS

_Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long each BMC gets.")]


def power(
    ctx: typer.Context,
    hosts: HostNames = None,
    action: Annotated[
        str, typer.Option("--to", metavar="on|off|cycle|status", help="What to do; also as the last argument.")
    ] = "",
    selector: SelectorText = None,
    state: States = None,
    timeout: _Timeout = "60s",
    jobs: Jobs = JOBS,
    reservation: Reservation = None,
    force: Force = False,
    reason: Reason = None,
) -> None:
    """Switch the power of hosts through their BMCs: bmhctl power node01 on. Waits until it is so.

    on, off, cycle, or status, as the last argument; status of a whole rack: bmhctl power -l rack=r1 status
    """
    names = list(hosts or ())
    if not action:
        if not names or names[-1] not in list(Power):
            raise UsageError("what shall the power be?", hint="bmhctl power HOST… on, off, cycle or status")
        action = names.pop()
    if action not in list(Power):
        raise UsageError(f"power can't be {action!r}", hint="on, off, cycle or status")
    with session(ctx, Outcomes) as lab:
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
            )
        )


def inspect(
    ctx: typer.Context,
    hosts: HostNames = None,
    selector: SelectorText = None,
    state: States = None,
    timeout: _Timeout = "60s",
    jobs: Jobs = JOBS,
    dry_run: DryRun = False,
) -> None:
    """Ask BMCs what hardware hosts are: vendor, model, serial, CPUs, memory, health; kept as facts for selectors."""
    with session(ctx, Outcomes) as lab:
        chosen = choice(hosts, selector, state)
        lab.show(bmc.inspect(lab.context, chosen, timeout=_patience(timeout), jobs=jobs, dry_run=dry_run))


def _patience(timeout: str) -> timedelta:
    found = parse_duration(timeout)
    if not found:
        raise UsageError("--timeout is zero", hint="give the BMC some time, such as 30s")
    return found
