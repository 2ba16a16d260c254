"""Where an inventory's tables contradict each other: questions in SQL, and what mends some of the answers.

The databases compare, so that nothing here grows with the history. A mend changes just what its question finds, and
only where no guess is needed: nothing gets cleaner by it, and no event is made up.
"""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.domain.model import End, Host
from bmhctl.domain.selector import selectable
from bmhctl.errors import InvalidError
from bmhctl.stores.database import Database
from bmhctl.stores.rows import HOST_SELECT, LIFECYCLE_COLUMNS, SPEC_COLUMNS, Row, Value, to_host
from bmhctl.support.values import Frozen, replace

MOST = 100
"""How many flaws of one sort are looked at one by one; the others are counted."""

_STORED = HOST_SELECT.replace(" FROM hosts ", ", hosts.back_at FROM hosts ", 1)
_AT_ONCE = 500
_ALWAYS, _NEVER = "1 = 1", "1 = 0"


class Question(Frozen):
    """Which rows of ``table`` something is wrong with: those ``where`` it is.

    ``host`` is the name of the host that is concerned, ``details`` what the words about it need. ``mend`` is a
    statement for the rows for which ``mendable`` holds, without its condition: that is ``mend_where``, if not the same.
    ``times`` and ``mend_times`` name the times that they are given, in their order: ``now``, ``soon`` (a clock that
    differs from ours may have that), ``latest`` (no lease may end after it).
    """

    name: str
    where: str
    details: tuple[str, ...]
    table: str = "hosts"
    host: str = "hosts.name"
    mend: str | None = None
    mendable: str = _NEVER
    times: tuple[str, ...] = ()
    mend_times: tuple[str, ...] = ()
    mend_where: str | None = None

    @property
    def found(self) -> str:
        """All that is found: the host, whether it can be mended, and the details."""
        mendable = f"CASE WHEN {self.mendable} THEN 1 ELSE 0 END"
        named = ", ".join(f"{detail} AS detail{number}" for number, detail in enumerate(self.details))
        return f"SELECT {self.host} AS host, {mendable} AS mendable, {named} FROM {self.table} WHERE {self.where}"


class Flaw(Frozen):
    """One answer to a question; ``more`` others are like it."""

    host: str | None
    mendable: bool
    details: tuple[Value, ...]
    more: int = 0


_HERE = "e.host_id = hosts.id"
_LAST_EVENT = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE})"
_LAST_DEST = f"(SELECT e.dest FROM events e WHERE {_HERE} ORDER BY e.id DESC LIMIT 1)"
_DEST_BEFORE = "(SELECT p.dest FROM events p WHERE p.host_id = e.host_id AND p.id < e.id ORDER BY p.id DESC LIMIT 1)"

# The host's events are a gapless chain that ends where the host is: its state is beyond doubt.
_IS_WHOLE = (
    f"COALESCE({_LAST_DEST}, '') = hosts.state AND NOT EXISTS (SELECT 1 FROM events e WHERE {_HERE}"
    f" AND COALESCE(e.source, '') <> COALESCE({_DEST_BEFORE}, ''))"
)

_GAPS = """(
    SELECT host_id, MIN(id) AS id, COUNT(*) AS number FROM (
        SELECT host_id, id, source, LAG(id) OVER chain AS previous, LAG(dest) OVER chain AS before
        FROM events WINDOW chain AS (PARTITION BY host_id ORDER BY id)
    ) links
    WHERE (previous IS NULL AND source IS NOT NULL)
        OR (previous IS NOT NULL AND (source IS NULL OR before IS NULL OR source <> before))
    GROUP BY host_id
) gaps JOIN events e ON e.id = gaps.id LEFT JOIN hosts ON hosts.id = gaps.host_id"""

# Whoever was in these states was used; only a cleanup leads from them, or from maintenance, to initial.
_USED = "(e.dest IN ('reserved', 'tainted') OR e.verb = 'reservation-lost')"
_CLEANED = "(e.dest = 'initial' AND e.source IN ('tainted', 'maintenance'))"
_LAST_USE = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE} AND {_USED})"
_LAST_CLEANUP = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE} AND {_CLEANED})"

_DEPARTED_SINCE = f"AND NOT EXISTS (SELECT 1 FROM events e WHERE {_HERE} AND e.at >= departed.at AND {_CLEANED})"
_OF_ITS_MAC = f"FROM departed WHERE departed.key = hosts.mac {_DEPARTED_SINCE}"
_OF_ITS_NAME = (
    f"FROM departed WHERE departed.key = hosts.name AND (departed.mac IS NULL OR hosts.mac IS NULL) {_DEPARTED_SINCE}"
)

# The last events of hosts that are not there, and were not removed.
_GONE = (
    "(SELECT e.id AS id, e.host_id AS host_id, e.host AS host, e.dest AS dest, e.at AS at FROM events e"
    " WHERE e.dest IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.id = e.host_id)"
    " AND NOT EXISTS (SELECT 1 FROM events l WHERE l.host_id = e.host_id AND l.id > e.id)) gone"
)
_MAY_COME_BACK_CLEAN = (
    f"(SELECT MAX(CASE WHEN {_USED} THEN e.id ELSE 0 END) > MAX(CASE WHEN {_CLEANED} THEN e.id ELSE 0 END)"
    " FROM events e WHERE e.host_id = gone.host_id)"
    " AND NOT EXISTS (SELECT 1 FROM departed WHERE departed.key = gone.host)"
    " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.host = gone.host AND e.id > gone.id)"
)

_ENDS = ", ".join(f"'{end}'" for end in End)
_TIMES = (
    ("events", "at"),
    ("hosts", "since"),
    ("hosts", "used_at"),
    ("reservations", "created_at"),
    ("results", "at"),
    ("departed", "at"),
)
_FUTURE = " UNION ALL ".join(
    f"SELECT COUNT(*) AS number, MAX({column}) AS latest FROM {table} WHERE {column} > ?" for table, column in _TIMES
)

QUESTIONS: tuple[Question, ...] = (
    # the history
    Question(
        "gap",
        _ALWAYS,
        ("CASE WHEN hosts.id IS NULL THEN 1 ELSE 0 END", "gaps.number", "e.id", "e.verb", "e.source", _DEST_BEFORE),
        table=_GAPS,
        host="COALESCE(hosts.name, e.host)",
    ),
    Question("no-history", f"{_LAST_EVENT} IS NULL", ("hosts.state",)),
    Question(
        "other-end",
        f"{_LAST_EVENT} IS NOT NULL AND COALESCE({_LAST_DEST}, '') <> hosts.state",
        ("hosts.state", _LAST_DEST),
    ),
    Question(
        "last-event",
        f"hosts.last_event <> {_LAST_EVENT}",
        ("hosts.last_event", _LAST_EVENT),
        mend=f"UPDATE hosts SET last_event = {_LAST_EVENT}",
        mendable=_IS_WHOLE,
    ),
    Question(
        "vanished",
        _ALWAYS,
        ("gone.dest",),
        table=_GONE,
        host="gone.host",
        mend="INSERT INTO departed (key, mac, at, reason)"
        f" SELECT gone.host, NULL, gone.at, 'it vanished while it was used' FROM {_GONE}",
        mendable=_MAY_COME_BACK_CLEAN,
    ),
    # reservations
    Question(
        "reservation-missing",
        "hosts.reservation IS NOT NULL AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.id = hosts.reservation)",
        ("hosts.reservation", "hosts.state"),
    ),
    Question(
        "reservation-ended",
        "r.ended_at IS NOT NULL AND hosts.state IN ('reserved', 'maintenance')",
        ("r.id", "hosts.state", "r.end_reason"),
        table="hosts JOIN reservations r ON r.id = hosts.reservation",
    ),
    Question("reservation-absent", "hosts.state = 'reserved' AND hosts.reservation IS NULL", ("hosts.state",)),
    Question(
        "reservation-stray",
        "hosts.reservation IS NOT NULL AND hosts.state NOT IN ('reserved', 'maintenance')",
        ("hosts.reservation", "hosts.state"),
        mend="UPDATE hosts SET reservation = NULL",
        mendable=_IS_WHOLE,
    ),
    Question(
        "reservation-empty",
        "reservations.ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.reservation = reservations.id)",
        ("reservations.id", "reservations.owner"),
        table="reservations",
        host="NULL",
        mend=f"UPDATE reservations SET ended_at = ?, ended_how = '{End.FORCED}',"
        " end_reason = 'ended by bmhctl doctor: it held no host'",
        mendable=_ALWAYS,
        mend_times=("now",),
    ),
    Question(
        "reservation-unknown-end",
        f"reservations.ended_how NOT IN ({_ENDS})",
        ("reservations.id", "reservations.ended_how"),
        table="reservations",
        host="NULL",
    ),
    # marks
    Question(
        "reasons",
        "hosts.maintenance IS NOT NULL AND hosts.state <> 'maintenance'",
        ("hosts.state",),
        mend="UPDATE hosts SET maintenance = NULL",
        mendable=_IS_WHOLE,
    ),
    Question(
        "no-reason",
        "hosts.state = 'maintenance' AND COALESCE(hosts.maintenance, '[]') = '[]'",
        ("hosts.state",),
    ),
    Question(
        "came-from",
        "hosts.came_from IS NOT NULL AND hosts.state <> 'maintenance'",
        ("hosts.state", "hosts.came_from"),
        mend="UPDATE hosts SET came_from = NULL",
        mendable=_IS_WHOLE,
    ),
    # dirt: always towards dirty
    Question(
        "dirty-state",
        "hosts.dirty = 0 AND hosts.state IN ('reserved', 'tainted')",
        ("hosts.state",),
        mend="UPDATE hosts SET dirty = 1",
        mendable=_ALWAYS,
    ),
    Question(
        "dirty-history",
        "hosts.dirty = 0 AND hosts.state NOT IN ('reserved', 'tainted')"
        f" AND {_LAST_USE} > COALESCE({_LAST_CLEANUP}, 0)",
        ("hosts.state", _LAST_USE),
        mend="UPDATE hosts SET dirty = 1",
        mendable="hosts.state = 'maintenance'",
    ),
    Question(
        "dirty-departed",
        f"hosts.dirty = 0 AND hosts.mac IS NOT NULL AND EXISTS (SELECT 1 {_OF_ITS_MAC})",
        ("hosts.state", f"(SELECT MIN(departed.reason) {_OF_ITS_MAC})"),
        mend="UPDATE hosts SET dirty = 1",
        mendable="hosts.state = 'maintenance'",
    ),
    Question(
        "departed-name",
        f"hosts.dirty = 0 AND EXISTS (SELECT 1 {_OF_ITS_NAME})",
        (f"(SELECT MIN(departed.reason) {_OF_ITS_NAME})",),
    ),
    Question("too-dirty", "hosts.dirty = 1 AND hosts.state IN ('initial', 'available')", ("hosts.state",)),
    # what is left of hosts that are gone
    *(
        Question(
            f"orphaned-{table}",
            "orphans.number > 0",
            ("orphans.number",),
            table=f"(SELECT COUNT(*) AS number FROM {table} WHERE host_id NOT IN (SELECT id FROM hosts)) orphans",
            host="NULL",
            mend=f"DELETE FROM {table}",
            mendable=_ALWAYS,
            mend_where="host_id NOT IN (SELECT id FROM hosts)",
        )
        for table in ("facts", "results")
    ),
    # what only looks odd
    Question(
        "mac",
        "shared.number > 1",
        ("shared.mac", "shared.number", "shared.last"),
        table="(SELECT mac, COUNT(*) AS number, MIN(name) AS first, MAX(name) AS last FROM hosts"
        " WHERE mac IS NOT NULL GROUP BY mac) shared",
        host="shared.first",
    ),
    Question(
        "future",
        "future.number > 0",
        ("future.number", "future.latest"),
        table=f"(SELECT CAST(SUM(number) AS BIGINT) AS number, MAX(latest) AS latest FROM ({_FUTURE}) times) future",
        host="NULL",
        times=("soon",) * len(_TIMES),
    ),
    Question(
        "lease",
        "reservations.ended_at IS NULL AND (reservations.expires_at IS NULL OR reservations.expires_at > ?)",
        ("reservations.id", "reservations.owner", "reservations.expires_at"),
        table="reservations",
        host="NULL",
        times=("latest",),
    ),
)
"""Every question, in an order in which no mend makes work for an earlier one's."""


def answers(database: Database, question: Question, times: dict[str, int]) -> Iterator[Flaw]:
    """What a question finds: all of it, or the first :data:`MOST` that can be mended and of those that can't."""
    given = [times[name] for name in question.times]
    ordered = f"SELECT * FROM ({question.found}) found {{}} ORDER BY host, detail0 LIMIT {MOST + 1}"
    flaws = [_flaw(row) for row in database.execute(ordered.format(""), given)]
    if len(flaws) <= MOST:
        yield from flaws
        return
    count = f"SELECT mendable, COUNT(*) FROM ({question.found}) found GROUP BY mendable ORDER BY mendable DESC"
    for mendable, number in list(database.execute(count, given)):
        flaws = [_flaw(row) for row in database.execute(ordered.format("WHERE mendable = ?"), [*given, mendable])]
        *others, last = flaws[:MOST]
        yield from others
        yield replace(last, more=max(0, int(number or 0) - MOST))


def mend(database: Database, question: Question, times: dict[str, int]) -> None:
    """Mends all that a question finds and that can be mended, in the caller's transaction."""
    where = question.mend_where or f"({question.where}) AND {question.mendable}"
    for _ in database.execute(f"{question.mend} WHERE {where}", [times[name] for name in question.mend_times]):
        pass


def miscounted(database: Database) -> Iterator[tuple[str, int, int]]:
    """Each state of which another number is kept than there are hosts in it: the state, what is kept, what there is."""
    for state, kept, there in database.execute(
        "SELECT state, SUM(kept), SUM(there) FROM ("
        "SELECT state, SUM(number) AS kept, 0 AS there FROM counts GROUP BY state"
        " UNION ALL SELECT state, 0, COUNT(*) FROM hosts GROUP BY state"
        ") tallies GROUP BY state HAVING SUM(kept) <> SUM(there) ORDER BY state"
    ):
        yield str(state), int(kept or 0), int(there or 0)


def kinds_of_events(database: Database) -> Iterator[tuple[str, str | None, str | None, int, int]]:
    """Each verb with where it led from and to; the id of the first event of that kind, and how many there are."""
    for verb, source, dest, first, number in database.execute(
        "SELECT verb, source, dest, MIN(id), COUNT(*) FROM events GROUP BY verb, source, dest ORDER BY MIN(id)"
    ):
        yield str(verb), _text(source), _text(dest), int(first or 0), int(number or 0)


def bearer(database: Database, event_id: int) -> tuple[str, bool]:
    """Whose event it is, by the host's present name if it is still there; and whether it is."""
    [(host, is_there)] = database.execute(
        "SELECT COALESCE(hosts.name, e.host), CASE WHEN hosts.id IS NULL THEN 0 ELSE 1 END FROM events e"
        " LEFT JOIN hosts ON hosts.id = e.host_id WHERE e.id = ?",
        [event_id],
    )
    return str(host), is_there == 1


class Stored(Frozen):
    """A host's row: the host, or in words what of it can't be read; what selectors see of it, when it is due back."""

    name: str
    host: Host | str
    facts: dict[str, tuple[str, float | None]]
    back_at: Value


def stored_hosts(database: Database) -> Iterator[Stored]:
    """Every host as it is stored, in the order of ids; read some at a time, so that it may be changed meanwhile."""
    last = 0
    while True:
        rows = list(database.execute(f"{_STORED} WHERE hosts.id > ? ORDER BY hosts.id LIMIT {_AT_ONCE}", [last]))
        if not rows:
            return
        first, last = int(rows[0][0] or 0), int(rows[-1][0] or 0)
        facts = _facts(database, first, last)
        for row in rows:
            yield Stored(str(row[2]), _host(row[:-1]), facts.get(int(row[0] or 0), {}), row[-1])


def counts(database: Database) -> dict[str, int]:
    """How many hosts, events and reservations there are."""
    return {
        table: int(next(iter(database.execute(f"SELECT COUNT(*) FROM {table}")))[0] or 0)
        for table in ("hosts", "events", "reservations")
    }


def _flaw(row: Row) -> Flaw:
    host, mendable, *details = row
    return Flaw(_text(host), mendable == 1, tuple(details))


def _facts(database: Database, first: int, last: int) -> dict[int, dict[str, tuple[str, float | None]]]:
    facts: dict[int, dict[str, tuple[str, float | None]]] = {}
    for host_id, key, value, number in database.execute(
        "SELECT host_id, key, value, number FROM facts WHERE host_id BETWEEN ? AND ?", [first, last]
    ):
        facts.setdefault(int(host_id or 0), {})[str(key)] = str(value), None if number is None else float(number)
    return facts


def _host(row: Row) -> Host | str:
    try:
        host = to_host(row)
        selectable(host.spec)
    except (InvalidError, AttributeError, LookupError, TypeError, ValueError) as error:
        return _unreadable(row) or f"its row can't be read ({error.__cause__ or error})"
    return host


_JSON: dict[str, type] = {"labels": dict, "bmc": list, "hardware": dict, "cordon": list, "maintenance": list}
"""Columns of JSON text, and what it stands for."""


def _unreadable(row: Row) -> str | None:
    import json

    for name, kind in _JSON.items():
        value = row[2 + (*SPEC_COLUMNS, *LIFECYCLE_COLUMNS).index(name)]
        try:
            is_right = value is None or isinstance(json.loads(str(value)), kind)
        except ValueError:
            is_right = False
        if not is_right:
            return f"its {name} can't be read: {value!r:.60}"
    return None


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
