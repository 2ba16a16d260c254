"""A connection that is cut while many rows pass, or while nothing does: nothing is half done, and that is said."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from bmhctl import open_inventory
from bmhctl.domain.model import State
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


def is_grant(message: Message) -> bool:
    return message.is_clients and b"INTO reservations" in message.body and b"COMMIT" in message.body


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
    assert re.search(r"^can't reach .*: .*; waits until it is back\n(.*\n)*.* is back: waits on$", err, re.M), err
    assert (waiting, len(line.held())) == ([], 1)


RESERVE, NODE1 = ("-m", "bmhctl", "-i"), ("reserve", "node1", "-o", "name")


def wait_through_proxy(line: Line, *options: str) -> subprocess.Popen[str]:
    """Somebody who waits for node1 by way of the proxy, and is in the queue."""
    before = len(line.lab._context.store.tickets())
    waiter = spawn(*RESERVE, line.url, *NODE1, *options)
    until(lambda: len(line.lab._context.store.tickets()) > before and listens(line))
    return waiter


def test_a_waiter_tries_a_server_that_is_away_a_few_times_a_second(line: Line) -> None:
    line.reserve()
    with wait_through_proxy(line, "--wait", "1m") as waiter:
        line.proxy.begin()
        line.proxy.is_away = True
        line.proxy.cut()
        until(lambda: line.proxy.turned_away == 5)
        began = time.monotonic()
        until(lambda: line.proxy.turned_away >= 10)
        assert time.monotonic() - began > 0.5, "it pauses, though what it listened to is closed"
        waiter.terminate()
        waiter.communicate()


def test_a_waiter_whose_server_comes_back_for_a_moment_only_waits_no_longer_than_it_said(line: Line) -> None:
    line.reserve()
    with wait_through_proxy(line, "--wait", "4s") as waiter:

        def first_words(message: Message) -> Fate:
            if message.is_clients and b"BEGIN" in message.body:
                line.proxy.is_away = True
                return Fate.BEFORE
            return Fate.PASS

        line.proxy.begin(first_words)
        line.proxy.cut()
        out, err = waiter.communicate(timeout=30)
    assert (waiter.returncode, out) == (7, ""), err


def test_what_was_granted_to_the_same_request_meanwhile_is_the_answer_of_a_waiter_that_comes_back(line: Line) -> None:
    line.reserve()
    same = ("--wait", "1m", "--request-id", "job-1")
    with wait_through_proxy(line, *same) as cut, spawn(*RESERVE, line.direct, *NODE1, *same) as other:
        until(lambda: line.sessions() == 3 and listens(line, 2))
        line.proxy.is_away = True
        line.proxy.cut()
        line.bring(State.AVAILABLE)
        other.communicate(timeout=30)
        (ours,) = line.held()
        line.proxy.begin()
        out, err = cut.communicate(timeout=30)
    assert (other.returncode, cut.returncode, out, line.held()) == (0, 0, "node1\n", [ours]), err


def test_a_waiter_that_is_cut_in_its_grant_has_its_host_or_waits_on(line: Line, figures: Figures) -> None:
    losses = []
    for fate in (*CUTS, Fate.BEFORE):
        line.bring(State.AVAILABLE)
        line.reserve()
        with wait_through_proxy(line, "--wait", "1m") as waiter:
            line.proxy.begin(first(is_grant, fate))
            line.bring(State.AVAILABLE)
            out, err = waiter.communicate(timeout=60)
        if (waiter.returncode, out, len(line.held())) != (0, "node1\n", 1):
            losses.append((fate, waiter.returncode, out, err))
    figures("cut in a waiter's grant", "postgres", tries=4, faults=4, losses=len(losses))
    assert losses == []


def listens(line: Line, number: int = 1) -> bool:
    """Whether so many waiters wait for an announcement."""
    idle = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'bmhctl' AND state = 'idle'"
    return len(list(line.lab._context.store.database.execute(idle))) >= number
