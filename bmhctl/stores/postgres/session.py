"""A session with the server: a connection that is reopened after a loss, its clock, and its advisory locks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

import psycopg
from psycopg import errors
from psycopg.pq import PipelineStatus, TransactionStatus

from bmhctl.errors import BmhctlError, MovedError, UnreachableError
from bmhctl.stores.database import Question, WriteBuffer
from bmhctl.stores.postgres.connection import ONE_SESSION, Connection, connect, translate
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.rows import Row, Value, to_moment
from bmhctl.support.watchdog import steady

NOW = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint"
"""The SQL for the server's time, as a value for a column of times."""

STARTED = "(EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000)::bigint"
"""The SQL for the start of the server, as a value for a column of times."""

LOCKS = (
    "FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""The SQL for the advisory locks that are held in this database."""

_STANDBY = "in_hot_standby"  # reported by servers since PostgreSQL 14
_SERVER_ENDS = ("08", "57P", "25P03", "25P04")
"""The first letters of SQLSTATEs that end a connection: it failed, was idle for too long, or the server shuts down."""


_NO_TABLE = errors.UndefinedTable, errors.InsufficientPrivilege
_RELATIONS = """
SELECT c.relname, has_schema_privilege(n.oid, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s
"""


class Session(WriteBuffer):
    """A connection to the schema of an inventory, and everything that lasts as long as this connection.

    After a loss, the next statement outside a transaction opens the connection again, unless a lock was held through it
    (see :meth:`share_lock`).
    """

    def __init__(self, address: Address) -> None:
        super().__init__()
        self.address = address
        """The server, and the schema on it."""
        self.location = address.shown
        self._connection = connect(address)
        self._depth = 0
        self._listens = False  # whether this connection is notified of changes
        self._held: list[str] = []
        self._ahead = 0.0  # the server's clock minus the local steady one, in seconds
        self._lost_at: float | None = None  # when a connection replaced a lost one, by the steady clock
        self._started_at: datetime | None = None
        self._owner: str | None = None
        self.is_owner = False
        """Whether this role has the rights of the inventory's owner."""
        self._which: Row | None = None  # identifies the opened inventory: its table and its token

    @property
    def role(self) -> str | None:
        """The role with which the server knows the user."""
        return self._usable().info.user

    @property
    def encoding(self) -> str:
        """The encoding of the database, as the server calls it."""
        return self._connection.info.parameter_status("server_encoding") or ""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return not self._connection.closed

    # methods that run statements

    def _run(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        connection = self._usable()
        try:
            return _rows(connection.execute(translated(statement), parameters))
        except psycopg.Error as error:
            raise self._failure(error) from error

    def _together(self, questions: Sequence[Question]) -> list[list[Row]]:
        """Run several statements in one message; return the rows of each."""
        cursor = psycopg.ClientCursor(self._usable())
        try:
            cursor.execute(
                "; ".join(
                    cursor.mogrify(translated(statement), parameters) if parameters else statement
                    for statement, parameters in questions
                )
            )
            found: list[list[Row]] = []
            while True:
                found.append(_rows(cursor))
                if not cursor.nextset():
                    return found
        except psycopg.Error as error:
            raise self._failure(error) from error

    # methods that return times of the server

    def now(self) -> datetime:
        """Return the server's time, computed from its clock at the beginning of the last transaction."""
        return self._at(steady())

    def _at(self, moment: float) -> datetime:
        """Return the server's time for a time of the local steady clock."""
        if not self._ahead:
            self._set_clock(self.execute(f"SELECT {NOW}")[0][0])
        return to_moment(int((moment + self._ahead) * 1_000_000))

    def last_disruption(self) -> datetime:
        """Return when the server was started; if this connection replaces a lost one, when it was made."""
        if self._lost_at is not None:
            return self._at(self._lost_at)
        if self._started_at is None:
            self._started_at = to_moment(self.execute(f"SELECT {STARTED}")[0][0])
        return self._started_at

    def _set_clock(self, microseconds: Value) -> None:
        self._ahead = int(microseconds or 0) / 1_000_000 - steady()

    # locks that the connection holds until it ends

    def share_lock(self, name: str) -> None:
        """Share a lock until this connection ends; a lost connection is not replaced while a lock is held."""
        self.execute("SELECT pg_advisory_lock_shared(?)", [self._number(name)])
        self._held.append(name)

    def leave_lock(self, name: str) -> None:
        """Release a lock unless it ended with the connection; after the last lock, stop listening for notifications."""
        self._held.remove(name)
        if self._connection.closed:
            return
        with suppress(BmhctlError):
            self.execute("SELECT pg_advisory_unlock_shared(?)", [self._number(name)])
            if self._listens and not self._held:
                self.execute("UNLISTEN *")  # the server would go on sending notifications that are not read
                self._listens = False

    def holders(self, names: Collection[str]) -> dict[str, int]:
        """Return how many connections share each of the locks; locks that no connection shares are left out."""
        if not names:
            return {}
        rows = self.execute(f"SELECT classid::bigint, objid::bigint, COUNT(*) {LOCKS} GROUP BY classid, objid")
        known = {(upper, lower): int(count or 0) for upper, lower, count in rows}
        halves = {name: self._halves(name) for name in names}
        return {name: known[pair] for name, pair in halves.items() if pair in known}

    def _number(self, name: str) -> int:
        """Return the number of a lock of this inventory."""
        digest = blake2b(f"bmhctl/{self.address.schema}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    def _halves(self, name: str) -> tuple[int, int]:
        """Return the number of a lock as the server lists it: its upper and its lower 32 bits."""
        return divmod(self._number(name) & (1 << 64) - 1, 1 << 32)

    # methods that concern the connection

    def _usable(self) -> Connection:
        if not self._connection.closed and (self._depth or not self._is_unsettled()):
            return self._connection
        if self._depth or self._held:
            raise UnreachableError(f"lost the connection to {self.location}", hint="try again when it is back")
        self.close()
        self._connection = connect(self.address)
        self._listens, self._lost_at = False, steady()
        return self._connection

    def _is_unsettled(self) -> bool:
        """Return whether an interruption left the connection in the middle of a statement."""
        server = self._connection.pgconn
        return server.pipeline_status != PipelineStatus.OFF or server.transaction_status == TransactionStatus.ACTIVE

    def _failure(self, error: psycopg.Error) -> BmhctlError:
        while not error.sqlstate and isinstance(error.__context__, psycopg.Error):
            error = error.__context__  # report the shutdown, not the errors that it caused
        if (error.sqlstate or "").startswith(_SERVER_ENDS):
            self._connection.close()  # the server is about to end the connection
        if (
            isinstance(error, errors.ReadOnlySqlTransaction)
            and self._connection.info.parameter_status(_STANDBY) == "on"
        ):
            self._connection.close()  # the server's name may lead to another one, the primary, at the next try
        if isinstance(error, _NO_TABLE) and "count_hosts" in (error.diag.context or ""):
            return UnreachableError(
                f"{self.location}: the owner of the function count_hosts may not use the tables: nothing was changed",
                hint=f'ALTER FUNCTION "{self.address.schema}".count_hosts OWNER TO "{self._owner}"',
            )
        if isinstance(error, errors.UndefinedTable) and self._owner:
            return self._without_table(error)
        if isinstance(error, errors.InsufficientPrivilege):
            return self._refused(error.diag.message_primary or str(error))
        return translate(error, self.address, is_lost=self._connection.closed)

    def _without_table(self, error: psycopg.Error) -> BmhctlError:
        """Return the error for a table that has disappeared: dropped, alone or with its schema, or not visible now."""
        try:
            with closing(connect(self.address)) as other:  # this connection may be in a failed transaction
                rows = other.execute(_RELATIONS, [self.address.schema]).fetchall()
        except BmhctlError as why:
            return why
        except psycopg.Error as why:
            return translate(why, self.address, is_lost=True)
        found = {str(name): bool(is_open) for name, is_open in rows}
        if "meta" not in found:
            if self._which is None:
                return translate(error, self.address, is_lost=False)
            return MovedError(
                f"the inventory in {self.location} is gone: its schema was dropped while it was in use",
                hint="nothing was written; restore it, or create one, and run the command again",
            )
        if not found["meta"]:
            return self._refused("permission denied for its schema")
        if any(f'"{name}"' in str(error) for name in found):
            return self._of_another_session()
        return translate(error, self.address, is_lost=False)

    def _check_session(self, backend: Value, schema: Value) -> None:
        """Raise :class:`UnreachableError` unless this is the server's session that the connection began with.

        The settings, locks and notifications of another one may be those of another program, or of another inventory.
        """
        if (backend, schema) != (self._connection.backend, self.address.schema):
            raise self._of_another_session()

    def _of_another_session(self) -> UnreachableError:
        return UnreachableError(
            f"{self.location}: a pooler changed the session on the server, and its settings and locks are lost",
            hint=ONE_SESSION,
        )

    def _refused(self, said: str) -> UnreachableError:
        from bmhctl.stores.postgres.roles import refusal

        user, was_open = self._connection.info.user, self._which is not None
        return refusal(self.address, user=user, owner=self._owner, said=said, was_open=was_open)

    def require_owner(self, does: str, command: str) -> None:
        """Raise :class:`UnreachableError` unless this role has the rights of the inventory's owner.

        ``does`` says what only the owner may do, and ``command`` is the owner's command for it.
        """
        if not self.is_owner:
            raise UnreachableError(
                f"{self.location}: the role {self._connection.info.user} may not {does}",
                hint=f"ask {self._owner}, who owns the inventory: {command} as that role does it",
            )

    def close(self) -> None:
        """Close the connection."""
        with suppress(psycopg.Error):
            self._connection.close()


def _rows(cursor: psycopg.Cursor[tuple[Value, ...]]) -> list[Row]:
    # ``cursor.description`` builds a new object for each column.
    return [*cursor.fetchall()] if cursor.pgresult is not None and cursor.pgresult.nfields else []


@lru_cache(maxsize=1000)
def translated(statement: str) -> str:
    """Return a statement with psycopg's placeholder ``%s`` instead of ``?``."""
    return statement.replace("%", "%%").replace("?", "%s")
