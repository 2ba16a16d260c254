"""Results as JSON records: one documented shape for each command.

A document is ``{"version": 1, "kind": …, …}``. What holds a list of records has it as its last key, so that
``json`` can be written as a stream; ``jsonl`` is those records, one a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from bmhctl.domain.model import Bmc, CheckResult, Event, Host, Note, Reservation, State
from bmhctl.errors import BmhctlError, UsageError, nearest
from bmhctl.output.sanitize import Json, flatten, iso, jsonable
from bmhctl.results import (
    Diagnosis,
    Done,
    Finding,
    Grant,
    Graph,
    Held,
    History,
    HostDetail,
    Hosts,
    Imported,
    Outcome,
    Outcomes,
    Plan,
    Queue,
    Queued,
    Reservations,
    Status,
    VerbAnswer,
    Why,
)
from bmhctl.support.values import Frozen, replace

VERSION = 1
"""The version of every document's shape; it changes when a key changes its meaning or goes."""

Record = dict[str, Json]


def _mark(mark: Note | None) -> Json:
    if mark is None:
        return None
    return {
        "actor": mark.actor,
        "reason": mark.reason,
        "since": iso(mark.since),
        "until": iso(mark.until) if mark.until else None,
        "quarantine": mark.quarantine,
    }


def _bmc(bmc: Bmc | None) -> Json:
    if bmc is None:
        return None
    return {
        "address": bmc.address,
        "type": bmc.type,
        "system_id": bmc.system_id,
        "credentials": bmc.credentials,
        "verify_tls": bmc.verify_tls,
    }


def flags(host: Host) -> list[str]:
    """What to know beside the state, in words; a reserved or tainted host is dirty by its nature."""
    words = []
    if host.cordon:
        words.append("cordoned")
    if host.undeclared:
        words.append("undeclared")
    if host.dirty and host.state not in (State.RESERVED, State.TAINTED):
        words.append("dirty")
    if host.fault:
        words.append("fault")
    return words


FIELDS = {
    "name": "its name, unique in the inventory",
    "state": "where it is in its lifecycle",
    "flags": "what to know beside the state: cordoned, undeclared, dirty, fault",
    "since": "when its state began",
    "owner": "who holds it",
    "purpose": "what for",
    "reservation": "its id, the fencing token",
    "until": "when the reservation ends by itself",
    "address": "its IP address or DNS name",
    "mac": "its MAC address",
    "labels": "its labels",
    "hardware": "its hardware facts",
    "bmc": "its management controller; credentials are a reference, never a secret",
    "note": "what a person noted",
    "dirty": "whether it was reserved since its last cleanup",
    "cordoned": "whether it is set aside from reservations",
    "cordon": "by whom, why and until when it is cordoned",
    "undeclared": "whether the inventory's file no longer declares it",
    "fault": "what was found broken",
    "maintenance": "the reasons for its maintenance",
    "came_from": "its state before maintenance",
    "failed_cleanups": "cleanups that failed in a row",
    "used_at": "when it was last reserved or given back",
}
"""Everything to know about a host: what ``--fields`` takes, what JSON and CSV hold, in this order."""

PLAIN = ("name", "state", "flags", "since", "owner", "until", "address", "labels", "note")
"""The fields that ``plain`` shows when nobody chose."""


class Listing(Frozen):
    """What the records of a result hold, for ``--fields``; and which of them each text format shows unasked."""

    known: tuple[str, ...]
    plain: tuple[str, ...]
    csv: tuple[str, ...]


_HOSTS = Listing(tuple(FIELDS), PLAIN, tuple(FIELDS))
_RESULTS = Listing(
    ("host", "ok", "changed", "code", "status", "message", "hint", "source", "state", "reservation", "steps"),
    (),
    ("host", "ok", "changed", "code", "status", "message", "source", "state", "reservation"),
)
_RESERVATION = ("id", "owner", "purpose", "created_at", "expires_at", "ttl", "ended_at", "end_reason", "hosts")
_EVENT = ("id", "at", "host", "actor", "verb", "source", "dest", "reason", "reservation")

_FINDING = ("kind", "severity", "host", "message", "remedy", "fixable", "fixed", "number")

_TICKET = (
    "ticket",
    "position",
    "owner",
    "purpose",
    "wants",
    "missing",
    "age",
    "created_at",
    "deadline",
    "request_id",
)

LISTINGS: dict[type, Listing] = {
    Hosts: _HOSTS,
    HostDetail: Listing(tuple(FIELDS), (), tuple(FIELDS)),
    Grant: Listing(tuple(FIELDS), ("reservation", "name", "address", "until"), tuple(FIELDS)),
    Outcomes: _RESULTS,
    Plan: _RESULTS,
    Imported: _RESULTS,
    Reservations: Listing(_RESERVATION, ("id", "owner", "hosts", "expires_at", "purpose"), _RESERVATION),
    Queue: Listing(_TICKET, ("position", "ticket", "owner", "age", "wants", "missing"), _TICKET),
    History: Listing(_EVENT, ("at", "host", "actor", "verb", "source", "dest", "reason"), _EVENT),
    Diagnosis: Listing(_FINDING, ("severity", "fixed", "kind", "host", "message", "remedy"), _FINDING),
}
"""The results that hold a list, and what its records hold."""


def check_fields(fields: Iterable[str], known: tuple[str, ...]) -> None:
    """An unknown field is a :class:`UsageError` that names the nearest one and all."""
    for name in fields:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}? " if near else ""
            raise UsageError(
                f"there is no field {name!r}",
                hint=f"{hint}known: {', '.join(known)}",
                details={"field": name, "known": list(known)},
            )


def host_record(host: Host) -> Record:
    """One host: all its :data:`FIELDS`."""
    # Written out, for this runs once for each host of a listing.
    spec, held = host.spec, host.reservation
    return {
        "name": spec.name,
        "state": host.state.value,
        "flags": [*flags(host)],
        "since": iso(host.since),
        "owner": held.owner if held else None,
        "purpose": held.purpose if held else None,
        "reservation": held.id if held else None,
        "until": iso(held.expires_at) if held and held.expires_at else None,
        "address": spec.address,
        "mac": spec.mac,
        "labels": dict(spec.labels),
        "hardware": dict(spec.hardware),
        "bmc": _bmc(spec.bmc),
        "note": spec.note,
        "dirty": host.dirty,
        "cordoned": host.cordon is not None,
        "cordon": _mark(host.cordon),
        "undeclared": host.undeclared,
        "fault": host.fault,
        "maintenance": [_mark(mark) for mark in host.maintenance],
        "came_from": host.came_from and host.came_from.value,
        "failed_cleanups": host.failed_cleanups,
        "used_at": iso(host.used_at) if host.used_at else None,
    }


def reservation_record(reservation: Reservation, hosts: Iterable[str]) -> Record:
    """One reservation with the names of its hosts; ``ttl`` in seconds."""
    r = reservation
    return {
        "id": r.id,
        "owner": r.owner,
        "purpose": r.purpose,
        "created_at": iso(r.created_at),
        "expires_at": iso(r.expires_at) if r.expires_at else None,
        "ttl": int(r.ttl.total_seconds()) if r.ttl else None,
        "ended_at": iso(r.ended_at) if r.ended_at else None,
        "end_reason": r.end_reason,
        "hosts": [*hosts],
    }


def queued_record(item: Queued, now: datetime) -> Record:
    """One ticket of the queue; ``age`` is in whole seconds."""
    ticket = item.ticket
    return {
        "ticket": ticket.id,
        "position": item.position,
        "owner": ticket.owner,
        "purpose": ticket.purpose,
        "wants": item.wants,
        "missing": item.missing,
        "age": max(0, int((now - ticket.created_at).total_seconds())),
        "created_at": iso(ticket.created_at),
        "deadline": iso(ticket.deadline) if ticket.deadline else None,
        "request_id": ticket.request_id,
    }


def event_record(event: Event) -> Record:
    """One line of history; a ``source`` or ``dest`` of null is outside the inventory."""
    return {
        "id": event.id,
        "at": iso(event.at),
        "host": event.host,
        "actor": event.actor,
        "verb": event.verb.value,
        "source": event.source and event.source.value,
        "dest": event.dest and event.dest.value,
        "reason": event.reason,
        "reservation": event.reservation,
    }


def finding_record(finding: Finding) -> Record:
    """One thing that ``doctor`` found."""
    return {
        "kind": finding.kind,
        "severity": finding.severity.value,
        "host": finding.host,
        "message": finding.message,
        "remedy": finding.remedy,
        "fixable": finding.fixable,
        "fixed": finding.fixed,
        "number": finding.number,
    }


def step_record(step: CheckResult) -> Record:
    """One check or cleanup step."""
    return {
        "step": step.step,
        "verdict": step.verdict.value,
        "detail": step.detail,
        "seconds": round(step.seconds, 3),
        "at": iso(step.at) if step.at else None,
    }


def outcome_record(outcome: Outcome) -> Record:
    """What became of one host; ``code`` is ``done``, or the stable word for its failure."""
    error = outcome.error
    return {
        "host": outcome.host,
        "ok": error is None,
        "changed": outcome.changed,
        "code": error.code if error else "done",
        "status": int(error.status) if error else 0,
        "message": error.message if error else outcome.message,
        "hint": error.hint if error else None,
        "source": outcome.source and outcome.source.value,
        "state": outcome.state and outcome.state.value,
        "reservation": outcome.reservation,
        "steps": [step_record(step) for step in outcome.steps],
    }


def answer_record(answer: VerbAnswer) -> Record:
    """Whether one verb is open; ``open`` is null when steps that would run first decide."""
    return {
        "verb": answer.verb.value,
        "open": answer.open,
        "dest": answer.dest and answer.dest.value,
        "words": [*answer.words],
        "command": answer.command,
    }


def error_document(error: BmhctlError) -> Record:
    """What stderr gets in JSON mode: one object with a stable ``code`` word."""
    return {
        "version": VERSION,
        "error": {
            "code": error.code,
            "status": int(error.status),
            "message": error.message,
            "host": error.host,
            "hint": error.hint,
            "details": jsonable(error.details),
        },
    }


class Envelope(Frozen):
    """A document to write: its head, and its records under ``key`` (None: it has no list of its own)."""

    head: Record
    key: str | None = None
    records: Iterable[Record] = ()


def document(result: object, fields: tuple[str, ...] | None = None) -> Envelope:
    """The document of a result; ``fields`` narrows its records to some of their keys."""
    match result:
        case Hosts():
            return _listing("hosts", {"now": iso(result.now)}, "hosts", _picked(map(host_record, result.hosts), fields))
        case HostDetail():
            events: list[Json] = [event_record(event) for event in result.events]
            return _single(
                "host",
                {
                    "now": iso(result.now),
                    "host": {**_pick(host_record(result.host), fields)},
                    "events": events,
                    "results": [step_record(step) for step in result.results],
                },
            )
        case Outcomes() | Plan():
            kind = "plan" if isinstance(result, Plan) else "outcomes"
            head: Record = {"verb": result.verb, "notes": [*result.notes]}
            return _listing(kind, head, "results", _picked(map(outcome_record, result.items), fields))
        case Imported():
            head = {"dry_run": result.dry_run, "skipped": [*result.skipped], "warnings": [*result.warnings]}
            return _listing("imported", head, "results", _picked(map(outcome_record, result.items), fields))
        case Grant():
            head = {"reservation": {**_held(result.held)}, "notes": [*result.notes]}
            taken = (replace(host, reservation=result.held.reservation) for host in result.held.hosts)
            return _listing("grant", head, "hosts", _picked(map(host_record, taken), fields))
        case Reservations():
            return _listing(
                "reservations", {"now": iso(result.now)}, "reservations", _picked(map(_held, result.items), fields)
            )
        case Queue():
            tickets = (queued_record(item, result.now) for item in result.items)
            return _listing("queue", {"now": iso(result.now)}, "tickets", _picked(tickets, fields))
        case History():
            head = {"now": iso(result.now), "host": result.host}
            return _listing("history", head, "events", _picked(map(event_record, result.events), fields))
        case Diagnosis():
            head = {
                "now": iso(result.now),
                "inventory": result.inventory,
                "healthy": not result.broken,
                "backup": result.backup,
                "counts": {**result.counts},
            }
            return _listing("diagnosis", head, "findings", _picked(map(finding_record, result.findings), fields))
        case Status():
            return _single("status", _status(result))
        case Why():
            return _single("why", {"now": iso(result.now), "host": {**host_record(result.host)}, **_why(result)})
        case Graph():
            return _single("graph", _graph(result))
        case Done():
            details = jsonable(result.details)
            return _single(
                "done",
                {"command": result.command, "message": result.message, "details": details, "notes": [*result.notes]},
            )
    raise TypeError(f"no record for {type(result).__name__}")


def rows(result: object, fields: tuple[str, ...]) -> Iterator[list[str]]:
    """The records of a listing as cells of text, in the order of ``fields``; for ``plain`` and ``csv``."""
    if isinstance(result, HostDetail):
        result = Hosts((result.host,), result.now)
    for record in document(result, fields).records:
        yield [flatten(record[name]) for name in fields]


def _listing(kind: str, head: Record, key: str, records: Iterable[Record]) -> Envelope:
    return Envelope({"version": VERSION, "kind": kind, **head}, key, records)


def _single(kind: str, body: Record) -> Envelope:
    return Envelope({"version": VERSION, "kind": kind, **body})


def _picked(records: Iterable[Record], fields: tuple[str, ...] | None) -> Iterable[Record]:
    return (_pick(record, fields) for record in records) if fields else records


def _pick(record: Record, fields: tuple[str, ...] | None) -> Record:
    return {name: record[name] for name in fields} if fields else record


def _held(held: Held) -> Record:
    return reservation_record(held.reservation, (host.name for host in held.hosts))


def _status(status: Status) -> Record:
    return {
        "now": iso(status.now),
        "inventory": status.inventory,
        "total": sum(status.counts.values()),
        "counts": {state.value: status.counts.get(state, 0) for state in State},
        "free": status.free,
        "waiting": status.waiting,
        "totals": {
            **{name: status.total(name) for name in ("cordoned", "undeclared", "faults", "expired", "endings")},
            "reservations": status.total("held"),
        },
        "cordoned": [*status.cordoned],
        "undeclared": [*status.undeclared],
        "faults": [*status.faults],
        "expired": [*status.expired],
        "endings": [{"at": iso(e.at), "what": e.what, "hosts": [*e.hosts]} for e in status.endings],
        "reservations": [_held(held) for held in status.held],
    }


def _why(why: Why) -> Record:
    return {
        "summary": why.summary,
        "facts": [*why.facts],
        "verbs": [answer_record(answer) for answer in why.answers],
        "next": why.next,
        "results": [step_record(step) for step in why.results],
    }


def _graph(graph: Graph) -> Record:
    from bmhctl.lifecycle.table import EDGES, MEANING

    return {
        "host": graph.why.host.name if graph.why else None,
        "state": graph.why.host.state.value if graph.why else None,
        "states": [
            {"name": state.value, "meaning": MEANING[state], "count": graph.counts.get(state, 0)} for state in State
        ],
        "edges": [
            {
                "verb": edge.verb.value,
                "source": edge.source and edge.source.value,
                "dest": edge.dest and edge.dest.value,
                "label": edge.label,
                "guards": [guard.value for guard in edge.guards],
                "why": edge.why,
                "drawn": edge.drawn,
            }
            for edge in EDGES
        ],
        "events": [event_record(event) for event in graph.events],
        "verbs": [answer_record(answer) for answer in graph.why.answers] if graph.why else [],
    }
