"""Claims in PostgreSQL: tokens with a deadline, for processes on many machines.

A claim on a host is a row with a token and a deadline, which its holder renews while it runs. A claim on a ticket is
shared through an advisory lock, which the server releases when the connection ends.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from bmhctl.domain.units import OF_DAY, local_time
from bmhctl.errors import BmhctlError, StateRefusedError, UnreachableError
from bmhctl.stores.claims import Claims, Hold, Holder, LeftClaim
from bmhctl.stores.database import Question
from bmhctl.stores.postgres.database import PostgresDatabase
from bmhctl.stores.postgres.session import NOW, STARTED
from bmhctl.stores.rows import Row, to_moment
from bmhctl.support.watchdog import steady

LENGTH = 30.0
"""Seconds after which a claim ends unless it is renewed."""

_RENEW = 8.0  # seconds between two renewals
_MARGIN = 12.0  # seconds before its deadline at which an unrenewed claim counts as lost, and its step is ended
_RETRY = 1.0

# A claim ends at its deadline, or with its holder's connection if no step was started under it.
_OVER = (
    f"(claims.until <= {NOW} OR claims.guarded = 0 AND NOT EXISTS"
    " (SELECT 1 FROM pg_stat_activity WHERE pid = claims.backend))"
)
_CLAIM = (
    "INSERT INTO claims (name, token, holder, backend, guarded, until)"
    f" VALUES (?, ?, ?, pg_backend_pid(), 0, {NOW} + ?) ON CONFLICT (name) DO UPDATE SET token = excluded.token,"
    " holder = excluded.holder, backend = excluded.backend, guarded = excluded.guarded, until = excluded.until"
    f" WHERE {_OVER} RETURNING token"
)
# Succeeds even past the deadline, unless another process has taken the claim.
_RENEWAL = f"UPDATE claims SET until = {NOW} + ? WHERE name = ? AND token = ? RETURNING token"
_ANY: Question = "SELECT name FROM claims", ()  # cheap: the table has little more than a row for each running step
_MICROSECONDS = int(LENGTH * 1_000_000)
_LEFT = (
    f"SELECT name, holder, CASE WHEN {STARTED} BETWEEN until - ? AND until THEN 1 ELSE 0 END"
    f" FROM claims WHERE {_OVER} ORDER BY name"
)


class LeasedClaims(Claims):
    """The claims of one inventory in PostgreSQL."""

    standing = (_ANY,)

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._keeper = _Keeper(database)
        self._is_away = False

    @contextmanager
    def share(self, name: str) -> Iterator[Callable[[], bool]]:
        """Hold a claim together with other processes until the block ends; yield a test whether this one is alone."""
        self._database.share_lock(name)
        try:
            yield lambda: self._database.holders([name]).get(name, 0) <= 1
        finally:
            self._database.leave_lock(name)

    @contextmanager
    def claim(self, name: str) -> Iterator[Hold | None]:
        """Hold a claim until the block ends, and renew it meanwhile; yield None when another process holds it."""
        token = os.urandom(8).hex()
        holder = f"{socket.gethostname()} process {os.getpid()}"
        if not list(self._database.execute(_CLAIM, [name, token, holder, _MICROSECONDS])):
            yield None
            return

        def guard() -> None:
            guarding = "UPDATE claims SET guarded = 1 WHERE name = ? AND token = ? RETURNING token"
            if not list(self._database.execute(guarding, [name, token])):
                raise StateRefusedError(
                    "the claim on it was lost with the connection, and another process has it now: no step was run",
                    hint="try again when the other process has finished",
                )

        self._is_away = False
        loss = _Loss()
        self._keeper.keep(name, token, loss)
        try:
            yield Hold(lost=loss, guard=guard)
        finally:
            self._keeper.leave(name)
            self._end(name, token)  # a lost claim, too; the token excludes a claim of another process

    def _end(self, name: str, token: str) -> None:
        """End a claim, and notify waiting processes, because the claim may have stopped their last attempt."""
        if self._is_away:
            return  # the claim ends at its deadline anyway, and reaching a lost server takes long
        try:
            with self._database.transaction(write=True, shared=True):
                self._database.execute("DELETE FROM claims WHERE name = ? AND token = ?", [name, token])
        except UnreachableError:
            self._is_away = not self._database.is_connected

    def claimed(self, names: Collection[str], standing: Sequence[Row] | None = None) -> frozenset[str]:
        """Return the names of the claims that some process holds alone; ``standing`` are rows of :attr:`standing`."""
        if not names:
            return frozenset()
        rows = self._database.execute(*_ANY) if standing is None else standing
        found = {str(row[0]) for row in rows}.intersection(names)
        if not found:
            return frozenset()
        # Usually no claim exists; the connections are looked up only if one does.
        there = f"SELECT name FROM claims WHERE name IN ({', '.join('?' * len(found))}) AND NOT {_OVER}"
        return frozenset(str(row[0]) for row in self._database.execute(there, [*found]))

    def holders(self, name: str) -> list[Holder]:
        """Return the process that holds the claim; if its connection has ended, also when the claim ends."""
        rows = self._database.execute(
            "SELECT claims.holder, claims.until, a.backend_start FROM claims LEFT JOIN pg_stat_activity a"
            f" ON a.pid = claims.backend WHERE claims.name = ? AND NOT {_OVER}",
            [name],
        )
        found = []
        for holder, until, began in rows:
            ends = (
                "" if began else f"its step has ended too, and its claim ends at {local_time(to_moment(until), OF_DAY)}"
            )
            since = began if isinstance(began, datetime) else None
            found.append(Holder(str(holder), since=since, is_runner=began is not None, ends_by_itself=ends))
        return found

    def shared(self, names: Collection[str]) -> frozenset[str]:
        """Return the names of the claims that some process shares."""
        return frozenset(self._database.holders(names))

    def forget(self, name: str, *, shared: bool = False) -> None:
        """Remove the row of a claim that no process holds."""
        if not shared:
            self._database.execute(f"DELETE FROM claims WHERE name = ? AND {_OVER}", [name])

    def names(self) -> list[str]:
        """Return the names of the claims that have a row."""
        return [str(name) for (name,) in self._database.execute(*_ANY)]

    def left_behind(self) -> list[LeftClaim]:
        """Return the claims that have ended but still have a row; a holder may still run without its connection."""
        return [
            LeftClaim(
                str(name),
                f"the server was restarted while {holder} held it"
                if was_restarted
                else f"{holder} was killed, or lost its connection to the server",
            )
            for name, holder, was_restarted in self._database.execute(_LEFT, [_MICROSECONDS])
        ]


class _Loss:
    """Whether a claim is lost: another process has taken it, or it was not renewed in time.

    The second is decided by the time alone, so it is known even while the server does not answer.
    """

    def __init__(self) -> None:
        self._known = threading.Event()
        self._at = steady() + LENGTH - _MARGIN

    def put_off(self, renewed: float) -> None:
        """Record the time of the last renewal.

        Unless the claim is renewed again, it counts as lost ``_MARGIN`` seconds before it ends on the server.
        """
        self._at = renewed + LENGTH - _MARGIN

    def set(self) -> None:
        """Record that the claim is lost."""
        self._known.set()

    def is_set(self) -> bool:
        """Return whether the claim is lost; a lost claim stays lost."""
        if steady() >= self._at:
            self._known.set()
        return self._known.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until the claim is lost, ``timeout`` seconds at most; return whether it is lost."""
        self._known.wait(max(0.0, min(timeout, self._at - steady())))
        return self.is_set()


class _Keeper:
    """Renews claims in a thread with its own connection; both start with the first claim that needs renewal."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._address = database.address
        self._kept: dict[str, tuple[str, _Loss]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, name: str, token: str, loss: _Loss) -> None:
        """Renew a claim from now on."""
        with self._changed:
            self._kept[name] = token, loss
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="claims", daemon=True)
                self._thread.start()

    def leave(self, name: str) -> None:
        """Stop renewing a claim."""
        with self._changed:
            self._kept.pop(name, None)
            if not self._kept:
                self._thread = None
                self._changed.notify_all()

    def _run(self) -> None:
        database: PostgresDatabase | None = None
        me, pause = threading.current_thread(), _RENEW
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._thread is not me, pause)
                if self._thread is not me:
                    break
                kept = dict(self._kept)
            try:
                database = database or PostgresDatabase(self._address)
                for name, (token, loss) in kept.items():
                    before = steady()
                    if list(database.execute(_RENEWAL, [_MICROSECONDS, name, token])):
                        loss.put_off(before)
                    elif name in self._kept:
                        loss.set()  # another process has the claim
                pause = _RENEW
            except BmhctlError:
                pause = _RETRY
        if database is not None:
            database.close()
