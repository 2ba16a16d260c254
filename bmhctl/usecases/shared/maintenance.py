"""The reasons for maintenance: which of them stay open, and to which state a host goes without them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bmhctl.domain.model import Host, Note, Phase, State
from bmhctl.usecases.shared.context import Context


def remaining_reasons(ctx: Context, host: Host, everyones: bool) -> tuple[Note, ...]:
    """Return the reasons that stay when the actor's are closed (``everyones``: all); anyone may close a quarantine."""
    return tuple(m for m in host.maintenance if not (everyones or m.quarantine or m.actor == ctx.actor))


def in_words(marks: Iterable[Note]) -> str:
    """Return the actors and their reasons in words."""
    return "; ".join(f"{mark.actor}: {mark.reason}" for mark in marks)


def where_resume_leads(ctx: Context, host: Host, now: datetime) -> tuple[State, str]:
    """Return the state to which a host would go if its maintenance were closed and its steps passed, and why."""
    policy = ctx.store.policy()
    if host.reservation is not None and host.reservation.is_valid(now):
        return State.RESERVED, f"its reservation is valid: {host.reservation.words}"
    if host.dirty:
        steps = [step.name for step in policy.applying(Phase.CLEANUP, host.spec)]
        run = f"if its cleanup succeeds ({', '.join(steps)}), else it stays" if steps else "no cleanup step applies"
        return State.INITIAL, f"it is dirty: {run}"
    if host.came_from is State.AVAILABLE:
        steps = [step.name for step in policy.applying(Phase.CHECKS, host.spec)]
        run = f"if its checks pass ({', '.join(steps)}), else initial" if steps else "no readiness check applies"
        return State.AVAILABLE, f"it came from available and is clean: {run}"
    return State.INITIAL, f"it came from {host.came_from or 'elsewhere'} and is clean"
