"""Transactions that PostgreSQL rolls back because of a conflict: retried a few times, then reported."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import psycopg
import pytest

from bmhctl.domain.model import State
from bmhctl.stores.postgres.url import Address
from bmhctl.usecases.shared import refresh
from bmhctl.usecases.shared.refresh import TRIES
from tests.faults.conftest import some
from tests.faults.figures import Figures
from tests.faults.proxy import Fate
from tests.faults.server_link import ServerLink
from tests.processes import until

DEADLOCK = "40P01"
SERIALISATION = "40001"
NEVER = 1_000_000
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation IS NULL AND locktype <> 'advisory'"

VERBS: dict[str, Callable[[ServerLink], tuple[str, ...]]] = {
    "reserve": lambda _: ("reserve", "node1"),
    "reserve --wait": lambda _: ("reserve", "node1", "--wait", "1m", "--request-id", "job"),
    "release": lambda line: ("release", "-R", line.reserve()),
    "extend": lambda line: ("extend", "-R", line.reserve(), "--ttl", "9h"),
    "handover": lambda line: ("handover", line.reserve(), "--to", "bob"),
    "taint": lambda line: ("taint", "node1", "-R", line.reserve()),
    "maintain": lambda _: ("maintain", "node1", "--reason", "disk"),
    "cordon": lambda _: ("cordon", "node1"),
    "ready": lambda line: (line.bring(State.INITIAL), ("ready", "node1"))[1],
    "reset": lambda line: (line.bring(State.TAINTED), ("reset", "node1"))[1],
    "add": lambda _: ("add", "node2"),
    "set": lambda _: ("set", "node1", "--label", "a=b"),
    "rename": lambda line: (line.lab.add("node2"), ("rename", "node2", "node3"))[1],
    "remove": lambda line: (line.lab.add("node2"), ("remove", "node2"))[1],
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "_PAUSE", 0.001)


def sql(link: ServerLink, *statements: str) -> list[tuple[object, ...]]:
    schema = Address.parse(link.url).schema
    return [row for each in statements for row in link.lab._context.store.database.execute(each.format(f'"{schema}"'))]


def provoke(link: ServerLink, error: str, times: int) -> None:
    """Rolls back the next ``times`` transactions that write an event, but not the sequence that counts them."""
    sql(
        link,
        "CREATE SEQUENCE IF NOT EXISTS {0}.tries",
        "ALTER SEQUENCE {0}.tries RESTART",
        "CREATE OR REPLACE FUNCTION {0}.provoke() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
        f" IF nextval('{{0}}.tries') <= {times} THEN RAISE EXCEPTION 'provoked' USING ERRCODE = '{error}';"
        " END IF; RETURN NULL; END$$",
        "CREATE OR REPLACE TRIGGER provoked AFTER INSERT ON {0}.events FOR EACH ROW EXECUTE FUNCTION {0}.provoke()",
    )


@pytest.mark.parametrize("name", some([*VERBS], "verbs"))
def test_a_transaction_that_conflicts_is_retried_a_limited_number_of_times(
    link: ServerLink, name: str, figures: Figures
) -> None:
    words = VERBS[name](link)
    before = link.lab.history("node1")

    provoke(link, SERIALISATION, NEVER)
    given_up = link.call(*words)
    assert (given_up.status, given_up.stdout) == (11, "")
    assert f"another command was faster, {TRIES} times in a row (provoked)" in given_up.stderr
    assert "hint: try again: nothing was done except what was reported" in given_up.stderr
    assert sql(link, "SELECT last_value FROM {0}.tries") == [(TRIES,)]
    assert link.lab.history("node1") == before

    provoke(link, DEADLOCK, TRIES - 1)
    done = link.call(*words)
    figures("transactions undone", "postgres", tries=2, faults=2 * TRIES - 1, losses=int(done.status != 0))
    assert done.status == 0, done.stderr


def test_both_commands_of_a_deadlock_succeed(link: ServerLink) -> None:
    link.lab.add("node2")
    link.url += "&options=-cdeadlock_timeout%3D2s"
    node = f'SELECT 1 FROM "{Address.parse(link.url).schema}".hosts WHERE name = %s FOR UPDATE'
    with psycopg.connect(Address.parse(link.url).url) as other:
        other.execute("SET deadlock_timeout = '8s'")  # so the command detects the deadlock and is rolled back
        other.execute(node, ["node2"])

        def cross() -> None:
            until(lambda: other.execute(WAITING).fetchall())
            other.execute(node, ["node1"])
            other.rollback()

        crossing = Thread(target=cross)
        crossing.start()
        done = link.call("cordon", "node1", "node2", plan=lambda _: Fate.PASS)
        crossing.join()
    assert (done.status, done.stderr) == (0, "")
    assert [host.cordon is not None for host in link.lab.hosts()] == [True, True]
    assert told(link, DEADLOCK)


def test_a_database_with_stricter_isolation_fails_no_command(link: ServerLink) -> None:
    # A transaction that has waited must see earlier commits, whatever the default isolation level is.
    link.url += "&options=-cdefault_transaction_isolation%3Drepeatable%5C%20read"
    with psycopg.connect(Address.parse(link.url).url) as other:
        other.execute(f"UPDATE \"{Address.parse(link.url).schema}\".hosts SET note = 'changed'")

        def commit() -> None:
            until(lambda: other.execute(WAITING).fetchall())
            other.commit()

        committing = Thread(target=commit)
        committing.start()
        done = link.call("cordon", "node1", plan=lambda _: Fate.PASS)
        committing.join()
    assert (done.status, done.stderr) == (0, "")
    assert link.lab.host("node1").cordon is not None
    assert not told(link, SERIALISATION)


def told(link: ServerLink, error: str) -> bool:
    """Return whether the command reported such an error."""
    return any(
        not message.is_clients and message.kind == b"E" and error.encode() in message.body
        for message in link.proxy.passed
    )
