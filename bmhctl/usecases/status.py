"""The fleet on one screen, for ``status``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bmhctl.domain.model import Host, Reservation, State
from bmhctl.results import Held
from bmhctl.results.status import Ending, Obstacle, Status
from bmhctl.stores import status_queries
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

if TYPE_CHECKING:
    from bmhctl.results.bookings import Booked

SHOWN = 50
"""The most entries of each list that ``status`` returns."""

_COUNTED = ("expired", "cordoned", "undeclared", "faults", "bookings", "maintenances")


def status(ctx: Context) -> Status:
    """Return the fleet on one screen: counts by state, reservations, what ends next, what needs an operator.

    However large the fleet is, only counts and the first :data:`SHOWN` of each list are read.
    """
    now = refresh(ctx)
    with ctx.store.snapshot():
        totals = status_queries.totals(ctx.store, now)
        if totals["retired"]:
            ctx.report(f"{ctx.store.location} is retired: its successor is {ctx.store.meta.successor()}")
        counts = ctx.store.hosts.counts()
        held = status_queries.reservations(ctx.store, "reservations", now, SHOWN)
        leases = status_queries.reservations(ctx.store, "leases", now, SHOWN) if totals["leases"] else []
        expired = status_queries.reservations(ctx.store, "expired", now, SHOWN) if totals["expired"] else []
        hosts = status_queries.held(ctx.store, {each.id: each for each in (*held, *leases)})
        endings = [*_leases(leases, hosts), *_maintenance(status_queries.hosts(ctx.store, "coming_back", SHOWN))]
        marked = {
            which: status_queries.names(ctx.store, which, SHOWN) if totals[which] else ()
            for which in ("cordoned", "undeclared", "faults")
        }
        set_aside, waiting, limited = _queue(ctx) if totals["tickets"] else (0, 0, ())
        return Status(
            inventory=ctx.store.location,
            counts=counts,
            # Hosts that are set aside for tickets are not free.
            free=max(0, counts[State.AVAILABLE] - totals["kept_back"] - set_aside),
            cordoned=marked["cordoned"],
            undeclared=marked["undeclared"],
            faults=marked["faults"],
            held=tuple(Held(each, tuple(hosts[each.id])) for each in held),
            expired=tuple(each.id for each in expired),
            endings=tuple(sorted(endings, key=lambda ending: ending.at)[:SHOWN]),
            now=now,
            waiting=waiting,
            limited=limited,
            totals={
                "held": totals["reservations"],
                "endings": totals["leases"] + totals["maintenance"],
                "planned": totals["bookings"] + totals["maintenances"],
                **{which: totals[which] for which in _COUNTED},
            },
            obstacles=_obstacles(ctx, totals, counts),
            planned=_planned(ctx) if totals["bookings"] or totals["maintenances"] else (),
        )


def _obstacles(ctx: Context, totals: Mapping[str, int], counts: Mapping[State, int]) -> tuple[Obstacle, ...]:
    """Return why hosts are not free; hosts with the same reason are one entry."""
    found: dict[tuple[str, str, str | None], list[str]] = {}
    for host in status_queries.hosts(ctx.store, "faults", SHOWN) if totals["faults"] else ():
        found.setdefault(("fault", host.fault or "", None), []).append(host.name)
    for host in status_queries.hosts(ctx.store, "in_maintenance", SHOWN) if counts[State.MAINTENANCE] else ():
        reason = "; ".join(note.reason for note in host.maintenance)
        found.setdefault(("maintenance", reason, None), []).append(host.name)
    for host in status_queries.hosts(ctx.store, "cordoned", SHOWN) if totals["cordoned"] else ():
        if host.cordon is not None:
            found.setdefault(("cordoned", host.cordon.reason, host.cordon.flag), []).append(host.name)
    may_fail = counts[State.INITIAL] or counts[State.TAINTED]
    failed = ctx.store.step_results.failed() if may_fail else {}
    failed = failed and ctx.store.policy().declared_by_host(failed)
    for host in status_queries.hosts_with_failed_steps(ctx.store, failed, SHOWN):
        reason = "; ".join(result.failure for result in failed[host.id])
        found.setdefault(("failed", reason, None), []).append(host.name)
    return tuple(Obstacle(kind, reason, tuple(names), flag) for (kind, reason, flag), names in found.items())


def _queue(ctx: Context) -> tuple[int, int, tuple[str, ...]]:
    """Return how many free hosts are set aside for tickets, how many tickets wait, and which wait for a limit."""
    from bmhctl.usecases.reservations.fairness import hosts_for_tickets, waiting_tickets
    from bmhctl.usecases.reservations.limits import waits_for

    waiting, limits = waiting_tickets(ctx), ctx.store.policy().limits
    found = ((each.id, waits_for(ctx, each, limits)) for each in waiting)
    words = [f"ticket {ticket} waits for {limit}" for ticket, limit in found if limit is not None]
    return len(hosts_for_tickets(ctx, limits)), len(waiting), tuple(words)


def _planned(ctx: Context) -> tuple[Booked, ...]:
    from bmhctl.usecases.reservations.bookings import with_host_names

    return with_host_names(ctx, ctx.store.bookings.next(SHOWN))


def _leases(leases: Iterable[Reservation], hosts: Mapping[str, Sequence[Host]]) -> Iterable[Ending]:
    for lease in leases:
        if lease.expires_at is not None:
            names = tuple(host.name for host in hosts[lease.id])
            yield Ending(lease.expires_at, f"lease {lease.id} of {lease.owner}", names)


def _maintenance(hosts: Iterable[Host]) -> Iterable[Ending]:
    for host in hosts:
        ends = [(mark.until, mark.reason) for mark in host.maintenance if mark.until is not None]
        for end, reason in sorted(ends)[-1:]:
            yield Ending(end, f"maintenance: {reason}", (host.name,))
