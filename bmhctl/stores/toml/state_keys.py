"""Keys in ``meta`` of the state file that tie it to its TOML file."""

from __future__ import annotations

FINGERPRINT = "declaration"
"""The fingerprint of the TOML file when it was last synced."""

OWNER = "declared_by"
"""The path of the TOML file to which the state file belongs."""

INTENT = "intent"
"""An edit of the TOML file that is recorded before it is made."""
