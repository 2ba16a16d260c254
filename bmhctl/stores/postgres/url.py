"""Parse the URL of a PostgreSQL inventory: for libpq, and without its password for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from bmhctl.domain.bmc_address import unescaped
from bmhctl.errors import UsageError
from bmhctl.support.lazy_regex import pattern
from bmhctl.support.redact import _SECRETS
from bmhctl.support.values import Frozen, replace

SCHEMA = "bmhctl"
"""The schema of an inventory when its URL names none."""

_HINT = "postgresql://user@host/database?schema=NAME; in a password, '@' is %40, '/' is %2F and '%' is %25"
_PLACE = ("host", "hostaddr", "port", "user", "dbname", "service")

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
    """Where an inventory is: the parts of a URL as they are written, and the ``schema`` in the database.

    Messages use ``shown``, which has no password.
    """

    user: str | None
    password: str | None
    hosts: str
    database: str
    query: tuple[tuple[str, str], ...]
    schema: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @classmethod
    def parse(cls, location: str) -> Address:
        """Return the address in a URL; its schema is split off from ``?schema=``.

        Raises :class:`UsageError` for a name that needs quoting, and for a URL that libpq would read differently. For
        example, in a password with an unencoded ``@``, libpq would take a part for the name of a host, look it up and
        print it. The errors quote no part that may be a password.
        """
        found = _URL.fullmatch(location)
        if found is None:
            _refuse("it does not begin with postgresql://")
        hosts, database = found["hosts"], found["database"] or ""
        if "@" in hosts + database:
            _refuse("it has more than one '@', or one after a '/'")
        if not _HOSTS.fullmatch(hosts):
            _refuse("what follows a ':' is not a port")
        if _BAD_PERCENT.search(location):
            _refuse("a '%' must be followed by two hexadecimal digits")
        if any(each.isspace() for each in location):
            _refuse("it contains a space")
        query = [parameter.split("=") for parameter in (found["query"] or "").split("&") if parameter]
        if any(len(parts) != 2 for parts in query):
            _refuse("each of its parameters must be NAME=VALUE")
        named = [value for key, value in query if key == "schema"]
        if len(named) > 1:
            _refuse("it names two schemas")
        schema = unescaped(named[0]) if named else SCHEMA
        if not is_name(schema):
            raise UsageError(
                f"{schema!r} is not a name for a schema",
                hint=f"?schema=lab: letters, digits, '_' and '-', at most {_LONGEST}; 'pg_…' is PostgreSQL's own",
            )
        rest = tuple((key, value) for key, value in query if key != "schema")
        return cls(found["user"], found["password"], hosts, database, rest, schema)

    @property
    def url(self) -> str:
        """The URL for libpq, with its password and without the schema."""
        return self._written(self.query)

    @property
    def location(self) -> str:
        """The whole URL with its password, for another process of bmhctl; never for a message."""
        return self._written(self.query if self.schema == SCHEMA else (*self.query, ("schema", self.schema)))

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return replace(self, password=None, query=self._bare_query()).location

    @property
    def typed(self) -> str:
        """The URL without its password, quoted for a shell."""
        import shlex

        return shlex.quote(self.shown)

    @property
    def has_secret(self) -> bool:
        """Whether the URL itself holds a password."""
        return self.password is not None or self.query != self._bare_query()

    def _bare_query(self) -> tuple[tuple[str, str], ...]:
        """Return the parameters without a password.

        If one of them is a password, only those that identify the database are kept, because after an unencoded ``&``
        the rest of the password looks like another parameter.
        """
        if any(unescaped(key) in _SECRETS for key, _ in self.query):
            return tuple((key, value) for key, value in self.query if key in _PLACE)
        return self.query

    def _written(self, query: Iterable[tuple[str, str]]) -> str:
        password = "" if self.password is None else f":{self.password}"
        user = "" if self.user is None else f"{self.user}{password}@"
        parameters = "&".join(f"{key}={value}" for key, value in query)
        return f"postgresql://{user}{self.hosts}{self.database}{f'?{parameters}' if parameters else ''}"


def is_name(text: str, longest: int = _LONGEST) -> bool:
    """Return whether a text may name a schema or a role of bmhctl; such a name needs no quoting."""
    return len(text) <= longest and _NAME.fullmatch(text) is not None


def _refuse(why: str) -> NoReturn:
    raise UsageError(f"can't read the URL of the inventory: {why}", hint=_HINT)
