"""Retire an inventory that was copied for good: its database then refuses changes and names its successor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bmhctl.errors import RetiredError
from bmhctl.stores.database import Database
from bmhctl.stores.meta import Meta
from bmhctl.stores.schema import SUCCESSOR_KEY
from bmhctl.support.values import Frozen


@contextmanager
def changes_allowed(database: Database) -> Iterator[None]:
    """Allow the caller's transaction to change a retired inventory, as a migration of its tables must."""
    is_retired = Meta(database).get(SUCCESSOR_KEY) is not None
    if is_retired:
        database.upkeep().allow_changes()
    yield
    if is_retired:
        database.upkeep().refuse_changes()


class Retirement(Frozen):
    """Retires an inventory, and reports whether it is retired; made by :attr:`bmhctl.stores.store.Store.retirement`."""

    _database: Database

    def successor(self) -> str | None:
        """Return the location of the inventory that replaced this one, without a password; None if none has."""
        return Meta(self._database).get(SUCCESSOR_KEY)

    def begin(self, successor: str) -> None:
        """Refuse every change from the commit of the caller's transaction on, also by processes that have it open.

        ``successor`` is the location of the inventory that replaces this one.
        """
        Meta(self._database).put(SUCCESSOR_KEY, successor)
        self._database.upkeep().refuse_changes()

    def end(self) -> None:
        """Allow changes again."""
        self._database.upkeep().allow_changes()
        Meta(self._database).put(SUCCESSOR_KEY, None)

    def check(self, location: str) -> None:
        """Raise :class:`bmhctl.errors.RetiredError` if the inventory is retired; ``location`` is its name."""
        successor = self.successor()
        if successor is not None:
            raise RetiredError.of(location, successor)
