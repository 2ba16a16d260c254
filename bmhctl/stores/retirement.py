"""An inventory that was copied for good: its database refuses changes, and it names its successor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bmhctl.stores.meta import Meta
from bmhctl.stores.schema import SUCCESSOR_KEY
from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

_GUARDED = ("hosts", "reservations", "tickets", "events")
"""The tables that refuse changes: every command that matters changes one of them. Tickets may still be removed, and
``meta`` may be changed."""


@contextmanager
def changes_allowed(database: Database) -> Iterator[None]:
    """Let the caller's transaction change a retired inventory, which a migration of its tables does."""
    is_retired = Meta(database).get(SUCCESSOR_KEY) is not None
    if is_retired:
        database.allow_changes(_GUARDED)
    yield
    if is_retired:
        database.refuse_changes(_GUARDED)


class Retirement(Frozen):
    """Whether an inventory is retired; made by :attr:`bmhctl.stores.store.Store.retirement`."""

    _database: Database
    _location: str

    def successor(self) -> str | None:
        """Return where the inventory is now, without a password; None if this one is in use."""
        return Meta(self._database).get(SUCCESSOR_KEY)

    def begin(self, successor: str) -> None:
        """Refuse every change from the commit of the caller's transaction on, also to processes that have it open."""
        Meta(self._database).put(SUCCESSOR_KEY, successor)
        self._database.refuse_changes(_GUARDED)

    def end(self) -> None:
        """Allow changes again."""
        self._database.allow_changes(_GUARDED)
        Meta(self._database).put(SUCCESSOR_KEY, None)

    def check(self) -> None:
        """Raise :class:`bmhctl.errors.RetiredError` if the inventory is retired."""
        successor = self.successor()
        if successor is not None:
            from bmhctl.errors import RetiredError

            raise RetiredError.of(self._location, successor)
