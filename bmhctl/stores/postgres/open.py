"""Open and create inventories in PostgreSQL from their URLs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bmhctl.errors import UsageError
from bmhctl.stores.postgres.url import Address
from bmhctl.stores.store import Store

if TYPE_CHECKING:
    from bmhctl.stores.postgres.database import PostgresDatabase

FOLDER = "/"
"""The folder from which relative paths in a policy start: the only one that is the same on all machines."""


def open_store(location: str) -> Store:
    """Open the inventory at a URL."""
    address = _address(location)
    from bmhctl.stores.postgres.schema import open_database

    return _store(open_database(address))


@contextmanager
def creating(location: str, *, fills_unused: bool = False) -> Iterator[Store]:
    """Yield an empty inventory; its transaction commits when the block ends, so it appears complete or not at all.

    It is a new one or, with ``fills_unused``, one that was created and not changed since. Raises
    :class:`bmhctl.errors.StateRefusedError` when the schema already has another inventory.
    """
    address = _address(location)
    from bmhctl.stores.postgres.schema import creating

    with creating(address, fills_unused=fills_unused) as database:
        yield _store(database)


def _store(database: PostgresDatabase) -> Store:
    from bmhctl.stores.postgres.claims import LeasedClaims

    return Store(database, claims=partial(LeasedClaims, database), folder=FOLDER, address=database.address.location)


def _address(location: str) -> Address:
    address = Address.parse(location)
    try:
        import psycopg
    except ImportError as error:
        raise UsageError(
            f"{address.shown} needs psycopg, which is not installed", hint="pip install 'bmhctl[postgres]'"
        ) from error
    del psycopg
    return address
