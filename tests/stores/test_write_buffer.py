"""Buffered writes have the same effect as immediate ones, and a rolled-back savepoint leaves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmhctl.stores.database import WriteBuffer
from bmhctl.stores.rows import Value
from bmhctl.usecases import hosts, queries
from bmhctl.usecases.shared.host_selection import Choice
from bmhctl.usecases.steps import step_verbs
from tests.conftest import Lab


class UndoneError(Exception):
    """Rolls a savepoint back."""


class Table(WriteBuffer):
    """A table of texts, written later or at once."""

    def __init__(self) -> None:
        super().__init__()
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._run("CREATE TABLE events (id INTEGER PRIMARY KEY, text TEXT)")
        self._run("BEGIN")
        self.close = self._database.close

    def _run(self, statement: str) -> sqlite3.Cursor:
        return self._database.execute(statement)

    _undo = _run

    def _run_many(self, statement: str, rows: Sequence[Sequence[Value]]) -> None:
        self._database.executemany(statement, rows)

    def _new_ids(self, table: str) -> Iterator[int]:
        raise AssertionError(f"the database gives the ids of {table}")

    def later(self, text: str) -> None:
        self.enqueue("INSERT INTO events (text) VALUES (?)", [text])

    def now(self, text: str) -> None:
        self._flush(then_writes=True)
        self._database.execute("INSERT INTO events (text) VALUES (?)", [text])

    def read(self) -> list[str]:
        self._flush()
        return [text for (text,) in self._run("SELECT text FROM events ORDER BY id")]


@pytest.fixture
def table() -> Iterator[Table]:
    with closing(Table()) as made:
        yield made


acts = st.recursive(
    st.sampled_from(["later", "now", "read"]),
    lambda inner: st.tuples(st.booleans(), st.lists(inner, max_size=4)),
    max_leaves=12,
)


@given(st.lists(acts, max_size=6))
def test_buffered_statements_are_written_in_order_and_a_rolled_back_savepoint_writes_none(
    program: list[object],
) -> None:
    with closing(Table()) as table:
        play_all(table, program)


def play_all(table: Table, program: list[object]) -> None:
    written, number = list[str](), 0

    def play(act: object) -> None:
        nonlocal number
        if isinstance(act, tuple):
            fails, inner = act
            before = list(written)
            with suppress(UndoneError), table.savepoint():
                for each in inner:
                    play(each)
                if fails:
                    written[:] = before
                    raise UndoneError
        elif act == "read":
            assert table.read() == written
        else:
            number += 1
            written.append(f"{number}")
            getattr(table, str(act))(f"{number}")

    for act in program:
        play(act)
    assert table.read() == written


def test_a_failed_write_inside_a_savepoint_fails_the_outer_transaction_too(table: Table) -> None:
    table.enqueue("INSERT INTO events (id, text) VALUES (?, ?)", [1, "one"])
    table.enqueue("INSERT INTO events (id, text) VALUES (?, ?)", [1, "another one"])
    with pytest.raises(sqlite3.IntegrityError), table.savepoint():
        table.now("two")
    with pytest.raises(sqlite3.IntegrityError):
        table._flush()
    table._drop()
    table._flush()


def test_few_buffered_statements_can_be_taken_and_many_are_written(table: Table) -> None:
    event, fact = "INSERT INTO events (text) VALUES (?)", "INSERT INTO facts (text) VALUES (?)"
    table.enqueue(event, ["one"], ["two"])
    table.enqueue(fact, ["first"])
    assert table._take(3) == [(fact, ["first"]), (event, ["one"]), (event, ["two"])]
    assert table.read() == []

    table.enqueue(event, ["one"], ["two"])
    assert (table._take(1), table.read()) == ([], ["one", "two"])


def test_a_statement_without_a_place_in_the_order_cannot_be_buffered(table: Table) -> None:
    table.enqueue("DELETE FROM events", [])
    with pytest.raises(AssertionError, match="'DELETE FROM events' is not in the order"):
        table._flush()


def test_a_returning_host_and_a_new_one_can_be_added_together_in_any_order(lab: Lab) -> None:
    if not lab.is_toml:
        hosts.add(lab.context(), ["a", "b"], hosts.AttributeChanges(labels={"arch": "y"}))
        assert {host.name for host in lab.context().store.hosts.with_names(["a", "b"]).values()} == {"a", "b"}
        return
    hosts.add(lab.context(), ["a", "z"], hosts.AttributeChanges(labels={"arch": "x"}))
    step_verbs.ready(lab.context(), Choice(everything=True))
    text = lab.path.read_text()
    lab.path.write_text(text[text.index("[hosts.z]") :])
    assert lab.context().store.hosts.with_names(["a"])["a"].undeclared is False
    backends_before = queries.list_hosts(lab.context(), Choice(everything=True)).hosts
    assert [host.name for host in backends_before if host.undeclared] == ["a"]
    hosts.add(lab.context(), ["a", "b"], hosts.AttributeChanges(labels={"arch": "y"}))
    found = lab.context().store.hosts.with_names(["a", "b"])
    assert {name: (host.undeclared, host.spec.labels) for name, host in found.items()} == {
        name: (False, {"arch": "y"}) for name in ("a", "b")
    }
