"""The tables of an inventory and their columns, the same in every backend; ``migrations`` makes them."""

from __future__ import annotations

from datetime import timedelta

VERSION = 20
"""The schema's version: the number of migrations that an inventory of this bmhctl has had."""

SPEC_COLUMNS = ("name", "address", "mac", "labels", "bmc", "hardware", "note")
LIFECYCLE_COLUMNS = (
    "state",
    "since",
    "dirty",
    "undeclared",
    "came_from",
    "cordon",
    "maintenance",
    "fault",
    "failed_cleanups",
    "reservation",
    "used_at",
    "proven_at",
    "failed_setups",
    "setup",
    "failed_tasks",
    "observed",
    "planned",
    "failed_recycles",
)
RESERVATION_COLUMNS = (
    "id",
    "owner",
    "purpose",
    "created_at",
    "expires_at",
    "ttl",
    "ended_at",
    "end_reason",
    "ended_how",
    "wants",
    "request_id",
    "renewed_at",
    "params",
    "prepared_at",
    "asked_at",
    "tags",
    "shared_with",
)
TICKET_COLUMNS = (
    "id",
    "owner",
    "wants",
    "created_at",
    "refreshed_at",
    "purpose",
    "ttl",
    "endless",
    "deadline",
    "request_id",
    "tags",
    "excused_at",
)
QUEUE_EVENT_COLUMNS = ("id", "ticket", "at", "actor", "verb", "owner", "requirements", "reason", "reservation")
BOOKING_COLUMNS = (
    "id",
    "owner",
    "purpose",
    "starts_at",
    "ends_at",
    "created_at",
    "wants",
    "hosts",
    "request_id",
    "resumes",
    "due_at",
    "reservation",
    "ended_at",
    "end_reason",
)
EVENT_COLUMNS = ("id", "host", "at", "actor", "verb", "source", "dest", "reason", "reservation", "steps", "before")

TABLES: dict[str, tuple[str, ...]] = {
    "meta": ("key", "value"),
    "reservations": RESERVATION_COLUMNS,
    "hosts": ("id", "last_event", "back_at", "planned_at", *SPEC_COLUMNS, *LIFECYCLE_COLUMNS),
    "facts": ("host_id", "key", "value", "number"),
    "events": ("host_id", *EVENT_COLUMNS),
    "results": ("host_id", "phase", "step", "verdict", "detail", "seconds", "at", "digest"),
    "departed": ("key", "mac", "at", "reason", "retired"),
    "queue_events": QUEUE_EVENT_COLUMNS,
    "bookings": BOOKING_COLUMNS,
}
"""Every table that holds an inventory, with its columns, in an order that satisfies the foreign keys."""

NEWEST_IDS = {
    "hosts": "SELECT MAX(id) FROM (SELECT id FROM hosts UNION ALL SELECT host_id FROM events) ids",
    "events": "SELECT MAX(id) FROM events",
    "queue_events": "SELECT MAX(id) FROM queue_events",
    "tickets": "SELECT MAX(id) FROM (SELECT id FROM tickets UNION ALL SELECT ticket FROM queue_events) ids",
}
"""A query for the newest id of each of these tables whose rows are numbered; the two histories have the ids of removed
hosts and tickets."""

INVENTORY_KEY = "inventory"
"""The key in ``meta`` of a random word that tells an inventory on a server from one that replaces it.

An old inventory may have no such word.
"""

SUCCESSOR_KEY = "successor"
"""The key in ``meta`` of the location that replaced a retired inventory; an inventory in use has no such text."""

GUARDED = ("hosts", "reservations", "tickets", "events")
"""The tables in which a retired inventory refuses inserts and updates, so that every command that matters fails.
Tickets can still be removed, and ``meta`` can still be changed."""

RECOUNT = (
    "DELETE FROM counts",
    "INSERT INTO counts (state, number) VALUES"
    " ('initial', 0), ('available', 0), ('reserved', 0), ('tainted', 0), ('maintenance', 0)",
    "UPDATE counts SET number = (SELECT COUNT(*) FROM hosts WHERE hosts.state = counts.state)",
)
"""Statements that count the hosts in each state again."""

CLOCK_SLACK = timedelta(minutes=1)
"""How far a clock may be set back before leases are corrected; time servers make small corrections."""

_COUNTED_FROM = "COALESCE(renewed_at, created_at)"
_AHEAD = f"{_COUNTED_FROM} > ? + {CLOCK_SLACK // timedelta(microseconds=1)}"
DUE_LEASES = (
    ("ended_at IS NULL AND expires_at <= ?", "expires_at"),
    (f"ended_at IS NULL AND expires_at IS NOT NULL AND {_AHEAD}", f"{_COUNTED_FROM} DESC"),
)
"""Conditions for due leases at a time, each with the order of its index: a lease is due if it has ended, or if it
counts from a time in the future, which shows that the clock was wrong then. The order and a limit make PostgreSQL use
the index: it expects most leases to be due, and would otherwise read all open ones to find none."""
