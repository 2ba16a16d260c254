"""A connection to PostgreSQL: its settings and time limits, and the error messages for its failures."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn, Ping
from psycopg.pq import abc as pq

from bmhctl.errors import (
    FASTER,
    AwayError,
    BmhctlError,
    ConflictError,
    InvalidError,
    RetiredError,
    UnreachableError,
    UsageError,
)
from bmhctl.stores.database import LOCK_PATIENCE
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.rows import Value
from bmhctl.support.redact import without_secrets
from bmhctl.support.watchdog import steady

# psycopg logs the errors that it raises, too; they must not appear on the terminal.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

CONNECT_PATIENCE = 10
"""How long a command waits for the first answer of a server, in seconds, unless ``connect_timeout`` is set."""

SILENCE = 10.0
"""How long a server may send nothing, in seconds, before another connection checks that it still works."""

ONE_SESSION = "connect directly, or let the pooler keep a connection for a whole session: pool_mode = session"
"""The hint for a pooler that gives the statements of a session to several connections."""

_OLDEST = 13_00_00

RETIRED = "BM001"
"""The SQLSTATE with which a retired inventory refuses a change; the message is its successor's location."""


class Connection(psycopg.Connection[tuple[Value, ...]]):
    """A connection that waits as long as the server works on its statement, and no longer.

    A statement may take any time. But if the server hangs or the network is cut, no answer ever comes. So after each
    :data:`SILENCE`, another connection asks the server whether it still works on the statement. ``answered_at`` is when
    the server last sent something, by the steady clock.
    """

    backend: Value = 0
    answered_at = 0.0
    again: Callable[[], psycopg.Connection[tuple[Value, ...]]] | None = None

    def check(self) -> None:
        """After a :data:`SILENCE`, make the server answer a query, because a connection may be cut without an error."""
        if steady() - self.answered_at > SILENCE:
            self.execute("SELECT 1")

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait for an answer; psycopg calls this for each answer."""
        try:
            return super().wait(self._while_at_work(gen), *args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            with suppress(psycopg.Error, RuntimeError):  # Python would report errors of this cleanup on stderr
                gen.close()
            raise

    def _while_at_work(self, gen: PQGen[RV]) -> PQGen[RV]:
        since, failure = steady(), ""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    self.answered_at = since = steady()
                    failure = ""
                elif failure:
                    self.close()
                    raise psycopg.OperationalError(failure)
                elif steady() - since > SILENCE:
                    # Decided in the next round, because the answer may have arrived meanwhile.
                    since, failure = steady(), self._reason_to_leave()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result

    def _reason_to_leave(self) -> str:
        """Return why no answer is to be expected; empty if the server works on the statement."""
        found: list[tuple[Value, ...]] = []
        if self.again is not None:
            try:
                with closing(self.again()) as other:
                    found = other.execute(_AT_WORK, [self.backend]).fetchall()
            except psycopg.Error as error:
                if _ANSWER in str(error):
                    return ""  # it answers, even if it only says that it has no room for another connection
        if found == [("SyncRep",)]:
            return "its synchronous standby does not confirm the commit"
        return "" if found else f"it has not answered for {SILENCE:g} s"


_ANSWER = ":  "
"""Follows the severity in a message of the server, whatever its language; libpq's own messages do not have it."""

# A backend that waits for the client to send or to read something does not work.
_AT_WORK = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s AND wait_event_type IS DISTINCT FROM 'Client'"


_DEAD_AFTER = 45  # seconds of silence after which the server takes the machine of a client for dead

_PAUSE = 10  # seconds that a transaction of bmhctl may pause, at least, where the server limits that

SETTINGS = f"""
SELECT pg_backend_pid(), set_config('search_path', %s, false),
  set_config('lock_timeout', '{LOCK_PATIENCE * 1000:.0f}', false),
  -- a machine that is switched off closes no connection; without probes, its locks would last for two hours
  set_config('tcp_keepalives_idle', '{_DEAD_AFTER // 3}', false),
  set_config('tcp_keepalives_interval', '{_DEAD_AFTER // 3}', false),
  set_config('tcp_keepalives_count', '2', false),
  set_config('tcp_user_timeout', '{_DEAD_AFTER * 1000}', false),
  -- no limits: copy and doctor may run long; a waiting process is idle, and would lose its locks with its session
  set_config('statement_timeout', '0', false),
  CASE WHEN current_setting('idle_session_timeout', true) IS NOT NULL  -- PostgreSQL 14
    THEN set_config('idle_session_timeout', '0', false) END,
  CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL  -- PostgreSQL 17
    THEN set_config('transaction_timeout', '0', false) END,
  -- with "off" or "local", a commit that was acknowledged may be lost; a stricter setting than "on" is kept
  CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
    THEN set_config('synchronous_commit', 'on', false) END,
  -- a transaction that pauses is ended, but not between two messages
  CASE WHEN current_setting('idle_in_transaction_session_timeout')::interval BETWEEN '1us' AND '{_PAUSE}s'
    THEN set_config('idle_in_transaction_session_timeout', '{_PAUSE}s', false) END,
  -- else no triggers run, and foreign keys are not checked
  CASE WHEN current_setting('session_replication_role') = 'replica'
    THEN set_config('session_replication_role', 'origin', false) END
"""
"""Sets up a session, because the settings of the role, the database and the server may be for other clients."""


def connect(address: Address) -> Connection:
    """Connect to the server of an inventory; raise the errors of :func:`translate`."""
    try:
        # libpq completes the URL from the environment, a service file and a password file.
        outside = {each.keyword: (each.val or b"").decode() for each in Conninfo.get_defaults()}
        patience = conninfo_to_dict(address.url).get("connect_timeout") or outside[b"connect_timeout"]
        settings = {
            "connect_timeout": patience or CONNECT_PATIENCE,
            "fallback_application_name": "bmhctl",
            "client_encoding": "UTF8",  # independent of the database and the role
        }
        again = partial(
            Connection.connect,
            make_conninfo(address.url, **settings),
            autocommit=True,
            # Never prepare statements: each query needs a plan for its own values, because the label decides how many
            # hosts fit. Also, a failed transaction undoes a preparation without notice.
            prepare_threshold=None,
        )
        connection = again()
    except psycopg.ProgrammingError as error:
        # The message of libpq quotes the text that it can't parse, which may be a password.
        why = "" if address.has_secret else f": {_words_of(error)}"
        raise UsageError(f"can't read the URL {address.shown}{why}", hint="postgresql://user@host/database") from None
    except psycopg.Error as error:
        raise translate(error, address, is_lost=True) from error
    try:
        if connection.info.server_version < _OLDEST:
            raise UnreachableError(
                f"{address.shown} is PostgreSQL {connection.info.server_version // 10_000}",
                hint=f"bmhctl needs {_OLDEST // 10_000} or newer",
            )
        rows = connection.execute(SETTINGS, [f'"{address.schema}"'])
        connection.backend, connection.again = rows.fetchall()[0][0], again
    except psycopg.Error as error:
        connection.close()
        raise translate(error, address, is_lost=True) from error
    except BaseException:
        connection.close()
        raise
    return connection


_BY_SEQUENCE = ("hosts_pkey", "events_pkey", "tickets_pkey", "queue_events_pkey", "counts_pkey")


def translate(error: psycopg.Error, address: Address, *, is_lost: bool) -> BmhctlError:
    """Turn an error of PostgreSQL into an error for an operator, without the password.

    ``is_lost`` is whether the connection was lost. Raises the error again if it is a defect of bmhctl.
    """
    said = _words_of(error)
    match error:
        case errors.SerializationFailure() | errors.DeadlockDetected():
            return ConflictError(f"{address.shown}: {FASTER} ({said})", hint="try again")
        case errors.UniqueViolation() if str(error.diag.constraint_name).endswith("_request"):
            return ConflictError(f"{address.shown}: {FASTER} ({said})", hint="try again")
        case errors.UniqueViolation() if error.diag.constraint_name in _BY_SEQUENCE:
            return InvalidError(
                f"{address.shown}: {said}: nothing was changed",
                hint="bmhctl doctor --fix sets the sequences, which a dump or a replica may lack",
            )
        case errors.LockNotAvailable():
            return AwayError(
                f"{address.shown} is locked: another command has been writing for over {LOCK_PATIENCE:.0f} s",
                hint="try again; if it stays locked, look for a session that hangs in pg_stat_activity",
            )
        case errors.UndefinedTable() | errors.InvalidSchemaName() | errors.UndefinedColumn():
            return InvalidError(f"the inventory in {address.shown} is damaged ({said})", hint="restore it")
        case errors.ReadOnlySqlTransaction():
            return AwayError(  # may pass: a standby may be promoted
                f"{address.shown} is read-only ({said})",
                hint="name the primary: ?target_session_attrs=read-write; if this is the primary,"
                " see default_transaction_read_only",
            )
        case errors.UntranslatableCharacter():
            return InvalidError(
                f"{address.shown}: {said}: nothing was changed",
                hint="leave this character out, or copy the inventory to a database with the encoding UTF8",
            )
        case errors.CharacterNotInRepertoire():
            return InvalidError(
                f"{address.shown}: another program wrote a text that is not UTF-8 ({said})",
                hint="correct this text with psql, or restore a backup",
            )
        case errors.InsufficientPrivilege() if "session_replication_role" in said:
            return UnreachableError(
                f"{address.shown}: the role has session_replication_role = replica, with which no trigger runs",
                hint="ALTER ROLE … RESET session_replication_role, or name another role",
            )
        case errors.QueryCanceled() if "statement timeout" in said:
            return AwayError(f"{address.shown}: {said}: nothing was changed", hint=_too_short("statement_timeout"))
        case errors.DiskFull() | errors.OutOfMemory() | errors.QueryCanceled() | errors.InsufficientResources():
            return AwayError(f"{address.shown}: {said}: nothing was changed", hint="check the server")
        case psycopg.OperationalError() | psycopg.InterfaceError() | psycopg.InternalError() if is_lost:
            kind, hint = _what_to_look_at(error, said, address)
            return kind(f"can't reach {address.shown}: {said}", hint=hint)
    if error.sqlstate == RETIRED:
        return RetiredError.of(address.shown, said)
    if (error.sqlstate or "").startswith(_OF_THE_SERVER):
        return AwayError(f"{address.shown}: {said}: nothing was changed", hint="check the server's log and its disk")
    raise error  # a defect of bmhctl: its traceback is needed


_FAILED = "connection failed: "


def _words_of(error: psycopg.Error) -> str:
    """Return the report of the server or of libpq in one line, without the guesses in libpq's indented lines."""
    said = (error.diag.message_primary or str(error)).splitlines()
    tries = [line.rpartition(_FAILED)[2] for line in said if line.startswith("- host: ")]  # a line for each host
    words = f"{_FAILED}{'; '.join(tries)}" if tries else "; ".join(line for line in said if not line.startswith("\t"))
    return without_secrets(" ".join(words.split()))


def _too_short(limit: str) -> str:
    """Return the hint for a limit that ends a session before bmhctl can lift it."""
    return f"raise {limit} of the role, the database or the server: it ends sessions that only begin"


_OF_THE_SERVER = ("58", "XX")  # SQLSTATEs of failures of the server's system, or of PostgreSQL itself
_Kind = type[UnreachableError]
_HINTS: tuple[tuple[str, _Kind, str], ...] = (
    ("57P03", AwayError, "the server is starting, stopping or recovering: try again in a moment"),
    ("57P05", AwayError, _too_short("idle_session_timeout")),
    ("57P", AwayError, "the server was stopped, or an administrator ended the connection: try again when it is back"),
    ("25P04", AwayError, _too_short("transaction_timeout")),
    ("25P", AwayError, "the server ends transactions that pause: see its idle_in_transaction_session_timeout"),
    (
        "53300",
        AwayError,
        "try again, or raise max_connections of the server, or CONNECTION LIMIT of the role or database",
    ),
    ("53", AwayError, "the server has too little memory or disk: see its log"),
    ("28", UnreachableError, "check the user and the password; the server's log and pg_hba.conf say more"),
    ("3D000", UnreachableError, "check the name of the database: psql -l lists them"),
)
"""What to do about a refused or ended connection, by the first letters of the SQLSTATE."""


def _what_to_look_at(error: psycopg.Error, said: str, address: Address) -> tuple[_Kind, str]:
    """Return the kind of error for a lost connection, and its hint."""
    if error.pgconn is not None and error.pgconn.needs_password:
        return UnreachableError, "give the password: in ~/.pgpass (mode 0600), as $PGPASSWORD, or in the URL"
    if "pooling mode" in said:
        return UnreachableError, ONE_SESSION
    if "certificate" in said:
        return UnreachableError, "check sslmode and sslrootcert in the URL, and the certificate of the server"
    if said.startswith("connection is bad: ") and "connection to server" not in said:
        return UnreachableError, "correct the URL, or libpq's files and variables: the service file, $PGSSLMODE, …"
    state = error.sqlstate or _state_of(error, said, address)
    for beginning, kind, hint in _HINTS:
        if state is not None and state.startswith(beginning):
            return kind, hint
    if _ANSWER not in str(error):
        return AwayError, "check the server and the network"
    where = "the user, the password and the database; the server's log says more"
    if _is_final(error.pgconn, str(error)):
        return UnreachableError, f"check {where}"
    return AwayError, f"try again; if it stays refused, check {where}"


def _is_final(server: pq.PGconn | None, said: str) -> bool:
    """Return whether a server refused this user or database: then it quotes the name, whatever its language.

    A server that is starting, is stopping or has no room quotes neither, except a role without room.
    """
    names = [re.escape(name.decode()) for name in (server.user, server.db) if name] if server else []
    quoted = rf"[^\w\s]\s?({'|'.join(names)})\s?[^\w\s]"
    answers = (line.partition(_ANSWER)[2] for line in said.splitlines())  # before it, libpq quotes the server's name
    return bool(names) and any(re.search(quoted, answer) for answer in answers)


def _state_of(error: psycopg.Error, said: str, address: Address) -> str | None:
    """Return the SQLSTATE with which a server refused a connection; None if it is not known.

    libpq does not pass it on, but its ping tells whether a server is starting or stopping. By then, the server may have
    started, so its words count, too, if they are English.
    """
    if _ANSWER not in str(error):
        return None
    if "the database system is" in said or PGconn.ping(address.url.encode()) == Ping.REJECT:
        return "57P03"
    return "53300" if "too many" in said or "connection slots" in said else None
