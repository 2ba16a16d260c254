"""Claims in PostgreSQL, for processes on many machines.

A claim on a host is a row with a token and a deadline, which its holder moves on while it lives. A ticket is shared
through a lock that the server drops with the connection.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from bmhctl.errors import BmhctlError, StateRefusedError
from bmhctl.stores.claims import Hold
from bmhctl.stores.postgres import NOW, PostgresDatabase, steady

LENGTH = 30.0
"""Seconds after which a claim that nobody renews is anybody's."""

_RENEW = 8.0  # seconds between two renewals
_MARGIN = 12.0  # seconds before the deadline at which a claim that can't be renewed counts as lost: a step must end
_RETRY = 1.0

# A claim is over at its deadline; or at once when its holder's connection is gone, and no step of its can still run.
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
_RENEWAL = f"UPDATE claims SET until = {NOW} + ? WHERE name = ? AND token = ? RETURNING token"  # also a late one
_MICROSECONDS = int(LENGTH * 1_000_000)


class LeasedClaims:
    """The claims of one inventory in PostgreSQL."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._keeper = _Keeper(database)

    @contextmanager
    def share(self, name: str) -> Iterator[Callable[[], bool]]:
        """Holds a claim together with others until the block ends; yields what tells whether no other holds it."""
        self._database.share_lock(name)
        try:
            yield lambda: self._database.holders(name) <= 1
        finally:
            self._database.leave_lock(name)

    @contextmanager
    def claim(self, name: str) -> Iterator[Hold | None]:
        """Claims alone until the block ends, and renews the claim meanwhile; yields None when it is claimed already."""
        token = os.urandom(8).hex()
        holder = f"{socket.gethostname()} process {os.getpid()}"
        if not list(self._database.execute(_CLAIM, [name, token, holder, _MICROSECONDS])):
            yield None
            return

        def guard() -> None:
            guarding = "UPDATE claims SET guarded = 1 WHERE name = ? AND token = ? RETURNING token"
            if not list(self._database.execute(guarding, [name, token])):
                raise StateRefusedError(
                    "its claim was lost with the connection, and somebody else has it: nothing was run",
                    hint="try again when that one is done",
                )

        hold = Hold(lost=threading.Event(), guard=guard)
        self._keeper.keep(name, token, hold)
        try:
            yield hold
        finally:
            self._keeper.leave(name)
            with suppress(BmhctlError):  # else its deadline ends it
                self._database.execute("DELETE FROM claims WHERE name = ? AND token = ?", [name, token])

    def claimed(self, names: Collection[str]) -> frozenset[str]:
        """Those of the names that a process holds alone."""
        if not names:
            return frozenset()
        there = f"SELECT name FROM claims WHERE name IN ({', '.join('?' * len(names))})"
        found = frozenset(str(row[0]) for row in self._database.execute(there, [*names]))
        if found:  # as a rule, none is: only then is it worth asking who is connected
            found = frozenset(str(row[0]) for row in self._database.execute(f"{there} AND NOT {_OVER}", [*names]))
        return found

    def is_shared(self, name: str) -> bool:
        """Whether a process shares it."""
        return self._database.holders(name) > 0

    def forget(self, name: str, *, shared: bool = False) -> None:
        """Removes what is left of a claim when nobody holds it."""
        if not shared:
            self._database.execute(f"DELETE FROM claims WHERE name = ? AND {_OVER}", [name])

    def left_behind(self) -> list[str]:
        """The names of claims that are over, whose holders left them."""
        return [str(row[0]) for row in self._database.execute(f"SELECT name FROM claims WHERE {_OVER} ORDER BY name")]


class _Keeper:
    """Renews claims in a thread, over a connection of its own: both begin when the first claim gets old."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._address = database.address
        self._kept: dict[str, tuple[str, Hold, float]] = {}  # with the moment at which it counts as lost
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, name: str, token: str, hold: Hold) -> None:
        """Renews a claim from now on."""
        with self._changed:
            self._kept[name] = token, hold, steady() + LENGTH - _MARGIN
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="claims", daemon=True)
                self._thread.start()

    def leave(self, name: str) -> None:
        """Renews it no more."""
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
                for name, (token, hold, _) in kept.items():
                    self._renew(database, name, token, hold)
                pause = _RENEW
            except BmhctlError:
                pause = _RETRY
            for _, hold, lost_at in self._kept.copy().values():
                if hold.lost is not None and steady() >= lost_at:
                    hold.lost.set()
        if database is not None:
            database.close()

    def _renew(self, database: PostgresDatabase, name: str, token: str, hold: Hold) -> None:
        before = steady()
        renewed = list(database.execute(_RENEWAL, [_MICROSECONDS, name, token]))
        with self._changed:
            if not renewed and hold.lost is not None:
                hold.lost.set()  # somebody took it over
            elif name in self._kept:
                self._kept[name] = token, hold, before + LENGTH - _MARGIN
