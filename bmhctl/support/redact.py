"""Remove passwords from texts that a person sees."""

from __future__ import annotations

from bmhctl.support.lazy_regex import pattern

_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

# In a text: up to the last "@", should the password hold one, a "/" or a space, or be cut off; but a port is none.
_IN_TEXT = pattern(
    r"(:/+[^/@?#:\[\s]*):(?!\d*(?:[^\d\w%@!$.~+=*&^/-]|/(?![^?\s]*@)|$))(?:\S*@|[^@]*@|\S*)"
    rf"|\b((?:{'|'.join(_SECRETS)})\s*=\s*)(?:'[^']*'|[^&\s'\"]*)"
)


def without_secrets(text: str) -> str:
    """A text in which no URL has a password any more, even one that can't be read."""
    return _IN_TEXT.sub(lambda match: f"{match[1]}@" if match[2] is None else f"{match[2]}***", text)
