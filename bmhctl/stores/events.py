"""The history of an inventory: its events, read. ``hosts`` writes them, one with each change of a host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bmhctl.domain.host_name import as_stored
from bmhctl.domain.model import Event, EventKind, Host, Phase, State, StepTiming, Verb, Verdict
from bmhctl.stores.rows import EPOCH, MICROSECOND, UNREADABLE, Row, Value, from_json, unreadable
from bmhctl.stores.schema import EVENT_COLUMNS
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_SELECT = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events"
_HOSTS_BY_RESERVATION = (
    "SELECT DISTINCT e.reservation, COALESCE(h.name, e.host) AS name FROM events e "
    "LEFT JOIN hosts h ON h.id = e.host_id WHERE e.reservation IS NOT NULL ORDER BY e.reservation, name"
)
_STATES: dict[Value, State | None] = {None: None, **{state.value: state for state in State}}
_VERBS: dict[Value, Verb | EventKind] = {member.value: member for kind in (Verb, EventKind) for member in kind}


class Events(Frozen):
    """The events, oldest first."""

    _database: Database

    def read(self, host: Host | str | None = None, last: int | None = None) -> Iterator[Event]:
        """Yield events, oldest first: of one host under all its names, of a removed name, or of the whole inventory.

        ``last`` keeps only the newest so many.
        """
        where, parameters = "", list[Value]()
        if isinstance(host, Host):
            where, parameters = " WHERE host_id = ?", [host.id]
        elif host is not None:
            where = " WHERE host_id = (SELECT host_id FROM events WHERE host = ? ORDER BY id DESC LIMIT 1)"
            parameters = [as_stored(host)]
        if last is None:
            return map(_to_event, self._database.stream(f"{_SELECT}{where} ORDER BY id", parameters))
        newest = self._database.execute(f"{_SELECT}{where} ORDER BY id DESC LIMIT {int(last)}", parameters)
        return iter([_to_event(row) for row in newest][::-1])

    def last_reservation(self, host: Host) -> str | None:
        """Return the id of the reservation that holds a host, or held it last; None if none ever did."""
        rows = self._database.execute(
            "SELECT reservation FROM events WHERE host_id = ? AND reservation IS NOT NULL ORDER BY id DESC LIMIT 1",
            [host.id],
        )
        return str(rows[0][0]) if rows else None

    def hosts_by_reservation(self) -> dict[str, tuple[str, ...]]:
        """Return the hosts that each reservation ever held, by their names of today, under its id; reads all events."""
        found: dict[str, list[str]] = {}
        for reservation, name in self._database.stream(_HOSTS_BY_RESERVATION, ()):
            found.setdefault(str(reservation), []).append(str(name))
        return {reservation: tuple(names) for reservation, names in found.items()}


def _to_event(row: Row) -> Event:
    try:
        identifier, host, at, actor, verb, source, dest, reason, reservation, steps = row
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
        )
    except UNREADABLE as error:
        raise unreadable("event", row[0]) from error


def _to_timing(phase: str | None, step: str, verdict: str, seconds: float) -> StepTiming:
    return StepTiming(None if phase is None else Phase(phase), str(step), Verdict(verdict), float(seconds))
