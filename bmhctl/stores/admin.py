"""The inventory as a whole: all rows of its tables, for copies and backups."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bmhctl.stores.rows import Row, number_in
from bmhctl.stores.schema import NEWEST_IDS, TABLES
from bmhctl.stores.store import Store

_TOLD_EVERY = 10_000


def fill(target: Store, source: Store, progress: Callable[[str, str], None]) -> dict[str, int]:
    """Copy every row of an inventory into another one; return how many rows each of its tables then has.

    The caller has a transaction of the source open, so all rows are from one moment. ``progress`` is called with the
    table's name, and with a text such as ``table 2 of 9, 1,000 rows``.
    """
    for number, table in enumerate(TABLES, 1):
        place = f"table {number} of {len(TABLES)}"
        target.database.load(table, TABLES[table], _counted(table, place, rows(source, table), progress))
    return settle(target)


def rows(store: Store, table: str) -> Iterator[Row]:
    """Yield every row of a table, one of :data:`TABLES`, as it is stored."""
    return store.database.stream(f"SELECT {', '.join(TABLES[table])} FROM {table}")


def settle(store: Store) -> dict[str, int]:
    """End a load: make sure that no id is assigned twice, and return how many rows each table has."""
    for table, newest in NEWEST_IDS.items():
        store.database.start_ids_after(table, number_in(store.database.execute(newest)))
    return {table: number_in(store.database.execute(f"SELECT COUNT(*) FROM {table}")) for table in TABLES}


def _counted(table: str, place: str, rows: Iterator[Row], progress: Callable[[str, str], None]) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count % _TOLD_EVERY == 0:
            progress(f"copy {table}", f"{place}, {count:,} rows")
        yield row
