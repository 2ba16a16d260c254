"""``ready``, ``reset``, ``retire``, ``resume``, ``check`` and ``recycle``: commands that run steps."""

from __future__ import annotations

from typing import Annotated

import typer

from bmhctl.cli.options import DryRun, GivenReason, HostNames, Jobs, Reason, SelectorText, States
from bmhctl.cli.session import Changing, Chosen, Selected, Unasked, session, unasked
from bmhctl.domain.units import parse_duration
from bmhctl.errors import UsageError
from bmhctl.results import Outcomes
from bmhctl.usecases.shared.host_selection import choice
from bmhctl.usecases.steps import step_verbs
from bmhctl.usecases.steps.step_verbs import JOBS


def ready(
    hosts: HostNames = None,
    selector: SelectorText = None,
    state: States = None,
    jobs: Jobs = JOBS,
    override: Annotated[
        list[str] | None, typer.Option(metavar="STEP", help="Count this step as passed; needs --reason.")
    ] = None,
    reason: Reason = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat the setup steps that are done.")] = False,
    *,
    opening: Unasked,
) -> None:
    """Set up and check hosts that are initial, and make those that pass available.

    Every setup step of the policy that applies to a host must have passed since the host became initial, and every
    readiness check must pass now.
    """
    with opening as lab:
        chosen = choice(hosts, selector, state)
        lab.show(step_verbs.ready(lab.context, chosen, jobs=jobs, override=override or (), reason=reason, again=again))


def check(
    ctx: typer.Context,
    hosts: Chosen,
    only: Annotated[
        list[str] | None, typer.Option("--check", metavar="CHECK", help="Only this check; may be repeated.")
    ] = None,
    jobs: Jobs = JOBS,
    force: Annotated[bool, typer.Option("--force", help="Check hosts that another owner has reserved, too.")] = False,
) -> None:
    """Run readiness checks without moving a host, and record their results."""
    with session(ctx, Outcomes) as lab:
        lab.show(step_verbs.check(lab.context, hosts, only=only or (), jobs=jobs, force=force))


def recycle(
    ctx: typer.Context,
    hosts: Selected,
    jobs: Jobs = JOBS,
    watch: Annotated[
        str | None,
        typer.Option(metavar="[DURATION]", help="Recycle until a signal; retry failures after this time (30s)."),
    ] = None,
    end_step: Annotated[
        bool, typer.Option("--end-step", help="End steps that still run after their bmhctl was killed.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Make used hosts available again, with reset and ready: all tainted hosts, or the named ones.

    A host that fails is tried again by the next recycle; too many failures in a row lead to maintenance. A host with a
    fault is skipped unless it is named. Several recycle commands may run at the same time.
    """
    if end_step:
        from bmhctl.usecases.steps.step_verbs import end_step as usecase

        if watch is not None:
            raise UsageError("--end-step ends steps once: leave out --watch")
        with unasked(ctx, dry_run) as lab:
            lab.show(usecase(lab.context, hosts))
        return
    if watch is None or dry_run:
        with unasked(ctx, dry_run) as lab:
            lab.show(step_verbs.recycle(lab.context, hosts, jobs=jobs))
        return
    from bmhctl.cli.recycle_watch import recycle_for_ever

    with session(ctx, Outcomes, endless=True) as lab:
        recycle_for_ever(lab, hosts, jobs, parse_duration(watch))


def reset(hosts: Chosen, jobs: Jobs = JOBS, *, opening: Changing) -> None:
    """Clean hosts that are tainted; those whose cleanup succeeds become initial.

    A host with a fault is cleaned only when it is named exactly.
    """
    with opening as lab:
        lab.show(step_verbs.reset(lab.context, hosts, jobs=jobs))


def retire(
    hosts: Chosen,
    reason: GivenReason = "",
    when_free: Annotated[
        bool, typer.Option("--when-free", help="Retire held hosts, too, once they are given back.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Cancel the retirement of hosts that have not left yet.")
    ] = False,
    jobs: Jobs = JOBS,
    *,
    opening: Changing,
) -> None:
    """Take hosts out of service: clean them, run their retire steps, remove them. They can't be reserved from now on.

    A host whose step fails goes to maintenance. With --when-free, recycle retires a held host once it is given back.
    """
    from bmhctl.usecases.steps import retire as usecase

    with opening as lab:
        if undo:
            lab.show(usecase.undo_retire(lab.context, hosts))
        else:
            lab.show(usecase.retire(lab.context, hosts, reason=reason, when_free=when_free, jobs=jobs))


def resume(
    hosts: Chosen,
    everyones: Annotated[bool, typer.Option("--all", help="Close all reasons, not only yours.")] = False,
    jobs: Jobs = JOBS,
    *,
    opening: Changing,
) -> None:
    """Close your reasons for maintenance, and end the maintenance of hosts without further reasons.

    A host goes back to its reservation if that is valid; to available if it came from there and its checks pass; else
    to initial, after a cleanup if it is dirty.
    """
    from bmhctl.usecases.steps import resume as usecase

    with opening as lab:
        lab.show(usecase.resume(lab.context, hosts, everyones=everyones, jobs=jobs))
