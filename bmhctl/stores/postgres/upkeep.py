"""Rare work on the tables of a schema in PostgreSQL: check and repair them, and retire an inventory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bmhctl.stores.postgres.connection import RETIRED
from bmhctl.stores.schema import GUARDED, NEWEST_IDS, SUCCESSOR_KEY, TABLES
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.postgres.database import PostgresDatabase


_NEWEST_IDS = NEWEST_IDS | {"counts": "SELECT MAX(id) FROM counts"}
"""A query for the newest id of each table with a sequence."""


class PostgresUpkeep(Frozen):
    """The upkeep of one schema, for its owner; made by :meth:`PostgresDatabase.upkeep`."""

    _database: PostgresDatabase

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield the indexes that are not valid, and the tables whose next id is in use."""
        for (name,) in self._database.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE NOT i.indisvalid AND c.relnamespace = ?::regnamespace ORDER BY c.relname",
            [f'"{self._database.address.schema}"'],
        ):
            yield f"the index {name} is not valid", True
        for table, last in self._ids_behind():
            yield f"the next id of {table} is in use: its sequence did not come along with the rows up to {last}", True

    def _ids_behind(self) -> Iterator[tuple[str, int]]:
        """Yield the tables whose next id is in use, each with its newest one; only the owner may read that."""
        for table, newest in _NEWEST_IDS.items() if self._database.is_owner else ():
            following = f"SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM {table}_id_seq"
            for (last,) in self._database.execute(
                f"SELECT id FROM ({newest}) AS newest (id) WHERE id >= ({following})"
            ):
                yield table, int(last or 0)

    def refuse_changes(self) -> None:
        """Create a trigger for each table that raises :data:`RETIRED` with the successor's location as its message."""
        self._database.require_owner("retire it", "bmhctl copy --retire-source")
        self._database.execute(
            f"CREATE OR REPLACE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION USING ERRCODE = '{RETIRED}', MESSAGE = COALESCE("
            f"(SELECT value FROM meta WHERE key = '{SUCCESSOR_KEY}'), '(not known)'); END $$"
        )
        for table in GUARDED:
            self._database.execute(f"DROP TRIGGER IF EXISTS retired ON {table}")
            self._database.execute(
                f"CREATE TRIGGER retired BEFORE INSERT OR UPDATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()"
            )

    def allow_changes(self) -> None:
        """Drop the triggers of :meth:`refuse_changes`."""
        self._database.require_owner("use it again", "bmhctl init --reactivate")
        for table in GUARDED:
            self._database.execute(f"DROP TRIGGER IF EXISTS retired ON {table}")
        self._database.execute("DROP FUNCTION IF EXISTS refuse_changes()")

    def rebuild(self) -> None:
        """Run ``REINDEX`` for each table, and start ids after those in use."""
        self._database.require_owner("repair its indexes and ids", "bmhctl doctor --fix")
        for table in TABLES:
            self._database.execute(f"REINDEX TABLE {table}")
        for table, last in [*self._ids_behind()]:
            self._database.start_ids_after(table, last)

    def copy_file_to(self, partial: Path) -> bool:
        """Return False: the files are on the server."""
        return False
