"""End a step that still runs, and holds the claim on its host, after its bmhctl has died."""

from __future__ import annotations

from bmhctl.domain.model import EventKind, Host
from bmhctl.errors import StateRefusedError, UsageError
from bmhctl.results import Outcome, Outcomes, already, attempt, failed, stayed
from bmhctl.stores.claims import host_claim
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice, choose
from bmhctl.usecases.shared.refresh import refresh_and_reap
from bmhctl.usecases.steps.execution import record_alone


def end_step(ctx: Context, choice: Choice) -> Outcomes:
    """End the processes that still run a step on the named hosts after their bmhctl has died; return the outcomes.

    Each end is recorded as an event. The outcome of a host is a :class:`StateRefusedError` if the bmhctl of the step is
    alive, or if this user can't see or end the step's process. Raises :class:`UsageError` without names.
    """
    if not choice.names:
        raise UsageError("--end-step needs the names of hosts", hint="bmhctl recycle --end-step node01")
    refresh_and_reap(ctx)
    hosts, missing = choose(ctx, choice)

    def one(host: Host) -> Outcome:
        claim = host_claim(host.id)
        if not ctx.store.claims.claimed_hosts([host.id]):
            return already(host, "no step is running on it")
        holders = ctx.store.claims.holders(claim)
        for holder in holders:
            if holder.is_runner:
                raise StateRefusedError(
                    f"its step is run by bmhctl: {holder}",
                    host=host.name,
                    hint=f"end bmhctl instead: kill {holder.id}" if holder.id else "end bmhctl instead, on its machine",
                )
            if holder.ends_by_itself:
                raise StateRefusedError(
                    f"{holder}: {holder.ends_by_itself}", host=host.name, hint="try again after that"
                )
        if not holders:
            raise StateRefusedError(
                "a step is running on it, in a process that is not seen from here",
                host=host.name,
                hint="try again as the user that started it, or as root",
            )
        words = "; ".join(map(str, holders))
        if not ctx.dry_run:
            try:
                ctx.store.claims.end_holders(claim)
            except PermissionError:
                raise StateRefusedError(
                    f"its step belongs to another user: {words}", host=host.name, hint="try again as that user, or root"
                ) from None
            record_alone(ctx, host, EventKind.STEP_FAILED, f"ended: {words}")
        return stayed(host, f"ended: {words}")

    return Outcomes("end-step", (*(attempt(host, one) for host in hosts), *(failed(error) for error in missing)))
