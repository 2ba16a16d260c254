"""Settings and other texts that an inventory keeps about itself, by key; among them the policy."""

from __future__ import annotations

import json
import os
from datetime import datetime

from bmhctl.stores.database import Database
from bmhctl.stores.rows import from_time, to_moment
from bmhctl.stores.schema import INVENTORY_KEY
from bmhctl.support.values import Frozen

PARSED_POLICY = "policy_parsed"
"""The key in ``meta`` of the policy as JSON; it is stored beside the policy's text because every grant reads it."""

FINGERPRINT = "declaration"
"""The key in ``meta`` of a state file of the TOML file's fingerprint when it was last synced."""

OWNER = "declared_by"
"""The key of the path of the TOML file to which the state file belongs."""

INTENT = "intent"
"""The key of an edit of the TOML file that is recorded before it is made."""

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
            self._database.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )

    def renew_identity(self) -> None:
        """Save a new random identity, so that no open command takes a copy for the inventory that it was made of."""
        self.put(INVENTORY_KEY, os.urandom(8).hex())

    def policy_text(self) -> str | None:
        """Return the policy as the text that an operator wrote; None if there is no policy."""
        return self.get(_POLICY)

    def parsed_policy(self) -> dict[str, object]:
        """Return the policy's tables; empty if there is no policy."""
        text = self.get(PARSED_POLICY)
        return {} if text is None else dict(json.loads(text))

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
