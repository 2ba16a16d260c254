"""Machines that left the inventory: used ones, which return only as tainted, and retired ones, with time and reason."""

from __future__ import annotations

from datetime import datetime

from bmhctl.stores.database import Database
from bmhctl.stores.rows import from_time, to_moment, to_text
from bmhctl.support.values import Frozen

_IS_IT = "retired IS NULL AND (key = ? OR (key = ? AND (mac IS NULL OR CAST(? AS TEXT) IS NULL OR mac = ?)))"


class Departed(Frozen):
    """Records of machines that left: dirty ones under their name and MAC, retired ones under their MAC."""

    _database: Database

    def is_any(self) -> bool:
        """Return whether there is any record."""
        return bool(self._database.execute("SELECT 1 FROM departed LIMIT 1"))

    def reason(self, name: str, mac: str | None) -> str | None:
        """Return why a machine with this name or MAC may be dirty; None if no record says so.

        A record found by name is ignored if it has another MAC than ``mac``: it is about another machine.
        """
        rows = self._database.execute(f"SELECT reason FROM departed WHERE {_IS_IT}", [mac, name, mac, mac])
        return to_text(rows[0][0]) if rows else None

    def add(self, name: str | None, mac: str | None, at: datetime, reason: str) -> None:
        """Record under its name and its MAC that a used machine left, with the time and the reason."""
        for key in filter(None, (name, mac)):
            self._put(key, mac, at, reason, None)

    def add_retired(self, name: str, mac: str | None, at: datetime, reason: str) -> None:
        """Record under its MAC that a clean machine was retired; without a MAC, only remove earlier records of it."""
        self.remove(name, mac)
        if mac is not None:
            self._put(mac, mac, at, reason, name)

    def _put(self, key: str, mac: str | None, at: datetime, reason: str, retired: str | None) -> None:
        self._database.execute("DELETE FROM departed WHERE key = ?", [key])
        self._database.execute(
            "INSERT INTO departed (key, mac, at, reason, retired) VALUES (?, ?, ?, ?, ?)",
            [key, mac, from_time(at), reason, retired],
        )

    def retired(self, mac: str | None) -> tuple[str, datetime, str] | None:
        """Return the name, time and reason of the retirement of the machine with this MAC; None if there was none."""
        sql = "SELECT retired, at, reason FROM departed WHERE key = ? AND retired IS NOT NULL"
        rows = [] if mac is None else self._database.execute(sql, [mac])
        return (str(rows[0][0]), to_moment(rows[0][1]), str(rows[0][2])) if rows else None

    def remove(self, name: str, mac: str | None) -> None:
        """Remove the records of a machine that came back and is marked as dirty itself."""
        self._database.execute(f"DELETE FROM departed WHERE {_IS_IT}", [mac, name, mac, mac])
