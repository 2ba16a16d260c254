"""The history of an inventory: read its events. ``hosts`` writes them, one with each change of a host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.domain.host_name import AS_STORED
from bmhctl.domain.model import Event, EventKind, Host, Phase, State, StepTiming, Verb, Verdict
from bmhctl.stores.hosts import in_parts
from bmhctl.stores.rows import EPOCH, MICROSECOND, UNREADABLE, Row, Value, from_json, from_time, number_in, unreadable
from bmhctl.stores.schema import EVENT_COLUMNS
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database
    from bmhctl.stores.host_query import HostQuery

_SELECT = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events"
_SELECT_WITH_HOST = f"SELECT host_id, {', '.join(EVENT_COLUMNS)} FROM events"
_HOSTS_BY_RESERVATION = (
    "SELECT DISTINCT e.reservation, COALESCE(h.name, e.host) AS name FROM events e "
    "LEFT JOIN hosts h ON h.id = e.host_id WHERE e.reservation IS NOT NULL ORDER BY e.reservation, name"
)
_DECLARES = "before IS NOT NULL"
_NAMED = f"""
SELECT host_id FROM (SELECT host_id FROM events WHERE host = ? ORDER BY id DESC LIMIT 1) AS newest
UNION SELECT host_id FROM events AS e WHERE host = ? AND verb IN ('{Verb.REMOVE}', '{Verb.RETIRE}')
    AND id = (SELECT MAX(id) FROM events WHERE host_id = e.host_id)"""
_STATES: dict[Value, State | None] = {None: None, **{state.value: state for state in State}}
_VERBS: dict[Value, Verb | EventKind] = {member.value: member for kind in (Verb, EventKind) for member in kind}


class EventQuery(Frozen):
    """A query for events that meet all conditions; a condition that is None or empty is ignored.

    ``hosts`` are ids of hosts; ``among`` is a query for hosts that are in the inventory. Events are from ``since`` on
    and before ``until``, and their ids are greater than ``after`` and at most ``upto``.
    """

    hosts: tuple[int, ...] | None = None
    among: HostQuery | None = None
    since: datetime | None = None
    until: datetime | None = None
    verbs: tuple[Verb | EventKind, ...] = ()
    reservation: str | None = None
    after: int = 0
    upto: int | None = None


class Events(Frozen):
    """The events of the inventory, oldest first."""

    _database: Database

    def read(self, host: Host | str | None = None, last: int | None = None) -> Iterator[Event]:
        """Yield events, oldest first: those of one host under all its names, or of the whole inventory.

        ``host`` may be a name, for the events of :meth:`hosts_named`. ``last`` keeps only the newest so many events.
        """
        where, parameters = "", list[Value]()
        if host is not None:
            parameters += [host.id] if isinstance(host, Host) else self.hosts_named(host)
            where = f" WHERE host_id IN ({', '.join('?' * len(parameters)) or 'NULL'})"
        if last is None:
            return map(_to_event, self._database.stream(f"{_SELECT}{where} ORDER BY id", parameters))
        newest = self._database.execute(f"{_SELECT}{where} ORDER BY id DESC LIMIT {int(last)}", parameters)
        return iter([_to_event(row) for row in newest][::-1])

    def find(self, query: EventQuery, *, newest_first: bool = False) -> Iterator[Event]:
        """Yield the events of a query in the order of their ids; they are read in batches."""
        terms: list[tuple[str, Sequence[Value]]] = [("id > ?", [query.after])]
        if query.upto is not None:
            terms.append(("id <= ?", [query.upto]))
        if query.hosts is not None:
            terms.append((f"host_id IN ({', '.join('?' * len(query.hosts)) or 'NULL'})", query.hosts))
        if query.among is not None:
            from bmhctl.stores.host_query import condition

            where, values = condition(query.among, None)
            terms.append((f"host_id IN (SELECT id FROM hosts{where})", values))
        if query.since is not None:  # the index on times finds the first event; the others follow by id
            since = from_time(query.since)
            terms.append(("id >= (SELECT MIN(id) FROM events WHERE at >= ?) AND at >= ?", [since, since]))
        if query.until is not None:
            terms.append(("at < ?", [from_time(query.until)]))
        if query.verbs:
            terms.append((f"verb IN ({', '.join('?' * len(query.verbs))})", query.verbs))
        if query.reservation is not None:
            terms.append(("reservation = ?", [query.reservation]))
        sql = f"{_SELECT} WHERE {' AND '.join(term for term, _ in terms)} ORDER BY id{' DESC' if newest_first else ''}"
        return map(_to_event, self._database.stream(sql, [value for _, values in terms for value in values]))

    def change(self, upto: int | None = None) -> list[tuple[int, Event]]:
        """Return the events of the last command that changed a declaration, each with the id of its host.

        Events with ids above ``upto`` are ignored.
        """
        sql = f"SELECT at, actor FROM events WHERE {_DECLARES} AND id <= ? ORDER BY id DESC LIMIT 1"
        newest = self._database.execute(sql, [self.newest() if upto is None else upto])
        if not newest:
            return []
        found = self._database.execute(
            f"{_SELECT_WITH_HOST} WHERE at = ? AND actor = ? AND {_DECLARES} ORDER BY id", newest[0]
        )
        return [(int(host or 0), _to_event(row)) for host, *row in found]

    def later(self, change: Sequence[tuple[int, Event]], verbs: Sequence[Verb | EventKind]) -> dict[int, Event]:
        """Return, by host id, the first event after each host's event in ``change`` that has one of the verbs.

        Without verbs, any event counts.
        """
        last = {host: event.id for host, event in change}
        kinds = f" AND verb IN ({', '.join('?' * len(verbs))})" if verbs else ""
        found: dict[int, Event] = {}
        first = min(last.values(), default=0)
        for some in in_parts(list(last)):
            rows = self._database.execute(
                f"{_SELECT_WITH_HOST} WHERE id > ? AND host_id IN ({', '.join('?' * len(some))}){kinds} ORDER BY id",
                [first, *some, *(verb.value for verb in verbs)],
            )
            for host, *row in rows:
                if int(row[0] or 0) > last[int(host or 0)]:
                    found.setdefault(int(host or 0), _to_event(row))
        return found

    def newest(self) -> int:
        """Return the id of the newest event, 0 if there is none."""
        return number_in(self._database.execute("SELECT MAX(id) FROM events"))

    def hosts_named(self, name: str) -> list[int]:
        """Return the ids of hosts that had a name; with ``*`` and ``?`` of all that match.

        Without, these are the last host to have it, and the hosts that were removed or retired under the name for good:
        a host that ``add`` brought back has another id.
        """
        name = name.translate(AS_STORED)
        if "*" not in name and "?" not in name:
            rows = self._database.execute(_NAMED, [name, name])
        else:  # LIKE is exact here, since names have no upper-case letter, '%' or '_'
            pattern = name.replace("*", "%").replace("?", "_")
            rows = self._database.execute("SELECT DISTINCT host_id FROM events WHERE host LIKE ?", [pattern])
        return [int(row[0] or 0) for row in rows]

    def past_names(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that a host has or had."""
        found: list[str] = []
        for some in in_parts(names):
            given = f"(VALUES {', '.join(['(?)'] * len(some))}) AS given"
            sql = f"SELECT column1 FROM {given} WHERE EXISTS (SELECT 1 FROM events WHERE host = column1)"
            found += [str(row[0]) for row in self._database.execute(sql, some)]
        return found

    def last_reservation(self, host: Host) -> str | None:
        """Return the id of the reservation that holds a host or was the last to hold it; None if there was none."""
        rows = self._database.execute(
            "SELECT reservation FROM events WHERE host_id = ? AND reservation IS NOT NULL ORDER BY id DESC LIMIT 1",
            [host.id],
        )
        return str(rows[0][0]) if rows else None

    def hosts_by_reservation(self) -> dict[str, tuple[str, ...]]:
        """Return, by reservation id, the names of all hosts that each reservation ever held; reads all events.

        Renamed hosts have their present names.
        """
        found: dict[str, list[str]] = {}
        for reservation, name in self._database.stream(_HOSTS_BY_RESERVATION, ()):
            found.setdefault(str(reservation), []).append(str(name))
        return {reservation: tuple(names) for reservation, names in found.items()}


def _to_event(row: Row) -> Event:
    try:
        identifier, host, at, actor, verb, source, dest, reason, reservation, steps, before = row
        return Event(
            id=int(identifier or 0),
            host=str(host),
            at=EPOCH + int(at or 0) * MICROSECOND,
            actor=str(actor),
            verb=_VERBS[verb],
            source=_STATES[source],
            dest=_STATES[dest],
            reason=None if reason is None else str(reason),
            reservation=None if reservation is None else str(reservation),
            steps=None if steps is None else tuple(_to_timing(*each) for each in from_json(str(steps))),
            before=None if before is None else from_json(str(before)),
        )
    except UNREADABLE as error:
        raise unreadable("event", row[0]) from error


def _to_timing(phase: str | None, step: str, verdict: str, seconds: float) -> StepTiming:
    return StepTiming(None if phase is None else Phase(phase), str(step), Verdict(verdict), float(seconds))
