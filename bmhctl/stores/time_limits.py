"""The time limits that all backends share."""

from __future__ import annotations

LOCK_PATIENCE = 15.0
"""How long a command waits for another command's transaction or edit, in seconds."""
