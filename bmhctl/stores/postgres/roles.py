"""The SQL for three roles on a server: viewer, runner, operator.

Their rights are computed from the tables of the schema, and from the columns that the statements of the store write.
Only the owner may alter a table, change an id, or change or delete an event.
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
_LONGEST_PREFIX = 50  # bytes; a name in PostgreSQL has at most 63, and the role's own name follows the prefix

Rights = dict[str, dict[str, tuple[str, ...]]]
"""For each table, its privileges, and the columns of each; without columns, the privilege is for the whole table."""


class Role(Frozen):
    """A role: its name, its line of help, and its rights.

    If a lesser role is refused, the message says what this role ``does``, and ``who`` has it.
    """

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
    "facts": {"INSERT": (), "DELETE": ()},  # for the properties that steps report
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
"""All roles, the one with the fewest rights first; each also has the rights of the roles before it."""

_SEQUENCES = ("hosts", "events")
"""The tables where inserting a row takes an id from a sequence."""


def tables() -> tuple[str, ...]:
    """Every table of an inventory on a server."""
    statements = (each for migration in MIGRATIONS for each in (*migration.statements, *migration.on_server))
    return tuple(found[1] for found in map(_CREATED.match, statements) if found)


def sql(schema: str, prefix: str) -> str:
    """Return the SQL that creates missing roles, and gives each role exactly its rights; it can be run again.

    ``schema`` is the inventory's schema, and ``prefix`` begins the names of the roles. Raises :class:`UsageError` for a
    prefix that is not valid in the name of a role.
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
        "-- bmhctl, so that each role has exactly these rights. The owner needs CREATEROLE.",
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
    """Return the error for a refused statement: what the role may not do, and who can change that.

    ``user`` is the role. ``owner`` is the owner of the inventory; None if there is no inventory yet. ``said`` is the
    server's message. The rights are read over another connection, because this one may be in a failed transaction.
    ``was_open`` is whether the role could read the inventory before; then it may get the right again soon, and the
    error is an :class:`AwayError`.
    """
    if owner is None:
        return UnreachableError(
            f"{address.shown}: the role {user} may not make the tables of an inventory",
            hint="ask the owner of the database for the privilege CREATE on the database, or on a schema",
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
    hint = (
        f"ask {owner}, who owns the inventory: {role.who} may;"
        " bmhctl policy grants prints the SQL for that, which must run again after each update"
    )
    if user == owner:
        grant = f"GRANT USAGE ON SCHEMA {_quoted(address.schema)} TO {_quoted(user)}"
        hint = f"{user} owns its tables, but not the schema: {grant}"
    return kind(f"{address.shown}: the role {user} may not {role.does}{some}", hint=hint)


def _missing(address: Address) -> list[tuple[int, str]]:
    """Return the rights that the role lacks, each with the index of the first of :data:`ROLES` that has it."""
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
    """Yield each right: the index of the first role with it, its table or sequence, privilege and column, if any."""
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
