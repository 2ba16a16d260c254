"""The database backend for a schema in PostgreSQL.

Shared transactions (see ``Database.transaction``) write beside each other, and each locks the rows that it changes.
Transactions that must write alone, such as changes of the queue, exclude them with an advisory lock, which ends with
the transaction.

Statements that belong together are joined into one message of the simple protocol: one round trip, one wait, and an
answer for each. psycopg's pipeline mode waits for each statement and twice more (six statements: 0.38 ms instead of
0.22 ms on a local socket), and needs a client library of PostgreSQL 14.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from bmhctl.errors import BmhctlError, MovedError, UncertainError, UnreachableError
from bmhctl.stores.database import UNRECORDED
from bmhctl.stores.postgres.session import LOCKS, NOW, Session, translated
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.rows import Row, Value, number_in
from bmhctl.stores.schema import INVENTORY_KEY

if TYPE_CHECKING:
    from bmhctl.stores.database import Question
    from bmhctl.stores.postgres.upkeep import PostgresUpkeep

_WRITERS = "turn"  # names the lock that shared writing transactions share, and other ones hold alone
_FOLLOWERS = "followers"  # names the lock that processes share in order to be notified of every event
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"  # independent of the server's default
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_CHANNEL = "bmhctl"
_AT_ONCE = 2000  # the most rows of a stream in memory
_FEW_ROWS = 50  # the most rows that are sent with the commit, in one message
_NEXT_ID = "SELECT nextval('{table}_id_seq')"
_EVENT_ID: Question = _NEXT_ID.format(table="events"), ()
_WHICH: Question = (
    "SELECT pg_backend_pid(), current_schema(), 'meta'::regclass::oid::bigint, (SELECT value FROM meta WHERE key = ?)",
    (INVENTORY_KEY,),
)
_ANY_TICKET = "EXISTS (SELECT 1 FROM tickets)"
# Followers share this lock: if it can be taken alone for a moment, there is none. Cheaper than to read pg_locks.
_ANY_FOLLOWER = "NOT CASE WHEN pg_try_advisory_lock({0}) THEN pg_advisory_unlock({0}) ELSE FALSE END"

# Waiting processes are notified when these statements commit. Every change of a host inserts an event.
_ENDS_A_WAIT = "DELETE FROM tickets"  # notifies also after the last ticket, for the process of that ticket
_ANNOUNCED = ("INSERT INTO events", "DELETE FROM claims", "UPDATE tickets SET place", _ENDS_A_WAIT)


class PostgresDatabase(Session):
    """A connection to one schema; use :func:`bmhctl.stores.postgres.open.open_store`."""

    locks_rows = True
    has_statistics = True

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._ids_taken = self._rows_locked = 0
        self._is_shared = False
        self._is_awaited = True  # whether any process may be waiting for a notification
        self._streams = 0
        self._notifies = self._notifies_all = self._has_written = False
        self._heard = 0
        self._follows = False
        self._settled = 0  # the newest event id such that no smaller one can still appear
        # The next such id, and the transactions that may still write smaller ones.
        self._settling: tuple[int, frozenset[str]] | None = None
        self._channel = f"{_CHANNEL}:{self._number('channel')}"
        self._is_any_awaiting = f"{_ANY_TICKET} OR {_ANY_FOLLOWER.format(self._number(_FOLLOWERS))}"

    # methods that run statements

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        writes = not statement.startswith("SELECT")
        self._flush(then_writes=writes)
        if writes:
            self._has_written = True
            self._note(statement)
        return self._run(statement, parameters)

    def lock(self, *questions: Question) -> None:
        """Run queries that lock rows, in one message; for a shared transaction, the message also takes event ids."""
        self._flush()
        if not self._is_shared:
            self._together(questions)
            return
        (rows, *_, ids) = self._together([*questions, _EVENT_ID])
        self._keep_event_ids(ids, len(rows))

    def _keep_event_ids(self, ids: Sequence[Row], locked: int) -> None:
        self._rows_locked = locked
        self._ids["events"] = iter([int(each or 0) for (each,) in ids])

    def stream(self, statement: str, parameters: Sequence[Value] = ()) -> Iterator[Row]:
        """Run one statement and yield its rows, all as of one moment; they are fetched in batches."""
        self._flush()
        with suppress(GeneratorExit), nullcontext() if self._depth else self.transaction(write=False):
            connection = self._usable()
            self._streams += 1
            name = f"stream{self._streams}"
            try:
                # DECLARE takes no parameters, so the client inserts them into the text.
                declaring = psycopg.ClientCursor(connection)
                declaring.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {translated(statement)}", parameters)
                while rows := connection.execute(f"FETCH {_AT_ONCE} FROM {name}").fetchall():
                    yield from rows
            except psycopg.Error as error:
                raise self._failure(error) from error
            finally:
                self._undo(f"CLOSE {name}")

    def enqueue(self, statement: str, *rows: Sequence[Value]) -> None:
        """Run a statement with each row, as :class:`WriteBuffer` does."""
        self._note(statement)
        super().enqueue(statement, *rows)

    def _note(self, statement: str) -> None:
        self._notifies |= statement.startswith(_ANNOUNCED)
        self._notifies_all |= statement.startswith(_ENDS_A_WAIT)

    def _new_ids(self, table: str) -> Iterator[int]:
        # A shared transaction takes only as many ids as it has locked hosts. For a host that is not locked yet, another
        # transaction may take an id first, and a smaller one would then come later in the host's history.
        number = max(1, self._rows_locked - 1 if self._is_shared else self._ids_taken // 4)
        self._ids_taken += number
        found = self._run(f"{_NEXT_ID.format(table=table)} FROM generate_series(1, ?)", [number])
        return iter([int(each or 0) for (each,) in found])

    def _run_many(self, statement: str, rows: Sequence[Sequence[Value]]) -> None:
        self._has_written = True
        try:
            with self._usable().cursor() as cursor:
                if len(rows) == 1:
                    cursor.execute(translated(statement), rows[0])
                else:
                    cursor.executemany(translated(statement), rows)
        except psycopg.Error as error:
            if isinstance(error.__context__, KeyboardInterrupt | SystemExit) and self._is_unsettled():
                raise error.__context__ from None  # the signal that interrupted psycopg in its pipeline
            raise self._failure(error) from error

    def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows to a table."""
        self._flush(then_writes=True)
        self._has_written = True
        try:
            connection = self._usable()
            with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as out:
                for row in rows:
                    out.write_row(row)
            # Until the table is analyzed, the planner would assume that it is empty.
            connection.execute(f"ANALYZE {table}")
        except psycopg.Error as error:
            raise self._failure(error) from error

    # methods of transactions

    @contextmanager
    def transaction(
        self, *questions: Question, write: bool, shared: bool = False, reports: bool = False
    ) -> Iterator[list[list[Row]]]:
        """Return a READ COMMITTED transaction for writing, shared or alone; or one snapshot for reading.

        Raises :class:`UncertainError` when the connection is lost while the server commits.
        """
        if self._depth:
            raise AssertionError("transactions do not nest: use a savepoint")
        before = len(self.unreported)
        try:
            yield self._begin(write=write, shared=shared, questions=questions)
            if reports and (self._has_written or self._waiting):
                self.unreported.append(UNRECORDED)
            self._commit(write=write)
        except BaseException:
            self.after_commit = None
            if self._connection.pgconn.transaction_status != TransactionStatus.IDLE:  # it has not committed
                self.unreported[before:] = [each for each in self.unreported[before:] if each != UNRECORDED]
            self._undo("ROLLBACK")
            raise
        finally:
            self._forget()
        act, self.after_commit = self.after_commit, None
        if act is not None:
            act()

    def _forget(self) -> None:
        self._depth = 0
        self._drop()

    def _begin(self, *, write: bool, shared: bool, questions: Sequence[Question]) -> list[list[Row]]:
        """Begin a transaction; return the rows of each query.

        The message that begins it runs the queries. With them, it also asks whether any process waits for a
        notification, which can't change until the transaction ends, and takes ids for events: see :meth:`_new_ids`.
        """
        self._usable()
        self._depth = 1
        self._notifies = self._notifies_all = self._has_written = False
        self._is_shared, self._ids_taken, self._rows_locked, self._is_awaited = shared, 0, 0, True
        lock = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        begin = f"{_BEGIN}; SELECT {lock}({self._number(_WRITERS)})" if write else _BEGIN_READING
        started = (f"{begin}; SELECT {NOW}", ())
        which = () if self._which is None else (_WHICH,)
        asked = ((f"SELECT 1 WHERE {self._is_any_awaiting}", ()), *questions, _EVENT_ID) if questions else ()
        answers = self._together([started, *which, *asked])
        begun = len(answers) - len(asked)
        if which:
            self._check_which(*answers[begun - 1])
        self._set_clock(answers[begun - len(which) - 1][0][0])
        if not questions:
            return []
        awaiting, *found, ids = answers[begun:]
        self._is_awaited = bool(awaiting)
        asking = [statement.endswith("SKIP LOCKED") for statement, _ in questions]
        locked = {row[0] for locks, rows in zip(asking, found, strict=True) if locks for row in rows}
        self._keep_event_ids(ids, len(locked))
        return found

    def _commit(self, *, write: bool) -> None:
        """Send the delayed writes, the notification and the commit in one message."""
        if self._connection.pgconn.transaction_status == TransactionStatus.INERROR:
            raise UnreachableError(f"{self.location} undid the transaction: nothing was changed", hint="try again")
        wrote = write and bool(self._has_written or self._waiting)
        last = self._take(_FEW_ROWS)
        if self._notifies_all or (self._notifies and self._is_awaited):
            where = "" if self._notifies_all else f" WHERE {self._is_any_awaiting}"
            last.append((f"SELECT pg_notify(?, ''){where}", [self._channel]))
        self._usable()
        try:
            self._together([*last, ("COMMIT", ())])
        except BmhctlError as error:
            if wrote and self._connection.closed:
                raise UncertainError(
                    f"{error.message}, during a commit: it is not known whether the change was made",
                    hint="check before you repeat the command: bmhctl status, bmhctl history HOST",
                ) from error
            raise

    def abandon(self) -> None:
        """Close the connection if a transaction is open, because it may be in the middle of a statement."""
        if self._depth:
            self.close()
            self._forget()

    def _undo(self, statement: str) -> None:
        if self._is_unsettled():
            self._connection.close()  # so the server undoes the transaction; the next statement opens a connection
            return
        with suppress(psycopg.Error):  # if the connection is broken, the server has undone it already
            self._connection.execute(statement)

    def upkeep(self) -> PostgresUpkeep:
        """Return the object that repairs the tables and retires the inventory."""
        from bmhctl.stores.postgres.upkeep import PostgresUpkeep

        return PostgresUpkeep(self)

    # methods that tell whether something has changed

    def _check_which(self, found: Row) -> None:
        """Raise :class:`MovedError` when the tables are not those of the opened inventory."""
        backend, *which = found
        self._check_session(backend, which[0])
        if tuple(which) == self._which:
            return
        raise MovedError(
            f"the inventory in {self.location} was restored or replaced while it was in use",
            hint="nothing was written; run the command again to use the inventory that is there now",
        )

    def version(self) -> int:
        """Return how many changes were announced to this connection since the first call."""
        connection = self._usable()
        try:
            if not self._listens:
                connection.execute(f'LISTEN "{self._channel}"')
                if self._follows:
                    connection.execute(f"SELECT pg_advisory_lock_shared({self._number(_FOLLOWERS)})")
                self._listens = True
                self._heard += 1  # changes before this moment were not announced
                self._settling = None
            self._heard += sum(1 for _ in connection.notifies(timeout=0))
            connection.check()
        except psycopg.Error as error:
            raise self._failure(error) from error
        return self._heard

    def generation(self) -> tuple[int, ...]:
        """Return the version, because only changes of hosts and of the queue are announced."""
        return (self.version(),)

    def follow(self) -> None:
        """From the next :meth:`version` on, be notified of every event, even while the queue is empty."""
        if not self._follows:
            self._follows, self._listens = True, False

    def settled_event(self) -> int:
        """Return the newest event id such that no smaller id can still appear; ids don't become visible in their order.

        A writing transaction holds a lock from before it takes an id until its events are visible. So the newest
        visible id is settled once all transactions have ended that held the lock just after that id was read.
        """
        if self._settling is not None and not self._settling[1] & self._writers():
            self._settled, self._settling = self._settling[0], None
        if self._settling is None:
            newest = number_in(self.execute("SELECT MAX(id) FROM events"))
            writers = self._writers()
            if writers:
                self._settling = newest, writers
            else:
                self._settled = newest
        return self._settled

    @property
    def is_settling(self) -> bool:
        """Whether :meth:`settled_event` may soon return a larger id although no change is announced."""
        return self._settling is not None

    def _writers(self) -> frozenset[str]:
        """Return the transactions that hold the lock of writers now."""
        rows = self.execute(
            f"SELECT virtualtransaction {LOCKS} AND classid::bigint = ? AND objid::bigint = ?", self._halves(_WRITERS)
        )
        return frozenset(str(row[0]) for row in rows)

    def wakes(self) -> int | None:
        """Return a descriptor that is readable when a change was announced."""
        return None if self._connection.closed else self._connection.fileno()

    def start_ids_after(self, table: str, last: int) -> None:
        """Make the table assign only ids larger than ``last`` from now on."""
        self._ids.clear()
        self.execute(f"ALTER TABLE {table} ALTER COLUMN id RESTART WITH {last + 1}")

    # methods that concern the schema

    def schema_version(self) -> int:
        """Return the schema's version, 0 if there is none; also keep the schema's owner for messages."""
        statement = (
            "SELECT pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),"
            " has_schema_privilege(n.oid, 'USAGE') FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relname = 'migrations'"
        )
        for owner, is_owner, is_open in self.execute(statement, [self.address.schema]):
            self._owner, self.is_owner = str(owner), bool(is_owner)
            if not is_open:  # without the right to use the schema, its tables seem to be missing
                raise self._refused("permission denied for its schema")
            question, asked = _WHICH
            [(backend, *which, version)] = self.execute(f"{question}, (SELECT MAX(version) FROM migrations)", asked)
            self._check_session(backend, which[0])
            self._which = tuple(which)
            return int(version or 0)
        return 0
