"""Replace a bad host of a reservation by another that fits, and prepare the new host in the same way."""

from __future__ import annotations

from bmhctl.domain.model import EventKind, Host
from bmhctl.domain.policy import Policy
from bmhctl.domain.requirements import describe_requirements
from bmhctl.errors import BusyError, NotYoursError, StepFailedError, UsageError
from bmhctl.results import Grant, Held
from bmhctl.support.folding import folded
from bmhctl.support.values import replace
from bmhctl.usecases.reservations.spares import requirements_of, spare_host, take_spare
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.leases import check_token, give_back, held_reservation
from bmhctl.usecases.shared.refresh import refresh_and_reap, retried
from bmhctl.usecases.shared.transitions import record_event


def replace_host(ctx: Context, name: str, reservation: str, reason: str) -> Grant:
    """Replace the host ``name`` of a reservation by another that fits, prepared as the others were; return the grant.

    The bad host is tainted, with ``reason`` as its fault. Raises :class:`BusyError` when no other host is free; then
    nothing is changed. Raises :class:`StepFailedError` when no other host can be prepared; the bad host is tainted
    then, too. Raises :class:`NotYoursError` when the lease has ended or does not hold the host.
    """
    granted, taken = _swap(ctx, name, reservation, reason)
    if granted.held.reservation.params is None:
        return granted
    from bmhctl.usecases.reservations.preparation import Preparation

    try:
        return Preparation(ctx, is_new=False).run(granted, [taken])
    except StepFailedError:
        names = folded(host.name for host in ctx.store.hosts.held_by(reservation))
        now = f"holds {' '.join(names)}" if names else "has ended"
        ctx.report(f"{name} was given back with its fault; {reservation} {now}")
        raise


@retried
def _swap(ctx: Context, name: str, reservation: str, reason: str) -> tuple[Grant, Host]:
    """Replace a bad host in one commit; return the grant with its new hosts, and the host that replaced the bad one."""
    if not reason.strip():
        raise UsageError(
            "replace needs a reason, which is recorded as the fault of the bad host", hint="--reason 'dead fan'"
        )
    refresh_and_reap(ctx)
    with ctx.store.transaction():
        now = ctx.clock()
        held = held_reservation(ctx, reservation, now)
        hosts = ctx.store.hosts.held_by(held.id)
        bad = next((host for host in hosts if host.name == name), None)
        if bad is None:
            check_token(ctx, ctx.host(name), reservation, now, may_force=False)
            raise NotYoursError(f"is not held by {reservation}", host=name)
        kept = [host for host in hosts if host.name != name]
        found = spare_host(ctx, held, kept, {bad.id})
        if found.missing:
            wanted = describe_requirements(requirements_of(held))
            within = _but_limited(held.owner, ctx.store.policy())
            raise BusyError(
                f"no host that fits {wanted} is free{within}: nothing was changed",
                host=name,
                hint=f"to give {name} back without a replacement: bmhctl taint {name} --fault TEXT -R {reservation}",
            )
        spare = found.hosts[0]
        taken = take_spare(ctx, spare, bad, held, now)
        left = give_back(ctx, bad, now, reason=f"replaced by {spare.name}: {reason}")
        record_event(ctx, replace(left, fault=reason), EventKind.FAULT, now, reason=reason)
    everyone = tuple(sorted((*kept, taken), key=lambda host: host.name))
    return Grant(Held(held, everyone), (f"{name} is replaced by {spare.name}", *found.notes)), taken


def _but_limited(owner: str, policy: Policy) -> str:
    mine = [limit.name for limit in policy.limits if limit.max_hosts is not None and limit.concerns(owner)]
    return f" within limit {' and '.join(mine)}" if mine else ""
