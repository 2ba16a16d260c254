"""Parse the URL of a PostgreSQL inventory: for libpq, and without its password for messages."""

from __future__ import annotations

import re
from typing import NoReturn

from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.redact import _SECRETS
from bmhctl.support.values import Frozen, replace

SCHEMA = "bmhctl"
"""The schema of an inventory when its URL names none."""

_HINT = "postgresql://user@host/database?schema=NAME; in a password, '@' is %40, '/' is %2F and '%' is %25"
_PLACE = ("host", "hostaddr", "port", "user", "dbname", "service", "schema")

# As in libpq, the part before the first "@" is the user and the password, unless a "/" comes first.
_URL = pattern(
    r"postgres(?:ql)?://(?:(?P<user>[^@/:]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/?]*)"
    r"(?P<database>/[^?]*)?(?:\?(?P<query>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_HOSTS = pattern(r"(?:(?:\[[^\]]*\]|[^\[\]:,]*)(?::\d*)?(?:,|$))*")
_BAD_PERCENT = pattern(r"%(?![0-9A-Fa-f]{2})|%00")
_NAME = pattern(r"(?!pg_|information_schema$)[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST = 63  # bytes; the limit of a name in PostgreSQL


class Address(Frozen):
    """Where an inventory is: ``url`` for libpq, and the ``schema`` in the database.

    Messages use ``shown``, which has no password.
    """

    url: str
    schema: str = SCHEMA

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @classmethod
    def parse(cls, location: str) -> Address:
        """Return the address in a URL; its schema is split off from ``?schema=``.

        Raises :class:`UsageError` for a name that needs quoting, and for a URL that libpq would read differently. For
        example, in a password with an unencoded ``@``, libpq would take a part for the name of a host, look it up and
        print it.
        """
        url = _Url.parse(location)
        named = [value for key, value in url.query if key == "schema"]
        if len(named) > 1:
            _refuse("it names two schemas")
        schema = _decoded(named[0]) if named else SCHEMA
        if not is_name(schema):
            raise UsageError(
                f"{schema!r} is not a name for a schema",
                hint=f"?schema=lab: letters, digits, '_' and '-', at most {_LONGEST}; 'pg_…' is PostgreSQL's own",
            )
        rest = tuple(parameter for parameter in url.query if parameter[0] != "schema")
        return cls(str(replace(url, query=rest)), schema)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self._with_schema(_Url.parse(self.url).bare())

    @property
    def typed(self) -> str:
        """The URL without its password, quoted for a shell."""
        import shlex

        return shlex.quote(self.shown)

    @property
    def location(self) -> str:
        """The whole URL with its password, for another process of bmhctl; never for a message."""
        return self._with_schema(_Url.parse(self.url))

    @property
    def has_secret(self) -> bool:
        """Whether the URL itself holds a password."""
        url = _Url.parse(self.url)
        return url != url.bare()

    def _with_schema(self, url: _Url) -> str:
        if self.schema == SCHEMA:
            return str(url)
        return str(replace(url, query=(*url.query, ("schema", self.schema))))


def is_name(text: str, longest: int = _LONGEST) -> bool:
    """Return whether a text may name a schema or a role of bmhctl; such a name needs no quoting."""
    return len(text) <= longest and _NAME.fullmatch(text) is not None


class _Url(Frozen):
    scheme: str
    user: str | None
    password: str | None
    hosts: str
    database: str
    query: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> _Url:
        """Split a URL; raise :class:`UsageError` without quoting any part, because it may be a password."""
        found = _URL.fullmatch(text)
        if found is None:
            _refuse("it does not begin with postgresql://")
        hosts, database = found["hosts"], found["database"] or ""
        if "@" in hosts + database:
            _refuse("it has more than one '@', or one after a '/'")
        if not _HOSTS.fullmatch(hosts):
            _refuse("what follows a ':' is not a port")
        if _BAD_PERCENT.search(text):
            _refuse("a '%' must be followed by two hexadecimal digits")
        if any(each.isspace() for each in text):
            _refuse("it contains a space")
        query = [parameter.split("=") for parameter in (found["query"] or "").split("&") if parameter]
        if any(len(parts) != 2 for parts in query):
            _refuse("each of its parameters must be NAME=VALUE")
        return cls(
            scheme="postgresql",
            user=found["user"],
            password=found["password"],
            hosts=hosts,
            database=database,
            query=tuple((key, value) for key, value in query),
        )

    def bare(self) -> _Url:
        """Return the URL without a password.

        If a parameter is a password, only the parameters that identify the database are kept, because after an
        unencoded ``&`` the rest of the password looks like another parameter.
        """
        kept = self.query
        if any(_decoded(key) in _SECRETS for key, _ in kept):
            kept = tuple((key, value) for key, value in kept if key in _PLACE)
        return replace(self, password=None, query=kept)

    def __str__(self) -> str:
        password = "" if self.password is None else f":{self.password}"
        user = "" if self.user is None else f"{self.user}{password}@"
        query = "&".join(f"{key}={value}" for key, value in self.query)
        return f"{self.scheme}://{user}{self.hosts}{self.database}{f'?{query}' if query else ''}"


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _refuse(why: str) -> NoReturn:
    raise UsageError(f"can't read the URL of the inventory: {why}", hint=_HINT)
