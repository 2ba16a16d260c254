"""The ordered migrations that make an inventory's tables; imported only to create or to migrate an inventory."""

from __future__ import annotations

from typing import NamedTuple

from bmhctl.errors import InvalidError
from bmhctl.stores.schema import RECOUNT, VERSION


class Migration(NamedTuple):
    """One step of the schema: its name and its statements, applied in one transaction.

    ``statements`` run on every database first; then ``in_file`` on SQLite, or ``on_server`` on PostgreSQL.
    """

    name: str
    statements: tuple[str, ...]
    on_server: tuple[str, ...] = ()
    in_file: tuple[str, ...] = ()


_COUNT_HOSTS = """{create} FUNCTION count_hosts() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = {path} AS $$
        DECLARE first BIGINT; last BIGINT;
        BEGIN{first}
            IF TG_OP = 'INSERT' THEN
                INSERT INTO counts (state, number) SELECT state, COUNT(*) FROM entered GROUP BY state;
            ELSIF TG_OP = 'DELETE' THEN
                INSERT INTO counts (state, number) SELECT state, -COUNT(*) FROM gone GROUP BY state;
            ELSE
                INSERT INTO counts (state, number) VALUES (OLD.state, -1) RETURNING id INTO first;
                INSERT INTO counts (state, number) VALUES (NEW.state, 1) RETURNING id INTO last;
                IF first % 10000 = 0 OR last % 10000 = 0 THEN
                    WITH seen AS (
                        DELETE FROM counts WHERE id IN (SELECT id FROM counts FOR UPDATE SKIP LOCKED)
                        RETURNING state, number
                    )
                    INSERT INTO counts (state, number) SELECT state, SUM(number) FROM seen GROUP BY state;
                END IF;
            END IF;
            RETURN NULL;
        END $$"""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "core",
        (
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
            """CREATE TABLE reservations (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                purpose TEXT,
                created_at BIGINT NOT NULL,
                expires_at BIGINT,
                ttl BIGINT,
                ended_at BIGINT,
                end_reason TEXT
            )""",
            "CREATE INDEX reservations_open ON reservations (expires_at) WHERE ended_at IS NULL",
            """CREATE TABLE hosts (
                id {serial},
                name TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL
                    CHECK (state IN ('initial', 'available', 'reserved', 'tainted', 'maintenance')),
                since BIGINT NOT NULL,
                dirty SMALLINT NOT NULL,
                undeclared SMALLINT NOT NULL,
                came_from TEXT,
                cordon TEXT,
                maintenance TEXT,
                fault TEXT,
                failed_cleanups INTEGER NOT NULL,
                reservation TEXT REFERENCES reservations (id),
                used_at BIGINT,
                last_event BIGINT NOT NULL,
                address TEXT,
                mac TEXT,
                labels TEXT NOT NULL,
                bmc TEXT,
                hardware TEXT NOT NULL,
                note TEXT,
                CHECK (state <> 'reserved' OR reservation IS NOT NULL),
                CHECK (reservation IS NULL OR state IN ('reserved', 'maintenance')),
                CHECK (dirty = 0 OR state NOT IN ('initial', 'available')),
                CHECK (dirty = 1 OR state NOT IN ('reserved', 'tainted'))
            )""",
            "CREATE INDEX hosts_turn ON hosts (state, COALESCE(used_at, 0), id)",
            "CREATE INDEX hosts_mac ON hosts (mac) WHERE mac IS NOT NULL",
            "CREATE INDEX hosts_address ON hosts (address) WHERE address IS NOT NULL",
            "CREATE INDEX hosts_reservation ON hosts (reservation) WHERE reservation IS NOT NULL",
            """CREATE TABLE facts (
                host_id BIGINT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
                key TEXT NOT NULL,
                value TEXT NOT NULL,
                number DOUBLE PRECISION,
                PRIMARY KEY (host_id, key)
            )""",
            "CREATE INDEX facts_value ON facts (key, value, host_id)",
            """CREATE TABLE events (
                id {serial},
                host_id BIGINT NOT NULL,
                host TEXT NOT NULL,
                at BIGINT NOT NULL,
                actor TEXT NOT NULL,
                verb TEXT NOT NULL,
                source TEXT,
                dest TEXT,
                reason TEXT,
                reservation TEXT
            )""",
            "CREATE INDEX events_host ON events (host_id, id)",
            "CREATE INDEX events_name ON events (host, id)",
            # Used machines that left, each under its name and its MAC: one that comes back is tainted, not clean.
            """CREATE TABLE departed (
                key TEXT PRIMARY KEY,
                mac TEXT,
                at BIGINT NOT NULL,
                reason TEXT NOT NULL
            )""",
            "CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL)",
        ),
    ),
    Migration(
        "queue",
        (
            "ALTER TABLE reservations ADD COLUMN wants TEXT",
            "ALTER TABLE reservations ADD COLUMN ended_how TEXT",
            "ALTER TABLE reservations ADD COLUMN request_id TEXT",
            "CREATE UNIQUE INDEX reservations_request ON reservations (owner, request_id) WHERE request_id IS NOT NULL",
            """CREATE TABLE tickets (
                id {serial},
                owner TEXT NOT NULL,
                wants TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                refreshed_at BIGINT NOT NULL,
                purpose TEXT,
                ttl BIGINT,
                endless SMALLINT NOT NULL,
                deadline BIGINT,
                request_id TEXT
            )""",
            "CREATE UNIQUE INDEX tickets_request ON tickets (owner, request_id) WHERE request_id IS NOT NULL",
        ),
    ),
    Migration(
        "results",
        (
            """CREATE TABLE results (
                host_id BIGINT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
                step TEXT NOT NULL,
                verdict TEXT NOT NULL,
                detail TEXT NOT NULL,
                seconds DOUBLE PRECISION NOT NULL,
                at BIGINT NOT NULL,
                PRIMARY KEY (host_id, step)
            )""",
        ),
    ),
    Migration(
        "claims",
        (),
        on_server=(
            """CREATE TABLE claims (
                name TEXT PRIMARY KEY,
                token TEXT NOT NULL,
                holder TEXT NOT NULL,
                backend INTEGER NOT NULL,
                guarded SMALLINT NOT NULL,
                until BIGINT NOT NULL
            )""",
        ),
    ),
    Migration(
        "renewals",
        (
            "ALTER TABLE reservations ADD COLUMN renewed_at BIGINT",
            "CREATE INDEX reservations_counted ON reservations (COALESCE(renewed_at, created_at))"
            " WHERE ended_at IS NULL",
        ),
    ),
    # How many hosts are in each state: the sum of the state's rows. Triggers update the table.
    Migration(
        "counts",
        ("CREATE TABLE counts (id {serial}, state TEXT NOT NULL, number BIGINT NOT NULL)", *RECOUNT),
        in_file=(
            """CREATE TRIGGER hosts_entered AFTER INSERT ON hosts BEGIN
                UPDATE counts SET number = number + 1 WHERE state = NEW.state;
            END""",
            """CREATE TRIGGER hosts_moved AFTER UPDATE OF state ON hosts WHEN OLD.state <> NEW.state BEGIN
                UPDATE counts SET number = number - 1 WHERE state = OLD.state;
                UPDATE counts SET number = number + 1 WHERE state = NEW.state;
            END""",
            """CREATE TRIGGER hosts_left AFTER DELETE ON hosts BEGIN
                UPDATE counts SET number = number - 1 WHERE state = OLD.state;
            END""",
        ),
        on_server=(
            # Changes only add rows, so that no writer waits for another. Now and then one merges unlocked rows.
            _COUNT_HOSTS.format(create="CREATE", path='"{schema}", pg_temp', first=""),
            # The function runs with its owner's rights, so other roles must not be able to run it on their tables.
            "REVOKE EXECUTE ON FUNCTION count_hosts() FROM PUBLIC",
            """CREATE TRIGGER hosts_entered AFTER INSERT ON hosts REFERENCING NEW TABLE AS entered
                FOR EACH STATEMENT EXECUTE FUNCTION count_hosts()""",
            """CREATE TRIGGER hosts_moved AFTER UPDATE OF state ON hosts
                FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION count_hosts()""",
            """CREATE TRIGGER hosts_left AFTER DELETE ON hosts REFERENCING OLD TABLE AS gone
                FOR EACH STATEMENT EXECUTE FUNCTION count_hosts()""",
        ),
    ),
    Migration(
        "glance",
        (
            "ALTER TABLE hosts ADD COLUMN back_at BIGINT",
            "CREATE INDEX hosts_back ON hosts (back_at) WHERE back_at IS NOT NULL",
            "CREATE INDEX hosts_cordoned ON hosts (name, state, undeclared) WHERE cordon IS NOT NULL",
            "CREATE INDEX hosts_undeclared ON hosts (name, state) WHERE undeclared = 1",
            "CREATE INDEX hosts_faulty ON hosts (name) WHERE fault IS NOT NULL",
            "CREATE INDEX reservations_held ON reservations (created_at, id) WHERE ended_at IS NULL",
            "CREATE INDEX facts_number ON facts (key, number, host_id) WHERE number IS NOT NULL",
        ),
        in_file=(
            """UPDATE hosts SET back_at = (SELECT MAX(json_extract(value, '$[3]')) FROM json_each(maintenance))
                WHERE json_valid(maintenance)""",
        ),
        on_server=(
            """UPDATE hosts SET back_at =
                (SELECT MAX((mark->>3)::bigint) FROM jsonb_array_elements(maintenance::jsonb) marks (mark))
                WHERE maintenance LIKE '[[%]]'""",
        ),
    ),
    # The phase '' is unknown: in an older inventory, the result may be of a check or a cleanup step.
    Migration(
        "phases",
        (
            "ALTER TABLE hosts ADD COLUMN proven_at BIGINT",
            "ALTER TABLE hosts ADD COLUMN failed_setups INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE hosts ADD COLUMN setup TEXT",
            "CREATE INDEX hosts_proven ON hosts (COALESCE(proven_at, 0), id) WHERE state = 'available'",
        ),
        in_file=(
            """CREATE TABLE results_by_phase (
                host_id BIGINT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
                phase TEXT NOT NULL DEFAULT '',
                step TEXT NOT NULL,
                verdict TEXT NOT NULL,
                detail TEXT NOT NULL,
                seconds DOUBLE PRECISION NOT NULL,
                at BIGINT NOT NULL,
                digest TEXT,
                PRIMARY KEY (host_id, phase, step)
            )""",
            """INSERT INTO results_by_phase (host_id, step, verdict, detail, seconds, at)
                SELECT host_id, step, verdict, detail, seconds, at FROM results""",
            "DROP TABLE results",
            "ALTER TABLE results_by_phase RENAME TO results",
        ),
        # The table is altered, not replaced, so that roles keep their rights on it.
        on_server=(
            "ALTER TABLE results ADD COLUMN phase TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE results ADD COLUMN digest TEXT",
            "ALTER TABLE results DROP CONSTRAINT results_pkey",
            "ALTER TABLE results ADD PRIMARY KEY (host_id, phase, step)",
        ),
    ),
    Migration("failed tasks", ("ALTER TABLE hosts ADD COLUMN failed_tasks TEXT",)),
    Migration(
        "prepared",
        ("ALTER TABLE reservations ADD COLUMN params TEXT", "ALTER TABLE reservations ADD COLUMN prepared_at BIGINT"),
    ),
    # The columns stay empty in older rows: the values can't be computed afterwards.
    Migration(
        "kept",
        (
            "ALTER TABLE reservations ADD COLUMN asked_at BIGINT",
            "ALTER TABLE reservations ADD COLUMN tags TEXT",
            "ALTER TABLE tickets ADD COLUMN tags TEXT",
            "ALTER TABLE events ADD COLUMN steps TEXT",
            "CREATE INDEX events_at ON events (at)",
        ),
    ),
    # Machines that were retired, each under its MAC: they left clean, and an import reports one that comes back.
    Migration("retired", ("ALTER TABLE departed ADD COLUMN retired TEXT",)),
    # Hardware properties that steps reported, beside those that are declared.
    Migration("observed", ("ALTER TABLE hosts ADD COLUMN observed TEXT",)),
    # What was declared before an event changed it; empty in older events.
    Migration(
        "before",
        (
            "ALTER TABLE events ADD COLUMN before TEXT",
            "CREATE INDEX events_declared ON events (id) WHERE before IS NOT NULL",
        ),
    ),
    # A ticket's place in the queue is its id, until an operator moves a ticket: then all tickets get new places.
    Migration(
        "queue history",
        (
            "ALTER TABLE tickets ADD COLUMN place BIGINT",
            """CREATE TABLE queue_events (
                id {serial},
                ticket BIGINT NOT NULL,
                at BIGINT NOT NULL,
                actor TEXT NOT NULL,
                verb TEXT NOT NULL,
                owner TEXT NOT NULL,
                requirements TEXT NOT NULL,
                reason TEXT,
                reservation TEXT
            )""",
        ),
    ),
    Migration("shared", ("ALTER TABLE reservations ADD COLUMN shared_with TEXT",)),
    # Bookings and planned maintenances. A host's row also has the times that are set aside on the host, and when the
    # next one begins, so that a lock on the row covers them. ``due_at`` is when the next action for a booking is due.
    Migration(
        "bookings",
        (
            """CREATE TABLE bookings (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                purpose TEXT,
                starts_at BIGINT NOT NULL,
                ends_at BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                wants TEXT NOT NULL,
                hosts TEXT NOT NULL,
                request_id TEXT,
                resumes SMALLINT NOT NULL,
                due_at BIGINT,
                reservation TEXT,
                ended_at BIGINT,
                end_reason TEXT,
                CHECK (starts_at < ends_at),
                CHECK ((ended_at IS NULL) = (due_at IS NOT NULL))
            )""",
            "CREATE INDEX bookings_due ON bookings (due_at) WHERE due_at IS NOT NULL",
            "CREATE INDEX bookings_owner ON bookings (owner, starts_at, id) WHERE due_at IS NOT NULL",
            "CREATE UNIQUE INDEX bookings_request ON bookings (owner, request_id) WHERE request_id IS NOT NULL",
            "ALTER TABLE hosts ADD COLUMN planned TEXT",
            "ALTER TABLE hosts ADD COLUMN planned_at BIGINT",
            "CREATE INDEX hosts_planned ON hosts (planned_at, id) WHERE planned_at IS NOT NULL",
        ),
    ),
    # Since when a ticket is valid without a process, because the connections to the server were lost.
    Migration("excused tickets", ("ALTER TABLE tickets ADD COLUMN excused_at BIGINT",)),
    # NULL: ``recycle`` ignores the host. Older versions found hosts that a planned maintenance had freed by their
    # last event.
    Migration(
        "recycling",
        (
            "ALTER TABLE hosts ADD COLUMN failed_recycles INTEGER",
            """UPDATE hosts SET failed_recycles = 0 WHERE state = 'initial' AND EXISTS
                (SELECT 1 FROM events e WHERE e.id = hosts.last_event AND e.verb = 'resume' AND e.actor = 'bmhctl')""",
            "CREATE INDEX hosts_recycling ON hosts (id) WHERE failed_recycles IS NOT NULL",
        ),
    ),
    # The schema may be renamed, for example to restore a dump beside it. A function with the schema's old name would
    # fail then, or count the hosts in another inventory.
    Migration(
        "renamed schema",
        (),
        on_server=(
            _COUNT_HOSTS.format(
                create="CREATE OR REPLACE",
                path="pg_catalog, pg_temp",
                first="\n            PERFORM set_config"
                "('search_path', quote_ident(TG_TABLE_SCHEMA) || ', pg_temp', true);",
            ),
        ),
    ),
)
"""All migrations, in the order in which they are applied; a released migration never changes."""


def check_known(version: int, location: str) -> None:
    """Raise :class:`InvalidError` for the version of an inventory that a newer bmhctl wrote."""
    if version > VERSION:
        raise InvalidError(
            f"{location} was written by a newer bmhctl (schema {version}; this one knows {VERSION})",
            hint="update bmhctl on this machine",
        )


if len(MIGRATIONS) != VERSION:
    raise AssertionError("schema.VERSION is the number of migrations")
