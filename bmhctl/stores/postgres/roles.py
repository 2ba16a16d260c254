"""The SQL for three roles on a server: viewer, runner, operator.

The rights follow from the tables of the schema and from the columns that each statement of the engine writes. Nobody
but the owner may alter a table, change an id, or change or delete an event.
"""

from __future__ import annotations

from bmhctl.errors import UnreachableError, UsageError
from bmhctl.stores.migrations import MIGRATIONS
from bmhctl.stores.postgres.url import is_name
from bmhctl.stores.schema import LIFECYCLE_COLUMNS, RESERVATION_COLUMNS, SPEC_COLUMNS
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.values import Frozen

_CREATED = pattern(r"CREATE TABLE (\w+)")
_WRITES = pattern(
    r"(INSERT) INTO (\w+)|(UPDATE) (\w+) SET (\w+)|(DELETE) FROM (\w+)|FROM (\w+)\b.*\bFOR (UPDATE)"
    r"|nextval\('(\w+)_id_seq'"
)
_WORD = pattern(r"\w+")
_LONGEST_PREFIX = 50  # of 63 that a name in PostgreSQL may have

Rights = dict[str, dict[str, tuple[str, ...]]]
"""For each table, what may be done to it, with which columns; none: with all."""


class Role(Frozen):
    """One of the roles: what it is for, what lesser ones are told that they may not do and who may, and its rights."""

    name: str
    help: str
    does: str
    who: str
    rights: Rights

    def may(self, privilege: str, table: str, column: str | None) -> bool:
        """Whether it may do that."""
        columns = self.rights.get(table, {}).get(privilege)
        return columns is not None and (not columns or column is None or column in columns)


_MOVES = (*LIFECYCLE_COLUMNS, "back_at", "last_event")
_RUNNER: Rights = {
    "hosts": {"UPDATE": _MOVES},
    "events": {"INSERT": ()},
    "reservations": {"INSERT": (), "UPDATE": RESERVATION_COLUMNS[1:]},
    "tickets": {"INSERT": (), "UPDATE": ("refreshed_at",), "DELETE": ()},
    "results": {"INSERT": (), "UPDATE": ()},
    "claims": {"INSERT": (), "UPDATE": (), "DELETE": ()},
}
_OPERATOR: Rights = _RUNNER | {
    "hosts": {"INSERT": (), "UPDATE": (*SPEC_COLUMNS, *_MOVES), "DELETE": ()},
    "facts": {"INSERT": (), "DELETE": ()},
    "departed": {"INSERT": (), "DELETE": ()},
    "meta": {"INSERT": (), "UPDATE": (), "DELETE": ()},
    "counts": {"INSERT": (), "UPDATE": ("number",), "DELETE": ()},
}

ROLES = (
    Role(
        name="viewer",
        help="sees everything, changes nothing",
        does="read this inventory",
        who="a viewer",
        rights={},
    ),
    Role(
        name="runner",
        help="also takes hosts, gives them back, checks and cleans them, sets them aside",
        does="change anything",  # the first that is refused is to lock a host, whatever for
        who="a runner, or an operator for hosts and policy,",
        rights=_RUNNER,
    ),
    Role(
        name="operator",
        help="also adds, changes and removes hosts, and replaces the policy",
        does="change which hosts there are, what is declared about them, or the policy",
        who="an operator",
        rights=_OPERATOR,
    ),
)
"""The least first; each may do what those before it may."""


def tables() -> tuple[str, ...]:
    """Every table of an inventory on a server."""
    statements = (each for migration in MIGRATIONS for each in (*migration.statements, *migration.on_server))
    return tuple(found[1] for found in map(_CREATED.match, statements) if found)


def sql(schema: str, prefix: str) -> str:
    """The SQL that makes the roles where they are missing, and gives each exactly its rights; safe to run again.

    Raises :class:`UsageError` for a prefix that would make no name for a role.
    """
    if not is_name(prefix, _LONGEST_PREFIX) or not is_name(f"{prefix}_{ROLES[0].name}"):
        raise UsageError(
            f"{prefix!r} can't begin the name of a role",
            hint=f"--prefix lab: letters, digits, '_' and '-', at most {_LONGEST_PREFIX}; 'pg_…' is PostgreSQL's own",
        )
    names = {role.name: f"{prefix}_{role.name}" for role in ROLES}
    everybody = ", ".join(map(_quoted, names.values()))
    everything = ", ".join(f"{_quoted(schema)}.{table}" for table in tables())
    lines = [
        f'-- Roles for the inventory in the schema "{schema}". Its owner runs this, and again after each update of',
        "-- bmhctl: then each role has just these rights. Where a role is missing, making it takes CREATEROLE.",
        *(f"--   {names[role.name]}: {role.help}" for role in ROLES),
        f"-- To let somebody in:  CREATE ROLE ci LOGIN PASSWORD '...' IN ROLE {_quoted(names['runner'])};",
        "BEGIN;",
        "DO $$ BEGIN",
        *(
            f"  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')"
            f" THEN CREATE ROLE {_quoted(name)} NOLOGIN; END IF;"
            for name in names.values()
        ),
        "END $$;",
        f"REVOKE ALL ON SCHEMA {_quoted(schema)} FROM {everybody};",
        f"REVOKE ALL ON {everything} FROM {everybody};",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {_quoted(schema)} FROM {everybody};",
        f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {everybody};",
        f"GRANT SELECT ON {everything} TO {everybody};",
        *(
            f"GRANT {_privileges(rights)} ON {_quoted(schema)}.{table} TO {_quoted(names[role.name])};"
            for role in ROLES
            for table, rights in role.rights.items()
        ),
        *(
            f"GRANT USAGE ON SEQUENCE {_quoted(schema)}.{table}_id_seq TO {_quoted(names[role.name])};"
            for role in ROLES
            for table in ("hosts", "events")
            if role.may("INSERT", table, None)
        ),
        "COMMIT;",
    ]
    return "\n".join(lines) + "\n"


def refusal(*statements: str, said: str, user: str, owner: str | None, shown: str) -> UnreachableError:
    """What to say when the server refused a statement, or one of several: what the role may not do, and whom to ask.

    ``said`` is what the server said, in whatever language: it names the table.
    """
    refused = set(_WORD.findall(said)) & {*tables()}
    statements = tuple(each for each in statements if refused & set(_WORD.findall(each))) or statements
    whom = f"{owner}, who owns the inventory" if owner else "whoever owns the database"
    first = next(iter(statements), "")
    writing = [each for each in statements if _WRITES.search(each)]
    roles = [
        _needed(each) for each in writing or [next((each for each in statements if each.startswith("SELECT")), "")]
    ]
    role = None if None in roles else max(filter(None, roles), key=ROLES.index)
    if role is not None:
        return UnreachableError(
            f"{shown}: the role {user} may not {role.does}",
            hint=f"ask {whom}: {role.who} may (bmhctl policy grants, which is run again after each update)",
        )
    if owner is None:
        does, do = "make the tables of an inventory", "it takes CREATE on the database, or on a schema"
    elif first.startswith("REINDEX"):
        does, do = "mend its indexes", "bmhctl doctor --fix as that role does it"
    else:
        does, do = "update the tables, which an older bmhctl made", "any bmhctl command as that role does it"
    return UnreachableError(f"{shown}: the role {user} may not {does}", hint=f"ask {whom}: {do}")


def _needed(statement: str) -> Role | None:
    """The least role that may do what a statement does; None when only the owner may."""
    found = _WRITES.search(statement)
    if found is None:
        return ROLES[0] if statement.startswith("SELECT") else None
    privilege = found[1] or found[3] or found[6] or found[9] or "INSERT"
    table = found[2] or found[4] or found[7] or found[8] or found[10]
    return next((role for role in ROLES if role.may(privilege, table, found[5])), None)


def _privileges(rights: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{each} ({', '.join(columns)})" if columns else each for each, columns in rights.items())


def _quoted(name: str) -> str:
    return f'"{name}"'
