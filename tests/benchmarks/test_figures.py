"""Tests of the benchmarks themselves: their inventories are consistent, and their figures are computed correctly."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
from tests.benchmarks.__main__ import FIGURES
from tests.benchmarks.generate import generate
from tests.benchmarks.harness import Figure, Series, in_turn, over

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("made") / "lab.db", 400)


def test_a_generated_inventory_has_hosts_of_every_kind_and_each_with_its_history(made: Path) -> None:
    with open_inventory(made) as lab:
        hosts = lab.hosts()
        histories = {host.name: [e for e in lab.history(host.name) if e.host == host.name] for host in hosts}
        held = {held.reservation.id: {host.name for host in held.hosts} for held in lab.reservations()}
    assert Counter(host.state for host in hosts).keys() == {*State}
    assert any(host.cordon for host in hosts)
    assert len({host.spec.labels["serial"] for host in hosts}) == 400
    assert len({host.spec.labels["arch"] for host in hosts}) < 5
    for host in hosts:
        events = histories[host.name]
        assert [event.dest for event in events[:-1]] == [event.source for event in events[1:]]
        assert (events[0].source, events[-1].dest, events[-1].id) == (None, host.state, host.last_event)
        assert events[-1].at == host.since
        assert all(before.at < after.at for before, after in pairwise(events))
        assert (host.reservation is not None) == (host.state is State.RESERVED)
        if host.reservation:
            assert host.name in held[host.reservation.id]
    assert all(held.values())


def test_a_generated_database_is_consistent_and_has_its_indexes(made: Path) -> None:
    database = sqlite3.connect(made)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    indexes = "SELECT name FROM sqlite_master WHERE type = 'index'"
    assert ("hosts_turn",) in database.execute(indexes).fetchall()
    database.close()


def test_the_same_seed_gives_the_same_hosts_in_both_backends(made: Path, tmp_path: Path) -> None:
    declared = generate(tmp_path / "lab.toml", 400)
    with open_inventory(made) as one, open_inventory(declared) as other:
        hosts = one.hosts()
        assert hosts == other.hosts()
    with open_inventory(generate(tmp_path / "other.db", 400, seed=2)) as third:
        assert third.hosts() != hosts


def test_all_hosts_can_be_in_one_state(tmp_path: Path) -> None:
    with open_inventory(generate(tmp_path / "lab.db", 50, state="tainted"), actor="alice@lab") as lab:
        assert {host.state for host in lab.hosts()} == {State.TAINTED}
        assert all(item.changed for item in lab.reset(selector="arch").items)


def test_a_ratio_is_computed_for_each_round_and_the_first_round_is_ignored() -> None:
    subject, floor = iter([9.0, 2.0, 6.0, 3.0]), iter([1.0, 1.0, 2.0, 3.0])
    found = over(*in_turn(3, lambda: next(subject), lambda: next(floor)))
    assert found.samples == [2.0, 3.0, 1.0]
    assert found.median == 2.0


@pytest.mark.parametrize(("bound", "at_least", "kept"), [(2.0, False, True), (1.9, False, False), (2.1, True, False)])
def test_the_median_decides_whether_a_bound_is_kept(bound: float, at_least: bool, kept: bool) -> None:
    figure = Figure("x", "", lambda _: Series([]), bound, at_least)
    assert figure.is_kept(Series([9.0, 2.0, 0.0])) is kept
    assert Figure("x", "", lambda _: Series([])).is_kept(Series([1.0])) is None


def test_processor_time_is_compared_with_the_bound_where_only_one_side_waits_for_the_disk() -> None:
    found = Series([9.0, 9.0, 9.0], cpu=[1.0, 1.4, 2.0])
    assert Figure("x", "", lambda _: found, 1.5, by_cpu=True).is_kept(found) is True
    assert Figure("x", "", lambda _: found, 1.3, by_cpu=True).is_kept(found) is False


def test_no_two_figures_have_the_same_name() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


@pytest.mark.slow(seconds=15)
def test_the_command_measures_the_named_figures_and_writes_them_to_a_file(tmp_path: Path) -> None:
    chosen = ["hello", "start/db-1000/taint", "reserve/db"]
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *chosen, "--quick", "--rounds", "1", "--json", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["FIGURE", *chosen]
    figures = json.loads(written.read_text())["figures"]
    assert [figure["name"] for figure in figures] == chosen
    assert all(figure["min"] <= figure["median"] <= figure["max"] for figure in figures)
    assert all(len(figure["samples"]) == 1 for figure in figures)
