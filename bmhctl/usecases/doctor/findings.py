"""The rules that ``doctor`` checks on an inventory's rows: the SQL, the words and the remedy of each.

The database compares the rows, so that the results do not grow with the history. A fix changes only the rows that its
rule finds, and only if the right value is certain. It marks no host clean, and writes no event.
"""

from __future__ import annotations

from collections.abc import Iterator

from bmhctl.domain.host_spec import ONE_MACHINE, shared_systems
from bmhctl.domain.model import End, EventKind, Phase, State, Verdict
from bmhctl.domain.ticket import QueueVerb
from bmhctl.lifecycle.table import EDGES
from bmhctl.usecases.doctor.question import ALWAYS, FIX, WARNING, Fix, Question
from bmhctl.usecases.shared.context import Context

NOTHING_DEPENDS = "the host was removed, so nothing depends on its history; a backup may have the right one"
SET_ASIDE = (
    f"bmhctl maintain {{host}} --reason 'not clean'; {FIX} (marks it dirty there); bmhctl resume {{host}} (cleans it)"
)
_LOST_RESERVATION = "bmhctl maintain {host} --reason 'lost reservation'; bmhctl resume {host} (cleans it)"

# parts of the SQL

_HERE = "e.host_id = hosts.id"
_LAST_EVENT = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE})"
_LAST_DEST = f"(SELECT e.dest FROM events e WHERE {_HERE} ORDER BY e.id DESC LIMIT 1)"
_DEST_BEFORE = "(SELECT p.dest FROM events p WHERE p.host_id = e.host_id AND p.id < e.id ORDER BY p.id DESC LIMIT 1)"

# True if the host's events are a gapless chain that ends at the host's state; then the state is certain.
_IS_WHOLE = (
    f"COALESCE({_LAST_DEST}, '') = hosts.state AND NOT EXISTS (SELECT 1 FROM events e WHERE {_HERE}"
    f" AND COALESCE(e.source, '') <> COALESCE({_DEST_BEFORE}, ''))"
)

_GAPS = """(
    SELECT host_id, MIN(id) AS id, COUNT(*) AS number FROM (
        SELECT host_id, id, source, LAG(dest) OVER chain AS before
        FROM events WINDOW chain AS (PARTITION BY host_id ORDER BY id)
    ) links
    WHERE COALESCE(source, '') <> COALESCE(before, '')
    GROUP BY host_id
) firsts JOIN events e ON e.id = firsts.id LEFT JOIN hosts ON hosts.id = e.host_id"""

_KINDS = """(
    SELECT verb, source, dest, MIN(id) AS id, COUNT(*) AS number FROM events GROUP BY verb, source, dest
) firsts JOIN events e ON e.id = firsts.id LEFT JOIN hosts ON hosts.id = e.host_id"""
_LEGAL = ", ".join(
    f"'{verb}/{source or ''}/{dest or ''}'"
    for verb, source, dest in (
        *((edge.verb, edge.source, edge.dest) for edge in EDGES),
        *((kind, state, state) for kind in EventKind for state in State),
    )
)

# Reserved and tainted hosts were used; only a cleanup leads from these states, or from maintenance, to initial.
_USED = "(e.dest IN ('reserved', 'tainted') OR e.verb = 'reservation-lost')"
_CLEANED = "(e.dest = 'initial' AND e.source IN ('tainted', 'maintenance'))"
_LAST_USE = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE} AND {_USED})"
_LAST_CLEANUP = f"(SELECT MAX(e.id) FROM events e WHERE {_HERE} AND {_CLEANED})"

_DEPARTED_SINCE = (
    "AND departed.retired IS NULL"
    f" AND NOT EXISTS (SELECT 1 FROM events e WHERE {_HERE} AND e.at >= departed.at AND {_CLEANED})"
)
_OF_ITS_MAC = f"FROM departed WHERE departed.key = hosts.mac {_DEPARTED_SINCE}"
_OF_ITS_NAME = (
    f"FROM departed WHERE departed.key = hosts.name AND (departed.mac IS NULL OR hosts.mac IS NULL) {_DEPARTED_SINCE}"
)

# The last events of hosts that have no row although they were not removed.
_GONE = (
    "(SELECT e.id AS id, e.host_id AS host_id, e.host AS host, e.dest AS dest, e.at AS at FROM events e"
    " WHERE e.dest IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.id = e.host_id)"
    " AND NOT EXISTS (SELECT 1 FROM events l WHERE l.host_id = e.host_id AND l.id > e.id)) gone"
)
_COULD_RETURN_CLEAN = (
    f"(SELECT MAX(CASE WHEN {_USED} THEN e.id ELSE 0 END) > MAX(CASE WHEN {_CLEANED} THEN e.id ELSE 0 END)"
    " FROM events e WHERE e.host_id = gone.host_id)"
    " AND NOT EXISTS (SELECT 1 FROM departed WHERE departed.key = gone.host)"
    " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.host = gone.host AND e.id > gone.id)"
)

_COUNTS = (
    "(SELECT state, CAST(SUM(kept) AS BIGINT) AS kept, CAST(SUM(stored) AS BIGINT) AS stored FROM ("
    "SELECT state, SUM(number) AS kept, 0 AS stored FROM counts GROUP BY state"
    " UNION ALL SELECT state, 0, COUNT(*) FROM hosts GROUP BY state) each_kind GROUP BY state) tallies"
)
_OF_REMOVED = "host_id NOT IN (SELECT id FROM hosts)"
_QUEUE_VERBS = ", ".join(f"'{verb}'" for verb in QueueVerb)
_VERDICTS = ", ".join(f"'{verdict}'" for verdict in Verdict)
_PHASES = ", ".join(f"'{phase}'" for phase in Phase)
_ENDS = ", ".join(f"'{end}'" for end in End)
_TIMES = (
    ("events", "at"),
    ("hosts", "since"),
    ("hosts", "used_at"),
    ("hosts", "proven_at"),
    ("reservations", "created_at"),
    ("results", "at"),
    ("departed", "at"),
    ("queue_events", "at"),
    ("bookings", "created_at"),
)
_FUTURE = " UNION ALL ".join(
    f"SELECT COUNT(*) AS number, MAX({column}) AS latest FROM {table} WHERE {column} > ?" for table, column in _TIMES
)

_STATE = "hosts.state"
_DIRTY = "UPDATE hosts SET dirty = 1"
_MARK_DIRTY = Fix("marks it dirty", _DIRTY)
_MARK_DIRTY_IN_MAINTENANCE = Fix("marks it dirty", _DIRTY, when="hosts.state = 'maintenance'")

_END = Fix(
    "ends it",
    f"UPDATE reservations SET ended_at = ?, ended_how = '{End.FORCED}',"
    " end_reason = 'ended by bmhctl doctor: it held no host'",
    only="ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.reservation = reservations.id)",
    times=("now",),
)
_VANISHED = Fix(
    "makes it tainted if it is added again",
    "INSERT INTO departed (key, mac, at, reason)"
    f" SELECT gone.host, NULL, gone.at, 'it vanished while it was used' FROM {_GONE}",
    when=_COULD_RETURN_CLEAN,
)


def _shared_systems(ctx: Context) -> Iterator[tuple[str, str, str, int]]:
    """Yield the first host of each shared BMC system, the system, the last host, and how many more hosts share it."""
    for system, names in shared_systems(ctx.store.integrity.neighbouring_bmcs()):
        yield names[0], system, names[-1], len(names) - 2


def _clear(column: str, words: str) -> Fix:
    return Fix(f"{words}: the history confirms the state", f"UPDATE hosts SET {column} = NULL", when=_IS_WHOLE)


def _of_event(message: str, table: str, where: str = ALWAYS, **columns: str) -> Question:
    """Return a rule about an event, also for a host that is gone; the rows of ``table`` count other such events."""
    event = {"event": "e.id", "verb": "e.verb", "source": "COALESCE(e.source, '[*]')", "others": "firsts.number - 1"}
    return Question(
        "history",
        message + "{others}",
        where,
        event | columns,
        table,
        host="COALESCE(hosts.name, e.host)",
        minor="hosts.id IS NULL",
        minor_remedy=NOTHING_DEPENDS,
    )


QUESTIONS: tuple[Question, ...] = (
    # rules about the history
    _of_event(
        "a gap in its history: event {event}, {verb}, begins at {source}, the event before it ended at {before}",
        _GAPS,
        before=f"COALESCE({_DEST_BEFORE}, '[*]')",
    ),
    Question("history", "is {state}, but has no history", f"{_LAST_EVENT} IS NULL"),
    Question(
        "history",
        "is {state}, but its history ends at {dest}",
        f"{_LAST_EVENT} IS NOT NULL AND COALESCE({_LAST_DEST}, '') <> hosts.state",
        {"state": _STATE, "dest": f"COALESCE({_LAST_DEST}, '[*]')"},
    ),
    Question(
        "history",
        "its last event is {last}, not {kept} as recorded",
        f"hosts.last_event <> {_LAST_EVENT}",
        {"last": _LAST_EVENT, "kept": "hosts.last_event"},
        fix=Fix("records the right one", f"UPDATE hosts SET last_event = {_LAST_EVENT}", when=_IS_WHOLE),
    ),
    _of_event(
        "event {event}, {verb}, leads from {source} to {dest}, which the lifecycle does not allow",
        _KINDS,
        f"firsts.verb || '/' || COALESCE(firsts.source, '') || '/' || COALESCE(firsts.dest, '') NOT IN ({_LEGAL})",
        dest="COALESCE(e.dest, '[*]')",
    ),
    Question(
        "orphan",
        "vanished: its history ends at {dest}, not with its removal",
        ALWAYS,
        {"dest": "gone.dest"},
        _GONE,
        host="gone.host",
        fix=_VANISHED,
        minor=f"NOT ({_COULD_RETURN_CLEAN})",
        minor_remedy="restore a backup, or add it again: bmhctl add {host}",
    ),
    # rules about reservations
    *(
        Question(
            "reservation",
            "is {state} under reservation {reservation}, which does not exist",
            f"hosts.reservation IS NOT NULL AND hosts.state {states} 'maintenance'"
            " AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.id = hosts.reservation)",
            {"reservation": "hosts.reservation", "state": _STATE},
            remedy=remedy,
        )
        for states, remedy in (("<>", _LOST_RESERVATION), ("=", "bmhctl resume {host} --all (cleans it)"))
    ),
    Question(
        "reservation",
        "is {state} under reservation {reservation}, which has ended: {reason}",
        "r.ended_at IS NOT NULL AND hosts.state IN ('reserved', 'maintenance')",
        {"reservation": "r.id", "state": _STATE, "reason": "COALESCE(r.end_reason, 'no reason recorded')"},
        "hosts JOIN reservations r ON r.id = hosts.reservation",
        remedy="bmhctl taint {host} --force --reason 'its lease has ended'",
    ),
    Question(
        "reservation",
        "is {state}, but under no reservation",
        "hosts.state = 'reserved' AND hosts.reservation IS NULL",
        remedy=_LOST_RESERVATION,
    ),
    Question(
        "reservation",
        "is {state}, but names reservation {reservation}",
        "hosts.reservation IS NOT NULL AND hosts.state NOT IN ('reserved', 'maintenance')",
        {"reservation": "hosts.reservation", "state": _STATE},
        fix=_clear("reservation", "removes it"),
    ),
    Question(
        "reservation",
        "reservation {reservation} of {owner} is open, but holds no host",
        "r.ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.reservation = r.id)",
        {"reservation": "r.id", "owner": "r.owner"},
        "reservations r",
        host="NULL",
        fix=_END,
    ),
    Question(
        "reservation",
        "reservation {reservation} ended in a way that this version does not know: {how!r}",
        f"r.ended_how NOT IN ({_ENDS})",
        {"reservation": "r.id", "how": "r.ended_how"},
        "reservations r",
        host="NULL",
        remedy="update bmhctl, or restore a backup",
    ),
    Question(
        "queue",
        "event {event} of ticket {ticket} is of a kind that this version does not know: {verb!r}",
        f"q.verb NOT IN ({_QUEUE_VERBS})",
        {"event": "q.id", "ticket": "q.ticket", "verb": "q.verb"},
        "queue_events q",
        host="NULL",
        severity=WARNING,
        remedy="bmhctl history --queue can't be read: update bmhctl, or restore a backup",
    ),
    Question(
        "row",
        "the result of its step {step} is of a kind that this version does not know: {phase!r}, {verdict!r}",
        f"results.verdict NOT IN ({_VERDICTS}) OR results.phase NOT IN ('', {_PHASES})",
        {"step": "results.step", "phase": "results.phase", "verdict": "results.verdict"},
        "hosts JOIN results ON results.host_id = hosts.id",
        remedy="update bmhctl, or restore a backup",
    ),
    # rules about reasons for maintenance
    Question(
        "mark",
        "is {state}, but has reasons for maintenance",
        "hosts.maintenance IS NOT NULL AND hosts.state <> 'maintenance'",
        fix=_clear("maintenance", "removes them"),
    ),
    Question(
        "mark",
        "is {state} for no recorded reason",
        "hosts.state = 'maintenance' AND COALESCE(hosts.maintenance, '[]') = '[]'",
        severity=WARNING,
        remedy="bmhctl resume {host}; or give a reason: bmhctl maintain {host} --reason TEXT",
    ),
    Question(
        "mark",
        "is {state}, but is to return from maintenance to {came_from}",
        "hosts.came_from IS NOT NULL AND hosts.state <> 'maintenance'",
        {"state": _STATE, "came_from": "hosts.came_from"},
        fix=_clear("came_from", "removes that note"),
    ),
    # rules about cleanliness: a fix may mark a host dirty, but never clean
    Question(
        "dirt",
        "is {state}, but counts as clean",
        "hosts.dirty = 0 AND hosts.state IN ('reserved', 'tainted')",
        fix=_MARK_DIRTY,
    ),
    Question(
        "dirt",
        "is {state} and counts as clean, but was used (event {event}) and not cleaned since",
        "hosts.dirty = 0 AND hosts.state NOT IN ('reserved', 'tainted')"
        f" AND {_LAST_USE} > COALESCE({_LAST_CLEANUP}, 0)",
        {"state": _STATE, "event": _LAST_USE},
        remedy=SET_ASIDE,
        fix=_MARK_DIRTY_IN_MAINTENANCE,
    ),
    Question(
        "dirt",
        "is {state} and counts as clean, but the machine with its MAC was dirty when it left ({reason})",
        f"hosts.dirty = 0 AND hosts.mac IS NOT NULL AND EXISTS (SELECT 1 {_OF_ITS_MAC})",
        {"state": _STATE, "reason": f"(SELECT MIN(departed.reason) {_OF_ITS_MAC})"},
        remedy=SET_ASIDE,
        fix=_MARK_DIRTY_IN_MAINTENANCE,
    ),
    Question(
        "dirt",
        "counts as clean, but a machine with its name was dirty when it left ({reason})",
        f"hosts.dirty = 0 AND EXISTS (SELECT 1 {_OF_ITS_NAME})",
        {"reason": f"(SELECT MIN(departed.reason) {_OF_ITS_NAME})"},
        severity=WARNING,
        remedy="if it is that machine: bmhctl remove {host}; bmhctl add {host}: it enters tainted",
    ),
    Question(
        "dirt",
        "is {state}, but dirty",
        "hosts.dirty = 1 AND hosts.state IN ('initial', 'available')",
        remedy="bmhctl maintain {host} --reason 'not clean'; bmhctl resume {host} (cleans it)",
    ),
    # rules about rows that refer to removed hosts
    *(
        Question(
            "orphan",
            f"{what} of removed hosts are left: {{number}}",
            "orphans.number > 0",
            {"number": "orphans.number"},
            f"(SELECT COUNT(*) AS number FROM {table} WHERE {_OF_REMOVED}) orphans",
            host="NULL",
            severity=WARNING,
            fix=Fix("deletes them", f"DELETE FROM {table}", only=_OF_REMOVED),
        )
        for table, what in (("facts", "attributes"), ("results", "step results"))
    ),
    # rules whose findings are warnings, because the condition may be intended
    *(
        Question(
            "duplicate",
            f"has the {what} {{value}} of {{last}}{{others}}",
            "shared.number > 1",
            {"value": "shared.value", "last": "shared.last", "others": "shared.number - 2"},
            f"(SELECT {column} AS value, COUNT(*) AS number, MIN(name) AS first, MAX(name) AS last FROM hosts"
            f" WHERE {column} IS NOT NULL GROUP BY {column}) shared",
            host="shared.first",
            severity=WARNING,
            remedy=f"{ONE_MACHINE}: correct one {what}, or bmhctl remove {{last}}",
        )
        for column, what in (("mac", "MAC"), ("address", "address"))
    ),
    Question(
        "duplicate",
        "has the same system of a BMC, {system}, as {last}{others}",
        columns=dict.fromkeys(("system", "last", "others"), ""),
        severity=WARNING,
        remedy=f"{ONE_MACHINE}: correct one BMC, or bmhctl remove {{last}}",
        find=_shared_systems,
    ),
    Question(
        "clock",
        "stored times that are in the future: {number}, the latest {latest}",
        "future.number > 0",
        {"number": "future.number", "latest": "future.latest"},
        f"(SELECT CAST(SUM(number) AS BIGINT) AS number, MAX(latest) AS latest FROM ({_FUTURE}) times) future",
        host="NULL",
        severity=WARNING,
        times=("soon",) * len(_TIMES),
        remedy="a clock is wrong now, or was: compare date -u on the machines, because leases end by the clock",
    ),
    Question(
        "lease",
        "reservation {reservation} of {owner} {until}, longer than this inventory allows",
        "r.ended_at IS NULL AND (r.expires_at IS NULL OR r.expires_at > ?)",
        {"reservation": "r.id", "owner": "r.owner", "until": "r.expires_at"},
        "reservations r",
        host="NULL",
        severity=WARNING,
        times=("latest",),
        remedy="ask {owner} whether it is still used; bmhctl release -R {reservation} ends it",
    ),
    Question(
        "counts",
        "hosts counted as {name}: {kept}; hosts stored as {name}: {stored}",
        "tallies.kept <> tallies.stored",
        {"name": "tallies.state", "kept": "tallies.kept", "stored": "tallies.stored"},
        _COUNTS,
        host="NULL",
        fix=Fix("counts them again", run=lambda ctx: ctx.store.integrity.recount()),
    ),
)
"""All rules about rows, ordered so that no fix makes the rows break an earlier rule."""
