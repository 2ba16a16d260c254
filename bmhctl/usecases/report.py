"""Read everything that a report of the fleet shows, in one pass."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import dropwhile

from bmhctl.results.statistics import DayUse, HourlyUse, PastEvent, Report, WeekWaits
from bmhctl.stores import statistics_queries as queries
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.rows import to_moment
from bmhctl.usecases.overviews import reasons
from bmhctl.usecases.reservations.queue import queue
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.statistics import full_hour, hour_of_week, statistics, summed, use_by_hour, waits_by_week
from bmhctl.usecases.status import status
from bmhctl.usecases.timeline import timeline

SHOWN_EVENTS = 10
"""The most events that a report shows for a host."""

_TIMELINE = timedelta(days=1)


def report(ctx: Context, since: datetime) -> Report:
    """Return what a report shows about the time since ``since``: the fleet now, its use, its waits, and each host.

    Raises :class:`UsageError` for a time that is not in the past.
    """
    figures = statistics(ctx, since, by="host", sort="failures")
    with ctx.store.snapshot():
        hosts = tuple(ctx.store.hosts.find(HostQuery()))
        names = {host.id: host.name for host in hosts}
        events: dict[str, list[PastEvent]] = defaultdict(list)
        for host_id, at, actor, verb, reason in queries.latest(ctx.store, SHOWN_EVENTS):
            name = names.get(int(host_id or 0))
            if name is not None:
                events[name].append(
                    PastEvent(to_moment(at), str(actor), str(verb), None if reason is None else str(reason))
                )
    hours = list(dropwhile(lambda hour: not hour[2], use_by_hour(ctx, full_hour(since), figures.now)))
    begun = max(since, hours[0][0]) if hours else figures.now  # not before the inventory had its first host
    return Report(
        status=status(ctx),
        reasons=reasons(ctx),
        statistics=figures,
        timeline=timeline(ctx, Choice(), max(since, figures.now - _TIMELINE)),
        hourly=HourlyUse(since, figures.now, figures.now, summed(hours, hour_of_week)),
        days=tuple(DayUse(day, *sums) for day, sums in sorted(summed(hours, datetime.date).items())),
        weeks=tuple(WeekWaits(*week) for week in waits_by_week(ctx, begun, figures.now)),
        queue=queue(ctx),
        hosts=hosts,
        events={name: tuple(found) for name, found in events.items()},
    )
