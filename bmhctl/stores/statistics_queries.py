"""The queries of ``stats``: each sums up the events of a window in one pass, however many there are.

The time that a host spent in a state is the sum of the times at which it left the state, minus the sum of the times at
which it entered the state, plus the window's end if it is in the state now. So events need no sorting, and none before
the window are read. Times are milliseconds since the window's beginning; what began earlier counts as begun at 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from bmhctl.domain.model import End
from bmhctl.stores.rows import EPOCH, MICROSECOND, Row, Value, to_json, to_text
from bmhctl.stores.store import Store

HOUR = 3_600_000
"""The milliseconds of an hour."""


class Window(NamedTuple):
    """A span of the history: its first event, and both ends in microseconds since 1970 in UTC."""

    first: int
    since: int
    until: int

    @property
    def length(self) -> int:
        """Return the length of the window in milliseconds."""
        return (self.until - self.since) // 1000

    @property
    def moment(self) -> str:
        """Return the SQL for the time of an event ``e``: milliseconds since the window began, limited to the window."""
        return (
            f"CASE WHEN e.at <= {self.since} THEN 0 WHEN e.at >= {self.until} THEN {self.length}"
            f" ELSE (e.at - {self.since}) / 1000 END"
        )

    @property
    def week(self) -> str:
        """Return the SQL for the number of the week, from 0, in which a reservation was made."""
        return f"(created_at - {self.since}) / {7 * 24 * HOUR * 1000}"

    @property
    def inside(self) -> str:
        """Return the SQL for whether an event ``e`` was within the window."""
        return f"e.at >= {self.since} AND e.at < {self.until}"


class Flow(NamedTuple):
    """The events of one kind on one host, summed up.

    ``number`` is how many events there were. ``failed_tasks`` is how many of them gave the host back after a task that
    failed. ``moments`` is the sum of their times, in milliseconds since the window's beginning.
    """

    host_id: int
    host: str
    verb: str
    source: str | None
    dest: str | None
    number: int
    failed_tasks: int
    moments: int


_OF_FAILED_TASK = "e.verb = 'taint' AND e.reason LIKE ?"
_FAILED_TASK = "task failed%"

# The event ``e`` of a handover names only the new reservation; the host's previous event names the old one.
_HANDED_OVER = (
    "(SELECT p.reservation FROM events p WHERE p.host_id = e.host_id AND p.id < e.id AND p.reservation IS NOT NULL"
    " ORDER BY p.id DESC LIMIT 1)"
)


def window(store: Store, since: datetime, until: datetime) -> Window:
    """Return the span between two times; its first event is found by bisection, as ids grow with time."""
    start, end = ((moment - EPOCH) // MICROSECOND for moment in (since, until))
    [(low, high)] = store.database.execute("SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) + 1 FROM events")
    first, past = int(low or 1), int(high or 1)
    while first < past:
        middle = (first + past) // 2
        rows = store.database.execute("SELECT id, at FROM events WHERE id >= ? ORDER BY id LIMIT 1", [middle])
        if rows and int(rows[0][1] or 0) < start:
            first = int(rows[0][0] or 0) + 1
        else:
            past = middle
    return Window(first, start, max(start, end))


def _counted(store: Store, window: Window) -> str:
    """Return the SQL for the events ``e`` to sum up: from the window's first on, without those of hosts that were added
    by mistake.

    A host is mistaken if it was added as initial and removed within the window, and nothing else happened to it in the
    window.
    """
    inside = window.inside.replace("e.", "o.")
    used = "COALESCE(o.source, 'initial') <> 'initial' OR COALESCE(o.dest, 'initial') <> 'initial'"
    of_host = f"SELECT 1 FROM events o WHERE o.host_id = e.host_id AND o.id >= {window.first}"
    # The plus signs make SQLite read the index of the few events that keep a declaration, and not all of the window.
    mistaken = (
        f"SELECT e.host_id FROM events e WHERE e.before IS NOT NULL AND +e.id >= {window.first}"
        f" AND {window.inside.replace('e.', '+e.')} AND e.verb = 'remove' AND e.source = 'initial'"
        f" AND e.host_id NOT IN (SELECT id FROM hosts) AND EXISTS ({of_host} AND o.verb = 'enter' AND {inside})"
        f" AND NOT EXISTS ({of_host} AND ({inside} AND o.verb NOT IN ('enter', 'remove') OR {used}))"
    )
    is_any = store.database.execute(f"{mistaken} LIMIT 1")
    return f"e.id >= {window.first}" + (f" AND e.host_id NOT IN ({mistaken})" if is_any else "")


def flows(store: Store, window: Window) -> Iterator[Flow]:
    """Yield the events of each host, summed up by verb, source and destination."""
    sql = (
        f"SELECT e.host_id, MAX(e.host), e.verb, e.source, e.dest, SUM(CASE WHEN {window.inside} THEN 1 ELSE 0 END),"
        f" SUM(CASE WHEN {window.inside} AND {_OF_FAILED_TASK} THEN 1 ELSE 0 END), SUM({window.moment})"
        f" FROM events e WHERE {_counted(store, window)} GROUP BY e.host_id, e.verb, e.source, e.dest"
    )
    for host_id, host, verb, source, dest, number, failed, moments in store.database.stream(sql, [_FAILED_TASK]):
        yield Flow(
            _number(host_id),
            str(host),
            str(verb),
            to_text(source),
            to_text(dest),
            _number(number),
            _number(failed),
            _number(moments),
        )


class Move(NamedTuple):
    """A host's change to another state or holder; ``at`` is in microseconds since 1970 in UTC.

    ``owner`` is who held the host from then on.
    """

    host_id: int
    at: int
    source: str | None
    dest: str | None
    owner: str | None


def moves(store: Store, window: Window) -> Iterator[Move]:
    """Yield each change of a host's state or holder from the window's first event on; by host, the oldest first."""
    sql = (
        "SELECT e.host_id, e.at, e.source, e.dest, r.owner FROM events e"
        " LEFT JOIN reservations r ON r.id = e.reservation"
        " WHERE e.id >= ? AND (e.source IS NULL OR e.dest IS NULL OR e.source <> e.dest OR e.verb = 'handover')"
        " ORDER BY e.host_id, e.id"
    )
    for host_id, at, source, dest, owner in store.database.stream(sql, [window.first]):
        yield Move(_number(host_id), _number(at), to_text(source), to_text(dest), to_text(owner))


def hosts(store: Store) -> Iterator[tuple[int, str, str]]:
    """Yield each host's id, name and state."""
    for identifier, name, state in store.database.stream("SELECT id, name, state FROM hosts"):
        yield _number(identifier), str(name), str(state)


def attribute(store: Store, key: str) -> dict[int, str]:
    """Return the value of a label or hardware property for each host that has it."""
    rows = store.database.stream("SELECT host_id, value FROM facts WHERE key = ?", [key])
    return {_number(host_id): str(value) for host_id, value in rows}


def is_tag(store: Store, key: str) -> bool:
    """Return whether any reservation, open or ended, has a tag with this key."""
    written = to_json({key: ""})[1:-3].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    sql = "SELECT 1 FROM reservations WHERE tags LIKE ? ESCAPE '\\' LIMIT 1"
    return bool(store.database.execute(sql, [f"%{written}%"]))


def holdings(store: Store, window: Window, by: str) -> Iterator[tuple[str | None, int, int]]:
    """Yield how long each owner, or each set of tags, held hosts: the key, the time, how many of its tasks failed.

    ``by`` is the column of reservations to group by. The time is a sum as the module's docstring explains, in
    milliseconds; one key may have several.
    """
    sql = (
        f"SELECT r.{by}, SUM(CASE WHEN e.source = 'reserved' THEN {window.moment} ELSE 0 END)"
        f" - SUM(CASE WHEN e.dest = 'reserved' THEN {window.moment} ELSE 0 END),"
        f" SUM(CASE WHEN {window.inside} AND {_OF_FAILED_TASK} THEN 1 ELSE 0 END)"
        " FROM events e JOIN reservations r ON r.id = e.reservation"
        " WHERE e.id >= ? AND (e.source = 'reserved' OR e.dest = 'reserved') AND e.verb <> 'handover'"
        f" GROUP BY r.{by}"
    )
    for key, moments, failed in store.database.stream(sql, [_FAILED_TASK, window.first]):
        yield to_text(key), _number(moments), _number(failed)
    sql = (
        f"SELECT old.{by}, new.{by}, SUM({window.moment}) FROM events e"
        f" JOIN reservations new ON new.id = e.reservation LEFT JOIN reservations old ON old.id = {_HANDED_OVER}"
        f" WHERE e.id >= ? AND e.verb = 'handover' AND e.source = 'reserved' GROUP BY old.{by}, new.{by}"
    )
    for old, new, moments in store.database.stream(sql, [window.first]):
        yield to_text(old), _number(moments), 0
        yield to_text(new), -_number(moments), 0
    sql = (
        f"SELECT r.{by}, COUNT(*) FROM hosts h JOIN reservations r ON r.id = h.reservation"
        f" WHERE h.state = 'reserved' GROUP BY r.{by}"
    )
    for key, number in store.database.stream(sql):
        yield to_text(key), _number(number) * window.length, 0


def waits(store: Store, window: Window, by: str = "NULL") -> Iterator[tuple[str | None, float | None, int]]:
    """Yield each length of wait of the reservations made within the window: the key, the wait, how many waited so long.

    The wait is in seconds, rounded to tenths; None where it is not known. The key is the value of ``by``, an SQL
    expression over reservations.
    """
    sql = (
        f"SELECT {by}, CASE WHEN asked_at IS NULL THEN NULL WHEN asked_at >= created_at THEN 0"
        " ELSE (created_at - asked_at + 50000) / 100000 END, COUNT(*)"
        " FROM reservations WHERE created_at >= ? AND created_at < ? GROUP BY 1, 2"
    )
    for key, tenths, number in store.database.stream(sql, [window.since, window.until]):
        yield to_text(key), None if tenths is None else _number(tenths) / 10, _number(number)


def used_of_bookings(store: Store, window: Window) -> dict[str, int]:
    """Return how long the hosts of each taken booking were reserved, within the booking's time and the window.

    The result is in microseconds, summed over the hosts, by the booking's id. If the reservation was handed over, the
    new reservation counts too.
    """
    starts = f"(CASE WHEN b.starts_at > {window.since} THEN b.starts_at ELSE {window.since} END)"
    ends = f"(CASE WHEN b.ends_at < {window.until} THEN b.ends_at ELSE {window.until} END)"
    moment = f"CASE WHEN x.at <= {starts} THEN 0 WHEN x.at >= {ends} THEN {ends} - {starts} ELSE x.at - {starts} END"
    inside = f"b.starts_at < {window.until} AND b.ends_at > {window.since}"
    moved = (
        f"SELECT b.id, SUM(CASE WHEN x.source = 'reserved' THEN {moment} ELSE 0 END)"
        f" - SUM(CASE WHEN x.dest = 'reserved' THEN {moment} ELSE 0 END) FROM events x JOIN bookings b"
        f" ON x.id >= {window.first} AND (x.source = 'reserved' OR x.dest = 'reserved') AND x.verb <> 'handover'"
    )
    held = f"SELECT b.id, SUM({ends} - {starts}) FROM hosts x JOIN bookings b ON x.state = 'reserved'"
    own: tuple[str, list[Value]] = (f"{inside} AND x.reservation = b.reservation", [])
    later = (("b.id = ? AND x.reservation = ?", each) for each in _handed_over(store, inside))
    used: dict[str, int] = defaultdict(int)
    for condition, values in (own, *later):
        for select in (moved, held):
            for booking, length in store.database.execute(f"{select} AND {condition} GROUP BY b.id", values):
                used[str(booking)] += _number(length)
    return used


def _handed_over(store: Store, inside: str) -> Iterator[list[Value]]:
    """Yield the id of a booking with the id of each reservation to which the booking's own was handed over."""
    known = store.database.execute(
        "SELECT b.id, r.id, r.ended_at FROM bookings b JOIN reservations r ON r.id = b.reservation"
        f" WHERE {inside} AND r.ended_how = '{End.HANDED_OVER}'"
    )
    for booking, reservation, ended_at in known:
        while ended_at is not None:
            rows = store.database.execute(
                "SELECT r.id, CASE WHEN r.ended_how = ? THEN r.ended_at END"
                " FROM events e JOIN reservations r ON r.id = e.reservation WHERE e.at = ? AND e.verb = 'handover'"
                f" AND {_HANDED_OVER} = ? LIMIT 1",
                [End.HANDED_OVER.value, ended_at, reservation],
            )
            if not rows:
                break
            [(reservation, ended_at)] = rows
            yield [booking, reservation]


def latest(store: Store, most: int) -> Iterator[Row]:
    """Yield the latest events of each host in the inventory, at most ``most`` for each host; by host, the oldest first.

    A row has the host's id, then the event's time in microseconds since 1970 in UTC, its actor, verb and reason.
    """
    return store.database.stream(
        "SELECT host_id, at, actor, verb, reason FROM (SELECT e.*, ROW_NUMBER() OVER"
        " (PARTITION BY host_id ORDER BY id DESC) AS place FROM events e) AS ranked"
        f" WHERE place <= {int(most)} AND host_id IN (SELECT id FROM hosts) ORDER BY host_id, id"
    )


def hourly(store: Store, window: Window) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield a row of five numbers for each hour of the window in which hosts changed their state.

    The first is the number of the hour. The second is the change in the number of reserved hosts, and the third the sum
    of the times of these changes, in milliseconds since the hour began. The last two are the same for the number of
    hosts in the inventory.
    """
    reserved = "CASE WHEN e.dest = 'reserved' THEN 1 ELSE 0 END - CASE WHEN e.source = 'reserved' THEN 1 ELSE 0 END"
    present = "CASE WHEN e.dest IS NULL THEN 0 ELSE 1 END - CASE WHEN e.source IS NULL THEN 0 ELSE 1 END"
    within = f"({window.moment}) % {HOUR}"
    sql = (
        f"SELECT ({window.moment}) / {HOUR}, SUM({reserved}), SUM(({reserved}) * ({within})), SUM({present}),"
        f" SUM(({present}) * ({within})) FROM events e WHERE {_counted(store, window)} GROUP BY 1 ORDER BY 1"
    )
    for row in store.database.stream(sql):
        hour, *sums = map(_number, row)
        yield (hour, *sums)  # type: ignore[misc]  # mypy can't see that a row has five numbers


def settled(store: Store, after: int, before: datetime) -> int:
    """Return the last event id such that all events after ``after`` up to it happened before a time."""
    moment = (before - EPOCH) // MICROSECOND
    [(newer, last)] = store.database.execute(
        "SELECT MIN(CASE WHEN at >= ? THEN id END), MAX(id) FROM events WHERE id > ?", [moment, after]
    )
    return max(after, _number(newer) - 1 if newer is not None else _number(last))


def counted(store: Store, after: int, last: int) -> Iterator[tuple[str, str | None, int, int]]:
    """Yield how many events of each verb and source have ids after ``after``, up to ``last``.

    The last number is how many of them gave a host back after a task that failed.
    """
    sql = (
        f"SELECT e.verb, e.source, COUNT(*), SUM(CASE WHEN {_OF_FAILED_TASK} THEN 1 ELSE 0 END)"
        " FROM events e WHERE e.id > ? AND e.id <= ? GROUP BY e.verb, e.source"
    )
    for verb, source, number, failed in store.database.stream(sql, [_FAILED_TASK, after, last]):
        yield str(verb), to_text(source), _number(number), _number(failed)


def waits_between(store: Store, after: int, last: int) -> Iterator[tuple[float, int]]:
    """Yield each known wait in seconds, with the number of reservations that waited so long.

    Counts the reservations that events with ids after ``after`` made, up to ``last``.
    """
    sql = (
        "SELECT CASE WHEN asked_at >= created_at THEN 0 ELSE (created_at - asked_at + 50000) / 100000 END, COUNT(*)"
        # Starts from the new events, because a scan of all reservations grows with the history. Comparing the times
        # leaves out events of hosts that replaced a broken one in an older reservation.
        " FROM (SELECT DISTINCT reservation, at FROM events WHERE id > ? AND id <= ? AND verb = 'reserve') AS made"
        " JOIN reservations r ON r.id = made.reservation AND r.created_at = made.at"
        " WHERE asked_at IS NOT NULL GROUP BY 1"
    )
    for tenths, number in store.database.stream(sql, [after, last]):
        yield _number(tenths) / 10, _number(number)


def _number(value: Value) -> int:
    return int(value or 0)
