"""Files with a journal instead of a write-ahead log, as SQLite's own tools make them, get their log back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bmhctl.api import Inventory, open_inventory


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """An inventory that ``VACUUM INTO`` copied."""
    with open_inventory(tmp_path / "lab.db", actor="alice", create=True) as lab:
        lab.add("node01")
    with closing(sqlite3.connect(tmp_path / "lab.db")) as database:
        database.execute("VACUUM INTO ?", [str(tmp_path / "compacted.db")])
    return tmp_path / "compacted.db"


@pytest.fixture
def reader(compacted: Path) -> Iterator[sqlite3.Connection]:
    """A program that reads the inventory."""
    with closing(sqlite3.connect(compacted, isolation_level=None)) as database:
        yield database


def read(reader: sqlite3.Connection) -> str:
    """Begin to read; return the mode of the journal."""
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM hosts")
    [(mode,)] = reader.execute("PRAGMA journal_mode").fetchall()
    return str(mode)


def cordon(lab: Inventory) -> None:
    lab.cordon("node01", reason="fan")


def test_a_reader_of_a_file_that_sqlite_copied_stops_no_writer(compacted: Path, reader: sqlite3.Connection) -> None:
    with open_inventory(compacted, actor="alice") as lab:
        assert read(reader) == "wal"
        cordon(lab)
    reader.execute("COMMIT")


def test_a_file_that_is_being_read_gets_its_log_later(compacted: Path, reader: sqlite3.Connection) -> None:
    assert read(reader) == "delete"
    with open_inventory(compacted, actor="alice") as lab:
        assert [host.name for host in lab.hosts()] == ["node01"]
        reader.execute("COMMIT")
        cordon(lab)
    with open_inventory(compacted, actor="alice"):
        assert read(reader) == "wal"
    reader.execute("COMMIT")
