"""Keys of the state file that tie it to its TOML file."""

from __future__ import annotations

FINGERPRINT = "declaration"
"""The fingerprint of the TOML file when it was last synced."""

OWNER = "declared_by"
"""Which TOML file the state file belongs to."""

INTENT = "intent"
"""An edit of the TOML file that is about to be made."""
