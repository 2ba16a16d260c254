"""A connection that is cut while many rows pass, or while nothing does: nothing is half done, and that is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.model import State
from tests.conftest import Run
from tests.faults.calls import call
from tests.faults.figures import Figures
from tests.faults.line import Line
from tests.faults.proxy import Fate, Message, Plan, everything_passes, first
from tests.postgres import drop_schema
from tests.processes import spawn, until

HOSTS = 2_500  # more than are fetched at once

CUTS = (Fate.BEFORE, Fate.MIDDLE, Fate.AFTER)


def is_row(message: Message) -> bool:
    return not message.is_clients and message.kind == b"D"


def is_load(message: Message) -> bool:
    return message.is_clients and message.kind in b"dc"


def is_end(message: Message) -> bool:
    return message.is_clients and message.kind == b"c"


def is_said(done: Run) -> bool:
    return done.status == 11 and all(words in done.stderr for words in ("can't reach postgresql://", "hint"))


def copied(line: Line, source: str, target: str, plan: Plan = everything_passes) -> Run:
    line.proxy.begin(plan)
    done = call("copy", source, target)
    assert "Traceback" not in done.stderr
    until(lambda: line.sessions() == 1)
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An inventory with many hosts, in a file."""
    path = str(tmp_path_factory.mktemp("many") / "source.db")
    with open_inventory(path, create=True) as made:
        made.add("node1")
        made.add(f"many[2-{HOSTS}]")
    return path


def test_a_copy_into_a_server_that_is_cut_leaves_no_inventory_there(line: Line, source: str, figures: Figures) -> None:
    url = line.url.replace("schema=t_", "schema=copy_")
    ends = {
        "at a row": first(is_load, Fate.MIDDLE, skip=2),
        "at the end of a table": first(
            lambda message: message.is_clients and message.kind == b"c", Fate.BEFORE, skip=2
        ),
        "before the commit": first(lambda message: message.is_commit, Fate.BEFORE),
    }
    losses = []
    for when, plan in ends.items():
        done = copied(line, source, url, plan)
        line.proxy.begin()
        looked = call("-i", url, "list")
        if done.status != 11 or looked.status != 11 or "there is no inventory in" not in looked.stderr:
            losses.append((when, done, looked))
    figures("cut in a copy", "postgres", tries=len(ends), faults=len(ends), losses=len(losses))
    assert losses == []

    uncertain = copied(line, source, url, first(lambda message: message.is_committed, Fate.BEFORE))
    assert (uncertain.status, "it is not known whether it took effect" in uncertain.stderr) == (11, True)
    line.proxy.begin()
    assert len(call("-i", url, "list", "-o", "name").stdout.splitlines()) == HOSTS, "it did, wholly"
    drop_schema(url)


def test_rows_that_are_cut_off_are_missed_and_no_copy_of_them_is_left(
    line: Line, source: str, tmp_path: Path, figures: Figures
) -> None:
    drop_schema(line.url)
    assert copied(line, source, line.url).status == 0
    losses = []
    for number, fate in zip((HOSTS - 200, 1_500, 30), CUTS, strict=True):
        done = line.call("list", "-o", "jsonl", plan=first(is_row, fate, skip=number))
        names = [json.loads(row)["name"] for row in done.stdout.splitlines()]
        if not is_said(done) or len(names) >= HOSTS or len(set(names)) != len(names):
            losses.append(done)
    for name in ("copied.db", "copied.toml"):
        folder = tmp_path / name
        folder.mkdir()
        done = copied(line, line.url, str(folder / name), first(is_row, Fate.MIDDLE, skip=HOSTS))
        if not is_said(done) or list(folder.iterdir()):
            losses.append(done)
    figures("cut in a stream", "postgres", tries=5, faults=5, losses=len(losses))
    assert losses == []
    assert copied(line, line.url, str(folder / name)).status == 0


def test_a_waiter_whose_connection_is_cut_waits_on_and_leaves_nothing_when_it_has_its_host(
    line: Line, figures: Figures
) -> None:
    line.reserve()
    with spawn("-m", "bmhctl", "-i", line.url, "reserve", "node1", "--wait", "1m", "-o", "name") as waiter:
        until(lambda: line.lab._context.store.tickets() and listens(line))
        line.proxy.cut()
        until(lambda: line.sessions() == 2 and line.lab._context.store.tickets() and listens(line))
        line.bring(State.AVAILABLE)
        out, err = waiter.communicate(timeout=30)
    until(lambda: line.sessions() == 1)
    waiting = json.loads(line.call("queue", "-o", "json").stdout)["tickets"]
    figures("cut while waiting", "postgres", tries=1, faults=1, losses=int(waiter.returncode != 0))
    assert (waiter.returncode, out, "Traceback" in err) == (0, "node1\n", False)
    assert re.search(r"^lost .*: waits until it is back\n(.*\n)*.* is back: waits on$", err, re.M), err
    assert (waiting, len(line.held())) == ([], 1)


def listens(line: Line) -> bool:
    """Whether a waiter waits for an announcement."""
    idle = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'bmhctl' AND state = 'idle'"
    return bool(list(line.lab._context.store.database.execute(idle)))
