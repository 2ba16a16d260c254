"""Intents as JSON: an edit of the TOML file that is recorded in the state file until it has been made and synced."""

from __future__ import annotations

import json

from bmhctl.stores.declared_hosts import host_of, host_values
from bmhctl.usecases.shared.host_changes import Changes, HostAddition, Removal


def write_intent(sha256: str, actor: str, changes: Changes) -> str:
    """Return the text of an intent to make changes; ``sha256`` is the hash of the TOML file after the changes."""
    return json.dumps(
        {
            "sha256": sha256,
            "actor": actor,
            "renames": changes.renames,
            "removals": [[r.name, r.reason, r.force, r.retires, r.last_event] for r in changes.removals],
            "newcomers": [(*host_values(n.host), n.reason) for n in changes.newcomers],
            "reason": changes.reason,
            "imported": changes.imported,
            "command": changes.command,
        }
    )


def read_intent(text: str | None, sha256: str) -> tuple[str, Changes] | None:
    """Return the actor and the changes of an intent; None if its hash is not that of the TOML file."""
    kept = json.loads(text) if text else None
    if kept is None or kept["sha256"] != sha256:
        return None
    return str(kept["actor"]), Changes(
        renames=tuple((old, new) for old, new in kept["renames"]),
        removals=tuple(Removal(*removal) for removal in kept["removals"]),
        newcomers=tuple(HostAddition(host_of((host, held)), reason) for host, held, reason in kept["newcomers"]),
        reason=kept["reason"],
        imported=kept.get("imported", {}),
        command=kept.get("command"),
    )


def intent_of(text: str) -> tuple[str | None, str]:
    """Return the hash that the TOML file has after the edit, and the edit's actor, from the text of an intent.

    Returns None and "an unknown actor" for a text that can't be read.
    """
    try:
        kept = json.loads(text)
        return kept["sha256"], str(kept["actor"])
    except (ValueError, LookupError, TypeError):
        return None, "an unknown actor"
