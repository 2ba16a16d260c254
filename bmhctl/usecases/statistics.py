"""How well the fleet is used, how long requests wait, which hosts fail: figures from the history."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TypeVar

from bmhctl.domain.booking import CANCELLED, LAPSED
from bmhctl.domain.model import EventKind, State, Verb
from bmhctl.domain.times import check_period
from bmhctl.errors import UsageError
from bmhctl.results.statistics import BookingFigures, Figures, HourlyUse, Statistics, Waits
from bmhctl.stores import statistics_queries as queries
from bmhctl.stores.rows import from_json, to_moment
from bmhctl.stores.statistics_queries import HOUR, Flow, Window
from bmhctl.support.folding import natural
from bmhctl.support.values import replace
from bmhctl.usecases.shared.context import Context
from bmhctl.usecases.shared.refresh import refresh

SORT_KEYS: Mapping[str, Callable[[Figures], float | None]] = {
    "utilisation": lambda each: each.utilisation,
    "hours": lambda each: each.seconds.get(State.RESERVED, 0.0),
    "reservations": lambda each: each.reservations,
    "waits": lambda each: each.waits.longest.total_seconds() if each.waits else None,
    "checks": lambda each: each.failed_checks,
    "cleanups": lambda each: each.failed_cleanups,
    "faults": lambda each: each.faults,
    "tasks": lambda each: each.failed_tasks,
    "failures": lambda each: each.failures,
    "repair": lambda each: each.mean_repair.total_seconds() if each.mean_repair else None,
}
"""The keys by which groups can be sorted, besides the name; the largest comes first."""

_Key = TypeVar("_Key")
_WEEK = timedelta(weeks=1)

GROUPS = ("host", "owner", "label:KEY", "tag:KEY", "hour")
"""The keys by which figures can be grouped."""


def statistics(
    ctx: Context, since: datetime, until: datetime | None = None, by: str | None = None, sort: str | None = None
) -> Statistics:
    """Return the figures of the fleet from ``since`` to ``until`` (default: now), and those of each group.

    ``by`` is one of :data:`GROUPS` except ``hour``; any other word is the key of a label. ``sort`` is ``name`` or one
    of :data:`SORT_KEYS`, with ``-`` before it for the reverse; by default, hosts are sorted by failed tasks, and other
    groups by name. Raises :class:`UsageError` for an impossible window and unknown keys.
    """
    if by is not None and ":" not in by and by not in GROUPS:
        by = f"label:{by}"
    grouping = None if by is None else _grouping(by)
    ordered = _order(sort or ("tasks" if by == "host" else "name"))
    now = refresh(ctx)
    until = _checked(since, until, now)
    with ctx.store.snapshot():
        window = queries.window(ctx.store, since, until)
        total = _Sums()
        per_host = _per_host(ctx, window)
        for sums in per_host.values():
            total.add(sums)
        total.waits = Counter()
        for _, seconds, number in queries.waits(ctx.store, window):
            total.waits[seconds] += number
        total.bookings = _sum_up(_bookings(ctx, window).values())
        groups = {} if grouping is None else grouping(ctx, window, per_host)
    figures = [sums.figures(name) for name, sums in groups.items()]
    key = None if sort is None else sort.removeprefix("-")
    return Statistics(since, until, now, by, tuple(ordered(figures)), total.figures("all"), key)


def hourly_use(ctx: Context, since: datetime, until: datetime | None = None) -> HourlyUse:
    """Return the share of the fleet that was reserved in each hour of the week, in the local zone.

    The window and the errors are those of :func:`statistics`.
    """
    now = refresh(ctx)
    until = _checked(since, until, now)
    since = full_hour(since)
    return HourlyUse(since, until, now, summed(use_by_hour(ctx, since, until), hour_of_week))


def full_hour(at: datetime) -> datetime:
    """Return the beginning of the local hour of a time; in some zones, hours begin at half past."""
    return at.astimezone().replace(minute=0, second=0, microsecond=0)


def summed(
    hours: Iterable[tuple[datetime, float, float]], key: Callable[[datetime], _Key]
) -> dict[_Key, tuple[float, float]]:
    """Return the sums of what :func:`use_by_hour` yields, by the ``key`` of the hour."""
    sums: dict[_Key, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for at, reserved, present in hours:
        before = sums[key(at)]
        sums[key(at)] = (before[0] + reserved, before[1] + present)
    return dict(sums)


def hour_of_week(at: datetime) -> tuple[int, int]:
    """Return the weekday (0 is Monday) and the hour of a time."""
    return at.weekday(), at.hour


def use_by_hour(ctx: Context, since: datetime, until: datetime) -> Iterator[tuple[datetime, float, float]]:
    """Yield the local time of each hour, and the seconds for which hosts were reserved and in the inventory in it."""
    with ctx.store.snapshot():
        window = queries.window(ctx.store, since, until)
        changes = {hour: sums for hour, *sums in queries.hourly(ctx.store, window)}
        states = Counter(state for _, _, state in queries.hosts(ctx.store))
    reserved = states[State.RESERVED.value] - sum(change[0] for change in changes.values())
    present = sum(states.values()) - sum(change[2] for change in changes.values())
    for hour in range(-(-window.length // HOUR)):
        length = min(HOUR, window.length - hour * HOUR)
        more_reserved, reserved_at, more_present, present_at = changes.get(hour, (0, 0, 0, 0))
        yield (
            (since.astimezone(UTC) + timedelta(hours=hour)).astimezone(),
            ((reserved + more_reserved) * length - reserved_at) / 1000,
            ((present + more_present) * length - present_at) / 1000,
        )
        reserved += more_reserved
        present += more_present


def _checked(since: datetime, until: datetime | None, now: datetime) -> datetime:
    """Return the end of a window in the past; raise :class:`UsageError` for an impossible window."""
    if since >= now:
        raise UsageError("--since is not in the past", hint="write a duration such as 30d, or a time in the past")
    check_period(since, until)
    return now if until is None else min(until, now)


class _Sums:
    """The sums for one host or one group; times are in milliseconds."""

    def __init__(self) -> None:
        self.hosts: int | None = 0
        self.name = ""
        self.spent: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.waits: Counter[float | None] | None = None
        self.bookings: BookingFigures | None = None

    def add(self, other: _Sums) -> None:
        """Add the sums of one more host."""
        self.hosts = (self.hosts or 0) + 1
        self.spent.update(other.spent)
        self.events.update(other.events)

    def count(self, flow: Flow) -> None:
        """Add the events of one host."""
        if flow.source != flow.dest:
            if flow.source is not None:
                self.spent[flow.source] += flow.moments
            if flow.dest is not None:
                self.spent[flow.dest] -= flow.moments
        self.events[_EVENTS.get((flow.verb, flow.source == State.TAINTED), flow.verb)] += flow.number
        self.events["failed-task"] += flow.failed_tasks

    def figures(self, name: str) -> Figures:
        """Return the sums as figures."""
        seconds = {state: max(0, self.spent[state.value]) / 1000 for state in State if self.spent[state.value] > 0}
        waits = _waits(self.waits) if self.waits is not None else None
        made = sum(self.waits.values()) if self.waits is not None else self.events[Verb.RESERVE]
        found = Figures(name, self.hosts, seconds, made, self.events["failed-task"], waits, bookings=self.bookings)
        if self.hosts is None:
            return found
        failures = self.events[Verb.MAINTAIN]
        repairing = seconds.get(State.MAINTENANCE, 0.0)
        return replace(
            found,
            failed_checks=self.events["failed-check"],
            failed_cleanups=self.events["failed-cleanup"],
            faults=self.events[EventKind.FAULT],
            failures=failures,
            mean_between_failures=_mean(sum(seconds.values()) - repairing, failures),
            mean_repair=_mean(repairing, failures),
        )


_EVENTS = {(EventKind.STEP_FAILED.value, True): "failed-cleanup", (EventKind.STEP_FAILED.value, False): "failed-check"}
"""How failed steps are counted: as cleanups if the host was tainted, else as checks."""


def _bookings(ctx: Context, window: Window) -> dict[str, BookingFigures]:
    """Return, by owner, how many bookings were made, taken, lapsed and cancelled in the window, and their time."""
    since, until = to_moment(window.since), to_moment(window.until)
    found: dict[str, list[BookingFigures]] = defaultdict(list)
    known = [each for each in ctx.store.bookings.within(since, until) if not each.is_maintenance]
    used = queries.used_of_bookings(ctx.store, window) if any(each.reservation for each in known) else {}
    for each in known:
        ended = each.ended_at is not None and since <= each.ended_at < until
        # A booking that was not taken kept its hosts until it ended; an open one still keeps them.
        last = each.ends_at if each.reservation else min(each.ends_at, each.ended_at or until)
        span = min(last, until) - max(each.starts_at, since)
        found[each.owner].append(
            BookingFigures(
                made=int(since <= each.created_at < until),
                taken=int(ended and each.reservation is not None),
                lapsed=int(ended and each.ended_as(LAPSED)),
                cancelled=int(ended and each.ended_as(CANCELLED)),
                booked=max(0.0, span.total_seconds()) * len(each.hosts),
                used=used.get(each.id, 0) / 1_000_000,
            )
        )
    return {owner: _sum_up(each) for owner, each in found.items()}


def _sum_up(found: Iterable[BookingFigures]) -> BookingFigures:
    each = list(found)
    return BookingFigures(*(sum(getattr(one, name) for one in each) for name in BookingFigures.__match_args__))


def _mean(seconds: float, number: int) -> timedelta | None:
    return timedelta(seconds=seconds / number) if number else None


def waits_by_week(ctx: Context, since: datetime, until: datetime) -> Iterator[tuple[datetime, int, Waits | None]]:
    """Yield for each week between two times its start, how many reservations were made in it, and their waits.

    Weeks are counted from ``since``; the last one may be shorter.
    """
    found: dict[str | None, Counter[float | None]] = defaultdict(Counter)
    with ctx.store.snapshot():
        window = queries.window(ctx.store, since, until)
        for week, seconds, number in queries.waits(ctx.store, window, window.week):
            found[week][seconds] += number
    for number in range(-((since - until) // _WEEK)):
        made = found[str(number)]
        yield since + number * _WEEK, made.total(), _waits(made)


def _waits(found: Counter[float | None]) -> Waits | None:
    """Return the number, median, 95th percentile and maximum of the known waits; None if no wait is known.

    ``found`` counts reservations by the seconds for which they were waited (None: not known).
    """
    known = sorted((seconds, number) for seconds, number in found.items() if seconds is not None)
    count = sum(number for _, number in known)
    if not count:
        return None

    ranks = [*accumulate(number for _, number in known)]

    def at(share: float) -> timedelta:
        nearest = max(1, -(-count * share // 1))
        return timedelta(seconds=known[bisect_left(ranks, nearest)][0])

    return Waits(count, at(0.5), at(0.95), at(1.0))


def _per_host(ctx: Context, window: Window) -> dict[int, _Sums]:
    """Return, by host id, the sums of each host that was in the inventory during the window.

    A host that was added and removed in the window is left out if nothing else happened to it: it was a mistake.
    """
    found: dict[int, _Sums] = defaultdict(_Sums)
    for flow in queries.flows(ctx.store, window):
        sums = found[flow.host_id]
        sums.name = f"{flow.host} (removed)"
        sums.count(flow)
    for identifier, name, state in queries.hosts(ctx.store):
        sums = found[identifier]
        sums.name = name
        sums.spent[state] += window.length
    return {host: sums for host, sums in found.items() if sums.events.total() or any(sums.spent.values())}


_Grouping = Callable[[Context, Window, Mapping[int, _Sums]], dict[str, _Sums]]


def _grouping(by: str) -> _Grouping:
    kind, colon, key = by.partition(":")
    match kind, bool(colon), bool(key):
        case "host", False, _:
            return lambda _, __, per_host: _grouped(per_host, lambda host: per_host[host].name)
        case "owner", False, _:
            return _by_owner
        case "label", True, True:
            return lambda ctx, _, per_host: _by_label(ctx, per_host, key)
        case "tag", True, True:
            return lambda ctx, window, _: _by_tag(ctx, window, key)
    raise UsageError(f"can't group by {by!r}", hint=f"by {', '.join(GROUPS)}", details={"by": by, "known": [*GROUPS]})


def _grouped(per_host: Mapping[int, _Sums], name_of: Callable[[int], str]) -> dict[str, _Sums]:
    groups: dict[str, _Sums] = defaultdict(_Sums)
    for host, sums in per_host.items():
        groups[name_of(host)].add(sums)
    return groups


def _by_owner(ctx: Context, window: Window, _: Mapping[int, _Sums]) -> dict[str, _Sums]:
    groups = defaultdict(_of_reservations, _by_reservation(ctx, window, "owner", lambda owner: owner or ""))
    booked = _bookings(ctx, window)
    for owner in {*groups, *booked}:
        groups[owner].bookings = booked.get(owner, BookingFigures())
    return groups


def _by_label(ctx: Context, per_host: Mapping[int, _Sums], key: str) -> dict[str, _Sums]:
    values = queries.attribute(ctx.store, key)
    if not values:
        tag = f"bmhctl stats --by tag:{key} groups by the tag of this name" if queries.is_tag(ctx.store, key) else ""
        hint = tag or f"by {', '.join(GROUPS)}; bmhctl list --fields name,labels,hardware shows the keys"
        raise UsageError(f"no host has a label or property {key!r}", hint=hint)
    return _grouped(per_host, lambda host: values.get(host, NONE))


NONE = "(none)"
"""The name of the group of hosts or reservations without the label or tag."""


def _by_reservation(
    ctx: Context, window: Window, column: str, group_of: Callable[[str | None], str]
) -> dict[str, _Sums]:
    groups: dict[str, _Sums] = defaultdict(_of_reservations)
    for key, moments, failed in queries.holdings(ctx.store, window, column):
        sums = groups[group_of(key)]
        sums.spent[State.RESERVED.value] += moments
        sums.events["failed-task"] += failed
    for key, seconds, number in queries.waits(ctx.store, window, column):
        waits = groups[group_of(key)].waits
        if waits is not None:
            waits[seconds] += number
    return {name: sums for name, sums in groups.items() if sums.spent.total() or (sums.waits or Counter()).total()}


def _by_tag(ctx: Context, window: Window, key: str) -> dict[str, _Sums]:
    groups = _by_reservation(ctx, window, "tags", lambda tags: str(from_json(tags).get(key, NONE)) if tags else NONE)
    if groups.keys() <= {NONE} and not queries.is_tag(ctx.store, key):
        raise UsageError(f"no reservation ever had a tag {key!r}", hint="bmhctl reservations --ended --fields id,tags")
    return groups


def _of_reservations() -> _Sums:
    sums = _Sums()
    sums.hosts, sums.waits = None, Counter()
    return sums


def _order(sort: str) -> Callable[[Iterable[Figures]], list[Figures]]:
    """Return a function that sorts groups; those without the figure come last, as does the group without a name."""
    key = sort.removeprefix("-")
    if key != "name" and key not in SORT_KEYS:
        known = ("name", *SORT_KEYS)
        raise UsageError(f"can't sort by {sort!r}", hint=f"by {', '.join(known)}", details={"known": [*known]})
    is_turned = sort.startswith("-")

    def ordered(groups: Iterable[Figures]) -> list[Figures]:
        by_name = sorted(groups, key=lambda each: natural(each.name), reverse=is_turned and key == "name")
        if key == "name":
            return sorted(by_name, key=lambda each: each.name == NONE)
        figure, sign = SORT_KEYS[key], 1 if is_turned else -1
        return sorted(by_name, key=lambda each: ((number := figure(each)) is None, sign * (number or 0)))

    return ordered
