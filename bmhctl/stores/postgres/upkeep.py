"""Rare work on the tables of a schema in PostgreSQL: check and repair them, and retire an inventory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bmhctl.stores.postgres.connection import RETIRED
from bmhctl.stores.schema import SUCCESSOR_KEY, TABLES
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.postgres.database import PostgresDatabase


class PostgresUpkeep(Frozen):
    """The upkeep of one schema, for its owner; made by :meth:`PostgresDatabase.upkeep`."""

    _database: PostgresDatabase

    def damage(self) -> Iterator[tuple[str, bool]]:
        """Yield the indexes that are not valid."""
        for (name,) in self._database.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE NOT i.indisvalid AND c.relnamespace = ?::regnamespace ORDER BY c.relname",
            [f'"{self._database.address.schema}"'],
        ):
            yield f"the index {name} is not valid", True

    def refuse_changes(self, tables: Sequence[str]) -> None:
        """Create a trigger for each table that raises :data:`RETIRED` with the successor's location as its message."""
        self._database.require_owner("retire it", "bmhctl copy --retire-source")
        self._database.execute(
            f"CREATE OR REPLACE FUNCTION refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE EXCEPTION USING ERRCODE = '{RETIRED}', MESSAGE = COALESCE("
            f"(SELECT value FROM meta WHERE key = '{SUCCESSOR_KEY}'), '(not known)'); END $$"
        )
        for table in tables:
            self._database.execute(f"DROP TRIGGER IF EXISTS retired ON {table}")
            self._database.execute(
                f"CREATE TRIGGER retired BEFORE INSERT OR UPDATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()"
            )

    def allow_changes(self, tables: Sequence[str]) -> None:
        """Drop the triggers of :meth:`refuse_changes`."""
        self._database.require_owner("use it again", "bmhctl init --reactivate")
        for table in tables:
            self._database.execute(f"DROP TRIGGER IF EXISTS retired ON {table}")
        self._database.execute("DROP FUNCTION IF EXISTS refuse_changes()")

    def rebuild_indexes(self) -> None:
        """Run ``REINDEX`` for each table."""
        self._database.require_owner("repair its indexes", "bmhctl doctor --fix")
        for table in TABLES:
            self._database.execute(f"REINDEX TABLE {table}")
