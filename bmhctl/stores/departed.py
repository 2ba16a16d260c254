"""Used machines that left the inventory: one that comes back is tainted, or leaving would launder it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bmhctl.stores.rows import from_time, to_text
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_IS_IT = "key = ? OR (key = ? AND (mac IS NULL OR CAST(? AS TEXT) IS NULL OR mac = ?))"


class Departed(Frozen):
    """The machines that left while they were dirty, each under its name and under its MAC."""

    _database: Database

    def is_any(self) -> bool:
        """Return whether there is any such machine."""
        return bool(self._database.execute("SELECT 1 FROM departed LIMIT 1"))

    def reason(self, name: str, mac: str | None) -> str | None:
        """Return why a machine with this name or MAC may not count as clean; None if it may.

        A name counts only while no two MACs tell the machines apart.
        """
        rows = self._database.execute(f"SELECT reason FROM departed WHERE {_IS_IT}", [mac, name, mac, mac])
        return to_text(rows[0][0]) if rows else None

    def add(self, name: str | None, mac: str | None, at: datetime, reason: str) -> None:
        """Record that a used machine left at a moment, under its name and its MAC."""
        for key in filter(None, (name, mac)):
            self._database.execute("DELETE FROM departed WHERE key = ?", [key])
            self._database.execute(
                "INSERT INTO departed (key, mac, at, reason) VALUES (?, ?, ?, ?)", [key, mac, from_time(at), reason]
            )

    def remove(self, name: str, mac: str | None) -> None:
        """Remove the record of a machine: it is back, and known to be dirty."""
        self._database.execute(f"DELETE FROM departed WHERE {_IS_IT}", [mac, name, mac, mac])
