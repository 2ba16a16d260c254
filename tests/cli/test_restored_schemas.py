"""Inventories on a server whose schema was restored, replicated or renamed with the server's own tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bmhctl.stores.postgres.url import Address
from bmhctl.usecases import inventories
from tests.cli.conftest import Cli
from tests.conftest import location
from tests.postgres import drop_schema

SEQUENCES = ("hosts", "events", "tickets", "queue_events", "counts")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An empty inventory."""
    url = location(tmp_path / "lab.schema")
    inventories.init(url)
    yield url
    drop_schema(url)


def sql(url: str, *statements: str) -> None:
    """Runs statements in the schema of an inventory."""
    address = Address.parse(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(f'SET search_path = "{address.schema}"'.encode())
        for statement in statements:
            connection.execute(statement.encode())


def test_doctor_sets_the_sequences_that_a_replica_or_a_dump_of_the_rows_lacks(url: str, cli: Cli) -> None:
    assert cli("add", "node[1-3]", "-i", url).status == 0
    assert cli("remove", "node3", "--yes", "-i", url).status == 0
    sql(url, *(f"ALTER SEQUENCE {table}_id_seq RESTART" for table in SEQUENCES))

    for words in (("add", "node4"), ("cordon", "node1")):
        done = cli(*words, "-i", url)
        assert (done.status, done.stdout) == (10, ""), words
        assert "hint: bmhctl doctor --fix sets the sequences" in done.stderr

    done = cli("doctor", "-i", url, "--fields", "fixed,message")
    assert done.status == 10
    assert [line for line in done.stdout.splitlines()[1:] if "is in use" not in line] == []
    assert cli("doctor", "--fix", "-i", url).status == 0
    assert cli("add", "node4", "-i", url).status == 0
    assert cli("cordon", "node1", "-i", url).status == 0
    assert cli("history", "node4", "-i", url, "-o", "csv", "--fields", "host,verb").stdout == "host,verb\nnode4,enter\n"
    assert cli("doctor", "-i", url).status == 0


def test_doctor_sets_the_sequence_of_tickets_that_only_the_history_of_the_queue_has(url: str, cli: Cli) -> None:
    sql(
        url,
        "INSERT INTO queue_events (at, ticket, owner, actor, verb, requirements) VALUES (1, 7, 'a', 'a', 'left', '[]')",
    )

    done = cli("doctor", "-i", url, "-o", "csv", "--fields", "fixed,message")
    message = "the next id of tickets is in use: its sequence did not come along with the rows up to 7"
    assert [line for line in done.stdout.splitlines() if "tickets" in line] == [f"no,{message}"]
    assert cli("doctor", "--fix", "-i", url).status == 0
    assert cli("doctor", "-i", url).status == 0


def test_a_renamed_schema_is_used_beside_the_one_that_has_its_old_name(url: str, cli: Cli) -> None:
    renamed = f"{url}_Old-1"
    assert cli("add", "node1", "-i", url).status == 0
    sql(url, f'ALTER SCHEMA "{Address.parse(url).schema}" RENAME TO "{Address.parse(renamed).schema}"')
    try:
        assert cli("add", "node2", "-i", renamed).status == 0
        inventories.init(url)
        assert cli("add", "node3", "-i", renamed).status == 0
        assert cli("remove", "node1", "--yes", "-i", renamed).status == 0

        for place, names in ((renamed, "node2\nnode3\n"), (url, "")):
            assert cli("list", "-o", "name", "-i", place).stdout == names
            done = cli("doctor", "-i", place)
            assert done.status == 0, done.stdout
    finally:
        drop_schema(renamed)
