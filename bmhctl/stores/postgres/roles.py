"""The SQL for three roles on a server: viewer, runner, operator.

The rights follow from the tables of the schema and from the columns that the statements of the store write. Only the
owner may alter a table, change an id, or change or delete an event.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg

from bmhctl.errors import AwayError, BmhctlError, UnreachableError, UsageError
from bmhctl.stores.migrations import MIGRATIONS
from bmhctl.stores.postgres.connection import connect
from bmhctl.stores.postgres.url import Address, is_name
from bmhctl.stores.schema import BOOKING_COLUMNS, LIFECYCLE_COLUMNS, RESERVATION_COLUMNS, SPEC_COLUMNS
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

_CREATED = pattern(r"CREATE TABLE (\w+)")
_LONGEST_PREFIX = 50  # bytes of a prefix: a whole name in PostgreSQL may have 63

Rights = dict[str, dict[str, tuple[str, ...]]]
"""For each table, the privileges on it, each with its columns; none: on the whole table."""


class Role(Frozen):
    """A role: its line of help, its rights, and for refusals of lesser roles what it does and ``who`` has it."""

    name: str
    help: str
    does: str
    who: str
    rights: Rights


_MOVES = (*LIFECYCLE_COLUMNS, "back_at", "planned_at", "last_event")
_RUNNER: Rights = {
    "hosts": {"UPDATE": _MOVES},
    "events": {"INSERT": ()},
    "reservations": {"INSERT": (), "UPDATE": RESERVATION_COLUMNS[1:]},
    "tickets": {"INSERT": (), "UPDATE": ("refreshed_at", "excused_at"), "DELETE": ()},
    "queue_events": {"INSERT": ()},
    "results": {"INSERT": (), "UPDATE": ()},
    "facts": {"INSERT": (), "DELETE": ()},  # steps report properties
    "bookings": {"INSERT": (), "UPDATE": BOOKING_COLUMNS[1:]},
    "claims": {"INSERT": (), "UPDATE": (), "DELETE": ()},
}
_OPERATOR: Rights = _RUNNER | {
    "hosts": {"INSERT": (), "UPDATE": (*SPEC_COLUMNS, *_MOVES), "DELETE": ()},
    "tickets": {"INSERT": (), "UPDATE": ("refreshed_at", "excused_at", "place"), "DELETE": ()},
    "departed": {"INSERT": (), "DELETE": ()},
    "meta": {"INSERT": (), "UPDATE": (), "DELETE": ()},
    "counts": {"INSERT": (), "UPDATE": ("number",), "DELETE": ()},
}

ROLES = (
    Role(
        name="viewer",
        help="reads everything, changes nothing",
        does="read this inventory",
        who="a viewer",
        rights={},
    ),
    Role(
        name="runner",
        help="also reserves hosts, gives them back, runs their steps, puts them into maintenance",
        does="change anything",
        who="a runner, or an operator for hosts and policy,",
        rights=_RUNNER,
    ),
    Role(
        name="operator",
        help="also adds, changes and removes hosts, replaces the policy, and moves tickets",
        does="change which hosts there are, what is declared about them, the policy, or the order of the queue",
        who="an operator",
        rights=_OPERATOR,
    ),
)
"""The one with the fewest rights first; each also has the rights of those before it."""

_SEQUENCES = ("hosts", "events")
"""The tables whose ids are taken from a sequence by those who insert."""


def tables() -> tuple[str, ...]:
    """Every table of an inventory on a server."""
    statements = (each for migration in MIGRATIONS for each in (*migration.statements, *migration.on_server))
    return tuple(found[1] for found in map(_CREATED.match, statements) if found)


def sql(schema: str, prefix: str) -> str:
    """Return the SQL that makes the roles where they are missing, and gives each exactly its rights; safe to run again.

    Raises :class:`UsageError` for a prefix that is not valid in the name of a role.
    """
    if not is_name(prefix, _LONGEST_PREFIX) or not is_name(f"{prefix}_{ROLES[0].name}"):
        raise UsageError(
            f"{prefix!r} can't begin the name of a role",
            hint=f"--prefix lab: letters, digits, '_' and '-', at most {_LONGEST_PREFIX}; 'pg_…' is PostgreSQL's own",
        )
    names = {role.name: f"{prefix}_{role.name}" for role in ROLES}
    everyone = ", ".join(map(_quoted, names.values()))
    everything = ", ".join(f"{_quoted(schema)}.{table}" for table in tables())
    lines = [
        f'-- Roles for the inventory in the schema "{schema}". Its owner runs this, and again after each update of',
        "-- bmhctl: then each role has just these rights. Where a role is missing, making it takes CREATEROLE.",
        *(f"--   {names[role.name]}: {role.help}" for role in ROLES),
        f"-- To add a user:  CREATE ROLE ci LOGIN PASSWORD '...' IN ROLE {_quoted(names['runner'])};",
        "BEGIN;",
        "DO $$ BEGIN",
        *(
            f"  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')"
            f" THEN CREATE ROLE {_quoted(name)} NOLOGIN; END IF;"
            for name in names.values()
        ),
        "END $$;",
        f"REVOKE ALL ON SCHEMA {_quoted(schema)} FROM {everyone};",
        f"REVOKE ALL ON {everything} FROM {everyone};",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {_quoted(schema)} FROM {everyone};",
        f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {everyone};",
        f"GRANT SELECT ON {everything} TO {everyone};",
        *(
            f"GRANT {_privileges(rights)} ON {_quoted(schema)}.{table} TO {_quoted(names[role.name])};"
            for role in ROLES
            for table, rights in role.rights.items()
        ),
        *(
            f"GRANT USAGE ON SEQUENCE {_quoted(schema)}.{table}_id_seq TO {_quoted(names[role.name])};"
            for role in ROLES
            for table in _SEQUENCES
            if "INSERT" in role.rights.get(table, {})
        ),
        "COMMIT;",
    ]
    return "\n".join(lines) + "\n"


def refusal(address: Address, *, user: str, owner: str | None, said: str, was_open: bool) -> UnreachableError:
    """Return the error for a statement that the server refused: what the role may not do, and who can change that.

    ``user`` is the role, ``owner`` the owner of the inventory (None: there is no inventory yet), ``said`` the server's
    message. The rights are read over another connection, because this one may be in a failed transaction. ``was_open``:
    the role could read the inventory before; if it can't now, it may be able to soon: :class:`AwayError`.
    """
    if owner is None:
        return UnreachableError(
            f"{address.shown}: the role {user} may not make the tables of an inventory",
            hint="ask the owner of the database: it takes CREATE on the database, or on a schema",
        )
    missing: list[tuple[int, str]] = []
    with suppress(BmhctlError, psycopg.Error):
        missing = _missing(address)
    if not missing:
        return UnreachableError(f"{address.shown}: {said}", hint=f"ask {owner}, who owns the inventory")
    least = missing[0][0]
    kind = AwayError if was_open and least == 0 else UnreachableError
    role, lacks = ROLES[least], [right for number, right in missing if number == least]
    has_some = len(lacks) < sum(number == least for number, *_ in _rights())
    some = f": it lacks {', '.join(dict.fromkeys(lacks))}" if has_some else ""
    return kind(
        f"{address.shown}: the role {user} may not {role.does}{some}",
        hint=f"ask {owner}, who owns the inventory: {role.who} may;"
        " bmhctl policy grants prints the SQL, to run again after each update",
    )


def _missing(address: Address) -> list[tuple[int, str]]:
    """Return the rights that the role lacks, each with the number of the first of :data:`ROLES` that has it."""
    columns = map(list, zip(*_rights(), strict=True))
    with closing(connect(address)) as connection:
        rows = connection.execute(_LACKS, [address.schema, *columns, address.schema])
        return [(int(number or 0), f"{privilege} on {name}") for number, name, privilege in rows]


_LACKS = """
SELECT 0, nspname, 'USAGE' FROM pg_namespace WHERE nspname = %s AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT r.role, r.name, r.privilege FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[])
    AS r (role, name, privilege, attribute)
JOIN pg_class c ON c.relname = r.name AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = r.attribute
WHERE NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, r.privilege)
    WHEN r.attribute IS NULL THEN has_table_privilege(c.oid, r.privilege)
    ELSE has_column_privilege(c.oid, a.attnum, r.privilege) END
ORDER BY 1, 2, 3
"""


def _rights() -> Iterator[tuple[int, str, str, str | None]]:
    """Yield each right: the number of the first role that has it, table or sequence, privilege, column (None: all)."""
    yield from ((0, table, "SELECT", None) for table in tables())
    known: set[tuple[str, str, str | None]] = set()
    for number, role in enumerate(ROLES):
        rights = {
            (table, privilege, column)
            for table, privileges in role.rights.items()
            for privilege, columns in privileges.items()
            for column in columns or (None,)
        }
        rights |= {(f"{table}_id_seq", "USAGE", None) for table in _SEQUENCES if (table, "INSERT", None) in rights}
        yield from ((number, *right) for right in rights - known)
        known |= rights


def _privileges(rights: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{each} ({', '.join(columns)})" if columns else each for each, columns in rights.items())


def _quoted(name: str) -> str:
    return f'"{name}"'
