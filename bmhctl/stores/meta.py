"""What an inventory keeps about itself: texts by key, among them the policy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bmhctl.support.values import Frozen

if TYPE_CHECKING:
    from bmhctl.stores.database import Database

VALUE_OF = "SELECT value FROM meta WHERE key = ?"
PARSED_POLICY = "policy_parsed"
"""The key of the policy as JSON, kept beside its text because every grant reads it."""

_POLICY = "policy"


class Meta(Frozen):
    """Texts, each under a key."""

    _database: Database

    def get(self, key: str) -> str | None:
        """Return the text under a key; None if there is none."""
        rows = self._database.execute(VALUE_OF, [key])
        return str(rows[0][0]) if rows else None

    def put(self, key: str, value: str | None) -> None:
        """Save a text under a key; None removes it."""
        if value is None:
            self._database.execute("DELETE FROM meta WHERE key = ?", [key])
        else:
            self._database.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )

    def policy_text(self) -> str | None:
        """Return the policy as the text that an operator wrote; None if there is none."""
        return self.get(_POLICY)

    def parsed_policy(self) -> dict[str, object]:
        """Return the policy's tables, empty if there is none."""
        text = self.get(PARSED_POLICY)
        return {} if text is None else dict(json.loads(text))

    def save_policy(self, text: str) -> None:
        """Save the text of a valid policy; an empty text removes it."""
        if text != (self.policy_text() or ""):
            self.put(_POLICY, text or None)
            self.parse_policy_again()

    def parse_policy_again(self) -> None:
        """Parse the stored policy again, and save the result beside its text."""
        import tomllib

        text = self.policy_text()
        self.put(PARSED_POLICY, json.dumps(tomllib.loads(text)) if text else None)
