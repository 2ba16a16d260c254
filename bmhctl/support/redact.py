"""Remove passwords from texts that are shown."""

from __future__ import annotations

from bmhctl.support.lazy_regex import pattern

_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

# A password ends at the last "@": it may contain "@", "/" or a space, or be cut off. A port is not a password.
_IN_TEXT = pattern(
    r"(:/+[^/@?#:\[\s]*):(?!\d*(?:[^\d\w%@!$.~+=*&^/-]|/(?![^?\s]*@)|$))(?:\S*@|[^@]*@|\S*)"
    rf"|\b((?:{'|'.join(_SECRETS)})\s*=\s*)(?:'[^']*'|[^&\s'\"]*)"
)


def without_secrets(text: str) -> str:
    """Return the text without the passwords of its URLs, whether the URLs are valid or not."""
    return _IN_TEXT.sub(lambda match: f"{match[1]}@" if match[2] is None else f"{match[2]}***", text)
