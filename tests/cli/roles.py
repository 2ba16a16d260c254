"""An inventory on the server with a user in each of its roles, and with hosts in every state for their commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from bmhctl import open_inventory
from bmhctl.api import Inventory
from bmhctl.stores.postgres import roles
from bmhctl.stores.postgres.url import Address
from tests.postgres import VARIABLE, drop_schema, schema_url


class Fleet:
    """An inventory whose owner prepares hosts for other users, in alice's name; each property returns a new host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = schema_url(os.environ[VARIABLE], folder / "lab.schema")
        self.elsewhere = schema_url(os.environ[VARIABLE], folder / "elsewhere.schema")
        self.schema = Address.parse(self.url).schema
        self.prefix = f"r{self.schema}"
        self._numbers = count(1)
        self._opened = ExitStack()
        self._connections: dict[str | None, psycopg.Connection[tuple[object, ...]]] = {}

    def close(self) -> None:
        """Closes what it has opened."""
        self._opened.close()

    def login(self, role: str) -> str:
        """The name of a user in a role."""
        return f"{self.prefix}_some_{role}"

    def url_of(self, role: str, url: str | None = None) -> str:
        """The URL by which a user in a role reaches the inventory, or another one."""
        return f"{url or self.url}&user={self.login(role)}&password=geheim"

    def sql(self, text: str, role: str | None = None) -> list[tuple[object, ...]]:
        """Runs statements as the owner, or as a user in a role; returns the rows of a single one."""
        cursor = self._connection(role).execute(text.encode())
        return cursor.fetchall() if cursor.description else []

    def may(self, role: str, statement: str) -> bool:
        """Whether the server allows a user in a role to run the statement."""
        try:
            self.sql(statement, role)
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of the inventory."""
        tables = {table: sql.Identifier(self.schema, table) for table in roles.tables()}
        select = sql.SQL("SELECT * FROM {}")
        owner = self._connection(None)
        return {table: owner.execute(select.format(name)).fetchall() for table, name in tables.items()}

    @cached_property
    def lab(self) -> Inventory:
        """The inventory, for its owner."""
        return self._opened.enter_context(open_inventory(self.url, actor="alice"))

    def _connection(self, role: str | None) -> psycopg.Connection[tuple[object, ...]]:
        """The connection of the owner, or of a user in a role."""
        if role not in self._connections:
            url = self.url if role is None else self.url_of(role)
            made = psycopg.connect(Address.parse(url).url, autocommit=True)
            self._connections[role] = self._opened.enter_context(made)
            made.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))
        return self._connections[role]

    def name(self) -> str:
        """A name that no host has."""
        return f"node{next(self._numbers):02}"

    def initial(self) -> str:
        """A new host."""
        name = self.name()
        self.lab.add(name)
        return name

    def available(self) -> str:
        """A host that can be reserved."""
        name = self.initial()
        self.lab.ready(name)
        return name

    def reserved(self) -> str:
        """A host that alice holds."""
        name = self.available()
        self.lab.reserve(name, ttl="1h")
        return name

    def held(self) -> str:
        """The id of a reservation of alice's."""
        name = self.available()
        return self.lab.reserve(name, ttl="1h").reservation.id

    def replaceable(self) -> list[str]:
        """A host that alice holds while another is free, and -R with the reservation's id."""
        self.available()
        self.available()
        held = self.lab.reserve(count=1, ttl="1h")
        return [held.hosts[0].name, "-R", held.reservation.id]

    def expired(self) -> str:
        """The id of a reservation with an expired lease."""
        reservation = self.held()
        self.sql(f"UPDATE reservations SET expires_at = 1 WHERE id = '{reservation}'")
        return reservation

    def tainted(self) -> str:
        """A host that was used."""
        name = self.reserved()
        self.lab.taint(name)
        return name

    def maintained(self) -> str:
        """A host that alice put into maintenance."""
        name = self.available()
        self.lab.maintain(name, reason="new disk")
        return name

    def cordoned(self) -> str:
        """A host that alice has cordoned."""
        name = self.available()
        self.lab.cordon(name, reason="power work")
        return name

    def booking(self) -> str:
        """The id of a booking of alice's."""
        name = self.available()
        return self.lab.book(name, begins="1d", ttl="1h")[0].booking.id

    def ticket(self) -> str:
        """A ticket that a command of alice has left in the queue."""
        [[number]] = self.sql(
            "INSERT INTO tickets (owner, wants, created_at, refreshed_at, endless)"
            " VALUES ('alice', '[[\"\",1]]', 0, 0, 0) RETURNING id"
        )
        return str(number)

    def file(self, text: str) -> str:
        """A TOML file."""
        path = self.folder / f"{self.name()}.toml"
        path.write_text(text)
        return str(path)


@contextmanager
def shared(folder: Path) -> Iterator[Fleet]:
    """A fleet with a user in each role, which is removed from the server afterwards."""
    fleet = Fleet(folder)
    names = [name for role in roles.ROLES for name in (f"{fleet.prefix}_{role.name}", fleet.login(role.name))]
    with ExitStack() as stack:
        stack.callback(fleet.close)
        with open_inventory(fleet.url, create=True):
            stack.callback(fleet.sql, f"DROP ROLE IF EXISTS {', '.join(names)}")
            stack.callback(drop_schema, fleet.url)  # first, because a role that has rights can't be dropped
        fleet.sql(roles.sql(fleet.schema, fleet.prefix))
        for group, login in zip(names[::2], names[1::2], strict=True):
            fleet.sql(f"CREATE ROLE {login} LOGIN PASSWORD 'geheim' IN ROLE {group}")
        yield fleet
