"""The inventory as a whole: all rows of its tables, for copies and backups."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bmhctl.stores.database import Database
from bmhctl.stores.rows import Row, number_in
from bmhctl.stores.schema import NEWEST_IDS, TABLES
from bmhctl.support.values import Frozen

_TOLD_EVERY = 10_000


class Admin(Frozen):
    """All tables of one inventory; made by :attr:`bmhctl.stores.store.Store.admin`."""

    _database: Database

    def fill_from(self, source: Admin, progress: Callable[[str, str], None]) -> dict[str, int]:
        """Copy every row of another inventory into this one; return how many rows each table then has.

        The caller has a transaction of the other inventory open, so all rows are from one moment. ``progress`` is
        called with the table's name, and with a text such as ``table 2 of 9, 1,000 rows``.
        """
        for number, table in enumerate(TABLES, 1):
            place = f"table {number} of {len(TABLES)}"
            self._database.load(table, TABLES[table], _counted(table, place, source.rows(table), progress))
        return self.settle()

    def rows(self, table: str) -> Iterator[Row]:
        """Yield every row of a table, one of :data:`TABLES`, as it is stored."""
        return self._database.stream(f"SELECT {', '.join(TABLES[table])} FROM {table}")

    def settle(self) -> dict[str, int]:
        """End a load: make sure that no id is assigned twice, and return how many rows each table has."""
        for table, newest in NEWEST_IDS.items():
            self._database.start_ids_after(table, number_in(self._database.execute(newest)))
        return {table: number_in(self._database.execute(f"SELECT COUNT(*) FROM {table}")) for table in TABLES}


def _counted(table: str, place: str, rows: Iterator[Row], progress: Callable[[str, str], None]) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count % _TOLD_EVERY == 0:
            progress(f"copy {table}", f"{place}, {count:,} rows")
        yield row
