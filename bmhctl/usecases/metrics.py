"""The values for a monitoring system: gauges of the present fleet, and counters that never decrease."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

from bmhctl.domain.model import EventKind, State
from bmhctl.errors import BmhctlError
from bmhctl.results.statistics import Metrics
from bmhctl.stores import statistics_queries as queries
from bmhctl.stores.host_query import HostQuery
from bmhctl.stores.schema import CLOCK_SLACK
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.status import status

BOUNDS = (1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 43200.0)
"""The bounds of the histogram of waits, in seconds."""

_KEY = "metrics"
_NO_END = 2**63 - 1  # the largest id
_SETTLED = CLOCK_SLACK + timedelta(minutes=4)  # older transactions, which could add older events, have ended


class _Counts:
    """The counts up to an event; they are kept in the inventory, so that each event is read only once."""

    def __init__(self, text: str | None) -> None:
        known = json.loads(text) if text else {}
        self.last = int(known.get("last", 0))
        self.events: Counter[str] = Counter(known.get("events", {}))
        self.failures: Counter[str] = Counter(known.get("failures", {}))
        self.waits: Counter[str] = Counter(known.get("waits", {}))
        self.waited = float(known.get("waited", 0.0))

    def to_text(self) -> str:
        """Return the counts as a text for :meth:`__init__`."""
        return json.dumps(vars(self) | {"waited": round(self.waited, 1)})

    def count(self, ctx: Context, last: int) -> None:
        """Count the events after the last counted one, up to the id ``last``."""
        for verb, source, number, failed_tasks in queries.counted(ctx.store, self.last, last):
            self.events[verb] += number
            self.failures["task"] += failed_tasks
            if verb == EventKind.STEP_FAILED:
                self.failures["cleanup" if source == State.TAINTED else "check"] += number
            elif verb == EventKind.FAULT:
                self.failures["fault"] += number
        for seconds, number in queries.waits_between(ctx.store, self.last, last):
            self.waits[next((f"{bound:g}" for bound in BOUNDS if seconds <= bound), "more")] += number
            self.waited += seconds * number
        self.last = last


def metrics(ctx: Context, *, per_host: bool = False) -> Metrics:
    """Return the metrics of an inventory; with ``per_host`` also those of each host.

    Counts that can't change any more are kept in the inventory. For a user who may not write, each call counts again.
    """
    seen = status(ctx)
    with ctx.store.snapshot():
        tickets = ctx.store.tickets.all()
        counts = _Counts(ctx.store.meta.get(_KEY))
        last = queries.settled(ctx.store, counts.last, seen.now - _SETTLED)
        is_new = last > counts.last
        if is_new:
            counts.count(ctx, last)
        kept = counts.to_text()
        counts.count(ctx, _NO_END)
        hosts = tuple(ctx.store.hosts.find(HostQuery())) if per_host else ()
    if is_new:
        _keep(ctx, kept, last)
    total, waits = 0, dict[float | None, int]()
    for bound in BOUNDS:
        total += counts.waits[f"{bound:g}"]
        waits[bound] = total
    waits[None] = counts.waits.total()
    oldest = min((ticket.created_at for ticket in tickets), default=None)
    return Metrics(
        seen,
        None if oldest is None else max(0.0, (seen.now - oldest).total_seconds()),
        dict(sorted(counts.events.items())),
        {kind: counts.failures[kind] for kind in ("check", "cleanup", "fault", "task")},
        waits,
        counts.waited,
        hosts,
    )


def _keep(ctx: Context, text: str, last: int) -> None:
    """Save the counts, unless another process has counted further, or this user may not write."""
    try:
        with ctx.store.transaction():
            if _Counts(ctx.store.meta.get(_KEY)).last < last:
                ctx.store.meta.put(_KEY, text)
    except BmhctlError:  # a viewer, a read-only file or a lock: the result is right even if it is not saved
        return
