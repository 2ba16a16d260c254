"""The table ``meta``: texts by key, such as the policy, imported values, the successor of a retired inventory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from bmhctl.domain.model import PropertyValue
from bmhctl.errors import RetiredError
from bmhctl.stores.database import Database
from bmhctl.stores.hosts import in_parts
from bmhctl.stores.rows import from_time, to_json, to_moment
from bmhctl.stores.schema import INVENTORY_KEY, SUCCESSOR_KEY
from bmhctl.support.values import Frozen

PARSED_POLICY = "policy_parsed"
"""The key in ``meta`` of the policy as JSON; it is stored beside the policy's text because every grant reads it."""

FINGERPRINT = "declaration"
"""The key in ``meta`` of a state file of the TOML file's fingerprint when it was last synced."""

OWNER = "declared_by"
"""The key of the path of the TOML file to which the state file belongs."""

INTENT = "intent"
"""The key of an edit of the TOML file that is recorded before it is made."""

_SAVE = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_POLICY = "policy"
_POLICY_BEFORE = "policy_before"


class Meta(Frozen):
    """Texts, each under a key."""

    _database: Database

    def get(self, key: str) -> str | None:
        """Return the text under a key; None if there is none."""
        rows = self._database.execute("SELECT value FROM meta WHERE key = ?", [key])
        return str(rows[0][0]) if rows else None

    def put(self, key: str, value: str | None) -> None:
        """Save a text under a key; None removes it."""
        if value is None:
            self._database.execute("DELETE FROM meta WHERE key = ?", [key])
        else:
            self._database.execute(_SAVE, [key, value])

    def successor(self) -> str | None:
        """Return the location of the inventory that replaced this one, without a password; None if none has."""
        return self.get(SUCCESSOR_KEY)

    def retire(self, successor: str) -> None:
        """Refuse every change from the commit of the caller's transaction on, also by processes that have it open.

        ``successor`` is the location of the inventory that replaces this one.
        """
        self.put(SUCCESSOR_KEY, successor)
        self._database.upkeep().refuse_changes()

    def reactivate(self) -> None:
        """Allow changes of a retired inventory again."""
        self._database.upkeep().allow_changes()
        self.put(SUCCESSOR_KEY, None)

    def check_in_use(self, location: str) -> None:
        """Raise :class:`bmhctl.errors.RetiredError` if the inventory is retired; ``location`` is its name."""
        successor = self.successor()
        if successor is not None:
            raise RetiredError.of(location, successor)

    def renew_identity(self) -> None:
        """Save a new random identity, so that no open command takes a copy for the inventory that it was made of."""
        self.put(INVENTORY_KEY, os.urandom(8).hex())

    def policy_text(self) -> str | None:
        """Return the policy as the text that an operator wrote; None if there is no policy."""
        return self.get(_POLICY)

    def save_policy(self, text: str) -> bool:
        """Save the text of a valid policy, and return whether the policy changed; an empty text removes the policy."""
        if text == (self.policy_text() or ""):
            return False
        self.put(_POLICY, text or None)
        self.parse_policy_again()
        return True

    def keep_policy(self, at: datetime, actor: str, text: str) -> None:
        """Save the text of the policy before a change, with the change's time and actor; replaces an earlier one."""
        self.put(_POLICY_BEFORE, json.dumps([from_time(at), actor, text]))

    def kept_policy(self) -> tuple[datetime, str, str] | None:
        """Return the time and actor of the policy's last change, and its text before that; None if not known."""
        kept = self.get(_POLICY_BEFORE)
        if kept is None:
            return None
        at, actor, text = json.loads(kept)
        return to_moment(at), str(actor), str(text)

    def parse_policy_again(self) -> None:
        """Parse the stored policy again, and save the result beside its text."""
        import tomllib

        text = self.policy_text()
        self.put(PARSED_POLICY, json.dumps(tomllib.loads(text)) if text else None)


_IMPORTED_KEY = "'imported/' || hosts.id"
_FORGET = f"DELETE FROM meta WHERE key = (SELECT {_IMPORTED_KEY} FROM hosts WHERE hosts.name = ?)"


class Imported(Frozen):
    """What the last import declared for each host, so that the next import recognises values that were set since."""

    _database: Database

    def of(self, names: Iterable[str]) -> dict[str, dict[str, PropertyValue]]:
        """Return the saved values of the hosts with these names, by name."""
        found: dict[str, dict[str, PropertyValue]] = {}
        for some in in_parts(list(dict.fromkeys(names))):
            rows = self._database.execute(
                f"SELECT hosts.name, meta.value FROM hosts JOIN meta ON meta.key = {_IMPORTED_KEY} "
                f"WHERE hosts.name IN ({', '.join('?' * len(some))})",
                some,
            )
            found.update((str(name), json.loads(str(value))) for name, value in rows)
        return found

    def save(self, values: Mapping[str, Mapping[str, PropertyValue] | None]) -> None:
        """Save the values that an import declared, by host name, in place of the earlier ones; None removes them."""
        for some in in_parts(list(values)):
            keys = self._database.execute(
                f"SELECT {_IMPORTED_KEY}, hosts.name FROM hosts WHERE hosts.name IN ({', '.join('?' * len(some))})",
                some,
            )
            kept = [(key, said) for key, name in keys if (said := values[str(name)]) is not None]
            self._database.enqueue(_SAVE, *((key, to_json(said)) for key, said in kept))
        for name in self.of(name for name, said in values.items() if said is None):
            self._database.execute(_FORGET, [name])


@contextmanager
def changes_allowed(database: Database) -> Iterator[None]:
    """Allow the caller's transaction to change a retired inventory, as a migration of its tables must."""
    is_retired = Meta(database).successor() is not None
    if is_retired:
        database.upkeep().allow_changes()
    yield
    if is_retired:
        database.upkeep().refuse_changes()
