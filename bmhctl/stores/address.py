"""The URL of an inventory in PostgreSQL: what libpq is given, and what a person is shown."""

from __future__ import annotations

import re

from bmhctl.errors import UsageError
from bmhctl.frozen import Frozen

SCHEMA = "bmhctl"
"""The schema of an inventory when its URL names none."""

_SCHEMA_PARAMETER = re.compile(r"([?&])schema=([^&#]*)(&|$)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
# Up to the last "@", should the password hold one, or a "/"; but what looks like a port is one.
_SECRET = re.compile(r"(?<=://)([^/@?#:\[]*):(?!\d*(?:[/?#,]|$))\S*@|([?&](?:password|sslpassword)=)[^&#\s]*")


class Address(Frozen):
    """Where an inventory is: ``url`` for libpq, and the ``schema`` in that database.

    Whoever prints one prints ``shown``, which has no password.
    """

    url: str
    schema: str = SCHEMA

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @classmethod
    def parse(cls, location: str) -> Address:
        """Takes ``?schema=`` out of a URL; raises :class:`UsageError` for a name that needs quoting."""
        schema = SCHEMA
        found = _SCHEMA_PARAMETER.search(location)
        if found is not None:
            schema = found[2]
            # What follows moves up to where the parameter stood.
            location = location[: found.start()] + (found[1] if found[3] else "") + location[found.end() :]
        if not _NAME.fullmatch(schema):
            raise UsageError(f"{schema!r} is no name for a schema", hint="letters, digits, '_' and '-': ?schema=lab")
        return cls(location, schema)

    @property
    def shown(self) -> str:
        """The URL as a person may see it."""
        url = self.without_secrets(self.url)
        if self.schema == SCHEMA:
            return url
        return f"{url}{'&' if '?' in url else '?'}schema={self.schema}"

    @property
    def location(self) -> str:
        """The whole URL, password and all: for another bmhctl, never for a person."""
        if self.schema == SCHEMA:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}schema={self.schema}"

    @property
    def has_secret(self) -> bool:
        """Whether the URL itself holds a password."""
        return self.without_secrets(self.url) != self.url

    @staticmethod
    def without_secrets(text: str) -> str:
        """A text in which no URL has a password any more."""
        return _SECRET.sub(lambda match: f"{match[1]}@" if match[2] is None else f"{match[2]}***", text)
